"""What a store handle knows of a partition: where it ends, and which ids it holds.

Committing and checking for duplicates both ask this one view. It learns from the handle's own commits, and by listing
and reading what others committed.
"""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from bucketlog.clock import Staleness
from bucketlog.errors import CorruptSegmentError, NotFoundError, OffsetOutOfRangeError
from bucketlog.format import segments as seg
from bucketlog.format.compacted import DamageError
from bucketlog.format.lines import decode_ids
from bucketlog.log.commit_rule import decide
from bucketlog.log.ids import Ids
from bucketlog.log.partition_reader import PartitionReader
from bucketlog.log.raw_batch import starting_at
from bucketlog.log.read_errors import damaged, not_events

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from bucketlog.format.segments import Segment
    from bucketlog.log.commit_rule import Decision, Request
    from bucketlog.log.ids import Candidates
    from bucketlog.log.raw_batch import RawBatch
    from bucketlog.storage.root import Root

_RESTARTS_MAX = 8  # each restart follows a truncation that overtook us

T = TypeVar("T")


class Head:
    """Where a partition ends.

    Attributes:
        key: The newest segment, or the name of the next one; empty if a listing has to find it.
        byte: How many bytes of that segment are known; 0 for one that does not exist yet.
        offset: The next offset; -1 for the start of the log, before anything was read.
        boundary: The last offset at which a commit is known to have ended.
        synced: Whether everything before the end is known to be durable.
    """

    __slots__ = ("boundary", "byte", "key", "offset", "synced")

    def __init__(self) -> None:
        self.key, self.byte, self.offset = "", 0, -1
        self.boundary, self.synced = 0, False


