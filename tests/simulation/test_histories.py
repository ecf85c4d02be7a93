"""Interleavings that could break a log. Each passes, and fails when the rule that prevents the damage is removed.

A history is a function that asserts a promise. `without` removes the rule by patching; the history must then fail, or
it would prove nothing. The histories at the end depend on no single rule.
"""

from __future__ import annotations

import itertools
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from histories import Histories, History, Patch, named
from world import DAY, FOLDER, HOUR, ObjectStore, World, event, ids_of

import bucketlog
from bucketlog import Commit, Event, errors, stream
from bucketlog import buffered_writer as buffer
from bucketlog.backend import ABSENT, ANY
from bucketlog.clock import Staleness
from bucketlog.format import segments as seg
from bucketlog.format import torn
from bucketlog.format.compacting import Builder
from bucketlog.log import (
    bounds,
    commit_by_append,
    commit_by_put,
    commit_rule,
    group_commit,
    partition_listing,
    partition_reader,
    partition_view,
    partition_writer,
    read_errors,
)
from bucketlog.maintenance import compaction, truncation, vacuum
from bucketlog.reading import pieces
from bucketlog.state import checkpoints
from bucketlog.storage import conditional_put as conditional
from bucketlog.storage import root
from bucketlog.testing.clocks import FakeClock
from bucketlog.testing.faults import Crash, CrashAfter, Fail, Hold, LoseAnswer, Page, PowerCutDisk, SimulatedCrash, on

HISTORIES = Histories()
history = HISTORIES.history


@pytest.mark.parametrize("history", HISTORIES, ids=named)
def test_history_breaks_nothing(history: History, monkeypatch: Patch):
    history.play(monkeypatch)


@pytest.mark.parametrize("history", HISTORIES, ids=named)
def test_history_is_noticed_when_its_rule_is_taken_out(history: History, monkeypatch: Patch):
    assert history.is_noticed(monkeypatch)


def day(number: int) -> datetime:
    return datetime(2026, 2, number, 12, tzinfo=UTC)


# -- one PUT per commit ------------------------------------------------------------------------------------------------


def _try_later(patch: Patch) -> None:
    def hasty(root, key, data, *, if_version, resolve, doing):
        try:
            root.backend.put(key, data, if_version=if_version)
        except errors.OutcomeUnknownError as err:
            raise errors.BackendUnavailableError("try later") from err
        return True

    patch.setattr(commit_by_put, "put_and_settle", hasty)


# (I14)
@history(without=_try_later)
def absent_is_not_final(patch: Patch) -> None:
    """The put times out, nothing is found, and it lands after its caller got the error."""
    world = World("put")
    writer = world.open(lambda call: Hold() if call.method == "put" and ".jsonl" in call.key else None)
    order = event("first try", data=42)

    try:
        writer.stream().append(order)
    except errors.BackendUnavailableError:  # certainly not written, so try again
        writer.calm()
        writer.faulty.release()
        writer.stream().append(event("second try", data=42))
    except errors.OutcomeUnknownError:  # look before trying again
        writer.calm()
    writer.faulty.release()

    assert [each.data for each in world.events()] == [42]


def _group_is_made_anew(patch: Patch) -> None:
    """Each attempt sends everything queued by then, under the write id of the first."""
    real = conditional.put_and_settle

    def thawed(self, key, data, write_id):
        def retried(root, key, data, **how):
            try:
                root.backend.put(key, data, if_version=ABSENT)
            except errors.OutcomeUnknownError:
                with leading[-1]._mutex:
                    joined = [*leading[-1]._queue]
                    leading[-1]._queue.clear()
            else:
                return True
            lines = b"".join(request.lines for request in (*frozen, *joined))
            data = seg.seal_commit(lines, events=len(frozen) + len(joined), flags=1, write_id=write_id)
            won = real(root, key, data, **how)
            for place, one in enumerate(joined, start=len(frozen)):
                one.commit = Commit("0", place, place + 1, (place,), (), (0,))
                one.done.set()
            return won

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(commit_by_put, "put_and_settle", retried)
            return original(self, key, data, write_id)

    frozen: list[commit_rule.Request] = []
    original = commit_by_put.PutCommitter._put
    decided = partition_view.PartitionView.decide

    leading: list[group_commit.GroupCommit] = []
    lead = group_commit.GroupCommit._lead

    def remember_who_leads(self):
        leading.append(self)
        lead(self)

    def remember(self, group):
        frozen[:] = group
        return decided(self, group)

    patch.setattr(group_commit.GroupCommit, "_lead", remember_who_leads)
    patch.setattr(partition_view.PartitionView, "decide", remember)
    patch.setattr(commit_by_put.PutCommitter, "_put", thawed)


# (I6)
@history(without=_group_is_made_anew)
def group_changed_after_send(patch: Patch) -> None:
    """PUT X {a} times out and is late; b joins during the retry; the first PUT lands."""
    world = World("put")
    writer = world.open()
    writer.stream().append(event("before"))
    joined = threading.Thread(target=lambda: acknowledged.append(writer.stream().append(event("b"))))
    acknowledged: list[object] = []
    puts = 0

    def plan(call):
        nonlocal puts
        if call.method != "put":
            return None
        puts += 1
        if puts == 1:
            return Hold()
        if puts == 2:
            return Hold(errors.OutcomeUnknownError("and again")) if not acknowledged else None
        return None

    state = writer.store._streams["s"].writer("0")

    def plan_and_join(call):
        fault = plan(call)
        if call.method == "put" and puts == 1:
            joined.start()
            while not state._group._queue:  # until b is queued after a
                pass
        if call.method == "get" and puts >= 1 and writer.faulty.held:
            held, writer.faulty.held[:] = [*writer.faulty.held], []
            return _landing(held)
        return fault

    writer.plan(plan_and_join)
    acknowledged.append(writer.stream().append(event("a")))
    joined.join()

    assert len(acknowledged) == 2
    assert sorted(world.ids()) == ["a", "b", "before"]


