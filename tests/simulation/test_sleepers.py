"""Writers, tails and listings that slept, where a commit is one PUT: what they know is outdated when they wake.

Each history is the shortest one that breaks the protocol without one of its rules; an exhaustive search found it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from histories import Histories, History, Patch, named
from world import DAY, FOLDER, HOUR, World, event, ids_of

from bucketlog import errors
from bucketlog.clock import Staleness
from bucketlog.format import segments as seg
from bucketlog.log import bounds, commit_by_put, partition_listing, partition_reader
from bucketlog.testing.faults import Hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import Process

HISTORIES = Histories()
history = HISTORIES.history


@pytest.mark.parametrize("history", HISTORIES, ids=named)
def test_history_breaks_nothing(history: History, monkeypatch: Patch):
    history.play(monkeypatch)


@pytest.mark.parametrize("history", HISTORIES, ids=named)
def test_history_is_noticed_when_its_rule_is_taken_out(history: History, monkeypatch: Patch):
    assert history.is_noticed(monkeypatch)


def _append(world: World, *ids: str) -> None:
    """Commit events one by one, each in another process."""
    for event_id in ids:
        world.open().stream().append(event(event_id))


def _on_its_way(world: World, *ids: str) -> Process:
    """Send a commit for the next name that arrives later."""
    late = world.open(lambda call: Hold() if call.method == "put" and call.key.endswith(".jsonl") else None)
    with pytest.raises(errors.OutcomeUnknownError):
        late.stream().append([event(event_id) for event_id in ids])
    return late


def _sleep(process: Process, world: World, late: Process | None = None) -> None:
    """Sleep while everything is compacted and the old names removed, and a late put lands under one of them."""
    world.remove_compacted()
    if late is not None:
        assert late.faulty.release()[0] is None
    process.clock.advance(2 * DAY)


def _before(process: Process, method: str, key: str, do: Callable[[], None], *, nth: int = 1) -> None:
    """Run something just before the nth such call of a process."""
    calls = itertools.count(1)

    def plan(call):
        if call.method == method and call.key.endswith(key) and next(calls) == nth:
            process.calm()
            do()

    process.plan(plan)


def _after_put(patch: Patch, process: Process, name: str, do: Callable[[], None]) -> None:
    """Run something after a put of a process is applied and before its answer arrives."""
    real = process.faulty.put

    def put(key, data, **how):
        version = real(key, data, **how)
        if key.endswith(name):
            patch.setattr(process.faulty, "put", real)
            do()
        return version

    patch.setattr(process.faulty, "put", put)


# -- writers -----------------------------------------------------------------------------------------------------------


def _the_head_is_dated_when_it_is_noted(patch: Patch) -> None:
    real = commit_by_put.PutCommitter.commit

    def dated(self, group):
        real(self, group)
        self._view.last_seen_head = Staleness(self._root.clock)

    patch.setattr(commit_by_put.PutCommitter, "commit", dated)


def _compacted_commits_tell_the_head(patch: Patch) -> None:
    real = commit_by_put.PutCommitter._claim_status

    def standing(self, *args, **how):
        found = real(self, *args, **how)
        return "counts" if found == "compacted" else found

    patch.setattr(commit_by_put.PutCommitter, "_claim_status", standing)
    _the_head_is_dated_when_it_is_noted(patch)


# (I15)
@history(without=_compacted_commits_tell_the_head)
def next_name_behind_a_compacted_commit(patch: Patch) -> None:
    """W's put of 1 lands; W sleeps; 1 and 2 are compacted and removed; 1 is acknowledged, and W appends again."""
    world = World("put")
    writer = world.open()
    writer.stream().append(event("0"))

    def asleep():
        _append(world, "2")
        _sleep(writer, world)

    _after_put(patch, writer, seg.segment_name(1), asleep)

    assert writer.stream().append(event("1")).offsets == (1,)
    assert writer.stream().append(event("3")).offsets == (3,)
    assert world.ids() == ["0", "1", "2", "3"]


