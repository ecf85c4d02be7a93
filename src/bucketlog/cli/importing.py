"""Importing: rows become events and are appended to a stream in batches, with a count of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bucketlog import Event, Stream
from bucketlog.cli.rows import BadLine, Found
from bucketlog.errors import BucketlogError, InvalidEventError

_BATCH_BYTES = 16 * 1024 * 1024  # well below the 64 MiB of a commit, because an event may be larger than its row


class BadLineError(Exception):
    """A line could not be imported; all lines before it were."""

    def __init__(self, bad: BadLine) -> None:
        super().__init__(bad)
        self.bad = bad


class Importer:
    """Imports rows into a stream. Importing a row again adds nothing.

    Attributes:
        read: The number of events that were read and are stored now.
        added: The number of events that were not stored before.
        bad: The number of lines that were skipped.
        line: The number of the last line that was imported or skipped.
    """

    def __init__(
        self,
        stream: Stream,
        to_event: Callable[[Mapping[str, Any]], Event],
        *,
        batch_events: int,
        on_bad: Callable[[BadLine], None],
        on_batch: Callable[[], None],
    ) -> None:
        """Prepare an import.

        Args:
            stream: The stream to append to.
            to_event: Makes an event from a row's columns, or raises ValueError.
            batch_events: The number of events per append.
            on_bad: Called with a line that cannot be imported, once all lines before it are; raises to stop there.
            on_batch: Called after every batch.
        """
        self.read = self.added = self.bad = self.line = 0
        self._stream, self._to_event = stream, to_event
        self._batch_events = batch_events
        self._on_bad, self._on_batch = on_bad, on_batch

    @property
    def present(self) -> int:
        """The number of events that were stored before."""
        return self.read - self.added

    def run(self, rows: Iterable[Found]) -> None:
        """Import all rows, or the rows before the first bad line if `on_bad` raises.

        Raises:
            BucketlogError: An append failed; commits before the failure are counted.
        """
        lines: list[int] = []
        events: list[Event] = []
        size = 0
        for row in rows:
            bad = row if isinstance(row, BadLine) else None
            if not isinstance(row, BadLine):
                try:
                    events.append(self._to_event(row.columns))
                    lines.append(row.line)
                    size += row.size
                except ValueError as err:
                    bad = BadLine(row.line, str(err))
            if bad is not None or len(events) >= self._batch_events or size >= _BATCH_BYTES:
                self._append(lines, events)
                lines, events, size = [], [], 0
            if bad is not None:
                self._refuse(bad)
        self._append(lines, events)

    def _append(self, lines: list[int], events: list[Event]) -> None:
        while events:
            try:
                self._append_all(events)
            except InvalidEventError as err:
                if not 0 <= err.index < len(events):
                    raise
                # Nothing was written: append the events before the bad one, then those after it.
                place = err.index
                self._append_all(events[:place])
                self._refuse(BadLine(lines[place], _reason(err)))
                lines, events = lines[place + 1 :], events[place + 1 :]
            else:
                self.line = lines[-1]
                break
        self._on_batch()

    def _append_all(self, events: list[Event]) -> None:
        if not events:
            return
        try:
            done = self._stream.append(events, on_duplicate="skip")
        except BucketlogError as err:
            for commit in err.commits:
                self.read += len(commit.offsets)
                self.added += commit.next_offset - commit.first_offset
            raise
        for commit in done if isinstance(done, list) else [done]:
            self.read += len(commit.offsets)
            self.added += commit.next_offset - commit.first_offset

    def _refuse(self, bad: BadLine) -> None:
        self._on_bad(bad)
        self.bad += 1
        self.line = bad.line


def _reason(err: InvalidEventError) -> str:
    """Return the last part of a message such as `append to …: event 3, field 'data': why`; the line number follows."""
    marker = f"field {err.field!r}: "
    return f"{err.field}: {str(err).partition(marker)[2] or err}"
