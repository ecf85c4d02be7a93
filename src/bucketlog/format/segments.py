"""Segments: their names, the commits in them, and which segments of a listing count.

All functions are pure. docs/format.md describes the format.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from isal.isal_zlib import crc32
from stringzilla import find

from bucketlog.format.torn import Rest, classify
from bucketlog.format.trailer import ALL_BEFORE_SYNCED as ALL_BEFORE_SYNCED
from bucketlog.format.trailer import CRC_BYTES, TRAILER
from bucketlog.format.trailer import TRAILER_BYTES as TRAILER_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection

SEGMENT_BYTES_MAX = 64 * 1024 * 1024
COMMIT_BYTES_MAX = 64 * 1024 * 1024

_OFFSET_DIGITS = 20
_NAME = re.compile(r"([0-9]{20})(?:\.jsonl|-([0-9]{20})\.jsonl\.zst)")
_TRAILER_BEGINS = b',"commit":"'


class Segment(NamedTuple):
    """A segment's name, for the offsets `[first, next)`; `next` is None if it is live: only its content tells."""

    key: str
    first: int
    next: int | None
    size: int


class Span(NamedTuple):
    """One commit within some bytes: its start and end there, and the content of its trailer."""

    start: int
    end: int
    events: int
    flags: int
    write_id: str


class Scan(NamedTuple):
    """The content of some bytes: whole commits, and possibly a rest from byte `end` on.

    `rest` says what that is, or "" if there is none: see `bucketlog.format.torn.classify`.
    """

    spans: list[Span]
    end: int
    rest: Rest


def segment_name(first: int) -> str:
    """Return the name of the live segment that begins at an offset."""
    # The offset stands here and nowhere else (I1).
    return f"{first:0{_OFFSET_DIGITS}d}.jsonl"


def compacted_name(first: int, following: int) -> str:
    """Return the name of the compacted segment of the offsets `[first, following)`."""
    return f"{first:0{_OFFSET_DIGITS}d}-{following:0{_OFFSET_DIGITS}d}.jsonl.zst"


def parse_segment(folder: str, name: str, size: int) -> Segment | None:
    """Parse a segment's name; return None for any other file of the folder."""
    found = _NAME.fullmatch(name)
    if not found:
        return None
    return Segment(folder + name, int(found[1]), int(found[2]) if found[2] else None, size)


def seal_commit(lines: bytes, *, events: int, flags: int, write_id: str) -> bytes:
    """Make a commit from encoded lines by adding the trailer to the last line as one more member.

    Args:
        lines: JSON objects, each followed by a newline; none is empty.
        events: The number of lines.
        flags: `ALL_BEFORE_SYNCED` or 0.
        write_id: 16 hex digits.
    """
    body = memoryview(lines)[:-2]
    head = b',"commit":"%08x-%02x-%b-' % (events, flags, write_id.encode())
    # The checksum covers count, flags and write id too (I7).
    return b"".join((body, head, b'%08x"}\n' % crc32(head, crc32(body))))


def read_trailer(data: bytes) -> tuple[int, int, str] | None:
    """Return (events, flags, write id) of the commit at the end of some bytes, or None; the CRC is not checked."""
    found = TRAILER.fullmatch(data, max(0, len(data) - TRAILER_BYTES))
    return (int(found[1], 16), int(found[2], 16), found[3].decode()) if found else None


def scan(data: bytes, *, at: int = 0, complete: bool = True) -> Scan:
    """Find and check the commits in bytes that begin at the start of a commit.

    Args:
        data: The bytes.
        at: The position of the bytes in the segment, to recognise pages that were never written.
        complete: Whether the segment ends here. If not, an unfinished commit is always "partial".
    """
    spans: list[Span] = []
    start = 0
    view = memoryview(data)
    at_trailer = find(data, _TRAILER_BEGINS)
    while at_trailer >= 0:
        found = TRAILER.match(data, at_trailer)
        if found is None:  # it is a member of a value in an event's data
            at_trailer = find(data, _TRAILER_BEGINS, at_trailer + 1)
            continue
        end = found.end()
        if crc32(view[start : end - CRC_BYTES]) != int(found[4], 16):
            return Scan(spans, start, classify(data, start, at))
        spans.append(Span(start, end, int(found[1], 16), int(found[2], 16), found[3].decode()))
        start = end
        at_trailer = find(data, _TRAILER_BEGINS, end)
    if start == len(data):
        return Scan(spans, start, "")
    return Scan(spans, start, classify(data, start, at) if complete else "partial")


def chain(segments: Collection[Segment], *, start: int, floor: int) -> list[Segment]:
    """Return the segments that count, in order: each begins where the one before ends.

    Args:
        segments: All segments of a listing, in any order.
        start: The start of the log.
        floor: Live segments that begin below it do not count; a writer that was delayed may have left them.

    At each offset, the compacted segment that contains it and reaches farthest counts, or else the live segment that
    begins there. A live segment ends where the next one begins; only its content tells where the last one ends.
    """
    compacted = sorted((segment for segment in segments if segment.next is not None), key=_first)
    live = sorted((segment for segment in segments if segment.next is None and segment.first >= floor), key=_first)
    # A segment counts if the chain reaches it (I2); of compacted ones the farthest-reaching (I26).
    counting: list[Segment] = []
    here = start
    next_compacted = next_live = 0
    best: Segment | None = None
    while True:
        while next_compacted < len(compacted) and compacted[next_compacted].first <= here:
            segment = compacted[next_compacted]
            best = segment if best is None or (segment.next or 0) > (best.next or 0) else best
            next_compacted += 1
        if best is not None and best.next is not None and best.next > here:
            counting.append(best)
            here = best.next
            continue
        while next_live < len(live) and live[next_live].first < here:
            next_live += 1
        if next_live == len(live) or live[next_live].first != here:
            return counting
        counting.append(live[next_live])
        next_live += 1
        # When this segment is read, its end is compared to the start of the next one.
        following = [
            ahead[index].first
            for ahead, index in ((live, next_live), (compacted, next_compacted))
            if index < len(ahead)
        ]
        if not following:
            return counting
        here = min(following)


def _first(segment: Segment) -> int:
    return segment.first
