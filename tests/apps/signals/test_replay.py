"""Replay, checkpoints and cursors: which records are read, in which order, and where to resume."""

import random
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

pytest.importorskip("metaspn_store")

from metaspn_store import ReplayCheckpoint as PeerCheckpoint

from bucketlog import Cursor
from bucketlog.errors import CorruptCheckpointError
from bucketlog.signals import EntityRef, ReplayCheckpoint, SignalStore

from .making import END, START, R, T, emission, everything, ids, signal


def test_any_two_datetimes_are_a_window(store):
    store.write_signal(signal("a"))
    ends = [datetime.min, datetime.max]  # noqa: DTZ901  (naive ones are UTC)
    ends += [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
    ends += [datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))]
    ends += [datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))]

    for start in ends:
        for end in ends:
            if start.year < end.year:
                assert ids(store.iter_signals(start, end)) == ["a"]


def test_a_window_that_ends_before_it_starts_is_an_error_when_it_is_iterated(store):
    for replay in (
        store.iter_signals(T(6), T(5)),
        store.iter_emissions(T(6), T(5)),
        store.iter_signals_from_checkpoint(start=T(6), end=T(5)),
        store.iter_stage_window_signals(stage="s", start=T(6), end=T(5)),
        store.iter_learning_emissions(start=T(6), end=T(5)),
        store.iter_entity_candidate_signals(start=T(6), end=T(5), resolved=True),
        store.iter_signals(T(6), T(5), {"no": "reference"}),
    ):
        assert isinstance(replay, Iterator)
        with pytest.raises(ValueError, match="end must be greater than or equal to start"):
            next(replay)


def test_a_window_that_ends_before_it_starts_is_an_error_at_the_call_of_a_query(store):
    window = {"start": T(6), "end": T(5)}
    for query in (
        lambda: store.get_recent_signals_by_entity(entity_ref=R, limit=1, **window),
        lambda: store.get_ready_candidates(limit=0, **window),
        lambda: store.get_ready_candidates(**window),
        lambda: store.get_token_signals(limit=0, **window),
        lambda: store.get_outcomes_for_window(**window),
        lambda: store.get_unresolved_outcome_signals(**window),
        lambda: store.get_top_recommendation_candidates(limit=1, **window),
    ):
        with pytest.raises(ValueError, match="end must be greater than or equal to start"):
            query()
    assert store.get_recent_signals_by_entity(entity_ref=R, limit=0, **window) == []
    assert store.get_top_recommendation_candidates(limit=-1, **window) == []
    assert store.get_latest_approval_outcomes(limit=0, **window) == []


def test_parts_of_days_are_cut_at_both_ends(store):
    times = [T(4, 12), T(5, 0), T(5, 12), T(5, 23, 59, 59), T(6, 0), T(6, 12)]
    store.write_signals([signal(str(number), at) for number, at in enumerate(times)])

    for first, start in enumerate(times):
        for last, end in enumerate(times[first:], start=first):
            assert ids(store.iter_signals(start, end)) == [str(number) for number in range(first, last + 1)]
            found = store.get_latest_draft_signals(limit=9, start=start, end=end)
            assert ids(found) == [str(number) for number in range(last, first - 1, -1)]
    assert ids(store.iter_signals(T(5).replace(microsecond=1), T(6).replace(microsecond=1))) == ["2", "3", "4"]


def test_lists_may_be_any_collection_and_are_matched_exactly(store):
    store.write_signals([signal("1", source="a"), signal("2", source="A"), signal("3", source="ab")])

    for sources in (["a"], ("a",), {"a"}, frozenset("a"), {"a": 1}):
        assert ids(store.iter_signals(START, END, None, sources)) == ["1"]
    assert ids(store.iter_signals(START, END, sources=["a", "ab"])) == ["1", "3"]
    for nothing in ([], (), None):
        assert ids(store.iter_signals(START, END, sources=nothing)) == ["1", "2", "3"]


def test_candidates_are_resolved_by_a_reference_or_by_their_type(store):
    store.write_signals([signal("1", refs=[R]), signal("2", type="EntityMerged"), signal("3")])

    def candidates(resolved):
        return ids(store.iter_entity_candidate_signals(start=START, end=END, resolved=resolved))

    assert [candidates(True), candidates(False), candidates(None)] == [["1", "2"], ["3"], ["1", "2", "3"]]


