"""Compaction as the benchmarks use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bucketlog import Stream


class NotThereYetError(Exception):
    """What was to be measured is not in this version of bucketlog; the message is for the table."""


class Compacted(NamedTuple):
    """What became of a stream: bytes of the segments that were merged, and of those that they became."""

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
