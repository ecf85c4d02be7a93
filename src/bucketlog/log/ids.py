"""The ids of a partition: an exact answer to "is this id stored?", in bounded memory.

The newest ids are kept in memory. For older ones only ranges, filters and hashes are kept; an id that these do not rule
out is looked up in the stored segments. Ids that ascend with time, as UUIDv7s do, are ruled out by one comparison.
"""

from __future__ import annotations

from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bucketlog.format import bloom
from bucketlog.format.lines import decode_ids
from bucketlog.storage.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from bucketlog.format.compacted import CompactedSegment

RUN_EVENTS = 32 * 1024  # ids evicted at a time, once twice as many are in memory
_RUNS_CACHED = 2
_BLOCKS_CACHED = 64
_FEW = 16  # up to this many ids are looked up one by one, without loading numpy


class Known(Protocol):
    """The questions that the commit protocol asks about ids."""

    def find(self, event_id: str) -> int | None:
        """Return the offset of a stored id, or None."""
        ...

    def knows_any(self, ids: Collection[str]) -> bool:
        """Return True if any of these ids is stored."""
        ...


class _Run(NamedTuple):
    """Evicted ids: those of the live offsets `[first, next)`, their range, and whether they ascend."""

    first: int
    next: int
    low: str
    high: str
    ascend: bool


