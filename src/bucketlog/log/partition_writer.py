"""The writer of one partition: when an append may be acknowledged.

Appends that arrive while a commit is in flight go out together as the next one (group commit). Where segments grow, a
commit is an append to the newest one under the partition's lock; elsewhere it is one put of the next name if absent.
`decide` is pure; the two ways of committing around it are as thin as they can be.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from bucketlog.backend import ABSENT
from bucketlog.clock import Staleness
from bucketlog.commit import Commit
from bucketlog.errors import (
    BucketlogError,
    ConflictError,
    CorruptSegmentError,
    NotFoundError,
    OffsetOutOfRangeError,
    OutcomeUnknownError,
)
from bucketlog.event import decode_ids
from bucketlog.format import segments as seg
from bucketlog.format.compacted import DamageError
from bucketlog.log.commit_rule import Decision, Request, decide
from bucketlog.log.fairness import Turns
from bucketlog.log.ids import Ids, Suspects
from bucketlog.log.partition_reader import PartitionReader, starting_at
from bucketlog.storage.conditional_put import put_and_settle
from bucketlog.storage.root import SYNC_INTERVAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bucketlog.backend import AppendBackend, Content
    from bucketlog.format.segments import Segment
    from bucketlog.log.partition_reader import Region
    from bucketlog.storage.root import Root

_log = logging.getLogger("bucketlog")

T = TypeVar("T")


class PartitionWriter:
    """Appends to one partition for all the threads of a store handle."""

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
        self._grace_seconds = grace_seconds
        self._days = days  # in a stream by day: where every id is stored that is in no compacted segment
        self._mutex = threading.Lock()  # guards the two below
        self._queue: deque[Request] = deque()
        self._leading = False
        self._lead = threading.RLock()  # held by whoever reads or changes what follows
        self._reader = PartitionReader(root, folder, partition, grace_seconds=grace_seconds, where=where)
        self._reader.skip = self._learn_segment
        self._reader.seek(-1)
        self._ids = Ids(self._read_ids)
        self._loaded = False
        self._surveyed: Segment | None = None  # the last one listed when only the ids were learnt, not the head
        self._distrusted = False  # the last sync failed
        self._synced_at = float("-inf")
        self._synced = False  # whether all before the end is known to be durable
        self._turns = Turns(root.clock)
        self._basis = (
            0,
            Staleness(root.clock),
        )  # the head as of the last listing or own acknowledged commit, and since when

    # -- the callers' side ---------------------------------------------------------------------------------------------

    def append(self, request: Request) -> Commit:
        """Commit a request, alone or in a group; return when it is durable.

        Raises:
            OffsetConflictError: Another offset is the next one.
            DuplicateEventError: An id is stored already.
            OutcomeUnknownError: It may have been written, or still be.
            BackendUnavailableError: Nothing was written.
        """
        with self._mutex:
            if self._leading:
                request.done = threading.Event()
            else:
                self._leading = True
            self._queue.append(request)
        if request.done is not None:
            try:
                request.done.wait()
            except BaseException:  # Ctrl-C: leave the queue in order, for the others
                self._withdraw(request)
                raise
        if request.commit is None and request.error is None:
            self._lead_group()
        if request.error is not None:
            raise request.error
        assert request.commit is not None  # the leader settles every request of its group
        return request.commit

    def _withdraw(self, request: Request) -> None:
        with self._mutex:
            leads = request.done is not None and request.done.is_set()
            if not leads:
                with contextlib.suppress(ValueError):  # already on its way
                    self._queue.remove(request)
        if leads and request.commit is None and request.error is None:
            self._lead_group()

    def check(self, request: Request) -> None:
        """Raise what `append` would raise now because of offsets or ids, and write nothing.

        Raises:
            OffsetConflictError: Another offset is the next one.
            DuplicateEventError: An id is stored already.
        """
        with self._lead:
            self._load()
            if request.expected_offset is not None or self._knows_any(request.ids):
                self._catch_up()
            decision = self._decide([request])
        for error in decision.errors.values():
            raise error

    def knows(self, newest: Segment) -> bool:
        """Tell whether all ids are known of a partition of which this was listed last."""
        with self._lead:
            if not self._loaded:
                return newest == self._surveyed
            reader, appender = self._reader, self.root.appender
            if newest.next is not None:
                return newest.next <= reader.offset
            if appender is None:
                return newest.first < reader.offset
            if newest.first < reader.offset and not reader.byte:  # we stand behind what was closed
                return appender.is_sealed(newest.key)
            return (newest.key, newest.size) == (reader.key, reader.byte)

    def in_segments(self, suspects: Suspects) -> set[str]:
        """Return those of some ids that compacted segments hold, as far as was learnt of them."""
        with self._lead:
            if self._surveyed is None:
                self._load()
            found = self._asking(lambda: self._ids.in_segments(suspects))
            if found and not self._loaded:  # it may lie before the start of the log
                self._load()
                found = self._asking(lambda: self._ids.in_segments(suspects))
            return found

    def holds(self, ids: Iterable[str]) -> set[str]:
        """Return those of some ids that are stored here; a listing that has grown old is made anew for that."""
        with self._lead:
            if self._loaded and self._reader.is_stale():
                self._catch_up()
            self._load()
            return {one for one in ids if self._asking(partial(self._ids.find, one)) is not None}

    def survey(self, listed: Sequence[Segment]) -> None:
        """Learn the ids of a partition that was listed just now; where all of it is compacted, by the indexes alone.

        Args:
            listed: All its segments, in the order of their names.
        """
        compacted = [one for one in listed if one.next is not None]
        with self._lead:
            if not self._loaded and compacted:
                counting = seg.chain(compacted, start=min(one.first for one in compacted), floor=0)
                end = counting[-1].next or 0
                if all(one.first < end for one in listed):
                    self._forget()
                    # Another may have removed one since, and what lies before the start of the log is not read at all.
                    with contextlib.suppress(NotFoundError, CorruptSegmentError):
                        if all(map(self._learn_segment, counting)):
                            self._surveyed = listed[-1]
                            return
            self.refresh()

    def refresh(self) -> None:
        """Learn of all that was committed by others."""
        with self._lead:
            self._catch_up()
            self._loaded, self._surveyed = True, None

    def look_anew(self) -> None:
        """Believe nothing that was listed or learnt before."""
        with self._lead:
            self._begin_anew()
            self._forget()

    def relearn(self) -> None:
        """Begin anew, as segments were compacted: their indexes take less memory than what was learnt from them."""
        with self._lead:
            before: Iterable[str] = ()
            if self._days is not None:
                before = self._ids.newest
                if self._ids.put_away:
                    before = [one for one, day in list(self._days.items()) if day == self.partition]
            self.look_anew()
            if self._days is not None:
                self._load()
                for one in before:
                    if one not in self._ids.newest:
                        self._days.pop(one, None)

    def _forget(self) -> None:
        self._ids.clear()
        self._reader.seek(-1)

    def close_newest(self) -> None:
        """Where segments grow, seal the newest one; the next append begins another."""
        appender = self.root.appender
        if appender is None:
            return
        with self._lead, appender.lock(self.folder):
            reader = self._fresh_reader()
            reader.end()
            if reader.byte and not appender.is_sealed(reader.key):
                self._repair(appender, reader)
                appender.seal(reader.key)

    # -- the leader's side ---------------------------------------------------------------------------------------------

    def _lead_group(self) -> None:
        """Take what waits, commit it, and let the first of those who came meanwhile lead the next group."""
        with self._mutex:
            group = [self._queue.popleft()]
            size = len(group[0].lines)
            while self._queue and size + len(self._queue[0].lines) <= seg.COMMIT_BYTES_MAX - seg.TRAILER_BYTES:
                size += len(self._queue[0].lines)
                group.append(self._queue.popleft())
        try:
            with self._lead:
                self._commit_group(group)
        except BaseException as err:  # noqa: BLE001  (each caller of the group gets it, the leader too)
            self._begin_anew()
            for request in group:
                if request.commit is None and request.error is None:
                    request.error = err if request is group[0] else _copied(err)
        finally:
            with self._mutex:
                if self._queue:
                    following = self._queue[0].done
                else:
                    following, self._leading = None, False
            if following is not None:
                following.set()
            for request in group[1:]:
                if request.done is not None:
                    request.done.set()

    def _commit_group(self, group: list[Request]) -> None:
        self._load()
        if self.root.appender is not None:
            self._commit_by_append(group, self.root.appender)
        else:
            self._commit_by_put(group)

    def _decide(self, group: list[Request]) -> Decision:
        return self._asking(
            lambda: decide(group, self._reader.offset, self._ids, partition=self.partition, where=self.where)
        )

    def _knows_any(self, ids: Sequence[str]) -> bool:
        return self._asking(lambda: self._ids.knows_any(ids))

    def _asking(self, ask: Callable[[], T]) -> T:
        """Return what is asked of the ids."""
        try:
            try:
                return ask()
            except (NotFoundError, OffsetOutOfRangeError):
                # What an id was looked for in is gone, compacted or before the start: what is there now is listed.
                self.relearn()
                self._load()
                return ask()
        except DamageError as err:
            raise self._reader.damaged(err) from err

    def _settle(self, group: list[Request], decision: Decision) -> None:
        """Tell every request of a group what became of it."""
        first = self._reader.offset
        self._learn(decision.ids, first)
        self._reader.wrote(first + len(decision.ids))
        for place, request in enumerate(group):
            request.commit, request.error = decision.commits.get(place), decision.errors.get(place)

    def _learn(self, ids: list[str], first: int) -> None:
        self._ids.learn(ids, first)
        if self._days is not None:
            self._days.update(dict.fromkeys(ids, self.partition))

    def _learn_segment(self, one: Segment) -> bool:
        """Learn the ids of a compacted segment by its index, if that will do."""
        opened = self._reader.open_compacted(one)
        if opened is None:
            return False
        self._ids.learn_segment(opened)
        return True

    def _read_ids(self, first: int, following: int) -> list[str]:
        """Read ids that were forgotten: those of the offsets `[first, following)`."""
        reader = self._fresh_reader()
        reader.seek(first)
        ids: list[str] = []
        for region in reader.regions():
            ids += self._ids_of(starting_at(region, first + len(ids)))
            if first + len(ids) >= following:
                break
        return ids[: following - first]

    def _ids_of(self, region: Region) -> list[str]:
        try:
            return decode_ids(memoryview(region.data)[: region.end], count=region.events)
        except (ValueError, msgspec.DecodeError) as err:
            raise self._reader.not_events(region, err) from err

    def _fresh_reader(self) -> PartitionReader:
        return PartitionReader(
            self.root, self.folder, self.partition, grace_seconds=self._grace_seconds, where=self.where
        )

    def _begin_anew(self) -> None:
        """List before the next commit: what the last one wrote is not known for sure."""
        self._reader.key, self._loaded, self._synced = "", False, False
        self._surveyed = None

    # -- knowing what is there -----------------------------------------------------------------------------------------

    def _load(self) -> None:
        # A writer that slept would claim a name that may have come and gone; looking first spares it that.
        slept = self.root.appender is None and self._basis[1].seconds() >= self._grace_seconds / 2
        if slept or not self._loaded:
            self._catch_up()
            self._loaded, self._surveyed = True, None

    def _catch_up(self) -> None:
        """Learn of all that was committed by others."""
        reader = self._reader
        # Where commits are puts, a writer's basis is a listing or its own commit, not another's segment that it read.
        # It may read on by name all the same: with a listing for every race that it lost, it would lose the next one.
        lists = not reader.key or reader.is_stale()
        age = Staleness(self.root.clock)
        read = False
        known = reader.offset
        try:
            try:
                for found in reader.regions():
                    read = True
                    region = starting_at(found, max(known, reader.bounds.start))
                    self._learn(self._ids_of(region), region.first)
                    known = region.first + region.events
            except OffsetOutOfRangeError as err:
                if err.offset >= err.start:
                    raise
                # The log begins later now, and we stood before that: to be read is all of it.
                known = -1
                self.relearn()
                self._catch_up()
                return
        except BaseException:
            self._begin_anew()  # the reader stands wherever it failed
            reader.seek(known)
            raise
        self._ids.start = reader.bounds.start
        if lists:
            self._basis = (reader.offset, age)
        if read:
            self._synced = True  # reading a growing segment makes it durable first

    # -- segments that grow --------------------------------------------------------------------------------------------

    def append_now(self, lines: bytes, event_id: str) -> Commit | None:
        """Commit a single new event if nothing stands in its way; None when `append` has to look closer.

        A durable append waits 100 microseconds and more for the disk, and after such a wait every step costs some times
        what it costs in a loop: this is `append` without the steps that an event alone does not need.

        Raises:
            StorageFullError: No room; nothing was written.
            OutcomeUnknownError: It could not be synced, and not be taken back.
        """
        lead = self._lead
        if not lead.acquire(blocking=False):
            return None  # somebody else commits: wait for the next group
        try:
            reader, appender = self._reader, self.root.appender
            size = reader.byte
            if (
                not self._synced
                or self._distrusted
                or not size
                or appender is None
                or not self._ids.surely_new(event_id)
                or size + len(lines) + seg.TRAILER_BYTES > seg.SEGMENT_BYTES_MAX
                or self.root.sync != "always"
            ):
                return None
            data = seg.seal_commit(lines, events=1, flags=seg.ALL_BEFORE_SYNCED, write_id=self.root.clock.write_id())
            try:
                appender.append(reader.key, data, expected_size=size)
            except ConflictError:
                return None
            except OutcomeUnknownError:
                self._distrusted = True
                if self._may_be_seen([event_id]):
                    raise
                return None
            offset = reader.offset
            reader.byte = size + len(data)
            self._learn([event_id], offset)
            reader.wrote(offset + 1)
            return Commit(self.partition, offset, offset + 1, (offset,), (), (0,))
        except BaseException:
            self._begin_anew()
            raise
        finally:
            lead.release()

    def _commit_by_append(self, group: list[Request], appender: AppendBackend) -> None:
        decision = self._decide(group)
        # A name that is yet to be made may have come and gone again while we slept; it may not while we hold the lock.
        if decision.lines and self._reader.byte and self._fits(decision) and not self._distrusted:
            try:
                self._append(decision, appender)
            except ConflictError:
                pass  # another writer was here; look again under the lock
            except OutcomeUnknownError:
                self._distrusted = True
                if self._may_be_seen(decision.ids):
                    raise
            else:
                self._settle(group, decision)
                return
        elif not decision.lines and not decision.errors and not any(one.expected_offset is not None for one in group):
            self._settle(group, decision)  # nothing but duplicates: they are stored, whatever else came since
            return
        with appender.lock(self.folder):
            self._catch_up()
            self._repair(appender, self._reader)
            decision = self._decide(group)
            if decision.lines:
                if self._distrusted or not self._fits(decision):
                    self._roll(appender)
                try:
                    self._append(decision, appender)
                except OutcomeUnknownError:
                    if self._distrusted:
                        raise
                    self._distrusted = True
                    self._append_elsewhere(decision, appender)
                self._distrusted = False
        self._settle(group, decision)

    def _may_be_seen(self, ids: Sequence[str]) -> bool:
        """Tell whether a commit that could not be synced still stands there, as the backend could not cut it off.

        Then somebody may have read it, so that it can be neither taken back nor written again.
        """
        try:
            self._catch_up()
            return self._knows_any(ids)
        except BucketlogError:
            return True

    def _append_elsewhere(self, decision: Decision, appender: AppendBackend) -> None:
        """Write a commit that could not be synced to a new segment. Held: the lock, since before it was written.

        Raises:
            OutcomeUnknownError: That failed as well.
        """
        reader = self._reader
        try:
            if reader.byte:
                appender.cut(reader.key, reader.byte, aside=None)
            self._roll(appender)
            self._append(decision, appender)
        except OutcomeUnknownError:
            raise
        except BucketlogError as err:
            msg = f"append to {self.where}: the disk did not confirm the write, and then: {err}; read what is there"
            raise OutcomeUnknownError(msg, key=reader.key) from err

    def _fits(self, decision: Decision) -> bool:
        size = self._reader.byte
        return not size or size + sum(map(len, decision.lines)) + seg.TRAILER_BYTES <= seg.SEGMENT_BYTES_MAX

    def _append(self, decision: Decision, appender: AppendBackend) -> None:
        """Append a group's commit where the partition is believed to end.

        Raises:
            ConflictError: It ends elsewhere.
            OutcomeUnknownError: The sync failed.
        """
        reader = self._reader
        root = self.root
        sync = root.sync == "always"
        if sync and not self._synced and reader.byte:
            appender.sync(reader.key)
            self._synced = True
        elif root.sync == "interval":
            sync = root.clock.elapsed_seconds() - self._synced_at >= SYNC_INTERVAL_SECONDS
        lines = decision.lines[0] if len(decision.lines) == 1 else b"".join(decision.lines)
        flags = seg.ALL_BEFORE_SYNCED if self._synced or not reader.byte else 0
        data = seg.seal_commit(lines, events=len(decision.ids), flags=flags, write_id=root.clock.write_id())
        appender.append(reader.key, data, expected_size=reader.byte, sync=sync)
        reader.byte += len(data)
        self._synced = sync
        if root.sync == "interval":
            if sync:
                self._synced_at = root.clock.elapsed_seconds()
            else:
                root.sync_soon(reader.key)

    def _roll(self, appender: AppendBackend) -> None:
        """Close the newest segment and stand in front of the next one. Held: the lock.

        This is also what follows a failed sync, after which the page cache may show what the disk does not have, and
        the next sync succeed: we trust that segment no further.
        """
        reader = self._reader
        if reader.byte:
            appender.seal(reader.key)
            reader.key, reader.byte = self.folder + seg.segment_name(reader.offset), 0
        else:
            appender.delete([reader.key])  # it holds nothing yet, and the next one has the same name
        self._synced = True

    def _repair(self, appender: AppendBackend, reader: PartitionReader) -> None:
        """Move aside what a writer that died left behind the last whole commit. Held: the lock."""
        try:
            torn = appender.get(reader.key, reader.byte, reader.byte + 1).data
        except NotFoundError:
            return
        if torn:
            name = reader.key.removeprefix(self.folder)
            stamp = self.root.clock.now().strftime("%Y%m%dT%H%M%S.%fZ")
            appender.cut(reader.key, reader.byte, aside=f"{self.folder}.torn-{stamp}-{name}")
            _log.warning("%s: moved the torn end of %s aside, as .torn-%s-%s", self.where, name, stamp, name)

    # -- one put a commit ----------------------------------------------------------------------------------------------

    def _commit_by_put(self, group: list[Request]) -> None:
        self._turns.wait()
        while True:
            decision = self._decide(group)
            if not decision.lines:
                if decision.errors or any(one.expected_offset is not None for one in group):
                    self._catch_up()
                    decision = self._decide(group)
                if not decision.lines:
                    self._settle(group, decision)
                    return
            offset = self._reader.offset
            write_id = self.root.clock.write_id()
            data = seg.seal_commit(
                b"".join(decision.lines), events=len(decision.ids), flags=seg.ALL_BEFORE_SYNCED, write_id=write_id
            )
            age = Staleness(self.root.clock)  # of what this commit will tell of the head, whenever we come to look
            began = self.root.clock.elapsed_seconds()
            won = self._put(self.folder + seg.segment_name(offset), data, write_id)
            put_seconds = self.root.clock.elapsed_seconds() - began
            standing = self._standing(offset, write_id, won=won)
            if standing == "lost":
                self._turns.lost()
                self._catch_up()
                continue
            if standing == "stray":
                self.relearn()  # the name counted no longer, and so perhaps neither did what we read before it
                self._load()
                continue
            self._settle(group, decision)
            self._turns.won(put_seconds)
            if standing == "compacted":
                self.relearn()  # the names behind it may have been removed: it says nothing of the head
            else:
                self._basis = (offset + len(decision.ids), age)
                self._reader.key = self.folder + seg.segment_name(offset + len(decision.ids))
            return

    def _put(self, key: str, data: bytes, write_id: str) -> bool:
        """Put a commit under a name if it is free; tell whether the name is ours.

        Raises:
            OutcomeUnknownError: No certainty within the budget; it may still land.
            BackendUnavailableError: No attempt has left this machine.
        """

        def is_ours(found: Content | None, *, unclear: bool) -> bool:  # noqa: ARG001  (whose the name is, is certain)
            trailer = seg.read_trailer(found.data) if found else None
            return trailer is not None and trailer[2] == write_id

        doing = f"append to {self.where} (write id {write_id})"
        try:
            return put_and_settle(self.root, key, data, if_version=ABSENT, judge=is_ours, doing=doing)
        except OutcomeUnknownError as err:
            err.write_id = write_id
            raise

    def _standing(self, offset: int, write_id: str, *, won: bool) -> Literal["counts", "compacted", "stray", "lost"]:
        """Tell what became of a commit under a name that we won, or found to be another's.

        A name may be removed and claimed a second time, by us or, after our commit was compacted, by a writer that
        slept; that takes a grace.

        Raises:
            OutcomeUnknownError: It lies before the start of the log now, or this could not be found out.
        """
        _, age = self._basis
        if age.seconds() < self._grace_seconds / 2:
            return "counts" if won else "lost"
        key = self.folder + seg.segment_name(offset)
        fresh = self._fresh_reader()
        try:
            listed = fresh.list_segments()
            if fresh.bounds.counts(offset):
                return "counts" if won else "lost"
            if offset >= fresh.bounds.start:
                if any(_holds(fresh, one, offset, write_id) for one in listed if one.first <= offset):
                    return "compacted"
                return "stray" if won else "lost"
        except BucketlogError as err:
            msg = (
                f"append to {self.where}: sent as {key} (write id {write_id}), but whether that name still counts "
                f"could not be read: {err}; look for the events before trying again"
            )
            raise OutcomeUnknownError(msg, write_id=write_id, key=key) from err
        msg = (
            f"append to {self.where}: offset {offset} lies before the start of the log, which was moved to "
            f"{fresh.bounds.start} meanwhile; look for the events (write id {write_id}) before trying again"
        )
        raise OutcomeUnknownError(msg, write_id=write_id, key=key)


def _holds(reader: PartitionReader, segment: Segment, offset: int, write_id: str) -> bool:
    """Tell whether a compacted segment holds the commit with a write id at an offset."""
    if segment.next is None or segment.next <= offset:
        return False
    reader.seek(offset)
    for region in reader.regions(by_commit=True):
        here = region.first
        for span in region.spans:
            if here == offset:
                return span.write_id == write_id
            here += span.events
        if here > offset:
            return False
    return False


def _copied(err: BaseException) -> BaseException:
    """Return an exception for another thread; raised twice, one traceback would hold both."""
    if not isinstance(err, Exception):
        return OutcomeUnknownError("append: the thread that was committing this group was interrupted")
    copied = type(err).__new__(type(err), *err.args)
    copied.args = err.args
    copied.__dict__.update(err.__dict__)
    copied.__cause__ = err
    return copied