def _landing(held):
    """Let late calls land now, then let this call pass."""
    for call in held:
        call.land()


def _conflict_means_lost(patch: Patch) -> None:
    patch.setattr(commit_by_put.seg, "read_trailer", lambda data: None)


# (I14)
@history(without=_conflict_means_lost)
def answer_lost_after_success(patch: Patch) -> None:
    """The put is applied and the connection dies; the retry finds the name taken by its own commit."""
    world = World("put")
    writer = world.open(on("put", LoseAnswer(), key=".jsonl"))

    done = writer.stream().append(event("a"))

    assert (done.first_offset, done.duplicates) == (0, ())
    assert world.ids() == ["a"]


def _version_ids_are_overlooked(patch: Patch) -> None:
    patch.setattr(conditional, "UnprovenStorageError", KeyboardInterrupt)


# (I14)
@history(without=_version_ids_are_overlooked)
def versioning_switched_on(patch: Patch) -> None:
    """Versioning is enabled after the probe; from then on every racing writer wins."""
    world = World("put")
    unproven = errors.UnprovenStorageError("the answer carries a version id")
    writer = world.open(on("put", LoseAnswer(unproven), key=".jsonl"))

    with pytest.raises(errors.OutcomeUnknownError):
        writer.stream().append(event("a"))


# -- writers that slept ------------------------------------------------------------------------------------------------


def _no_age(patch: Patch) -> None:
    patch.setattr(Staleness, "seconds", lambda self: 0.0)


# (I16)
@history(without=_no_age)
def next_name_from_a_view_that_is_old(patch: Patch) -> None:
    """W lists and sleeps; others commit; everything is compacted and removed; W's put of the old name succeeds."""
    world = World("put")
    sleeper, others = world.open(), world.open()
    sleeper.stream().append(event("0"))
    for number in range(1, 4):
        others.stream().append(event(str(number)))
    world.remove_compacted()
    sleeper.clock.advance(3 * 24 * 3600)

    done = sleeper.stream().append(event("late"))

    assert world.ids() == ["0", "1", "2", "3", "late"]
    assert done.first_offset == 4


def _only_the_monotonic_clock(patch: Patch) -> None:
    patch.setattr(Staleness, "seconds", lambda self: self._clock.elapsed_seconds() - self._elapsed, raising=True)


# (I16)
@history(without=_only_the_monotonic_clock)
def suspended_laptop(patch: Patch) -> None:
    """The same, with a clock that stood still during the sleep."""
    world = World("put")
    sleeper, others = world.open(), world.open()
    sleeper.stream().append(event("0"))
    for number in range(1, 4):
        others.stream().append(event(str(number)))
    world.remove_compacted()
    sleeper.clock.suspend(3 * 24 * 3600, elapsed_counts=False)

    sleeper.stream().append(event("late"))

    assert world.ids() == ["0", "1", "2", "3", "late"]


def _strays_are_written_again(patch: Patch) -> None:
    patch.setattr(commit_by_put, "_holds", lambda *args: False)


# (I17)
@history(without=_strays_are_written_again)
def own_commit_taken_for_a_stray(patch: Patch) -> None:
    """The put lands and its writer sleeps before it checks; meanwhile the commit is compacted, with its bytes."""
    world = World("put")
    writer = world.open()
    writer.stream().append(event("0"))

    real = writer.faulty.put

    def put_and_sleep(key, data, **how):
        version = real(key, data, **how)
        patch.setattr(writer.faulty, "put", real)
        world.open().stream().append(event("2"))
        world.remove_compacted()
        writer.clock.advance(3 * 24 * 3600)
        return version

    patch.setattr(writer.faulty, "put", put_and_sleep)
    done = writer.stream().append(event("1"))

    assert done.offsets == (1,)
    assert world.ids() == ["0", "1", "2"]


def _listings_never_grow_old(patch: Patch) -> None:
    patch.setattr(partition_listing.PartitionListing, "is_stale", lambda self: self._age is None)


# (I18)
@history(without=_listings_never_grow_old)
def tail_with_an_old_listing(patch: Patch) -> None:
    """A tail waits longer than the grace period; its next name has been compacted and removed."""
    world = World("put")
    writer, follower = world.open(), world.open()
    writer.stream().append(event("0"))
    tail = follower.stream().tail()
    got = ids_of(tail.poll())
    for number in range(1, 4):
        writer.stream().append(event(str(number)))
    world.remove_compacted()
    follower.clock.advance(3 * 24 * 3600)

    for _ in range(4):
        got += ids_of(tail.poll())

    assert got == ["0", "1", "2", "3"]


# -- removal -----------------------------------------------------------------------------------------------------------


