"""A partition as it is read: its segments listed once, then its commits in order, from an offset to the end.

Writers use it to catch up, readers and tails to read. It hands out only what is whole, checked and durable.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections import deque
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from bucketlog.ahead import map_ahead
from bucketlog.clock import Staleness
from bucketlog.errors import CorruptSegmentError, NotFoundError, OffsetOutOfRangeError
from bucketlog.format import segments as seg
from bucketlog.format.compacted import CompactedSegment, DamageError
from bucketlog.log.bounds import Bounds, read_bounds
from bucketlog.log.listing import live_before, newest_live, segments_after, skim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from bucketlog.backend import Backend
    from bucketlog.format.compacted import Block
    from bucketlog.format.filters import Filter
    from bucketlog.format.segments import Segment, Span
    from bucketlog.storage.root import Root

READ_BYTES = 4 * 1024 * 1024  # of a live segment at a time
_REQUESTS_AHEAD = 16
_BYTES_AHEAD = 16 * 1024 * 1024
_UNPACKED_BYTES = 2 * 1024 * 1024  # of a compacted segment at a time
_UNPACKED_AHEAD = 3
_RELISTINGS_MAX = 8  # at one offset: what took a segment's place may have been merged with others and removed as well
_TORN_LISTINGS_MAX = 3


class Region(NamedTuple):
    """Whole, checked lines as they stand one after the other: `events` of them, from the offset `first`.

    They are `data` up to `end`; they were read from `byte` of the segment `key`. Its spans are commits; in a compacted
    segment each is a block, which may hold several commits or part of one, unless commits were asked for. Without
    data, an index told that none of the events is wanted.
    """

    first: int
    events: int
    data: bytes
    end: int
    key: str
    byte: int
    spans: list[Span]


class _OldListingError(Exception):
    """The reader was kept waiting for so long that the names it listed may be somebody else's now."""


