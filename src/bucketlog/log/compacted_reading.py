"""Reading a compacted segment: block by block with the help of its index, or commit by commit without it.

Damage is raised as `DamageError`; the reader of the partition knows where the segment belongs and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bucketlog.format import segments as seg
from bucketlog.format.compacted import CompactedSegment, DamageError
from bucketlog.log.raw_batch import RawBatch
from bucketlog.storage.threads import map_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bucketlog.format.compacted import Block
    from bucketlog.format.filters import Filter
    from bucketlog.format.segments import Segment
    from bucketlog.storage.root import Root

_READ_BYTES = 4 * 1024 * 1024  # unpacked at a time, where the index does not help
_UNPACKED_BYTES = 2 * 1024 * 1024  # unpacked at a time, by blocks
_UNPACKED_AHEAD = 3


def open_segment(root: Root, segment: Segment) -> CompactedSegment | None:
    """Return a compacted segment by its index; None if it has none.

    Raises:
        NotFoundError: It is gone.
        DamageError: Its index is damaged.
    """
    return CompactedSegment.open(
        segment.key, lambda start, end: root.backend.get(segment.key, start, end).data, segment.size
    )


def read_blocks(
    root: Root, segment: Segment, opened: CompactedSegment, begin: int, only: Filter | None
) -> Iterator[RawBatch]:
    """Yield a segment from one of its blocks on, unpacking ahead; blocks that the index rules out come without data.

    Raises:
        DamageError: A block is damaged.
    """
    blocks = opened.blocks
    matches = None if only is None or only.is_open() else opened.may_match(only)
    ahead = map_ahead(
        root.executor,
        lambda run: (run, opened.unpack(range(*run)) if matches is None or matches[run[0]] else None),
        _runs(blocks, begin, matches),
        ahead=_UNPACKED_AHEAD,
    )
    here = blocks[begin].first
    for (first, stop), unpacked in ahead:
        if unpacked is None:
            events = sum(block.events for block in blocks[first:stop])
            yield RawBatch(here, events, b"", 0, segment.key, blocks[first].start, [])
            here += events
            continue
        for block, lines in zip(blocks[first:stop], unpacked, strict=True):
            spans = [seg.Span(0, len(lines), block.events, 0, "")] if lines else []
            yield RawBatch(here, block.events, lines, len(lines), segment.key, block.start, spans)
            here += block.events


def _runs(blocks: list[Block], begin: int, matches: Sequence[bool] | None) -> Iterator[tuple[int, int]]:
    """Part blocks into runs of a bounded size that are to be read or passed over alike."""
    first, size = begin, 0
    for place in range(begin, len(blocks)):
        wanted = matches is None or matches[place]
        if first < place and (
            (wanted and size >= _UNPACKED_BYTES) or (matches is not None and matches[first] != matches[place])
        ):
            yield first, place
            first, size = place, 0
        size += blocks[place].size
    if first < len(blocks):
        yield first, len(blocks)


def read_commits(root: Root, segment: Segment) -> Iterator[RawBatch]:
    """Yield a segment as the commits that it unpacks to, each checked: zstd frames, before the skippable ones.

    Raises:
        NotFoundError: It is gone.
        DamageError: It does not unpack, or a commit is damaged.
    """
    import zstandard  # a log without compacted segments does without

    raw = root.backend.get(segment.key).data
    stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    carried = b""
    here, byte = segment.first, 0
    while True:
        try:
            read = stream.read(_READ_BYTES)
        except zstandard.ZstdError as err:
            why = f"it does not unpack from here on: {err}"
            raise DamageError(segment.key, byte + len(carried), why) from err
        data = carried + read
        found = seg.scan(data, at=byte, complete=not read)
        if found.rest and (found.rest != "partial" or not read):
            raise DamageError(segment.key, byte + found.end, "it unpacks to something that is no whole commit here")
        if found.spans:
            events = sum(span.events for span in found.spans)
            yield RawBatch(here, events, data, found.end, segment.key, byte, found.spans)
            here += events
            byte += found.end
        carried = data[found.end :]
        if not read:
            return


def check_segment(root: Root, segment: Segment) -> None:
    """Read a compacted segment whole, and check every commit and its index.

    Raises:
        NotFoundError: It is gone.
        DamageError: It is damaged.
    """
    end, byte = segment.first, 0
    for raw_batch in read_commits(root, segment):
        end, byte = raw_batch.first + raw_batch.events, raw_batch.byte + raw_batch.end
    if end != segment.next:
        raise DamageError(segment.key, byte, f"it ends at offset {end}, not at {segment.next}")
    opened = open_segment(root, segment)
    if opened is not None:
        opened.check()
        if (opened.summary.first, opened.summary.next) != (segment.first, segment.next):
            why = f"its index is of {opened.summary.first} to {opened.summary.next}"
            raise DamageError(segment.key, 0, why)
