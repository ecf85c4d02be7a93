"""The content of a compacted segment: blocks of lines, an index to find events without unpacking all, a seek table.

The format is described in docs/format.md. Here it maps bytes to bytes; what is merged into a segment, and what becomes
of it, is decided elsewhere.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from isal.isal_zlib import crc32

from bucketlog.format import bloom

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from bucketlog.format.filters import Filter

BLOCK_BYTES = 64 * 1024  # unpacked: most of what is read of a block for one event is not wanted
_LEVEL = 3
_TAIL_BYTES = 96 * 1024  # read at once from the end: the seek table and summary of most segments

_INDEX_MAGIC = 0x184D2A5D
_SEEK_TABLE_MAGIC = 0x184D2A5E
_SEEKABLE_MAGIC = 0x8F92EAB1
_SKIPPABLE = struct.Struct("<II")
_SEEK_ENTRY = struct.Struct("<II")
_SEEK_FOOTER = struct.Struct("<IBI")
_SUMMARY_FOOTER = struct.Struct("<II8s")
_SUMMARY_MAGIC = b"bktlogix"
_BLOCK = struct.Struct("<IIIIqq32s32s")
_FRAME = struct.Struct("=QQ")
_SIZE = struct.Struct("=Q")
_CRC = struct.Struct("<I")
_ID_PREFIX_BYTES = 32  # reaches over the counter of a UUIDv7

_FIELD_BITS = 16  # one false block in a thousand
_ID_BITS = 16
_PAGE_ENTRIES = 512  # of the table of ids; each page has its own CRC-32, as no more than a few are read at a time
_PAGE_BYTES = 8 * _PAGE_ENTRIES + 4
_ID_BYTES = _ID_BITS // 8 + 8  # of the index for an event, if its ids do not ascend
_OVERLAPS_MAX = 3  # when an id lies in the ranges of no more blocks than this, ranges are all that it takes
_HASHES_KEPT = 50_000  # of each kind of text
_SAMPLES = 64  # of the ids, to tell whether they ascend over a segment: ranges of one that is small tell little

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class DamageError(Exception):
    """A compacted segment is not what was written: which, at which byte, and why."""

    def __init__(self, key: str, byte: int, why: str) -> None:
        super().__init__(why)
        self.key, self.byte, self.why = key, byte, why


class Block(NamedTuple):
    """One zstd frame: the lines of `events` events from the offset `first`; its bytes are `[start, end)`.

    Times are in microseconds since 1970. Ids are cut to their first 32 bytes.
    """

    first: int
    events: int
    start: int
    end: int
    size: int
    min_time: int
    max_time: int
    min_id: bytes
    max_id: bytes


class _Ranges(NamedTuple):
    """Blocks in the order of their lowest ids: their places, those ids, and the highest of all ids up to each."""

    places: list[int]
    lows: list[bytes]
    reach: list[bytes]


class _Section(msgspec.Struct, frozen=True):
    """Where a part of the index lies in the file, and its CRC-32."""

    start: int
    size: int
    crc32: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What the index says of the whole segment. Times are in microseconds since 1970."""

    format: str
    first: int
    next: int
    size: int
    blocks: int
    min_time: int
    max_time: int
    min_id: str
    max_id: str
    sections: dict[str, _Section]


class _Keys(msgspec.Struct, gc=False):
    """What of an event is found by the index."""

    id: str
    type: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    source: str | None = None
    subject: str | None = None
    tags: tuple[str, ...] = ()


_keys = msgspec.json.Decoder(_Keys)


