"""Queries: recents, rankings, and what became of pending signals, as lists in a fixed order."""

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
    """Answers questions about windows of signals and emissions.

    Windows have both ends in; an `end` before `start` is a `ValueError`. Lists that are None or empty do not filter.
    Newest first means by time and id, both descending; oldest first, both ascending.
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
        """Return the newest signals of an entity, newest first; up to now unless told otherwise."""
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
        """Return the newest signals of a source, newest first; up to now unless told otherwise."""
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
        """Return the newest posts of an entity, newest first, however many other signals it has."""
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
        """Return the signals whose payload says that they are ready, newest first; all without a limit."""

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

        Payloads without a score count as zero; scores that are no numbers are left out. With `unique_by_entity` of
        the signals with the same first reference only the best stays.
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
        """Return the signals whose payload has these members, oldest first; None is any, all without a limit."""
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
        """Return the signals whose payload has these members, oldest first; None is any, all without a limit."""
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
        """Return the emissions whose payload has these members, oldest first; None is any."""
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
        """Return the pending signals that no success or failure in the same window names, oldest first.

        With an `entity_ref` only emissions that carry it too count.
        """
        types = OutcomeTypes(pending_payload_types, success_emission_types, failure_emission_types)
        emissions = self.iter_emissions(start, end, entity_ref, types.success | types.failure)
        resolved = {one.caused_by for one in emissions}
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
        """Return the unresolved signals whose payload holds a time before `now`, oldest first."""
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
        return [one for one in unresolved if has_expired(one, now, expires_at_field)]

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
        """Return what is `pending` and what `expired` of the unresolved signals, and every `success` and `failure`.

        All are lists, oldest first.
        """
        types = OutcomeTypes(pending_payload_types, success_emission_types, failure_emission_types)
        emissions = self.get_outcomes_for_window(
            start=start, end=end, entity_ref=entity_ref, emission_types=types.success | types.failure
        )
        resolved = {one.caused_by for one in emissions}
        unresolved = self._unresolved(start, end, entity_ref, sources, types, resolved)
        now = to_bound(now)
        expired = [has_expired(one, now, expires_at_field) for one in unresolved]
        return {
            "pending": [one for one, is_over in zip(unresolved, expired, strict=True) if not is_over],
            "expired": [one for one, is_over in zip(unresolved, expired, strict=True) if is_over],
            "success": [one for one in emissions if one.emission_type in types.success],
            "failure": [one for one in emissions if one.emission_type in types.failure],
        }

    # -- what they share -----------------------------------------------------------------------------------------------

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
    """Return what tells whether a payload has some members; None where nothing is wanted."""
    given = [(name, value) for name, value in wanted.items() if value is not None]
    if not given:
        return None

    def test(envelope: Any) -> bool:  # noqa: ANN401  (of either kind)
        payload = envelope.payload
        return isinstance(payload, dict) and all(payload.get(name) == value for name, value in given)

    return test
