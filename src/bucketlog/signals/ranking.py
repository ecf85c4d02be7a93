"""Ranking: the best signals by a score in their payload, optionally one per entity, in bounded memory."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from bucketlog.signals.envelopes import EntityRef
from bucketlog.signals.references import identity_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from typing import TypeAlias

    from bucketlog.signals.envelopes import SignalEnvelope

    _Rank: TypeAlias = tuple[float, datetime, str]


def best_ranked(
    signals: Iterable[SignalEnvelope], limit: int, *, score_field: str, unique_by_entity: bool
) -> list[SignalEnvelope]:
    """Return the best signals, best first by score, time and id.

    Args:
        signals: The signals, in any order.
        limit: The maximum number of results, at least one.
        score_field: The payload's field with the score; a missing score counts as zero, and a signal whose score is
            not a number is left out.
        unique_by_entity: Whether to return only the best signal for each first reference.
    """
    best: dict[object, tuple[_Rank, SignalEnvelope]] = {}
    heap: list[tuple[_Rank, object]] = []  # the same entries and some replaced ones; the worst is on top
    for signal in signals:
        rank = _rank(signal, score_field)
        if rank is None or (len(best) >= limit and rank < heap[0][0]):
            continue
        entity = _entity(signal) if unique_by_entity else signal.signal_id
        there = best.get(entity)
        if there is not None and there[0] >= rank:
            continue
        best[entity] = rank, signal
        heapq.heappush(heap, (rank, entity))
        while len(best) > limit:
            worst, left_out = heapq.heappop(heap)
            if left_out in best and best[left_out][0] == worst:
                del best[left_out]  # a later signal of this entity has to beat all that remain, as any other
        if len(heap) > 2 * limit:
            heap = [(entry[0], entity) for entity, entry in best.items()]
            heapq.heapify(heap)
    return [signal for _, signal in sorted(best.values(), key=_by_rank, reverse=True)]


def _by_rank(entry: tuple[_Rank, object]) -> _Rank:
    return entry[0]


def _rank(signal: SignalEnvelope, score_field: str) -> _Rank | None:
    if not isinstance(signal.payload, dict):
        return None
    score = signal.payload.get(score_field, 0.0)
    if not isinstance(score, (int, float)) or score != score:  # NaN
        return None
    return score, signal.timestamp, signal.signal_id


def _entity(signal: SignalEnvelope) -> object:
    first = signal.entity_refs[0] if signal.entity_refs else None
    return identity_of(first) if isinstance(first, EntityRef) else signal.signal_id
