"""The buffered writer: many small appends, few commits."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from bucketlog.clock import to_seconds
from bucketlog.errors import BucketlogError, UnwrittenEventsError
from bucketlog.event import Event
from bucketlog.format.lines import check_events, encode_lines
from bucketlog.format.segments import COMMIT_BYTES_MAX, TRAILER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta
    from types import TracebackType

    from bucketlog.commit import Commit

_BYTES_MAX = COMMIT_BYTES_MAX - TRAILER_BYTES


class _Waiting(NamedTuple):
    """An event in the buffer, and about how many bytes it adds to a commit."""

    event: Event
    size: int


class BufferedWriter:
    """Gathers events and commits them in order, in a thread of its own.

    `append` returns immediately, unless the buffer is full, and promises nothing. `flush` and the end of the `with`
    block return when everything before them is durable. After a failed commit the writer stops: the next call raises
    `UnwrittenEventsError` with the events that were not acknowledged, and the writer accepts no more, so that a later
    event never overtakes an earlier one.

    Attributes:
        written: The number of acknowledged events, including duplicates.
        duplicates: How many of these were already stored.
    """

    def __init__(
        self,
        append: Callable[[list[Event]], list[Commit]],
        *,
        where: str,
        max_events: int,
        max_bytes: int,
        linger: float | timedelta,
        finish: Callable[[], None] | None = None,
    ) -> None:
        """Make a writer; `Stream.writer` does.

        Args:
            append: Commits a batch; an error's `commits` lists what was committed before it.
            where: Store and stream, for messages.
            max_events: See `Stream.writer`.
            max_bytes: See `Stream.writer`.
            linger: See `Stream.writer`.
            finish: Called when the writer is closed.
        """
        if max_events < 1 or max_bytes < 1:
            msg = f"max_events={max_events} and max_bytes={max_bytes} must be at least 1"
            raise ValueError(msg)
        self.written = 0
        self.duplicates = 0
        self._append, self._where, self._finish = append, where, finish
        self._max_events, self._max_bytes = max_events, min(max_bytes, _BYTES_MAX)
        self._linger_seconds = to_seconds(linger, name="linger")
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._in_flight: list[Event] = []
        self._taken = 0  # the number of events appended so far
        self._flush_to = 0  # up to this one they are committed without lingering
        self._closed = False
        self._failure: BaseException | None = None
        self._raised = False
        self._thread: threading.Thread | None = None

    def append(self, events: Event | Iterable[Event]) -> None:
        """Add events to the buffer as they are now, or raise if one cannot be written.

        Raises:
            InvalidEventError: An event cannot be written; none of this call was added.
            UnwrittenEventsError: A commit failed; the writer has stopped.
        """
        batch = self._checked([events] if isinstance(events, Event) else list(events))
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._closed or not self._is_full())
            self._check_open()
            self._waiting.extend(batch)
            self._waiting_bytes += sum(waiting.size for waiting in batch)
            self._taken += len(batch)
            if self._thread is None and batch:
                self._thread = threading.Thread(target=self._run, name="bucketlog-writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Return when everything appended before is durable.

        Raises:
            UnwrittenEventsError: A commit failed; the writer has stopped.
        """
        with self._changed:
            if self._closed and self._failure is None:
                return
            target = self._flush_to = self._taken
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._failure or self.written >= target)
            self._check_open()

    def close(self) -> None:
        """Flush, and end the writer's thread.

        Raises:
            UnwrittenEventsError: A commit failed and no earlier call has raised this.
        """
        try:
            if not self._raised:
                self.flush()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            if self._thread is not None:
                self._thread.join()
            if self._finish is not None:
                self._finish()

    def __enter__(self) -> BufferedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if err is None:
            self.close()
            return
        # What the caller appended before its own error is still written; its error is the one that propagates.
        try:
            self.close()
        except BucketlogError as failure:
            if err is not failure:
                err.add_note(f"also: {failure}")

    def _checked(self, batch: list[Event]) -> list[_Waiting]:
        """Return copies that the caller cannot change, with their sizes."""
        lines = check_events(batch, where=self._where)
        body = encode_lines(lines, indexes=range(len(batch)), where=self._where) if lines else b""
        return [
            _Waiting(Event(**{name: getattr(line, name) for name in line.__struct_fields__}), len(text) + 1)
            for line, text in zip(lines, body.splitlines(), strict=True)
        ]

    def _is_full(self) -> bool:
        return len(self._waiting) >= 2 * self._max_events or self._waiting_bytes >= 2 * self._max_bytes

    def _is_due(self) -> bool:
        return (
            len(self._waiting) >= self._max_events
            or self._waiting_bytes >= self._max_bytes
            or self._flush_to > self.written
            or self._closed
        )

    def _check_open(self) -> None:
        if self._failure is not None:
            self._raised = True
            left = [*self._in_flight, *(waiting.event for waiting in self._waiting)]
            msg = (
                f"write to {self._where}: a commit failed, and the writer stopped with {len(left)} events not "
                f"acknowledged, which this error holds: {self._failure}"
            )
            raise UnwrittenEventsError(msg, events=left) from self._failure
        if self._closed:
            msg = f"write to {self._where}: the writer was closed"
            raise ValueError(msg)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                self._changed.wait_for(self._is_due, timeout=self._linger_seconds)
                self._take()
                self._changed.notify_all()
            try:
                commits = self._append(self._in_flight)
            except BaseException as err:  # noqa: BLE001  (the next call raises it again, with the events)
                with self._changed:
                    made = {index for commit in getattr(err, "commits", ()) for index in commit.indexes}
                    self.written += len(made)
                    self._in_flight = [event for index, event in enumerate(self._in_flight) if index not in made]
                    self._failure = err
                    self._changed.notify_all()
                return
            with self._changed:
                self.written += len(self._in_flight)
                self.duplicates += sum(len(commit.duplicates) for commit in commits)
                self._in_flight = []
                self._changed.notify_all()

    def _take(self) -> None:
        """Take the next commit's events out of the buffer: at least one, and as many as fit."""
        size = 0
        while self._waiting and len(self._in_flight) < self._max_events:
            if self._in_flight and size + self._waiting[0].size > self._max_bytes:
                break
            event, event_size = self._waiting.popleft()
            size += event_size
            self._in_flight.append(event)
        self._waiting_bytes -= size
