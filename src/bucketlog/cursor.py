"""Cursors: how far a reader has come in each partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import orjson

from bucketlog.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog.event import Event


class Cursor(Mapping[str, int]):
    """An immutable mapping {partition: next offset}, in the order of the partitions' names.

    A partition that is not in it is read from its start. Equal to every mapping with the same items; hashable; pickles;
    `dict(cursor)` is what a checkpoint or any other JSON takes.

    >>> Cursor({"2026-02-05": 17}).advance("2026-02-06", 3)
    Cursor({'2026-02-05': 17, '2026-02-06': 3})
    """

    __slots__ = ("_offsets",)

    def __init__(self, offsets: Mapping[str, int] | None = None) -> None:
        """Copy a mapping; None is the very beginning.

        Raises:
            InvalidValueError: It is no mapping, a partition is no non-empty str, or an offset no int from 0 up.
        """
        if isinstance(offsets, Cursor):
            self._offsets: dict[str, int] = offsets._offsets  # noqa: SLF001  (of the same class)
            return
        if offsets is None:
            offsets = {}
        if not isinstance(offsets, Mapping):
            msg = f"cursor: expected a mapping {{partition: next offset}}, found {type(offsets).__name__}"
            raise InvalidValueError(msg)
        for partition, offset in offsets.items():
            _check(partition, offset)
        self._offsets = dict(sorted(offsets.items()))

    def advance(self, partition: str, next_offset: int) -> Cursor:
        """Return a cursor that stands at `next_offset` in one partition, and where this one does in the others.

        Raises:
            InvalidValueError: The partition is no non-empty str, or the offset no int from 0 up.
        """
        return Cursor({**self._offsets, partition: next_offset})

    def merge(self, other: Mapping[str, int]) -> Cursor:
        """Return the cursor that in each partition is as far as the farther of the two.

        Raises:
            InvalidValueError: `other` is no cursor.
        """
        merged = dict(self._offsets)
        for partition, offset in Cursor(other).items():
            merged[partition] = max(offset, merged.get(partition, 0))
        return Cursor(merged)

    def to_json(self) -> str:
        """Return the cursor as a JSON object: compact, sorted by partition, the same text for equal cursors."""
        return orjson.dumps(self._offsets).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Cursor:
        """Read what `to_json` wrote.

        Raises:
            InvalidValueError: It is not JSON, or not that of a cursor.
        """
        try:
            offsets = orjson.loads(text)
        except orjson.JSONDecodeError as err:
            msg = f"read a cursor from JSON: {err}; expected an object {{partition: next offset}}"
            raise InvalidValueError(msg) from err
        if not isinstance(offsets, dict):
            msg = f"read a cursor from JSON: expected an object {{partition: next offset}}, found {offsets!r:.40}"
            raise InvalidValueError(msg)
        return cls(offsets)

    def __getitem__(self, partition: str) -> int:
        return self._offsets[partition]

    def __iter__(self) -> Iterator[str]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Cursor):
            return self._offsets == other._offsets
        return self._offsets == dict(other) if isinstance(other, Mapping) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._offsets.items()))

    def __repr__(self) -> str:
        return f"Cursor({self._offsets!r})"

    def __reduce__(self) -> tuple[type[Cursor], tuple[dict[str, int]]]:
        return Cursor, (dict(self._offsets),)


class Progress:
    """Where an iterator stands that yields events one by one: a cursor that is cheap to move.

    Attributes:
        offsets: The next offset of each partition, without `last`.
        last: The event yielded last, unless all that was read with it has been yielded too.
    """

    __slots__ = ("last", "offsets")

    def __init__(self, cursor: Mapping[str, int]) -> None:
        self.offsets = dict(cursor)
        self.last: Event | None = None

    @property
    def cursor(self) -> Cursor:
        """Where to resume: just after the last event yielded, and past what was moved to."""
        event = self.last
        if event is None or event.partition is None or event.offset is None:
            return Cursor(self.offsets)
        return Cursor({**self.offsets, event.partition: event.offset + 1})

    def move_past(self, event: Event) -> None:
        """Count an event as yielded."""
        if event.partition is not None and event.offset is not None:
            self.offsets[event.partition] = event.offset + 1

    def move_to(self, cursor: Mapping[str, int]) -> None:
        """Stand at a cursor."""
        self.offsets, self.last = dict(cursor), None


def _check(partition: object, offset: object) -> None:
    if type(partition) is not str or not partition:
        msg = f"cursor: partition {partition!r} is no name; expected a non-empty str"
        raise InvalidValueError(msg)
    try:
        partition.encode()
    except UnicodeEncodeError:
        msg = f"cursor: partition {partition!r} is no name; it holds lone surrogates"
        raise InvalidValueError(msg) from None
    if type(offset) is not int or not 0 <= offset < 2**63:
        msg = f"cursor: offset {offset!r} of partition {partition!r} is no offset; expected an int from 0 up"
        raise InvalidValueError(msg)