def _truncate_removes(patch: Patch) -> None:
    real = truncation.raise_bounds

    def and_remove(root, folder, *, start, **how):
        raised = real(root, folder, start=start, **how)
        root.backend.delete([f"{folder}{number:020d}.jsonl" for number in range(start)])
        return raised

    patch.setattr(truncation, "raise_bounds", and_remove)


# (I28)
@history(without=_truncate_removes)
def truncate_without_grace(patch: Patch) -> None:
    """W0 lists and stalls for a second; W1 commits 0; a truncate moves the start to the end; W0's put of 0 lands."""
    world = World("put")
    slow = world.open()

    def meanwhile(call):
        if call.method == "put" and call.key.endswith(".jsonl"):
            slow.calm()
            with world.open() as other:
                other.stream().append(event("first"))
                other.stream().truncate(before=1)

    slow.plan(meanwhile)
    done = slow.stream().append(event("second"))

    assert done.offsets == (1,)
    assert world.ids() == ["second"]


def _any_grace_will_do(patch: Patch) -> None:
    real = stream.vacuuming.vacuum

    def without_asking(state, *, exclusive, **how):
        return real(state, exclusive=True, **how)

    patch.setattr(stream.vacuuming, "vacuum", without_asking)


# (I24)
@history(without=_any_grace_will_do)
def short_grace(patch: Patch) -> None:
    """A vacuum with a shorter grace than writers rely on: W's listing is an hour old, and W still trusts it."""
    world = World("put")
    sleeper, others = world.open(), world.open()
    sleeper.stream().append(event("0"))
    others.stream().append([event("1"), event("2")])
    others.stream().compact()
    world.vacuum()
    for clock in (sleeper.clock, others.clock, world.times.clock):
        clock.advance(HOUR)
    try:
        world.vacuum(grace=60)
    except errors.StreamSettingsError:
        world.vacuum()

    done = sleeper.stream().append(event("late"))

    assert done.offsets == (3,)
    assert world.ids() == ["0", "1", "2", "late"]


# (I16)
@history(without=_no_age)
def next_name_from_a_stray(patch: Patch) -> None:
    """W0 and W1 put 1, W2 wins; all is compacted and removed; W1's longer put lands late; W0 appends after it."""
    world = World("put")
    w0, w1, w2 = world.open(), world.open(), world.open()
    for writer in (w0, w1):
        writer.stream().append(event(f"before {writer is w0}"))
    w1.plan(lambda call: Hold() if call.method == "put" else None)
    with pytest.raises(errors.OutcomeUnknownError):
        w1.stream().append([event("stray 0"), event("stray 1"), event("stray 2")])
    w2.stream().append(event("2"))

    def asleep(call):
        if call.method == "get" and call.key.endswith(f"{2:020d}.jsonl"):
            w0.calm()
            world.remove_compacted()
            assert w1.faulty.release()[0] is None  # it lands, because the name is free
            w0.clock.advance(2 * DAY)

    w0.plan(asleep)
    done = w0.stream().append(event("late"))

    assert done.offsets == (3,)
    assert world.ids() == ["before True", "before False", "2", "late"]
    assert world.problems() == ()


def _reading_confirms_the_head(patch: Patch) -> None:
    """A writer that lost a race reads the winner's segment and takes its end for the current head."""
    catch_up = partition_view.PartitionView.catch_up

    def confirmed(self):
        catch_up(self)
        self._reader.listing._age = self.last_seen_head = Staleness(self.root.clock)

    def one_segment(self):
        try:
            yield from self._live(newest=False)
        except errors.NotFoundError:
            return
        self._go_to(self.offset)

    patch.setattr(partition_view.PartitionView, "catch_up", confirmed)
    patch.setattr(partition_reader.PartitionReader, "_newer", one_segment)


# (I15)
@history(without=_reading_confirms_the_head)
def fresh_by_reading_another(patch: Patch) -> None:
    """W loses race after race and reads the winners: that does not prove that later names still exist."""
    world = World("put")
    slow, others = world.open(), world.open()
    slow.stream().append(event("0"))
    for number in range(1, 4):
        others.stream().append(event(str(number)))
    others.stream().compact()
    world.vacuum()

    def hours_pass(call):
        if call.method == "put" and call.key.endswith(".jsonl"):
            slow.clock.advance(11 * HOUR)
            world.pass_time(11 * HOUR)
            world.vacuum()

    slow.plan(hours_pass)
    done = slow.stream().append(event("late"))

    assert done.offsets == (4,)
    assert world.ids() == ["0", "1", "2", "3", "late"]


def _last_live_name_tells(patch: Patch) -> None:
    def chained(segments, *, start, floor):
        """Follow the live segments regardless of the floor, and compacted ones where there is no live one."""
        live = sorted((item for item in segments if item.next is None), key=lambda item: item.first)
        return live or sorted(segments)

    patch.setattr(partition_reader.seg, "chain", chained)


