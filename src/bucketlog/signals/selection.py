"""What a reader wants: told to the core as far as it can look for it, and checked on each envelope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from bucketlog.signals.envelopes import E, EntityRef
from bucketlog.signals.references import EntityMatch, matcher, storable, tag_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bucketlog.signals.codec import Kind


class Selection(Generic[E]):
    """Filters, and-ed; a list that is None or empty does not filter.

    Args:
        kind: Of what.
        entity_ref: One of an envelope's references.
        match: What makes two references equal.
        sources: Of signals.
        types: Payload types of signals, emission types of emissions.
        stage: The source, or what it begins with up to a dot; not looked at when there are `sources`.
        test: Whatever else an envelope has to pass.
    """

    def __init__(
        self,
        kind: Kind[E],
        *,
        entity_ref: object = None,
        match: EntityMatch = "exact",
        sources: Collection[str] | None = None,
        types: Collection[str] | None = None,
        stage: str | None = None,
        test: Callable[[E], bool] | None = None,
    ) -> None:
        self._type_field = kind.type_field
        self._has_entity = None if entity_ref is None else matcher(entity_ref, match)
        self._sources = frozenset(sources) if sources else None
        self._types = frozenset(types) if types else None
        self._stages = (stage, f"{stage}.") if stage is not None and not sources else None
        self._test = test
        self.impossible = entity_ref is not None and not isinstance(entity_ref, EntityRef)
        self.filters: dict[str, Any] = {}  # for the core
        if self._sources is not None:
            self.filters["sources"] = sorted({storable(one) for one in self._sources})
        if isinstance(entity_ref, EntityRef):
            self.filters["tags"] = [tag_of(entity_ref)]
        if self._types is not None:
            self.filters["types"] = sorted({storable(one) or kind.type_if_empty for one in self._types})

    @property
    def is_told(self) -> bool:
        """Whether the core's filters find little that `passes` refuses."""
        return self._test is None and self._stages is None

    def check(self) -> Callable[[E], bool] | None:
        """Return what tells whether an envelope is wanted; None when all are."""
        if (self._has_entity, self._sources, self._types, self._stages, self._test) == (None,) * 5:
            return None
        return self.passes

    def passes(self, envelope: Any) -> bool:  # noqa: ANN401  (of either kind; only signals have a source)
        """Tell whether an envelope is wanted."""
        return (
            (self._sources is None or envelope.source in self._sources)
            and (self._types is None or getattr(envelope, self._type_field) in self._types)
            and (
                self._stages is None
                or envelope.source == self._stages[0]
                or envelope.source.startswith(self._stages[1])
            )
            and (self._has_entity is None or self._has_entity(envelope.entity_refs))
            and (self._test is None or self._test(envelope))
        )
