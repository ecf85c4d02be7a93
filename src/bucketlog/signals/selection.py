"""A reader's selection: filters for the core, and a complete test for each envelope that it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from bucketlog.signals.envelopes import E, EntityRef
from bucketlog.signals.references import EntityMatch, matcher, storable, tag_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bucketlog.signals.codec import Kind


class Selection(Generic[E]):
    """Filters that must all match; a list that is None or empty does not filter.

    Args:
        kind: The kind of envelopes.
        entity_ref: A reference that the envelope must have.
        match: How references are compared.
        sources: Sources of signals.
        types: Payload types of signals, or emission types of emissions.
        stage: The source, or its prefix before a dot; ignored if there are `sources`.
        test: A further test.
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
            self.filters["sources"] = sorted({storable(source) for source in self._sources})
        if isinstance(entity_ref, EntityRef):
            self.filters["tags"] = [tag_of(entity_ref)]
        if self._types is not None:
            self.filters["types"] = sorted({storable(name) or kind.type_if_empty for name in self._types})

    @property
    def core_filters_all(self) -> bool:
        """Whether the core's filters find hardly any event that `passes` rejects."""
        return self._test is None and self._stages is None

    def check(self) -> Callable[[E], bool] | None:
        """Return a test for wanted envelopes; None if all are wanted."""
        if (self._has_entity, self._sources, self._types, self._stages, self._test) == (None,) * 5:
            return None
        return self.passes

    def passes(self, envelope: Any) -> bool:  # noqa: ANN401  (of either kind; only signals have a source)
        """Return True if an envelope is wanted."""
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
