"""A partition as it is read: its segments listed once, then its commits in order, from an offset to the end.

Writers use it to catch up, readers and tails to read. It hands out only what is whole, checked and durable.
"""

from __future__ import annotations

import contextlib
from collections import deque
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import orjson

from bucketlog import segments as seg
from bucketlog.errors import CorruptCheckpointError, CorruptSegmentError, NotFoundError, OffsetOutOfRangeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from bucketlog.root import Root
    from bucketlog.segments import Segment, Span

READ_BYTES = 4 * 1024 * 1024  # of a live segment at a time
_REQUESTS_AHEAD = 16
_BYTES_AHEAD = 16 * 1024 * 1024


class Bounds(NamedTuple):
    """Where a partition begins, and the floor below which no live segment's name counts."""

    start: int = 0
    floor: int = 0


class Region(NamedTuple):
    """Whole, checked commits as they stand one after the other: `events` lines, from the offset `first`.

    They are `data` up to `end`; they were read from `byte` of the segment `key`.
    """

    first: int
    events: int
    data: bytes
    end: int
    key: str
    byte: int
    spans: list[Span]


class Age:
    """How long ago something was seen, by the clock that says the longest.

    The wall clock may be set, the other stands still while a virtual machine is paused; a step back counts as old.
    """

    def __init__(self, root: Root) -> None:
        self._clock = root.clock
        self._elapsed, self._wall = root.clock.elapsed_seconds(), root.clock.now()

    def seconds(self) -> float:
        """Return the age; infinite when a clock went backwards."""
        elapsed = self._clock.elapsed_seconds() - self._elapsed
        wall = (self._clock.now() - self._wall).total_seconds()
        return max(elapsed, wall) if min(elapsed, wall) >= 0 else float("inf")


class _OldListingError(Exception):
    """The reader was kept waiting for so long that the names it listed may be somebody else's now."""


