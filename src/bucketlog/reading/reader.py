"""Readers: iterate the events of a stream and keep the cursor to resume from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from bucketlog.cursor import Progress
from bucketlog.reading.pieces import Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bucketlog.cursor import Cursor
    from bucketlog.event import Event
    from bucketlog.reading.pieces import Batch

T = TypeVar("T")


class Reader(Generic[T]):
    """Iterates the events of a stream up to its end, once, and knows where to resume.

    You can iterate it, call `next()`, use it in a `with` block and close it early.
    """

    def __init__(
        self, source: Iterator[Piece], after: Cursor, *, limit: int | None, unpack: Callable[[Reader[T]], Iterator[T]]
    ) -> None:
        if limit is not None and limit < 0:
            msg = f"limit={limit} is negative"
            raise ValueError(msg)
        self._source = source
        self._progress = Progress(after)
        self._limit = limit
        self._items = unpack(self)

    @property
    def cursor(self) -> Cursor:
        """Where to resume: just after the last event yielded, skipped ones included."""
        return self._progress.cursor

    def __iter__(self) -> Iterator[T]:
        return self._items

    def __next__(self) -> T:
        return next(self._items)

    def __enter__(self) -> Reader[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading. The cursor stays valid."""
        self._items.close()  # type: ignore[attr-defined]  # both are generators
        self._source.close()  # type: ignore[attr-defined]

    def _each_event(self) -> Iterator[Event]:
        progress = self._progress
        for batch, next_offset in self._pieces():
            for event in batch.events:
                progress.last = event
                yield event
            progress.last = None
            progress.offsets[batch.partition] = next_offset

    def _each_batch(self) -> Iterator[Batch]:
        for batch, next_offset in self._pieces():
            # Moved first: the caller may save the cursor while it works on the batch.
            self._progress.offsets[batch.partition] = next_offset
            if batch.events:
                yield batch

    def _pieces(self) -> Iterator[Piece]:
        """Yield the source's pieces up to the limit; the last one is cut there."""
        left = self._limit
        if left is None:
            yield from self._source
        elif left > 0:
            for batch, next_offset in self._source:
                if len(batch.events) >= left:
                    last = batch.events[left - 1]
                    yield Piece(batch._replace(events=batch.events[:left]), (last.offset or 0) + 1)
                    return
                left -= len(batch.events)
                yield Piece(batch, next_offset)


def event_reader(source: Iterator[Piece], after: Cursor, *, limit: int | None) -> Reader[Event]:
    """Return a reader of single events."""
    return Reader(source, after, limit=limit, unpack=Reader._each_event)  # noqa: SLF001


def batch_reader(source: Iterator[Piece], after: Cursor, *, limit: int | None) -> Reader[Batch]:
    """Return a reader of batches."""
    return Reader(source, after, limit=limit, unpack=Reader._each_batch)  # noqa: SLF001
