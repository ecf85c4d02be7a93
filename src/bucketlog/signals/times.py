"""Times in this package: a naive datetime is UTC, an aware one is converted to UTC, a day is a UTC date."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
_STEP = timedelta(microseconds=1)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def to_utc(value: datetime) -> datetime:
    """Return a time as an aware datetime in UTC.

    Raises:
        OverflowError: In UTC it is outside the years 1 to 9999.
    """
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def to_bound(value: datetime) -> datetime:
    """Return a window's bound in UTC; outside the years 1 to 9999, the nearest time inside."""
    try:
        return to_utc(value)
    except OverflowError:
        return _EARLIEST if value.year < 5000 else _LATEST


def to_text(value: datetime) -> str:
    """Return a time as ISO 8601 text in UTC, ending with `Z`; a fraction of zero is left out."""
    return to_utc(value).isoformat().replace("+00:00", "Z")


def from_text(text: str) -> datetime:
    """Parse the output of `to_text`, or any other ISO 8601 text; a trailing `Z` means UTC.

    Raises:
        ValueError: The text is not a time.
    """
    return to_utc(datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text))


def day_text(day: date | datetime | str) -> str:
    """Return a day as text: the UTC date of a datetime, the ISO form of a date, a str unchanged.

    Raises:
        TypeError: `day` is none of these.
    """
    if isinstance(day, str):
        return day
    if isinstance(day, datetime):
        return to_utc(day).date().isoformat()
    if isinstance(day, date):
        return day.isoformat()
    msg = f"day is a {type(day).__name__}; pass a date, a datetime or a str"
    raise TypeError(msg)


class Window(NamedTuple):
    """The times from `start` to `end`, inclusive at both ends."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, start: datetime, end: datetime) -> Window:
        """Make a window from any two datetimes.

        Raises:
            ValueError: `end` is before `start`.
        """
        window = cls(to_bound(start), to_bound(end))
        if window.end < window.start:
            msg = "end must be greater than or equal to start"
            raise ValueError(msg)
        return window

    def days(self, partitions: list[str]) -> list[str]:
        """Return the daily partitions that the window touches, in order."""
        first, last = self.start.date().isoformat(), self.end.date().isoformat()
        return [name for name in partitions if first <= name <= last and _DAY.fullmatch(name)]

    def bounds(self) -> dict[str, datetime]:
        """Return the `since` and `until` of a read."""
        return {"since": self.start} | ({} if self.end == _LATEST else {"until": self.end + _STEP})

    def bounds_within(self, days: list[str]) -> dict[str, datetime]:
        """Return the `since` and `until` for reading some of the window's days, without bounds that cut no day.

        A bound that excludes nothing would make the read check every event in vain.
        """
        bounds: dict[str, datetime] = {}
        if days and self.start > datetime.combine(date.fromisoformat(days[0]), time(), UTC):
            bounds["since"] = self.start
        if days and self.end < datetime.combine(date.fromisoformat(days[-1]), time.max, UTC):
            bounds["until"] = self.end + _STEP
        return bounds
