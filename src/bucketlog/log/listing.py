"""Listing some of a partition's segments instead of all: an object store lists only a thousand names per request.

Segment names are offsets, so the newest one can be searched for: a million segments take some twenty requests instead
of a thousand.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from bucketlog.format import segments as seg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog.backend import Backend
    from bucketlog.format.segments import Segment

PAGE_ENTRIES = 1000  # names per request; a store that returns fewer costs more requests, nothing else
_STRIDE = 16  # steps grow by this factor until one goes past the end


def segments_after(backend: Backend, folder: str, first: int) -> Iterator[Segment]:
    """Yield the segments that begin at offset `first` or later, in order of their names."""
    after = folder + seg.segment_name(first - 1) if first > 0 else ""
    for entry in backend.list(folder, start_after=after):
        segment = seg.parse_segment(folder, entry.key.removeprefix(folder), entry.size)
        if segment is not None:
            yield segment


def skim(backend: Backend, folder: str, first: int) -> Iterator[Segment]:
    """Yield segments as `segments_after` does, but skip live segments that a compacted one replaces.

    Segments are skipped only where this saves a request.
    """
    reach = first
    while True:
        again = False
        for count, segment in enumerate(segments_after(backend, folder, first), 1):
            yield segment
            reach = max(reach, segment.next or 0)
            # Not after a compacted segment: another may begin at the same offset and reach farther.
            if count >= PAGE_ENTRIES and segment.next is None and reach > segment.first + 1:
                first, again = reach, True
                break
        if not again:
            return


def newest_live(backend: Backend, folder: str, floor: int) -> Segment | None:
    """Return the live segment with the highest name at or above `floor`; None if there is none.

    Between the floor and the end of the log every offset has a live segment, whether it is compacted or not.
    """
    newest: Segment | None = None
    low, step, high = floor, PAGE_ENTRIES, None
    here = floor
    while True:
        count, segment, more = 0, None, False
        for count, segment in enumerate(segments_after(backend, folder, here), 1):
            if segment.next is None:
                newest = segment
                # Not after a compacted segment: the live one that begins at the same offset is listed next.
                if more := count >= PAGE_ENTRIES:
                    break
        if segment is not None:
            low = max(low, segment.first + 1)
        else:
            high = here
        if (count and not more) or (high is not None and low >= high):
            return newest
        if high is None:
            here = low + step
            step *= _STRIDE
        else:
            here = (low + high) // 2


def live_before(backend: Backend, folder: str, offset: int, floor: int) -> int:
    """Return where the last live segment at or before `offset` begins; `floor` if there is none."""
    step = 1
    while True:
        start = max(floor, offset - step)
        page = islice(segments_after(backend, folder, start), PAGE_ENTRIES)
        found = [segment.first for segment in page if segment.next is None and segment.first <= offset]
        if found:
            return found[-1]
        if start == floor:
            return floor
        step *= _STRIDE
