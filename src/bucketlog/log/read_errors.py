"""The errors of reading a partition. Each says where, what is wrong, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bucketlog.errors import CorruptSegmentError, OffsetOutOfRangeError

if TYPE_CHECKING:
    from bucketlog.format.compacted import DamageError
    from bucketlog.log.raw_batch import RawBatch


def corrupt_segment(where: str, key: str, byte: int, why: str, *, offset: int) -> CorruptSegmentError:
    """Return the error for a segment that is damaged at a byte, where an offset should be."""
    msg = f"read {where}: {key} is damaged at byte {byte}: {why}; stop and repair it from a copy"
    return CorruptSegmentError(msg, key=key, byte=byte, offset=offset)


def damaged(where: str, err: DamageError, *, offset: int) -> CorruptSegmentError:
    """Return the error for a compacted segment that is not what was written."""
    return corrupt_segment(where, err.key, err.byte, err.why, offset=offset)


def not_events(where: str, raw_batch: RawBatch, why: Exception) -> CorruptSegmentError:
    """Return the error for lines that pass their checksums and are not the events that their commit counts."""
    why_not = f"its checksums are right, but it holds no events: {why}; was it written by another program?"
    return corrupt_segment(where, raw_batch.key, raw_batch.byte, why_not, offset=raw_batch.first)


def before_the_start(where: str, partition: str, wanted: int, *, start: int) -> OffsetOutOfRangeError:
    """Return the error for an offset before the start of the log."""
    msg = f"read {where}: offset {wanted} is before the start of the log, which was moved to {start}; begin there"
    return OffsetOutOfRangeError(msg, partition=partition, offset=wanted, start=start, next_offset=-1)


def beyond_the_end(where: str, partition: str, wanted: int, *, start: int, end: int) -> OffsetOutOfRangeError:
    """Return the error for an offset beyond the end of the log."""
    msg = (
        f"read {where}: offset {wanted} is beyond the end of the log, which begins at {start} and whose next "
        f"offset is {end}; was it restored from a copy?"
    )
    return OffsetOutOfRangeError(msg, partition=partition, offset=wanted, start=start, next_offset=end)
