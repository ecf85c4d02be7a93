"""Fairness between writers of one partition on an object store, which has no queue to provide it.

The winner of a name can put the next one at once, while the others have yet to read its commit: without a pause it
would win again and again, and starve them for as long as it is busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bucketlog.clock import Clock

_RUN = 8  # commits in a row before the others get a chance; handing over costs about one commit
_RUN_ALONE = 64  # a writer that always wins never notices the others
_RIVALS_SECONDS = 10.0  # a rival that has not won for this long counts as gone
_PUTS = 3  # length of a pause in PUTs: the others read a commit and put theirs
_PAUSE_SECONDS_MAX = 0.5


class Fairness:
    """Decides when one writer of a partition may put its next commit."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lost_at = float("-inf")
        self._wins = 0
        self._pause_ends = float("-inf")

    def lost(self) -> None:
        """Record that another writer was first."""
        self._lost_at = self._clock.elapsed_seconds()
        self._wins = 0

    def won(self, put_seconds: float) -> None:
        """Record a commit of our own, and how long its PUT took."""
        now = self._clock.elapsed_seconds()
        self._wins += 1
        if self._wins % (_RUN if now - self._lost_at < _RIVALS_SECONDS else _RUN_ALONE) == 0:
            self._pause_ends = now + min(_PUTS * put_seconds, _PAUSE_SECONDS_MAX)

    def wait(self) -> None:
        """Pause if the others are due. Time spent since the last commit counts towards the pause."""
        left_seconds = self._pause_ends - self._clock.elapsed_seconds()
        if left_seconds > 0:
            self._clock.sleep(left_seconds)