class PartitionReader:
    """Reads one partition forward. Not safe for several threads.

    Attributes:
        offset: The next event to be read, -1 for the start of the log; after `regions`, where the partition ended.
        stop: An offset from which on nothing is wanted: segments behind it are not fetched. None for no such.
    """

    def __init__(self, root: Root, folder: str, partition: str, *, grace_seconds: float, where: str) -> None:
        self.root, self.folder, self.partition, self.where = root, folder, partition, where
        self.bounds = Bounds()
        self.offset = 0
        self.key = ""  # the newest segment that was read, and how far
        self.byte = 0
        self.stop: int | None = None
        self.age: Staleness | None = None  # of the listing
        self._grace_seconds = grace_seconds
        self.skip: Callable[[Segment], bool] | None = None  # tells whether to pass over a compacted segment unread
        self._only: Filter | None = None
        self._by_commit = False
        self._begin = 0  # where the last listing began
        self._known_boundary = 0  # an offset where one commit ended

    # -- listing -------------------------------------------------------------------------------------------------------

    def list_segments(self, *, near: int = 0) -> list[Segment]:
        """List the partition's segments anew and return those that count, in order.

        Args:
            near: An offset that is to be read. Segments that end before it may be left out.

        Raises:
            CorruptCheckpointError: `bounds.json` cannot be read.
            CorruptSegmentError: A segment is missing.
        """
        torn = 0
        while True:
            self.age = Staleness(self.root.clock)
            self.bounds = read_bounds(self.root.backend, self.folder, where=self.where)
            self._begin = self._first_to_list(near)
            listed = self._chained(skim)
            if not self._is_whole(listed):
                # What was passed over may lead on, where compacted segments overlap.
                listed = self._chained(segments_after)
            if self.is_stale():
                continue  # as old as that, names and bounds do not belong together
            if self._is_whole(listed):
                return listed
            torn += 1  # what was listed may have been replaced by what lies before it, meanwhile
            if torn == _TORN_LISTINGS_MAX:
                end = (listed[-1].next if listed else None) or self._begin
                msg = (
                    f"read {self.where}: no segment holds offset {end}, though the log is known to reach to "
                    f"{self.bounds.floor}; stop and repair it from a copy"
                )
                raise CorruptSegmentError(msg, key=self.folder, offset=end)

    def _chained(self, listing: Callable[[Backend, str, int], Iterator[Segment]]) -> list[Segment]:
        found = []
        # What contains the start may begin before it.
        lowest = self._begin if self._begin > self.bounds.start else 0
        for one in listing(self.root.backend, self.folder, lowest):
            found.append(one)
            if self.stop is not None and one.first > self.stop:
                break
        return seg.chain(found, start=self._begin, floor=self.bounds.floor)

    def _is_whole(self, listed: list[Segment]) -> bool:
        """Tell whether a listing leads to the floor, below which all is compacted and nothing is missing."""
        wanted = self.bounds.floor if self.stop is None else min(self.bounds.floor, self.stop)
        return (_end(listed[-1], None) if listed else self._begin) >= wanted

    def _first_to_list(self, near: int) -> int:
        """Return an offset at or before `near` where a segment begins, or would."""
        start, floor = self.bounds.start, self.bounds.floor
        if self.root.appender is not None or near < floor or near <= start:
            return min(start, floor)
        # Where a commit is a segment, what we know to be one's end is where the next one begins.
        if near == self._known_boundary:
            return near
        return live_before(self.root.backend, self.folder, near, floor)

    def is_stale(self) -> bool:
        """Tell whether the listing is too old to be trusted: names may have been removed and left to strays."""
        return self.age is None or self.age.seconds() >= self._grace_seconds / 2

    def seek(self, offset: int) -> None:
        """Go on at an offset. `regions` will say if the partition has none such."""
        self.offset, self.key, self.byte = offset, "", 0

    def end(self, listed: Sequence[Segment] | None = None) -> int:
        """Return the partition's next offset, reading no more than its last segment.

        Args:
            listed: What `list_segments` returned just now.

        Raises:
            CorruptSegmentError: That segment is damaged.
        """
        if listed is None:
            listed = self._newest_segment() or self.list_segments()
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
            if not self.is_stale():
                raise
            return self.end()
        return self.offset

    def _newest_segment(self) -> list[Segment]:
        """Find the newest live segment without listing all; none where that takes more than one segment to tell."""
        if self.root.appender is not None:
            return []
        while True:
            self.age = Staleness(self.root.clock)
            self.bounds = read_bounds(self.root.backend, self.folder, where=self.where)
            found = newest_live(self.root.backend, self.folder, self.bounds.floor)
            if not self.is_stale():
                return [] if found is None else [found]

    # -- reading -------------------------------------------------------------------------------------------------------

    def regions(self, only: Filter | None = None, *, by_commit: bool = False) -> Iterator[Region]:
        """Yield all events from `offset` on that are there now; call it again for what has come since.

        The first region may begin before `offset`.

        Args:
            only: Regions that surely hold no event that passes may come without data.
            by_commit: Read compacted segments commit by commit and check each, instead of by their blocks.

        Raises:
            OffsetOutOfRangeError: The partition does not reach back, or not forward, to `offset`.
            CorruptSegmentError: A segment is damaged, or one is missing.
        """
        wanted = self.offset
        relisted_at, relisted = -1, 0
        handed_out = 0  # listed anew on the way, a segment that was merged with those before it may begin before this
        self._only, self._by_commit = only, by_commit
        while True:
            listing = not self.key or self.is_stale()
            try:
                for region in self._listed(wanted) if listing else self._newer():
                    yield region if region.first >= handed_out else starting_at(region, handed_out)
                    handed_out = region.first + region.events
            except _OldListingError:
                wanted, self.key = self._read_upto(wanted), ""
            except NotFoundError:
                # Compacted and removed since we listed; a new listing shows what took its place.
                wanted = self._read_upto(wanted)
                relisted = relisted + 1 if wanted == relisted_at else 1
                if relisted > _RELISTINGS_MAX:
                    raise
                relisted_at, self.key = wanted, ""
            else:
                return

    def _read_upto(self, wanted: int) -> int:
        """Return where to go on; still -1 while nothing was read behind the start of the log, which may move."""
        return max(wanted, self.offset) if wanted >= 0 or self.offset > self.bounds.start else wanted

    def _listed(self, wanted: int) -> Iterator[Region]:
        """List, then read from the segment that holds the offset `wanted` on."""
        listed = self.list_segments(near=wanted)
        if wanted < 0:
            wanted = self.bounds.start
        if wanted < self.bounds.start:
            raise self.out_of_range(wanted, None)
        todo = [
            one
            for one, following in zip_longest(listed, listed[1:])
            if _end(one, following) > wanted and (self.stop is None or one.first < self.stop)
        ]
        end = listed[-1].next if listed else self._begin
        if not todo and end is not None:
            self._go_to(end)
            self.check_reaches(wanted)
            return
        self.key, self.byte, self.offset = "", 0, todo[0].first  # all at once: what follows may fail anywhere
        growing = False
        for one, data in self._fetched(todo):
            if one.first > self.offset or (one.next is None and one.first != self.offset):
                raise self._corrupt(self.key, self.byte, f"it ends before {one.first}, where the next begins")
            if self.is_stale():
                raise _OldListingError
            growing = one is todo[-1] and self.may_grow(one.key)
            behind, self.offset = self.offset, one.first  # two compactions may overlap
            self.key, self.byte = one.key, 0
            if one.next is not None and self.skip is not None and self.skip(one):
                self.offset = one.next
                continue
            inside = (
                self._compacted(one, max(wanted, behind))
                if one.next is not None
                else self._live(newest=growing, data=data, want=self._want(one))
            )
            for region in inside:
                if region.first + region.events > max(wanted, behind):
                    yield starting_at(region, behind)
            if one.next is not None and one.next != self.offset:
                raise self._corrupt(one.key, self.byte, f"it ends at offset {self.offset}, not at {one.next}")
        self.check_reaches(wanted)
        if not growing:  # also when its writer closed it and died before it began the next one
            self._go_to(self.offset)

    def _newer(self) -> Iterator[Region]:
        """Read what was committed behind what was read so far."""
        while True:
            # Asked before reading: then what is read of a sealed segment is all of it.
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
        """Tell whether more may be appended to a segment."""
        return self.root.appender is not None and key.endswith(".jsonl") and not self.root.appender.is_sealed(key)

    def _want(self, one: Segment) -> int:
        """Return how many bytes of a live segment to ask for: an object of an object store is one commit."""
        return READ_BYTES if self.root.appender is not None else one.size + 1

    def wrote(self, offset: int) -> None:
        """Go on behind a commit of our own, of which there is nothing to read."""
        self.offset = self._known_boundary = offset

    def _go_to(self, offset: int) -> None:
        """Stand in front of the segment that will begin at an offset."""
        self.key, self.byte, self.offset = self.folder + seg.segment_name(offset), 0, offset

    def _live(self, *, newest: bool, data: bytes | None = None, want: int = READ_BYTES) -> Iterator[Region]:
        """Read a live segment from `byte` on; its newest bytes are made durable before they are handed out.

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
            if self.is_stale():  # asked when it is read: while we waited the name may have become another's
                raise _OldListingError
            found = seg.scan(data, at=self.byte, complete=complete)
            if found.rest in ("torn", "corrupt") or (found.rest and complete and not newest):
                data, found = self._look_again(newest=newest)
                complete = True
            if found.spans:
                if newest and self.root.appender is not None:
                    # A power cut must not take back an event that a consumer has acted on.
                    self.root.appender.sync(self.key)
                yield self._region(data, found)
            elif not complete:
                want *= 2  # a commit that is larger than what was read
            if complete:
                return
            data = None

    def _look_again(self, *, newest: bool) -> tuple[bytes, seg.Scan]:
        """Read all the rest of a segment while nobody appends to it, and say whether it is damaged."""
        appender = self.root.appender
        with appender.lock(self.folder, shared=True) if appender is not None else contextlib.nullcontext():
            data = self.root.backend.get(self.key, self.byte).data
        found = seg.scan(data, at=self.byte)
        if found.rest == "corrupt" or (found.rest and not newest):
            at = self.byte + found.end
            offset = self.offset + sum(span.events for span in found.spans)
            raise self._corrupt(
                self.key, at, f"no whole commit begins here, where offset {offset} should", offset=offset
            )
        return data, found

    def _region(self, data: bytes, found: seg.Scan) -> Region:
        events = sum(span.events for span in found.spans)
        region = Region(self.offset, events, data, found.end, self.key, self.byte, found.spans)
        self.offset += events
        self._known_boundary = self.offset
        self.byte += found.end
        return region

    def open_compacted(self, one: Segment) -> CompactedSegment | None:
        """Return a compacted segment by its index; None when it has none.

        Raises:
            NotFoundError: It is gone.
            CorruptSegmentError: Its index is damaged.
        """
        return self.root.compacted.get((one.key, one.size), lambda: self._open_anew(one))

    def _open_anew(self, one: Segment) -> CompactedSegment | None:
        def read(start: int, end: int) -> bytes:
            return self.root.backend.get(one.key, start, end).data

        try:
            return CompactedSegment.open(one.key, read, one.size)
        except DamageError as err:
            raise self.damaged(err) from err

    def damaged(self, err: DamageError) -> CorruptSegmentError:
        """Return the error for a compacted segment that is not what was written."""
        return self._corrupt(err.key, err.byte, err.why)

    def _compacted(self, one: Segment, wanted: int) -> Iterator[Region]:
        """Read a compacted segment from the block on that holds an offset."""
        opened = None if self._by_commit else self.open_compacted(one)
        if opened is None:
            yield from self._compacted_by_commit(one)
            return
        try:
            yield from self._blocks(one, opened, wanted)
        except DamageError as err:
            raise self.damaged(err) from err

    def _blocks(self, one: Segment, opened: CompactedSegment, wanted: int) -> Iterator[Region]:
        blocks = opened.blocks
        begin = max(bisect_right(blocks, wanted, key=lambda block: block.first) - 1, 0)
        matches = None if self._only is None or self._only.is_open() else opened.may_match(self._only)
        ahead = map_ahead(
            self.root.executor,
            lambda run: (run, opened.unpack(range(*run)) if matches is None or matches[run[0]] else None),
            _runs(blocks, begin, matches),
            ahead=_UNPACKED_AHEAD,
        )
        self.offset = blocks[begin].first
        for (first, stop), unpacked in ahead:
            if unpacked is None:
                events = sum(block.events for block in blocks[first:stop])
                yield self._region_of(one, b"", events, blocks[first].start)
                continue
            for block, lines in zip(blocks[first:stop], unpacked, strict=True):
                yield self._region_of(one, lines, block.events, block.start)

    def _region_of(self, one: Segment, lines: bytes, events: int, byte: int) -> Region:
        spans = [seg.Span(0, len(lines), events, 0, "")] if lines else []
        region = Region(self.offset, events, lines, len(lines), one.key, byte, spans)
        self.offset += events
        self.byte = byte
        return region

    def check_compacted(self, one: Segment) -> None:
        """Read a compacted segment whole and check every commit and its index, whether it counts or not.

        Raises:
            NotFoundError: It is gone.
            CorruptSegmentError: It is damaged.
        """
        self.key, self.byte, self.offset = one.key, 0, one.first
        for _ in self._compacted_by_commit(one):
            pass
        if self.offset != one.next:
            raise self._corrupt(one.key, self.byte, f"it ends at offset {self.offset}, not at {one.next}")
        opened = self._open_anew(one)
        if opened is not None:
            try:
                opened.check()
            except DamageError as err:
                raise self.damaged(err) from err
            if (opened.summary.first, opened.summary.next) != (one.first, one.next):
                raise self._corrupt(one.key, 0, f"its index is of {opened.summary.first} to {opened.summary.next}")

    def _compacted_by_commit(self, one: Segment) -> Iterator[Region]:
        """Read a compacted segment as what it unpacks to: the same commits, in zstd frames before skippable ones."""
        import zstandard  # a log without compacted segments does without

        raw = self.root.backend.get(one.key).data
        stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        carried = b""
        while True:
            try:
                piece = stream.read(READ_BYTES)
            except zstandard.ZstdError as err:
                raise self._corrupt(
                    one.key, self.byte + len(carried), f"it does not unpack from here on: {err}"
                ) from err
            data = carried + piece
            found = seg.scan(data, at=self.byte, complete=not piece)
            if found.rest and (found.rest != "partial" or not piece):
                raise self._corrupt(one.key, self.byte + found.end, "what it unpacks to holds no whole commit here")
            if found.spans:
                yield self._region(data, found)
            carried = data[found.end :]
            if not piece:
                return

    def _fetched(self, todo: list[Segment]) -> Iterator[tuple[Segment, bytes | None]]:
        """Yield segments in order, those of an object store with their content, read ahead in parallel."""
        if self.root.appender is not None or len(todo) == 1:
            for one in todo:
                yield one, None
            return
        get = self.root.backend.get
        ahead: deque[tuple[Segment, Future[bytes] | None]] = deque()
        waiting_bytes = 0
        rest = deque(todo)
        try:
            while True:
                while rest and len(ahead) < _REQUESTS_AHEAD and waiting_bytes < _BYTES_AHEAD:
                    one = rest.popleft()
                    large = one.next is not None or one.size > READ_BYTES
                    ahead.append(
                        (one, None if large else self.root.executor.submit(lambda key: get(key).data, one.key))
                    )
                    waiting_bytes += one.size
                if not ahead:
                    return
                one, future = ahead.popleft()
                waiting_bytes -= one.size
                yield one, future.result() if future else None
        finally:
            for _, future in ahead:
                if future:
                    future.cancel()

    def check_reaches(self, wanted: int) -> None:
        """Check, once all was read, that the partition reaches an offset.

        Raises:
            OffsetOutOfRangeError: It does not.
        """
        if self.offset < wanted:
            raise self.out_of_range(wanted, self.offset)

    def out_of_range(self, wanted: int, end: int | None) -> OffsetOutOfRangeError:
        """Return the error for an offset before the start, or, with `end`, beyond it."""
        start = self.bounds.start
        where = f"read {self.where}: offset {wanted} is"
        if end is None:
            msg = f"{where} before the start of the log, which was moved to {start}; begin there"
        else:
            msg = (
                f"{where} beyond the end of the log, which begins at {start} and whose next offset is {end}; "
                "was it restored from a copy?"
            )
        return OffsetOutOfRangeError(
            msg, partition=self.partition, offset=wanted, start=start, next_offset=-1 if end is None else end
        )

    def not_events(self, region: Region, why: Exception) -> CorruptSegmentError:
        """Return the error for a region whose checksums are right while its lines are not the events it promises."""
        return self._corrupt(
            region.key,
            region.byte,
            f"its checksums are right, but it holds no events: {why}; was it written by another program?",
            offset=region.first,
        )

    def _corrupt(self, key: str, byte: int, why: str, *, offset: int | None = None) -> CorruptSegmentError:
        msg = f"read {self.where}: {key} is damaged at byte {byte}: {why}; stop and repair it from a copy"
        return CorruptSegmentError(msg, key=key, byte=byte, offset=self.offset if offset is None else offset)


def _runs(blocks: list[Block], begin: int, matches: Sequence[bool] | None) -> Iterator[tuple[int, int]]:
    """Part blocks into runs of a bounded size that are to be read or passed over alike."""
    first, size = begin, 0
    for place in range(begin, len(blocks)):
        wanted = matches is None or matches[place]
        if first < place and (
            (wanted and size >= _UNPACKED_BYTES) or (matches is not None and matches[first] != matches[place])
        ):
            yield first, place
            first, size = place, 0
        size += blocks[place].size
    if first < len(blocks):
        yield first, len(blocks)


def starting_at(region: Region, offset: int) -> Region:
    """Leave out the lines before an offset."""
    if region.first >= offset or not region.data:
        return region
    here, count = region.first, 0
    while here + region.spans[count].events <= offset:
        here += region.spans[count].events
        count += 1
    first = region.spans[count]
    cut = first.start
    for _ in range(offset - here):
        cut = region.data.index(b"\n", cut) + 1
    kept = [first._replace(start=cut, events=first.events - (offset - here)), *region.spans[count + 1 :]]
    spans = [span._replace(start=span.start - cut, end=span.end - cut) for span in kept]
    events = region.first + region.events - offset
    return Region(offset, events, region.data[cut:], region.end - cut, region.key, region.byte, spans)


def _end(one: Segment, following: Segment | None) -> float:
    """Return the offset behind a segment, infinite for the last live one."""
    if one.next is not None:
        return one.next
    return following.first if following is not None else float("inf")
