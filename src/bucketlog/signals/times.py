"""Time in this package: a naive datetime is UTC, an aware one is converted, a day is a UTC date."""

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
    """Return a time as aware UTC.

    Raises:
        OverflowError: It lies outside the years 1 to 9999 as UTC.
    """
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def to_bound(value: datetime) -> datetime:
    """Return the bound of a window as aware UTC; one that does not exist there is the nearest that does."""
    try:
        return to_utc(value)
    except OverflowError:
        return _EARLIEST if value.year < 5000 else _LATEST


def to_text(value: datetime) -> str:
    """Return a time as ISO 8601 text in UTC, ending with `Z`; the fraction only when it is not zero."""
    return to_utc(value).isoformat().replace("+00:00", "Z")


def from_text(text: str) -> datetime:
    """Read what `to_text` wrote, and any other ISO 8601 text; one trailing `Z` is UTC.

    Raises:
        ValueError: It is no time.
    """
    return to_utc(datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text))


def day_text(day: date | datetime | str) -> str:
    """Return what a day is called: the UTC date of a datetime, the ISO form of a date, a text as it is.

    Raises:
        TypeError: It is none of these.
    """
    if isinstance(day, str):
        return day
    if isinstance(day, datetime):
        return to_utc(day).date().isoformat()
    if isinstance(day, date):
        return day.isoformat()
    msg = f"day is a {type(day).__name__}; give a date, a datetime or a text"
    raise TypeError(msg)


class Window(NamedTuple):
    """The times from `start` to `end`, both ends in."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, start: datetime, end: datetime) -> Window:
        """Make a window of any two datetimes.

        Raises:
            ValueError: `end` lies before `start`.
        """
        window = cls(to_bound(start), to_bound(end))
        if window.end < window.start:
            msg = "end must be greater than or equal to start"
            raise ValueError(msg)
        return window

    def days(self, partitions: list[str]) -> list[str]:
        """Return those partitions of a stream by day that the window touches, in their order."""
        first, last = self.start.date().isoformat(), self.end.date().isoformat()
        return [name for name in partitions if first <= name <= last and _DAY.fullmatch(name)]

    def bounds(self) -> dict[str, datetime]:
        """Return the `since` and `until` of a read."""
        return {"since": self.start} | ({} if self.end == _LATEST else {"until": self.end + _STEP})

    def bounds_within(self, days: list[str]) -> dict[str, datetime]:
        """Return the `since` and `until` of a read of some of its days; only those that cut a day.

        A bound that nothing lies beyond would make the read look at every event for nothing.
        """
        bounds: dict[str, datetime] = {}
        if days and self.start > datetime.combine(date.fromisoformat(days[0]), time(), UTC):
            bounds["since"] = self.start
        if days and self.end < datetime.combine(date.fromisoformat(days[-1]), time.max, UTC):
            bounds["until"] = self.end + _STEP
        return bounds
