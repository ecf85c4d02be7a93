"""Replay: the records of a window in the order of days and arrival, and on from a checkpoint or a cursor."""

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

    Windows have both ends in; an `end` before `start` is a `ValueError` at the first `next()`. Lists that are None or
    empty do not filter. Iterators are used up once, and take no memory that grows with the window.

    Args:
        signals: The stored signals.
        emissions: The stored emissions.
        entity_match: Which references are equal.
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
        """Yield the signals of a window that a checkpoint leaves: later ones, and those of its time it has not seen.

        One that is older than the checkpoint and arrives after it is never replayed; see `read_signals`.
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
        """Yield signals as `iter_signals_from_checkpoint` does, of some payload types."""
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
        """Yield signals as `iter_signals_from_checkpoint` does, of some payload types."""
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
        """Yield the signals of a stage: of `sources` if there are any, else of the source `stage` or `stage.…`."""
        return self._resume(start, end, checkpoint, entity_ref, sources, payload_types, stage)

    def iter_entity_candidate_signals(
        self,
        *,
        start: datetime,
        end: datetime,
        resolved: bool | None = None,
        sources: Collection[str] | None = None,
    ) -> Iterator[SignalEnvelope]:
        """Yield the signals whose entity is resolved (by a reference or by their payload type), is not, or all."""

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
        """Read signals from a cursor to where the stream ends now, whatever their time.

        Over any chain of cursors each signal comes exactly once, late ones too.

        Args:
            after: The `cursor` of an earlier read; from the start without one.
            entity_ref: Only signals with this reference.
            sources: Only of these.
            payload_types: Only of these.
        """
        return self._signals.after(after, self._of_signals(entity_ref, sources, payload_types))

    def read_emissions(
        self,
        after: Mapping[str, int] | None = None,
        *,
        entity_ref: EntityRef | None = None,
        emission_types: Collection[str] | None = None,
    ) -> EnvelopeReader[EmissionEnvelope]:
        """Read emissions from a cursor to where the stream ends now; see `read_signals`."""
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
