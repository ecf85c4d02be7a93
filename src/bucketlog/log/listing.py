"""Listing a partition's segments without listing all of them: an object store lists a thousand names a request.

The names of segments are offsets, so the newest one is found by searching: a million segments take some twenty
requests instead of a thousand.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from bucketlog.format import segments as seg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog.backend import Backend
    from bucketlog.format.segments import Segment

PAGE_ENTRIES = 1000  # what one request returns; a store that returns fewer is only asked more often
_STRIDE = 16  # steps grow by this factor until one is too long


def segments_after(backend: Backend, folder: str, first: int) -> Iterator[Segment]:
    """Yield the segments that begin at an offset or behind it, in order of their names."""
    after = folder + seg.segment_name(first - 1) if first > 0 else ""
    for entry in backend.list(folder, start_after=after):
        one = seg.parse_segment(folder, entry.key.removeprefix(folder), entry.size)
        if one is not None:
            yield one


def skim(backend: Backend, folder: str, first: int) -> Iterator[Segment]:
    """Yield segments as `segments_after` does, but pass over live ones that a compacted segment takes the place of.

    Passed over are only those that another request would have to be made for.
    """
    reach = first
    while True:
        again = False
        for count, one in enumerate(segments_after(backend, folder, first), 1):
            yield one
            reach = max(reach, one.next or 0)
            # From a compacted one on, another may begin where it does and reach farther.
            if count >= PAGE_ENTRIES and one.next is None and reach > one.first + 1:
                first, again = reach, True
                break
        if not again:
            return


def newest_live(backend: Backend, folder: str, floor: int) -> Segment | None:
    """Return the live segment with the highest name, which is not below `floor`; None if there is none.

    Between the floor and the end of the log every offset has a live segment, be it compacted already or not.
    """
    newest: Segment | None = None
    low, step, high = floor, PAGE_ENTRIES, None
    here = floor
    while True:
        count, one, more = 0, None, False
        for count, one in enumerate(segments_after(backend, folder, here), 1):
            if one.next is None:
                newest = one
                # Not behind a compacted one: the live one that begins where it does has the next name.
                if more := count >= PAGE_ENTRIES:
                    break
        if one is not None:
            low = max(low, one.first + 1)
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
    """Return where a live segment begins, at an offset or not far below it; `floor` if none is found."""
    step = 1
    while True:
        start = max(floor, offset - step)
        page = islice(segments_after(backend, folder, start), PAGE_ENTRIES)
        found = [one.first for one in page if one.next is None and one.first <= offset]
        if found:
            return found[-1]
        if start == floor:
            return floor
        step *= _STRIDE
