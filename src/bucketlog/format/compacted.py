"""The content of a compacted segment: blocks of lines, an index to find events without unpacking all, a seek table.

The format is described in docs/format.md. Here are its structs and its reader; `compacting` builds it.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from isal.isal_zlib import crc32

from bucketlog.format import bloom

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from bucketlog.format.filters import Filter

_TAIL_BYTES = 96 * 1024  # read at once from the end: the seek table and summary of most segments

INDEX_MAGIC = 0x184D2A5D
_SEEK_TABLE_MAGIC = 0x184D2A5E
_SEEKABLE_MAGIC = 0x8F92EAB1
SKIPPABLE = struct.Struct("<II")
SEEK_ENTRY = struct.Struct("<II")
SEEK_FOOTER = struct.Struct("<IBI")
SUMMARY_FOOTER = struct.Struct("<II8s")
SUMMARY_MAGIC = b"bktlogix"
BLOCK_ENTRY = struct.Struct("<IIIIqq32s32s")
_FRAME = struct.Struct("=QQ")
_SIZE = struct.Struct("=Q")
CRC = struct.Struct("<I")
_ID_PREFIX_BYTES = 32  # reaches over the counter of a UUIDv7

PAGE_ENTRIES = 512  # of the table of ids; each page has its own CRC-32, as no more than a few are read at a time
_PAGE_BYTES = 8 * PAGE_ENTRIES + 4

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class DamageError(Exception):
    """A compacted segment is damaged: its key, the byte and the reason."""

    def __init__(self, key: str, byte: int, why: str) -> None:
        super().__init__(why)
        self.key, self.byte, self.why = key, byte, why


class Block(NamedTuple):
    """One zstd frame at the bytes `[start, end)`: the lines of `events` events, starting at the offset `first`.

    Times are in microseconds since 1970. Ids are cut to 32 bytes.
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
    """Blocks sorted by their lowest id: their places, these ids, and the highest id up to each."""

    places: list[int]
    lows: list[bytes]
    reach: list[bytes]


class Section(msgspec.Struct, frozen=True):
    """The place of a part of the index in the file, and its CRC-32."""

    start: int
    size: int
    crc32: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The index's summary of the segment. Times are in microseconds since 1970."""

    format: str
    first: int
    next: int
    size: int
    blocks: int
    min_time: int
    max_time: int
    min_id: str
    max_id: str
    sections: dict[str, Section]


