"""The clock that everything is handed, so that a test can replay time, waiting and chance."""

from __future__ import annotations

import os
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Time, waiting and chance."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware UTC."""
        ...

    def elapsed_seconds(self) -> float:
        """Return seconds since some fixed moment, counting the time that the machine was suspended."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def jitter(self) -> float:
        """Return a number from [0, 1) for full-jitter backoff."""
        ...

    def write_id(self) -> str:
        """Return 16 random hex digits that mark a commit as its writer's own."""
        ...


class SystemClock:
    """The machine's own."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware UTC."""
        return datetime.now(UTC)

    def elapsed_seconds(self) -> float:
        """Return CLOCK_BOOTTIME where there is one: CLOCK_MONOTONIC stands still while a laptop sleeps."""
        return time.clock_gettime(_ELAPSED)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def jitter(self) -> float:
        """Return a number from [0, 1)."""
        return random.random()

    def write_id(self) -> str:
        """Return 16 random hex digits, also different in a forked child."""
        return os.urandom(8).hex()


class Staleness:
    """How long ago something was seen, by whichever clock says the longest.

    The wall clock can be set, and the other one stands still while a virtual machine is paused. A step back counts as
    infinitely long ago.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._elapsed, self._wall = clock.elapsed_seconds(), clock.now()

    def seconds(self) -> float:
        """Return the seconds since this was made; infinite when a clock went backwards."""
        elapsed = self._clock.elapsed_seconds() - self._elapsed
        wall = (self._clock.now() - self._wall).total_seconds()
        return max(elapsed, wall) if min(elapsed, wall) >= 0 else float("inf")


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


_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