class _Hashes:
    """Maps an id to the runs that may hold it, by 48 bits of its hash: one false positive in many millions.

    A Bloom filter would take half the space, but its false positives would make reading runs in vain the largest cost.
    """

    _RUN_BITS = 0xFFFF  # the other 16 bits: two billion ids

    def __init__(self) -> None:
        self._sorted: list[NDArray[np.uint64]] = []  # each longer than the next, so there are few

    def add(self, ids: Sequence[str], run: int) -> None:
        """Add the ids of a run."""
        import numpy as np

        hashes = bloom.hash_texts(ids) & np.uint64(~self._RUN_BITS & 0xFFFFFFFFFFFFFFFF) | np.uint64(run)
        hashes.sort()
        while self._sorted and len(self._sorted[-1]) <= len(hashes):
            hashes = np.concatenate((self._sorted.pop(), hashes))
            hashes.sort(kind="stable")
        self._sorted.append(hashes)

    def runs_of(self, hashed: int) -> Iterator[int]:
        """Yield the runs that may hold an id, the newest first."""
        import numpy as np

        low = hashed & ~self._RUN_BITS
        for hashes in reversed(self._sorted):
            first, stop = np.searchsorted(hashes, np.array([low, low | self._RUN_BITS], dtype=np.uint64))
            stop += stop < len(hashes) and int(hashes[stop]) == low | self._RUN_BITS
            yield from (int(entry) & self._RUN_BITS for entry in hashes[first:stop][::-1])

    def may_hold(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return, for each hash, whether some run may hold its id."""
        import numpy as np

        found = np.zeros(len(hashes), dtype=np.bool_)
        if not self._sorted:
            return found
        order = np.argsort(hashes)
        wanted = hashes[order] >> np.uint64(16)
        for known in self._sorted:
            places = np.minimum(np.searchsorted(known, wanted << np.uint64(16)), len(known) - 1)
            found[order] |= known[places] >> np.uint64(16) == wanted
        return found


class Candidates:
    """Ids that may be stored, with their hashes and masks, computed once for all partitions and segments."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids

    @cached_property
    def low(self) -> str:
        """The lowest id."""
        return min(self.ids)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """The hash of each id."""
        return bloom.hash_texts(self.ids)

    @cached_property
    def masks(self) -> NDArray[np.uint32]:
        """The bits that each id sets in a filter."""
        return bloom.masks_of(self.hashes)


class Ids:
    """The ids that a partition holds. Not thread-safe.

    Args:
        read: Returns the ids of the offsets `[first, next)`.

    Attributes:
        start: The start of the log; ids of events before it may be used again.
        newest: The newest ids and their offsets.
    """

    def __init__(self, read: Callable[[int, int], Sequence[str]]) -> None:
        self._read = read
        self.start = 0
        self.clear()

    def clear(self) -> None:
        """Forget every id."""
        self.newest: dict[str, int] = {}
        self._runs: list[_Run] = []
        self._hashes = _Hashes()  # of the runs that do not ascend
        self._segments: dict[str, CompactedSegment] = {}
        self._last: Mapping[str, int] = {}  # the run or block that held the last id found
        self._high = ""  # no evicted id is greater
        self._decoded: Cache[Mapping[str, int]] = Cache(_RUNS_CACHED)
        self._blocks: Cache[Mapping[str, int]] = Cache(_BLOCKS_CACHED)

    @property
    def evicted(self) -> bool:
        """Whether ids of live offsets were evicted."""
        return bool(self._runs)

    def learn(self, ids: Sequence[str], first: int) -> None:
        """Add the ids of the offsets from `first` on."""
        if len(ids) == 1:
            self.newest[ids[0]] = first
        else:
            self.newest.update(zip(ids, range(first, first + len(ids)), strict=True))
        while len(self.newest) >= 2 * RUN_EVENTS:
            self._evict()

    def learn_segment(self, segment: CompactedSegment) -> None:
        """Add all ids of a compacted segment, through its index."""
        self._segments[segment.key] = segment
        self._high = max(self._high, segment.summary.max_id)

    def surely_new(self, event_id: str) -> bool:
        """Return True if an id can be ruled out without any reading."""
        return event_id > self._high and event_id not in self.newest

    def find(self, event_id: str) -> int | None:
        """Return the offset of a stored id, or None."""
        offset = self.newest.get(event_id)
        if offset is not None:
            return offset if offset >= self.start else None
        if event_id > self._high:
            return None
        offset = self._last.get(event_id)  # a writer that repeats one event tends to repeat its neighbours
        if offset is not None and offset >= self.start:
            return offset
        for found in self._old(event_id):
            offset = found.get(event_id)
            if offset is not None and offset >= self.start:
                self._last = found
                return offset
        return None

    def _old(self, event_id: str) -> Iterator[Mapping[str, int]]:
        """Read the blocks and runs that may hold an id, one after the other."""
        for segment in self._segments.values():
            for place in segment.places_of(event_id):
                yield self._blocks.get((segment.key, place), partial(_ids_of_block, segment, place))
        for run in reversed(self._runs):
            if run.ascend and run.low <= event_id <= run.high:
                yield self._decoded.get((run.first, run.next), partial(self._ids_of_run, run))
        for number in self._hashes.runs_of(bloom.hash_text(event_id)):
            run = self._runs[number]
            yield self._decoded.get((run.first, run.next), partial(self._ids_of_run, run))

    def knows_any(self, ids: Collection[str]) -> bool:
        """Return True if any of these ids is stored."""
        if not self.newest.keys().isdisjoint(ids):
            return True
        old = [event_id for event_id in ids if event_id <= self._high]
        left = old if len(old) <= _FEW else self._not_ruled_out(Candidates(old))
        return any(self.find(event_id) is not None for event_id in left)

    def in_segments(self, candidates: Candidates) -> set[str]:
        """Return the candidates that compacted segments hold."""
        if not self._segments or not candidates.ids or candidates.low > self._high:
            return set()
        left = candidates.ids if len(candidates.ids) <= _FEW else self._not_ruled_out(candidates)
        return {event_id for event_id in left if self.find(event_id) is not None}

    def _not_ruled_out(self, candidates: Candidates) -> set[str]:
        """Return the candidates that filters, ranges and hashes do not rule out."""
        import numpy as np

        ids, hashes, masks = candidates.ids, candidates.hashes, candidates.masks
        passed = self._hashes.may_hold(hashes)
        left: set[str] = set()
        for segment in self._segments.values():
            if "ids" in segment.summary.sections:
                words = np.frombuffer(segment.id_filter(), dtype="<u4").reshape(-1, 8)
                passed |= bloom.may_hold_many(words, hashes, masks)
            else:
                left.update(event_id for event_id in ids if segment.places_of(event_id))
        for run in self._runs:
            if run.ascend:
                left.update(event_id for event_id in ids if run.low <= event_id <= run.high)
        left.update(ids[place] for place in np.flatnonzero(passed).tolist())
        return left

    def _evict(self) -> None:
        """Replace the oldest ids in memory by a run."""
        ids = list(islice(self.newest, RUN_EVENTS))
        offsets = [self.newest.pop(event_id) for event_id in ids]
        low, high = min(ids), max(ids)
        ascend = all(map(str.__lt__, ids, islice(ids, 1, None)))
        if not ascend:
            self._hashes.add(ids, len(self._runs))
        self._runs.append(_Run(min(offsets), max(offsets) + 1, low, high, ascend))
        self._high = max(self._high, high)

    def _ids_of_run(self, run: _Run) -> Mapping[str, int]:
        return _numbered(self._read(run.first, run.next), run.first)


def _ids_of_block(segment: CompactedSegment, place: int) -> Mapping[str, int]:
    block = segment.blocks[place]
    (lines,) = segment.unpack([place])
    return _numbered(decode_ids(lines, count=block.events), block.first)


def _numbered(ids: Sequence[str], first: int) -> Mapping[str, int]:
    return dict(zip(ids, range(first, first + len(ids)), strict=True))


class NoIds:
    """The ids of a partition that does not exist yet."""

    def find(self, event_id: str) -> int | None:  # noqa: ARG002  (there are no ids)
        """Return None."""
        return None

    def knows_any(self, ids: Collection[str]) -> bool:  # noqa: ARG002
        """Return False."""
        return False
