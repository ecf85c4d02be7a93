"""Streams partitioned by day: an id is stored on one day only, even if a repeat has another time."""

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

_REFRESH_ALWAYS_ENTRIES = 100  # listing this few segments costs less than the commit
_REFRESH_SHARE = 20  # beyond that, listing takes at most a twentieth of the time


class Days:
    """Knows on which day of a stream partitioned by day an id is stored. It shares its stream's lock and writers.

    Attributes:
        known: The day of each id that is in no compacted segment yet. Writers add to it.
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
        """Return the day on which each id is stored; an id that is not known to be stored is missing."""
        with self._lock:
            clock = self._root.clock
            began = clock.elapsed_seconds()
            if began >= self._next_look:
                looked_at = self._look()
                ended = clock.elapsed_seconds()
                often = looked_at <= _REFRESH_ALWAYS_ENTRIES
                self._next_look = float("-inf") if often else ended + _REFRESH_SHARE * (ended - began)
            found = {event_id: day for event_id in ids if (day := self.known.get(event_id)) is not None}
            for day in set(found.values()):
                here = [event_id for event_id, stored_on in found.items() if stored_on == day]
                stored_here = self._writer(day).view.stored_among(here)
                for event_id in set(here) - stored_here:  # another writer has truncated the day
                    del found[event_id]
                    self.known.pop(event_id, None)
            left = Candidates([event_id for event_id in ids if event_id not in found])
            for day, writer in self._writers.items():
                if stored := writer.view.in_segments(left):
                    found.update(dict.fromkeys(stored, day))
                    left = Candidates([event_id for event_id in left.ids if event_id not in stored])
            return found

    def _look(self) -> int:
        """Let the writers learn what others appended to any day; return how many entries were listed."""
        count = 0
        listed: dict[str, list[Segment]] = {}
        for entry in self._root.backend.list(self._folder):
            count += 1
            folder, _, name = entry.key.removeprefix(self._folder).rpartition("/")
            day = name_of(folder)
            segment = parse_segment(entry.key.removesuffix(name), name, entry.size)
            if day is not None and segment is not None:
                listed.setdefault(day, []).append(segment)
        stale = [
            (view, found) for day, found in listed.items() if not (view := self._writer(day).view).is_current(found[-1])
        ]
        deque(self._root.side_by_side(lambda found: found[0].load_from_index(found[1]), stale), 0)
        return count

    def check_other_days(self, lines: Sequence[Line], partition: str, on_duplicate: OnDuplicate, *, where: str) -> None:
        """Raise if an id is stored on another day than the one that the caller names."""
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
                f"stored on {day}; append without partition=…, and its commit says where"
            )
            raise StreamSettingsError(msg)

    def invalidate(self) -> None:
        """Stop trusting what was listed before."""
        self.known.clear()
        self._next_look = float("-inf")


def check_day(lines: Sequence[Line], partition: str, *, where: str) -> None:
    """Raise if an event belongs to another day: readers by time would not find it."""
    for index, line in enumerate(lines):
        if (day := line.time.date().isoformat()) != partition:
            msg = (
                f"append to {where}: event {index} is of {day}; this stream by day keeps it there, not in {partition!r}"
            )
            raise StreamSettingsError(msg)
