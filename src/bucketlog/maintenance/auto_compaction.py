"""Automatic compaction: merges what a store handle appends to a stream, in the background."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from bucketlog.errors import BucketlogError
from bucketlog.format.names import name_of
from bucketlog.format.segments import parse_segment
from bucketlog.maintenance import compaction

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bucketlog.commit import Commit
    from bucketlog.log.stream_state import StreamState

_AUTO_BYTES = 16 * 1024 * 1024  # appended to a partition before it is compacted
_AUTO_COMMITS = 512
_LOOKS = 2  # at the first commit, which may be of an old day, and when the next day begins
_log = logging.getLogger("bucketlog")

T = TypeVar("T")


class AutoCompactor:
    """Compacts what a store handle appends to a stream from time to time, in a thread of its own.

    `finish` and `close` wait for it. All `Stream` objects of a name share one, so that a partition has only one.

    In a stream by day, a day is compacted when it is over, that is, after the first append to a later one.

    Errors of the store are logged and do no harm: the segments stay, and the next compaction includes them.
    """

    def __init__(self, state: StreamState) -> None:
        self._state = state
        self.forget()

    def invalidate(self) -> None:
        """Do nothing: each compaction lists for itself."""

    def forget(self) -> None:
        """Start afresh in a forked child, which has no threads."""
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[int, int]] = {}  # commits and bytes of each partition since its last compaction
        self._newest_day = ""
        self._looks = 0  # for days that others left uncompacted
        self._late: set[str] = set()  # days before the newest that are to be compacted
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bucketlog-compactor")
        self._begun: list[Future[None]] = []

    def wrote(self, commit: Commit, size: int) -> None:
        """Count a commit of about `size` bytes; start a compaction if it is time."""
        if commit.first_offset == commit.next_offset:
            return
        partition = commit.partition
        settings = self._state.stored_settings()
        with self._lock:
            commits, waiting_bytes = self._waiting.get(partition, (0, 0))
            commits, waiting_bytes = commits + 1, waiting_bytes + size
            # Where segments grow, many commits share a segment.
            many = not self._state.root.segments_grow and commits >= _AUTO_COMMITS
            if many or waiting_bytes >= _AUTO_BYTES:
                commits = waiting_bytes = 0
                self._begin(self._compact, partition)
            self._waiting[partition] = commits, waiting_bytes
            if settings is not None and settings.partition_by == "day":
                self._wrote_day(partition)

    def _wrote_day(self, day: str) -> None:
        if day < self._newest_day:
            self._late.add(day)
        elif self._newest_day < day <= self._tomorrow():  # an event of the far future must not end the current day
            if self._looks < _LOOKS:
                self._looks += 1
                self._begin(self._compact_before, day)
            else:
                self._begin(self._compact_days, {*self._late, self._newest_day})
            self._late.clear()
            self._newest_day = day

    def _tomorrow(self) -> str:
        return (self._state.root.clock.now() + timedelta(days=1)).date().isoformat()

    def finish(self) -> None:
        """Wait for what has begun and for the days that are over; raise any error that is not the store's."""
        with self._lock:
            begun = list(self._begun)
        wait(begun)  # a day that could not be compacted is tried once more
        with self._lock:
            if self._late:
                self._begin(self._compact_days, {*self._late})
                self._late.clear()
            begun, self._begun = self._begun, []
        for task in begun:
            task.result()

    def close(self) -> None:
        """Finish, and end the thread."""
        try:
            self.finish()
        finally:
            self._thread.shutdown()

    def _begin(self, task: Callable[[T], None], what: T) -> None:
        self._begun = [task for task in self._begun if not task.done() or task.exception()]
        try:
            self._begun.append(self._thread.submit(task, what))
        except RuntimeError as err:  # the store is closed or the program ends; the commit is durable
            _log.warning("%s: left for a later compaction: %s", self._state.where, err)

    def _compact_days(self, days: Collection[str]) -> None:
        for day in sorted(days):
            self._waiting.pop(day, None)
            self._compact(day)

    def _compact_before(self, day: str) -> None:
        """Compact earlier days that others left: processes that died, or that did not compact."""
        try:
            days = uncompacted(self._state)
        except BucketlogError as err:
            _log.warning("%s: could not list what to compact: %s", self._state.where, err)
        else:
            self._compact_days([earlier for earlier in days if earlier < day])

    def _compact(self, partition: str) -> None:
        try:
            compaction.compact_partition(self._state, partition)
        except BucketlogError as err:
            _log.warning("%s: could not compact, and will try again: %s", self._state.where_of(partition), err)
            with self._lock:
                if partition < self._newest_day:
                    self._late.add(partition)


def uncompacted(state: StreamState) -> set[str]:
    """Return the partitions with events that are in no compacted segment, by one listing of the stream."""
    ends: dict[str, int] = {}  # where the compacted segments of a folder end
    firsts: dict[str, int] = {}  # of the newest live segment of each
    for entry in state.root.backend.list(state.folder):
        folder, _, name = entry.key.removeprefix(state.folder).rpartition("/")
        segment = parse_segment(folder, name, entry.size)
        if segment is None:
            continue
        if segment.next is None:
            firsts[folder] = segment.first
        else:
            ends[folder] = max(ends.get(folder, 0), segment.next)
    found = {name_of(folder) for folder, first in firsts.items() if first >= ends.get(folder, 0)}
    return {name for name in found if name is not None}
