"""Compaction: merge neighbouring segments into compacted ones, which are read faster and take less space.

Compacted segments are merged again only when there are many of about the same size, so that an event is rewritten only
a few times. Nothing is removed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from bucketlog.backend import ABSENT, PUT_BYTES_MAX
from bucketlog.errors import OffsetOutOfRangeError
from bucketlog.format.compacting import Builder
from bucketlog.format.segments import Segment, compacted_name
from bucketlog.log.read_errors import not_events
from bucketlog.storage.conditional_put import put_and_settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bucketlog.backend import Content
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.log.raw_batch import RawBatch
    from bucketlog.log.stream_state import StreamState

SEGMENT_BYTES_MAX = 48 * 1024 * 1024  # a compacted segment of this size is finished: one PUT takes 64 MiB
FAN_IN = 16  # this many neighbours of the same order of size are merged
_PUT_BYTES = PUT_BYTES_MAX - 4 * 1024 * 1024  # the limit for the size that a builder estimates
_RATIO = 5  # about how much a live segment shrinks


@dataclass(frozen=True, slots=True)
class Compaction:
    """The result for one partition: how many events were merged, and the segments and bytes before and after.

    The merged segments stay until a vacuum. All are 0 if there was nothing to do; `segments_after` and `bytes_after`
    are 0 in a dry run.
    """

    partition: str
    events: int = 0
    segments_before: int = 0
    segments_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0


def plan(
    counting: Sequence[Segment], *, fan_in: int = FAN_IN, bytes_max: int = SEGMENT_BYTES_MAX
) -> list[Sequence[Segment]]:
    """Return the runs of neighbours to merge, each into one.

    Every live segment is compacted. With the last ones, the compacted segments before them are merged again if at least
    `fan_in` of them are of no higher order of size; so are compacted ones alone.

    Args:
        counting: The segments that count, in order; none of them may still grow.
        fan_in: How many to merge, and the base of the orders of size.
        bytes_max: A compacted segment of at least half this size is never merged again.
    """
    runs: list[Sequence[Segment]] = []
    begin = 0
    while begin < len(counting):
        end = begin
        while end < len(counting) and counting[end].next is None:
            end += 1
        if end == len(counting):
            break
        if end > begin:
            runs.append(counting[begin:end])
        begin = end + 1
    newest = counting[begin:]
    before = _to_take_along(counting[:begin], newest, fan_in=fan_in, bytes_max=bytes_max)
    if newest or before:
        runs.append([*before, *newest])
    return runs


def _to_take_along(
    compacted: Sequence[Segment], newest: Sequence[Segment], *, fan_in: int, bytes_max: int
) -> Sequence[Segment]:
    """Return the compacted segments to merge with the live ones that follow them."""
    taken = 0
    new_bytes = sum(segment.size for segment in newest) // _RATIO
    while True:
        merged_bytes = new_bytes + sum(segment.size for segment in compacted[len(compacted) - taken :])
        left = compacted[: len(compacted) - taken]
        order = _order(merged_bytes or (left[-1].size if left else 0), fan_in)
        more = 0
        for segment in reversed(left):
            if segment.next is None or segment.size >= bytes_max // 2 or _order(segment.size, fan_in) > order:
                break
            more += 1
        if more + bool(merged_bytes) < fan_in:
            return compacted[len(compacted) - taken :]
        taken += more


def _order(size: int, base: int) -> int:
    order = 0
    while size >= base:
        size //= base
        order += 1
    return order


def _ignore(size: int) -> None:
    pass


def compact(state: StreamState, *, dry_run: bool, progress: Callable[[int, int], None] | None) -> list[Compaction]:
    """Compact every partition of a stream; see `Stream.compact`."""
    read = total = 0

    def found(size: int) -> None:
        nonlocal total
        total += size

    def read_on(size: int) -> None:
        nonlocal read
        read += size
        if progress is not None:
            progress(read, max(read, total))

    return [
        compact_partition(state, name, dry_run=dry_run, found=found, progress=read_on) for name in state.partitions()
    ]


def compact_partition(
    state: StreamState,
    partition: str,
    *,
    dry_run: bool = False,
    found: Callable[[int], None] = _ignore,
    progress: Callable[[int], None] = _ignore,
) -> Compaction:
    """Compact one partition of a stream.

    Args:
        state: The stream.
        partition: Its name.
        dry_run: Only report what would be merged.
        found: Called with bytes that are to be read.
        progress: Called with bytes that were read.
    """
    writer = state.writer(partition)
    if not dry_run:
        writer.close_newest()
    reader = state.reader(partition)
    listed = reader.list_segments()
    if listed and not dry_run and reader.may_grow(listed[-1].key):
        listed.pop()  # another writer has begun it since
    merged: dict[str, Segment] = {}
    made: dict[str, Segment] = {}
    seen: set[str] = set()
    while runs := plan(listed):
        chosen = {segment.key: segment for run in runs for segment in run}
        if not seen.isdisjoint(chosen):
            break  # merging them again would change nothing
        seen.update(chosen)
        merged.update((key, one) for key, one in chosen.items() if key not in made)
        found(sum(segment.size for segment in chosen.values()))
        if dry_run:
            break
        written: list[Segment] = []
        for run in runs:
            begin = listed.index(run[0])
            end_before = (listed[begin - 1].next if begin else None) or reader.bounds.start
            written += merge(state.reader(partition), run, first=max(run[0].first, end_before), progress=progress)
        made = {key: one for key, one in made.items() if key not in chosen}
        made.update((segment.key, segment) for segment in written)
        # They may be larger or smaller than planned. What was appended meanwhile waits for the next compaction.
        listed = list(takewhile(lambda one: one.next is not None, reader.list_segments()))
    if made:
        writer.view.reload_ids()
    return Compaction(
        partition,
        sum((segment.next or 0) - segment.first for segment in made.values()),
        len(merged),
        len(made),
        sum(segment.size for segment in merged.values()),
        sum(segment.size for segment in made.values()),
    )


def merge(
    reader: PartitionReader, segments: Sequence[Segment], *, first: int, progress: Callable[[int], None]
) -> list[Segment]:
    """Write the events of neighbouring segments as compacted ones, and return these.

    It checks every commit. Others may do the same at the same time: the name of a compacted segment says which events
    it holds, so it does not matter which one wins.

    Args:
        reader: Their partition's reader.
        segments: The segments as they were listed, in order.
        first: The first event that the segments before them do not hold. Its whole commit is included.
        progress: Called with bytes that were read.

    Raises:
        CorruptSegmentError: A segment is damaged; it was left as it is.
        OutcomeUnknownError: It is unknown whether the last segment was written, which does no harm.
    """
    written = []
    for begin, end, data in _built(reader, segments, first, progress):
        key = reader.folder + compacted_name(begin, end)
        doing = f"compact {reader.where}, offsets {begin} to {end}"
        # The name stands for this content; any process that stored it stored the same (I25).
        put_and_settle(reader.root, key, data, if_version=ABSENT, resolve=_as_good_as_ours, doing=doing)
        written.append(Segment(key, begin, end, len(data)))
    return written


def _built(
    reader: PartitionReader, segments: Sequence[Segment], first: int, progress: Callable[[int], None]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield compacted segments as (first, next, content)."""
    keys = {segment.key for segment in segments}
    builder = Builder(first)
    reader.seek(first)
    raw_batch = None
    key = ""
    try:
        for raw_batch in reader.raw_batches(by_commit=True):
            if raw_batch.key not in keys:
                if raw_batch.key.endswith(".zst") and key != segments[-1].key:
                    return  # another process has compacted this since we listed
                break  # the end of what is to be merged
            key = raw_batch.key
            begin, data, events = _commits_from(raw_batch, builder.next)
            if begin < builder.next:
                builder = _begun_before(builder, begin)
            larger = _added(builder, data, events)
            if larger is not builder:
                yield builder.first, builder.next, builder.finish()
            builder = larger
            progress(len(data))
            if builder.size >= SEGMENT_BYTES_MAX:
                yield builder.first, builder.next, builder.finish()
                builder = Builder(builder.next)
        if builder.next > builder.first:
            yield builder.first, builder.next, builder.finish()
    except OffsetOutOfRangeError as err:
        if err.offset >= err.start:
            raise
        return  # truncated since we listed
    except ValueError as err:
        if raw_batch is None:
            raise
        raise not_events(reader.where, raw_batch, err) from err


