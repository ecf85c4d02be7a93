"""Outcomes: which pending signals were resolved by an emission, which expired, and which still wait."""

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
    """The types that make a signal pending, a success or a failure; the usual ones for what is None or empty."""

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
    """Tell whether the payload of a signal holds a time before `now`; what cannot be read as a time never expires."""
    text = signal.payload.get(field) if isinstance(signal.payload, dict) else None
    if not isinstance(text, str):
        return False
    try:
        return from_text(text) < now
    except (ValueError, OverflowError):
        return False
