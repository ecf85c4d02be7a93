"""A clock that a test controls. Time passes only when the test says so, and random values repeat."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A `bucketlog.clock.Clock` for one simulated machine.

    `sleep` advances the time and returns at once; `slept_seconds` records each call. Two clocks with the same seed give
    the same jitter and the same write ids, so give each racing writer a seed of its own.
    """

    def __init__(self, start: datetime = START, *, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._start = start
        self._wall_seconds = 0.0
        self._elapsed_seconds = 0.0
        self._chance = random.Random(seed)
        self.slept_seconds: list[float] = []

    def now(self) -> datetime:
        """Return the wall-clock time as timezone-aware UTC."""
        with self._lock:
            return self._start + timedelta(seconds=self._wall_seconds)

    def elapsed_seconds(self) -> float:
        """Return the seconds by which this clock was advanced."""
        with self._lock:
            return self._elapsed_seconds

    def sleep(self, seconds: float) -> None:
        """Advance by `seconds` at once and record the call."""
        with self._lock:
            self.slept_seconds.append(seconds)
        self.advance(seconds)

    def jitter(self) -> float:
        """Return the next random number in [0, 1)."""
        with self._lock:
            return self._chance.random()

    def write_id(self) -> str:
        """Return the next random id of 16 hex digits."""
        with self._lock:
            return f"{self._chance.getrandbits(64):016x}"

    def advance(self, seconds: float) -> None:
        """Let time pass, both on the wall clock and in elapsed time.

        Raises:
            ValueError: `seconds` is negative. Only the wall clock can go back; use `step`.
        """
        if seconds < 0:
            msg = f"advance a clock by {seconds} seconds: elapsed time never goes back; step() moves the wall clock"
            raise ValueError(msg)
        with self._lock:
            self._wall_seconds += seconds
            self._elapsed_seconds += seconds

    def suspend(self, seconds: float, *, elapsed_counts: bool) -> None:
        """Suspend the machine for `seconds`.

        Args:
            seconds: How long it is suspended.
            elapsed_counts: Whether elapsed time includes the suspension, as with CLOCK_BOOTTIME. With CLOCK_MONOTONIC
                on Linux it does not.
        """
        if elapsed_counts:
            self.advance(seconds)
        else:
            self.step(seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back if `seconds` is negative, without elapsed time."""
        with self._lock:
            self._wall_seconds += seconds