class PartitionReader:
    """Reads one partition forward. Not safe for several threads.

    Attributes:
        offset: The next event to be read, -1 for the start of the log; after `regions`, where the partition ended.
    """

    def __init__(self, root: Root, folder: str, partition: str, *, grace_seconds: float, where: str) -> None:
        self.root, self.folder, self.partition, self.where = root, folder, partition, where
        self.bounds = Bounds()
        self.offset = 0
        self.key = ""  # the newest segment that was read, and how far
        self.byte = 0
        self.age: Age | None = None  # of the listing
        self._grace_seconds = grace_seconds
        self._begin = 0  # where the last listing began
        self._known_boundary = 0  # an offset where one commit ended

    # -- listing -------------------------------------------------------------------------------------------------------

    def list_segments(self, *, since: int = 0) -> list[Segment]:
        """List the partition's segments anew and return those that count, in order.

        Args:
            since: An offset where a segment is known to begin, or would: those before it are left out, unless it has
                come to lie below the floor.

        Raises:
            CorruptCheckpointError: `bounds.json` cannot be read.
        """
        age = Age(self.root)
        self.bounds = self._read_bounds()
        first = since if since >= self.bounds.floor else self.bounds.start
        # What contains the start may begin before it.
        after = self.folder + seg.segment_name(first - 1) if first > self.bounds.start else ""
        found = []
        for entry in self.root.backend.list(self.folder, start_after=after):
            one = seg.parse_segment(self.folder, entry.key.removeprefix(self.folder), entry.size)
            if one is not None:
                found.append(one)
        self._begin = first
        self.age = age
        return seg.chain(found, start=first, floor=self.bounds.floor)

    def is_stale(self) -> bool:
        """Tell whether the listing is too old to be trusted: names may have been removed and left to strays."""
        return self.age is None or self.age.seconds() >= self._grace_seconds / 2

    def _read_bounds(self) -> Bounds:
        key = self.folder + "bounds.json"
        try:
            data = self.root.backend.get(key).data
        except NotFoundError:
            return Bounds()
        try:
            value = orjson.loads(data)
            bounds = Bounds(int(value["start"]), int(value["floor"]))
            if min(bounds) < 0:
                raise ValueError(bounds)  # noqa: TRY301  (as damaged as any other)
        except (ValueError, KeyError, TypeError) as err:
            msg = f"read {self.where}: {key} is damaged; repair it from a copy"
            raise CorruptCheckpointError(msg, key=key) from err
        return bounds

    def seek(self, offset: int) -> None:
        """Go on at an offset. `regions` will say if the partition has none such."""
        self.offset, self.key, self.byte = offset, "", 0

    def end(self) -> int:
        """Return the partition's next offset, reading no more than its last segment.

        Raises:
            CorruptSegmentError: That segment is damaged.
        """
        listed = self.list_segments()
        if not listed:
            return self.bounds.start
        last = listed[-1]
        if last.next is not None:
            return last.next
        self.key, self.byte, self.offset = last.key, 0, last.first
        for _ in self._live(newest=self._may_grow(last.key), want=self._want(last)):
            pass
        return self.offset

    # -- reading -------------------------------------------------------------------------------------------------------

    def regions(self) -> Iterator[Region]:
        """Yield all commits from `offset` on that are there now; call it again for what has come since.

        Commits are read whole, so the first region may begin before `offset`.

        Raises:
            OffsetOutOfRangeError: The partition does not reach back, or not forward, to `offset`.
            CorruptSegmentError: A segment is damaged, or one is missing.
        """
        wanted = self.offset
        relisted_at = -1
        while True:
            listing = not self.key or self.is_stale()
            try:
                yield from self._listed(wanted) if listing else self._newer()
            except _OldListingError:
                wanted, self.key = max(wanted, self.offset), ""
            except NotFoundError:
                # Compacted and removed since we listed; a new listing shows what took its place.
                wanted = max(wanted, self.offset)
                if wanted == relisted_at:
                    raise
                relisted_at, self.key = wanted, ""
            else:
                return

    def _listed(self, wanted: int) -> Iterator[Region]:
        """List, then read from the segment that holds the offset `wanted` on."""
        # Where a commit is a segment, what we know to be one's end is where the next one begins.
        listed = self.list_segments(
            since=wanted if self.root.appender is None and wanted == self._known_boundary else 0
        )
        if wanted < 0:
            wanted = self.bounds.start
        if wanted < self.bounds.start:
            raise self._out_of_range(wanted, None)
        todo = [one for one, following in zip_longest(listed, listed[1:]) if _end(one, following) > wanted]
        end = listed[-1].next if listed else self._begin
        if not todo and end is not None:
            self._go_to(end)
            self._check_reaches(wanted)
            return
        self.key, self.byte, self.offset = "", 0, todo[0].first  # all at once: what follows may fail anywhere
        growing = False
        for one, data in self._fetched(todo):
            if one.first > self.offset or (one.next is None and one.first != self.offset):
                raise self._corrupt(self.key, self.byte, f"it ends before {one.first}, where the next begins")
            if self.is_stale():
                raise _OldListingError
            growing = one is todo[-1] and self._may_grow(one.key)
            behind, self.offset = self.offset, one.first  # two compactions may overlap
            self.key, self.byte = one.key, 0
            inside = (
                self._compacted(one)
                if one.next is not None
                else self._live(newest=growing, data=data, want=self._want(one))
            )
            for region in inside:
                if region.first + region.events > max(wanted, behind):
                    yield _from(region, behind)
            if one.next is not None and one.next != self.offset:
                raise self._corrupt(one.key, self.byte, f"it ends at offset {self.offset}, not at {one.next}")
        self._check_reaches(wanted)
        if not growing:  # also when its writer closed it and died before it began the next one
            self._go_to(self.offset)

    def _newer(self) -> Iterator[Region]:
        """Read what was committed behind what was read so far."""
        while True:
            # Asked before reading: then what is read of a sealed segment is all of it.
            growing = self._may_grow(self.key)
            try:
                yield from self._live(newest=growing)
            except NotFoundError:
                if self.byte:
                    raise
                return  # the next name is not there yet
            if growing:
                return
            self._go_to(self.offset)

    def _may_grow(self, key: str) -> bool:
        return self.root.appender is not None and not self.root.appender.is_sealed(key)

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

    def _compacted(self, one: Segment) -> Iterator[Region]:
        """Read a compacted segment: the same commits, in zstd frames between skippable ones."""
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

    def _check_reaches(self, wanted: int) -> None:
        if self.offset < wanted:
            raise self._out_of_range(wanted, self.offset)

    def _out_of_range(self, wanted: int, end: int | None) -> OffsetOutOfRangeError:
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


def _from(region: Region, offset: int) -> Region:
    """Leave out the commits before an offset."""
    here, count = region.first, 0
    while here < offset:
        here += region.spans[count].events
        count += 1
    if not count:
        return region
    cut = region.spans[count].start
    spans = [span._replace(start=span.start - cut, end=span.end - cut) for span in region.spans[count:]]
    events = region.first + region.events - here
    return Region(here, events, region.data[cut:], region.end - cut, region.key, region.byte + cut, spans)


def _end(one: Segment, following: Segment | None) -> float:
    """Return the offset behind a segment, infinite for the last live one."""
    if one.next is not None:
        return one.next
    return following.first if following is not None else float("inf")
