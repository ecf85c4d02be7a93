"""The clock: time, waiting and randomness, passed in everywhere so that a test can replay them. Durations."""

from __future__ import annotations

import os
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Time, waiting and randomness."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware UTC."""
        ...

    def elapsed_seconds(self) -> float:
        """Return the seconds since some fixed moment, including time that the machine was suspended."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def jitter(self) -> float:
        """Return a number from [0, 1) for full-jitter backoff."""
        ...

    def write_id(self) -> str:
        """Return 16 random hex digits by which a writer recognises its own commit."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware UTC."""
        return datetime.now(UTC)

    def elapsed_seconds(self) -> float:
        """Return CLOCK_BOOTTIME if there is one: CLOCK_MONOTONIC stops while a laptop sleeps."""
        return time.clock_gettime(_ELAPSED)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def jitter(self) -> float:
        """Return a number from [0, 1)."""
        return random.random()

    def write_id(self) -> str:
        """Return 16 random hex digits, which differ in a forked child too."""
        return os.urandom(8).hex()


class Staleness:
    """How long ago something was seen, by the clock that says the longest.

    The wall clock can be set, and the other one stops while a virtual machine is paused. If either goes backwards, the
    answer is infinite.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._elapsed, self._wall = clock.elapsed_seconds(), clock.now()

    def seconds(self) -> float:
        """Return the seconds since this object was made; infinite if a clock went backwards."""
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
        msg = f"{name}={duration!r} is not a valid duration; give seconds or a timedelta"
        raise ValueError(msg)
    return seconds


_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
