"""A store as simple as it can be: lists in memory, with which random histories of a real one are compared.

A test tells the model what it is about to do (`begin`), then what it was told (`acknowledge`, `refuse`, `lose_sight`),
and then shows it what is stored (`observe`). The model raises `ModelError` where that cannot be: an acknowledged event
that is missing, moved or doubled, a batch in part, an event of an append that was refused, a hole.
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
    """What was observed cannot be, given what was acknowledged and refused."""


class Answer(NamedTuple):
    """What an append does to a partition: its commit, and the events that it writes."""

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
    """Say what an append of some events to a partition has to do.

    Args:
        stored: What the partition holds.
        events: The batch, or the part of it that goes to this partition.
        partition: Its name.
        indexes: Where the events stand in the caller's batch, if this is only a part of it.
        expected_offset: As for `Stream.append`.
        on_duplicate: As for `Stream.append`.

    Raises:
        OffsetConflictError: The next offset is not the expected one.
        DuplicateEventError: An id is stored already.
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
    """One append to one partition, of which the model is told what became of it; made by `ModelStream.begin`."""

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
        self.is_settled = False  # its writer has given up since, and sends it to no other offset

    def __repr__(self) -> str:
        ids = [event.id for event in self.events]
        return f"<{self.outcome} append of {ids} to {self.partition!r}, on_duplicate={self.on_duplicate!r}>"

    def acknowledge(self, commit: Commit | None = None) -> None:
        """It returned this; or, through a buffered writer, it is known only that all of it is stored."""
        self.outcome, self.commit = "acknowledged", commit

    def refuse(self) -> None:
        """It raised an error that says that nothing was written."""
        self.outcome = "refused"

    def lose_sight(self) -> None:
        """It raised `OutcomeUnknownError`, or its process died."""
        self.outcome = "unknown"

    def answer(self, stored: Sequence[Event]) -> Answer:
        """Say what it has to do to a partition that holds this; see `answer`."""
        return answer(
            stored,
            self.events,
            partition=self.partition,
            indexes=self.indexes,
            expected_offset=self.expected_offset,
            on_duplicate=self.on_duplicate,
        )


