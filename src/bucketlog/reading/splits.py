"""Splits: the current events of a stream, divided among readers in other threads, processes or machines."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from bucketlog.backend import Backend
from bucketlog.clock import SystemClock
from bucketlog.cursor import Cursor
from bucketlog.errors import CapabilityError, StoreNotFoundError
from bucketlog.format.filters import Filter
from bucketlog.log.read_errors import before_the_start, beyond_the_end
from bucketlog.log.stream_state import StreamState
from bucketlog.reading.pieces import read_pieces
from bucketlog.reading.reader import batch_reader, event_reader
from bucketlog.storage.location import Location
from bucketlog.storage.root import Root, open_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from bucketlog.event import Event
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.reading.arrow import ArrowReader
    from bucketlog.reading.pieces import Batch, Piece
    from bucketlog.reading.reader import Reader

_UNPACKED_RATIO = 7  # about: the size of a compacted segment's lines by its own size
_UNEVENNESS = 0.1  # of a split's size: cut this much off at a segment's start, so that no two splits read it


class OffsetRange(NamedTuple):
    """The events `[first, next)` of one partition."""

    partition: str
    first: int
    next: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """A part of a stream's events, made by `Stream.splits` to be read in any thread, process or machine.

    Every read opens the store read-only, and closes it when the reader ends or is closed. The splits of one call do not
    overlap, and together they hold what a read would have yielded then; later events are in none of them. One
    exception: if two writers raced to store an id on two days of a stream by day, a read yields it once, but the splits
    of both days hold it.

    A pickled split contains the options that the store was opened with, including credentials; its `repr` does not.
    Settings from the environment, such as `AWS_*`, are looked up where the split is read. The splits of a store in
    memory, or on a ready object that cannot be pickled, work in the threads of this process; pickling one raises
    `CapabilityError`.

    Attributes:
        url: The store's URL, without credentials and query.
        stream: The stream's name.
        ranges: The events, in the order of the partitions' names.
        size_bytes: About how many bytes the events take as lines.
    """

    url: str
    stream: str
    ranges: tuple[OffsetRange, ...]
    size_bytes: int
    _store_id: str = field(repr=False)
    _place: Location | Root = field(repr=False, compare=False)  # a root if the store cannot be opened again elsewhere

    @property
    def events(self) -> int:
        """The number of events in the split."""
        return sum(events.next - events.first for events in self.ranges)

    @property
    def cursor(self) -> Cursor:
        """The end of the split in each of its partitions.

        When you have read all splits, merge their cursors (`Cursor.merge`) into the one that you passed to `splits` to
        get where to resume. Until then resume from that one: a later split says nothing about an earlier one.
        """
        return Cursor({events.partition: events.next for events in self.ranges})

    def read(
        self,
        *,
        types: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> Reader[Event]:
        """Read its events; see `Stream.read`.

        Raises:
            StoreNotFoundError: (when iterated) The store is missing, or another one took its place.
            OffsetOutOfRangeError: (when iterated) The log was truncated, or restored from a copy.
            CorruptSegmentError: (when iterated) A segment is damaged.
        """
        wanted = Filter.of(types=types, subjects=subjects, sources=sources, tags=tags, since=since, until=until)
        return event_reader(self._pieces(wanted), self._begin, limit=limit)

    def read_batches(
        self,
        *,
        types: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> Reader[Batch]:
        """Read its events in batches; see `Stream.read_batches`."""
        wanted = Filter.of(types=types, subjects=subjects, sources=sources, tags=tags, since=since, until=until)
        return batch_reader(self._pieces(wanted), self._begin, limit=limit)

    def read_arrow(
        self,
        *,
        types: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> ArrowReader:
        """Read its events in record batches; see `Stream.read_arrow`.

        Raises:
            CapabilityError: pyarrow is not installed.
        """
        from bucketlog.reading.arrow import ArrowReader  # few programs need it

        wanted = Filter.of(types=types, subjects=subjects, sources=sources, tags=tags, since=since, until=until)
        where = f"{self.url}, stream {self.stream!r}"
        return ArrowReader(self._pieces(wanted), self._begin, limit=limit, where=where)

    def __getstate__(self) -> dict[str, object]:
        """Return the state to pickle.

        Raises:
            CapabilityError: Another process could not open the store.
        """
        if why := self._why_it_stays():
            msg = (
                f"pickle a split of {self.url}, stream {self.stream!r}: the store was opened on {why}; read the split "
                "in a thread, or open the store by the URL of a directory or a bucket"
            )
            raise CapabilityError(msg)
        place = self._place
        assert not isinstance(place, Root)
        return {**self.__dict__, "_place": (place.factory, place.url, dict(place.options), place.ready)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the pickled state."""
        self.__dict__.update(state, _place=Location(*state["_place"]))

    def _why_it_stays(self) -> str:
        place = self._place
        if isinstance(place, Root):
            return "a backend of this process"
        if place.factory == "memory":
            return "memory of this process"
        unfit = [name for name, value in place.options.items() if not _pickles(value)]
        if unfit:
            return f"the option {unfit[0]!r}, which does not pickle"
        return "" if _pickles(place.ready) else f"a ready {type(place.ready).__name__}, which does not pickle"

    @property
    def _begin(self) -> Cursor:
        return Cursor({events.partition: events.first for events in self.ranges})

    def _pieces(self, wanted: Filter) -> Iterator[Piece]:
        with self._opened() as root:
            yield from read_pieces(
                StreamState(root, self.stream),
                self._begin,
                [events.partition for events in self.ranges],
                wanted,
                stops=self.cursor,
            )

    @contextmanager
    def _opened(self) -> Iterator[Root]:
        place = self._place
        if isinstance(place, Root):
            yield place
            return
        backend = place.open_backend(create=False)
        try:
            root = open_root(
                backend, create=False, read_only=True, single_writer=False, sync="always", clock=SystemClock()
            )
        except BaseException:
            backend.close()
            raise
        try:
            if root.store_id != self._store_id:
                msg = (
                    f"read a split of {self.url}, stream {self.stream!r}: the store was recreated since; "
                    "make the splits again"
                )
                raise StoreNotFoundError(msg)
            yield root
        finally:
            root.close()