# (I15)
@history(without=_the_head_is_dated_when_it_is_noted)
def sleep_before_the_head_is_noted(patch: Patch) -> None:
    """W's put of 1 succeeds and counts; W sleeps before it records that; 2 is written, compacted and removed."""
    world = World("put")
    writer = world.open()
    writer.stream().append(event("0"))
    real = commit_by_put.PutCommitter._claim_status

    def then_asleep(self, *args, **how):
        found = real(self, *args, **how)
        patch.setattr(commit_by_put.PutCommitter, "_claim_status", real)
        _append(world, "2")
        _sleep(writer, world)
        return found

    patch.setattr(commit_by_put.PutCommitter, "_claim_status", then_asleep)

    assert writer.stream().append(event("1")).offsets == (1,)
    assert writer.stream().append(event("3")).offsets == (3,)
    assert world.ids() == ["0", "1", "2", "3"]


def _only_compacted_segments_are_searched(patch: Patch) -> None:
    patch.setattr(bounds.Bounds, "counts", lambda self, first: False)


# (I17)
@history(without=_only_compacted_segments_are_searched)
def own_commit_behind_what_was_compacted(patch: Patch) -> None:
    """W loses 1, its put of 2 lands, W sleeps; [0,2) is compacted: W's last head is below the floor, 2 is not."""
    world = World("put")
    writer = world.open()
    writer.stream().append(event("0"))
    _append(world, "1")

    def asleep():
        world.compact(0, 2)
        world.vacuum()
        writer.clock.advance(13 * HOUR)

    _after_put(patch, writer, seg.segment_name(2), asleep)
    done = writer.stream().append(event("2"))

    assert (done.offsets, done.duplicates) == ((2,), ())
    assert world.ids() == ["0", "1", "2"]


def _a_name_of_another_is_lost(patch: Patch) -> None:
    real = commit_by_put.PutCommitter._claim_status

    def standing(self, offset, write_id, *, won):
        return real(self, offset, write_id, won=won) if won else "lost"

    patch.setattr(commit_by_put.PutCommitter, "_claim_status", standing)


# (I17)
@history(without=_a_name_of_another_is_lost)
def own_commit_whose_name_another_has(patch: Patch) -> None:
    """W's put of 1 lands without an answer; 1 is compacted and removed; a late put takes the name; W reads it."""
    world = World("put")
    writer = world.open()
    writer.stream().append(event("0"))
    late = _on_its_way(world, "late")

    def asleep():
        _append(world, "2")
        _sleep(writer, world, late)
        raise errors.OutcomeUnknownError("the answer is lost")

    _after_put(patch, writer, seg.segment_name(1), asleep)
    done = writer.stream().append(event("1"))

    assert (done.offsets, done.duplicates) == ((1,), ())
    assert world.ids() == ["0", "1", "2"]


# -- reading by name ---------------------------------------------------------------------------------------------------


def _age_is_asked_when_reading_begins(patch: Patch) -> None:
    """The age is not checked again for each segment read."""
    real = partition_reader.PartitionReader._live

    def live(self, **how):
        grace_seconds, self.listing._grace_seconds = self.listing._grace_seconds, float("inf")
        try:
            yield from real(self, **how)
        finally:
            self.listing._grace_seconds = grace_seconds

    patch.setattr(partition_reader.PartitionReader, "_live", live)


# (I18)
@history(without=_age_is_asked_when_reading_begins)
def tail_asleep_at_a_request(patch: Patch) -> None:
    """A tail requests 1 and sleeps; 1 and 2 are compacted and removed; the tail gets a late put of 1."""
    world = World("put")
    _append(world, "0")
    late = _on_its_way(world, "late 0", "late 1", "late 2")
    follower = world.open()
    tail = follower.stream().tail()
    got = ids_of(tail.poll())
    _append(world, "1", "2")

    _before(follower, "get", seg.segment_name(1), lambda: _sleep(follower, world, late))
    got += [each.id for _ in range(4) for each in tail.poll()]

    assert got == ["0", "1", "2"]


# (I18)
@history(without=_age_is_asked_when_reading_begins)
def tail_that_waits_for_its_consumer(patch: Patch) -> None:
    """A tail yields 1; its consumer asks for more days later, when a late put of 2 has taken that name again."""
    world = World("put")
    _append(world, "0")
    follower = world.open()
    tail = follower.stream().tail()
    got = [each.id for _ in range(2) for each in tail.poll()]
    _append(world, "1")
    late = _on_its_way(world, "late 0", "late 1", "late 2")
    got += ids_of(tail.poll())
    _append(world, "2", "3")

    _sleep(follower, world, late)
    got += [each.id for _ in range(4) for each in tail.poll()]

    assert got == ["0", "1", "2", "3"]


