"""Committing on an object store: each commit is one PUT under the next name, on the condition that it is absent.

The writer that creates the name wins the offset. A PUT's answer may be lost, late or wrong about who won, and a writer
that slept may claim a name again after the commit under it was compacted and removed. So the writer settles the outcome
by reading the name back and, if it last saw the head too long ago, the bounds and a listing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from bucketlog.backend import ABSENT
from bucketlog.clock import Staleness
from bucketlog.errors import BucketlogError, OutcomeUnknownError
from bucketlog.format import segments as seg
from bucketlog.storage.conditional_put import put_and_settle

if TYPE_CHECKING:
    from bucketlog.backend import Content
    from bucketlog.commit import Commit
    from bucketlog.format.segments import Segment
    from bucketlog.log.commit_rule import Request
    from bucketlog.log.fairness import Fairness
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.log.partition_view import PartitionView

# `counts`: the commit is in the log. `compacted`: it is in the log, inside a compacted segment. `orphan`: the name is
# ours but no longer counts, so the commit is not in the log. `lost`: the name is another writer's.
ClaimStatus: TypeAlias = Literal["counts", "compacted", "orphan", "lost"]


class PutCommitter:
    """Commits to one partition by conditional PUTs. The caller of `commit` holds the view's lock."""

    def __init__(self, view: PartitionView, fairness: Fairness) -> None:
        self._view, self._fairness = view, fairness
        self._root = view.root

    def append_now(self, lines: bytes, event_id: str) -> Commit | None:  # noqa: ARG002  (there is no shortcut)
        """Return None: `commit` has to do it."""
        return None

    def close_newest(self) -> None:
        """Do nothing: every segment is sealed once it is stored."""

    def commit(self, group: list[Request]) -> None:
        """Commit a group and settle its requests.

        Raises:
            OutcomeUnknownError: The commit may have been written, or may be written later.
            BackendUnavailableError: Nothing was written.
        """
        view, clock = self._view, self._root.clock
        head = view.head
        self._fairness.wait()
        while True:
            decision = view.decide(group)
            if not decision.lines:
                if decision.errors or any(request.expected_offset is not None for request in group):
                    view.catch_up()
                    decision = view.decide(group)
                if not decision.lines:
                    view.settle(group, decision)
                    return
            offset = head.offset
            write_id = clock.write_id()  # a new one whenever the group is encoded anew (I6)
            data = seg.seal_commit(
                b"".join(decision.lines), events=len(decision.ids), flags=seg.ALL_BEFORE_SYNCED, write_id=write_id
            )
            sent = Staleness(clock)  # the head that this commit will show is as old as its PUT, not its answer (I15)
            began = clock.elapsed_seconds()
            won = self._put(view.folder + seg.segment_name(offset), data, write_id)
            put_seconds = clock.elapsed_seconds() - began
            status = self._claim_status(offset, write_id, won=won)
            if status == "lost":
                self._fairness.lost()
                view.catch_up()  # and then decide the whole group again (I20)
                continue
            if status == "orphan":
                view.reload_ids()  # if the name no longer counted, what we read before it may not have either
                view.load()
                continue
            view.settle(group, decision)
            self._fairness.won(put_seconds)
            if status == "compacted":
                view.reload_ids()  # names after it may be gone: it says nothing about the head (I15)
            else:
                view.last_seen_head = sent
                head.key = view.folder + seg.segment_name(head.offset)
            return

    def _put(self, key: str, data: bytes, write_id: str) -> bool:
        """Put a commit under a name if it is absent; return True if the name is ours.

        Raises:
            OutcomeUnknownError: The outcome stayed unknown; the commit may be written later.
            BackendUnavailableError: No attempt left this machine.
        """

        def is_ours(found: Content | None, *, unclear: bool) -> bool:  # noqa: ARG001  (the write id settles it)
            trailer = seg.read_trailer(found.data) if found else None
            return trailer is not None and trailer[2] == write_id

        doing = f"append to {self._view.where} (write id {write_id})"
        try:
            # The whole commit in one PUT, only if the name is free (I3).
            return put_and_settle(self._root, key, data, if_version=ABSENT, resolve=is_ours, doing=doing)
        except OutcomeUnknownError as err:
            err.write_id = write_id
            raise

    def _claim_status(self, offset: int, write_id: str, *, won: bool) -> ClaimStatus:
        """Return what became of a commit under a name that we won, or found to be another writer's.

        A name can be removed and claimed again only after a grace: by us, or, once our commit was compacted, by a
        writer that slept.

        Raises:
            OutcomeUnknownError: The offset now lies before the start of the log, or the storage could not be read.
        """
        view = self._view
        # A young head needs no second look (I16); an old one is settled by where the commit is now (I17).
        if view.last_seen_head.seconds() < view.grace_seconds / 2:
            return "counts" if won else "lost"
        key = view.folder + seg.segment_name(offset)
        reader = view.new_reader()
        try:
            listed = reader.list_segments()
            if reader.bounds.counts(offset):
                return "counts" if won else "lost"
            if offset >= reader.bounds.start:
                if any(_holds(reader, segment, offset, write_id) for segment in listed if segment.first <= offset):
                    return "compacted"
                return "orphan" if won else "lost"
        except BucketlogError as err:
            msg = (
                f"append to {view.where}: sent as {key} (write id {write_id}), but whether that name still counts "
                f"could not be read: {err}; look for the events before trying again"
            )
            raise OutcomeUnknownError(msg, write_id=write_id, key=key) from err
        msg = (
            f"append to {view.where}: offset {offset} lies before the start of the log, which was moved to "
            f"{reader.bounds.start} meanwhile; look for the events (write id {write_id}) before trying again"
        )
        raise OutcomeUnknownError(msg, write_id=write_id, key=key)


def _holds(reader: PartitionReader, segment: Segment, offset: int, write_id: str) -> bool:
    """Return True if a compacted segment holds, at an offset, the commit with a write id."""
    if segment.next is None or segment.next <= offset:
        return False
    reader.seek(offset)
    for raw_batch in reader.raw_batches(by_commit=True):
        here = raw_batch.first
        for span in raw_batch.spans:
            if here == offset:
                return span.write_id == write_id
            here += span.events
        if here > offset:
            return False
    return False
