"""What an append returns."""

from __future__ import annotations

from typing import NamedTuple


class Commit(NamedTuple):
    """What an append did in one partition.

    `offsets` has one offset for each event asked for, in order: that of the stored event for a duplicate. `duplicates`
    and `indexes` are indexes into the caller's batch: of the duplicates, and of all the events of this partition.
    `first_offset` and `next_offset` enclose what was written; they are equal when nothing was.
    """

    partition: str
    first_offset: int
    next_offset: int
    offsets: tuple[int, ...] = ()
    duplicates: tuple[int, ...] = ()
    indexes: tuple[int, ...] = ()
