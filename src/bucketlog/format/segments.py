"""Segments: their names, the trailer that makes a commit whole, and telling a torn write from damage.

Everything here maps values to values; the format is described in docs/format.md.
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
ALL_BEFORE_SYNCED = 0x01  # flag: all that stands before this commit was synced when it was written

_OFFSET_DIGITS = 20
_NAME = re.compile(r"([0-9]{20})(?:\.jsonl|-([0-9]{20})\.jsonl\.zst)")
_TRAILER_BEGINS = b',"commit":"'
_TRAILER = re.compile(rb',"commit":"([0-9a-f]{8})-([0-9a-f]{2})-([0-9a-f]{16})-([0-9a-f]{8})"}\n')
# What the CRC leaves out at the end of a commit: its own 8 digits, quote, brace, newline.
_CRC_BYTES = 11
# The bytes of a trailer that never differ, by their place from its end.
_FIXED = tuple(
    (place - TRAILER_BYTES, byte)
    for place, byte in enumerate(b',"commit":"________-__-________________-________"}\n')
    if byte != ord("_")
)
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
# Storage loses whole sectors. Shorter runs of zero bytes are damage of another kind, unless they touch a sector's edge.
_SECTOR_BYTES = 512
_ZERO_RUN = re.compile(rb"\0+")
_ZERO_RUN_BYTES = 16


class Segment(NamedTuple):
    """A segment by its name: the offsets `[first, next)`; `next` is None where only the content tells (live)."""

    key: str
    first: int
    next: int | None
    size: int


class Span(NamedTuple):
    """One commit inside some bytes: where it begins and ends there, and what its trailer says."""

    start: int
    end: int
    events: int
    flags: int
    write_id: str


class Scan(NamedTuple):
    """What a run of bytes holds: whole commits, then perhaps something else from the byte `end` on.

    `rest` says what that is: "" (nothing), "partial" (begins like a commit; more may come, or it was torn), "torn"
    (pages that were never written), or "corrupt".
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
    """Read a segment's name; None for any other file of the folder."""
    found = _NAME.fullmatch(name)
    if not found:
        return None
    return Segment(folder + name, int(found[1]), int(found[2]) if found[2] else None, size)


def seal_commit(lines: bytes, *, events: int, flags: int, write_id: str) -> bytes:
    """Make a commit of encoded lines: the last one gets the trailer as one more member.

    Args:
        lines: JSON objects, each with a newline behind it; none of them empty objects.
        events: How many lines.
        flags: `ALL_BEFORE_SYNCED` or 0.
        write_id: 16 hex digits.
    """
    body = memoryview(lines)[:-2]
    head = b',"commit":"%08x-%02x-%b-' % (events, flags, write_id.encode())
    # The checksum covers count, flags and write id too (I7).
    return b"".join((body, head, b'%08x"}\n' % crc32(head, crc32(body))))


def read_trailer(data: bytes) -> tuple[int, int, str] | None:
    """Return (events, flags, write id) of the commit that some bytes end with, or None; checks no CRC."""
    found = _TRAILER.fullmatch(data, max(0, len(data) - TRAILER_BYTES))
    return (int(found[1], 16), int(found[2], 16), found[3].decode()) if found else None


def scan(data: bytes, *, at: int = 0, complete: bool = True) -> Scan:
    """Find and check the commits in bytes that begin where a commit does.

    Args:
        data: The bytes.
        at: Where in the segment they begin; tells apart pages that were never written from other damage.
        complete: Whether the segment ends here. If not, an unfinished commit is "partial" whatever it looks like.
    """
    spans: list[Span] = []
    start = 0
    view = memoryview(data)
    at_trailer = find(data, _TRAILER_BEGINS)
    while at_trailer >= 0:
        found = _TRAILER.match(data, at_trailer)
        if found is None:  # as a member of something in `data`
            at_trailer = find(data, _TRAILER_BEGINS, at_trailer + 1)
            continue
        end = found.end()
        if crc32(view[start : end - _CRC_BYTES]) != int(found[4], 16):
            return Scan(spans, start, _judge(data, start, at))
        spans.append(Span(start, end, int(found[1], 16), int(found[2], 16), found[3].decode()))
        start = end
        at_trailer = find(data, _TRAILER_BEGINS, end)
    if start == len(data):
        return Scan(spans, start, "")
    return Scan(spans, start, _judge(data, start, at) if complete else "partial")


