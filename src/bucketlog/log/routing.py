"""Routing: which partitions a batch touches, and in which order it is written to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bucketlog.errors import BucketlogError, StreamSettingsError
from bucketlog.log.commit_rule import decide, request_of
from bucketlog.log.days import check_day
from bucketlog.log.ids import NoIds
from bucketlog.log.settings import SINGLE_PARTITION, StreamSettings, partition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bucketlog.commit import Commit
    from bucketlog.event import Event
    from bucketlog.format.lines import Line
    from bucketlog.log.commit_rule import OnDuplicate, Request
    from bucketlog.log.partition_writer import PartitionWriter
    from bucketlog.log.stream_state import StreamState


class Routing:
    """Sends the events that one `Stream` appends to their partitions."""

    def __init__(
        self,
        state: StreamState,
        choice: str | None,
        custom: Callable[[Event], str] | None,
        wrote: Callable[[Commit, int], None] | None,
    ) -> None:
        """Make it for one `Stream`.

        Args:
            state: Shared with the other `Stream` objects of its name.
            choice: Its `partition_by` as it is stored, or None.
            custom: Its `partition_by`, if that is callable.
            wrote: Called with each commit and about how many bytes it has.
        """
        self._state, self._choice, self._custom, self._wrote = state, choice, custom, wrote

    def append(
        self,
        batch: Sequence[Event],
        lines: Sequence[Line],
        partition: str | None,
        expected_offset: int | None,
        on_duplicate: OnDuplicate,
    ) -> Commit | list[Commit]:
        """Append checked events; see `Stream.append`."""
        state = self._state
        settings = state.settings_for(self._choice)
        if settings is None:
            # The stream's first append: if it is refused or empty, it must write nothing.
            checked = self._check_first(batch, lines, partition, expected_offset, on_duplicate)
            if not batch:
                return checked
            settings = state.settings_to_write(self._choice)
        name = partition if partition is not None else SINGLE_PARTITION if settings.partition_by == "single" else None
        if name is not None:
            writer = state.writer(name)
            if settings.partition_by == "day":
                check_day(lines, name, where=state.where)
                state.days.check_other_days(lines, name, on_duplicate, where=state.where)
            if settings.partition_by == "single" and name == SINGLE_PARTITION:
                state.single = writer
            request = request_of(lines, range(len(lines)), expected_offset, on_duplicate, where=writer.where)
            return self._write(writer, request)
        return self._append_many(batch, lines, settings, expected_offset, on_duplicate)

    def _check_first(
        self,
        batch: Sequence[Event],
        lines: Sequence[Line],
        partition: str | None,
        expected_offset: int | None,
        on_duplicate: OnDuplicate,
    ) -> Commit | list[Commit]:
        """Return what the stream's first append would return, or raise what it would raise; write nothing."""
        state = self._state
        settings = StreamSettings(self._choice or "single")
        name = partition if partition is not None else SINGLE_PARTITION if settings.partition_by == "single" else None
        if name is None:
            groups = self._split(batch, lines, settings, {}, expected_offset)
        else:
            groups = {name: range(len(lines))}
            if settings.partition_by == "day":
                check_day(lines, name, where=state.where)
        commits = []
        for touched, indexes in groups.items():
            where = state.where_of(touched)
            chosen = [lines[index] for index in indexes]
            request = request_of(chosen, indexes, expected_offset, on_duplicate, where=where)
            decision = decide([request], 0, NoIds(), partition=touched, where=where)
            for error in decision.errors.values():
                raise error
            commits.append(decision.commits[0])
        return commits if name is None else commits[0]

    def _split(
        self,
        batch: Sequence[Event],
        lines: Sequence[Line],
        settings: StreamSettings,
        stored: dict[str, str],
        expected_offset: int | None,
    ) -> dict[str, Sequence[int]]:
        """Return the indexes of the events of each partition, in the order of their first event.

        Args:
            batch: The events.
            lines: Their lines.
            settings: The stream's.
            stored: In a stream by day, the days of ids that are already stored.
            expected_offset: As for `append`.
        """
        groups: dict[str, list[int]] = {}
        by_day = settings.partition_by == "day"
        where = self._state.where
        for index, (event, line) in enumerate(zip(batch, lines, strict=True)):
            partition = partition_of(event, settings.partition_by, self._custom, index=index, where=where)
            if by_day:  # a repeat goes to the day that holds its id, whatever its own time
                partition = stored.setdefault(line.id, partition)
            groups.setdefault(partition, []).append(index)
        if expected_offset is not None and len(groups) != 1:
            msg = f"append to {where}: expected_offset goes with one partition, these events touch {len(groups)}"
            raise StreamSettingsError(msg)
        return dict(groups)

    def _append_many(
        self,
        batch: Sequence[Event],
        lines: Sequence[Line],
        settings: StreamSettings,
        expected_offset: int | None,
        on_duplicate: OnDuplicate,
    ) -> list[Commit]:
        state = self._state
        stored = state.days.day_of([line.id for line in lines]) if settings.partition_by == "day" else {}
        requests = []
        for partition, indexes in self._split(batch, lines, settings, stored, expected_offset).items():
            writer = state.writer(partition)
            chosen = [lines[index] for index in indexes]
            requests.append((writer, request_of(chosen, indexes, expected_offset, on_duplicate, where=writer.where)))
        if len(requests) > 1:
            for writer, request in requests:
                writer.check(request)
        commits: list[Commit] = []
        for writer, request in requests:
            try:
                commits.append(self._write(writer, request))
            except BucketlogError as err:
                err.commits = tuple(commits)
                raise
        return commits

    def _write(self, writer: PartitionWriter, request: Request) -> Commit:
        commit = writer.append(request)
        if self._wrote is not None:
            self._wrote(commit, len(request.lines))
        return commit