def _begun_before(builder: Builder, begin: int) -> Builder:
    """Begin a segment where its first commit does, as a log may begin inside a commit."""
    if builder.next > builder.first:
        msg = f"offset {builder.next}, where another segment ends, is inside a commit"
        raise ValueError(msg)
    return Builder(begin)


def _commits_from(raw_batch: RawBatch, offset: int) -> tuple[int, bytes, int]:
    """Return the commits of a raw batch that end after an offset, as (first, lines, events)."""
    first, start = raw_batch.first, 0
    for span in raw_batch.spans:
        if first + span.events > offset:
            break
        first, start = first + span.events, span.end
    whole = not start and raw_batch.end == len(raw_batch.data)
    return (
        first,
        raw_batch.data if whole else raw_batch.data[start : raw_batch.end],
        raw_batch.first + raw_batch.events - first,
    )


def _added(builder: Builder, data: bytes, events: int) -> Builder:
    """Add commits to a segment, or to a next one if they would exceed one PUT; return the one with them."""
    if builder.next > builder.first and builder.size + len(data) > _PUT_BYTES:
        alone = Builder(builder.next)
        alone.add(data, events=events)
        if builder.size + alone.size > _PUT_BYTES:
            return alone
    builder.add(data, events=events)
    return builder


def _as_good_as_ours(content: Content | None, *, unclear: bool) -> bool:  # noqa: ARG001  (it has the same events)
    return content is not None
