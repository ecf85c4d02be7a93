"""Replay: the records of a window in the order of days and arrival, also from a checkpoint or a cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bucketlog.signals.codec import EMISSIONS, SIGNALS
from bucketlog.signals.selection import Selection
from bucketlog.signals.times import EPOCH, to_bound
from bucketlog.signals.vocabulary import RESOLVED_ENTITY_PAYLOAD_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime

    from bucketlog.signals.checkpoints import ReplayCheckpoint
    from bucketlog.signals.envelopes import EmissionEnvelope, EntityRef, SignalEnvelope
    from bucketlog.signals.reading import EnvelopeReader, Log
    from bucketlog.signals.references import EntityMatch


class Replays:
    """Reads signals and emissions in the order in which workers process them.

    Windows are inclusive at both ends; an `end` before `start` raises `ValueError` at the first `next()`. Lists that
    are None or empty do not filter. Iterators can be used once, and their memory does not grow with the window.

    Args:
        signals: The stored signals.
        emissions: The stored emissions.
        entity_match: How references are compared.
    """

    def __init__(
        self, signals: Log[SignalEnvelope], emissions: Log[EmissionEnvelope], entity_match: EntityMatch
    ) -> None:
        self._signals, self._emissions, self._entity_match = signals, emissions, entity_match

    def iter_signals(
        self,
        start: datetime,
        end: datetime,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
    ) -> Iterator[SignalEnvelope]:
        """Yield the signals of a window."""
        return self._signals.replay(start, end, self._of_signals(entity_ref, sources))

    def iter_emissions(
        self,
        start: datetime,
        end: datetime,
        entity_ref: EntityRef | None = None,
        emission_types: Collection[str] | None = None,
    ) -> Iterator[EmissionEnvelope]:
        """Yield the emissions of a window."""
        return self._emissions.replay(start, end, self._of_emissions(entity_ref, emission_types))

    def iter_learning_emissions(
        self,
        *,
        start: datetime,
        end: datetime,
        entity_ref: EntityRef | None = None,
        emission_types: Collection[str] | None = None,
    ) -> Iterator[EmissionEnvelope]:
        """Yield the emissions of a window, as `iter_emissions` does."""
        return self.iter_emissions(start, end, entity_ref, emission_types)

    def iter_signals_from_checkpoint(
        self,
        *,
        end: datetime,
        checkpoint: ReplayCheckpoint | None = None,
        start: datetime | None = None,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
    ) -> Iterator[SignalEnvelope]:
        """Yield the signals of a window that follow a checkpoint: later ones, and unseen ones of the same time.

        A signal that is older than the checkpoint but arrives after it is never replayed; see `read_signals`.
        """
        return self._resume(start, end, checkpoint, entity_ref, sources)

    def iter_recommendation_signals(
        self,
        *,
        start: datetime,
        end: datetime,
        checkpoint: ReplayCheckpoint | None = None,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        payload_types: Collection[str] | None = None,
    ) -> Iterator[SignalEnvelope]:
        """Yield signals as `iter_signals_from_checkpoint` does, only of some payload types."""
        return self._resume(start, end, checkpoint, entity_ref, sources, payload_types)

    def iter_learning_signals(
        self,
        *,
        start: datetime,
        end: datetime,
        checkpoint: ReplayCheckpoint | None = None,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        payload_types: Collection[str] | None = None,
    ) -> Iterator[SignalEnvelope]:
        """Yield signals as `iter_signals_from_checkpoint` does, only of some payload types."""
        return self._resume(start, end, checkpoint, entity_ref, sources, payload_types)

    def iter_stage_window_signals(
        self,
        *,
        stage: str,
        start: datetime,
        end: datetime,
        checkpoint: ReplayCheckpoint | None = None,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        payload_types: Collection[str] | None = None,
    ) -> Iterator[SignalEnvelope]:
        """Yield the signals of a stage: those from `sources`, or without any those from source `stage` or `stage.…`."""
        return self._resume(start, end, checkpoint, entity_ref, sources, payload_types, stage)

    def iter_entity_candidate_signals(
        self,
        *,
        start: datetime,
        end: datetime,
        resolved: bool | None = None,
        sources: Collection[str] | None = None,
    ) -> Iterator[SignalEnvelope]:
        """Yield the signals whose entity is resolved (by a reference or the payload type), is unresolved, or all."""

        def is_wanted(signal: SignalEnvelope) -> bool:
            is_resolved = bool(signal.entity_refs) or signal.payload_type in RESOLVED_ENTITY_PAYLOAD_TYPES
            return is_resolved is resolved

        test = None if resolved is None else is_wanted
        return self._signals.replay(start, end, self._of_signals(None, sources, test=test))

    def read_signals(
        self,
        after: Mapping[str, int] | None = None,
        *,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        payload_types: Collection[str] | None = None,
    ) -> EnvelopeReader[SignalEnvelope]:
        """Read signals from a cursor to the current end of the stream, whatever their time.

        If each read starts at the last one's cursor, every signal is read exactly once, even if it arrives late.

        Args:
            after: The `cursor` of an earlier read; None starts at the beginning.
            entity_ref: Only signals with this reference.
            sources: Only signals from these sources.
            payload_types: Only signals of these payload types.
        """
        return self._signals.after(after, self._of_signals(entity_ref, sources, payload_types))

    def read_emissions(
        self,
        after: Mapping[str, int] | None = None,
        *,
        entity_ref: EntityRef | None = None,
        emission_types: Collection[str] | None = None,
    ) -> EnvelopeReader[EmissionEnvelope]:
        """Read emissions from a cursor to the current end of the stream; see `read_signals`."""
        return self._emissions.after(after, self._of_emissions(entity_ref, emission_types))

    def _resume(
        self,
        start: datetime | None,
        end: datetime,
        checkpoint: ReplayCheckpoint | None,
        entity_ref: EntityRef | None,
        sources: Collection[str] | None,
        payload_types: Collection[str] | None = None,
        stage: str | None = None,
    ) -> Iterator[SignalEnvelope]:
        begin = EPOCH if start is None else to_bound(start)
        test = None
        if checkpoint is not None:
            begin = max(begin, checkpoint.last_timestamp)
            test = checkpoint.not_seen()
        return self._signals.replay(
            begin, end, self._of_signals(entity_ref, sources, payload_types, stage=stage, test=test)
        )

    def _of_signals(
        self,
        entity_ref: EntityRef | None,
        sources: Collection[str] | None,
        types: Collection[str] | None = None,
        *,
        stage: str | None = None,
        test: Callable[[SignalEnvelope], bool] | None = None,
    ) -> Selection[SignalEnvelope]:
        return Selection(
            SIGNALS,
            entity_ref=entity_ref,
            match=self._entity_match,
            sources=sources,
            types=types,
            stage=stage,
            test=test,
        )

    def _of_emissions(
        self,
        entity_ref: EntityRef | None,
        types: Collection[str] | None,
        test: Callable[[EmissionEnvelope], bool] | None = None,
    ) -> Selection[EmissionEnvelope]:
        return Selection(EMISSIONS, entity_ref=entity_ref, match=self._entity_match, types=types, test=test)
