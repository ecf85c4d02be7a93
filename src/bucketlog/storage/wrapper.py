"""A backend around another backend, to subclass where one call should behave differently.

Fault injection, conditions for a single writer, and many tests are wrappers. Callers ask for an optional ability with
`isinstance`, so a wrapper's class must have the methods of an ability exactly if the inner backend has them:
`class_around` makes that class.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from bucketlog.backend import ANY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bucketlog.backend import Backend, Capabilities, Condition, Content, Entry, Stat, Version

WrapperT = TypeVar("WrapperT", bound="BackendWrapper")


class BackendWrapper:
    """Forwards the methods of `Backend`, and nothing else, to an inner backend.

    Attributes:
        inner: The wrapped backend.
    """

    inner: Backend

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        """The name of the inner backend."""
        return self.inner.name

    @property
    def url(self) -> str:
        """The URL of the inner backend."""
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the inner backend, without `append` and `watch` if this class lacks the methods."""
        inner = self.inner.capabilities
        return replace(
            inner,
            append=inner.append and hasattr(self, "append"),
            watch=inner.watch and hasattr(self, "watch"),
        )

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Forward `Backend.get`."""
        return self.inner.get(key, start, end)

    def head(self, key: str) -> Stat:
        """Forward `Backend.head`."""
        return self.inner.head(key)

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Forward `Backend.put`."""
        return self.inner.put(key, data, if_version=if_version)

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Forward `Backend.list`."""
        return self.inner.list(prefix, start_after=start_after, delimiter=delimiter)

    def delete(self, keys: Iterable[str]) -> None:
        """Forward `Backend.delete`."""
        self.inner.delete(keys)

    def close(self) -> None:
        """Close the inner backend."""
        self.inner.close()


def class_around(
    inner: Backend, base: type[WrapperT], abilities: Iterable[tuple[type, type[WrapperT]]]
) -> type[WrapperT]:
    """Return a subclass of a wrapper class with the optional abilities that the inner backend has.

    Args:
        inner: The backend to be wrapped.
        base: The wrapper class.
        abilities: Protocols such as `UploadBackend`, each with the subclass of `base` that has its methods.
    """
    mixins = [mixin for ability, mixin in abilities if isinstance(inner, ability)]
    return type(base.__name__, (*mixins, base), {}) if mixins else base