# (I2)
@history(without=_last_live_name_tells)
def head_from_the_last_name(patch: Patch) -> None:
    """A vacuum dies halfway: [0,4) is compacted, 2 is removed, 0 is not. Or an orphan lies below the floor."""
    stray = seg.seal_commit(b'{"a":1}\n' * 5, events=5, flags=1, write_id="0123456789abcdef")
    for left in ("the older segment", "a stray"):
        world = World("put")
        world.open().stream().append([event("0"), event("1")])
        world.open().stream().append([event("2"), event("3")])
        world.open().stream().compact()
        world.vacuum()
        world.pass_time(DAY + HOUR)
        if left == "a stray":
            world.vacuum()
            world.backend().put(FOLDER + seg.segment_name(1), stray)
        else:
            world.backend().delete([FOLDER + seg.segment_name(2)])

        assert world.open().stream().cursor() == {"0": 4}
        assert world.open().stream().append(event("4")).offsets == (4,)
        assert world.ids() == ["0", "1", "2", "3", "4"]


def _a_union_covers(patch: Patch) -> None:
    turn = itertools.count()

    def covers(found, *, start):
        """Remove what the union of the others covers: alternately the widest, and all narrower ones."""
        compacted = sorted((item for item in found if item.next is not None), key=lambda item: item.first - item.next)
        if len(compacted) < 3:
            return {}
        widest, *narrower = compacted
        return {widest: narrower[0]} if next(turn) % 2 == 0 else dict.fromkeys(narrower, widest)

    patch.setattr(vacuum, "covers", covers)


# (I27)
@history(without=_a_union_covers)
def cover_by_union(patch: Patch) -> None:
    """With [0,1), [1,2) and [0,2) compacted, two vacuums at once each remove what the others cover."""
    world = World("put")
    writer = world.open()
    for number in range(2):
        writer.stream().append(event(str(number)))
    world.compact(0, 1)
    world.compact(1, 2)
    world.backend().put(*_merged(world))
    patch.setattr(vacuum, "_KEYS_A_DELETE", 1000)
    one = world.open()

    def another_first(call):
        if call.method == "delete" and call.key.endswith(".zst"):
            one.calm()
            world.vacuum()

    one.plan(another_first)
    one.stream().vacuum()
    world.pass_time(DAY + HOUR)
    world.vacuum()

    assert world.ids() == ["0", "1"]
    assert world.names() == [f"{0:020d}-{2:020d}.jsonl.zst", "bounds.json"]


def _merged(world: World) -> tuple[str, bytes]:
    """Compact the first two segments as a compactor does that saw only live segments."""
    backend = world.backend()
    builder = Builder(0)
    for number in range(2):
        builder.add(backend.get(FOLDER + seg.segment_name(number)).data, events=1)
    return FOLDER + seg.compacted_name(0, 2), builder.finish()


def _bounds_are_just_written(patch: Patch) -> None:
    def written(root, key, data, **how):
        root.backend.put(key, data)
        return True

    patch.setattr(bounds, "put_and_settle", written)


# (I22)
@history(without=_bounds_are_just_written)
def bounds_lowered(patch: Patch) -> None:
    """A slow truncate reads the bounds; another moves the start further before the first one writes."""
    world = World("put")
    slow = world.open()
    for number in range(6):
        slow.stream().append(event(str(number)))

    def meanwhile(call):
        if call.method == "put" and call.key.endswith("bounds.json"):
            slow.calm()
            with world.open() as other:
                other.stream().truncate(before=5)

    slow.plan(meanwhile)
    slow.stream().truncate(before=2)

    assert world.ids() == ["5"]


def _names_are_made_without_the_lock(patch: Patch) -> None:
    """A writer that stands at a name that is yet to be made appends to it like to any other."""
    real = commit_by_append.AppendCommitter.commit

    def at_once(self, group):
        decision = self._view.decide(group)
        if self._head.byte or not self._head.key or not decision.lines:
            real(self, group)
        else:
            self._append(decision)
            self._view.settle(group, decision)

    patch.setattr(commit_by_append.AppendCommitter, "commit", at_once)


# (I4)
@history(without=_names_are_made_without_the_lock)
def name_that_came_and_went(patch: Patch) -> None:
    """Where segments grow: W is about to create the next name and sleeps; it is created, compacted and removed."""
    world = World("append")
    sleeper, others = world.open(), world.open()
    others.stream().append(event("0"))
    others.stream().compact()  # closes the newest segment
    assert sleeper.stream().append(event("0"), on_duplicate="skip").next_offset == 1
    others.stream().append(event("1"))
    world.remove_compacted()
    sleeper.clock.advance(2 * DAY)

    done = sleeper.stream().append(event("late"))

    assert done.offsets == (2,)
    assert world.ids() == ["0", "1", "late"]


# -- segments that grow ------------------------------------------------------------------------------------------------


def _small_segments(patch: Patch, size: int = 800) -> None:
    patch.setattr(seg, "SEGMENT_BYTES_MAX", size)


def _segments_are_not_sealed(patch: Patch) -> None:
    from bucketlog_backends import local

    patch.setattr(local.LocalBackend, "seal", local.LocalBackend.sync)


# (I4)
@history(without=_segments_are_not_sealed)
def append_to_a_closed_segment(patch: Patch) -> None:
    """P1 closes a segment; its size is exactly what P2, which has it open, expects."""
    import tempfile

    _small_segments(patch)
    with tempfile.TemporaryDirectory() as folder, bucketlog.open(folder) as one, bucketlog.open(folder) as other:
        one.stream("s").append(event("0", data="x" * 200))
        other.stream("s").append(event("1", data="x" * 200))
        one.stream("s").append(event("2", data="x" * 200))  # does not fit: closes the segment and creates the next

        other.stream("s").append(event("3"))

        assert [each.id for each in one.stream("s").read()] == ["0", "1", "2", "3"]
        assert one.stream("s").verify().ok


