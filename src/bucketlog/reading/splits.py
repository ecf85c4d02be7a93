"""Splits: what a stream holds now, parted for parallel readers in other threads, processes or machines."""

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

_UNPACKED_RATIO = 7  # of a compacted segment's lines to its own size, about
_UNEVENNESS = 0.1  # of a split's size: as near as that, it is cut where a segment begins, which nobody then reads twice


class OffsetRange(NamedTuple):
    """The events `[first, next)` of one partition."""

    partition: str
    first: int
    next: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """A part of what a stream held when it was parted. Made by `Stream.splits`; read in any thread, process or machine.

    Every read opens the store anew, for reading only, and closes it when the reader is through or closed. The splits of
    one call overlap nowhere and together hold what a read would have handed out; what was appended since is in none.
    Only in a stream by day, an id that two writers raced to store on two days comes from both of their splits, where a
    read would hand it out once.

    A pickled split holds the options that the store was opened with, credentials among them; what it shows of itself
    does not. What was found in the environment, such as `AWS_*`, is looked for where it is read. A store in memory, or
    on a ready object that does not pickle, has splits for the threads of its process: pickling one is a
    `CapabilityError`.

    Attributes:
        url: Where the store is: without credentials and query.
        stream: The stream's name.
        ranges: Which events, in the order of the partitions' names.
        size_bytes: About how many bytes they take as lines.
    """

    url: str
    stream: str
    ranges: tuple[OffsetRange, ...]
    size_bytes: int
    _store_id: str = field(repr=False)
    _place: Location | Root = field(repr=False, compare=False)  # a root is read through, where none can be opened anew

    @property
    def events(self) -> int:
        """How many events it holds."""
        return sum(one.next - one.first for one in self.ranges)

    @property
    def cursor(self) -> Cursor:
        """Where its partitions go on behind it.

        When all splits were read, their cursors merged (`Cursor.merge`) into that from which they were made are where
        the stream goes on. Until then that one still holds: a farther split says nothing of a nearer one.
        """
        return Cursor({one.partition: one.next for one in self.ranges})

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
            StoreNotFoundError: (when iterated) The store is not there, or another one is.
            OffsetOutOfRangeError: (when iterated) The log was truncated since, or restored from a copy.
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
        """Return what is pickled.

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
        """Restore what was pickled."""
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
        return Cursor({one.partition: one.first for one in self.ranges})

    def _pieces(self, wanted: Filter) -> Iterator[Piece]:
        with self._opened() as root:
            yield from read_pieces(
                StreamState(root, self.stream),
                self._begin,
                [one.partition for one in self.ranges],
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
                    f"read a split of {self.url}, stream {self.stream!r}: the store there was made anew since; "
                    "make the splits again"
                )
                raise StoreNotFoundError(msg)
            yield root
        finally:
            root.close()


# Splits are made and unpickled where nobody has asked the package for these names.
OffsetRange.__module__ = Split.__module__ = "bucketlog"


def _pickles(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001  (what does not pickle says so in its own way)
        return False
    return True


# -- planning ----------------------------------------------------------------------------------------------------------


class _Stretch(NamedTuple):
    """The events `[first, next)`, all in one segment, where they take about `size` bytes as lines."""

    partition: str
    first: int
    next: int
    size: int

    def cut(self, offset: int) -> tuple[_Stretch, _Stretch]:
        """Return what is before an offset and what is from it on, taking all events for equally large."""
        size = self.size * (offset - self.first) // (self.next - self.first)
        return (
            self._replace(next=offset, size=size),
            self._replace(first=offset, size=self.size - size),
        )


def plan(state: StreamState, names: Sequence[str], after: Cursor, *, n: int) -> list[Split]:
    """Part what there is now behind a cursor into up to `n` splits of about equal size.

    Args:
        state: The stream.
        names: The partitions to read, in their order.
        after: Where to begin.
        n: How many are wanted, from 1 up.

    Raises:
        OffsetOutOfRangeError: The cursor points before the start or beyond the end of a partition.
        CorruptSegmentError: The newest segment of a partition is damaged.
        ValueError: `n` is less than 1.
    """
    if n < 1:
        msg = f"splits of {state.where}: n={n} is less than 1"
        raise ValueError(msg)
    root = state.root

    def look(name: str) -> list[_Stretch]:
        return _stretches(state.reader(name), after.get(name))

    location = root.location
    return [
        Split(
            url=root.url,
            stream=state.name,
            ranges=_joined(part),
            size_bytes=sum(one.size for one in part),
            _store_id=root.store_id,
            _place=root if location is None or isinstance(location.ready, Backend) else location,
        )
        for part in _part_evenly([stretch for found in root.side_by_side(look, names) for stretch in found], n)
    ]


def _stretches(reader: PartitionReader, after: int | None) -> list[_Stretch]:
    listed = reader.list_segments()
    end = reader.end(listed)
    start = reader.bounds.start
    if after is not None and not start <= after <= end:
        raise reader.out_of_range(after, None if after < start else end)
    here = start if after is None else after
    found = []
    for one, following in zip_longest(listed, listed[1:]):
        next_offset = one.next if one.next is not None else following.first if following is not None else end
        if next_offset <= here:
            continue
        size = one.size if one.next is None else one.size * _UNPACKED_RATIO
        stretch = _Stretch(reader.partition, one.first, next_offset, size)
        found.append(stretch if here <= one.first else stretch.cut(here)[1])  # two compactions may overlap, too
        here = next_offset
    return found


def _part_evenly(stretches: Sequence[_Stretch], n: int) -> list[list[_Stretch]]:
    """Part a run of stretches into up to `n` runs that are not empty."""
    total = sum(one.size for one in stretches)
    slack = _UNEVENNESS * total / n
    parts: list[list[_Stretch]] = []
    part: list[_Stretch] = []
    cuts = 1  # made, or past where they would have been, and this one
    behind = 0  # bytes
    for stretch in stretches:
        rest = stretch
        while cuts < n:
            ahead = total * cuts / n - behind
            events = round(ahead / rest.size * (rest.next - rest.first))
            if ahead > min(slack, rest.size / 2) and events > 0:
                if ahead >= rest.size - slack or events >= rest.next - rest.first:
                    break  # the next stretch begins near enough, or the cut is in a later one
                before, rest = rest.cut(rest.first + events)
                part.append(before)
                behind += before.size
            if part:
                parts.append(part)
            part = []
            cuts += 1
        part.append(rest)
        behind += rest.size
    return [*parts, part] if part else parts


def _joined(part: Iterable[_Stretch]) -> tuple[OffsetRange, ...]:
    ranges: dict[str, OffsetRange] = {}
    for one in part:
        first = ranges[one.partition].first if one.partition in ranges else one.first
        ranges[one.partition] = OffsetRange(one.partition, first, one.next)
    return tuple(ranges.values())
