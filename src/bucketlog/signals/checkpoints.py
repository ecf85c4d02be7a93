"""Replay checkpoints: a worker's progress, as a time and the ids processed at that time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  (`get_type_hints` needs it)
from typing import TYPE_CHECKING, Any

from bucketlog.signals.times import from_text, to_text, to_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bucketlog.signals.envelopes import SignalEnvelope

_VERSION = "0.1"


@dataclass(frozen=True)
class ReplayCheckpoint:
    """The latest time that was processed, and the ids of all signals processed at that time."""

    last_timestamp: datetime
    seen_ids_at_timestamp: tuple[str, ...] = ()
    schema_version: str = _VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "last_timestamp", to_utc(self.last_timestamp))
        object.__setattr__(self, "seen_ids_at_timestamp", tuple(dict.fromkeys(self.seen_ids_at_timestamp)))

    def to_dict(self) -> dict[str, Any]:
        """Return the checkpoint as a JSON object."""
        return {
            "last_timestamp": to_text(self.last_timestamp),
            "seen_ids_at_timestamp": list(self.seen_ids_at_timestamp),
            "schema_version": self.schema_version,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ReplayCheckpoint:
        """Make a checkpoint from a JSON object, ignoring unknown members.

        Raises:
            KeyError: `last_timestamp` is missing.
            ValueError: `last_timestamp` is not an ISO 8601 time.
            TypeError: `last_timestamp` is not a string.
        """
        text = data["last_timestamp"]
        if not isinstance(text, str):
            msg = f"last_timestamp is a {type(text).__name__}; expected an ISO 8601 string"
            raise TypeError(msg)
        return cls(
            last_timestamp=from_text(text),
            seen_ids_at_timestamp=tuple(data.get("seen_ids_at_timestamp", ())),
            schema_version=str(data.get("schema_version", _VERSION)),
        )

    def not_seen(self) -> Callable[[SignalEnvelope], bool]:
        """Return a test that is True for signals not processed yet; it expects none older than the checkpoint."""
        last, seen = self.last_timestamp, frozenset(self.seen_ids_at_timestamp)
        return lambda signal: signal.timestamp != last or signal.signal_id not in seen


def build_checkpoint(
    processed: Iterable[SignalEnvelope], after: ReplayCheckpoint | None = None
) -> ReplayCheckpoint | None:
    """Return the checkpoint after processing some signals that were replayed from `after`; without any, `after`.

    Raises:
        ValueError: A signal is older than the one before it.
    """
    last: datetime | None = None
    seen: dict[str, None] = {}
    if after is not None:
        last, seen = after.last_timestamp, dict.fromkeys(after.seen_ids_at_timestamp)
    for signal in processed:
        time = to_utc(signal.timestamp)
        if last is not None and time < last:
            msg = "processed_signals must be in non-decreasing timestamp order"
            raise ValueError(msg)
        if last is None or time > last:
            last, seen = time, {}
        seen[signal.signal_id] = None
    return None if last is None else ReplayCheckpoint(last, tuple(seen))
