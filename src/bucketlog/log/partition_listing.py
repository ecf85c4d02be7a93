"""Which segments of a partition count, as of a moment, and whether that moment is too long ago to rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bucketlog.clock import Staleness
from bucketlog.errors import BackendUnavailableError, CorruptSegmentError
from bucketlog.format import segments as seg
from bucketlog.log.bounds import Bounds, read_bounds
from bucketlog.log.listing import live_before, newest_live, segments_after, skim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bucketlog.backend import Backend
    from bucketlog.format.segments import Segment
    from bucketlog.storage.root import Root

RELISTINGS_MAX = 8
_TORN_LISTINGS_MAX = 3


class PartitionListing:
    """The last listing of a partition.

    Attributes:
        bounds: The partition's bounds, read just before the names.
        first: The offset at which the listing begins.
    """

    def __init__(self, root: Root, folder: str, *, grace_seconds: float, where: str) -> None:
        self.bounds = Bounds()
        self.first = 0
        self._root, self._folder, self._where = root, folder, where
        self._grace_seconds = grace_seconds
        self._age: Staleness | None = None

    def is_stale(self) -> bool:
        """Return True if the listing is too old to trust: names may have been removed and left to orphans."""
        return self._age is None or self._age.seconds() >= self._grace_seconds / 2

    def distrust(self) -> None:
        """Make the listing stale; safe from any thread."""
        self._age = None

    def list_segments(self, *, near: int = 0, stop: int | None = None, boundary: int = 0) -> list[Segment]:
        """List the partition's segments again and return those that count, in order.

        Args:
            near: An offset that is to be read. Segments that end before it may be left out.
            stop: An offset after which no segment is needed.
            boundary: An offset at which a commit is known to have ended.

        Raises:
            CorruptCheckpointError: `bounds.json` cannot be read.
            CorruptSegmentError: A segment is missing.
            BackendUnavailableError: Every listing took longer than it may be trusted.
        """
        torn = 0
        for _ in range(RELISTINGS_MAX):
            self._read_bounds()  # before the names, and the listing has to reach the floor (I19)
            self.first = self._first_to_list(near, boundary)
            wanted = self.bounds.floor if stop is None else min(self.bounds.floor, stop)
            listed = self._chained(skim, stop)
            if not self._reaches(wanted, listed):
                # The segments passed over may lead on, where compacted ones overlap.
                listed = self._chained(segments_after, stop)
            if self.is_stale():
                continue  # as old as that, names and bounds do not belong together
            if self._reaches(wanted, listed):
                return listed
            torn += 1  # a listed segment may have been replaced by one that sorts before it, meanwhile
            if torn == _TORN_LISTINGS_MAX:
                end = (listed[-1].next if listed else None) or self.first
                msg = (
                    f"read {self._where}: no segment holds offset {end}, though the log is known to reach to "
                    f"{self.bounds.floor}; stop and repair it from a copy"
                )
                raise CorruptSegmentError(msg, key=self._folder, offset=end)
        raise self.too_slow()

    def newest_segment(self) -> Segment | None:
        """Find the newest live segment of an object store without listing all; None if it takes more than that to tell.

        Raises:
            CorruptCheckpointError: `bounds.json` cannot be read.
            BackendUnavailableError: Every listing took longer than it may be trusted.
        """
        for _ in range(RELISTINGS_MAX):
            self._read_bounds()
            found = newest_live(self._root.backend, self._folder, self.bounds.floor)
            if not self.is_stale():
                return found
        raise self.too_slow()

    def too_slow(self) -> BackendUnavailableError:
        """Return the error for listings that are stale by the time they arrive."""
        msg = (
            f"read {self._where}: {RELISTINGS_MAX} listings took longer than {self._grace_seconds / 2:g} s each, after "
            "which names may have been removed and claimed again; try again when the storage answers faster"
        )
        return BackendUnavailableError(msg)

    def _read_bounds(self) -> None:
        self._age = Staleness(self._root.clock)
        self.bounds = read_bounds(self._root.backend, self._folder, where=self._where)

    def _chained(self, names: Callable[[Backend, str, int], Iterator[Segment]], stop: int | None) -> list[Segment]:
        found = []
        # The segment that contains the start may begin before it.
        lowest = self.first if self.first > self.bounds.start else 0
        for segment in names(self._root.backend, self._folder, lowest):
            found.append(segment)
            if stop is not None and segment.first > stop:
                break
        return seg.chain(found, start=self.first, floor=self.bounds.floor)

    def _reaches(self, offset: int, listed: list[Segment]) -> bool:
        """Return True if a listing leads to an offset; below the floor nothing may be missing."""
        if not listed:
            return self.first >= offset
        end = listed[-1].next
        return end is None or end >= offset

    def _first_to_list(self, near: int, boundary: int) -> int:
        """Return an offset at or before `near` where a segment begins, or would."""
        start, floor = self.bounds.start, self.bounds.floor
        if self._root.segments_grow or near < floor or near <= start:
            return min(start, floor)
        # Where a commit is a segment, the known end of one is where the next one begins.
        if near == boundary:
            return near
        return live_before(self._root.backend, self._folder, near, floor)
