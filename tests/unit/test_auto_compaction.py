"""Compacting while one writes: in the background, now and then, and in a stream by day once a day is over."""

from datetime import timedelta

import pytest

from bucketlog.errors import BackendUnavailableError, DuplicateEventError, StorageFullError
from bucketlog.format.lines import check_events, encode_lines
from bucketlog.maintenance import auto_compaction, compaction
from bucketlog.testing import Fail, FakeClock, on

from .stores import KINDS, START, event, ids, opened_storage, wait_until


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


FULL = Fail(StorageFullError("the disk is full"))


@pytest.fixture
def often(monkeypatch):
    """Let a writer compact after a few commits."""
    monkeypatch.setattr(auto_compaction, "_AUTO_BYTES", 400)


def write_on_and_on(store, *, auto_compact=True):
    with store.stream("orders").writer(linger=0, auto_compact=auto_compact) as writer:
        for number in range(12):
            writer.append(event(number))
            writer.flush()
    return writer


def compacted_segments(storage):
    return [key for key in storage.contents("streams/orders/") if key.endswith(".zst")]


def test_auto_compact_merges_what_was_written_while_more_is(storage, often):
    store = storage.open()

    write_on_and_on(store)

    assert len(compacted_segments(storage)) >= 1
    assert ids(storage.open().stream("orders").read()) == [f"e{number}" for number in range(12)]
    assert storage.open().stream("orders").verify().problems == ()


def test_auto_compact_on_an_object_store_comes_after_many_small_commits_too(tmp_path, monkeypatch):
    monkeypatch.setattr(auto_compaction, "_AUTO_COMMITS", 5)
    for storage in opened_storage("put", tmp_path):
        write_on_and_on(storage.open())

        assert len(compacted_segments(storage)) >= 1
        assert ids(storage.open().stream("orders").read()) == [f"e{number}" for number in range(12)]


def test_nothing_is_compacted_unless_it_was_asked_for(storage, often):
    write_on_and_on(storage.open(), auto_compact=False)

    assert compacted_segments(storage) == []


def test_auto_compact_that_the_store_refuses_is_logged_and_the_events_are_there(storage, often, caplog):
    store = storage.open(on("put", FULL, key=".zst"))

    writer = write_on_and_on(store)

    assert writer.written == 12
    assert "could not compact, and will try again" in caplog.text
    assert "the disk is full" in caplog.text
    assert ids(storage.open().stream("orders").read()) == [f"e{number}" for number in range(12)]


def test_auto_compact_that_breaks_down_is_told_when_the_writer_is_closed_and_the_events_are_there(
    storage, often, monkeypatch
):
    def break_down(*_):
        raise MemoryError

    monkeypatch.setattr(compaction, "compact_partition", break_down)

    with pytest.raises(MemoryError):
        write_on_and_on(storage.open())

    assert ids(storage.open().stream("orders").read()) == [f"e{number}" for number in range(12)]


