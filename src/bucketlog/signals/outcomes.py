"""Outcomes: which pending signals an emission resolved, which expired, and which are still pending."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bucketlog.signals.times import from_text
from bucketlog.signals.vocabulary import (
    DEFAULT_FAILURE_EMISSION_TYPES,
    DEFAULT_PENDING_OUTCOME_PAYLOAD_TYPES,
    DEFAULT_SUCCESS_EMISSION_TYPES,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from bucketlog.signals.envelopes import SignalEnvelope


class OutcomeTypes:
    """The types that mean pending, success and failure; the defaults replace None and empty lists."""

    def __init__(
        self,
        pending: Collection[str] | None,
        success: Collection[str] | None,
        failure: Collection[str] | None,
    ) -> None:
        self.pending = frozenset(pending) if pending else DEFAULT_PENDING_OUTCOME_PAYLOAD_TYPES
        self.success = frozenset(success) if success else DEFAULT_SUCCESS_EMISSION_TYPES
        self.failure = frozenset(failure) if failure else DEFAULT_FAILURE_EMISSION_TYPES


def has_expired(signal: SignalEnvelope, now: datetime, field: str) -> bool:
    """Return True if a field of the signal's payload is a time before `now`; other values never expire."""
    text = signal.payload.get(field) if isinstance(signal.payload, dict) else None
    if not isinstance(text, str):
        return False
    try:
        return from_text(text) < now
    except (ValueError, OverflowError):
        return False
