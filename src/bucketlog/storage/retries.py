"""How often and how long a conditional write is tried: full jitter, exponential backoff, one budget of time.

Written here because the clock is handed in, and because every attempt has to send the same bytes: only the caller
knows which those are and how to read back what became of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog.clock import Clock

BUDGET_SECONDS = 20.0
_PAUSE_SECONDS_FIRST = 0.05
_PAUSE_SECONDS_MAX = 2.0


class Retries:
    """Attempts, counted from 1, with a pause before each but the first; they end when the budget is spent.

    `for attempt in Retries(clock): …` makes one attempt at least. Pauses are drawn from the whole range below a ceiling
    that doubles: see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(self, clock: Clock, *, seconds: float = BUDGET_SECONDS) -> None:
        self._clock = clock
        self._seconds = seconds

    def __iter__(self) -> Iterator[int]:
        clock = self._clock
        begun, paused_seconds, ceiling_seconds, attempt = clock.elapsed_seconds(), 0.0, _PAUSE_SECONDS_FIRST, 1
        while True:
            yield attempt
            pause_seconds = ceiling_seconds * (1.0 - clock.jitter())  # never 0, so that the budget ends
            # A clock may stand still between two readings; what was slept counts in any case.
            spent_seconds = max(clock.elapsed_seconds() - begun, paused_seconds)
            if spent_seconds + pause_seconds > self._seconds:
                return
            clock.sleep(pause_seconds)
            paused_seconds += pause_seconds
            ceiling_seconds = min(2 * ceiling_seconds, _PAUSE_SECONDS_MAX)
            attempt += 1