def microseconds(time: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


# -- building ----------------------------------------------------------------------------------------------------------


class Builder:
    """Builds a compacted segment of whole commits, given in order.

    Attributes:
        first: The offset of the first event.
        next: The offset behind what was added.
        size: About how many bytes the segment would take now.
    """

    def __init__(self, first: int) -> None:
        import zstandard  # a log that is never compacted does without

        self.next = self.first = first
        self._cut = first  # what lies before is in blocks
        self.size = 0
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
        self._raw_bytes = 0
        self._waiting: list[bytes] = []  # lines that do not fill a block yet
        self._waiting_bytes = 0
        self._packed = bytearray()  # not a list of frames: each would hold on to the room it was compressed into
        self._blocks: list[Block] = []
        self._filters: list[NDArray[np.uint64]] = []
        self._texts = 0  # in the filters
        self._ids: list[NDArray[np.uint64]] = []
        self._low = self._high = ""
        self._samples: list[str] = []  # of the ids, evenly
        self._hashes = _FieldHashes()

    def add(self, commits: bytes, *, events: int) -> None:
        """Add whole commits of so many events.

        Raises:
            ValueError: A line is not an event.
        """
        self.next += events
        self._waiting.append(commits)
        self._waiting_bytes += len(commits)
        if self._waiting_bytes >= BLOCK_BYTES:
            lines = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            start = 0
            while len(lines) - start >= BLOCK_BYTES:
                end = lines.find(b"\n", start + BLOCK_BYTES - 1) + 1
                self._add_block(lines[start:end])
                start = end
            self._waiting = [lines[start:]]
            self._waiting_bytes = len(lines) - start

    def _add_block(self, lines: bytes) -> None:
        try:
            keys = _keys.decode_lines(lines)
        except msgspec.DecodeError as err:
            raise ValueError(str(err)) from err
        frame = self._compressor.compress(lines)
        ids = [one.id for one in keys]
        times = [one.time for one in keys]
        low, high = min(ids), max(ids)
        start = self._blocks[-1].end if self._blocks else 0
        self._blocks.append(
            Block(
                self._cut,
                len(keys),
                start,
                start + len(frame),
                len(lines),
                microseconds(min(times)),
                microseconds(max(times)),
                _prefix(low),
                _prefix(high),
            )
        )
        self._low, self._high = (min(self._low, low), max(self._high, high)) if self._packed else (low, high)
        self._packed += frame
        self._filters.append(self._hashes.of(keys))
        self._ids.append(bloom.hash_texts(ids))
        self._samples += ids[:: len(ids) // _SAMPLES + 1]
        self._cut += len(keys)
        self._raw_bytes += len(lines)
        self._texts += len(self._filters[-1])
        self.size = (
            start
            + len(frame)
            + (_BLOCK.size + _SEEK_ENTRY.size) * len(self._blocks)
            + _ID_BYTES * (self._cut - self.first)
            + _FIELD_BITS // 8 * self._texts
        )

    def finish(self) -> bytes:
        """Return the segment.

        Raises:
            ValueError: A line is not an event, or there is another number of them.
        """
        if self._waiting_bytes:
            self._add_block(b"".join(self._waiting))
            self._waiting, self._waiting_bytes = [], 0
        if self._cut != self.next:
            msg = f"{self._cut - self.first} lines where {self.next - self.first} should be"
            raise ValueError(msg)
        sections = {"blocks": self._table(), "filters": self._field_filters(), **self._id_sections()}
        end = self._blocks[-1].end if self._blocks else 0
        start = end + _SKIPPABLE.size
        where: dict[str, _Section] = {}
        for name, content in sections.items():
            where[name] = _Section(start, len(content), crc32(content))
            start += len(content)
        summary = msgspec.json.encode(
            Summary(
                format="bucketlog.index/1",
                first=self.first,
                next=self.next,
                size=self._raw_bytes,
                blocks=len(self._blocks),
                min_time=min((one.min_time for one in self._blocks), default=0),
                max_time=max((one.max_time for one in self._blocks), default=0),
                min_id=self._low,
                max_id=self._high,
                sections=where,
            )
        )
        payload = b"".join(
            (*sections.values(), summary, _SUMMARY_FOOTER.pack(len(summary), crc32(summary), _SUMMARY_MAGIC))
        )
        return b"".join((self._packed, _SKIPPABLE.pack(_INDEX_MAGIC, len(payload)), payload, _seek_table(self._blocks)))

    def _table(self) -> bytes:
        return b"".join(
            _BLOCK.pack(
                one.events,
                one.end - one.start,
                one.size,
                0,
                one.min_time,
                one.max_time,
                one.min_id,
                one.max_id,
            )
            for one in self._blocks
        )

    def _field_filters(self) -> bytes:
        """Return the filters of types, sources, subjects and tags, all of the same size, one a block."""
        # One busy block must not make all of them large: it has a denser filter, which lets more through.
        counts = sorted(map(len, self._filters))
        typical = counts[len(counts) * 9 // 10] if counts else 0
        size = bloom.blocks_for(typical, bits=_FIELD_BITS)
        return b"".join(bloom.build(one, size).tobytes() for one in self._filters)

    def _id_sections(self) -> dict[str, bytes]:
        """Return a filter of all ids and where each lies, unless ranges tell that: those of blocks, and of segments.

        A range tells something only if ids ascend. At random they lie in the range of each of many small segments.
        """
        samples = self._samples[:: len(self._samples) // _SAMPLES + 1]
        descents = sum(map(str.__gt__, samples, samples[1:]))
        if _mean_overlaps(self._blocks) <= _OVERLAPS_MAX and descents * 4 <= len(samples):
            return {}
        import numpy as np

        hashes = np.concatenate(self._ids)
        blocks = np.repeat(np.arange(len(self._ids), dtype="<u4"), [len(one) for one in self._ids])
        order = np.argsort(hashes, kind="stable")
        uppers, blocks = (hashes[order] >> np.uint64(32)).astype("<u4"), blocks[order]
        pages = [
            uppers[first : first + _PAGE_ENTRIES].tobytes() + blocks[first : first + _PAGE_ENTRIES].tobytes()
            for first in range(0, len(hashes), _PAGE_ENTRIES)
        ]
        return {
            "ids": bloom.build(hashes, bloom.blocks_for(len(hashes), bits=_ID_BITS)).tobytes(),
            "places": b"".join(page + _CRC.pack(crc32(page)) for page in pages),
        }


def _seek_table(blocks: Sequence[Block]) -> bytes:
    """Return the last frame of a segment, which tells other readers where its blocks lie."""
    entries = b"".join(_SEEK_ENTRY.pack(one.end - one.start, one.size) for one in blocks)
    table = entries + _SEEK_FOOTER.pack(len(blocks), 0, _SEEKABLE_MAGIC)
    return _SKIPPABLE.pack(_SEEK_TABLE_MAGIC, len(table)) + table


def _prefix(event_id: str) -> bytes:
    return event_id.encode()[:_ID_PREFIX_BYTES].ljust(_ID_PREFIX_BYTES, b"\0")


def _mean_overlaps(blocks: Sequence[Block]) -> float:
    """Return the number of blocks whose range holds an id of the segment, on average over their lowest ids."""
    lows, highs = sorted(one.min_id for one in blocks), sorted(one.max_id for one in blocks)
    return sum(bisect_right(lows, low) - bisect_left(highs, low) for low in lows) / max(len(lows), 1)


class _FieldHashes:
    """Hashes of types, sources, subjects and tags, which come again and again from block to block."""

    def __init__(self) -> None:
        self._known: dict[bytes, dict[str, int]] = {kind: {} for kind in (b"t", b"o", b"s", b"g")}

    def of(self, keys: Sequence[_Keys]) -> NDArray[np.uint64]:
        """Return the hash of each text that some events hold, once."""
        import numpy as np

        hashes: list[int] = []
        for kind, found in (
            (b"t", {one.type for one in keys}),
            (b"o", {one.source for one in keys}),
            (b"s", {one.subject for one in keys}),
            (b"g", set(chain.from_iterable([one.tags for one in keys]))),
        ):
            known = self._known[kind]
            if len(known) > _HASHES_KEPT:
                known.clear()
            for text in found:
                if text is not None:
                    hashed = known.get(text)
                    if hashed is None:
                        hashed = known[text] = bloom.hash_text(text, kind)
                    hashes.append(hashed)
        return np.array(hashes, dtype=np.uint64)


# -- reading -----------------------------------------------------------------------------------------------------------


class CompactedSegment:
    """One compacted segment through its index, of which no more is read than what is asked for.

    Safe for several threads: whatever two of them read at once is the same.
    """

    def __init__(self, key: str, read: Callable[[int, int], bytes], size: int, summary: Summary) -> None:
        self.key = key
        self._read = read
        self._size = size
        self.summary = summary
        self._blocks: list[Block] | None = None
        self._filters: NDArray[np.uint32] | None = None
        self._ids: bytes | None = None
        self._ranges: _Ranges | None = None
        self._times: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    @classmethod
    def open(cls, key: str, read: Callable[[int, int], bytes], size: int) -> CompactedSegment | None:
        """Open a segment of so many bytes by reading its end; None if it has no index, or one of another format.

        Args:
            key: Its key, for errors.
            read: Returns the bytes from the first up to the second argument.
            size: How many bytes the segment has.

        Raises:
            DamageError: The index is damaged.
        """
        start = max(0, size - _TAIL_BYTES)
        tail = read(start, size)
        if len(tail) != size - start:
            raise DamageError(key, start + len(tail), f"it ends here, though it should have {size} bytes")
        if len(tail) < _SEEK_FOOTER.size:
            return None
        blocks, _, magic = _SEEK_FOOTER.unpack_from(tail, len(tail) - _SEEK_FOOTER.size)
        if magic != _SEEKABLE_MAGIC:
            return None
        end = size - _SKIPPABLE.size - _SEEK_ENTRY.size * blocks - _SEEK_FOOTER.size
        if end < 0:
            raise DamageError(key, size - _SEEK_FOOTER.size, "its seek table has more entries than there is room for")

        def last(stop: int, count: int) -> bytes:
            begin = max(0, stop - count)
            return tail[begin - start : stop - start] if begin >= start else read(begin, stop)

        footer = last(end, _SUMMARY_FOOTER.size)
        if len(footer) < _SUMMARY_FOOTER.size or footer[-len(_SUMMARY_MAGIC) :] != _SUMMARY_MAGIC:
            return None
        length, crc, _ = _SUMMARY_FOOTER.unpack(footer)
        end -= _SUMMARY_FOOTER.size
        text = last(end, length)
        if crc32(text) != crc:
            raise DamageError(key, max(end - length, 0), "the summary of its index does not fit its checksum")
        try:
            summary = msgspec.json.decode(text, type=Summary)
        except msgspec.DecodeError:
            return None
        return cls(key, read, size, summary) if summary.format == "bucketlog.index/1" else None

    def _section(self, name: str) -> bytes:
        where = self.summary.sections[name]
        content = self._read(where.start, where.start + where.size)
        if crc32(content) != where.crc32:
            raise DamageError(self.key, where.start, f"the part {name!r} of its index does not fit its checksum")
        return content

    def check(self) -> None:
        """Read the whole index, and the frames around it, which nobody needs who has it.

        Raises:
            DamageError: It is damaged.
        """
        for name in self.summary.sections:
            self._section(name)
        table = _seek_table(self.blocks)
        start, end = self.blocks[-1].end if self.blocks else 0, self._size - len(table)
        header = _SKIPPABLE.pack(_INDEX_MAGIC, end - start - _SKIPPABLE.size)
        for what, at, expected in (("the frame of its index", start, header), ("its seek table", end, table)):
            if self._read(at, at + len(expected)) != expected:
                raise DamageError(self.key, at, f"{what} does not fit its blocks")

    @property
    def blocks(self) -> list[Block]:
        """The blocks, in order."""
        if self._blocks is None:
            found = []
            first, start = self.summary.first, 0
            for events, packed, size, _, min_time, max_time, low, high in _BLOCK.iter_unpack(self._section("blocks")):
                found.append(Block(first, events, start, start + packed, size, min_time, max_time, low, high))
                first += events
                start += packed
            if first != self.summary.next:
                raise DamageError(self.key, 0, f"its blocks end at offset {first}, not at {self.summary.next}")
            self._blocks = found
        return self._blocks

    def unpack(self, places: Sequence[int] | range) -> list[bytes]:
        """Return the lines of some blocks, given by their places in order; all between the outermost is read at once.

        Raises:
            DamageError: A block does not fit its checksum.
        """
        import zstandard

        chosen = [self.blocks[place] for place in places]
        if not chosen:
            return []
        base = chosen[0].start
        packed = self._read(base, chosen[-1].end)
        unpacker = zstandard.ZstdDecompressor()
        frames = b"".join(_FRAME.pack(one.start - base, one.end - one.start) for one in chosen)
        sizes = b"".join(_SIZE.pack(one.size) for one in chosen)  # what a damaged frame says may not fit any memory
        try:
            # All in one call: each one would give up the interpreter's lock, and wait 5 ms to have it back.
            packs = zstandard.BufferWithSegments(packed, frames)
            buffers = unpacker.multi_decompress_to_buffer(packs, decompressed_sizes=sizes, threads=1)
            found = [buffers[place].tobytes() for place in range(len(buffers))]
        except (zstandard.ZstdError, ValueError):
            found = [_unpack_one(self.key, one, packed[one.start - base : one.end - base]) for one in chosen]
        for one, lines in zip(chosen, found, strict=True):
            if len(lines) != one.size:
                raise DamageError(self.key, one.start, f"a block unpacks to {len(lines)} bytes, not to {one.size}")
        return found

    # -- finding -------------------------------------------------------------------------------------------------------

    def may_match(self, wanted: Filter) -> Sequence[bool]:
        """Tell of each block whether it may hold a wanted event. False is certain."""
        import numpy as np

        matches = np.ones(len(self.blocks), dtype=np.bool_)
        if wanted.since is not None or wanted.until is not None:
            lowest, highest = self._block_times()
            if wanted.since is not None:
                matches &= highest >= microseconds(wanted.since)
            if wanted.until is not None:
                matches &= lowest < microseconds(wanted.until)
        for kind, texts in (
            (b"t", wanted.types),
            (b"o", wanted.sources),
            (b"s", wanted.subjects),
            (b"g", wanted.tags),
        ):
            if texts is None or not matches.any():
                continue
            filters = self._field_filters()
            either = np.zeros_like(matches)
            for text in texts:
                either |= bloom.which_may_hold(filters, bloom.hash_text(text, kind))
            matches &= either
        if wanted.ids is not None:
            places = {place for event_id in wanted.ids for place in self.places_of(event_id)}
            either = np.zeros_like(matches)
            either[list(places)] = True
            matches &= either
        found: list[bool] = matches.tolist()
        return found

    def newest_first(self, wanted: Filter) -> list[int]:
        """Return the places of the blocks that may hold a wanted event, by their newest events."""
        import numpy as np

        places = np.flatnonzero(np.array(self.may_match(wanted), dtype=np.bool_))
        found: list[int] = places[np.argsort(-self._block_times()[1][places], kind="stable")].tolist()
        return found

    def _block_times(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the lowest and the highest time of each block."""
        if self._times is None:
            import numpy as np

            self._times = (
                np.array([one.min_time for one in self.blocks], dtype=np.int64),
                np.array([one.max_time for one in self.blocks], dtype=np.int64),
            )
        return self._times

    def _field_filters(self) -> NDArray[np.uint32]:
        if self._filters is None:
            import numpy as np

            words = np.frombuffer(self._section("filters"), dtype="<u4")
            self._filters = words.reshape(len(self.blocks), -1, 8)
        return self._filters

    def may_hold_id(self, event_id: str) -> bool:
        """Tell whether an id may be in the segment; False is certain."""
        summary = self.summary
        if not summary.min_id <= event_id <= summary.max_id:
            return False
        if "ids" in summary.sections:
            return bloom.may_hold(self.id_filter(), bloom.hash_text(event_id))
        return bool(self.places_of(event_id))

    def id_filter(self) -> bytes:
        """Return the filter of all ids; only where `summary.sections` has one."""
        if self._ids is None:
            self._ids = self._section("ids")
        return self._ids

    def places_of(self, event_id: str) -> list[int]:
        """Return the places of the blocks that may hold an id."""
        summary = self.summary
        if not summary.min_id <= event_id <= summary.max_id:
            return []
        if "places" not in summary.sections:
            return self._places_by_range(_prefix(event_id))
        hashed = bloom.hash_text(event_id)
        if not bloom.may_hold(self.id_filter(), hashed):
            return []
        return sorted(self._look_up(hashed >> 32))

    def _places_by_range(self, prefix: bytes) -> list[int]:
        if self._ranges is None:
            places = sorted(range(len(self.blocks)), key=lambda place: self.blocks[place].min_id)
            lows = [self.blocks[place].min_id for place in places]
            reach = list(accumulate((self.blocks[place].max_id for place in places), max))
            self._ranges = _Ranges(places, lows, reach)
        places, lows, reach = self._ranges
        found = []
        here = bisect_right(lows, prefix) - 1
        while here >= 0 and reach[here] >= prefix:
            if self.blocks[places[here]].max_id >= prefix:
                found.append(places[here])
            here -= 1
        return sorted(found)

    def _look_up(self, wanted: int) -> set[int]:
        """Find the upper half of a hash among the sorted ones, reading only where it has to be."""
        pages = -(-self.summary.sections["places"].size // _PAGE_BYTES)
        count = self.summary.next - self.summary.first
        guess = wanted * count >> 32  # they are spread evenly
        reach = 64 + 3 * int(count**0.5)  # six times what they stray
        while True:
            low = max(0, (guess - reach) // _PAGE_ENTRIES)
            high = min(pages, (guess + reach) // _PAGE_ENTRIES + 1)
            hashes, places = self._read_pages(low, high)
            if (low == 0 or hashes[0] < wanted) and (high == pages or hashes[-1] > wanted):
                return set(places[bisect_left(hashes, wanted) : bisect_right(hashes, wanted)])
            reach *= 4

    def _read_pages(self, low: int, high: int) -> tuple[array[int], array[int]]:
        """Return the hashes of some pages, and the place of the block of each."""
        section = self.summary.sections["places"]
        start = section.start + _PAGE_BYTES * low
        data = self._read(start, min(section.start + _PAGE_BYTES * high, section.start + section.size))
        hashes, places = array("I"), array("I")
        for at in range(0, len(data), _PAGE_BYTES):
            page = data[at : at + _PAGE_BYTES]
            entries, crc = page[: -_CRC.size], page[-_CRC.size :]
            if _CRC.pack(crc32(entries)) != crc:
                raise DamageError(self.key, start + at, "a page of the table of ids does not fit its checksum")
            half = len(entries) // 2
            hashes.extend(_integers(entries[:half]))
            places.extend(_integers(entries[half:]))
        return hashes, places


def _unpack_one(key: str, block: Block, frame: bytes) -> bytes:
    import zstandard

    try:
        if zstandard.frame_content_size(frame) == block.size:
            return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
        why = "its header says another size"
    except zstandard.ZstdError as err:
        why = str(err)
    raise DamageError(key, block.start, f"it does not unpack from here on: {why}")


def _integers(data: bytes) -> array[int]:
    found = array("I", data)
    if sys.byteorder == "big":
        found.byteswap()
    return found
