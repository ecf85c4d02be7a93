"""Cursors: a reader's position in each partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import orjson

from bucketlog.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog.event import Event


class Cursor(Mapping[str, int]):
    """An immutable mapping {partition: next offset}, sorted by partition.

    Partitions that are missing are read from their start. A cursor equals any mapping with the same items, and can be
    hashed and pickled. To store it as JSON, for example in a checkpoint, use `dict(cursor)`.

    >>> Cursor({"2026-02-05": 17}).advance("2026-02-06", 3)
    Cursor({'2026-02-05': 17, '2026-02-06': 3})
    """

    __slots__ = ("_offsets",)

    def __init__(self, offsets: Mapping[str, int] | None = None) -> None:
        """Copy a mapping; None means the beginning of all partitions.

        Raises:
            InvalidValueError: Not a mapping from partition names to offsets.
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
        """Return a cursor with another next offset in one partition.

        Raises:
            InvalidValueError: The partition is not a valid name, or the offset not a valid offset.
        """
        return Cursor({**self._offsets, partition: next_offset})

    def merge(self, other: Mapping[str, int]) -> Cursor:
        """Return the cursor with the larger offset of the two in each partition.

        Raises:
            InvalidValueError: `other` is not a valid cursor.
        """
        merged = dict(self._offsets)
        for partition, offset in Cursor(other).items():
            merged[partition] = max(offset, merged.get(partition, 0))
        return Cursor(merged)

    def to_json(self) -> str:
        """Return the cursor as a compact JSON object, sorted by partition; equal cursors return the same text."""
        return orjson.dumps(self._offsets).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Cursor:
        """Parse the output of `to_json`.

        Raises:
            InvalidValueError: The text is not JSON, or not a cursor.
        """
        try:
            offsets = orjson.loads(text)
        except orjson.JSONDecodeError as err:
            msg = f"parse a cursor: {err}; expected a JSON object {{partition: next offset}}"
            raise InvalidValueError(msg) from err
        if not isinstance(offsets, dict):
            msg = f"parse a cursor: expected a JSON object {{partition: next offset}}, found {offsets!r:.40}"
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
        msg = f"cursor: partition {partition!r} is not a valid name; expected a non-empty str"
        raise InvalidValueError(msg)
    try:
        partition.encode()
    except UnicodeEncodeError:
        msg = f"cursor: partition {partition!r} is not a valid name; it contains lone surrogates"
        raise InvalidValueError(msg) from None
    if type(offset) is not int or not 0 <= offset < 2**63:
        msg = f"cursor: offset {offset!r} of partition {partition!r} is not valid; expected an int, 0 or greater"
        raise InvalidValueError(msg)