def microseconds(time: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def seek_table(blocks: Sequence[Block]) -> bytes:
    """Return the last frame of a segment, from which other zstd readers learn where its blocks are."""
    entries = b"".join(SEEK_ENTRY.pack(block.end - block.start, block.size) for block in blocks)
    table = entries + SEEK_FOOTER.pack(len(blocks), 0, _SEEKABLE_MAGIC)
    return SKIPPABLE.pack(_SEEK_TABLE_MAGIC, len(table)) + table


def id_prefix(event_id: str) -> bytes:
    """Return an id as the table of blocks stores it: cut, and padded with zeros."""
    return event_id.encode()[:_ID_PREFIX_BYTES].ljust(_ID_PREFIX_BYTES, b"\0")


# -- reading -----------------------------------------------------------------------------------------------------------


class CompactedSegment:
    """A compacted segment, read through its index, whose parts are loaded on demand.

    Safe for several threads: two that load the same part get the same.
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
        """Open a segment by reading its end; return None if it has no index, or one of another format.

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
            raise DamageError(key, start + len(tail), f"it ends here, but should have {size} bytes")
        if len(tail) < SEEK_FOOTER.size:
            return None
        blocks, _, magic = SEEK_FOOTER.unpack_from(tail, len(tail) - SEEK_FOOTER.size)
        if magic != _SEEKABLE_MAGIC:
            return None
        end = size - SKIPPABLE.size - SEEK_ENTRY.size * blocks - SEEK_FOOTER.size
        if end < 0:
            raise DamageError(key, size - SEEK_FOOTER.size, "its seek table has more entries than fit")

        def last(stop: int, count: int) -> bytes:
            begin = max(0, stop - count)
            return tail[begin - start : stop - start] if begin >= start else read(begin, stop)

        footer = last(end, SUMMARY_FOOTER.size)
        if len(footer) < SUMMARY_FOOTER.size or footer[-len(SUMMARY_MAGIC) :] != SUMMARY_MAGIC:
            return None
        length, crc, _ = SUMMARY_FOOTER.unpack(footer)
        end -= SUMMARY_FOOTER.size
        text = last(end, length)
        if crc32(text) != crc:
            raise DamageError(key, max(end - length, 0), "the summary of its index does not match its checksum")
        try:
            summary = msgspec.json.decode(text, type=Summary)
        except msgspec.DecodeError:
            return None
        return cls(key, read, size, summary) if summary.format == "bucketlog.index/1" else None

    def _section(self, name: str) -> bytes:
        where = self.summary.sections[name]
        content = self._read(where.start, where.start + where.size)
        if crc32(content) != where.crc32:
            raise DamageError(self.key, where.start, f"the part {name!r} of its index does not match its checksum")
        return content

    def check(self) -> None:
        """Read and check the whole index and the frames around it, which reading does not need.

        Raises:
            DamageError: It is damaged.
        """
        for name in self.summary.sections:
            self._section(name)
        table = seek_table(self.blocks)
        start, end = self.blocks[-1].end if self.blocks else 0, self._size - len(table)
        header = SKIPPABLE.pack(INDEX_MAGIC, end - start - SKIPPABLE.size)
        for what, at, expected in (("the frame of its index", start, header), ("its seek table", end, table)):
            if self._read(at, at + len(expected)) != expected:
                raise DamageError(self.key, at, f"{what} does not fit its blocks")

    @property
    def blocks(self) -> list[Block]:
        """The blocks, in order."""
        if self._blocks is None:
            found = []
            first, start = self.summary.first, 0
            for events, packed, size, _, min_time, max_time, low, high in BLOCK_ENTRY.iter_unpack(
                self._section("blocks")
            ):
                found.append(Block(first, events, start, start + packed, size, min_time, max_time, low, high))
                first += events
                start += packed
            if first != self.summary.next:
                raise DamageError(self.key, 0, f"its blocks end at offset {first}, not at {self.summary.next}")
            self._blocks = found
        return self._blocks

    def unpack(self, places: Sequence[int] | range) -> list[bytes]:
        """Return the lines of some blocks, with one request from the first to the last.

        Args:
            places: The places of the blocks, in order.

        Raises:
            DamageError: A block does not match its checksum.
        """
        import zstandard

        chosen = [self.blocks[place] for place in places]
        if not chosen:
            return []
        base = chosen[0].start
        packed = self._read(base, chosen[-1].end)
        unpacker = zstandard.ZstdDecompressor()
        frames = b"".join(_FRAME.pack(block.start - base, block.end - block.start) for block in chosen)
        sizes = b"".join(_SIZE.pack(block.size) for block in chosen)  # a damaged frame may claim any size
        try:
            # In one call: each call releases the interpreter's lock, and may wait 5 ms to get it back.
            packs = zstandard.BufferWithSegments(packed, frames)
            buffers = unpacker.multi_decompress_to_buffer(packs, decompressed_sizes=sizes, threads=1)
            found = [buffers[place].tobytes() for place in range(len(buffers))]
        except (zstandard.ZstdError, ValueError):
            found = [_unpack_one(self.key, block, packed[block.start - base : block.end - base]) for block in chosen]
        for one, lines in zip(chosen, found, strict=True):
            if len(lines) != one.size:
                raise DamageError(self.key, one.start, f"a block unpacks to {len(lines)} bytes, not to {one.size}")
        return found

    # -- finding -------------------------------------------------------------------------------------------------------

    def may_match(self, wanted: Filter) -> Sequence[bool]:
        """Return for each block whether it may hold a matching event. False is certain."""
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
        """Return the places of the blocks that may hold a matching event, those with the newest events first."""
        import numpy as np

        places = np.flatnonzero(np.array(self.may_match(wanted), dtype=np.bool_))
        found: list[int] = places[np.argsort(-self._block_times()[1][places], kind="stable")].tolist()
        return found

    def _block_times(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the lowest and the highest time of each block."""
        if self._times is None:
            import numpy as np

            self._times = (
                np.array([block.min_time for block in self.blocks], dtype=np.int64),
                np.array([block.max_time for block in self.blocks], dtype=np.int64),
            )
        return self._times

    def _field_filters(self) -> NDArray[np.uint32]:
        if self._filters is None:
            import numpy as np

            words = np.frombuffer(self._section("filters"), dtype="<u4")
            self._filters = words.reshape(len(self.blocks), -1, 8)
        return self._filters

    def may_hold_id(self, event_id: str) -> bool:
        """Return True if an id may be in the segment. False is certain."""
        summary = self.summary
        if not summary.min_id <= event_id <= summary.max_id:
            return False
        if "ids" in summary.sections:
            return bloom.may_hold(self.id_filter(), bloom.hash_text(event_id))
        return bool(self.places_of(event_id))

    def id_filter(self) -> bytes:
        """Return the filter of all ids, which `summary.sections` must have."""
        if self._ids is None:
            self._ids = self._section("ids")
        return self._ids

    def places_of(self, event_id: str) -> list[int]:
        """Return the places of the blocks that may hold an id."""
        summary = self.summary
        if not summary.min_id <= event_id <= summary.max_id:
            return []
        if "places" not in summary.sections:
            return self._places_by_range(id_prefix(event_id))
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
        """Find the upper half of a hash among the sorted ones, reading only the pages that can hold it."""
        pages = -(-self.summary.sections["places"].size // _PAGE_BYTES)
        count = self.summary.next - self.summary.first
        guess = wanted * count >> 32  # hashes are spread evenly
        reach = 64 + 3 * int(count**0.5)  # six times their standard deviation
        while True:
            low = max(0, (guess - reach) // PAGE_ENTRIES)
            high = min(pages, (guess + reach) // PAGE_ENTRIES + 1)
            hashes, places = self._read_pages(low, high)
            if (low == 0 or hashes[0] < wanted) and (high == pages or hashes[-1] > wanted):
                return set(places[bisect_left(hashes, wanted) : bisect_right(hashes, wanted)])
            reach *= 4

    def _read_pages(self, low: int, high: int) -> tuple[array[int], array[int]]:
        """Return the hashes of some pages, and the block of each."""
        section = self.summary.sections["places"]
        start = section.start + _PAGE_BYTES * low
        data = self._read(start, min(section.start + _PAGE_BYTES * high, section.start + section.size))
        hashes, places = array("I"), array("I")
        for at in range(0, len(data), _PAGE_BYTES):
            page = data[at : at + _PAGE_BYTES]
            entries, crc = page[: -CRC.size], page[-CRC.size :]
            if CRC.pack(crc32(entries)) != crc:
                raise DamageError(self.key, start + at, "a page of the table of ids does not match its checksum")
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
