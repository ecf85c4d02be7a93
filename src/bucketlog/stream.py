"""A stream: append to it, read it, follow it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, overload

from bucketlog.buffered_writer import BufferedWriter
from bucketlog.cursor import Cursor
from bucketlog.event import Event
from bucketlog.format.filters import Filter
from bucketlog.format.lines import check_events, encode_lines
from bucketlog.log.routing import Routing
from bucketlog.log.settings import check_partition_by
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

    from bucketlog.commit import Commit
    from bucketlog.log.commit_rule import OnDuplicate
    from bucketlog.log.settings import PartitionBy
    from bucketlog.log.stream_state import StreamState
    from bucketlog.maintenance.compaction import Compaction
    from bucketlog.maintenance.truncation import TruncateReport
    from bucketlog.maintenance.vacuum import VacuumReport
    from bucketlog.maintenance.verification import StreamStats, VerifyReport
    from bucketlog.reading.arrow import ArrowReader
    from bucketlog.reading.splits import Split

_ON_DUPLICATE = ("raise", "skip", "return")


# Over 400 lines, most of them signatures and their docstrings. The keywords of a read are spelled out three times,
# because with `**selection: Unpack[Selection]`, `help()` and `inspect.signature` would show `selection` alone.
class Stream:
    """A named log, returned by `store.stream(name)`. Several threads can use it at once."""

    def __init__(self, state: StreamState, partition_by: PartitionBy | None, *, auto_compact: bool = False) -> None:
        self._state = state
        self._compactor = _compactor_of(state) if auto_compact else None
        self._root = state.root
        self._partition_by = partition_by
        self._choice = check_partition_by(partition_by, stream=state.name)
        custom = partition_by if callable(partition_by) else None
        self._routing = Routing(state, self._choice, custom, self._compactor.wrote if self._compactor else None)

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._state.name

    def __repr__(self) -> str:
        return f"<Stream {self.name!r} of {self._root.url}>"

    def url(self, partition: str | None = None) -> str:
        """Return the URL of the stream or of one of its partitions, without credentials."""
        folder = self._state.folder if partition is None else self._state.folder_of(partition)
        return f"{self._root.url.rstrip('/')}/{folder.rstrip('/')}"

    def partitions(self) -> list[str]:
        """List the partitions that have been written to, sorted by name."""
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

        Each partition's part is atomic. All checks run before the first write; if a later partition fails anyway, the
        error's `commits` lists the commits that were made.

        Args:
            events: An event, or any iterable of events; at most 64 MiB in one partition.
            partition: The partition to append to, instead of the one that the stream's partitioning chooses.
            expected_offset: Append only if this is the partition's next offset.
            on_duplicate: What to do with an id that is already stored: `"raise"`, `"skip"` it or `"return"` its offset.

        Returns:
            One `Commit` for an unpartitioned stream or with `partition`; otherwise a list with one for each partition
            written to, in the order of their first event.

        Raises:
            InvalidEventError: An event cannot be written; nothing was written.
            DuplicateEventError: An id is already stored; nothing was written.
            OffsetConflictError: Another offset is the next one; nothing was written.
            StreamSettingsError: The stream was created with another partitioning.
            OutcomeUnknownError: The storage did not say whether the events were written. Look for their ids.
            BackendUnavailableError: The storage could not be reached; nothing was written.
            ReadOnlyError: The store was opened read-only.
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
            max_events: Commit when this many events are waiting; no commit has more.
            max_bytes: Commit when about this many bytes are waiting; no commit of several events has more.
            linger: Commit an event after at most this time.
            on_duplicate: As for `append`.
            auto_compact: Compact in the background: each partition after every 16 MiB written to it (on an object
                store also after 512 commits) and, in a stream by day, each day that is over.
        """
        stream = Stream(self._state, self._partition_by, auto_compact=True) if auto_compact else self
        compactor = _compactor_of(self._state) if auto_compact else None
        return BufferedWriter(
            partial(_append_to, stream, on_duplicate),
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
        """Read events in order, one partition after another by name, up to the current end of the stream.

        Args:
            after: The cursor to resume from; without one, start where the log begins.
            partitions: Only these partitions.
            types: Only events of one of these types.
            subjects: Only events with one of these subjects.
            sources: Only events from one of these sources.
            tags: Only events with at least one of these tags.
            since: Only events of this time or later.
            until: Only events before this time.
            limit: At most this many events.

        Returns:
            An iterator. You can resume from its `cursor` at any time.

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
        """Read as `read` does, but in batches of one partition each, which is faster.

        The cursor moves past a batch when it is yielded.
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
        """Read as `read_batches` does, but in `pyarrow.RecordBatch`es of tens of thousands of rows.

        Their schema is `bucketlog.arrow_schema()`; `data` stays JSON text. A record batch may hold events of
        several partitions.

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
        """Divide what `read(after, partitions=…)` would yield now among parallel readers.

        Args:
            n: How many splits you want, of about equal size in bytes; you get fewer if there is little to read.
            after: As for `read`.
            partitions: As for `read`.

        Returns:
            Splits that can be pickled, in the order of a read.

        Raises:
            OffsetOutOfRangeError: The cursor points before the start or beyond the end of the log.
            CorruptSegmentError: The newest segment of a partition is damaged.
            ValueError: `n` is less than 1.
        """
        from bucketlog.reading.splits import plan  # few programs need it

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
        subjects, sources = (None if text is None else [text] for text in (subject, source))
        wanted = Filter.of(types=types, subjects=subjects, sources=sources, tags=tags, since=since, until=until)
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
        """Read as `read` does, then keep waiting for more. The stream need not exist yet.

        Args:
            after: As for `read`.
            poll: The longest pause between two polls, in seconds, on storage that cannot wake the tail.
            partitions: Only these partitions. Without it a tail, unlike `read`, also picks up new ones.
            types: As for `read`.
            subjects: As for `read`.
            sources: As for `read`.
            tags: As for `read`.
        """
        wanted = Filter.of(types=types, subjects=subjects, sources=sources, tags=tags)
        return Tail(self._state, Cursor(after), partitions=partitions, wanted=wanted, poll=poll)

    def cursor(self) -> Cursor:
        """Return the current end of the stream.

        Raises:
            CorruptSegmentError: The newest segment of a partition is damaged.
        """
        return Cursor({name: self._state.reader(name).end() for name in self.partitions()})

    # -- upkeep --------------------------------------------------------------------------------------------------------

    def compact(self, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None) -> list[Compaction]:
        """Merge segments into compacted ones, which have an index to search by and take less space.

        This closes the newest segment and includes it. It is safe beside readers, writers and other compactions. The
        merged segments stay until `vacuum` removes them.

        Args:
            dry_run: Only report what would be merged.
            progress: Called with the bytes read so far and the total known so far.

        Returns:
            One result for each partition, in the order of their names.

        Raises:
            CorruptSegmentError: A segment is damaged; it was left as it is.
            OutcomeUnknownError: The storage gave no clear answer. You can call this again.
            BackendUnavailableError: The storage could not be reached; finished partitions stay compacted.
            ReadOnlyError: The store was opened read-only.
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
        """Remove segments that compaction and truncation replaced, once they have been unused for a grace period.

        It is safe beside writers, readers, compactions and other vacuums. The first vacuum after a compaction marks the
        merged segments as unused; one that runs a grace period later removes them. Before it does, it reads and checks
        the compacted segments that will then hold the only copy.

        Args:
            grace: The grace period in seconds, by the storage's clock; by default the stream's own, which is 24 h
                unless its `stream.json` says otherwise.
            exclusive: Your promise that no other store handle is active, nor was within the stream's own grace period.
                A shorter grace needs it. With `grace=0` everything unused is removed at once.
            dry_run: Only report what would be done now, by this machine's clock and without checking.
            progress: Called with the bytes checked so far and the total known so far.

        Raises:
            StreamSettingsError: The grace is shorter than the stream's own, without `exclusive`.
            CorruptSegmentError: A compacted segment is damaged; nothing was removed from its partition.
            CorruptCheckpointError: A partition's bounds are damaged.
            ConflictError: Others kept raising a partition's bounds; nothing was removed from it.
            OutcomeUnknownError: The storage gave no clear answer. You can call this again.
            BackendUnavailableError: The storage could not be reached, or kept changing. You can call this again.
            CapabilityError: The storage keeps no modification times.
            AccessDeniedError: The storage does not permit deletion.
            ReadOnlyError: The store was opened read-only.
        """
        return vacuuming.vacuum(self._state, grace=grace, exclusive=exclusive, dry_run=dry_run, progress=progress)

    def truncate(
        self, *, before: datetime | int, partition: str | None = None, dry_run: bool = False
    ) -> TruncateReport:
        """Drop old events by moving the start of the log forward, never past its end.

        They disappear immediately; `vacuum` reclaims the space after the grace period. Reading from a cursor before the
        start raises `OffsetOutOfRangeError`, which says where the log begins.

        Args:
            before: A time, to start each partition at its first event that is not older (older events stored after it
                stay), or an offset to start the partition at.
            partition: Only this partition. An offset needs it if the stream has several.
            dry_run: Only report what would be done.

        Raises:
            OffsetOutOfRangeError: The offset is beyond the end of the partition.
            StreamSettingsError: An offset without a partition, in a stream with several.
            InvalidValueError: Neither an aware time nor an offset.
            InvalidNameError: Not a valid partition name.
            CorruptSegmentError: A segment is damaged; its partition was left as it is.
            CorruptCheckpointError: A partition's bounds are damaged.
            ConflictError: Others kept raising a partition's bounds.
            OutcomeUnknownError: The storage gave no clear answer. You can call this again.
            BackendUnavailableError: The storage could not be reached, or kept changing. You can call this again.
            CapabilityError: The storage keeps no modification times.
            ReadOnlyError: The store was opened read-only.
        """
        return truncation.truncate(self._state, before=before, partition=partition, dry_run=dry_run)


def _compactor_of(state: StreamState) -> AutoCompactor | None:
    return None if state.root.read_only else state.shared(AutoCompactor)


def _append_to(stream: Stream, on_duplicate: OnDuplicate, events: list[Event]) -> list[Commit]:
    done = stream.append(events, on_duplicate=on_duplicate)
    return done if isinstance(done, list) else [done]
