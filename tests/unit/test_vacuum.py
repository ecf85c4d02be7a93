"""What a vacuum may remove, and that it removes nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketlog import errors
from bucketlog.format.compacting import Builder
from bucketlog.format.segments import Segment, chain, compacted_name, segment_name
from bucketlog.log.bounds import Bounds, BoundsRecord, InForce
from bucketlog.maintenance import vacuum
from bucketlog.testing import Fail, on

from .stores import KINDS, event, ids, opened_storage

NOW = datetime(2026, 2, 5, 12, tzinfo=UTC)
GRACE = timedelta(hours=24)
FOLDER = "streams/orders/0/"


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


def live(first, size=1):
    return Segment(FOLDER + segment_name(first), first, None, size)


def compacted(first, following, size=1):
    return Segment(FOLDER + compacted_name(first, following), first, following, size)


def record(*steps):
    """Bounds and how many hours ago they were raised: (hours, start, floor), oldest first."""
    made = [InForce(Bounds(start, floor), NOW - timedelta(hours=hours)) for hours, start, floor in steps]
    return BoundsRecord(made[-1].bounds, "v", tuple(made)) if made else BoundsRecord()


def names(segments):
    return sorted(segment.key.removeprefix(FOLDER) for segment in segments)


# -- the floor ---------------------------------------------------------------------------------------------------------


# (I23)
@pytest.mark.parametrize(
    ("found", "bounds", "floor", "relied_on"),
    [
        ([], (), 0, []),
        ([compacted(0, 3)], (), 3, [compacted(0, 3)]),
        ([compacted(0, 3), compacted(3, 5)], (), 5, [compacted(0, 3), compacted(3, 5)]),
        ([compacted(0, 3), compacted(0, 5)], (), 5, [compacted(0, 5)]),
        ([compacted(3, 5)], (), 0, []),
        ([compacted(0, 2), compacted(3, 5)], (), 2, [compacted(0, 2)]),
        ([compacted(0, 3), compacted(3, 5)], ((1, 0, 3),), 5, [compacted(3, 5)]),
        ([compacted(0, 3)], ((1, 0, 3),), 3, []),
        ([compacted(0, 9)], ((1, 4, 4),), 9, [compacted(0, 9)]),
        ([], ((1, 9, 9),), 9, []),
        ([compacted(0, 3), compacted(12, 15)], ((1, 9, 9),), 9, []),
    ],
)
def test_floor_may_rise_to_the_end_of_what_is_compacted_from_the_start_on(found, bounds, floor, relied_on):
    assert vacuum.floor_of(found, record(*bounds)) == (floor, relied_on)


# -- what one other contains -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "start", "contained"),
    [
        ([compacted(0, 2), compacted(2, 4)], 0, {}),
        ([compacted(0, 1), compacted(1, 2), compacted(0, 2)], 0, {(0, 1): (0, 2), (1, 2): (0, 2)}),
        ([compacted(0, 4), compacted(2, 6)], 0, {}),
        ([compacted(0, 4), compacted(2, 6), compacted(2, 4)], 0, {(2, 4): (2, 6)}),
        ([compacted(0, 4), compacted(0, 9), compacted(0, 2)], 0, {(0, 4): (0, 9), (0, 2): (0, 9)}),
        ([compacted(0, 9), compacted(3, 9), compacted(5, 9)], 0, {(3, 9): (0, 9), (5, 9): (0, 9)}),
        ([compacted(0, 2), compacted(0, 4)], 2, {}),
        ([compacted(0, 3), compacted(0, 4)], 2, {(0, 3): (0, 4)}),
        ([compacted(0, 10), compacted(9, 20), compacted(8, 15), compacted(8, 12)], 0, {(8, 12): (8, 15)}),
    ],
)
def test_compacted_segment_is_contained_only_in_one_other(found, start, contained):
    covers = vacuum.covers(found, start=start)

    assert {(one.first, one.next): (other.first, other.next) for one, other in covers.items()} == contained


ranges = st.sets(st.tuples(st.integers(0, 8), st.integers(1, 8)).map(lambda one: (one[0], one[0] + one[1])), max_size=8)


# (I27)
@pytest.mark.slow
@given(ranges=ranges, start=st.integers(0, 8))
def test_removing_what_is_contained_leaves_every_offset_where_it_was(ranges, start):
    found = [compacted(*one) for one in sorted(ranges)]

    contained = vacuum.covers(found, start=start)

    left = [one for one in found if one not in contained]
    assert all(cover in left for cover in contained.values())
    held = {offset for segment in found for offset in range(max(segment.first, start), segment.next)}
    assert held == {offset for segment in left for offset in range(max(segment.first, start), max(segment.next, start))}
    before, after = (chain(one, start=start, floor=0) for one in (found, left))
    assert [one.next for one in before[-1:]] == [one.next for one in after[-1:]]


# -- what is out of use ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "steps", "removed", "waiting", "hours"),
    [
        # Below a floor in force for a grace; the segment at the floor and those above stay.
        ([live(0), live(2), live(3), live(5)], ((24, 0, 3),), [live(0), live(2)], [], None),
        ([live(0), live(2), live(3)], ((23.9, 0, 3),), [], [live(0), live(2)], 0.1),
        # An older, lower floor is old enough.
        ([live(0), live(2), live(3)], ((30, 0, 2), (1, 0, 9)), [live(0)], [live(2), live(3)], 23),
        ([live(0), live(2), live(3)], ((20, 0, 2), (1, 0, 3)), [], [live(0), live(2)], 23),
        # The start decides about compacted ones, not the floor; one that reaches past it stays.
        ([compacted(0, 3), compacted(3, 6)], ((48, 0, 6),), [], [], None),
        ([compacted(0, 3), compacted(3, 6)], ((48, 3, 6),), [compacted(0, 3)], [], None),
        ([compacted(0, 3), compacted(3, 6)], ((48, 4, 6),), [compacted(0, 3)], [], None),
        ([compacted(0, 3), compacted(3, 6)], ((48, 3, 6), (2, 6, 6)), [compacted(0, 3)], [compacted(3, 6)], 22),
        ([live(0), live(9)], (), [], [], None),
    ],
)
def test_what_is_out_of_use_for_a_grace_goes(found, steps, removed, waiting, hours):
    spent = vacuum.out_of_use(found, record(*steps))

    decision = vacuum.due_for_removal(spent, now=NOW, grace=GRACE)

    assert (names(decision.remove), names(decision.waiting)) == (names(removed), names(waiting))
    assert decision.waiting_until == (None if hours is None else NOW + timedelta(hours=hours))


# -- doing it ----------------------------------------------------------------------------------------------------------


def filled(storage, commits=6):
    stream = storage.open().stream("orders")
    for number in range(commits):
        stream.append([event(2 * number), event(2 * number + 1)])
    return stream


def stored(storage):
    return [key.removeprefix(FOLDER) for key in storage.contents(FOLDER)]


def test_first_vacuum_raises_the_floor_and_one_a_grace_later_removes(storage):
    stream = filled(storage)
    stream.compact()
    live_bytes = sum(len(data) for key, data in storage.contents(FOLDER).items() if key.endswith(".jsonl"))

    first = stream.vacuum()

    (part,) = first.partitions
    assert (part.partition, part.floor_before, part.floor) == ("0", 0, 12)
    assert (first.segments_removed, first.bytes_removed, first.bytes_waiting) == (0, 0, live_bytes)
    assert first.segments_waiting == len([name for name in stored(storage) if name.endswith(".jsonl")])
    assert first.waiting_until - datetime.now(UTC) > timedelta(hours=23)

    again = stream.vacuum(grace=0, exclusive=True)

    assert (again.bytes_removed, again.segments_waiting, again.waiting_until) == (live_bytes, 0, None)
    assert stored(storage) == [f"{0:020d}-{12:020d}.jsonl.zst", "bounds.json"]
    assert ids(stream.read()) == [f"e{number}" for number in range(12)]
    assert storage.open().stream("orders").verify().ok
    assert stream.append(event(12)).offsets == (12,)


def test_vacuum_with_nothing_to_do_writes_nothing(storage):
    stream = filled(storage)
    before = storage.contents()

    for report in (stream.vacuum(), stream.vacuum(grace=0, exclusive=True), storage.open().stream("new").vacuum()):
        assert (report.segments_removed, report.segments_waiting) == (0, 0)

    assert storage.contents() == before


def test_vacuum_removes_its_own_scratch_objects(storage):
    stream = filled(storage)
    stream.compact()

    stream.vacuum(grace=0, exclusive=True)

    assert {key.split("/")[0] for key in storage.contents()} == {"bucketlog.json", "capabilities", "streams"}
    assert storage.backend.list(".probe/") is not None
    assert not [key for key in storage.contents(".probe/") if "now" in key]


def test_exclusive_vacuum_without_grace_does_all_at_once(storage):
    stream = filled(storage)
    stream.compact()

    report = stream.vacuum(grace=0, exclusive=True)

    assert report.segments_removed > 0
    assert stored(storage) == [f"{0:020d}-{12:020d}.jsonl.zst", "bounds.json"]


@pytest.mark.parametrize("grace", [0, 60, timedelta(hours=23), 24 * 3600 - 1])
def test_shorter_grace_than_the_streams_own_needs_the_promise(storage, grace):
    stream = filled(storage)
    stream.compact()
    before = storage.contents()

    with pytest.raises(errors.StreamSettingsError, match="exclusive=True") as caught:
        stream.vacuum(grace=grace)

    assert isinstance(caught.value, ValueError)
    assert "86400 s" in str(caught.value)
    assert storage.contents() == before


@pytest.mark.parametrize("grace", [24 * 3600, timedelta(days=1), timedelta(days=30)])
def test_longer_grace_needs_none(storage, grace):
    stream = filled(storage)
    stream.compact()

    assert stream.vacuum(grace=grace).segments_removed == 0


@pytest.mark.parametrize("grace", [-1, timedelta(seconds=-1), float("nan")])
def test_grace_that_is_no_duration_is_refused(storage, grace):
    with pytest.raises(ValueError, match="grace"):
        filled(storage).vacuum(grace=grace, exclusive=True)


def test_dry_run_tells_and_does_nothing(storage):
    stream = filled(storage)
    stream.compact()
    before = storage.contents()
    reading = storage.open(read_only=True).stream("orders")

    waiting = reading.vacuum(dry_run=True)
    at_once = reading.vacuum(grace=0, exclusive=True, dry_run=True)

    assert storage.contents() == before
    assert (waiting.partitions[0].floor_before, waiting.partitions[0].floor) == (0, 12)
    assert waiting.segments_removed == 0
    done = stream.vacuum(grace=0, exclusive=True)
    assert (at_once.segments_removed, at_once.bytes_removed) == (done.segments_removed, done.bytes_removed)
    assert waiting.bytes_waiting == done.bytes_removed


def test_vacuum_gives_up_while_segments_keep_changing(storage, monkeypatch):
    stream = filled(storage)
    stream.compact()
    before = storage.contents()
    monkeypatch.setattr(vacuum, "_LOOKS_MAX", 0)

    with pytest.raises(errors.BackendUnavailableError, match="changed during each of 0 attempts"):
        stream.vacuum()

    assert storage.contents() == before


def test_read_only_handle_removes_nothing(storage):
    filled(storage).compact()

    with pytest.raises(errors.ReadOnlyError, match="vacuum stream 'orders'"):
        storage.open(read_only=True).stream("orders").vacuum()


def test_all_partitions_are_vacuumed_and_counted(storage):
    stream = storage.open().stream("orders", partition_by="subject")
    stream.append([event(number, subject=f"s{number % 3}") for number in range(9)])
    stream.compact()

    report = stream.vacuum(grace=0, exclusive=True)

    assert [part.partition for part in report.partitions] == ["s0", "s1", "s2"]
    assert report.segments_removed == sum(part.segments_removed for part in report.partitions) == 3
    assert report.bytes_removed == sum(part.bytes_removed for part in report.partitions) > 0
    assert len(list(stream.read())) == 9


def test_compacted_segments_that_a_larger_one_contains_go_at_once(storage):
    stream = filled(storage, commits=2)
    stream.compact()
    stream.append(event(99))
    stream.compact()
    builder = Builder(0)
    for key, data in storage.contents(FOLDER).items():
        if key.endswith(".jsonl"):
            builder.add(data, events=data.count(b"\n"))
    storage.backend.put(FOLDER + compacted_name(0, 5), builder.finish())

    report = stream.vacuum()

    assert report.segments_removed == 2
    assert [name for name in stored(storage) if name.endswith(".zst")] == [f"{0:020d}-{5:020d}.jsonl.zst"]
    assert ids(storage.open().stream("orders").read()) == ["e0", "e1", "e2", "e3", "e99"]


# (I23)
@pytest.mark.parametrize("where", ["content", "index", "of another"])
def test_damaged_compacted_segment_is_told_and_nothing_is_done(storage, where):
    stream = filled(storage)
    stream.compact()
    (key,) = [key for key in storage.contents(FOLDER) if key.endswith(".zst")]
    data = bytearray(storage.backend.get(key).data)
    if where == "of another":
        builder = Builder(1)
        builder.add(
            b"".join(storage.contents(FOLDER)[name] for name in storage.contents(FOLDER) if name > key), events=12
        )
        data = builder.finish()
    else:
        data[40 if where == "content" else len(data) - 400] ^= 0x10
    storage.backend.delete([key])
    storage.backend.put(key, bytes(data))
    before = storage.contents()
    other = storage.open().stream("orders")

    for grace in (None, 0):
        with pytest.raises(errors.CorruptSegmentError) as caught:
            other.vacuum(grace=grace, exclusive=True)
        assert caught.value.key == key

    assert storage.contents() == before


def test_damaged_larger_segment_takes_no_smaller_one_with_it(storage):
    stream = filled(storage, commits=2)
    stream.compact()
    stream.vacuum(grace=0, exclusive=True)
    storage.backend.put(FOLDER + f"{0:020d}-{5:020d}.jsonl.zst", b"not zstd at all")

    with pytest.raises(errors.CorruptSegmentError):
        storage.open().stream("orders").vacuum()

    assert f"{0:020d}-{4:020d}.jsonl.zst" in stored(storage)


def test_own_writers_and_tails_go_on_after_an_exclusive_vacuum(storage):
    """The promise is about other processes. Our own writers and tails may have listings younger than the grace."""
    store, others = storage.open(), storage.open()
    stream = store.stream("orders")
    tail = stream.tail()
    assert stream.append(event(0)).offsets == (0,)
    assert ids(tail.poll()) == ["e0"]
    for number in range(1, 4):
        others.stream("orders").append(event(number))
    others.close()

    stream.compact()
    stream.vacuum(grace=0, exclusive=True)

    assert stream.append(event(4)).offsets == (4,)
    assert [event_id for _ in range(5) for event_id in ids(tail.poll())] == ["e1", "e2", "e3", "e4"]
    assert ids(storage.open().stream("orders").read()) == ["e0", "e1", "e2", "e3", "e4"]


def test_progress_counts_what_is_read_and_checked(storage):
    stream = filled(storage)
    stream.compact()
    reported = []

    stream.vacuum(progress=lambda read, total: reported.append((read, total)))
    after = len(reported)
    stream.vacuum(progress=lambda read, total: reported.append((read, total)))

    (size,) = [len(data) for key, data in storage.contents(FOLDER).items() if key.endswith(".zst")]
    assert reported[0] == (0, size)
    assert reported[after - 1] == (size, size)
    assert reported[after:] == [(0, 0)]


def test_storage_that_refuses_to_remove_raises(storage):
    stream = filled(storage)
    stream.compact()
    stream.vacuum()
    denied = errors.AccessDeniedError("not allowed to delete")
    refused = storage.open(on("delete", Fail(denied), key=FOLDER)).stream("orders")

    with pytest.raises(errors.AccessDeniedError):
        refused.vacuum(grace=0, exclusive=True)

    assert ids(stream.read()) == [f"e{number}" for number in range(12)]


def test_many_names_are_removed_in_batches(storage, monkeypatch):
    monkeypatch.setattr(vacuum, "_KEYS_A_DELETE", 2)
    stream = filled(storage, commits=5)
    stream.compact()
    for name in range(1, 6):
        storage.backend.put(FOLDER + segment_name(name), b"left over")
    store = storage.open()

    store.stream("orders").vacuum(grace=0, exclusive=True)

    deletes = [call for call in store.backend.calls if call.method == "delete" and call.key.startswith(FOLDER)]
    assert len(deletes) >= 3
    assert stored(storage) == [f"{0:020d}-{10:020d}.jsonl.zst", "bounds.json"]


def test_copy_of_a_directory_that_lost_its_modes_is_vacuumed(tmp_path):
    for storage in opened_storage("local", tmp_path):
        stream = filled(storage)
        stream.compact()
        for path in (tmp_path / "store" / FOLDER).glob("*.jsonl"):
            path.chmod(0o644)

        report = storage.open().stream("orders").vacuum(grace=0, exclusive=True)

        assert report.segments_removed == 1
        assert stored(storage) == [f"{0:020d}-{12:020d}.jsonl.zst", "bounds.json"]
