"""Torn or corrupt: what the bytes are where no whole commit begins.

A torn write is one that was interrupted: it lacks its end, or pages in it were never written. It was not acknowledged,
so readers ignore it. Anything else that is not a whole commit is damage, which is never ignored.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from isal.isal_zlib import crc32

from bucketlog.format.trailer import ALL_BEFORE_SYNCED, CRC_BYTES, TRAILER, TRAILER_BYTES

Rest: TypeAlias = Literal["", "partial", "torn", "corrupt"]

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


def classify(data: bytes, start: int, at: int) -> Rest:
    """Say what `data` holds from `start` on, where no whole commit begins.

    Args:
        data: Bytes of a segment, up to its end.
        start: Where the last whole commit ends in them.
        at: The position of `data` in the segment, to recognise pages that were never written.

    Returns:
        "partial" for bytes that begin like a commit, which may still grow or was torn; "torn" for pages that were never
        written; "corrupt" for damage.
    """
    # Bytes that were synced before the break cannot be torn (I9).
    later = [
        flags for found in TRAILER.finditer(data, start) if (flags := _whole_flags(data, found, start)) is not None
    ]
    if _never_written(data, start, at):
        # If a later flag says that this was synced, the storage lost what it had confirmed.
        return "corrupt" if any(flags & ALL_BEFORE_SYNCED for flags in later) else "torn"
    if later or TRAILER.search(data, start):
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
    if crc32(memoryview(data)[start : trailer.end() - CRC_BYTES]) != int(trailer[4], 16):
        return None
    return int(trailer[2], 16)


def _never_written(data: bytes, start: int, at: int) -> bool:
    """Return True if a run of zero bytes looks like sectors that were never written; JSON contains no zero byte."""
    for found in _ZERO_RUN.finditer(data, start):
        first, end = found.start() + at, found.end() + at
        if end - first >= _ZERO_RUN_BYTES or first % _SECTOR_BYTES == 0 or end % _SECTOR_BYTES == 0:
            return True
    return False
