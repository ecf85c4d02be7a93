"""A partition as it is read: its segments listed once, then its commits in order, from an offset to the end.

Writers use it to catch up, readers and tails to read. It yields only what is whole, checked and durable.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections import deque
from itertools import zip_longest
from typing import TYPE_CHECKING

from bucketlog.errors import NotFoundError
from bucketlog.format import segments as seg
from bucketlog.format.compacted import DamageError
from bucketlog.log import compacted_reading
from bucketlog.log.partition_listing import RELISTINGS_MAX, PartitionListing
from bucketlog.log.raw_batch import RawBatch, starting_at
from bucketlog.log.read_errors import before_the_start, beyond_the_end, corrupt_segment, damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from bucketlog.format.compacted import CompactedSegment
    from bucketlog.format.filters import Filter
    from bucketlog.format.segments import Segment
    from bucketlog.log.bounds import Bounds
    from bucketlog.storage.root import Root

READ_BYTES = 4 * 1024 * 1024  # of a live segment at a time
_REQUESTS_AHEAD = 16
_BYTES_AHEAD = 16 * 1024 * 1024


class _OldListingError(Exception):
    """The reader was kept waiting for so long that the names it listed may be another writer's by now."""


class PartitionReader:
    """Reads one partition forward. Not safe for several threads.

    Attributes:
        offset: The next event to be read, -1 for the start of the log; after `raw_batches`, where the partition ended.
        stop: The offset at which to stop: segments that begin after it are not fetched. None to read to the end.
        key: The newest segment that was read; empty when the next read has to list.
        byte: Up to which byte it was read.
        listing: The segments that counted when they were last listed.
    """

    def __init__(self, root: Root, folder: str, partition: str, *, grace_seconds: float, where: str) -> None:
        self.root, self.folder, self.partition, self.where = root, folder, partition, where
        self.offset = 0
        self.stop: int | None = None
        self.key, self.byte = "", 0
        self.listing = PartitionListing(root, folder, grace_seconds=grace_seconds, where=where)
        self._appender = root.appender
        self._only: Filter | None = None
        self._by_commit = False
        self._skip: Callable[[Segment], bool] | None = None
        self._known_boundary = 0  # an offset at which a commit ended

    def seek(self, offset: int, *, stop: int | None = None) -> None:
        """Read from an offset on, -1 for the start of the log, and up to `stop`."""
        self.offset, self.stop, self.key, self.byte = offset, stop, "", 0

    def resume(self, key: str, byte: int, offset: int, *, boundary: int) -> None:
        """Read on from where a partition is known to have ended.

        Args:
            key: The newest segment, or empty to list first.
            byte: Where it ended.
            offset: The next offset.
            boundary: An offset at which a commit ended.
        """
        self.key, self.byte, self.offset, self._known_boundary = key, byte, offset, boundary

    @property
    def bounds(self) -> Bounds:
        """The partition's bounds, as of the last listing."""
        return self.listing.bounds

    def list_segments(self, *, near: int = 0) -> list[Segment]:
        """List again; see `PartitionListing.list_segments`."""
        return self.listing.list_segments(near=near, stop=self.stop, boundary=self._known_boundary)

    def end(self, listed: Sequence[Segment] | None = None) -> int:
        """Return the partition's next offset, reading no more than its last segment.

        Args:
            listed: What `list_segments` returned just now.

        Raises:
            CorruptSegmentError: That segment is damaged.
            BackendUnavailableError: Every listing took longer than it may be trusted.
        """
        for _ in range(RELISTINGS_MAX):
            if listed is None:
                newest = None if self.root.segments_grow else self.listing.newest_segment()
                listed = self.list_segments() if newest is None else [newest]
            if not listed:
                return self.bounds.start
            last = listed[-1]
            if last.next is not None:
                return last.next
            self.key, self.byte, self.offset = last.key, 0, last.first
            try:
                for _ in self._live(newest=self.may_grow(last.key), want=self._want(last)):
                    pass
            except (_OldListingError, NotFoundError):
                if not self.listing.is_stale():
                    raise
                listed = None
            else:
                return self.offset
        raise self.listing.too_slow()

    # -- reading -------------------------------------------------------------------------------------------------------

    def raw_batches(
        self,
        only: Filter | None = None,
        *,
        by_commit: bool = False,
        skip: Callable[[Segment], bool] | None = None,
    ) -> Iterator[RawBatch]:
        """Yield all events from `offset` on that are there now; call it again for what has come since.

        The first raw_batch may begin before `offset`.

        Args:
            only: Raw batches that surely hold no event that passes may come without data.
            by_commit: Read compacted segments commit by commit and check each, instead of by their blocks.
            skip: Asked of each compacted segment; those for which it returns True are passed over unread.

        Raises:
            OffsetOutOfRangeError: The partition does not reach back, or not forward, to `offset`.
            CorruptSegmentError: A segment is damaged, or one is missing.
        """
        wanted = self.offset
        relisted_at, relisted = -1, 0
        yielded = 0  # after another listing, a segment that was merged with those before it may begin before this
        self._only, self._by_commit, self._skip = only, by_commit, skip
        while True:
            listing = not self.key or self.listing.is_stale()
            try:
                for raw_batch in self._listed(wanted) if listing else self._newer():
                    yield raw_batch if raw_batch.first >= yielded else starting_at(raw_batch, yielded)
                    yielded = raw_batch.first + raw_batch.events
            except _OldListingError:
                wanted, self.key = self._read_upto(wanted), ""
            except NotFoundError:
                # Compacted and removed since we listed. A new listing shows its replacement, which may have been merged
                # with others and removed as well.
                wanted = self._read_upto(wanted)
                relisted = relisted + 1 if wanted == relisted_at else 1
                if relisted > RELISTINGS_MAX:
                    raise
                relisted_at, self.key = wanted, ""
            else:
                return

    def _read_upto(self, wanted: int) -> int:
        """Return where to resume; still -1 while nothing was read after the start of the log, which may move."""
        return max(wanted, self.offset) if wanted >= 0 or self.offset > self.bounds.start else wanted

    def _listed(self, wanted: int) -> Iterator[RawBatch]:
        """List, then read from the segment that holds the offset `wanted` on."""
        listed = self.list_segments(near=wanted)
        if wanted < 0:
            wanted = self.bounds.start
        if wanted < self.bounds.start:
            raise before_the_start(self.where, self.partition, wanted, start=self.bounds.start)
        todo = [
            segment
            for segment, following in zip_longest(listed, listed[1:])
            if _end(segment, following) > wanted and (self.stop is None or segment.first < self.stop)
        ]
        end = listed[-1].next if listed else self.listing.first
        if not todo and end is not None:
            self._go_to(end)
            self.check_reaches(wanted)
            return
        self.key, self.byte, self.offset = "", 0, todo[0].first  # all at once, as anything that follows may fail
        growing = False
        for segment, data in _fetched(self.root, todo):
            if segment.first > self.offset or (segment.next is None and segment.first != self.offset):
                why = f"it ends before {segment.first}, where the next begins"
                raise corrupt_segment(self.where, self.key, self.byte, why, offset=self.offset)
            if self.listing.is_stale():
                raise _OldListingError
            growing = segment is todo[-1] and self.may_grow(segment.key)
            known, self.offset = self.offset, segment.first  # two compactions may overlap
            self.key, self.byte = segment.key, 0
            if segment.next is not None and self._skip is not None and self._skip(segment):
                self.offset = segment.next
                continue
            inside = (
                self._compacted(segment, max(wanted, known))
                if segment.next is not None
                else self._live(newest=growing, data=data, want=self._want(segment))
            )
            for raw_batch in inside:
                if raw_batch.first + raw_batch.events > max(wanted, known):
                    yield starting_at(raw_batch, known)
            if segment.next is not None and segment.next != self.offset:
                why = f"it ends at offset {self.offset}, not at {segment.next}"
                raise corrupt_segment(self.where, segment.key, self.byte, why, offset=self.offset)
        self.check_reaches(wanted)
        if not growing:  # also when its writer closed it and died before it began the next one
            self._go_to(self.offset)

    def _newer(self) -> Iterator[RawBatch]:
        """Read what was committed after what was read so far."""
        while True:
            # Asked before reading: then what is read of a sealed segment is all of it (I8).
            growing = self.may_grow(self.key)
            try:
                yield from self._live(newest=growing)
            except NotFoundError:
                if self.byte:
                    raise
                return  # the next name is not there yet
            if growing:
                return
            self._go_to(self.offset)

    def may_grow(self, key: str) -> bool:
        """Return True if more may be appended to a segment."""
        return self._appender is not None and key.endswith(".jsonl") and not self._appender.is_sealed(key)

    def _want(self, segment: Segment) -> int:
        """Return how many bytes of a live segment to ask for: an object of an object store is one commit."""
        return READ_BYTES if self.root.segments_grow else segment.size + 1

    def _go_to(self, offset: int) -> None:
        """Stand at the beginning of the segment that will begin at an offset."""
        self.key, self.byte, self.offset = self.folder + seg.segment_name(offset), 0, offset

    def _live(self, *, newest: bool, data: bytes | None = None, want: int = READ_BYTES) -> Iterator[RawBatch]:
        """Read a live segment from `byte` on; its newest bytes are made durable before they are yielded.

        Args:
            newest: Whether it may still grow, and so end in a torn write.
            data: All of it, if it was fetched already.
            want: How many bytes to ask for at a time.
        """
        while True:
            if data is None:
                data = self.root.backend.get(self.key, self.byte, self.byte + want).data
                complete = len(data) < want
            else:
                complete = True
            if (
                self.listing.is_stale()
            ):  # asked after reading: while we waited, the name may have become another's (I18)
                raise _OldListingError
            found = seg.scan(data, at=self.byte, complete=complete)
            if found.rest in ("torn", "corrupt") or (found.rest and complete and not newest):
                data, found = self._look_again(newest=newest)
                complete = True
            if found.spans:
                if newest and self._appender is not None:
                    # A power cut must not take back an event that a consumer has acted on (I13).
                    self._appender.sync(self.key)
                yield self._raw_batch(data, found)
            elif not complete:
                want *= 2  # a commit that is larger than what was read
            if complete:
                return
            data = None

    def _look_again(self, *, newest: bool) -> tuple[bytes, seg.Scan]:
        """Read the rest of a segment again while nobody can append to it; only then is it called damaged (I9)."""
        appender = self._appender
        with appender.lock(self.folder, shared=True) if appender is not None else contextlib.nullcontext():
            data = self.root.backend.get(self.key, self.byte).data
        found = seg.scan(data, at=self.byte)
        if found.rest == "corrupt" or (found.rest and not newest):
            at = self.byte + found.end
            offset = self.offset + sum(span.events for span in found.spans)
            why = f"no whole commit begins here, where offset {offset} should"
            raise corrupt_segment(self.where, self.key, at, why, offset=offset)
        return data, found

    def _raw_batch(self, data: bytes, found: seg.Scan) -> RawBatch:
        events = sum(span.events for span in found.spans)
        raw_batch = RawBatch(self.offset, events, data, found.end, self.key, self.byte, found.spans)
        self.offset += events
        self._known_boundary = self.offset
        self.byte += found.end
        return raw_batch

    def open_compacted(self, segment: Segment) -> CompactedSegment | None:
        """Return a compacted segment by its index; None if it has none.

        Raises:
            NotFoundError: It is gone.
            CorruptSegmentError: Its index is damaged.
        """
        try:
            return self.root.compacted.get(
                (segment.key, segment.size), lambda: compacted_reading.open_segment(self.root, segment)
            )
        except DamageError as err:
            raise damaged(self.where, err, offset=self.offset) from err

    def _compacted(self, segment: Segment, wanted: int) -> Iterator[RawBatch]:
        """Read a compacted segment: from the block on that holds an offset, or all its commits."""
        opened = None if self._by_commit else self.open_compacted(segment)
        try:
            if opened is None:
                found = compacted_reading.read_commits(self.root, segment)
            else:
                begin = max(bisect_right(opened.blocks, wanted, key=lambda block: block.first) - 1, 0)
                self.offset = opened.blocks[begin].first
                found = compacted_reading.read_blocks(self.root, segment, opened, begin, self._only)
            for raw_batch in found:
                self.offset = raw_batch.first + raw_batch.events
                if opened is None:
                    self._known_boundary = self.offset
                    self.byte = raw_batch.byte + raw_batch.end
                else:
                    self.byte = raw_batch.byte
                yield raw_batch
        except DamageError as err:
            raise damaged(self.where, err, offset=self.offset) from err

    def check_compacted(self, segment: Segment) -> None:
        """Read a compacted segment whole and check every commit and its index, whether it counts or not.

        Raises:
            NotFoundError: It is gone.
            CorruptSegmentError: It is damaged.
        """
        self.offset = segment.first
        try:
            compacted_reading.check_segment(self.root, segment)
        except DamageError as err:
            raise damaged(self.where, err, offset=self.offset) from err

    def check_reaches(self, wanted: int) -> None:
        """Check, once all was read, that the partition reaches an offset.

        Raises:
            OffsetOutOfRangeError: It does not.
        """
        if self.offset < wanted:
            raise beyond_the_end(self.where, self.partition, wanted, start=self.bounds.start, end=self.offset)


def _fetched(root: Root, todo: list[Segment]) -> Iterator[tuple[Segment, bytes | None]]:
    """Yield segments in order; on an object store those of one commit with their content, fetched side by side."""
    if not root.requests_cost or len(todo) == 1:
        for segment in todo:
            yield segment, None
        return
    get = root.backend.get
    ahead: deque[tuple[Segment, Future[bytes] | None]] = deque()
    waiting_bytes = 0
    rest = deque(todo)
    try:
        while True:
            while rest and len(ahead) < _REQUESTS_AHEAD and waiting_bytes < _BYTES_AHEAD:
                segment = rest.popleft()
                large = segment.next is not None or segment.size > READ_BYTES
                ahead.append((segment, None if large else root.executor.submit(lambda key: get(key).data, segment.key)))
                waiting_bytes += segment.size
            if not ahead:
                return
            segment, future = ahead.popleft()
            waiting_bytes -= segment.size
            yield segment, future.result() if future else None
    finally:
        for _, future in ahead:
            if future:
                future.cancel()


def _end(segment: Segment, following: Segment | None) -> float:
    """Return the offset after a segment, infinite for the last live one."""
    if segment.next is not None:
        return segment.next
    return following.first if following is not None else float("inf")