# Here and not on demand: a split can be made and unpickled without importing these names from the package.
OffsetRange.__module__ = Split.__module__ = "bucketlog"


def _pickles(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001  (pickling can raise anything)
        return False
    return True


# -- planning ----------------------------------------------------------------------------------------------------------


class _Span(NamedTuple):
    """The events `[first, next)` of one segment, which take about `size` bytes as lines."""

    partition: str
    first: int
    next: int
    size: int

    def cut(self, offset: int) -> tuple[_Span, _Span]:
        """Return the parts before and from an offset, assuming that all events have the same size."""
        size = self.size * (offset - self.first) // (self.next - self.first)
        return (
            self._replace(next=offset, size=size),
            self._replace(first=offset, size=self.size - size),
        )


def plan(state: StreamState, names: Sequence[str], after: Cursor, *, n: int) -> list[Split]:
    """Divide the current events after a cursor into up to `n` splits of about equal size.

    Args:
        state: The stream.
        names: The partitions to read, in their order.
        after: Where to begin.
        n: The number of splits, at least 1.

    Raises:
        OffsetOutOfRangeError: The cursor points before the start or beyond the end of a partition.
        CorruptSegmentError: The newest segment of a partition is damaged.
        ValueError: `n` is less than 1.
    """
    if n < 1:
        msg = f"splits of {state.where}: n={n} is less than 1"
        raise ValueError(msg)
    root = state.root

    def look(name: str) -> list[_Span]:
        return _spans(state.reader(name), after.get(name))

    location = root.location
    return [
        Split(
            url=root.url,
            stream=state.name,
            ranges=_joined(part),
            size_bytes=sum(span.size for span in part),
            _store_id=root.store_id,
            _place=root if location is None or isinstance(location.ready, Backend) else location,
        )
        for part in _part_evenly([span for found in root.side_by_side(look, names) for span in found], n)
    ]


def _spans(reader: PartitionReader, after: int | None) -> list[_Span]:
    listed = reader.list_segments()
    end = reader.end(listed)
    start = reader.bounds.start
    if after is not None and not start <= after <= end:
        where, name = reader.where, reader.partition
        raise (
            before_the_start(where, name, after, start=start)
            if after < start
            else beyond_the_end(where, name, after, start=start, end=end)
        )
    here = start if after is None else after
    found = []
    for one, following in zip_longest(listed, listed[1:]):
        next_offset = one.next if one.next is not None else following.first if following is not None else end
        if next_offset <= here:
            continue
        size = one.size if one.next is None else one.size * _UNPACKED_RATIO
        span = _Span(reader.partition, one.first, next_offset, size)
        found.append(span if here <= one.first else span.cut(here)[1])  # two compactions may overlap, too
        here = next_offset
    return found


def _part_evenly(spans: Sequence[_Span], n: int) -> list[list[_Span]]:
    """Divide spans into up to `n` parts that are not empty."""
    total = sum(span.size for span in spans)
    slack = _UNEVENNESS * total / n
    parts: list[list[_Span]] = []
    part: list[_Span] = []
    cuts = 1  # the number of the next cut, counting those that were skipped
    done = 0  # bytes
    for span in spans:
        rest = span
        while cuts < n:
            ahead = total * cuts / n - done
            events = round(ahead / rest.size * (rest.next - rest.first))
            if ahead > min(slack, rest.size / 2) and events > 0:
                if ahead >= rest.size - slack or events >= rest.next - rest.first:
                    break  # the next span begins close enough, or the cut is in a later one
                before, rest = rest.cut(rest.first + events)
                part.append(before)
                done += before.size
            if part:
                parts.append(part)
            part = []
            cuts += 1
        part.append(rest)
        done += rest.size
    return [*parts, part] if part else parts


def _joined(part: Iterable[_Span]) -> tuple[OffsetRange, ...]:
    ranges: dict[str, OffsetRange] = {}
    for span in part:
        first = ranges[span.partition].first if span.partition in ranges else span.first
        ranges[span.partition] = OffsetRange(span.partition, first, span.next)
    return tuple(ranges.values())
