"""Truncation: the exact new start, the events that disappear, and what readers and writers notice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bucketlog import errors
from bucketlog.format.segments import Segment, compacted_name, segment_name
from bucketlog.maintenance.truncation import Crossing, crossing

from .stores import KINDS, START, event, ids, opened_storage

FOLDER = "streams/orders/0/"


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


@pytest.fixture(params=["live", "both", "vacuumed"])
def stream(request, storage):
    """Twelve events in commits of one, two and three: all live, the first half compacted, or all compacted."""
    stream = storage.open().stream("orders")
    number = 0
    for commit, count in enumerate((3, 2, 1, 3, 1, 2)):
        stream.append([event(number + place) for place in range(count)])
        number += count
        if request.param == "both" and commit == 2:
            stream.compact()
    if request.param == "vacuumed":
        stream.compact()
        stream.vacuum(grace=0, exclusive=True)
    return storage.open().stream("orders")


def left(first, end=12):
    return [f"e{number}" for number in range(first, end)]


# -- by offset ---------------------------------------------------------------------------------------------------------


# (I28)
@pytest.mark.parametrize("before", [1, 4, 6, 8, 12])
def test_log_begins_at_just_that_offset(storage, stream, before):
    report = stream.truncate(before=before)

    (part,) = report.partitions
    assert (part.partition, part.start_before, part.start) == ("0", 0, before)
    assert report.events == part.events == before
    for handle in (stream, storage.open().stream("orders")):
        found = list(handle.read())
        assert ids(found) == left(before)
        assert [event.offset for event in found] == list(range(before, 12))
        assert handle.cursor() == {"0": 12}
        assert handle.stats().events == 12 - before
    report = storage.open().stream("orders").verify()
    assert (report.ok, report.events) == (True, 12 - before)


@pytest.mark.parametrize("before", [4, 12])
def test_appends_go_on_at_the_same_offset(storage, stream, before):
    other = storage.open().stream("orders")
    assert other.append(event(0), on_duplicate="skip").next_offset == 12

    stream.truncate(before=before)

    assert other.append(event(12)).offsets == (12,)
    assert stream.append(event(13)).offsets == (13,)
    assert storage.open().stream("orders").append(event(14), expected_offset=14).offsets == (14,)
    assert ids(stream.read()) == left(before, 15)
    assert storage.open().stream("orders").verify().ok


@pytest.mark.parametrize("before", [4, 8, 12])
def test_truncated_events_are_not_found_in_any_way(storage, stream, before):
    stream.truncate(before=before)

    for handle in (stream, storage.open().stream("orders")):
        assert ids(handle.recent(20)) == left(before)[::-1]
        assert [handle.get(f"e{number}") is None for number in range(12)] == [number < before for number in range(12)]
        assert ids(handle.read(until=START + timedelta(seconds=6))) == left(before)[: max(6 - before, 0)]
        assert sum(len(batch.events) for batch in handle.read_batches()) == 12 - before


@pytest.mark.parametrize("before", [4, 8])
def test_id_that_is_gone_is_free_again(storage, stream, before):
    stream.truncate(before=before)
    writer = storage.open().stream("orders")

    assert writer.append(event(before - 1)).offsets == (12,)
    with pytest.raises(errors.DuplicateEventError):
        writer.append(event(before))

    assert writer.get(f"e{before - 1}").offset == 12
    assert storage.open().stream("orders").verify().ok


def test_start_only_moves_forward(storage, stream):
    stream.truncate(before=6)
    before = storage.contents()

    for offset in (0, 3, 6):
        (part,) = stream.truncate(before=offset).partitions
        assert (part.start_before, part.start, part.events) == (6, 6, 0)

    assert storage.contents() == before
    assert stream.truncate(before=9).events == 3
    assert ids(stream.read()) == left(9)


def test_offset_beyond_the_end_is_refused(storage, stream):
    before = storage.contents()

    with pytest.raises(errors.OffsetOutOfRangeError, match="beyond the end") as caught:
        stream.truncate(before=13)

    err = caught.value
    assert (err.partition, err.offset, err.start, err.next_offset) == ("0", 13, 0, 12)
    assert storage.contents() == before


# (I28)
def test_truncating_deletes_nothing(storage, stream):
    before = storage.contents(FOLDER)

    stream.truncate(before=8)

    after = storage.contents(FOLDER)
    assert all(after[key] == data for key, data in before.items() if not key.endswith("bounds.json"))


@pytest.mark.parametrize("before", [4, 12])
def test_vacuum_removes_what_lies_before_the_start(storage, stream, before):
    stream.truncate(before=before)

    report = stream.vacuum(grace=0, exclusive=True)

    assert report.partitions[0].floor >= before
    names = [key.removeprefix(FOLDER) for key in storage.contents(FOLDER) if not key.endswith("bounds.json")]
    assert all(int(name[:20]) >= before or int(name[21:41]) > before for name in names)
    assert ids(storage.open().stream("orders").read()) == left(before)
    assert storage.open().stream("orders").verify().ok
    assert stream.append(event(12)).offsets == (12,)


@pytest.mark.parametrize("before", [4, 12])
def test_compacting_afterwards_keeps_the_start(storage, stream, before):
    stream.truncate(before=before)

    stream.append(event(12))
    stream.compact()
    stream.vacuum(grace=0, exclusive=True)

    assert ids(storage.open().stream("orders").read()) == left(before, 13)
    assert storage.open().stream("orders").verify().ok
    assert stream.append(event(13)).offsets == (13,)


def test_dry_run_tells_and_does_nothing(storage, stream):
    before = storage.contents()
    reading = storage.open(read_only=True).stream("orders")

    assert reading.truncate(before=8, dry_run=True).events == 8
    assert reading.truncate(before=START + timedelta(seconds=5), dry_run=True).events == 5
    with pytest.raises(errors.OffsetOutOfRangeError):
        reading.truncate(before=13, dry_run=True)

    assert storage.contents() == before


# -- cursors -----------------------------------------------------------------------------------------------------------


def refused(call, *, offset, start):
    with pytest.raises(errors.OffsetOutOfRangeError, match=f"moved to {start}") as caught:
        call()
    assert (caught.value.partition, caught.value.offset, caught.value.start) == ("0", offset, start)


@pytest.mark.parametrize("before", [4, 8, 12])
def test_the_error_for_a_cursor_before_the_start_says_where_the_log_begins(storage, stream, before):
    stream.truncate(before=before)
    other = storage.open()

    for handle in (stream, other.stream("orders")):
        refused(lambda handle=handle: list(handle.read({"0": 3})), offset=3, start=before)
        refused(lambda handle=handle: list(handle.read_batches({"0": 3})), offset=3, start=before)
        refused(lambda handle=handle: handle.tail({"0": 3}).poll(), offset=3, start=before)
        refused(lambda handle=handle: next(handle.tail({"0": 3})), offset=3, start=before)
        assert ids(handle.read({"0": before})) == left(before)
        assert ids(handle.read({})) == left(before)


def test_a_subscription_before_the_start_raises_and_can_resume_at_the_start(storage, stream):
    store = storage.open()
    with store.subscribe("orders", "mailer") as mailer:
        assert next(mailer).id == "e0"
        mailer.ack()

    stream.truncate(before=8)

    with store.subscribe("orders", "mailer") as mailer:
        with pytest.raises(errors.OffsetOutOfRangeError) as caught:
            mailer.poll()
        assert (caught.value.offset, caught.value.start) == (1, 8)
        mailer.ack({"0": caught.value.start})
    with store.subscribe("orders", "mailer") as mailer:
        assert next(mailer).id == "e8"
    with store.subscribe("orders", "new") as new:
        assert next(new).id == "e8"


def test_a_writer_that_was_before_the_start_continues_at_the_end(storage):
    """It had read the log when that ended before the new start."""
    sleeper, others = storage.open().stream("orders"), storage.open().stream("orders")
    sleeper.append(event(0))
    for number in range(1, 6):
        others.append([event(2 * number), event(2 * number + 1)])
    others.truncate(before=8)
    others.compact()
    others.vacuum(grace=0, exclusive=True)
    storage_kind_sleeps(sleeper)

    assert sleeper.append(event(99)).offsets == (11,)
    assert ids(storage.open().stream("orders").read())[-1] == "e99"
    assert storage.open().stream("orders").verify().ok


def storage_kind_sleeps(stream):
    """The promise of the exclusive vacuum was broken: it is as if this handle had slept for a day."""
    view = stream._state.writer("0").view
    view._reader.listing.distrust()
    view.last_seen_head = _Old()


class _Old:
    def seconds(self):
        return float("inf")


# -- by time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "start"), [(-100, 0), (0, 0), (1, 1), (4, 4), (4.5, 5), (11, 11), (11.5, 12), (10_000, 12)]
)
def test_log_begins_at_the_first_event_that_is_not_older(stream, seconds, start):
    report = stream.truncate(before=START + timedelta(seconds=seconds))

    assert report.events == start
    assert ids(stream.read()) == left(start)


def test_a_late_event_keeps_the_events_after_it_and_not_those_before(storage):
    stream = storage.open().stream("orders")
    for number in (0, 1, 50, 2, 51, 3):
        stream.append(event(number))

    stream.truncate(before=START + timedelta(seconds=40))

    assert ids(stream.read()) == ["e50", "e2", "e51", "e3"]


def test_every_partition_is_truncated_by_time(storage):
    stream = storage.open().stream("orders", partition_by="subject")
    stream.append([event(number, subject=f"s{number % 3}") for number in range(9)])

    report = stream.truncate(before=START + timedelta(seconds=4))

    assert [(part.partition, part.start) for part in report.partitions] == [("s0", 2), ("s1", 1), ("s2", 1)]
    assert sorted(ids(stream.read())) == left(4, 9)


def test_one_partition_alone_may_be_truncated(storage):
    stream = storage.open().stream("orders", partition_by="subject")
    stream.append([event(number, subject=f"s{number % 2}") for number in range(8)])

    stream.truncate(before=START + timedelta(seconds=4), partition="s0")
    stream.truncate(before=3, partition="s1")

    assert ids(stream.read()) == ["e4", "e6", "e7"]


def test_days_that_are_over_are_truncated_to_their_end(storage):
    store = storage.open()
    stream = store.stream("orders", partition_by="day")
    for day in range(4):
        stream.append([event(10 * day + number, days=day) for number in range(3)])
    midday = (START + timedelta(days=2)).replace(hour=12, minute=30, second=21)

    report = storage.open().stream("orders").truncate(before=midday)

    assert [part.start for part in report.partitions] == [3, 3, 1, 0]
    assert ids(stream.read()) == ["e21", "e22", "e30", "e31", "e32"]
    assert storage.open().stream("orders").verify().ok


def test_days_are_judged_by_their_names(storage):
    """Neither a day before the time nor one after it is read."""
    stream = storage.open().stream("orders", partition_by="day")
    for day in range(3):
        stream.append([event(10 * day + number, days=day) for number in range(3)])
        stream.append([event(10 * day + 5, days=day)])
    counting = storage.open()

    counting.stream("orders").truncate(before=datetime(2026, 2, 6, tzinfo=UTC), dry_run=True)

    read = {call.key for call in counting.backend.calls if call.method == "get" and call.key.endswith(".jsonl")}
    assert not [key for key in read if "2026-02-06" in key or "2026-02-07" in key]


def test_late_event_of_a_day_that_was_truncated_is_appended(storage):
    stream = storage.open().stream("orders", partition_by="day")
    stream.append([event(number) for number in range(3)])
    stream.truncate(before=START + timedelta(days=1))

    (done,) = storage.open().stream("orders").append([event(7)])

    assert done.offsets == (3,)
    assert ids(stream.read()) == ["e7"]


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [None, "2026-02-05", 1.5, -1, True, datetime(2026, 2, 5), timedelta(days=1)],  # noqa: DTZ001  (what is refused)
)
def test_what_is_neither_an_offset_nor_an_aware_time_is_refused(storage, before):
    stream = storage.open().stream("orders")
    stream.append(event(0))
    contents = storage.contents()

    with pytest.raises(errors.InvalidValueError, match="before"):
        stream.truncate(before=before)

    assert storage.contents() == contents


def test_offset_in_a_stream_of_several_partitions_needs_one(storage):
    stream = storage.open().stream("orders", partition_by="subject")
    stream.append(event(0, subject="a"))

    with pytest.raises(errors.StreamSettingsError, match="partition="):
        stream.truncate(before=1)

    assert stream.truncate(before=1, partition="a").events == 1


def test_partition_that_was_never_written_has_nothing_to_cut_off(storage):
    stream = storage.open().stream("orders")
    before = storage.contents()

    assert stream.truncate(before=START).partitions == ()
    assert stream.truncate(before=0).events == 0
    assert stream.truncate(before=START, partition="none").events == 0
    with pytest.raises(errors.OffsetOutOfRangeError):
        stream.truncate(before=1)
    with pytest.raises(errors.OffsetOutOfRangeError):
        stream.truncate(before=1, partition="none")
    with pytest.raises(errors.InvalidNameError):
        stream.truncate(before=1, partition="")

    assert storage.contents() == before


def test_read_only_handle_truncates_nothing(storage):
    storage.open().stream("orders").append(event(0))

    with pytest.raises(errors.ReadOnlyError, match="truncate"):
        storage.open(read_only=True).stream("orders").truncate(before=1)


def test_damaged_segment_that_holds_the_new_start_is_told_and_nothing_is_done(storage):
    stream = storage.open().stream("orders")
    stream.append([event(number) for number in range(6)])
    stream.compact()
    (key,) = [key for key in storage.contents(FOLDER) if key.endswith(".zst")]
    data = bytearray(storage.backend.get(key).data)
    data[40] ^= 0x10
    storage.backend.delete([key])
    storage.backend.put(key, bytes(data))
    before = storage.contents()

    with pytest.raises(errors.CorruptSegmentError) as caught:
        storage.open().stream("orders").truncate(before=3)

    assert caught.value.key == key
    assert storage.contents() == before


# -- what stands in the way --------------------------------------------------------------------------------------------


def live(first):
    return Segment(segment_name(first), first, None, 1)


def compacted(first, following):
    return Segment(compacted_name(first, following), first, following, 1)


@pytest.mark.parametrize(
    ("counting", "offset", "end", "grow", "holding"),
    [
        ([live(0), live(3), live(5)], 3, 8, [live(0)], None),
        ([live(0), live(3), live(5)], 4, 8, [live(0), live(3)], live(3)),
        ([live(0), live(3), live(5)], 6, 8, [live(0), live(3), live(5)], live(5)),
        ([live(0), live(3), live(5)], 8, 8, [live(0), live(3), live(5)], None),
        ([compacted(0, 3), live(3)], 2, 8, [], compacted(0, 3)),
        ([compacted(0, 3), live(3)], 3, 8, [], None),
        ([compacted(0, 3), live(3)], 5, 8, [live(3)], live(3)),
        ([live(0), compacted(3, 6)], 3, 6, [live(0)], None),
        ([live(0), compacted(3, 6)], 2, 6, [live(0)], live(0)),
        ([compacted(0, 5), compacted(3, 9)], 4, 9, [], compacted(3, 9)),
        ([compacted(0, 5), compacted(3, 9)], 6, 9, [], compacted(3, 9)),
        ([compacted(0, 9)], 9, 9, [], None),
        ([], 4, 4, [], None),
    ],
)
def test_segments_that_stand_in_the_way_of_a_start(counting, offset, end, grow, holding):
    assert crossing(counting, offset, end) == Crossing(grow, holding)