@pytest.mark.timed
def test_memory_does_not_grow_with_the_window(tmp_path):
    def most_held(events: int) -> int:
        with SignalStore(tmp_path / str(events)) as store:
            store.write_signals(signal(str(number), T(1 + number % 20), "x" * 2000) for number in range(events))
            tracemalloc.start()
            for _ in store.iter_signals(START, END):
                pass
            store.get_latest_draft_signals(limit=5, start=START, end=END)
            store.get_top_recommendation_candidates(limit=5, start=START, end=END)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return peak

    assert most_held(8000) < most_held(2000) + 4_000_000  # the other 6,000 signals hold 12 MB of text


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {
            "last_timestamp": "2026-02-05T10:00:00.000123Z",
            "seen_ids_at_timestamp": ["b", "a", "b"],
            "schema_version": 2,
        },
        {"last_timestamp": "2026-02-05T10:00:00+02:00", "other": 1},
        {"last_timestamp": "2026-02-05"},
        {},
        {"last_timestamp": "bogus"},
        {"last_timestamp": 5},
        {"last_timestamp": None},
    ],
    ids=repr,
)
def test_checkpoints_are_read_as_metaspn_store_reads_them(document):
    def read(kind):
        try:
            found = kind.from_dict(document)
        except (KeyError, ValueError, TypeError) as err:
            return type(err)
        return found.to_dict(), found.last_timestamp.tzinfo

    assert read(ReplayCheckpoint) == read(PeerCheckpoint)


def test_equal_checkpoints_have_equal_ids_in_equal_order():
    assert ReplayCheckpoint(T(5), ("a", "b", "a")) == ReplayCheckpoint(T(5).replace(tzinfo=None), ("a", "b"))
    assert ReplayCheckpoint(T(5), ("a", "b")) != ReplayCheckpoint(T(5), ("b", "a"))


def test_a_checkpoint_holds_the_greatest_time_and_what_was_seen_at_it(store):
    processed = iter([signal("a", T(4)), signal("c", T(5)), signal("b", T(5)), signal("c", T(5))])

    assert store.build_signal_checkpoint(processed) == ReplayCheckpoint(T(5), ("c", "b"))
    assert store.build_signal_checkpoint([]) is None


def test_checkpoint_of_a_batch_adds_to_the_one_that_it_was_replayed_from(store):
    before = ReplayCheckpoint(T(5), ("a",))

    assert store.build_signal_checkpoint([signal("b", T(5))], after=before) == ReplayCheckpoint(T(5), ("a", "b"))
    assert store.build_signal_checkpoint([signal("c", T(6))], after=before) == ReplayCheckpoint(T(6), ("c",))
    assert store.build_signal_checkpoint([], after=before) == before
    with pytest.raises(ValueError, match="non-decreasing"):
        store.build_signal_checkpoint([signal("d", T(4))], after=before)


def test_checkpoints_are_replaced_and_read_back(store, open_store):
    assert store.read_checkpoint("w") is None
    store.write_checkpoint("w", ReplayCheckpoint(T(5), ("a",)))
    path = open_store().write_checkpoint("w", ReplayCheckpoint(T(4)))

    assert store.write_checkpoint("w", ReplayCheckpoint(T(6, 1), ("é",))) == path
    assert open_store().read_checkpoint("w") == ReplayCheckpoint(T(6, 1), ("é",))


def test_a_checkpoint_of_metaspn_store_is_read_and_replaced(tmp_path):
    with SignalStore(tmp_path) as store:
        bare = ReplayCheckpoint(T(5), ("a",))
        for name in ("w", "two words"):
            (store.checkpoints_dir / f"{name}.json").write_text(
                '{"last_timestamp":"2026-02-05T00:00:00Z","seen_ids_at_timestamp":["a"],"schema_version":"0.1"}\n'
            )

            assert store.read_checkpoint(name) == bare
            store.write_checkpoint(name, ReplayCheckpoint(T(6)))
            assert store.read_checkpoint(name) == ReplayCheckpoint(T(6))
        (store.checkpoints_dir / "w.json").write_text('{"last_times')
        with pytest.raises(CorruptCheckpointError):
            store.read_checkpoint("w")
        (store.checkpoints_dir / "w.json").write_text("[]")
        with pytest.raises(ValueError, match="JSON, but not a checkpoint"):
            store.read_checkpoint("w")