def _asleep_after_a_lost_race() -> tuple[World, Process]:
    """Return a process that loses 1 and sleeps before it reads the winner; an orphan has the name by then."""
    world = World("put")
    writer = world.open()
    writer.stream().append(event("0"))
    late = _on_its_way(world, "late 0", "late 1", "late 2")
    _append(world, "1")
    # The first read of 1 only checks who wrote it.
    _before(writer, "get", seg.segment_name(1), lambda: _sleep(writer, world, late), nth=2)
    return world, writer


# (I18)
@history(without=_age_is_asked_when_reading_begins)
def hole_behind_a_stray(patch: Patch) -> None:
    """W loses 1 and sleeps before it reads 1, which is a longer orphan by then; W appends after the orphan."""
    world, writer = _asleep_after_a_lost_race()

    assert writer.stream().append(event("2")).offsets == (2,)
    _append(world, "3", "4")
    assert world.ids() == ["0", "1", "2", "3", "4"]
    assert world.problems() == ()


# (I18, I21)
@history(without=_age_is_asked_when_reading_begins)
def id_learned_from_a_stray(patch: Patch) -> None:
    """W loses 1 and sleeps before it reads 1, by then an orphan with the id that W skips if stored."""
    world, writer = _asleep_after_a_lost_race()

    done = writer.stream().append(event("late 0"), on_duplicate="skip")

    assert (done.offsets, done.duplicates) == ((2,), ())
    assert world.ids() == ["0", "1", "late 0"]


# -- listings ----------------------------------------------------------------------------------------------------------


def _listings_are_believed(patch: Patch) -> None:
    """However long the listings took, and whether or not they reach the floor."""
    patch.setattr(partition_listing.PartitionListing, "is_stale", lambda self: self._age is None)
    patch.setattr(partition_listing.PartitionListing, "_reaches", lambda self, offset, listed: True)


# (I19)
@history(without=_listings_are_believed)
def bounds_older_than_the_listing(patch: Patch) -> None:
    """W reads the bounds and sleeps; everything is truncated and removed; W lists nothing, as in an empty log."""
    world = World("put")
    _append(world, "0", "1", "2")
    world.remove_compacted()
    writer = world.open()

    def asleep():
        world.open().stream().truncate(before=3)
        _sleep(writer, world)
        assert world.names() == ["bounds.json"]

    _before(writer, "list", FOLDER, asleep)

    assert writer.stream().append(event("3")).offsets == (3,)
    assert world.ids() == ["3"]


def _torn_listings_are_believed(patch: Patch) -> None:
    patch.setattr(partition_listing.PartitionListing, "_reaches", lambda self, offset, listed: True)


# (I19)
@history(without=_torn_listings_are_believed)
def merged_between_two_pages(patch: Patch) -> None:
    """W lists [0,1) and [1,2); they and [2,3) become [0,3), which sorts before them, and are removed; W lists on."""
    world = World("put")
    _append(world, "0", "1", "2")
    for number in range(3):
        world.compact(number, number + 1)
    world.remove_compacted()
    writer = world.open()
    assert ids_of(writer.stream().read()) == ["0", "1", "2"]
    real = writer.faulty.list

    def in_pages(prefix, **how):
        if prefix != FOLDER:
            yield from real(prefix, **how)
            return
        patch.setattr(writer.faulty, "list", real)
        page = list(itertools.islice(real(prefix, **how), 2))
        yield from page
        assert [entry.key for entry in page] == [FOLDER + seg.compacted_name(first, first + 1) for first in range(2)]
        world.compact(0, 3)
        world.vacuum()
        assert world.names() == [seg.compacted_name(0, 3), "bounds.json"]
        yield from real(prefix, start_after=page[-1].key)

    patch.setattr(writer.faulty, "list", in_pages)

    assert writer.stream().append(event("3")).offsets == (3,)
    assert world.ids() == ["0", "1", "2", "3"]
