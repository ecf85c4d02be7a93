"""Helpers that make envelopes for tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from bucketlog.signals import EmissionEnvelope, EntityRef, SignalEnvelope

START, END = datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


def T(day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:  # noqa: N802
    return datetime(2026, 2, day, hour, minute, second, tzinfo=UTC)


DAY = T(5)


def signal(
    signal_id: str,
    at: datetime = DAY,
    payload: Any = None,
    *,
    source: str = "ingest",
    type: str = "SocialPostSeen",  # noqa: A002
    refs: Iterable[EntityRef] = (),
    **more: Any,
) -> SignalEnvelope:
    return SignalEnvelope(signal_id, at, source, type, payload, entity_refs=tuple(refs), **more)


def emission(
    emission_id: str,
    at: datetime = DAY,
    payload: Any = None,
    *,
    type: str = "DraftApproved",  # noqa: A002
    caused_by: str = "",
    refs: Iterable[EntityRef] = (),
    **more: Any,
) -> EmissionEnvelope:
    return EmissionEnvelope(emission_id, at, type, payload, caused_by, entity_refs=tuple(refs), **more)


def ids(envelopes: Iterable[Any]) -> list[str]:
    return [getattr(envelope, "signal_id", None) or envelope.emission_id for envelope in envelopes]


def everything(store: Any) -> list[str]:
    return ids(store.iter_signals(START, END))


R = EntityRef("entity_id", "v")
