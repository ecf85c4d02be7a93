"""Regions: whole, checked lines of a partition, not decoded yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bucketlog.format.segments import Span


class Region(NamedTuple):
    """Whole, checked lines as they stand one after the other: `events` of them, from the offset `first`.

    They are `data` up to `end`; they were read from `byte` of the segment `key`. Its spans are commits; in a compacted
    segment each is a block, which may hold several commits or part of one, unless commits were asked for. Without
    data, an index told that none of the events is wanted.
    """

    first: int
    events: int
    data: bytes
    end: int
    key: str
    byte: int
    spans: list[Span]


def starting_at(region: Region, offset: int) -> Region:
    """Leave out the lines before an offset."""
    if region.first >= offset or not region.data:
        return region
    here, count = region.first, 0
    while here + region.spans[count].events <= offset:
        here += region.spans[count].events
        count += 1
    first = region.spans[count]
    cut = first.start
    for _ in range(offset - here):
        cut = region.data.index(b"\n", cut) + 1
    kept = [first._replace(start=cut, events=first.events - (offset - here)), *region.spans[count + 1 :]]
    spans = [span._replace(start=span.start - cut, end=span.end - cut) for span in kept]
    events = region.first + region.events - offset
    return Region(offset, events, region.data[cut:], region.end - cut, region.key, region.byte, spans)