class PartitionView:
    """The end and the ids of a partition, as known to one store handle.

    Attributes:
        lock: Guards the view. Public methods acquire it, except those whose docstring says that the caller holds it.
        head: Where the partition ends.
        ids: The stored ids.
        last_seen_head: How long ago the head was certain: since a listing began, or since we sent our own acknowledged
            commit. Reading another writer's segment by its name does not count, as that name may have come and gone.
    """

    def __init__(
        self,
        root: Root,
        folder: str,
        partition: str,
        *,
        grace_seconds: float,
        where: str,
        days: dict[str, str] | None = None,
    ) -> None:
        self.root, self.folder, self.partition, self.where = root, folder, partition, where
        self.grace_seconds = grace_seconds
        self.lock = threading.RLock()
        self.head = Head()
        self.ids = Ids(self._read_ids)
        self.last_seen_head = Staleness(root.clock)
        self._days = days  # in a stream by day: the day of every id that is in no compacted segment
        self._reader = self.new_reader()
        self._loaded = False
        self._indexed_to: Segment | None = None  # the last segment listed, if only ids were learned, not the head

    def new_reader(self) -> PartitionReader:
        """Return another reader of the partition, at the start of its log."""
        reader = PartitionReader(
            self.root, self.folder, self.partition, grace_seconds=self.grace_seconds, where=self.where
        )
        reader.seek(-1)
        return reader

    # -- what others ask -----------------------------------------------------------------------------------------------

    def is_current(self, newest: Segment) -> bool:
        """Return True if all ids are known, given the last segment of a listing made just now."""
        with self.lock:
            if not self._loaded:
                return newest == self._indexed_to
            head = self.head
            if newest.next is not None:
                return newest.next <= head.offset
            if (newest.key, newest.size) == (head.key, head.byte):
                return True
            return not head.byte and newest.first < head.offset and not self._reader.may_grow(newest.key)

    def stored_among(self, ids: Iterable[str]) -> set[str]:
        """Return which of the ids are stored here. Catches up first if the last listing is stale."""
        with self.lock:
            if self._loaded and self._reader.listing.is_stale():
                self.catch_up()
            self.load()
            return {event_id for event_id in ids if self._ask(partial(self.ids.find, event_id)) is not None}

    def in_segments(self, candidates: Candidates) -> set[str]:
        """Return which of the ids are in compacted segments that this view knows."""
        with self.lock:
            if self._indexed_to is None:
                self.load()
            found = self._ask(lambda: self.ids.in_segments(candidates))
            if found and not self._loaded:  # they may lie before the start of the log
                self.load()
                found = self._ask(lambda: self.ids.in_segments(candidates))
            return found

    def knows_any(self, ids: Collection[str]) -> bool:
        """Return True if any of the ids is stored. The caller holds the lock."""
        return self._ask(lambda: self.ids.knows_any(ids))

    # -- learning ------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Catch up if the partition was never read; on an object store, also if the head was last seen too long ago."""
        with self.lock:
            # A writer that slept might claim a name that was used and removed; catching up first avoids that.
            slept = not self.root.segments_grow and self.last_seen_head.seconds() >= self.grace_seconds / 2
            if slept or not self._loaded:
                self.catch_up()

    def catch_up(self) -> None:
        """Read what other writers have committed.

        Raises:
            CorruptSegmentError: A segment that has to be read is damaged.
        """
        with self.lock:
            forgotten: Iterable[str] = ()
            for left in reversed(range(_RESTARTS_MAX)):
                try:
                    self._read_on()
                    break
                except OffsetOutOfRangeError as err:
                    if err.offset >= err.start or not left:
                        raise
                    # A truncation moved the start past the offset where we stood: read the whole log again.
                    forgotten = forgotten or self._filed_by_day()
                    self.invalidate()
            self._unfile(forgotten)
            self._loaded, self._indexed_to = True, None

    def _read_on(self) -> None:
        reader, head = self._reader, self.head
        # A writer that listed after every lost race would lose the next one too. So it reads on by name, which says
        # nothing about the head (I15).
        lists = not head.key or reader.listing.is_stale()
        began = Staleness(self.root.clock)
        read = False
        known = head.offset
        reader.resume(head.key, head.byte, head.offset, boundary=head.boundary)
        try:
            for found in reader.raw_batches(skip=self._learn_segment):
                read = True
                raw_batch = starting_at(found, max(known, reader.bounds.start))
                self._learn(self._ids_of(raw_batch), raw_batch.first)
                known = raw_batch.first + raw_batch.events
        except BaseException:
            self.invalidate_head()
            head.offset = known
            raise
        head.key, head.byte = reader.key, reader.byte
        head.offset = head.boundary = reader.offset
        self.ids.start = reader.bounds.start
        if lists:
            self.last_seen_head = began
        if read:
            head.synced = True  # reading a growing segment makes it durable first

    def load_from_index(self, listed: Sequence[Segment]) -> None:
        """Learn the ids from the indexes of the compacted segments if those hold the whole partition; else catch up.

        Args:
            listed: All segments of the partition, listed just now, in the order of their names.
        """
        compacted = [segment for segment in listed if segment.next is not None]
        with self.lock:
            if not self._loaded and compacted:
                counting = seg.chain(compacted, start=min(segment.first for segment in compacted), floor=0)
                end = counting[-1].next or 0
                if all(segment.first < end for segment in listed):
                    self._forget()
                    # A vacuum may have removed one since. A damaged one may lie before the start, where nobody reads.
                    with contextlib.suppress(NotFoundError, CorruptSegmentError):
                        if all(map(self._learn_segment, counting)):
                            self._indexed_to = listed[-1]
                            return
            self.catch_up()

    def decide(self, group: Sequence[Request]) -> Decision:
        """Decide each request of a group, as if the group were written at the head. The caller holds the lock."""
        return self._ask(lambda: decide(group, self.head.offset, self.ids, partition=self.partition, where=self.where))

    def settle(self, group: Sequence[Request], decision: Decision) -> None:
        """Record a group's commit, which was written at the head, and give every request its outcome.

        The caller holds the lock.
        """
        first = self.head.offset
        self._learn(decision.ids, first)
        self.head.offset = self.head.boundary = first + len(decision.ids)
        for place, request in enumerate(group):
            request.commit, request.error = decision.commits.get(place), decision.errors.get(place)

    def settle_one(self, event_id: str, size: int) -> int:
        """Record the commit of one event, which was appended at the head, and return its offset.

        The caller holds the lock.

        Args:
            event_id: Its id.
            size: The size of the commit in bytes.
        """
        head = self.head
        offset = head.offset
        head.byte += size
        self._learn([event_id], offset)
        head.offset = head.boundary = offset + 1
        return offset

    # -- forgetting ----------------------------------------------------------------------------------------------------

    def invalidate_head(self) -> None:
        """Make the next use list again, because what the last commit wrote is uncertain."""
        with self.lock:
            self.head.key, self.head.synced, self._loaded = "", False, False
            self._indexed_to = None

    def invalidate(self) -> None:
        """Forget everything that was listed or learned."""
        with self.lock:
            self.invalidate_head()
            self._forget()

    def reload_ids(self) -> None:
        """Forget the head and all ids, to learn ids compacted since from indexes, which takes less memory."""
        with self.lock:
            forgotten = self._filed_by_day()
            self.invalidate()
            if self._days is not None:
                self.load()
                self._unfile(forgotten)

    def _forget(self) -> None:
        self.ids.clear()
        head = self.head
        head.key, head.byte, head.offset = "", 0, -1

    def _filed_by_day(self) -> Iterable[str]:
        """Return the ids that the map of all days files under this partition."""
        if self._days is None:
            return ()
        if self.ids.evicted:
            return [event_id for event_id, day in list(self._days.items()) if day == self.partition]
        return self.ids.newest

    def _unfile(self, ids: Iterable[str]) -> None:
        if self._days is not None:
            for event_id in ids:
                if event_id not in self.ids.newest:
                    self._days.pop(event_id, None)

    # -- ids -----------------------------------------------------------------------------------------------------------

    def _ask(self, question: Callable[[], T]) -> T:
        """Return the answer to a question about ids; it may have to look some of them up in the storage."""
        try:
            try:
                return question()
            except (NotFoundError, OffsetOutOfRangeError):
                # A segment is gone, because it was compacted or lies before the start of the log: list and ask again.
                self.reload_ids()
                self.load()
                return question()
        except DamageError as err:
            raise damaged(self._reader.where, err, offset=self._reader.offset) from err

    def _learn(self, ids: list[str], first: int) -> None:
        self.ids.learn(ids, first)  # only of commits that count (I21)
        if self._days is not None:
            self._days.update(dict.fromkeys(ids, self.partition))

    def _learn_segment(self, segment: Segment) -> bool:
        """Learn the ids of a compacted segment from its index; return False if it has none."""
        opened = self._reader.open_compacted(segment)
        if opened is None:
            return False
        self.ids.learn_segment(opened)
        return True

    def _read_ids(self, first: int, following: int) -> list[str]:
        """Read evicted ids: those of the offsets `[first, following)`."""
        reader = self.new_reader()
        reader.seek(first)
        ids: list[str] = []
        for raw_batch in reader.raw_batches():
            ids += self._ids_of(starting_at(raw_batch, first + len(ids)))
            if first + len(ids) >= following:
                break
        return ids[: following - first]

    def _ids_of(self, raw_batch: RawBatch) -> list[str]:
        try:
            return decode_ids(memoryview(raw_batch.data)[: raw_batch.end], count=raw_batch.events)
        except (ValueError, msgspec.DecodeError) as err:
            raise not_events(self._reader.where, raw_batch, err) from err
