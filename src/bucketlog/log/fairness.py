"""Taking turns on an object store, where nobody else sees to it.

Who has won a name puts the next one at once, while the others have yet to read what it wrote: without a pause it would
win again, and again, and let nobody in for as long as it is busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bucketlog.clock import Clock

_RUN = 8  # commits in a row, then the others get a chance: handing over costs about one
_RUN_ALONE = 64  # who always wins never hears of the others
_RIVALS_SECONDS = 10.0  # somebody who was first so long ago is taken for gone
_PUTS = 3  # how many puts a pause is long: the others read a commit and put theirs
_PAUSE_SECONDS_MAX = 0.5


class Turns:
    """Tells one writer of a partition when to put its next commit."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lost_at = float("-inf")
        self._wins = 0
        self._pause_ends = float("-inf")

    def lost(self) -> None:
        """Take note that somebody else was first."""
        self._lost_at = self._clock.elapsed_seconds()
        self._wins = 0

    def won(self, put_seconds: float) -> None:
        """Take note of a commit, and how long its put took."""
        now = self._clock.elapsed_seconds()
        self._wins += 1
        if self._wins % (_RUN if now - self._lost_at < _RIVALS_SECONDS else _RUN_ALONE) == 0:
            self._pause_ends = now + min(_PUTS * put_seconds, _PAUSE_SECONDS_MAX)

    def wait(self) -> None:
        """Wait for our turn. What the caller does between two commits counts as a pause."""
        left_seconds = self._pause_ends - self._clock.elapsed_seconds()
        if left_seconds > 0:
            self._clock.sleep(left_seconds)