def test_streams_and_writers_of_a_name_that_compact_themselves_share_one_compactor(storage, monkeypatch):
    line = encode_lines(check_events([event(0)], where=""), indexes=[0], where="")
    monkeypatch.setattr(auto_compaction, "_AUTO_BYTES", 5 * len(line) // 2)
    began = []
    real = compaction.compact_partition
    monkeypatch.setattr(compaction, "compact_partition", lambda *of: (began.append(of), real(*of)))
    store = storage.open()
    orders = store.stream("orders", auto_compact=True)

    orders.append(event(0))
    orders.append(event(1))
    with store.stream("orders").writer(auto_compact=True) as writer:
        writer.append(event(2))

    assert len(began) == 1  # after three events, two of one and one of the other
    store.close()
    assert len(began) == 1


# -- streams that compact themselves -----------------------------------------------------------------------------------


def test_stream_that_compacts_itself_does_so_while_it_is_appended_to(storage, often):
    store = storage.open()
    orders = store.stream("orders", auto_compact=True)

    for number in range(12):
        orders.append(event(number))
    store.close()

    assert len(compacted_segments(storage)) >= 1
    assert ids(storage.open().stream("orders").read()) == [f"e{number}" for number in range(12)]


def test_store_that_is_read_only_compacts_nothing(storage, often):
    storage.open().stream("orders").append(event(0))
    store = storage.open(read_only=True)

    assert ids(store.stream("orders", auto_compact=True).read()) == ["e0"]
    store.close()

    assert compacted_segments(storage) == []


def by_day(store, **options):
    return store.stream("orders", partition_by="day", **options)


def days(storage):
    """Return the days that are compacted, whole, and those that are not."""
    store = storage.open()
    left = {one.partition for one in store.stream("orders").compact(dry_run=True) if one.segments_before}
    return sorted({*store.stream("orders").partitions()} - left), sorted(left)


def test_day_is_compacted_once_a_later_one_begins(storage):
    store = storage.open()
    orders = by_day(store, auto_compact=True)

    for day in range(4):
        orders.append([event(10 * day + number, days=day) for number in range(3)])
    store.close()

    assert days(storage) == (["2026-02-05", "2026-02-06", "2026-02-07"], ["2026-02-08"])
    assert len(ids(storage.open().stream("orders").read())) == 12


def test_days_that_others_left_are_compacted_at_the_first_append(storage):
    for day in range(3):
        by_day(storage.open()).append(event(day, days=day))
    store = storage.open()

    by_day(store, auto_compact=True).append(event(9, days=2))
    store.close()

    assert days(storage) == (["2026-02-05", "2026-02-06"], ["2026-02-07"])


def test_day_that_comes_late_is_compacted_when_the_store_is_closed(storage):
    store = storage.open()
    orders = by_day(store, auto_compact=True)

    for day in (2, 0, 1):
        orders.append(event(day, days=day))
    store.close()

    assert days(storage) == (["2026-02-05", "2026-02-06"], ["2026-02-07"])


def test_writer_of_a_stream_by_day_compacts_the_days_that_are_over(storage):
    with by_day(storage.open()).writer(auto_compact=True) as writer:
        for day in range(3):
            writer.append(event(day, days=day))
            writer.flush()

    assert days(storage) == (["2026-02-05", "2026-02-06"], ["2026-02-07"])


@pytest.mark.parametrize("auto_compact", [False, True])
def test_id_of_a_day_that_was_compacted_meanwhile_is_a_repeat_whatever_its_own_day(storage, auto_compact):
    store = storage.open()
    orders = by_day(store, auto_compact=auto_compact)
    orders.append([event(1), event(2)])
    orders.append(event(3, days=1))
    if auto_compact:
        wait_until(lambda: days(storage)[0] == ["2026-02-05"])
    else:
        orders.compact()

    with pytest.raises(DuplicateEventError) as told:
        orders.append(event(1, days=2))

    assert (told.value.partition, told.value.offset) == ("2026-02-05", 0)
    assert orders.append(event(2, days=2), on_duplicate="skip")[0].partition == "2026-02-05"


def test_ids_of_compacted_days_take_no_memory_beside_their_index(storage):
    orders = by_day(storage.open())
    for day in range(3):
        orders.append([event(10 * day + number, days=day) for number in range(5)])
    assert len(orders._state.days.known) == 15

    orders.compact()

    assert orders._state.days.known == {}
    orders.append(event(50, days=3))
    assert orders._state.days.known == {"e50": "2026-02-08"}


# -- the first append of a process that comes to many days -------------------------------------------------------------


@pytest.fixture
def five_days(storage):
    orders = by_day(storage.open())
    for day in range(5):
        orders.append([event(10 * day + number, days=day) for number in range(4)])
    orders.compact()
    return storage


def calls_below(store, day):
    return [(call.method, call.key.rpartition("/")[2]) for call in store.backend.calls if f"/{day}/" in call.key]


def test_days_that_are_compacted_are_known_by_one_listing_and_their_indexes(five_days):
    store = five_days.open()

    by_day(store).append(event(99, days=4))

    assert len(calls_below(store, "2026-02-06")) <= 2
    assert {method for method, _ in calls_below(store, "2026-02-06")} == {"get"}
    with pytest.raises(DuplicateEventError) as told:
        by_day(store).append(event(11, days=4))
    assert (told.value.partition, told.value.offset) == ("2026-02-06", 1)


def test_id_before_the_start_of_a_compacted_day_is_free_for_another_day(five_days):
    five_days.open().stream("orders").truncate(before=2, partition="2026-02-06")
    orders = by_day(five_days.open())

    assert orders.append(event(11, days=4))[0].partition == "2026-02-09"
    with pytest.raises(DuplicateEventError):
        orders.append(event(12, days=4))


def test_day_that_is_compacted_in_part_is_read_whole(five_days):
    by_day(five_days.open()).append(event(77, days=1))
    orders = by_day(five_days.open())

    for number in (11, 77):
        assert orders.append(event(number, days=4), on_duplicate="skip")[0].partition == "2026-02-06"


def test_what_others_append_to_a_day_that_was_only_surveyed_is_known_too(five_days):
    orders, other = by_day(five_days.open()), by_day(five_days.open())
    orders.append(event(98, days=4))

    other.append(event(77, days=1))

    assert orders.append(event(77, days=4), on_duplicate="skip")[0].partition == "2026-02-06"


def test_id_of_a_surveyed_day_is_found_after_its_segment_was_replaced(five_days):
    orders, other = by_day(five_days.open()), by_day(five_days.open())
    orders.append(event(98, days=4))
    for number in range(70, 76):
        other.append(event(number, days=1))
        other.compact()
    other.vacuum(grace=0, exclusive=True)
    other.vacuum(grace=0, exclusive=True)

    for number in (11, 77 - 7, 75):
        assert orders.append(event(number, days=4), on_duplicate="skip")[0].partition == "2026-02-06"


def test_segment_that_another_vacuum_removes_while_days_are_surveyed_is_not_missed(five_days):
    five_days.open().stream("orders").truncate(before=4, partition="2026-02-06")
    store, other = five_days.open(), by_day(five_days.open())
    surveyed = []

    def vacuum_first(call):
        if "/2026-02-06/" in call.key and not surveyed:
            surveyed.append(call)
            other.vacuum(grace=0, exclusive=True)

    store.backend.plan = vacuum_first

    assert by_day(store).append(event(99, days=4))[0].partition == "2026-02-09"
    assert surveyed


def test_ids_are_known_after_a_commit_and_then_a_look_have_failed(storage):
    store = storage.open()
    orders = by_day(store)
    orders.append([event(number) for number in range(3)])
    orders.append(event(40, days=1))
    by_day(storage.open()).compact()
    for fault in (on(storage.writes, FULL, key="02-05"), on("get", Fail(), key=".zst")):
        store.backend.plan = fault
        with pytest.raises((StorageFullError, BackendUnavailableError)):
            orders.append(event(50))
    store.backend.plan = lambda call: None
    by_day(storage.open()).append(event(60))

    for late in (event(1), event(2, days=3)):
        with pytest.raises(DuplicateEventError):
            orders.append(late)


@pytest.mark.parametrize("upkeep", ["truncate", "vacuum"])
def test_ids_are_known_after_the_handle_has_removed_something_itself(storage, upkeep):
    orders = by_day(storage.open())
    for day in range(3):
        orders.append([event(10 * day + number, days=day) for number in range(3)])

    if upkeep == "truncate":
        orders.truncate(before=1, partition="2026-02-06")
    else:
        orders.vacuum(grace=0, exclusive=True)

    with pytest.raises(DuplicateEventError) as told:
        orders.append(event(1, days=2))
    assert (told.value.partition, told.value.offset) == ("2026-02-05", 1)


def test_ids_of_a_large_day_take_no_memory_once_it_is_compacted(storage, monkeypatch):
    monkeypatch.setattr("bucketlog.log.ids.RUN_EVENTS", 3)
    orders = by_day(storage.open())
    for number in range(0, 20, 5):
        orders.append([event(number + each) for each in range(5)])

    orders.compact()

    assert orders._state.days.known == {}
    with pytest.raises(DuplicateEventError):
        orders.append(event(2, days=1))


# -- what can go wrong in the background -------------------------------------------------------------------------------


def test_store_that_is_not_proven_yet_compacts_from_its_first_write_on(storage):
    by_day(storage.open()).append(event(0))
    storage.backend.delete(list(storage.contents("capabilities/")))
    store = storage.open()

    by_day(store, auto_compact=True).append(event(1, days=1))
    store.close()

    assert days(storage) == (["2026-02-05"], ["2026-02-06"])


def test_day_that_could_not_be_compacted_is_tried_again(storage):
    store = storage.open(on("put", FULL, key=".zst", nth=1))
    orders = by_day(store, auto_compact=True)

    for day in range(3):
        orders.append(event(10 + day, days=day))
    store.close()

    assert days(storage) == (["2026-02-05", "2026-02-06"], ["2026-02-07"])


def test_one_event_of_the_far_future_ends_no_day(storage):
    store = storage.open()
    orders = by_day(store, auto_compact=True)

    orders.append(event(0, days=36_525))
    for day in range(3):
        orders.append(event(10 + day, days=day))
    store.close()

    assert days(storage) == (["2026-02-05", "2026-02-06"], ["2026-02-07", "2126-02-06"])


def test_days_that_others_left_are_compacted_also_when_the_first_event_is_a_late_one(storage):
    for day in range(3):
        by_day(storage.open()).append(event(day, days=day))
    store = storage.open()
    orders = by_day(store, auto_compact=True)

    orders.append(event(10))
    orders.append(event(13, days=3))
    store.close()

    assert days(storage) == (["2026-02-05", "2026-02-06", "2026-02-07"], ["2026-02-08"])


def test_append_is_acknowledged_where_no_thread_can_be_had_any_more(storage, caplog):
    store = storage.open()
    orders = by_day(store, auto_compact=True)
    orders.append(event(0))
    orders._compactor._thread.shutdown()

    assert orders.append(event(1, days=1))[0].offsets == (0,)
    assert "left for a later compaction" in caplog.text


def test_closing_a_store_ends_all_of_it_whatever_breaks_down(storage, monkeypatch):
    real = compaction.compact_partition

    def break_down(state, partition, **how):
        if state.name == "a":
            raise MemoryError
        return real(state, partition, **how)

    monkeypatch.setattr(compaction, "compact_partition", break_down)
    store = storage.open()
    for name in ("a", "b"):
        stream = store.stream(name, partition_by="day", auto_compact=True)
        for day in range(2):
            stream.append(event(day, days=day))
    tail = store.stream("b").tail()

    with pytest.raises(MemoryError):
        store.close()

    assert [key for key in storage.contents("streams/b/") if key.endswith(".zst")]
    assert list(tail) == []


def test_id_that_another_has_truncated_is_free_for_another_day_once_that_is_seen(storage):
    clock = FakeClock()
    orders = by_day(storage.open(clock=clock))
    orders.append([event(1), event(2)])
    orders.append(event(3, days=1))
    by_day(storage.open()).truncate(before=2, partition="2026-02-05")
    clock.advance(13 * 3600)

    assert orders.append(event(1, days=3))[0].partition == "2026-02-08"
    assert ids(by_day(storage.open()).read(since=START + timedelta(days=3))) == ["e1"]
