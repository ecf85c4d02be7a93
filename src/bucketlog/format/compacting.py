"""Building the content of a compacted segment, whose format is in docs/format.md."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime  # noqa: TC003  (msgspec reads annotations)
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import msgspec
from isal.isal_zlib import crc32

from bucketlog.format import bloom
from bucketlog.format.compacted import (
    BLOCK_ENTRY,
    CRC,
    INDEX_MAGIC,
    PAGE_ENTRIES,
    SEEK_ENTRY,
    SKIPPABLE,
    SUMMARY_FOOTER,
    SUMMARY_MAGIC,
    Block,
    Section,
    Summary,
    id_prefix,
    microseconds,
    seek_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

BLOCK_BYTES = 64 * 1024  # unpacked; to find one event, a reader unpacks a whole block
_LEVEL = 3
_FIELD_BITS = 16  # one false block in a thousand
_ID_BITS = 16
_ID_BYTES = _ID_BITS // 8 + 8  # that an event adds to the index if ids do not ascend
_OVERLAPS_MAX = 3  # when an id lies in the ranges of no more blocks than this, ranges are all that it takes
_HASHES_KEPT = 50_000  # of each kind of text
_SAMPLES = 64  # of the ids, to see whether they ascend


class _Keys(msgspec.Struct, gc=False):
    """What of an event is found by the index."""

    id: str
    type: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    source: str | None = None
    subject: str | None = None
    tags: tuple[str, ...] = ()


_keys = msgspec.json.Decoder(_Keys)


class Builder:
    """Builds a compacted segment of whole commits, given in order.

    Attributes:
        first: The offset of the first event.
        next: The offset after the last event added.
        size: About how many bytes the segment would take if it was finished now.
    """

    def __init__(self, first: int) -> None:
        import zstandard  # a log that is never compacted does without

        self.next = self.first = first
        self._cut = first  # the events before are in blocks
        self.size = 0
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
        self._raw_bytes = 0
        self._waiting: list[bytes] = []  # lines that do not fill a block yet
        self._waiting_bytes = 0
        self._packed = bytearray()  # not a list of frames: each would keep its whole compression buffer
        self._blocks: list[Block] = []
        self._filters: list[NDArray[np.uint64]] = []
        self._texts = 0  # in the filters
        self._ids: list[NDArray[np.uint64]] = []
        self._low = self._high = ""
        self._samples: list[str] = []  # of the ids, evenly
        self._hashes = _FieldHashes()

    def add(self, commits: bytes, *, events: int) -> None:
        """Add whole commits.

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
        ids = [key.id for key in keys]
        times = [key.time for key in keys]
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
                id_prefix(low),
                id_prefix(high),
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
            + (BLOCK_ENTRY.size + SEEK_ENTRY.size) * len(self._blocks)
            + _ID_BYTES * (self._cut - self.first)
            + _FIELD_BITS // 8 * self._texts
        )

    def finish(self) -> bytes:
        """Return the segment.

        Raises:
            ValueError: A line is not an event, or the number of lines is wrong.
        """
        if self._waiting_bytes:
            self._add_block(b"".join(self._waiting))
            self._waiting, self._waiting_bytes = [], 0
        if self._cut != self.next:
            msg = f"{self._cut - self.first} lines instead of {self.next - self.first}"
            raise ValueError(msg)
        sections = {"blocks": self._table(), "filters": self._field_filters(), **self._id_sections()}
        end = self._blocks[-1].end if self._blocks else 0
        start = end + SKIPPABLE.size
        where: dict[str, Section] = {}
        for name, content in sections.items():
            where[name] = Section(start, len(content), crc32(content))
            start += len(content)
        summary = msgspec.json.encode(
            Summary(
                format="bucketlog.index/1",
                first=self.first,
                next=self.next,
                size=self._raw_bytes,
                blocks=len(self._blocks),
                min_time=min((block.min_time for block in self._blocks), default=0),
                max_time=max((block.max_time for block in self._blocks), default=0),
                min_id=self._low,
                max_id=self._high,
                sections=where,
            )
        )
        payload = b"".join(
            (*sections.values(), summary, SUMMARY_FOOTER.pack(len(summary), crc32(summary), SUMMARY_MAGIC))
        )
        return b"".join((self._packed, SKIPPABLE.pack(INDEX_MAGIC, len(payload)), payload, seek_table(self._blocks)))

    def _table(self) -> bytes:
        return b"".join(
            BLOCK_ENTRY.pack(
                block.events,
                block.end - block.start,
                block.size,
                0,
                block.min_time,
                block.max_time,
                block.min_id,
                block.max_id,
            )
            for block in self._blocks
        )

    def _field_filters(self) -> bytes:
        """Return one filter of types, sources, subjects and tags for each block, all of the same size."""
        # One busy block must not make all filters large: its own is denser and lets more through.
        counts = sorted(map(len, self._filters))
        typical = counts[len(counts) * 9 // 10] if counts else 0
        size = bloom.blocks_for(typical, bits=_FIELD_BITS)
        return b"".join(bloom.build(texts, size).tobytes() for texts in self._filters)

    def _id_sections(self) -> dict[str, bytes]:
        """Return a filter of all ids and the block of each, unless the ranges of ids are enough to find them.

        Ranges help only if ids ascend. Random ids are in the range of every segment.
        """
        samples = self._samples[:: len(self._samples) // _SAMPLES + 1]
        descents = sum(map(str.__gt__, samples, samples[1:]))
        if _mean_overlaps(self._blocks) <= _OVERLAPS_MAX and descents * 4 <= len(samples):
            return {}
        import numpy as np

        hashes = np.concatenate(self._ids)
        blocks = np.repeat(np.arange(len(self._ids), dtype="<u4"), [len(ids) for ids in self._ids])
        order = np.argsort(hashes, kind="stable")
        uppers, blocks = (hashes[order] >> np.uint64(32)).astype("<u4"), blocks[order]
        pages = [
            uppers[first : first + PAGE_ENTRIES].tobytes() + blocks[first : first + PAGE_ENTRIES].tobytes()
            for first in range(0, len(hashes), PAGE_ENTRIES)
        ]
        return {
            "ids": bloom.build(hashes, bloom.blocks_for(len(hashes), bits=_ID_BITS)).tobytes(),
            "places": b"".join(page + CRC.pack(crc32(page)) for page in pages),
        }


def _mean_overlaps(blocks: Sequence[Block]) -> float:
    """Return how many blocks have an id in their range, on average over each block's lowest id."""
    lows, highs = sorted(block.min_id for block in blocks), sorted(block.max_id for block in blocks)
    return sum(bisect_right(lows, low) - bisect_left(highs, low) for low in lows) / max(len(lows), 1)


class _FieldHashes:
    """Hashes types, sources, subjects and tags, and remembers them: they repeat from block to block."""

    def __init__(self) -> None:
        self._known: dict[bytes, dict[str, int]] = {kind: {} for kind in (b"t", b"o", b"s", b"g")}

    def of(self, keys: Sequence[_Keys]) -> NDArray[np.uint64]:
        """Return the hash of each distinct text in some events."""
        import numpy as np

        hashes: list[int] = []
        for kind, found in (
            (b"t", {key.type for key in keys}),
            (b"o", {key.source for key in keys}),
            (b"s", {key.subject for key in keys}),
            (b"g", set(chain.from_iterable([key.tags for key in keys]))),
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
