"""Committing where segments grow: an append to the newest segment, under the partition's lock.

The lock decides who gets the next offset. A writer that still knows the newest segment's size appends at once, as the
backend locks for the append itself and refuses when the segment is not what the writer believes. Otherwise it takes the
lock, reads what others committed, and cleans up after a writer that died.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bucketlog.commit import Commit
from bucketlog.errors import BucketlogError, ConflictError, NotFoundError, OutcomeUnknownError
from bucketlog.format import segments as seg
from bucketlog.storage.root import SYNC_INTERVAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bucketlog.backend import AppendBackend
    from bucketlog.log.commit_rule import Decision, Request
    from bucketlog.log.partition_view import PartitionView

_log = logging.getLogger("bucketlog")


class AppendCommitter:
    """Commits to one partition by appending. The caller of `commit` holds the view's lock."""

    def __init__(self, view: PartitionView, appender: AppendBackend) -> None:
        self._view, self._appender = view, appender
        self._root, self._head, self._ids = view.root, view.head, view.ids
        self._distrusted = False  # the last sync of the newest segment failed
        self._synced_at = float("-inf")

    def append_now(self, lines: bytes, event_id: str) -> Commit | None:
        """Commit a single new event if nothing stands in its way; None when `commit` has to look closer.

        A durable append waits 100 microseconds and more for the disk, and after such a wait every step costs several
        times what it costs in a loop: this is `commit` without the steps that a lone event does not need.

        Raises:
            StorageFullError: No room; nothing was written.
            OutcomeUnknownError: It could not be synced, and not be taken back.
        """
        view = self._view
        lock = view.lock
        if not lock.acquire(blocking=False):
            return None  # another thread commits: join the next group
        try:
            head, root = self._head, self._root
            size = head.byte
            if (
                not head.synced
                or self._distrusted
                or not size
                or not self._ids.surely_new(event_id)
                or size + len(lines) + seg.TRAILER_BYTES > seg.SEGMENT_BYTES_MAX
                or root.sync != "always"
            ):
                return None
            data = seg.seal_commit(lines, events=1, flags=seg.ALL_BEFORE_SYNCED, write_id=root.clock.write_id())
            try:
                self._appender.append(head.key, data, expected_size=size)
            except ConflictError:
                return None
            except OutcomeUnknownError:
                self._distrusted = True
                if self._may_be_seen([event_id]):
                    raise
                return None
            offset = view.settle_one(event_id, len(data))
            return Commit(view.partition, offset, offset + 1, (offset,), (), (0,))
        except BaseException:
            view.invalidate_head()
            raise
        finally:
            lock.release()

    def commit(self, group: list[Request]) -> None:
        """Commit a group and settle its requests.

        Raises:
            StorageFullError: No room; nothing was written.
            OutcomeUnknownError: It could not be synced, and not be taken back.
        """
        view = self._view
        decision = view.decide(group)
        # A name that is yet to be made may have come and gone while we slept. Under the lock it cannot (I4).
        if decision.lines and self._head.byte and self._fits(decision) and not self._distrusted:
            try:
                self._append(decision)
            except ConflictError:
                pass  # another writer was here; look again under the lock
            except OutcomeUnknownError:
                self._distrusted = True
                if self._may_be_seen(decision.ids):
                    raise
            else:
                view.settle(group, decision)
                return
        elif (
            not decision.lines
            and not decision.errors
            and not any(request.expected_offset is not None for request in group)
        ):
            view.settle(group, decision)  # only duplicates: they are stored, whatever else was committed since
            return
        with self._appender.lock(view.folder):
            view.catch_up()
            self._repair(self._head.key, self._head.byte)
            decision = view.decide(group)
            if decision.lines:
                if self._distrusted or not self._fits(decision):
                    self._roll()
                try:
                    self._append(decision)
                except OutcomeUnknownError:
                    if self._distrusted:
                        raise
                    self._distrusted = True
                    self._append_elsewhere(decision)  # past the failed sync nothing is believed (I12)
                self._distrusted = False
        view.settle(group, decision)

    def close_newest(self) -> None:
        """Seal the newest segment, after repairing a torn end; the next append begins another."""
        appender, view = self._appender, self._view
        with view.lock, appender.lock(view.folder):
            reader = view.new_reader()
            reader.end()
            if reader.byte and not appender.is_sealed(reader.key):
                self._repair(reader.key, reader.byte)
                appender.seal(reader.key)

    def _may_be_seen(self, ids: Sequence[str]) -> bool:
        """Return True if a commit that could not be synced may still stand there, as the backend could not cut it off.

        A reader may then have seen it, so that it can neither be taken back nor written again.
        """
        try:
            self._view.catch_up()
            return self._view.knows_any(ids)
        except BucketlogError:
            return True

    def _append_elsewhere(self, decision: Decision) -> None:
        """Write a commit that could not be synced to a new segment, under the lock held since before it was written.

        Raises:
            OutcomeUnknownError: That failed as well.
        """
        head = self._head
        try:
            if head.byte:
                self._appender.cut(head.key, head.byte, aside=None)
            self._roll()
            self._append(decision)
        except OutcomeUnknownError:
            raise
        except BucketlogError as err:
            msg = (
                f"append to {self._view.where}: the disk did not confirm the write, and then: {err}; "
                "read the log before trying again"
            )
            raise OutcomeUnknownError(msg, key=head.key) from err

    def _fits(self, decision: Decision) -> bool:
        size = self._head.byte
        return not size or size + sum(map(len, decision.lines)) + seg.TRAILER_BYTES <= seg.SEGMENT_BYTES_MAX

    def _append(self, decision: Decision) -> None:
        """Append a group's commit at the head.

        Raises:
            ConflictError: The partition ends elsewhere.
            OutcomeUnknownError: The sync failed.
        """
        head, root, appender = self._head, self._root, self._appender
        sync = root.sync == "always"
        # Acknowledged means durable, and so is all that lies before (I10).
        if sync and not head.synced and head.byte:
            appender.sync(head.key)
            head.synced = True
        elif root.sync == "interval":
            sync = root.clock.elapsed_seconds() - self._synced_at >= SYNC_INTERVAL_SECONDS
        lines = decision.lines[0] if len(decision.lines) == 1 else b"".join(decision.lines)
        flags = seg.ALL_BEFORE_SYNCED if head.synced or not head.byte else 0
        data = seg.seal_commit(lines, events=len(decision.ids), flags=flags, write_id=root.clock.write_id())
        appender.append(head.key, data, expected_size=head.byte, sync=sync)
        head.byte += len(data)
        head.synced = sync
        if root.sync == "interval":
            if sync:
                self._synced_at = root.clock.elapsed_seconds()
            else:
                root.sync_soon(head.key)

    def _roll(self) -> None:
        """Seal the newest segment and move the head to the next name, under the lock.

        A failed sync is followed by this too: the page cache may then show what the disk does not have, and the next
        sync may succeed, so that segment is trusted no further.
        """
        head = self._head
        if head.byte:
            # Synced and sealed before the next name exists (I11).
            self._appender.seal(head.key)
            head.key, head.byte = self._view.folder + seg.segment_name(head.offset), 0
        else:
            self._appender.delete([head.key])  # it holds nothing yet, and the next one has the same name
        head.synced = True

    def _repair(self, key: str, end: int) -> None:
        """Move aside what a writer that died left after the last whole commit, under the lock.

        Args:
            key: The newest segment.
            end: Where its last whole commit ends, in bytes.
        """
        try:
            torn = self._appender.get(key, end, end + 1).data
        except NotFoundError:
            return
        if torn:  # moved aside before anything is appended (I9)
            name = key.removeprefix(self._view.folder)
            stamp = self._root.clock.now().strftime("%Y%m%dT%H%M%S.%fZ")
            aside = f".torn-{stamp}-{name}"
            self._appender.cut(key, end, aside=self._view.folder + aside)
            _log.warning("%s: moved the torn end of %s aside, as %s", self._view.where, name, aside)
