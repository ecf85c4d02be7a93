"""Cases of the specification that are easy to get wrong, on every kind of storage."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from bucketlog.signals import DuplicateEventError, EntityRef, ReplayCheckpoint

from .making import END, HOUR, NOW, START, R, T, emission, everything, ids, signal


def test_a_day_is_replayed_in_the_order_of_arrival_which_gives_no_checkpoint(store):
    store.write_signals([signal("a", T(5, 10, 5)), signal("b", T(5, 10, 1)), signal("c", T(4, 9))])

    replayed = list(store.iter_signals(START, END))

    assert ids(replayed) == ["c", "a", "b"]
    with pytest.raises(ValueError, match="non-decreasing"):
        store.build_signal_checkpoint(replayed)


def test_resuming_leaves_out_what_is_late_and_what_was_seen(store):
    store.write_signal(signal("a", T(5, 10, 5)))
    checkpoint = ReplayCheckpoint(T(5, 10, 5), ("a",))
    store.write_signals([signal("late", T(5, 10, 3)), signal("same", T(5, 10, 5)), signal("next", T(5, 10, 6))])

    def resumed(start):
        return ids(store.iter_signals_from_checkpoint(end=END, checkpoint=checkpoint, start=start))

    assert resumed(None) == ["same", "next"]
    assert resumed(T(5, 10, 5)) == ["same", "next"]
    assert resumed(T(6)) == []


def test_a_checkpoint_after_the_end_is_an_error_at_the_first_next(store):
    replay = store.iter_signals_from_checkpoint(end=T(10), checkpoint=ReplayCheckpoint(T(20)))

    with pytest.raises(ValueError, match="end must be greater than or equal to start"):
        next(replay)


def test_a_window_of_one_instant_holds_the_event_at_it(store):
    store.write_signals([signal("before", T(5, 9)), signal("at", T(5, 10)), signal("after", T(5, 11))])

    assert ids(store.iter_signals(T(5, 10), T(5, 10))) == ["at"]


def test_an_id_has_the_record_that_was_stored_first(store, open_store):
    paths = [store.write_signal(signal("x", T(5), 1)), store.write_signal(signal("x", T(6), 2))]
    paths.append(open_store().write_signal(signal("x", T(6), 3)))

    assert [signal.payload for signal in store.iter_signals(START, END)] == [1]
    assert paths[0] == paths[1] == paths[2] == store.signals_dir / "2026-02-05"
    assert list(store.iter_signals(T(6), T(7))) == []


def test_a_batch_that_repeats_an_id_stores_what_stands_before_the_repeat(store):
    with pytest.raises(DuplicateEventError) as raised:
        store.write_signals([signal("1"), signal("1", T(6)), signal("2")], on_duplicate="raise")

    assert str(raised.value) == f"Duplicate signal_id='1' already exists in {store.signals_dir / '2026-02-05'}"
    assert isinstance(raised.value, ValueError)
    assert everything(store) == ["1"]


def test_days_are_those_of_utc(store):
    late = datetime(2026, 2, 5, 23, 30, tzinfo=timezone(timedelta(hours=-5)))

    assert store.write_signal(signal("a", late)) == store.signals_dir / "2026-02-06"
    assert store.write_daily_digest_snapshot(day=late, digest={}).name == "digest__2026-02-06.json"
    assert store.write_snapshot("s", {}, late).name == "s__2026-02-06T043000Z.json"


def test_a_day_given_as_text_is_taken_as_it_is(store):
    path = store.write_calibration_snapshot(day="2026-2-5", report={"n": 1})

    assert path.name == "calibration__2026-2-5.json"
    assert store.read_calibration_snapshot("2026-2-5")["report"] == {"n": 1}
    assert store.read_calibration_snapshot("2026-02-05") is None


def test_references_match_in_all_fields_or_by_identity_when_asked(store, open_store):
    plain, labelled = EntityRef("entity_id", "v"), EntityRef("entity_id", "v", label="L")
    store.write_signals(
        [
            signal("1", refs=[plain]),
            signal("2", refs=[labelled]),
            signal("3", refs=[EntityRef("entity_id", "v", schema_version="0.7"), plain]),
        ]
    )

    assert ids(store.iter_signals(START, END, plain)) == ["1", "3"]
    assert ids(store.iter_signals(START, END, labelled)) == ["2"]
    assert ids(store.iter_signals(START, END, {"ref_type": "entity_id", "value": "v"})) == []
    assert ids(open_store(entity_match="identity").iter_signals(START, END, labelled)) == ["1", "2", "3"]


def test_a_stage_is_a_source_or_what_it_begins_with_up_to_a_dot(store):
    sources = ["route", "route.x", "router", "route.", "Route.x"]
    store.write_signals([signal(str(number), source=source) for number, source in enumerate(sources, start=1)])

    def of_stage(**more):
        return ids(store.iter_stage_window_signals(stage="route", start=START, end=END, **more))

    assert of_stage() == ["1", "2", "4"]
    assert of_stage(sources=["router"]) == ["3"]
    assert of_stage(sources=[]) == ["1", "2", "4"]


def test_equal_times_are_sorted_by_id(store):
    store.write_signals([signal("t1"), signal("t2")])

    assert ids(store.get_recent_signals_by_source(source="ingest", limit=2)) == ["t2", "t1"]
    assert ids(store.get_token_signals(start=START, end=END)) == ["t1", "t2"]


def test_recents_are_neither_of_the_future_nor_from_before_1970(store):
    store.write_signals(
        [
            signal("ahead", NOW + HOUR, refs=[R]),
            signal("old", datetime(1960, 1, 1, tzinfo=UTC)),
            signal("then", T(5), refs=[R]),
        ]
    )

    assert ids(store.get_recent_signals_by_source(source="ingest", limit=9)) == ["then"]
    assert ids(store.get_recent_signals_by_entity(entity_ref=R, limit=9)) == ["then"]
    assert ids(store.get_recent_signals_by_source(source="ingest", limit=9, start=START, end=END)) == [
        "ahead",
        "then",
        "old",
    ]


def test_posts_are_found_among_newer_signals_of_the_entity(store):
    store.write_signals([signal(f"post{number}", T(1, number), refs=[R]) for number in range(3)])
    store.write_signals([signal(f"like{number}", T(2, number), type="LikeSeen", refs=[R]) for number in range(8)])

    assert ids(store.get_last_posts_by_entity(entity_ref=R, limit=2)) == ["post2", "post1"]


def test_scores_rank_by_value_and_what_is_no_number_is_left_out(store):
    payloads = {
        "true": {"score": True},
        "missing": {},
        "text": {"score": "9"},
        "null": {"score": None},
        "minus": {"score": -1},
        "list": [1],
    }
    store.write_signals([signal(name, T(5), payload) for name, payload in payloads.items()])
    store.write_signals(
        [signal(name, T(day), {"score": 0.5}) for name, day in (("half1", 5), ("half2", 5), ("late", 6))]
    )

    found = store.get_top_recommendation_candidates(start=START, end=END, limit=9, unique_by_entity=False)

    assert ids(found) == ["true", "late", "half2", "half1", "missing", "minus"]


def test_of_one_entity_the_best_score_stays(store):
    a, labelled, other = EntityRef("e", "A", "x"), EntityRef("e", "A", "x", label="L"), EntityRef("e", "A")
    scores = [("1", 3, a), ("2", 2, labelled), ("3", 1, other), ("4", 0.5, other)]
    store.write_signals([signal(name, payload={"score": score}, refs=[ref]) for name, score, ref in scores])

    assert ids(store.get_top_recommendation_candidates(start=START, end=END, limit=9)) == ["1", "3"]
    assert ids(store.get_top_recommendation_candidates(start=START, end=END, limit=1)) == ["1"]


def test_only_a_readable_time_before_now_expires(store):
    texts = [
        "2026-02-05T12:00:00Z",
        "2026-02-05T11:59:59.999999Z",
        "2026-02-05",
        "2026-02-05T11:00:00",
        "2026-02-05T13:00:00+02:00",
        "bogus",
        1234,
    ]
    payloads = [{"expires_at": text} for text in texts] + [{}]
    store.write_signals([signal(str(n), T(4), p, type="OutcomePending") for n, p in enumerate(payloads, start=1)])

    buckets = store.get_outcome_window_buckets(now=T(5, 12), start=START, end=END)

    assert list(buckets) == ["pending", "expired", "success", "failure"]
    assert ids(buckets["expired"]) == ["2", "3", "4", "5"]
    assert ids(buckets["pending"]) == ["1", "6", "7", "8"]
    assert ids(store.get_expired_outcome_signals(now=T(5, 12), start=START, end=END)) == ["2", "3", "4", "5"]


def test_an_outcome_counts_in_the_same_window_and_for_an_entity_only_with_its_reference(store):
    store.write_signals(
        [signal(name, T(5), type="OutcomePending", refs=refs) for name, refs in (("u1", [R]), ("u2", []), ("u3", []))]
    )
    store.write_emissions(
        [
            emission("e1", T(6), caused_by="u1"),
            emission("e2", T(9), type="DraftRejected", caused_by="u2"),
            emission("e3", T(6), type="Other", caused_by="u3"),
        ]
    )

    assert ids(store.get_unresolved_outcome_signals(start=T(1), end=T(8))) == ["u2", "u3"]
    assert ids(store.get_unresolved_outcome_signals(start=T(1), end=T(8), entity_ref=R)) == ["u1"]


def test_members_of_payloads_are_compared_as_python_compares(store):
    payloads = [{"token_id": 1}, {"token_id": True}, {"token_id": "1"}, ["token_id"]]
    store.write_signals([signal(str(number), payload=payload) for number, payload in enumerate(payloads, start=1)])

    assert ids(store.get_token_signals(start=START, end=END, token_id=1)) == ["1", "2"]
    assert ids(store.get_token_signals(start=START, end=END)) == ["1", "2", "3", "4"]


def test_payloads_come_back_as_json_gives_them_back(store):
    payloads = [{"x": math.nan}, {"x": 10**40}, {"x": "\ud800"}, {1: "a"}, {"x": (1, 2)}]
    store.write_signals([signal(str(number), payload=payload) for number, payload in enumerate(payloads)])

    found = [signal.payload for signal in store.iter_signals(START, END)]

    assert math.isnan(found[0]["x"])
    assert found[1:] == [{"x": 10**40}, {"x": "\ud800"}, {"1": "a"}, {"x": [1, 2]}]