def _modes_do_not_matter(patch: Patch) -> None:
    patch.setattr(root, "_mode_of", lambda backend: "append")


# (I5)
@history(without=_modes_do_not_matter)
def two_protocols_one_directory(patch: Patch) -> None:
    """One process appends to a segment; another opens the same location as an object store."""
    world = World("append")
    appending = world.open()
    appending.stream().append(event("0"))

    with bucketlog.open(ObjectStore(world.url), clock=FakeClock()) as putting:
        assert ids_of(putting.stream("s").read()) == ["0"]
        with pytest.raises(errors.ReadOnlyError, match="append"):
            putting.stream("s").append(event("1"))
    appending.stream().append(event("2"))

    assert world.ids() == ["0", "2"]


def _zero_bytes_are_damage(patch: Patch) -> None:
    patch.setattr(torn, "_never_written", lambda data, start, at: False)


def _disk(world: World) -> PowerCutDisk:
    return PowerCutDisk(world.backend)


def _on(disk: PowerCutDisk, **options: object) -> bucketlog.EventStore:
    return bucketlog.open(disk.open(), clock=FakeClock(seed=7), **options)


# (I9)
@history(without=_zero_bytes_are_damage)
def unsynced_page_in_the_middle(patch: Patch) -> None:
    """Of the commits A, B and C, only the pages of A and C were written before the power cut."""
    world = World("append")
    disk = _disk(world)
    writer = _on(disk, sync="never")
    key = f"streams/s/0/{0:020d}.jsonl"
    for name in "ABC":
        writer.stream("s").append(event(name, data="x" * 3000))
    size = world.backend().head(key).size
    pages = {Page(key, number) for number in range(size // 512 + 1)}
    of_b = {Page(key, number) for number in range(size // 3 // 512 + 1, 2 * size // 3 // 512)}

    disk.power_cut(keep_pages=pages - of_b, keep_names=[key], keep_sizes=True)

    with _on(disk) as after:
        assert ids_of(after.stream("s").read()) == ["A"]
        after.stream("s").append(event("D"))
        assert ids_of(after.stream("s").read()) == ["A", "D"]


def _rolls_do_not_sync(patch: Patch) -> None:
    def roll(self):
        head = self._head
        head.key, head.byte = self._view.folder + seg.segment_name(head.offset), 0

    patch.setattr(commit_by_append.AppendCommitter, "_roll", roll)


# (I11)
@history(without=_rolls_do_not_sync)
def unsynced_tail_then_roll(patch: Patch) -> None:
    """sync="never" rolls with an unsynced tail; another process acknowledges in the next segment; power cut."""
    _small_segments(patch)
    world = World("append")
    disk = _disk(world)
    careless, careful = _on(disk, sync="never"), _on(disk)
    for number in range(3):
        careless.stream("s").append(event(str(number), data="x" * 200))
    careful.stream("s").append(event("acknowledged"))

    disk.power_cut()

    with _on(disk) as after:
        assert ids_of(after.stream("s").read()) == ["0", "1", "2", "acknowledged"]


def _reading_does_not_sync(patch: Patch) -> None:
    from bucketlog.testing import faults

    patch.setattr(faults.PowerCutBackend, "sync", lambda self, key: None)


# (I13)
@history(without=_reading_does_not_sync)
def event_acted_on_and_taken_back(patch: Patch) -> None:
    """A consumer acts on an event that was never synced; after a power cut another event has its offset."""
    world = World("append")
    disk = _disk(world)
    careless, reading = _on(disk, sync="never"), _on(disk, read_only=True)
    careless.stream("s").append(event("seen"))
    acted_on = ids_of(reading.stream("s").read())

    disk.power_cut()

    with _on(disk) as after:
        assert ids_of(after.stream("s").read()) == acted_on == ["seen"]


def _trust_the_next_sync(patch: Patch) -> None:
    real = commit_by_append.AppendCommitter._roll

    def trusting(self):
        return None if self._distrusted else real(self)

    patch.setattr(commit_by_append.AppendCommitter, "_roll", trusting)


# (I12)
@history(without=_trust_the_next_sync)
def fsync_failed(patch: Patch) -> None:
    """The sync fails; the page cache may still show the commit, and the next sync may succeed."""
    failed = errors.OutcomeUnknownError("fdatasync failed")
    for batch in ([event("1")], [event("1"), event("2")]):
        world = World("append")
        writer = world.open()
        writer.stream().append(event("0"))
        writer.plan(on("append", Fail(failed)))  # the backend has cut off what it could not sync

        done = writer.stream().append(batch[0] if len(batch) == 1 else batch)

        backend = world.backend()
        assert world.ids() == ["0", *(each.id for each in batch)]
        assert done.first_offset == 1
        assert backend.is_sealed(f"streams/s/0/{0:020d}.jsonl")
        assert b'"id":"1"' in backend.get(f"streams/s/0/{1:020d}.jsonl").data


# (I12)
@history(without=_trust_the_next_sync)
def fsync_failed_twice(patch: Patch) -> None:
    """The sync of the next segment fails too: the outcome is unknown."""
    failed = errors.OutcomeUnknownError("fdatasync failed")
    world = World("append")
    writer = world.open()
    writer.stream().append(event("0"))
    appends = []

    def plan(call):
        if call.method == "append":
            appends.append(call.key)
            return Fail(failed) if len(appends) <= 2 else None
        return None

    writer.plan(plan)
    with pytest.raises(errors.OutcomeUnknownError):
        writer.stream().append(event("1"))

    writer.stream().append(event("2"))
    assert world.ids() == ["0", "2"]
    assert world.problems() == ()
    assert len(set(appends)) > 1


def _every_segment_may_end_torn(patch: Patch) -> None:
    real = partition_reader.PartitionReader._live

    def lenient(self, *, newest, **how):
        return real(self, newest=True, **how)

    patch.setattr(partition_reader.PartitionReader, "_live", lenient)


# (I8)
@history(without=_every_segment_may_end_torn)
def damage_in_a_closed_segment(patch: Patch) -> None:
    """A trailer in a closed segment is damaged; a reader that took it for a torn write would skip or wait forever."""
    _small_segments(patch)
    world = World("append")
    writer, follower = world.open(), world.open()
    writer.stream().append(event("0", data="x" * 200))
    tail = follower.stream().tail()
    assert ids_of(tail.poll()) == ["0"]
    assert tail.poll() == []
    writer.stream().append(event("1", data="x" * 200))
    writer.stream().append(event("2", data="x" * 200))
    key = f"streams/s/0/{0:020d}.jsonl"
    backend = world.backend()
    data = backend.get(key).data
    backend.delete([key])
    backend.append(key, data[:-30], expected_size=0)
    backend.seal(key)

    with pytest.raises(errors.CorruptSegmentError) as caught:
        tail.poll()

    assert (caught.value.key, caught.value.offset) == (key, 1)


def _no_second_look(patch: Patch) -> None:
    def hasty(self, *, newest):
        raise read_errors.corrupt_segment(self.where, self.key, self.byte, "at first sight", offset=self.offset)

    patch.setattr(partition_reader.PartitionReader, "_look_again", hasty)


# (I9)
@history(without=_no_second_look)
def torn_tail_replaced_under_a_reader(patch: Patch) -> None:
    """A reader without a lock sees the beginning of a torn write and the end of the commit that replaced it."""
    world = World("append")
    writer, reading = world.open(), world.open()
    writer.stream().append(event("0"))
    key = f"streams/s/0/{0:020d}.jsonl"
    before = world.backend().get(key).data
    writer.stream().append(event("1", data="y" * 50))
    after = world.backend().get(key).data
    mixed = after[: len(before)] + after[len(before) :].replace(b"yyyyy", b"torn!", 1)
    real = reading.faulty.get
    answers = [mixed]

    def get(asked, start=0, end=None):
        content = real(asked, start, end)
        return content._replace(data=answers.pop()[start:]) if asked == key and answers else content

    patch.setattr(reading.faulty, "get", get)

    assert ids_of(reading.stream().read()) == ["0", "1"]


def _nothing_is_checked(patch: Patch) -> None:
    def crc(data, value=0):
        return 0

    patch.setattr(seg, "crc32", crc)


# (I7)
@history(without=_nothing_is_checked)
def crc_without_its_own_fields(patch: Patch) -> None:
    """A flipped bit in a commit's count, flags or write id shifts every offset after it."""
    data = seg.seal_commit(b'{"a":1}\n{"a":2}\n', events=2, flags=1, write_id="0123456789abcdef")
    fields = len(data) - seg.TRAILER_BYTES + len(',"commit":"')

    for place in range(fields, fields + 27):
        if data[place : place + 1] == b"-":
            continue
        digit = b"%x" % (int(data[place : place + 1], 16) ^ 1)
        found = seg.scan(data[:place] + digit + data[place + 1 :])
        assert (found.spans, found.rest) == ([], "corrupt")


# -- checkpoints -------------------------------------------------------------------------------------------------------


def _conditions_are_left_out(patch: Patch) -> None:
    real = ObjectStore.put

    def unconditional(self, key, data, *, if_version=ANY):
        return real(self, key, data, if_version=ANY if key.startswith("checkpoints/") else if_version)

    patch.setattr(ObjectStore, "put", unconditional)


@history(without=_conditions_are_left_out)
def late_unconditional_checkpoint(patch: Patch) -> None:
    """A put of v2 that timed out, and a delete, land after v3 was acknowledged."""
    world = World("put")
    slow, quick = world.open(), world.open()
    quick.checkpoints.save("c", 1)
    slow.plan(lambda call: Hold() if call.method == "put" else None)
    with pytest.raises(errors.OutcomeUnknownError):
        slow.checkpoints.save("c", 2)
    with pytest.raises(errors.OutcomeUnknownError):
        slow.checkpoints.delete("c")
    saved = quick.checkpoints.save("c", 3)

    slow.faulty.release()

    assert quick.checkpoints.load("c") == saved


def _one_version_is_remembered(patch: Patch) -> None:
    patch.setattr(checkpoints, "HISTORY_MAX", 1)


@history(without=_one_version_is_remembered)
def checkpoint_read_back_too_late(patch: Patch) -> None:
    """Our save is applied and its answer lost; another process saves over it before we read back."""
    world = World("put")
    ours, other = world.open(), world.open()
    first = ours.checkpoints.save("c", 1)

    def plan(call):
        if call.method == "put":
            ours.plan(then_another)
            return LoseAnswer()
        return None

    def then_another(call):
        ours.calm()
        other.checkpoints.save("c", 3)

    ours.plan(plan)
    saved = ours.checkpoints.save("c", 2, expected_version=first.version)

    assert saved.value == 2
    assert other.checkpoints.load("c").value == 3


def _versions_by_stat(patch: Patch) -> None:
    from bucketlog_backends.local import files

    def by_stat(fd):
        found = os.fstat(fd)
        return found.st_size, f"{found.st_size}-{found.st_mtime_ns}"

    patch.setattr(files, "digest_of", by_stat)


@history(without=_versions_by_stat)
def same_mtime_size_inode(patch: Patch) -> None:
    """A file is replaced by one of the same size and time: a version made of the two would recur."""
    import tempfile

    from bucketlog_backends.local import open_local

    with tempfile.TemporaryDirectory() as folder:
        backend = open_local(folder, {}, create=True)
        backend.put("checkpoints/c.json", b"one")
        version = backend.head("checkpoints/c.json").version
        path = Path(folder, "checkpoints", "c.json")
        times = path.stat()
        with path.open("r+b") as file:
            file.write(b"two")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

        with pytest.raises(errors.ConflictError):
            backend.put("checkpoints/c.json", b"six", if_version=version)

        assert backend.get("checkpoints/c.json").data == b"two"


# -- the surface -------------------------------------------------------------------------------------------------------


def _a_cursor_may_point_anywhere(patch: Patch) -> None:
    patch.setattr(partition_reader.PartitionReader, "check_reaches", lambda self, wanted: None)


@history(without=_a_cursor_may_point_anywhere)
def cursor_beyond_the_head(patch: Patch) -> None:
    """A log is restored from a copy, and the cursor of a consumer is past its end."""
    for mode in ("put", "append"):
        world = World(mode)
        world.open().stream().append([event("0"), event("1")])

        with pytest.raises(errors.OffsetOutOfRangeError) as caught:
            list(world.open().stream().read({"0": 5}))

        assert (caught.value.offset, caught.value.start, caught.value.next_offset) == (5, 0, 2)


def _days_are_not_compared(patch: Patch) -> None:
    patch.setattr(pieces, "_once", lambda state, piece, seen, names: piece)


@history(without=_days_are_not_compared)
def ids_across_days(patch: Patch) -> None:
    """Two writers store one id on two days at once: readers yield it once, and `verify` reports it."""
    world = World("put")
    one, other = (world.open() for _ in range(2))
    one.stream(partition_by="day").append(event("first", time=day(1)))
    other.stream(partition_by="day").append(event("second", time=day(1)))

    def meanwhile(call):
        if call.method == "put":
            one.calm()
            other.stream().append(event("same", time=day(3)))

    one.plan(meanwhile)
    one.stream().append(event("same", time=day(2)))

    assert world.ids() == ["first", "second", "same"]
    assert len(world.problems()) == 1
    assert "same" in str(world.problems()[0])


def _the_writer_goes_on(patch: Patch) -> None:
    def run(self):
        failed = []
        while True:
            with self._changed:
                self._changed.wait_for(lambda again=failed: self._waiting or again or self._closed)
                batch = [self._waiting.popleft().event] if self._waiting else failed
                if not batch:
                    return
            try:
                self._append(batch)
            except errors.BucketlogError:
                failed = batch  # the later ones first, then this one again
                continue
            with self._changed:
                self.written += len(batch)
                self._changed.notify_all()
            failed = [] if batch is failed else failed

    patch.setattr(buffer.BufferedWriter, "_run", run)


@history(without=_the_writer_goes_on)
def buffered_writer_reorders(patch: Patch) -> None:
    """Batch 1 fails, batch 2 lands, batch 1 is retried."""
    world = World("put")
    writer = world.open(on("put", Fail(errors.AccessDeniedError("no")), key=".jsonl"))

    def write_both() -> None:
        with writer.stream().writer(max_events=1, linger=0) as buffered:
            buffered.append(event("1"))
            buffered.append(event("2"))

    with pytest.raises(errors.UnwrittenEventsError) as caught:
        write_both()

    assert ids_of(caught.value.events)[:1] == ["1"]
    assert world.ids() == []


def _partitions_are_not_checked_first(patch: Patch) -> None:
    patch.setattr(partition_writer.PartitionWriter, "check", lambda self, request: None)


@history(without=_partitions_are_not_checked_first)
def half_of_the_partitions(patch: Patch) -> None:
    """An append to several partitions fails halfway."""
    world = World("put")
    writer = world.open()
    by_subject = writer.stream(partition_by="subject")
    by_subject.append(event("taken", subject="b"))

    with pytest.raises(errors.DuplicateEventError) as caught:
        by_subject.append([event("new", subject="a"), event("taken", subject="b")])

    assert caught.value.commits == ()
    assert world.ids() == ["taken"]
    writer.plan(on("put", Fail(errors.AccessDeniedError("no")), key="/b/"))
    with pytest.raises(errors.AccessDeniedError) as denied:
        by_subject.append([event("new", subject="a"), event("other", subject="b")])
    assert [(commit.partition, commit.offsets) for commit in denied.value.commits] == [("a", (0,))]
    assert world.ids() == ["new", "taken"]


# -- what depends on no single rule ------------------------------------------------------------------------------------


# (I3)
def test_late_put_at_a_live_name_changes_nothing():
    world = World("put")
    late = world.open(lambda call: Hold() if call.method == "put" and ".jsonl" in call.key else None)
    other = world.open()
    with pytest.raises(errors.OutcomeUnknownError):
        late.stream().append(event("late"))
    other.stream().append(event("0"))

    refused = late.faulty.release()

    assert all(isinstance(error, errors.ConflictError) for error in refused)
    assert world.ids() == ["0"]


# (I14)
def test_conflict_reported_though_nobody_landed_is_tried_again():
    world = World("put")
    writer = world.open(on("put", Fail(errors.ConflictError("already exists")), key=".jsonl"))

    done = writer.stream().append(event("a"))

    assert done.offsets == (0,)
    assert world.ids() == ["a"]


# (I20)
def test_successor_of_a_dead_writer_repeats_its_ids_at_its_name_without_doubling():
    for released_before in (True, False):
        world = World("put")
        dead = world.open(lambda call: Hold() if call.method == "put" and ".jsonl" in call.key else None)
        with pytest.raises(errors.OutcomeUnknownError):
            dead.stream().append([event("0"), event("1")])
        successor = world.open()
        if released_before:
            dead.faulty.release()
        successor.stream().append([event("0"), event("1"), event("2")], on_duplicate="skip")
        dead.faulty.release()

        assert world.ids() == ["0", "1", "2"]


def test_checkpoint_value_that_comes_back_is_still_a_change():
    world = World("put")
    store = world.open()
    first = store.checkpoints.save("c", "same")
    store.checkpoints.save("c", "other")
    store.checkpoints.save("c", "same")

    with pytest.raises(errors.CheckpointConflictError):
        store.checkpoints.save("c", "mine", expected_version=first.version)


@pytest.mark.parametrize("mode", ["put", "append"])
def test_event_data_that_imitates_a_trailer_is_only_data(mode):
    fake = '{"x":1,"commit":"00000001-01-0123456789abcdef-00000000"}\n'
    world = World(mode)
    events = [
        event("0", data=fake),
        event("1", data={"commit": "00000001-01-0123456789abcdef-00000000"}),
        event("2", subject=fake, tags=(fake,), meta={"commit": fake}),
        event(fake),
    ]
    world.open().stream().append(events)
    for each in events:
        world.open().stream("singly").append(each)

    assert world.events() == events
    assert world.events("singly") == events
    assert world.problems() == world.problems("singly") == ()


@pytest.mark.parametrize("mode", ["put", "append"])
@pytest.mark.parametrize("fault", [Crash(), CrashAfter()], ids=["before", "after"])
def test_crash_at_any_call_of_an_append_leaves_the_batch_whole_or_absent(mode, fault):
    crashed = True
    number = 0
    while crashed:
        number += 1
        world = World(mode)
        world.open().stream().append(event("before"))
        dying = world.open()
        at = len(dying.faulty.calls) + number
        dying.plan(lambda call, at=at: fault if call.number == at else None)
        try:
            dying.stream().append([event("a"), event("b")])
        except SimulatedCrash:
            pass
        else:
            crashed = False
            assert number > 3
        ids = world.ids()
        world.open().stream().append(event("after"))

        assert ids in (["before"], ["before", "a", "b"])
        assert world.ids() == [*ids, "after"]
        assert world.problems() == ()


@pytest.mark.parametrize("times", [1, 2])
def test_stray_is_deleted_late_or_twice_without_harm(times):
    world = World("put")
    late = world.open(lambda call: Hold() if call.method == "put" and call.key.endswith(".jsonl") else None)
    with pytest.raises(errors.OutcomeUnknownError):
        late.stream().append([event("stray 0"), event("stray 1")])
    writer = world.open()
    for number in range(3):
        writer.stream().append(event(str(number)))
    world.remove_compacted()
    assert late.faulty.release()[0] is None
    assert f"{0:020d}.jsonl" in world.names()
    slow = [world.open() for _ in range(times)]
    for process in slow:
        process.plan(lambda call: Hold() if call.method == "delete" and call.key.startswith(FOLDER) else None)
        with pytest.raises(errors.OutcomeUnknownError):
            process.stream().vacuum()
    writer.stream().append(event("3"))
    for process in slow:
        process.calm()
        process.faulty.release()

    assert world.ids() == ["0", "1", "2", "3"]
    assert world.problems() == ()
    assert f"{0:020d}.jsonl" not in world.names()


# (I25)
def test_stalled_compactor_whose_range_lies_inside_a_larger_one_changes_nothing():
    world = World("put")
    for number in range(4):
        world.open().stream().append(event(str(number)))
    late = world.open(lambda call: Hold() if call.method == "put" and call.key.endswith(".zst") else None)
    reader = late.stream()._state.reader("0")
    with pytest.raises(errors.OutcomeUnknownError):
        compaction.merge(reader, reader.list_segments()[1:3], first=1, progress=lambda size: None)
    world.remove_compacted()
    before = world.names()

    assert late.faulty.release()[0] is None

    assert world.ids() == ["0", "1", "2", "3"]
    assert world.problems() == ()
    assert world.vacuum().segments_removed == 1
    assert world.names() == before


def test_event_is_frozen_so_that_what_was_appended_is_what_was_given():
    one = event("a")

    with pytest.raises(AttributeError):
        one.type = "other"
    assert isinstance(one, Event)
