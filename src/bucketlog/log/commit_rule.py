"""The commit rule: who gets the next offset, and what counts as a duplicate. Pure: values in, values out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from bucketlog.commit import Commit
from bucketlog.errors import BucketlogError, DuplicateEventError, InvalidEventError, OffsetConflictError
from bucketlog.format import segments as seg
from bucketlog.format.lines import encode_lines

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from bucketlog.format.lines import Line
    from bucketlog.log.ids import Known

OnDuplicate: TypeAlias = Literal["raise", "skip", "return"]


class Request:
    """One caller's append to one partition, and its outcome."""

    __slots__ = ("commit", "done", "error", "expected_offset", "ids", "indexes", "lines", "on_duplicate")

    def __init__(
        self, lines: bytes, ids: list[str], indexes: Sequence[int], *, expected_offset: int | None, on_duplicate: str
    ) -> None:
        self.lines = lines
        self.ids = ids
        self.indexes = indexes
        self.expected_offset = expected_offset
        self.on_duplicate = on_duplicate
        self.done: threading.Event | None = None
        self.commit: Commit | None = None
        self.error: BaseException | None = None


class Decision(NamedTuple):
    """What a group would write at an offset. The keys of `commits` and `errors` are places in the group."""

    lines: list[bytes]
    ids: list[str]
    commits: dict[int, Commit]
    errors: dict[int, BucketlogError]


def decide(group: Sequence[Request], next_offset: int, known: Known, *, partition: str, where: str) -> Decision:
    """Decide each request of a group in order, as if the group were written at `next_offset`.

    Args:
        group: The requests.
        next_offset: The partition's next offset.
        known: The ids that are already stored.
        partition: The partition's name.
        where: Store, stream and partition, for messages.
    """
    # Each id is compared with all that are stored before the offset claimed, and with those earlier in the group (I20).
    decision = Decision([], [], {}, {})
    new: dict[str, int] = {}
    here = next_offset
    for place, request in enumerate(group):
        if request.expected_offset is not None and request.expected_offset != here:
            decision.errors[place] = OffsetConflictError(
                f"append to {where}: expected offset {request.expected_offset}, the next is {here}; "
                f"read from {request.expected_offset} and decide again",
                partition=partition,
                expected_offset=request.expected_offset,
                next_offset=here,
            )
            continue
        ids = request.ids
        if len(ids) == 1:
            fresh = known.find(ids[0]) is None and ids[0] not in new
        else:
            fresh = len(set(ids)) == len(ids) and new.keys().isdisjoint(ids) and not known.knows_any(ids)
        end = here + len(ids)
        if fresh:
            if ids:
                decision.lines.append(request.lines)
            decision.ids.extend(ids)
            if len(group) > 1:
                new.update(zip(ids, range(here, end), strict=True))
            decision.commits[place] = Commit(
                partition, here, end, (here,) if len(ids) == 1 else tuple(range(here, end)), (), tuple(request.indexes)
            )
            here = end
            continue
        outcome = _decide_duplicates(request, here, known, new, partition=partition, where=where)
        if isinstance(outcome, BucketlogError):
            decision.errors[place] = outcome
            continue
        lines, written, commit = outcome
        if lines:
            decision.lines.append(lines)
        decision.ids.extend(written)
        new.update(zip(written, range(here, commit.next_offset), strict=True))
        decision.commits[place] = commit
        here = commit.next_offset
    return decision


def _decide_duplicates(
    request: Request,
    next_offset: int,
    known: Known,
    new: dict[str, int],
    *,
    partition: str,
    where: str,
) -> tuple[bytes, list[str], Commit] | DuplicateEventError:
    """Decide a request that repeats ids: return the lines to write, their ids and the commit, or the error."""
    offsets: list[int] = []
    duplicates: list[int] = []
    kept: list[int] = []
    seen: dict[str, int] = {}
    for place, (event_id, index) in enumerate(zip(request.ids, request.indexes, strict=True)):
        offset = seen.get(event_id)
        if offset is None:
            offset = new.get(event_id)
        if offset is None:
            offset = known.find(event_id)
        if offset is None:
            offset = seen[event_id] = next_offset + len(kept)
            kept.append(place)
        elif request.on_duplicate == "raise":
            return DuplicateEventError(
                f"append to {where}: event {index} has the id {event_id!r}, which is stored at offset {offset}; "
                "nothing was written",
                event_id=event_id,
                index=index,
                partition=partition,
                offset=offset,
            )
        else:
            duplicates.append(index)
        offsets.append(offset)
    commit = Commit(
        partition, next_offset, next_offset + len(kept), tuple(offsets), tuple(duplicates), tuple(request.indexes)
    )
    if not kept:
        return b"", [], commit
    lines = request.lines.split(b"\n")
    return b"".join(lines[place] + b"\n" for place in kept), [request.ids[place] for place in kept], commit


def request_of(
    lines: Sequence[Line],
    indexes: Sequence[int],
    expected_offset: int | None,
    on_duplicate: OnDuplicate,
    *,
    where: str,
) -> Request:
    """Encode the lines of one partition as a request to append them.

    Raises:
        InvalidEventError: An event, or the batch, is too large.
    """
    body = encode_lines(lines, indexes=indexes, where=where) if lines else b""
    check_size(body, where=where)
    ids = [line.id for line in lines]
    return Request(body, ids, indexes, expected_offset=expected_offset, on_duplicate=on_duplicate)


def check_size(lines: bytes, *, where: str) -> None:
    """Raise if a batch does not fit in one commit.

    Raises:
        InvalidEventError: The batch is too large.
    """
    if (size := len(lines) + seg.TRAILER_BYTES) > seg.COMMIT_BYTES_MAX:
        msg = (
            f"append to {where}: the batch takes {size} bytes, at most {seg.COMMIT_BYTES_MAX} fit one commit; "
            "append it in parts, or with stream.writer()"
        )
        raise InvalidEventError(msg, field="batch")
