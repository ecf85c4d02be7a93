"""Compaction as the benchmarks use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bucketlog import Stream


class NotThereYetError(Exception):
    """This version of bucketlog does not have what was to be measured; the message is for the table."""


class Compacted(NamedTuple):
    """What a compaction did: the bytes of the merged segments, and of the compacted ones."""

    bytes_before: int
    bytes_after: int


def compact(stream: Stream) -> Compacted:
    """Compact a stream.

    Raises:
        NotThereYetError: This version cannot.
    """
    if not hasattr(stream, "compact"):
        msg = "stream.compact() is not there yet"
        raise NotThereYetError(msg)
    done = list(stream.compact())
    return Compacted(sum(one.bytes_before for one in done), sum(one.bytes_after for one in done))
