"""Retries of a conditional write: exponential backoff with full jitter, within a time budget.

No retry library is used, for two reasons: the clock is an argument, and only the caller knows which bytes to send again
and how to read back the outcome.
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
    """Yields attempt numbers from 1, with a pause before each but the first, until the budget is spent.

    `for attempt in Retries(clock): …` makes at least one attempt. Each pause is drawn from the whole range below a
    ceiling that doubles: see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
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
            # A test's clock may stand still between two readings; the pauses count in any case.
            spent_seconds = max(clock.elapsed_seconds() - begun, paused_seconds)
            if spent_seconds + pause_seconds > self._seconds:
                return
            clock.sleep(pause_seconds)
            paused_seconds += pause_seconds
            ceiling_seconds = min(2 * ceiling_seconds, _PAUSE_SECONDS_MAX)
            attempt += 1
