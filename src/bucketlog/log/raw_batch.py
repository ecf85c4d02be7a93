"""Raw batches: whole, checked lines of a partition, not decoded yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bucketlog.format.segments import Span


class RawBatch(NamedTuple):
    """Consecutive lines of a partition, whole and checked.

    Attributes:
        first: The offset of the first event.
        events: How many events there are, one a line.
        data: The lines, up to the byte `end`. Empty if the index of a compacted segment rules all of them out.
        end: The length of the lines in `data`, in bytes.
        key: The segment that they were read from.
        byte: Where they begin in that segment.
        spans: The commits. In a compacted segment that is read by its index, a span is a block instead, which may hold
            several commits or part of one.
    """

    first: int
    events: int
    data: bytes
    end: int
    key: str
    byte: int
    spans: list[Span]


def starting_at(raw_batch: RawBatch, offset: int) -> RawBatch:
    """Leave out the lines before an offset."""
    if raw_batch.first >= offset or not raw_batch.data:
        return raw_batch
    here, count = raw_batch.first, 0
    while here + raw_batch.spans[count].events <= offset:
        here += raw_batch.spans[count].events
        count += 1
    first = raw_batch.spans[count]
    cut = first.start
    for _ in range(offset - here):
        cut = raw_batch.data.index(b"\n", cut) + 1
    kept = [first._replace(start=cut, events=first.events - (offset - here)), *raw_batch.spans[count + 1 :]]
    spans = [span._replace(start=span.start - cut, end=span.end - cut) for span in kept]
    events = raw_batch.first + raw_batch.events - offset
    return RawBatch(offset, events, raw_batch.data[cut:], raw_batch.end - cut, raw_batch.key, raw_batch.byte, spans)
