"""Stream settings: how a stream is partitioned, which all its writers must agree on."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from bucketlog.errors import InvalidEventError, StreamSettingsError

if TYPE_CHECKING:
    from bucketlog.event import Event
    from bucketlog.format.filters import Filter

SINGLE_PARTITION = "0"
GRACE_SECONDS = 24 * 60 * 60.0
GRACE_SECONDS_MIN = 60 * 60.0

PartitionBy: TypeAlias = str | Callable[["Event"], str]


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """The content of `stream.json`.

    Attributes:
        partition_by: `single`, `day`, `subject`, `source`, `hash:<n>` or `custom`.
        grace_seconds: How long an unused segment is kept for writers and readers that slept.
    """

    partition_by: str = "single"
    grace_seconds: float = GRACE_SECONDS


def parse_settings(value: object) -> StreamSettings | None:
    """Return the settings in decoded JSON, or None if it holds none."""
    match value:
        case {"partition_by": str(partition_by), "grace_seconds": int() | float() as grace_seconds}:
            settings = StreamSettings(partition_by, float(grace_seconds))
        case _:
            return None
    try:
        check_partition_by(None if partition_by == "custom" else partition_by, stream="")
    except StreamSettingsError:
        return None
    return settings if settings.grace_seconds >= GRACE_SECONDS_MIN else None


def check_partition_by(partition_by: PartitionBy | None, *, stream: str) -> str | None:
    """Return the text that a choice is stored as, or None for no choice.

    Raises:
        StreamSettingsError: Not a valid choice.
    """
    if partition_by is None:
        return None
    if callable(partition_by):
        return "custom"
    if partition_by in ("single", "day", "subject", "source"):
        return partition_by
    kind, _, count = str(partition_by).partition(":")
    if kind == "hash" and count.isascii() and count.isdigit() and int(count) > 0 and str(int(count)) == count:
        return partition_by
    msg = (
        f"stream {stream!r}: partition_by={partition_by!r} is not known; "
        'choose "single", "day", "subject", "source", "hash:16" or a callable'
    )
    raise StreamSettingsError(msg)


def partition_of(
    event: Event, partition_by: str, custom: Callable[[Event], str] | None, *, index: int, where: str
) -> str:
    """Return the partition of an event, whose time must be aware.

    Raises:
        InvalidEventError: It lacks the subject or source that the stream is partitioned by.
        StreamSettingsError: The stream is partitioned by a callable that this `Stream` was opened without.
    """
    if partition_by == "single":
        return SINGLE_PARTITION
    if partition_by == "day":
        return _day(event.time if event.time.tzinfo is UTC else event.time.astimezone(UTC))
    if partition_by in ("subject", "source"):
        value: str | None = getattr(event, partition_by)
        if not value:
            msg = f"append to {where}: event {index} has no {partition_by}, by which this stream is partitioned"
            raise InvalidEventError(msg, index=index, field=partition_by)
        return value
    if partition_by == "custom":
        if custom is None:
            msg = (
                f"append to {where}: this stream is partitioned by a callable; "
                "open it with the same one, or name the partition"
            )
            raise StreamSettingsError(msg)
        return custom(event)
    count = int(partition_by.removeprefix("hash:"))
    number = zlib.crc32((event.subject or "").encode()) % count
    return f"{number:0{len(str(count - 1))}d}"


def _day(moment: datetime) -> str:
    return _iso(moment.date())


@lru_cache(maxsize=64)
def _iso(day: date) -> str:
    return day.isoformat()


def day_bounds(partition: str) -> tuple[datetime, datetime] | None:
    """Return the times `[first, next)` of a day's partition, or None if its name is not a day."""
    try:
        first = datetime.combine(date.fromisoformat(partition), time(), UTC)
        return first, first + timedelta(days=1)
    except (ValueError, OverflowError):
        return None


def day_matches(partition: str, wanted: Filter) -> bool:
    """Return False if a day's partition cannot hold an event of a wanted time."""
    bounds = day_bounds(partition)
    if bounds is None:
        return True
    first, following = bounds
    return (wanted.since is None or following > wanted.since) and (wanted.until is None or first < wanted.until)
