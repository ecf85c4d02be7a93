"""The ids of a partition: exactly which are stored, in bounded memory.

The newest ids are held as they are. Of older ones only ranges, filters and hashes are held; where those do not rule an
id out, what is stored is read. Ids that ascend with time, as UUIDv7s do, are ruled out by one comparison.
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

RUN_EVENTS = 32 * 1024  # that many ids are put away at a time, once there are twice as many
_RUNS_CACHED = 2
_BLOCKS_CACHED = 64
_FEW = 16  # so few are looked up one by one, without numpy


class Known(Protocol):
    """What the commit protocol asks."""

    def find(self, event_id: str) -> int | None:
        """Return the offset of a stored id, or None."""
        ...

    def knows_any(self, ids: Collection[str]) -> bool:
        """Tell whether any of these ids is stored."""
        ...


class _Run(NamedTuple):
    """Ids of the live offsets `[first, next)` that were put away: whether they ascend, and from where to where."""

    first: int
    next: int
    low: str
    high: str
    ascend: bool


class _Hashes:
    """In which runs there may be an id, by 48 bits of its hash: wrong once in many millions.

    A filter would take half the room, and be wrong so often that reading runs in vain would cost more than all else.
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
            yield from (int(one) & self._RUN_BITS for one in hashes[first:stop][::-1])

    def may_hold(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell of each hash whether some run may hold its id."""
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
    """Ids that may be stored, with what many partitions or segments need to tell."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids

    @cached_property
    def low(self) -> str:
        """The lowest."""
        return min(self.ids)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """Their hashes."""
        return bloom.hash_texts(self.ids)

    @cached_property
    def masks(self) -> NDArray[np.uint32]:
        """What each sets in a filter."""
        return bloom.masks_of(self.hashes)


class Ids:
    """Which ids a partition holds. Not safe for several threads.

    Args:
        read: Returns the ids of the offsets `[first, next)`.

    Attributes:
        start: Where the log begins: ids of events before it are free again.
        newest: The newest ids, with their offsets.
    """

    def __init__(self, read: Callable[[int, int], Sequence[str]]) -> None:
        self._read = read
        self.start = 0
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.newest: dict[str, int] = {}
        self._runs: list[_Run] = []
        self._hashes = _Hashes()  # of the runs that do not ascend
        self._segments: dict[str, CompactedSegment] = {}
        self._last: Mapping[str, int] = {}  # where the last one was found that was looked for
        self._high = ""  # no id that was put away is greater
        self._decoded: Cache[Mapping[str, int]] = Cache(_RUNS_CACHED)
        self._blocks: Cache[Mapping[str, int]] = Cache(_BLOCKS_CACHED)

    @property
    def evicted(self) -> bool:
        """Whether there are others of live offsets than the newest."""
        return bool(self._runs)

    def learn(self, ids: Sequence[str], first: int) -> None:
        """Take in the ids of the offsets from `first` on."""
        if len(ids) == 1:
            self.newest[ids[0]] = first
        else:
            self.newest.update(zip(ids, range(first, first + len(ids)), strict=True))
        while len(self.newest) >= 2 * RUN_EVENTS:
            self._evict()

    def learn_segment(self, segment: CompactedSegment) -> None:
        """Take in all ids of a compacted segment, by its index."""
        self._segments[segment.key] = segment
        self._high = max(self._high, segment.summary.max_id)

    def surely_new(self, event_id: str) -> bool:
        """Tell whether an id can be ruled out at no cost."""
        return event_id > self._high and event_id not in self.newest

    def find(self, event_id: str) -> int | None:
        """Return the offset of a stored id, or None."""
        offset = self.newest.get(event_id)
        if offset is not None:
            return offset if offset >= self.start else None
        if event_id > self._high:
            return None
        offset = self._last.get(event_id)  # who repeats one event tends to repeat its neighbours
        if offset is not None and offset >= self.start:
            return offset
        for found in self._old(event_id):
            offset = found.get(event_id)
            if offset is not None and offset >= self.start:
                self._last = found
                return offset
        return None

    def _old(self, event_id: str) -> Iterator[Mapping[str, int]]:
        """Read what may hold an id that is not among the newest."""
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
        """Tell whether any of these ids is stored."""
        if not self.newest.keys().isdisjoint(ids):
            return True
        old = [one for one in ids if one <= self._high]
        if len(old) <= _FEW:
            return any(self.find(one) is not None for one in old)
        return any(self.find(one) is not None for one in self._left_of(Candidates(old)))

    def in_segments(self, candidates: Candidates) -> set[str]:
        """Return those of some ids that stand in compacted segments."""
        if not self._segments or not candidates.ids or candidates.low > self._high:
            return set()
        few = len(candidates.ids) <= _FEW
        return {one for one in (candidates.ids if few else self._left_of(candidates)) if self.find(one) is not None}

    def _left_of(self, candidates: Candidates) -> set[str]:
        """Return those of some ids that filters and ranges do not rule out."""
        import numpy as np

        ids, hashes, masks = candidates.ids, candidates.hashes, candidates.masks
        passed = self._hashes.may_hold(hashes)
        left: set[str] = set()
        for segment in self._segments.values():
            if "ids" in segment.summary.sections:
                words = np.frombuffer(segment.id_filter(), dtype="<u4").reshape(-1, 8)
                passed |= bloom.may_hold_many(words, hashes, masks)
            else:
                left.update(one for one in ids if segment.places_of(one))
        for run in self._runs:
            if run.ascend:
                left.update(one for one in ids if run.low <= one <= run.high)
        left.update(ids[place] for place in np.flatnonzero(passed).tolist())
        return left

    def _evict(self) -> None:
        """Put the oldest of the newest ids away."""
        ids = list(islice(self.newest, RUN_EVENTS))
        offsets = [self.newest.pop(one) for one in ids]
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

    def find(self, event_id: str) -> int | None:  # noqa: ARG002  (there are none)
        """Return None."""
        return None

    def knows_any(self, ids: Collection[str]) -> bool:  # noqa: ARG002
        """Return False."""
        return False
