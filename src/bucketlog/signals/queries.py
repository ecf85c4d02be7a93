"""Queries: recent records, rankings and outcomes, as lists in a defined order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bucketlog.signals.outcomes import OutcomeTypes, has_expired
from bucketlog.signals.ranking import best_ranked
from bucketlog.signals.replays import Replays
from bucketlog.signals.times import EPOCH, to_bound
from bucketlog.signals.vocabulary import POST_PAYLOAD_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bucketlog.signals.envelopes import EmissionEnvelope, EntityRef, SignalEnvelope


class Queries(Replays):
    """Queries over time windows of signals and emissions.

    Windows are inclusive at both ends; an `end` before `start` raises `ValueError`. Lists that are None or empty do not
    filter. Newest first sorts by time and id, both descending; oldest first, both ascending.
    """

    # -- recents -------------------------------------------------------------------------------------------------------

    def get_recent_signals_by_entity(
        self,
        *,
        entity_ref: EntityRef,
        limit: int,
        start: datetime | None = None,
        end: datetime | None = None,
        sources: Collection[str] | None = None,
    ) -> list[SignalEnvelope]:
        """Return the newest signals of an entity, newest first; `end` is now by default."""
        return self._recent(limit, start, end, entity_ref, sources)

    def get_recent_signals_by_source(
        self,
        *,
        source: str,
        limit: int,
        start: datetime | None = None,
        end: datetime | None = None,
        entity_ref: EntityRef | None = None,
    ) -> list[SignalEnvelope]:
        """Return the newest signals of a source, newest first; `end` is now by default."""
        return self._recent(limit, start, end, entity_ref, [source])

    def get_last_posts_by_entity(
        self,
        *,
        entity_ref: EntityRef,
        limit: int,
        start: datetime | None = None,
        end: datetime | None = None,
        sources: Collection[str] | None = None,
        payload_types: Collection[str] | None = None,
    ) -> list[SignalEnvelope]:
        """Return the newest posts of an entity, newest first, even if it has many other signals."""
        return self._recent(limit, start, end, entity_ref, sources, payload_types or POST_PAYLOAD_TYPES)

    def get_latest_draft_signals(
        self,
        *,
        limit: int,
        start: datetime,
        end: datetime,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        payload_types: Collection[str] | None = None,
    ) -> list[SignalEnvelope]:
        """Return the newest signals of a window, newest first."""
        return self._recent(limit, start, end, entity_ref, sources, payload_types)

    def get_latest_approval_outcomes(
        self,
        *,
        limit: int,
        start: datetime,
        end: datetime,
        entity_ref: EntityRef | None = None,
        emission_types: Collection[str] | None = None,
    ) -> list[EmissionEnvelope]:
        """Return the newest emissions of a window, newest first."""
        if limit <= 0:
            return []
        return self._emissions.newest(limit, start, end, self._of_emissions(entity_ref, emission_types))

    def get_ready_candidates(
        self,
        *,
        start: datetime,
        end: datetime,
        limit: int | None = None,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        ready_field: str = "status",
        ready_value: object = "READY",
        payload_types: Collection[str] | None = None,
    ) -> list[SignalEnvelope]:
        """Return the signals whose payload marks them as ready, newest first; without a limit, all of them."""

        def is_ready(signal: SignalEnvelope) -> bool:
            return isinstance(signal.payload, dict) and bool(signal.payload.get(ready_field) == ready_value)

        wanted = self._of_signals(entity_ref, sources, payload_types, test=is_ready)
        return self._signals.newest(_limit(limit), start, end, wanted)

    # -- ranking -------------------------------------------------------------------------------------------------------

    def get_top_recommendation_candidates(
        self,
        *,
        start: datetime,
        end: datetime,
        limit: int,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        payload_types: Collection[str] | None = None,
        score_field: str = "score",
        unique_by_entity: bool = True,
    ) -> list[SignalEnvelope]:
        """Return the signals with the best scores, best first by score, time and id.

        A payload without a score counts as zero; one whose score is not a number is left out. With `unique_by_entity`,
        only the best signal for each first reference is returned.
        """
        if limit <= 0:
            return []
        signals = self._signals.replay(start, end, self._of_signals(entity_ref, sources, payload_types))
        return best_ranked(signals, limit, score_field=score_field, unique_by_entity=unique_by_entity)

    # -- tokens and promises -------------------------------------------------------------------------------------------

    def get_token_signals(
        self,
        *,
        start: datetime,
        end: datetime,
        token_id: object = None,
        project_entity_id: object = None,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        payload_types: Collection[str] | None = None,
        limit: int | None = None,
    ) -> list[SignalEnvelope]:
        """Return the signals whose payload has these values, oldest first; None matches any; without a limit, all."""
        test = _has_members(token_id=token_id, project_entity_id=project_entity_id)
        wanted = self._of_signals(entity_ref, sources, payload_types, test=test)
        return self._signals.oldest(_limit(limit), start, end, wanted)

    def get_promise_signals(
        self,
        *,
        start: datetime,
        end: datetime,
        promise_id: object = None,
        status: object = None,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        payload_types: Collection[str] | None = None,
        limit: int | None = None,
    ) -> list[SignalEnvelope]:
        """Return the signals whose payload has these values, oldest first; None matches any; without a limit, all."""
        test = _has_members(promise_id=promise_id, status=status)
        wanted = self._of_signals(entity_ref, sources, payload_types, test=test)
        return self._signals.oldest(_limit(limit), start, end, wanted)

    def get_promise_outcomes_for_window(
        self,
        *,
        start: datetime,
        end: datetime,
        promise_id: object = None,
        status: object = None,
        entity_ref: EntityRef | None = None,
        emission_types: Collection[str] | None = None,
    ) -> list[EmissionEnvelope]:
        """Return the emissions whose payload has these values, oldest first; None matches any."""
        test = _has_members(promise_id=promise_id, status=status)
        return self._emissions.oldest(None, start, end, self._of_emissions(entity_ref, emission_types, test))

    # -- outcomes ------------------------------------------------------------------------------------------------------

    def get_outcomes_for_window(
        self,
        *,
        start: datetime,
        end: datetime,
        entity_ref: EntityRef | None = None,
        emission_types: Collection[str] | None = None,
    ) -> list[EmissionEnvelope]:
        """Return the emissions of a window, oldest first."""
        return self._emissions.oldest(None, start, end, self._of_emissions(entity_ref, emission_types))

    def get_unresolved_outcome_signals(
        self,
        *,
        start: datetime,
        end: datetime,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        pending_payload_types: Collection[str] | None = None,
        success_emission_types: Collection[str] | None = None,
        failure_emission_types: Collection[str] | None = None,
    ) -> list[SignalEnvelope]:
        """Return the pending signals that no success or failure in the same window names as its cause, oldest first.

        With an `entity_ref`, only emissions with the same reference count.
        """
        types = OutcomeTypes(pending_payload_types, success_emission_types, failure_emission_types)
        emissions = self.iter_emissions(start, end, entity_ref, types.success | types.failure)
        resolved = {emission.caused_by for emission in emissions}
        return self._unresolved(start, end, entity_ref, sources, types, resolved)

    def get_expired_outcome_signals(
        self,
        *,
        now: datetime,
        start: datetime,
        end: datetime,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        pending_payload_types: Collection[str] | None = None,
        success_emission_types: Collection[str] | None = None,
        failure_emission_types: Collection[str] | None = None,
        expires_at_field: str = "expires_at",
    ) -> list[SignalEnvelope]:
        """Return the unresolved signals whose payload has an end time before `now`, oldest first."""
        unresolved = self.get_unresolved_outcome_signals(
            start=start,
            end=end,
            entity_ref=entity_ref,
            sources=sources,
            pending_payload_types=pending_payload_types,
            success_emission_types=success_emission_types,
            failure_emission_types=failure_emission_types,
        )
        now = to_bound(now)
        return [signal for signal in unresolved if has_expired(signal, now, expires_at_field)]

    def get_outcome_window_buckets(
        self,
        *,
        now: datetime,
        start: datetime,
        end: datetime,
        entity_ref: EntityRef | None = None,
        sources: Collection[str] | None = None,
        pending_payload_types: Collection[str] | None = None,
        success_emission_types: Collection[str] | None = None,
        failure_emission_types: Collection[str] | None = None,
        expires_at_field: str = "expires_at",
    ) -> dict[str, list[SignalEnvelope] | list[EmissionEnvelope]]:
        """Return the unresolved signals as `pending` and `expired`, and all emissions as `success` and `failure`.

        Each is a list, oldest first.
        """
        types = OutcomeTypes(pending_payload_types, success_emission_types, failure_emission_types)
        emissions = self.get_outcomes_for_window(
            start=start, end=end, entity_ref=entity_ref, emission_types=types.success | types.failure
        )
        resolved = {emission.caused_by for emission in emissions}
        unresolved = self._unresolved(start, end, entity_ref, sources, types, resolved)
        now = to_bound(now)
        expired = [has_expired(signal, now, expires_at_field) for signal in unresolved]
        return {
            "pending": [signal for signal, is_over in zip(unresolved, expired, strict=True) if not is_over],
            "expired": [signal for signal, is_over in zip(unresolved, expired, strict=True) if is_over],
            "success": [emission for emission in emissions if emission.emission_type in types.success],
            "failure": [emission for emission in emissions if emission.emission_type in types.failure],
        }

    # -- shared --------------------------------------------------------------------------------------------------------

    def _recent(
        self,
        limit: int,
        start: datetime | None,
        end: datetime | None,
        entity_ref: EntityRef | None,
        sources: Collection[str] | None,
        payload_types: Collection[str] | None = None,
    ) -> list[SignalEnvelope]:
        if limit <= 0:
            return []
        wanted = self._of_signals(entity_ref, sources, payload_types)
        return self._signals.newest(limit, start or EPOCH, end or datetime.now(UTC), wanted)

    def _unresolved(
        self,
        start: datetime,
        end: datetime,
        entity_ref: EntityRef | None,
        sources: Collection[str] | None,
        types: OutcomeTypes,
        resolved: set[str],
    ) -> list[SignalEnvelope]:
        wanted = self._of_signals(
            entity_ref, sources, types.pending, test=lambda signal: signal.signal_id not in resolved
        )
        return self._signals.oldest(None, start, end, wanted)


def _limit(limit: int | None) -> int | None:
    return None if limit is None or limit < 0 else limit


def _has_members(**wanted: object) -> Callable[[Any], bool] | None:
    """Return a test for payloads with these values; None if no value is given."""
    given = [(name, value) for name, value in wanted.items() if value is not None]
    if not given:
        return None

    def test(envelope: Any) -> bool:  # noqa: ANN401  (of either kind)
        payload = envelope.payload
        return isinstance(payload, dict) and all(payload.get(name) == value for name, value in given)

    return test
