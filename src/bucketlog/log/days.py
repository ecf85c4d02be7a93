"""Streams by day: an id is stored on one day, whichever day its event names."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from bucketlog.errors import StreamSettingsError
from bucketlog.format.names import name_of
from bucketlog.format.segments import Segment, parse_segment
from bucketlog.log.commit_rule import request_of
from bucketlog.log.ids import Candidates

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from bucketlog.format.lines import Line
    from bucketlog.log.commit_rule import OnDuplicate
    from bucketlog.log.partition_writer import PartitionWriter
    from bucketlog.storage.root import Root

_REFRESH_ALWAYS_ENTRIES = 100  # looking at so few segments of other days costs less than the commit
_REFRESH_SHARE = 20  # beyond that, at most a twentieth of the time is spent looking


class Days:
    """Knows in which partitions of a stream by day ids are stored. Its lock and writers are its stream's.

    Attributes:
        known: In which partition an id is stored, unless compacted; the writers add what they learn.
    """

    def __init__(
        self,
        root: Root,
        folder: str,
        lock: threading.RLock,
        writers: dict[str, PartitionWriter],
        writer: Callable[[str], PartitionWriter],
    ) -> None:
        self._root, self._folder = root, folder
        self._lock, self._writers, self._writer = lock, writers, writer
        self.known: dict[str, str] = {}
        self._next_look = float("-inf")

    def day_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Tell in which partitions of a stream by day some ids are stored, as far as can be seen now."""
        with self._lock:
            clock = self._root.clock
            began = clock.elapsed_seconds()
            if began >= self._next_look:
                looked_at = self._look()
                ended = clock.elapsed_seconds()
                often = looked_at <= _REFRESH_ALWAYS_ENTRIES
                self._next_look = float("-inf") if often else ended + _REFRESH_SHARE * (ended - began)
            found = {one: day for one in ids if (day := self.known.get(one)) is not None}
            for day in set(found.values()):
                here = [one for one, stored_on in found.items() if stored_on == day]
                for one in set(here) - self._writer(day).view.stored_among(here):  # another has truncated the day since
                    del found[one]
                    self.known.pop(one, None)
            left = Candidates([one for one in ids if one not in found])
            for day, writer in self._writers.items():
                if stored := writer.view.in_segments(left):
                    found.update(dict.fromkeys(stored, day))
                    left = Candidates([one for one in left.ids if one not in stored])
            return found

    def _look(self) -> int:
        count = 0
        listed: dict[str, list[Segment]] = {}
        for entry in self._root.backend.list(self._folder):
            count += 1
            folder, _, name = entry.key.removeprefix(self._folder).rpartition("/")
            day = name_of(folder)
            segment = parse_segment(entry.key.removesuffix(name), name, entry.size)
            if day is not None and segment is not None:
                listed.setdefault(day, []).append(segment)
        outdated = [
            (view, found) for day, found in listed.items() if not (view := self._writer(day).view).is_current(found[-1])
        ]
        deque(self._root.side_by_side(lambda each: each[0].load_from_index(each[1]), outdated), 0)
        return count

    def check_other_days(self, lines: Sequence[Line], partition: str, on_duplicate: OnDuplicate, *, where: str) -> None:
        """Refuse ids that are stored on another day than the one that the caller names."""
        stored = self.day_of([line.id for line in lines])
        for index, line in enumerate(lines):
            day = stored.get(line.id, partition)
            if day == partition:
                continue
            if on_duplicate == "raise":
                writer = self._writer(day)
                writer.check(request_of([line], [index], None, on_duplicate, where=writer.where))
            msg = (
                f"append to {where}, partition {partition!r}: event {index} has the id {line.id!r}, which is "
                f"stored on {day}; append without partition=…, and its commit tells where"
            )
            raise StreamSettingsError(msg)

    def look_anew(self) -> None:
        """Believe nothing that was listed before."""
        self.known.clear()
        self._next_look = float("-inf")


def check_day(lines: Sequence[Line], partition: str, *, where: str) -> None:
    """Refuse to put an event under another day than its own: readers by time would not find it."""
    for index, line in enumerate(lines):
        if (day := line.time.date().isoformat()) != partition:
            msg = (
                f"append to {where}: event {index} is of {day}; this stream by day keeps it there, not in {partition!r}"
            )
            raise StreamSettingsError(msg)
