"""A clock that a test moves: time passes when it says so, and chance repeats itself."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A `bucketlog.clock.Clock` for one simulated machine.

    `sleep` returns at once and moves the time; what was slept is kept in `slept_seconds`. Two clocks made with the same
    seed give the same jitter and the same write ids, so writers that race need one seed each.
    """

    def __init__(self, start: datetime = START, *, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._start = start
        self._wall_seconds = 0.0
        self._elapsed_seconds = 0.0
        self._chance = random.Random(seed)
        self.slept_seconds: list[float] = []

    def now(self) -> datetime:
        """Return the wall clock's time, aware UTC."""
        with self._lock:
            return self._start + timedelta(seconds=self._wall_seconds)

    def elapsed_seconds(self) -> float:
        """Return the seconds that this clock was advanced since it was made."""
        with self._lock:
            return self._elapsed_seconds

    def sleep(self, seconds: float) -> None:
        """Advance by `seconds` at once, and remember it."""
        with self._lock:
            self.slept_seconds.append(seconds)
        self.advance(seconds)

    def jitter(self) -> float:
        """Return the next number from [0, 1) of this seed."""
        with self._lock:
            return self._chance.random()

    def write_id(self) -> str:
        """Return the next 16 hex digits of this seed."""
        with self._lock:
            return f"{self._chance.getrandbits(64):016x}"

    def advance(self, seconds: float) -> None:
        """Let time pass, for the wall clock and for the elapsed time alike.

        Raises:
            ValueError: `seconds` is negative; only the wall clock goes back, see `step`.
        """
        if seconds < 0:
            msg = f"advance a clock by {seconds} seconds: elapsed time never goes back; step() moves the wall clock"
            raise ValueError(msg)
        with self._lock:
            self._wall_seconds += seconds
            self._elapsed_seconds += seconds

    def suspend(self, seconds: float, *, elapsed_counts: bool) -> None:
        """Close the lid for `seconds`.

        Args:
            seconds: How long the machine sleeps.
            elapsed_counts: Whether the elapsed time goes on meanwhile, as CLOCK_BOOTTIME does; CLOCK_MONOTONIC of Linux
                stands still.
        """
        if elapsed_counts:
            self.advance(seconds)
        else:
            self.step(seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back when `seconds` is negative, while no time passes."""
        with self._lock:
            self._wall_seconds += seconds
