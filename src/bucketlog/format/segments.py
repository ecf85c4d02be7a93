"""Segments: their names, the trailer that completes a commit, and how a torn write differs from damage.

All functions are pure. docs/format.md describes the format.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from isal.isal_zlib import crc32
from stringzilla import find

if TYPE_CHECKING:
    from collections.abc import Collection

SEGMENT_BYTES_MAX = 64 * 1024 * 1024
COMMIT_BYTES_MAX = 64 * 1024 * 1024
TRAILER_BYTES = 51
ALL_BEFORE_SYNCED = 0x01  # flag: everything before this commit was synced when it was written

_OFFSET_DIGITS = 20
_NAME = re.compile(r"([0-9]{20})(?:\.jsonl|-([0-9]{20})\.jsonl\.zst)")
_TRAILER_BEGINS = b',"commit":"'
_TRAILER = re.compile(rb',"commit":"([0-9a-f]{8})-([0-9a-f]{2})-([0-9a-f]{16})-([0-9a-f]{8})"}\n')
# The end of a commit that the CRC does not cover: its own 8 digits, quote, brace, newline.
_CRC_BYTES = 11
# The bytes that are the same in all trailers, by their distance from its end.
_FIXED = tuple(
    (place - TRAILER_BYTES, byte)
    for place, byte in enumerate(b',"commit":"________-__-________________-________"}\n')
    if byte != ord("_")
)
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
# Storage loses whole sectors. A shorter run of zero bytes is other damage, unless it touches the edge of a sector.
_SECTOR_BYTES = 512
_ZERO_RUN = re.compile(rb"\0+")
_ZERO_RUN_BYTES = 16


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

    `rest` classifies it: "" (there is none), "partial" (it begins like a commit; it may still grow, or it was torn),
    "torn" (pages that were never written), or "corrupt".
    """

    spans: list[Span]
    end: int
    rest: str


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
    found = _TRAILER.fullmatch(data, max(0, len(data) - TRAILER_BYTES))
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
        found = _TRAILER.match(data, at_trailer)
        if found is None:  # it is a member of a value in an event's data
            at_trailer = find(data, _TRAILER_BEGINS, at_trailer + 1)
            continue
        end = found.end()
        if crc32(view[start : end - _CRC_BYTES]) != int(found[4], 16):
            return Scan(spans, start, _classify(data, start, at))
        spans.append(Span(start, end, int(found[1], 16), int(found[2], 16), found[3].decode()))
        start = end
        at_trailer = find(data, _TRAILER_BEGINS, end)
    if start == len(data):
        return Scan(spans, start, "")
    return Scan(spans, start, _classify(data, start, at) if complete else "partial")


def _classify(data: bytes, start: int, at: int) -> str:
    """Classify `data` from `start` on, where no whole commit begins; see `Scan.rest`."""
    # Bytes that were synced before the break cannot be torn (I9).
    later = [
        flags for found in _TRAILER.finditer(data, start) if (flags := _whole_flags(data, found, start)) is not None
    ]
    if _never_written(data, start, at):
        # If a later flag says that this was synced, the storage lost what it had confirmed.
        return "corrupt" if any(flags & ALL_BEFORE_SYNCED for flags in later) else "torn"
    if later or _TRAILER.search(data, start):
        return "corrupt"  # an interrupted append leaves no trailer
    return "corrupt" if _was_a_trailer(data, start) else "partial"


def _was_a_trailer(data: bytes, start: int) -> bool:
    """Return True if `data` ends with a damaged trailer, which means that it was written completely."""
    end = len(data) - TRAILER_BYTES
    if end < start or 2 * sum(data[place] == byte for place, byte in _FIXED) <= len(_FIXED):
        return False
    # A trailer is the last member of a line. A lookalike is inside a string or in another member's value.
    line = _TEXT.sub(b"0", data[max(data.rfind(b"\n", start, end) + 1, start) : end])
    depth = line.count(b"{") + line.count(b"[") - line.count(b"}") - line.count(b"]")
    return depth == 1 and b'"' not in line and not line.endswith((b":", b"{"))


def _whole_flags(data: bytes, trailer: re.Match[bytes], floor: int) -> int | None:
    """Return the flags of the commit that ends with this trailer, or None if it is not whole or begins before `floor`.

    The bytes before the commit are broken, so its start is found backwards, by the number of lines in its trailer.
    """
    start = trailer.end() - 1
    for _ in range(int(trailer[1], 16)):
        start = data.rfind(b"\n", floor, start)
        if start < 0:
            return None
    start += 1
    if crc32(memoryview(data)[start : trailer.end() - _CRC_BYTES]) != int(trailer[4], 16):
        return None
    return int(trailer[2], 16)


def _never_written(data: bytes, start: int, at: int) -> bool:
    """Return True if a run of zero bytes looks like sectors that were never written; JSON contains no zero byte."""
    for found in _ZERO_RUN.finditer(data, start):
        first, end = found.start() + at, found.end() + at
        if end - first >= _ZERO_RUN_BYTES or first % _SECTOR_BYTES == 0 or end % _SECTOR_BYTES == 0:
            return True
    return False


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