class ModelStream:
    """A stream: a list of events for each partition, and the appends that may have been written.

    Attributes:
        log: What each partition holds, as far as it was observed.
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
        """Append at once, with a certain outcome: the plain model, without attempts.

        Raises:
            OffsetConflictError: The next offset is not the expected one.
            DuplicateEventError: An id is stored already.
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
        """Announce an append to one partition; see `answer` for the arguments. Tell the attempt what became of it."""
        attempt = Attempt(
            partition, events, indexes=indexes, expected_offset=expected_offset, on_duplicate=on_duplicate
        )
        self._attempts.append(attempt)
        return attempt

    def observe(self, found: Mapping[str, Sequence[Event]], *, may_land_later: bool) -> None:
        """Compare what is stored with all that was begun since the last time, and take it over.

        Args:
            found: All events by partition, from offset 0 on, as a reader gave them.
            may_land_later: Whether an append of unknown outcome that was not written yet still may be. It may only as
                long as no other follows.

        Raises:
            ModelError: It cannot be.
        """
        for partition in sorted({*self.log, *found, *(one.partition for one in self._attempts)}):
            self._observe(partition, found.get(partition, ()), may_land_later=may_land_later)

    def cut_power(self, found: Mapping[str, Sequence[Event]], *, durable: Mapping[str, int]) -> None:
        """Take over what is left after a power cut: in each partition, some of its first commits.

        Args:
            found: As for `observe`.
            durable: For each partition, the offset before which nothing may be lost.

        Raises:
            ModelError: Something else is left.
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
        mine = [one for one in self._attempts if one.partition == partition]
        todo = [one for one in mine if one.outcome in ("acknowledged", "unknown")]
        while (at := len(self.log.get(partition, []))) < len(found):
            placed = self._find(todo, self.log.get(partition, []), found[at:])
            if placed is None:
                rest = [event.id for event in found[at:]]
                msg = (
                    f"partition {partition!r}, offset {at}: {rest} follow, which no append explains; begun were {mine}"
                )
                raise ModelError(msg)
            attempt, written = placed
            todo.remove(attempt)
            self._take(partition, written)
        for one in todo:
            if one.outcome == "acknowledged":
                self._check_acknowledged(one)
        # One that is on its way to an offset stays there: once another event has that offset it is too late.
        stay = [one for one in todo if may_land_later and one.outcome == "unknown"]
        stay = [one for one in stay if not one.is_settled or before == len(found)]
        for one in stay:
            one.is_settled = True
        self._attempts = [one for one in self._attempts if one.partition != partition] + stay

    def _find(
        self, todo: list[Attempt], stored: list[Event], rest: Sequence[Event]
    ) -> tuple[Attempt, list[Event]] | None:
        """Return the attempt that explains the events which follow, acknowledged ones first."""
        for attempt in sorted(todo, key=lambda one: one.outcome != "acknowledged"):
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
                raise ModelError(f"{attempt}: acknowledged as {commit}, and it should be {due}")
            return attempt, written
        return None

    def _check_acknowledged(self, attempt: Attempt) -> None:
        """Check one that wrote nothing: all its events must have been stored before."""
        commit, log = attempt.commit, self.log.get(attempt.partition, [])
        if commit is None and not attempt.answer(log).written:
            return
        if commit is None or commit.first_offset != commit.next_offset:
            raise ModelError(
                f"{attempt}: acknowledged as {commit}, and not there; the log is {[one.id for one in log]}"
            )
        if commit.first_offset > len(log):
            raise ModelError(f"{attempt}: acknowledged as {commit}, and the log ends at {len(log)}")
        due, written = attempt.answer(log[: commit.first_offset])
        if written or due != commit:
            raise ModelError(f"{attempt}: acknowledged as {commit}, and it should be {due}")


# -- a checkpoint ------------------------------------------------------------------------------------------------------


class Change:
    """One save or delete of a checkpoint, of which the model is told what became of it."""

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
        """It raised an error that says that nothing was written."""
        self.outcome = "refused"

    def conflict(self) -> None:
        """It was refused because something else than the expected value was there."""
        self.outcome = "conflict"

    def lose_sight(self) -> None:
        """It raised `OutcomeUnknownError`, or its process died."""
        self.outcome = "unknown"

    def applies_to(self, value: object) -> bool:
        """Tell whether it can be applied where this value is stored."""
        return (self.expected is ANYTHING or self.expected == value) and (self.base is ANYTHING or self.base == value)


class ModelCheckpoint:
    """One checkpoint. Every save of a test has another value, which stands for its version; None is none at all.

    Attributes:
        value: What was observed last.
    """

    def __init__(self) -> None:
        self.value: object = None
        self._changes: list[Change] = []

    def begin(self, value: object, *, expected: object) -> Change:
        """Announce a save, or with `None` a delete.

        Args:
            value: One that was never saved before.
            expected: The value that must still be there (`None`: no checkpoint), or `ANYTHING`.
        """
        change = Change(value, expected)
        self._changes.append(change)
        return change

    def observe(self, value: object) -> None:
        """Compare what is stored with all that was begun since the last time, and take it over.

        Raises:
            ModelError: In no order do the acknowledged changes, with some of those of unknown outcome, lead there.
        """
        certain = [one for one in self._changes if one.outcome in ("acknowledged", "conflict")]
        unknown = [one for one in self._changes if one.outcome == "unknown"]
        applied = _explain(self.value, value, certain, unknown)
        if applied is None:
            raise ModelError(
                f"checkpoint: {self.value!r} became {value!r}, which these do not explain: {self._changes}"
            )
        # What was sent for a value that was replaced is too late, and no value ever comes back.
        stay = [one for one in unknown if one not in applied and (one.base is ANYTHING or self.value == value)]
        for one in stay:
            one.base = value
        self._changes, self.value = stay, value


ANYTHING = object()
"""Stands for whatever value a checkpoint has."""


def _explain(before: object, after: object, certain: list[Change], unknown: list[Change]) -> list[Change] | None:
    """Find an order of all certain and some unknown changes from one value to another; return the unknown ones."""
    if not certain and before == after:
        return []
    for one in certain:
        if one.outcome == "conflict":
            possible, then = one.expected != before, before
        else:  # a delete of what another has deleted meanwhile is done as well
            possible, then = one.applies_to(before) or (one.value is None and before is None), one.value
        if possible:
            found = _explain(then, after, [other for other in certain if other is not one], unknown)
            if found is not None:
                return found
    for one in unknown:
        if one.applies_to(before):
            found = _explain(one.value, after, certain, [other for other in unknown if other is not one])
            if found is not None:
                return [one, *found]
    return None


# -- steps -------------------------------------------------------------------------------------------------------------


def _check_same(partition: str, found: Sequence[Event], log: Sequence[Event]) -> None:
    for offset, (there, known) in enumerate(zip(found, log, strict=False)):
        if there != known:
            raise ModelError(f"partition {partition!r}, offset {offset}: {there} stands where {known} stood")


def _check_offsets(partition: str, found: Sequence[Event]) -> None:
    for offset, event in enumerate(found):
        if (event.partition, event.offset) != (partition, offset):
            msg = f"partition {partition!r}, offset {offset}: read as {event.partition!r}, {event.offset}"
            raise ModelError(msg)