def test_a_worker_resumes_where_it_was(store):
    store.write_signals([signal(str(number), T(5, number // 2), source="route.a") for number in range(6)])
    done = []
    checkpoint = None
    for _ in range(4):
        replay = store.iter_stage_window_signals(stage="route", start=START, end=END, checkpoint=checkpoint)
        taken = [one for one, _ in zip(replay, range(2), strict=False)]
        done += ids(taken)
        checkpoint = store.build_signal_checkpoint(taken) or checkpoint
    assert done == ["0", "1", "2", "3", "4", "5"]


# -- cursors -----------------------------------------------------------------------------------------------------------


def test_over_any_chain_of_cursors_each_signal_comes_once_however_late(store):
    chance = random.Random(7)
    written: list[str] = []
    read: list[str] = []
    cursor = None
    for _ in range(25):
        batch = [
            signal(f"{len(written) + number}", T(chance.randrange(1, 9)), source=chance.choice("ab"))
            for number in range(chance.randrange(4))
        ]
        store.write_signals(batch)
        written += ids(batch)
        with store.read_signals(cursor) as reader:
            for _ in range(chance.randrange(5)):
                one = next(reader, None)
                if one is not None:
                    read.append(one.signal_id)
                cursor = Cursor.from_json(reader.cursor.to_json())
    read += ids(store.read_signals(cursor))

    assert len(read) == len(written) > 20
    assert sorted(read) == sorted(written)


def test_a_cursor_passes_over_what_the_filter_left_out(store):
    store.write_signals(
        [
            signal("1", T(5), refs=[EntityRef("entity_id", "v", label="L")]),
            signal("2", T(5), refs=[R]),
            signal("3", T(5)),
        ]
    )
    store.write_signals([signal("4", T(6), refs=[R], source="x"), signal("5", T(6), refs=[R], type="Other")])

    reader = store.read_signals(entity_ref=R)
    assert next(reader).signal_id == "2"
    assert dict(reader.cursor) == {"2026-02-05": 2}
    assert ids(store.read_signals(reader.cursor)) == ["3", "4", "5"]
    assert ids(store.read_signals(reader.cursor, entity_ref=R, sources=["ingest"])) == ["5"]
    assert ids(store.read_signals(payload_types=["Other"])) == ["5"]
    assert list(store.read_signals(entity_ref={"a": 1})) == []


def test_emissions_have_cursors_too(store):
    store.write_emissions([emission("1"), emission("2", T(4), type="Other"), emission("3", T(4), refs=[R])])

    reader = store.read_emissions(emission_types=["DraftApproved"])
    assert ids([next(reader)]) == ["3"]
    store.write_emission(emission("late", T(1)))
    assert sorted(ids(store.read_emissions(reader.cursor))) == ["1", "late"]
    assert ids(store.read_emissions(entity_ref=R)) == ["3"]


# -- several -----------------------------------------------------------------------------------------------------------


def test_of_two_stores_that_write_one_id_for_one_day_at_once_one_wins(open_store):
    stores = [open_store(), open_store()]
    rounds = 10
    barrier = threading.Barrier(2)
    paths: dict[tuple[int, int], object] = {}

    def write(which: int) -> None:
        for number in range(rounds):
            barrier.wait()
            paths[which, number] = stores[which].write_signal(signal(str(number), T(5), which))

    threads = [threading.Thread(target=write, args=[which]) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(everything(stores[0]), key=int) == [str(number) for number in range(rounds)]
    assert set(paths.values()) == {stores[0].signals_dir / "2026-02-05"}
    assert [signal.payload for signal in stores[0].iter_signals(START, END)] == [
        signal.payload for signal in open_store().iter_signals(START, END)
    ]


def test_of_two_stores_that_write_one_id_for_different_days_one_record_is_replayed(open_store):
    stores = [open_store(), open_store()]
    barrier = threading.Barrier(2)

    def write(which: int) -> None:
        for number in range(10):
            barrier.wait()
            stores[which].write_signal(signal(str(number), T(5 + which), which))

    threads = [threading.Thread(target=write, args=[which]) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    replayed = list(open_store().iter_signals(START, END))
    assert sorted(ids(replayed), key=int) == [str(number) for number in range(10)]
    on_the_earlier_day = set(ids(open_store().iter_signals(T(5), T(5))))
    assert {signal.signal_id for signal in replayed if signal.payload == 0} == on_the_earlier_day


def test_one_store_may_be_used_from_many_threads(store):
    def work(which: int) -> None:
        for number in range(5):
            store.write_signal(signal(f"{which}-{number}", T(5 + number % 2), refs=[R]))
            assert any(signal.signal_id == f"{which}-{number}" for signal in store.iter_signals(START, END))
            store.write_checkpoint(f"w{which}", ReplayCheckpoint(T(5)))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [None] * 4
    assert len(store.get_recent_signals_by_entity(entity_ref=R, limit=99, end=END)) == 20
