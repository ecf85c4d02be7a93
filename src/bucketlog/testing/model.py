"""A minimal model of a store, lists in memory, to compare with random histories of a real one.

A test announces each operation (`begin`), reports its outcome (`acknowledge`, `refuse`, `lose_sight`), and then passes
what is stored to `observe`. The model raises `ModelError` if that contradicts the outcomes: an acknowledged event is
missing, moved or duplicated, a batch is incomplete, an event of a refused append is stored, or there is a gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from bucketlog.commit import Commit
from bucketlog.errors import DuplicateEventError, OffsetConflictError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bucketlog.event import Event
    from bucketlog.log.commit_rule import OnDuplicate

_Outcome = Literal["under way", "acknowledged", "refused", "unknown"]


class ModelError(AssertionError):
    """The stored events contradict what was acknowledged and refused."""


class Answer(NamedTuple):
    """The result of an append to a partition: its commit, and the events it writes."""

    commit: Commit
    written: list[Event]


def answer(
    stored: Sequence[Event],
    events: Sequence[Event],
    *,
    partition: str = "0",
    indexes: Sequence[int] | None = None,
    expected_offset: int | None = None,
    on_duplicate: OnDuplicate = "raise",
) -> Answer:
    """Return the correct result of an append to a partition.

    Args:
        stored: The events of the partition.
        events: The batch, or the part of it for this partition.
        partition: The name of the partition.
        indexes: The indexes of the events in the caller's batch, if they are only a part of it.
        expected_offset: As for `Stream.append`.
        on_duplicate: As for `Stream.append`.

    Raises:
        OffsetConflictError: The next offset is not the expected one.
        DuplicateEventError: An id is already stored.
    """
    indexes = range(len(events)) if indexes is None else indexes
    first = len(stored)
    if expected_offset is not None and expected_offset != first:
        msg = f"model: expected offset {expected_offset}, the next is {first}"
        raise OffsetConflictError(msg, partition=partition, expected_offset=expected_offset, next_offset=first)
    known = {event.id: offset for offset, event in enumerate(stored)}
    written: list[Event] = []
    offsets: list[int] = []
    duplicates: list[int] = []
    for index, event in zip(indexes, events, strict=True):
        if event.id not in known:
            known[event.id] = first + len(written)
            written.append(event)
        elif on_duplicate == "raise":
            offset = known[event.id]
            msg = f"model: the id {event.id!r} is stored at offset {offset}"
            raise DuplicateEventError(msg, event_id=event.id, index=index, partition=partition, offset=offset)
        else:
            duplicates.append(index)
        offsets.append(known[event.id])
    commit = Commit(partition, first, first + len(written), tuple(offsets), tuple(duplicates), tuple(indexes))
    return Answer(commit, written)


# -- a stream ----------------------------------------------------------------------------------------------------------


class Attempt:
    """One append to one partition, made by `ModelStream.begin`. Report its outcome to it."""

    def __init__(
        self,
        partition: str,
        events: Sequence[Event],
        *,
        indexes: Sequence[int] | None,
        expected_offset: int | None,
        on_duplicate: OnDuplicate,
    ) -> None:
        self.partition = partition
        self.events = list(events)
        self.indexes = range(len(events)) if indexes is None else indexes
        self.expected_offset = expected_offset
        self.on_duplicate = on_duplicate
        self.outcome: _Outcome = "under way"
        self.commit: Commit | None = None
        self.is_settled = False  # its writer gave up, and will not retry at another offset

    def __repr__(self) -> str:
        ids = [event.id for event in self.events]
        return f"<{self.outcome} append of {ids} to {self.partition!r}, on_duplicate={self.on_duplicate!r}>"

    def acknowledge(self, commit: Commit | None = None) -> None:
        """The append returned `commit`. Without one, it is only known that all its events are stored."""
        self.outcome, self.commit = "acknowledged", commit

    def refuse(self) -> None:
        """It raised an error that means nothing was written."""
        self.outcome = "refused"

    def lose_sight(self) -> None:
        """It raised `OutcomeUnknownError`, or its process died."""
        self.outcome = "unknown"

    def answer(self, stored: Sequence[Event]) -> Answer:
        """Return the correct result for a partition with these events; see `answer`."""
        return answer(
            stored,
            self.events,
            partition=self.partition,
            indexes=self.indexes,
            expected_offset=self.expected_offset,
            on_duplicate=self.on_duplicate,
        )


class ModelStream:
    """A stream: the events of each partition, and the appends that may have been written.

    Attributes:
        log: The events of each partition when last observed.
    """

    def __init__(self) -> None:
        self.log: dict[str, list[Event]] = {}
        self._attempts: list[Attempt] = []
        self._commit_ends: dict[str, list[int]] = {}

    def append(
        self,
        events: Sequence[Event],
        *,
        partition: str = "0",
        expected_offset: int | None = None,
        on_duplicate: OnDuplicate = "raise",
    ) -> Commit:
        """Append with a certain outcome, without an attempt.

        Raises:
            OffsetConflictError: The next offset is not the expected one.
            DuplicateEventError: An id is already stored.
        """
        stored = self.log.get(partition, [])
        commit, written = answer(
            stored, events, partition=partition, expected_offset=expected_offset, on_duplicate=on_duplicate
        )
        self._take(partition, written)
        return commit

    def begin(
        self,
        events: Sequence[Event],
        *,
        partition: str = "0",
        indexes: Sequence[int] | None = None,
        expected_offset: int | None = None,
        on_duplicate: OnDuplicate = "raise",
    ) -> Attempt:
        """Announce an append to one partition; see `answer` for the arguments. Report its outcome to the attempt."""
        attempt = Attempt(
            partition, events, indexes=indexes, expected_offset=expected_offset, on_duplicate=on_duplicate
        )
        self._attempts.append(attempt)
        return attempt

    def observe(self, found: Mapping[str, Sequence[Event]], *, may_land_later: bool) -> None:
        """Compare the stored events with all appends since the last observation, and adopt them.

        Args:
            found: All events by partition, from offset 0, as read.
            may_land_later: Whether an append of unknown outcome may still be written. It may until another append
                takes its offset.

        Raises:
            ModelError: The appends do not explain the stored events.
        """
        for partition in sorted({*self.log, *found, *(attempt.partition for attempt in self._attempts)}):
            self._observe(partition, found.get(partition, ()), may_land_later=may_land_later)

    def cut_power(self, found: Mapping[str, Sequence[Event]], *, durable: Mapping[str, int]) -> None:
        """Adopt the events that survived a power cut: in each partition, some number of its first commits.

        Args:
            found: As for `observe`.
            durable: For each partition, the offset before which no event may be lost.

        Raises:
            ModelError: Something else is stored.
        """
        for partition, log in self.log.items():
            left = found.get(partition, ())
            _check_same(partition, left, log[: len(left)])
            if len(left) > len(log):
                raise ModelError(f"partition {partition!r}: {len(left)} events after a power cut, {len(log)} before")
            if len(left) < durable.get(partition, 0):
                msg = f"partition {partition!r}: {len(left)} events left, but {durable[partition]} were durable"
                raise ModelError(msg)
            ends = [end for end in (0, *self._commit_ends.get(partition, [])) if end <= len(left)]
            if ends[-1] != len(left):
                raise ModelError(f"partition {partition!r}: cut at {len(left)}, in the middle of a commit")
            del log[len(left) :]
            self._commit_ends[partition] = ends[1:]
        self.observe(found, may_land_later=False)

    def _take(self, partition: str, written: Sequence[Event]) -> None:
        log = self.log.setdefault(partition, [])
        log.extend(written)
        self._commit_ends.setdefault(partition, []).append(len(log))

    def _observe(self, partition: str, found: Sequence[Event], *, may_land_later: bool) -> None:
        log = self.log.get(partition, [])
        before = len(log)
        if len(found) < before:
            raise ModelError(f"partition {partition!r}: {len(found)} events are left of {before}")
        _check_same(partition, found[:before], log)
        _check_offsets(partition, found)
        mine = [attempt for attempt in self._attempts if attempt.partition == partition]
        todo = [attempt for attempt in mine if attempt.outcome in ("acknowledged", "unknown")]
        while (at := len(self.log.get(partition, []))) < len(found):
            placed = self._find(todo, self.log.get(partition, []), found[at:])
            if placed is None:
                rest = [event.id for event in found[at:]]
                msg = f"partition {partition!r}, offset {at}: no append explains {rest}; the appends were {mine}"
                raise ModelError(msg)
            attempt, written = placed
            todo.remove(attempt)
            self._take(partition, written)
        for attempt in todo:
            if attempt.outcome == "acknowledged":
                self._check_acknowledged(attempt)
        # An append in flight targets one offset. Once another event has that offset, the append fails.
        pending = [attempt for attempt in todo if may_land_later and attempt.outcome == "unknown"]
        pending = [attempt for attempt in pending if not attempt.is_settled or before == len(found)]
        for attempt in pending:
            attempt.is_settled = True
        self._attempts = [attempt for attempt in self._attempts if attempt.partition != partition] + pending

    def _find(
        self, todo: list[Attempt], stored: list[Event], rest: Sequence[Event]
    ) -> tuple[Attempt, list[Event]] | None:
        """Return an attempt that explains the next events, and those events. Prefers acknowledged attempts."""
        for attempt in sorted(todo, key=lambda attempt: attempt.outcome != "acknowledged"):
            commit = attempt.commit
            if commit is not None and (commit.first_offset != len(stored) or commit.next_offset == len(stored)):
                continue
            try:
                due, written = attempt.answer(stored)
            except (OffsetConflictError, DuplicateEventError):
                continue
            if not written or list(rest[: len(written)]) != written:
                continue
            if commit is not None and commit != due:
                raise ModelError(f"{attempt}: acknowledged as {commit}, expected {due}")
            return attempt, written
        return None

    def _check_acknowledged(self, attempt: Attempt) -> None:
        """Check an acknowledged attempt that wrote nothing: all its events must already have been stored."""
        commit, log = attempt.commit, self.log.get(attempt.partition, [])
        if commit is None and not attempt.answer(log).written:
            return
        if commit is None or commit.first_offset != commit.next_offset:
            raise ModelError(
                f"{attempt}: acknowledged as {commit}, but not stored; the log is {[event.id for event in log]}"
            )
        if commit.first_offset > len(log):
            raise ModelError(f"{attempt}: acknowledged as {commit}, but the log ends at {len(log)}")
        due, written = attempt.answer(log[: commit.first_offset])
        if written or due != commit:
            raise ModelError(f"{attempt}: acknowledged as {commit}, expected {due}")


# -- a checkpoint ------------------------------------------------------------------------------------------------------


class Change:
    """One save or delete of a checkpoint, made by `ModelCheckpoint.begin`. Report its outcome to it."""

    def __init__(self, value: object, expected: object) -> None:
        self.value, self.expected = value, expected
        self.outcome: _Outcome | Literal["conflict"] = "under way"
        self.base: object = ANYTHING

    def __repr__(self) -> str:
        doing = "delete" if self.value is None else f"save {self.value!r}"
        return f"<{self.outcome} {doing}, expected {self.expected!r}>"

    def acknowledge(self) -> None:
        """It returned."""
        self.outcome = "acknowledged"

    def refuse(self) -> None:
        """It raised an error that means nothing was written."""
        self.outcome = "refused"

    def conflict(self) -> None:
        """It was refused because the stored value was not the expected one."""
        self.outcome = "conflict"

    def lose_sight(self) -> None:
        """It raised `OutcomeUnknownError`, or its process died."""
        self.outcome = "unknown"

    def applies_to(self, value: object) -> bool:
        """Return True if it can be applied to this stored value."""
        return (self.expected is ANYTHING or self.expected == value) and (self.base is ANYTHING or self.base == value)


class ModelCheckpoint:
    """One checkpoint. Each save must have a different value, which stands for its version; None is no checkpoint.

    Attributes:
        value: The value observed last.
    """

    def __init__(self) -> None:
        self.value: object = None
        self._changes: list[Change] = []

    def begin(self, value: object, *, expected: object) -> Change:
        """Announce a save, or a delete if the value is None.

        Args:
            value: A value that was never saved before.
            expected: The value that must be stored (None: no checkpoint), or `ANYTHING`.
        """
        change = Change(value, expected)
        self._changes.append(change)
        return change

    def observe(self, value: object) -> None:
        """Compare the stored value with all changes since the last observation, and adopt it.

        Raises:
            ModelError: No order of the acknowledged changes and some unknown ones leads to this value.
        """
        certain = [change for change in self._changes if change.outcome in ("acknowledged", "conflict")]
        unknown = [change for change in self._changes if change.outcome == "unknown"]
        applied = _explain(self.value, value, certain, unknown)
        if applied is None:
            raise ModelError(f"checkpoint: {self.value!r} became {value!r}, which no order of {self._changes} explains")
        # A conditional change fails once its expected value is replaced, because no value is ever stored twice.
        pending = [
            change for change in unknown if change not in applied and (change.base is ANYTHING or self.value == value)
        ]
        for change in pending:
            change.base = value
        self._changes, self.value = pending, value


ANYTHING = object()
"""Stands for any value of a checkpoint."""


def _explain(before: object, after: object, certain: list[Change], unknown: list[Change]) -> list[Change] | None:
    """Find an order of all certain and some unknown changes from one value to another. Returns those unknown ones."""
    if not certain and before == after:
        return []
    for change in certain:
        if change.outcome == "conflict":
            possible, then = change.expected != before, before
        else:  # deleting a checkpoint that is already gone succeeds too
            possible, then = change.applies_to(before) or (change.value is None and before is None), change.value
        if possible:
            found = _explain(then, after, [other for other in certain if other is not change], unknown)
            if found is not None:
                return found
    for change in unknown:
        if change.applies_to(before):
            found = _explain(change.value, after, certain, [other for other in unknown if other is not change])
            if found is not None:
                return [change, *found]
    return None


# -- steps -------------------------------------------------------------------------------------------------------------


def _check_same(partition: str, found: Sequence[Event], log: Sequence[Event]) -> None:
    for offset, (there, known) in enumerate(zip(found, log, strict=False)):
        if there != known:
            raise ModelError(f"partition {partition!r}, offset {offset}: found {there}, expected {known}")


def _check_offsets(partition: str, found: Sequence[Event]) -> None:
    for offset, event in enumerate(found):
        if (event.partition, event.offset) != (partition, offset):
            msg = f"partition {partition!r}, offset {offset}: read as {event.partition!r}, {event.offset}"
            raise ModelError(msg)
