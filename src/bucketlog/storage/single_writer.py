"""Conditions for storage that has none: kept by looking first, which is enough where nobody else writes.

This is what `single_writer=True` means on a backend that does not claim to create exclusively or to compare and set.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from bucketlog.backend import ABSENT, ANY, UploadBackend
from bucketlog.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bucketlog.backend import Backend, Capabilities, Condition, Content, Entry, Stat, Version


def emulate_conditions(backend: Backend) -> Backend:
    """Return the backend itself where it claims both conditions, else one around it that keeps those it lacks."""
    claims = backend.capabilities
    if claims.exclusive_create and claims.compare_and_set:
        return backend
    return _UploadingSingleWriter(backend) if isinstance(backend, UploadBackend) else _SingleWriter(backend)


class _SingleWriter:
    """A backend whose conditional puts look first. Threads of this handle exclude each other, and nobody else."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.begin()
        _around.add(self)

    def begin(self) -> None:
        """Make the lock: at first, and in a forked child."""
        self._looking = threading.Lock()

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def capabilities(self) -> Capabilities:
        return replace(self._inner.capabilities, exclusive_create=True, compare_and_set=True)

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        return self._inner.get(key, start, end)

    def head(self, key: str) -> Stat:
        return self._inner.head(key)

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        claims = self._inner.capabilities
        kept = if_version is ANY or (claims.exclusive_create if if_version is ABSENT else claims.compare_and_set)
        if kept:
            return self._inner.put(key, data, if_version=if_version)
        with self._looking:
            self._look(key, if_version)
            return self._inner.put(key, data)

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        return self._inner.list(prefix, start_after=start_after, delimiter=delimiter)

    def delete(self, keys: Iterable[str]) -> None:
        self._inner.delete(keys)

    def close(self) -> None:
        self._inner.close()

    def _look(self, key: str, condition: Condition) -> None:
        """Refuse unless the condition holds right now.

        Raises:
            ConflictError: It does not.
        """
        try:
            found: Version | None = self._inner.get(key).version
        except NotFoundError:
            found = None
        expected = None if condition is ABSENT else condition
        if found != expected:
            there = "nothing" if found is None else f"version {found}"
            msg = f"put to {self.url}, key {key!r}: expected {expected or 'nothing'}, found {there}; read, decide again"
            raise ConflictError(msg)


class _UploadingSingleWriter(_SingleWriter):
    _inner: UploadBackend

    def upload(self, key: str, source: BinaryIO) -> None:
        self._inner.upload(key, source)


_around: weakref.WeakSet[_SingleWriter] = weakref.WeakSet()


def _begin_in_child() -> None:  # pragma: no cover  (coverage does not follow the fork that a test makes)
    for one in list(_around):
        one.begin()


if hasattr(os, "register_at_fork"):  # pragma: no branch
    os.register_at_fork(after_in_child=_begin_in_child)
