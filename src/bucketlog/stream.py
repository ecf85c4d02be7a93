"""A stream: append to it, read it, follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from bucketlog.buffered_writer import BufferedWriter
from bucketlog.commit import Commit
from bucketlog.cursor import Cursor
from bucketlog.event import Event
from bucketlog.format.filters import Filter
from bucketlog.format.lines import check_events, encode_lines
from bucketlog.log.commit_rule import OnDuplicate
from bucketlog.log.routing import Routing
from bucketlog.log.settings import (
    check_partition_by,
)
from bucketlog.maintenance import compaction, truncation, verification
from bucketlog.maintenance import vacuum as vacuuming
from bucketlog.maintenance.auto_compaction import AutoCompactor
from bucketlog.reading import recent
from bucketlog.reading.pieces import Batch, names_to_read, read_pieces
from bucketlog.reading.reader import Reader, batch_reader, event_reader
from bucketlog.reading.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from bucketlog.log.settings import PartitionBy
    from bucketlog.log.stream_state import StreamState
    from bucketlog.maintenance.compaction import Compaction
    from bucketlog.maintenance.truncation import TruncateReport
    from bucketlog.maintenance.vacuum import VacuumReport
    from bucketlog.maintenance.verification import StreamStats, VerifyReport
    from bucketlog.reading.arrow import ArrowReader
    from bucketlog.reading.splits import Split

__all__ = ["Batch", "Commit", "OnDuplicate", "Reader", "Stream"]

_ON_DUPLICATE = ("raise", "skip", "return")


class Stream:
    """A named log. Made by `store.stream(name)`; safe for use by several threads."""

    def __init__(self, state: StreamState, partition_by: PartitionBy | None, *, auto_compact: bool = False) -> None:
        self._state = state
        self._compactor = _compactor_of(state) if auto_compact else None
        self._root = state.root
        self._partition_by = partition_by
        self._choice = check_partition_by(partition_by, stream=state.name)
        custom: Callable[[Event], str] | None = partition_by if callable(partition_by) else None
        wrote = None if self._compactor is None else self._compactor.wrote
        self._routing = Routing(state, self._choice, custom, wrote)

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._state.name

    def __repr__(self) -> str:
        return f"<Stream {self.name!r} of {self._root.url}>"

    def url(self, partition: str | None = None) -> str:
        """Return where the stream, or one partition of it, is stored: without credentials."""
        folder = self._state.folder if partition is None else self._state.folder_of(partition)
        return f"{self._root.url.rstrip('/')}/{folder.rstrip('/')}"

    def partitions(self) -> list[str]:
        """List the partitions that were written, sorted by name."""
        return self._state.partitions()

    # -- append --------------------------------------------------------------------------------------------------------

    @overload
    def append(
        self,
        events: Event | Iterable[Event],
        *,
        partition: str,
        expected_offset: int | None = None,
        on_duplicate: OnDuplicate = "raise",
    ) -> Commit: ...
    @overload
    def append(
        self,
        events: Event | Iterable[Event],
        *,
        partition: None = None,
        expected_offset: int | None = None,
        on_duplicate: OnDuplicate = "raise",
    ) -> Commit | list[Commit]: ...
    def append(
        self,
        events: Event | Iterable[Event],
        *,
        partition: str | None = None,
        expected_offset: int | None = None,
        on_duplicate: OnDuplicate = "raise",
    ) -> Commit | list[Commit]:
        """Append one event or a batch; return when it is durable.

        Atomic in each partition. All checks come before the first write; when a later partition fails all the same,
        the error's `commits` are those that were made.

        Args:
            events: An event, or any iterable of events; at most 64 MiB in one partition.
            partition: Where to, instead of the stream's own partitioning.
            expected_offset: Append only if this is the partition's next offset.
            on_duplicate: For an id that is stored already: `"raise"`, `"skip"` it, or `"return"` its offset.

        Returns:
            One `Commit` for an unpartitioned stream or with `partition`; else a list, one a partition touched, in
            the order of their first event.

        Raises:
            InvalidEventError: An event cannot be written; nothing was.
            DuplicateEventError: An id is stored already; nothing was written.
            OffsetConflictError: Another offset is the next one; nothing was written.
            StreamSettingsError: The stream is partitioned otherwise.
            OutcomeUnknownError: The storage did not say whether it was written. Look for the ids.
            BackendUnavailableError: The storage could not be reached; nothing was written.
            ReadOnlyError: The store was opened for reading.
        """
        state, root = self._state, self._root
        if not root.writable:
            root.check_writable(f"append to stream {state.name!r}")
        if on_duplicate not in _ON_DUPLICATE:
            msg = f"on_duplicate={on_duplicate!r} is not known; choose {', '.join(map(repr, _ON_DUPLICATE))}"
            raise ValueError(msg)
        single = state.single
        if (
            single is not None
            and type(events) is Event
            and partition is None
            and expected_offset is None
            and (self._choice is None or self._choice == "single")
        ):
            lines = check_events((events,), where=single.where)
            line = encode_lines(lines, indexes=(0,), where=single.where)
            commit = single.append_now(line, lines[0].id)
            if commit is not None:
                if self._compactor is not None:
                    self._compactor.wrote(commit, len(line))
                return commit
        batch = [events] if isinstance(events, Event) else list(events)
        lines = check_events(batch, where=state.where)
        return self._routing.append(batch, lines, partition, expected_offset, on_duplicate)

    def writer(
        self,
        *,
        max_events: int = 1000,
        max_bytes: int = 4 * 1024 * 1024,
        linger: float | timedelta = 0.1,
        on_duplicate: OnDuplicate = "raise",
        auto_compact: bool = False,
    ) -> BufferedWriter:
        """Return a context manager that gathers many appends into few commits.

        Args:
            max_events: Commit when so many events wait; no commit has more.
            max_bytes: Commit when about so many bytes wait; no commit of several events has more.
            linger: Commit what has waited for so long.
            on_duplicate: As for `append`.
            auto_compact: Compact each partition after every 16 MiB that were written to it (on an object store also
                after 512 commits), in the background; in a stream by day also each day that is over. Not needed where
                the stream was opened with it.
        """
        stream = Stream(self._state, self._partition_by, auto_compact=True) if auto_compact else self
        compactor = _compactor_of(self._state) if auto_compact else None

        def append(events: list[Event]) -> list[Commit]:
            done = stream.append(events, on_duplicate=on_duplicate)
            return done if isinstance(done, list) else [done]

        return BufferedWriter(
            append,
            where=self._state.where,
            max_events=max_events,
            max_bytes=max_bytes,
            linger=linger,
            finish=None if compactor is None else compactor.finish,
        )

    # -- read ----------------------------------------------------------------------------------------------------------

    def read(
        self,
        after: Mapping[str, int] | None = None,
        *,
        partitions: Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> Reader[Event]:
        """Read events in order, partition by partition in the order of their names, to where the stream ends now.

        Args:
            after: Go on at a cursor; from the start of the log without one.
            partitions: Only these.
            types: Only events of one of these types; and so on for `subjects`, `sources` and `tags`.
            subjects: See `types`.
            sources: See `types`.
            tags: Only events with one of these tags.
            since: Only events of this time or later.
            until: Only events before this time.
            limit: At most so many.

        Returns:
            An iterator; its `cursor` is always right to go on from.

        Raises:
            OffsetOutOfRangeError: (when iterated) The cursor points before the start or beyond the end of the log.
            CorruptSegmentError: (when iterated) A segment is damaged.
        """
        wanted = Filter.of(types=types, subjects=subjects, sources=sources, tags=tags, since=since, until=until)
        cursor = Cursor(after)
        return event_reader(read_pieces(self._state, cursor, partitions, wanted), cursor, limit=limit)

    def read_batches(
        self,
        after: Mapping[str, int] | None = None,
        *,
        partitions: Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> Reader[Batch]:
        """Read as `read` does, in batches of one partition each: the fast way.

        The cursor moves over a batch when it is handed out.
        """
        wanted = Filter.of(types=types, subjects=subjects, sources=sources, tags=tags, since=since, until=until)
        cursor = Cursor(after)
        return batch_reader(read_pieces(self._state, cursor, partitions, wanted), cursor, limit=limit)

    def read_arrow(
        self,
        after: Mapping[str, int] | None = None,
        *,
        partitions: Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> ArrowReader:
        """Read as `read_batches` does, in `pyarrow.RecordBatch`es of some ten thousand rows; `data` stays JSON text.

        They look as `bucketlog.arrow_schema()` says, and may hold events of several partitions. A method of its own
        and no flag of `read_batches`, so that what it returns is known by its name.

        Raises:
            CapabilityError: pyarrow is not installed.
        """
        from bucketlog.reading.arrow import ArrowReader  # few programs need it

        wanted = Filter.of(types=types, subjects=subjects, sources=sources, tags=tags, since=since, until=until)
        cursor = Cursor(after)
        source = read_pieces(self._state, cursor, partitions, wanted)
        return ArrowReader(source, cursor, limit=limit, where=self._state.where)

    def splits(
        self, n: int, after: Mapping[str, int] | None = None, *, partitions: Sequence[str] | None = None
    ) -> list[Split]:
        """Part what `read(after, partitions=…)` would hand out now into pieces for parallel readers.

        Args:
            n: How many are wanted. They are of about equal size in bytes; there are fewer when there is little to read.
            after: Go on at a cursor; from the start of the log without one.
            partitions: Only these.

        Returns:
            Pieces that pickle, in the order of a read: see `Split`.

        Raises:
            OffsetOutOfRangeError: The cursor points before the start or beyond the end of the log.
            CorruptSegmentError: The newest segment of a partition is damaged.
            ValueError: `n` is less than 1.
        """
        from bucketlog.reading.splits import plan  # few programs need it

        if n < 1:
            msg = f"splits of {self._state.where}: n={n} is less than 1"
            raise ValueError(msg)
        cursor = Cursor(after)
        return plan(self._state, names_to_read(self._state, cursor, partitions), cursor, n=n)

    def recent(
        self,
        n: int,
        *,
        types: Sequence[str] | None = None,
        subject: str | None = None,
        source: str | None = None,
        tags: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Event]:
        """Return the newest `n` events that match, newest first by `(time, id)`.

        Raises:
            CorruptSegmentError: A segment is damaged.
        """
        wanted = Filter.of(
            types=types,
            subjects=None if subject is None else [subject],
            sources=None if source is None else [source],
            tags=tags,
            since=since,
            until=until,
        )
        return recent.newest(self._state, wanted, n)

    def get(self, event_id: str) -> Event | None:
        """Return the event with an id, or None.

        Raises:
            CorruptSegmentError: A segment is damaged.
        """
        return recent.by_id(self._state, event_id)

    def tail(
        self,
        after: Mapping[str, int] | None = None,
        *,
        poll: float | timedelta = 1.0,
        partitions: Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
    ) -> Tail:
        """Read as `read` does, then wait for more, without end; also for a stream that does not exist yet.

        Args:
            after: Go on at a cursor; from the start of the log without one.
            poll: The longest wait between two looks where the storage cannot wake us, in seconds.
            partitions: Only these; others than in `read`, new ones are found as they come.
            types: As for `read`.
            subjects: As for `read`.
            sources: As for `read`.
            tags: As for `read`.
        """
        wanted = Filter.of(types=types, subjects=subjects, sources=sources, tags=tags)
        return Tail(self._state, Cursor(after), partitions=partitions, wanted=wanted, poll=poll)

    def cursor(self) -> Cursor:
        """Return where the stream ends now.

        Raises:
            CorruptSegmentError: The newest segment of a partition is damaged.
        """
        return Cursor({name: self._state.reader(name).end() for name in self.partitions()})

    # -- upkeep --------------------------------------------------------------------------------------------------------

    def compact(self, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None) -> list[Compaction]:
        """Merge segments into compacted ones, which an index makes quick to search and which take less room.

        The newest segment is closed and included. Readers, writers and other compactions may be active meanwhile. What
        was merged stays until `vacuum`. Doing it again when nothing was appended changes nothing.

        Args:
            dry_run: Only tell what would be merged.
            progress: Is called with the bytes that were read, and the bytes to read as far as is known.

        Returns:
            What was done, one a partition, in the order of their names.

        Raises:
            CorruptSegmentError: A segment is damaged; nothing that was there is touched.
            OutcomeUnknownError: The storage gave no clear answer. It does no harm to call this again.
            BackendUnavailableError: The storage could not be reached; what was done until then counts.
            ReadOnlyError: The store was opened for reading.
        """
        if not dry_run:
            self._root.check_writable(f"compact stream {self.name!r}")
        return compaction.compact(self._state, dry_run=dry_run, progress=progress)

    def stats(self) -> StreamStats:
        """Count partitions, segments, events and bytes.

        Raises:
            CorruptSegmentError: The newest segment of a partition is damaged.
        """
        return verification.stats(self._state)

    def verify(self) -> VerifyReport:
        """Read and check everything. Damage is reported, not raised."""
        return verification.verify(self._state)

    def vacuum(
        self,
        grace: float | timedelta | None = None,
        *,
        exclusive: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> VacuumReport:
        """Remove what compaction and truncation left behind, a grace after it went out of use.

        Safe beside writers, readers, compactions and other vacuums. The first one after a compaction only puts its live
        segments out of use; one that runs a grace later removes them. Before that, the compacted segments that will
        hold the events alone are read and checked.

        Args:
            grace: How long writers and readers may still believe in what is out of use, in seconds; the stream's own
                (24 h unless its `stream.json` says otherwise) if not given. It is measured by the storage's clock.
            exclusive: The promise that no other store handle has been at work within the stream's own grace, and none
                is; a shorter grace needs it. With `grace=0` all that is out of use goes at once.
            dry_run: Only tell what would be done now, going by this machine's clock and checking nothing.
            progress: Is told how many bytes were read and checked, and of how many as far as is known.

        Raises:
            StreamSettingsError: The grace is shorter than the stream's own, and `exclusive` was not promised.
            CorruptSegmentError: A compacted segment that would hold events alone is damaged. In its partition nothing
                was done.
            CorruptCheckpointError: A partition's bounds are damaged.
            ConflictError: Others kept raising a partition's bounds; nothing was removed there.
            OutcomeUnknownError: The storage gave no clear answer. It does no harm to call this again.
            BackendUnavailableError: The storage could not be reached, or kept changing. As before.
            CapabilityError: The storage keeps no times.
            AccessDeniedError: It refuses to remove.
            ReadOnlyError: The store was opened for reading.
        """
        return vacuuming.vacuum(self._state, grace=grace, exclusive=exclusive, dry_run=dry_run, progress=progress)

    def truncate(
        self, *, before: datetime | int, partition: str | None = None, dry_run: bool = False
    ) -> TruncateReport:
        """Let the log begin later. Events before its start are gone at once; a vacuum removes them, a grace later.

        A cursor before the start gets `OffsetOutOfRangeError`, which says where the log begins. Only ever moves a start
        forward, and never past the end.

        Args:
            before: A time: each partition begins with its first event that is not older. What is late, and so stands
                behind that one, stays. Or an offset: there the partition begins.
            partition: Only this one. An offset needs it, where a stream has several.
            dry_run: Only tell what would be done.

        Raises:
            OffsetOutOfRangeError: The offset is beyond the end of the partition.
            StreamSettingsError: An offset without a partition, in a stream of several.
            InvalidValueError: Neither an aware time nor an offset.
            InvalidNameError: This cannot be a partition's name.
            CorruptSegmentError: A segment that had to be read is damaged. In its partition nothing was done.
            CorruptCheckpointError: A partition's bounds are damaged.
            ConflictError: Others kept raising a partition's bounds.
            OutcomeUnknownError: The storage gave no clear answer. It does no harm to call this again.
            BackendUnavailableError: The storage could not be reached, or kept changing. As before.
            CapabilityError: The storage keeps no times.
            ReadOnlyError: The store was opened for reading.
        """
        return truncation.truncate(self._state, before=before, partition=partition, dry_run=dry_run)


def _compactor_of(state: StreamState) -> AutoCompactor | None:
    return None if state.root.read_only else state.shared(AutoCompactor)
