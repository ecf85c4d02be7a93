"""Durations: seconds or timedelta, wherever one is taken."""

from __future__ import annotations

from datetime import timedelta


def to_seconds(duration: float | timedelta, *, name: str) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: It is negative or not a number.
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not seconds >= 0:
        msg = f"{name}={duration!r} is no duration; give seconds or a timedelta"
        raise ValueError(msg)
    return seconds
