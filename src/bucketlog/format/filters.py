"""Filters: the events that a reader wants, tested first on bytes and finally on decoded events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from stringzilla import count, find

from bucketlog.format.lines import decode_events

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from bucketlog.event import Event

_RARE = 8  # with fewer matches than one in 8 lines, cutting out those lines is faster than decoding all


class Filter(NamedTuple):
    """An event must match every filter that is not None: one of the listed values, and `since <= time < until`."""

    types: frozenset[str] | None = None
    subjects: frozenset[str] | None = None
    sources: frozenset[str] | None = None
    tags: frozenset[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: frozenset[str] | None = None

    @classmethod
    def of(
        cls,
        *,
        types: Collection[str] | None = None,
        subjects: Collection[str] | None = None,
        sources: Collection[str] | None = None,
        tags: Collection[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Filter:
        """Make a filter from the arguments of a read.

        Raises:
            ValueError: A time is naive.
            TypeError: A str was passed instead of a list of str.
        """
        for name, bound in (("since", since), ("until", until)):
            if bound is not None and bound.utcoffset() is None:
                msg = f"{name} is a naive time, {bound.isoformat()}; add a time zone, such as datetime.UTC"
                raise ValueError(msg)
        return cls(
            types=_frozen("types", types),
            subjects=_frozen("subjects", subjects),
            sources=_frozen("sources", sources),
            tags=_frozen("tags", tags),
            since=since,
            until=until,
        )

    def is_open(self) -> bool:
        """Return True if every event passes."""
        return self == _EVERYTHING

    def passes(self, event: Event) -> bool:
        """Return True if an event is wanted."""
        return (
            (self.types is None or event.type in self.types)
            and (self.subjects is None or event.subject in self.subjects)
            and (self.sources is None or event.source in self.sources)
            and (self.tags is None or not self.tags.isdisjoint(event.tags))
            and (self.since is None or event.time >= self.since)
            and (self.until is None or event.time < self.until)
            and (self.ids is None or event.id in self.ids)
        )

    def needles(self) -> Needles | None:
        """Return byte strings such that every line with a wanted event contains one of them, or None.

        Lines hold text in its shortest encoding (docs/format.md), so a search for that encoding finds it.
        """
        # One list is enough to skip most lines. They are tried in the order of how rare their values tend to be.
        for wanted in (self.ids, self.subjects, self.tags, self.types, self.sources):
            if wanted is not None:
                return Needles([msgspec.json.encode(text) for text in sorted(wanted)])
        return None


class Needles:
    """Byte strings to search for."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._one = texts[0] if len(texts) == 1 else None  # this search is thirty times as fast
        self._any = re.compile(b"|".join(map(re.escape, texts)) or rb"(?!)")

    def search(self, data: bytes, start: int, end: int) -> tuple[int, int] | None:
        """Return the start and end of the first match in `data[start:end]`, or None."""
        if self._one is not None:
            at = find(data, self._one, start, end)
            return None if at < 0 else (at, at + len(self._one))
        found = self._any.search(data, start, end)
        return found and found.span()


_EVERYTHING = Filter()


def _frozen(name: str, given: Collection[str] | None) -> frozenset[str] | None:
    if isinstance(given, str):
        msg = f"{name} takes a list of str, not the str {given!r}; write [{given!r}]"
        raise TypeError(msg)
    return None if given is None else frozenset(given)


def select(
    data: bytes,
    start: int,
    end: int,
    *,
    offsets: range,
    partition: str,
    wanted: Filter,
    needles: Needles | None,
    eager: bool,
) -> list[Event]:
    """Decode the wanted events among the lines in `data[start:end]`.

    Args:
        data: The bytes.
        start: The start of the first line.
        end: The end of the last line.
        offsets: The offset of each line.
        partition: The partition of the events.
        wanted: The filter.
        needles: `wanted.needles()`, computed once.
        eager: Whether to decode the events' `data` at once.

    Raises:
        ValueError: A line is not an event, or the number of lines is not that of `offsets`.
    """
    if needles is not None:
        cut = _cut_out(data, start, end, needles, most=len(offsets) // _RARE)
        if cut is not None:
            lines, places = cut
            found = decode_events(lines, partition, [offsets[place] for place in places], eager=eager) if places else []
            return [event for event in found if wanted.passes(event)]
    everything = wanted.is_open()
    found = decode_events(memoryview(data)[start:end], partition, offsets, eager=eager and everything)
    if len(found) != len(offsets):
        msg = f"expected {len(offsets)} lines, found {len(found)}"
        raise ValueError(msg)
    return found if everything else [event for event in found if wanted.passes(event)]


def _cut_out(data: bytes, start: int, end: int, needles: Needles, *, most: int) -> tuple[bytes, list[int]] | None:
    """Return the lines that contain a needle, and their places; None if there are more than `most`."""
    chosen: list[bytes] = []
    places: list[int] = []
    place = 0
    here = start  # the start of a line; `place` lines come before it
    found = needles.search(data, here, end)
    while found:
        if len(chosen) >= most:
            return None
        line_start = max(data.rfind(b"\n", here, found[0]) + 1, here)
        line_end = data.find(b"\n", found[1], end) + 1 or end
        place += count(data, b"\n", here, line_start)
        chosen.append(data[line_start:line_end])
        places.append(place)
        place += 1
        here = line_end
        found = needles.search(data, here, end)
    return b"".join(chosen), places
