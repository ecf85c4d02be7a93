"""The writer of one partition, for all the threads of a store handle.

An append passes, in this order, through group commit, the view (where the partition ends, which ids it holds), the
commit rule (who gets the next offset, what is a duplicate) and one of two ways to commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bucketlog.format import segments as seg
from bucketlog.log.commit_by_append import AppendCommitter
from bucketlog.log.commit_by_put import PutCommitter
from bucketlog.log.fairness import Fairness
from bucketlog.log.group_commit import GroupCommit

if TYPE_CHECKING:
    from bucketlog.commit import Commit
    from bucketlog.log.commit_rule import Request
    from bucketlog.log.partition_view import PartitionView


class Committer(Protocol):
    """A way to commit to a partition."""

    def commit(self, group: list[Request]) -> None:
        """Commit a group and settle its requests."""
        ...

    def append_now(self, lines: bytes, event_id: str) -> Commit | None:
        """Commit a single new event at once, or return None if `commit` has to do it."""
        ...

    def close_newest(self) -> None:
        """Make sure that no segment grows any more."""
        ...


class PartitionWriter:
    """Appends to one partition.

    Attributes:
        view: What is known of the partition.
        where: Store, stream and partition, for messages.
        append_now: Commits a single new event at once; returns None if `append` has to do it.
        close_newest: Seals the newest segment, where segments grow; the next append begins another.
    """

    def __init__(self, view: PartitionView) -> None:
        self.view, self.where = view, view.where
        root = view.root
        self._committer: Committer = (
            AppendCommitter(view, root.appender)
            if root.appender is not None
            else PutCommitter(view, Fairness(root.clock))
        )
        self._group = GroupCommit(self._commit_group, bytes_max=seg.COMMIT_BYTES_MAX - seg.TRAILER_BYTES)
        self.append_now = self._committer.append_now
        self.close_newest = self._committer.close_newest

    def append(self, request: Request) -> Commit:
        """Commit a request, alone or in a group; return when it is durable.

        Raises:
            OffsetConflictError: Another offset is the next one.
            DuplicateEventError: An id is stored already.
            OutcomeUnknownError: The commit may have been written, or may be written later.
            BackendUnavailableError: Nothing was written.
        """
        return self._group.append(request)

    def check(self, request: Request) -> None:
        """Raise the error about offsets or ids that `append` would raise now, if any, and write nothing.

        Raises:
            OffsetConflictError: Another offset is the next one.
            DuplicateEventError: An id is stored already.
        """
        view = self.view
        with view.lock:
            view.load()
            if request.expected_offset is not None or view.knows_any(request.ids):
                view.catch_up()
            decision = view.decide([request])
        for error in decision.errors.values():
            raise error

    def _commit_group(self, group: list[Request]) -> None:
        view = self.view
        with view.lock:
            try:
                view.load()
                self._committer.commit(group)
            except BaseException:
                view.invalidate_head()
                raise