def _judge(data: bytes, start: int, at: int) -> str:
    """Tell what lies in `data` from `start` on, where no whole commit begins."""
    # What was synced before the break cannot be torn (I9).
    later = [
        flags for found in _TRAILER.finditer(data, start) if (flags := _whole_flags(data, found, start)) is not None
    ]
    if _never_written(data, start, at):
        # A flag after it says that this was synced: then storage lost what it had promised to keep.
        return "corrupt" if any(flags & ALL_BEFORE_SYNCED for flags in later) else "torn"
    if later or _TRAILER.search(data, start):
        return "corrupt"  # an append that broke off leaves no trailer behind
    return "corrupt" if _was_a_trailer(data, start) else "partial"


def _was_a_trailer(data: bytes, start: int) -> bool:
    """Tell whether `data` was written to its end: whether it ends with what is left of a trailer."""
    end = len(data) - TRAILER_BYTES
    if end < start or 2 * sum(data[place] == byte for place, byte in _FIXED) <= len(_FIXED):
        return False
    # A trailer is the last member of a line. What only looks like one stands in a text or in another member's value.
    line = _TEXT.sub(b"0", data[max(data.rfind(b"\n", start, end) + 1, start) : end])
    depth = line.count(b"{") + line.count(b"[") - line.count(b"}") - line.count(b"]")
    return depth == 1 and b'"' not in line and not line.endswith((b":", b"{"))


def _whole_flags(data: bytes, trailer: re.Match[bytes], floor: int) -> int | None:
    """Return the flags of the commit that this trailer ends if it is whole and begins after `floor`, else None.

    What stands before it is broken, so its beginning is found from its end: it holds as many lines as it says.
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
    """Tell whether a stretch of zero bytes looks like sectors that were never written; JSON holds no zero byte."""
    for found in _ZERO_RUN.finditer(data, start):
        first, end = found.start() + at, found.end() + at
        if end - first >= _ZERO_RUN_BYTES or first % _SECTOR_BYTES == 0 or end % _SECTOR_BYTES == 0:
            return True
    return False


def chain(segments: Collection[Segment], *, start: int, floor: int) -> list[Segment]:
    """Return the segments that count, in order: each begins where what precedes it ends.

    Args:
        segments: All that a listing shows, in any order.
        start: The partition's first offset that still counts.
        floor: Live segments that begin below it are left over from a writer that slept, and count for nothing.

    At an offset, the compacted segment that contains it and reaches farthest is taken, else the live one that begins
    there. The end of a live segment is where the next one begins; the last one's is known by its content alone.
    """
    compacted = sorted((one for one in segments if one.next is not None), key=lambda one: one.first)
    live = sorted((one for one in segments if one.next is None and one.first >= floor), key=lambda one: one.first)
    # A segment counts if the chain reaches it (I2); of compacted ones the farthest-reaching (I26).
    counting: list[Segment] = []
    here = start
    next_compacted = next_live = 0
    best: Segment | None = None
    while True:
        while next_compacted < len(compacted) and compacted[next_compacted].first <= here:
            one = compacted[next_compacted]
            best = one if best is None or (one.next or 0) > (best.next or 0) else best
            next_compacted += 1
        if best is not None and best.next is not None and best.next > here:
            counting.append(best)
            here = best.next
            continue
        while next_live < len(live) and live[next_live].first < here:
            next_live += 1
        if next_live == len(live) or live[next_live].first != here:
            return counting
        one = live[next_live]
        next_live += 1
        counting.append(one)
        # Whether the next one begins where this one ends is checked when its content is read.
        following = [
            ahead[index].first
            for ahead, index in ((live, next_live), (compacted, next_compacted))
            if index < len(ahead)
        ]
        if not following:
            return counting
        here = min(following)
