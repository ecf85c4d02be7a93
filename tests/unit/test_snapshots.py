"""Snapshots stay as they were saved, under names that people and other programs can read."""

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.drawing import names

from bucketlog.backend import ABSENT, PUT_BYTES_MAX
from bucketlog.cursor import Cursor
from bucketlog.errors import (
    ConflictError,
    CorruptCheckpointError,
    InvalidNameError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
    ReadOnlyError,
    UnsupportedFormatError,
)
from bucketlog.state.snapshots import Snapshots, _info, _key
from bucketlog.testing.clocks import START
from bucketlog.testing.faults import Fail, Hold, LoseAnswer, on

NOON = datetime(2026, 2, 5, 12, tzinfo=UTC)


@pytest.fixture
def snapshots(place):
    return Snapshots(place.open())


def test_a_snapshot_comes_back_with_its_cursor_and_state(snapshots):
    saved = snapshots.save("system_state", {"a": (1, None), "b": {"é": 1.5}}, cursor={"0": 17}, at=NOON)

    assert (saved.name, saved.at, saved.cursor, saved.state) == (
        "system_state",
        NOON,
        Cursor({"0": 17}),
        {"a": [1, None], "b": {"é": 1.5}},
    )
    assert snapshots.load("system_state", NOON) == snapshots.latest("system_state") == saved


@pytest.mark.parametrize(
    "state", [None, 1, "text", [], [1, {"a": 2}], {}, {"state": 1}, {"format": "csv"}, {"format": 1}]
)
def test_any_json_value_is_a_state_with_and_without_a_cursor(snapshots, state):
    assert snapshots.save("bare", state, at=NOON).state == state
    assert snapshots.load("bare", NOON).state == state
    assert snapshots.load("bare", NOON).cursor is None
    assert snapshots.save("wrapped", state, cursor={}, at=NOON).state == state
    assert snapshots.load("wrapped", NOON).cursor == Cursor()


def test_without_a_cursor_the_file_is_the_state_and_equal_states_are_equal_bytes(place, snapshots):
    snapshots.save("digest", {"b": [1, 2.5], "a": "é\U0001f600\u2028"}, at="2026-02-05")
    snapshots.save("digest", {"a": "é\U0001f600\u2028", "b": (1, 2.5)}, at="2026-02-06")

    one, other = (place.backend.get(f"snapshots/digest__{day}.json").data for day in ("2026-02-05", "2026-02-06"))
    assert one == other == b'{"a":"\\u00e9\\ud83d\\ude00\\u2028","b":[1,2.5]}\n'


def test_with_a_cursor_the_file_holds_name_time_cursor_and_format(place, snapshots):
    snapshots.save("s", {"n": 1}, cursor=Cursor({"b": 2, "a": 1}), at=NOON)

    assert place.backend.get("snapshots/s__2026-02-05T120000Z.json").data == (
        b'{"at":"2026-02-05T12:00:00Z","cursor":{"a":1,"b":2},"format":"bucketlog.snapshot/1","name":"s",'
        b'"state":{"n":1}}\n'
    )


@pytest.mark.parametrize("form", ["bucketlog.snapshot/1", "bucketlog.snapshot/2", "bucketlog.snapshot/"])
def test_a_state_that_looks_like_the_wrapped_form_comes_back_as_it_was_given(snapshots, form):
    state = {"format": form, "name": "x", "at": "y", "cursor": {"0": 1}, "state": "inner"}

    snapshots.save("s", state, at=NOON)

    loaded = snapshots.load("s", NOON)
    assert (loaded.state, loaded.cursor) == (state, None)


# -- times and names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "file"),
    [
        (NOON, "s__2026-02-05T120000Z.json"),
        (NOON + timedelta(microseconds=123), "s__2026-02-05T120000.000123Z.json"),
        (datetime(2026, 2, 5, 13, tzinfo=timezone(timedelta(hours=1))), "s__2026-02-05T120000Z.json"),
        (datetime(5, 1, 2, tzinfo=UTC), "s__0005-01-02T000000Z.json"),
        ("2026-02-05", "s__2026-02-05.json"),
        ("2026-2-5", "s__2026-2-5.json"),
        ("v1.2_final", "s__v1.2_final.json"),
        ("2026-02-05T120000Z", "s__%32026-02-05T120000Z.json"),
        ("a__b", "s__a_%5Fb.json"),
        ("_", "s__%5F.json"),
        ("../x", "s__%2E.%2Fx.json"),
    ],
)
def test_the_file_is_named_by_name_and_time(place, snapshots, at, file):
    saved = snapshots.save("s", 1, at=at)

    assert place.stored("snapshots/") == [f"snapshots/{file}"]
    assert [(info.name, info.at, info.key) for info in snapshots.list("s")] == [("s", saved.at, f"snapshots/{file}")]
    assert snapshots.load("s", at) == saved


def test_the_time_is_now_unless_given(place):
    root = place.open()
    root.clock.advance(2.5)

    assert Snapshots(root).save("s", 1).at == START + timedelta(seconds=2.5)


def test_no_two_pairs_of_name_and_time_share_a_file():
    texts = ["a", "_", "__", "a_", "_a", "a__", "__a", "a__b", "b", "___", "%5F", "2026-02-05T120000Z", "a.json", "."]
    pairs = [*product(texts, [*texts, NOON])]

    keys = {_key(name, at): (name, at) for name, at in pairs}

    assert len(keys) == len(pairs)
    assert all((_info(key).name, _info(key).at) == pair for key, pair in keys.items())
    assert len({key.lower() for key in keys}) == len(keys)


# Both share a file name of 255 bytes, with `__` between them and `.json` after them; each `__` in a key takes 5 bytes.
@pytest.mark.slow
@given(names(100), names(56) | st.datetimes(timezones=st.just(UTC)))
@example("00::::" + "\x80" * 5 + "\u0800", "00::::" + "\x80" * 5 + "\u0800")
def test_a_file_name_decodes_to_the_name_and_the_time(name, at):
    info = _info(_key(name, at))

    assert (info.name, info.at) == (name, at)


@pytest.mark.parametrize(
    ("name", "at", "error"),
    [
        ("", NOON, InvalidNameError),
        ("s", "", InvalidNameError),
        ("s", "\0", InvalidNameError),
        ("\ud800", "x", InvalidNameError),
        ("n" * 200, "t" * 49, InvalidNameError),
        ("s", datetime(2026, 2, 5), InvalidValueError),  # noqa: DTZ001  (a naive time is what is refused)
        ("s", date(2026, 2, 5), InvalidValueError),
        ("s", 17, InvalidValueError),
    ],
)
def test_names_and_times_that_cannot_be_are_refused(place, snapshots, name, at, error):
    for act in (lambda: snapshots.save(name, 1, at=at), lambda: snapshots.load(name, at)):
        with pytest.raises(error, match="snapshot"):
            act()

    assert place.stored("snapshots/") == []


def test_the_longest_file_name_is_255_bytes(place, snapshots):
    snapshots.save("n" * 200, 1, at="t" * 48)

    assert len(place.stored("snapshots/")[0]) == len("snapshots/") + 255
    assert snapshots.latest("n" * 200).at == "t" * 48


def test_snapshots_are_listed_by_time_with_dates_among_the_times_and_other_texts_first(snapshots):
    in_order = [
        "v1",
        "v2",
        "2026-02-30",  # no date
        datetime(2026, 1, 31, 23, 59, tzinfo=UTC),
        "2026-2-1",
        datetime(2026, 2, 1, tzinfo=UTC),
        datetime(2026, 2, 1, 0, 0, 0, 1, tzinfo=UTC),
        "2026-02-01T10:00:00",
        "2026-02-01T13:00:00+02:00",
        "2026-02-10",
        datetime(2026, 2, 11, tzinfo=UTC),
    ]
    in_order[:3] = sorted(in_order[:3])
    for number, at in enumerate(reversed(in_order)):
        snapshots.save("s", number, at=at)

    assert [info.at for info in snapshots.list("s")] == in_order
    assert snapshots.latest("s").at == in_order[-1]


def test_a_name_lists_its_own_snapshots_only(place, snapshots):
    for name, at in product(["a", "a_", "a__b", "b", "a/b"], ["x", "2026-02-05"]):
        snapshots.save(name, 1, at=at)
    for foreign in ("a__x", "a.json", "a__2026-02-31T000000Z.json", "a__x y.json", "a__%FF.json"):
        place.backend.put(f"snapshots/{foreign}", b"foreign")

    assert [info.at for info in snapshots.list("a")] == ["x", "2026-02-05"]
    assert snapshots.names() == ["a", "a/b", "a_", "a__b", "b"]
    assert snapshots.list("none") == []
    assert snapshots.latest("none") is None


def test_listing_reads_no_snapshot(place):
    root = place.open()
    snapshots = Snapshots(root)
    snapshots.save("s", 1, at="x")
    before = root.backend.count("get", "head")

    snapshots.list("s")
    snapshots.names()

    assert root.backend.count("get", "head") == before


# -- never overwritten -------------------------------------------------------------------------------------------------


def test_other_content_at_the_same_time_is_refused_and_equal_content_is_fine(snapshots):
    saved = snapshots.save("s", {"n": 1}, at=NOON)

    assert snapshots.save("s", {"n": 1}, at=NOON) == saved
    for state, cursor in (({"n": 2}, None), ({"n": 1}, {"0": 1})):
        with pytest.raises(ConflictError, match="replace=True"):
            snapshots.save("s", state, cursor=cursor, at=NOON)
    assert snapshots.load("s", NOON) == saved


def test_replace_puts_other_content_in_its_place_and_leaves_nothing_beside_it(place, snapshots):
    snapshots.save("digest", 1, at="2026-02-05", replace=True)
    snapshots.save("digest", 2, at="2026-02-05", replace=True)

    assert snapshots.load("digest", "2026-02-05").state == 2
    assert place.stored("snapshots/") == ["snapshots/digest__2026-02-05.json"]


def test_replacing_by_equal_content_writes_nothing(place):
    root = place.open()
    Snapshots(root).save("s", 1, at=NOON, replace=True)
    before = root.backend.count("put")

    Snapshots(root).save("s", 1, at=NOON, replace=True)

    assert root.backend.count("put") == before


@pytest.mark.slow
def test_a_state_that_cannot_be_encoded_leaves_the_old_one_alone(snapshots):
    snapshots.save("s", 1, at=NOON)

    for state in ({"a": math.nan}, {1: 2}, {"a": START}, "\udfff", "x" * PUT_BYTES_MAX):
        with pytest.raises(InvalidValueError, match="save snapshot 's'"):
            snapshots.save("s", state, at=NOON, replace=True)
    with pytest.raises(InvalidValueError, match="cursor"):
        snapshots.save("s", 2, cursor={"0": -1}, at=NOON, replace=True)

    assert snapshots.load("s", NOON).state == 1


@pytest.mark.parametrize("fault", [LoseAnswer(), Fail(OutcomeUnknownError("500")), LoseAnswer(ConflictError("412"))])
@pytest.mark.parametrize("replace", [False, True])
def test_an_unclear_outcome_is_settled_by_reading_back(place, fault, replace):
    if replace:
        Snapshots(place.open()).save("s", "old", at=NOON)

    Snapshots(place.open(on("put", fault))).save("s", "new", at=NOON, replace=replace)

    assert Snapshots(place.open()).load("s", NOON).state == "new"


def test_an_outcome_that_stays_unclear_is_reported(place):
    root = place.open(lambda call: Hold() if call.method == "put" else None)

    with pytest.raises(OutcomeUnknownError, match=r"save snapshot 's' at 2026-02-05T12:00:00\+00:00"):
        Snapshots(root).save("s", 1, at=NOON)


def test_replacing_goes_on_after_a_lost_race_and_stops_where_ours_may_have_been_replaced(place):
    others = Snapshots(place.open())
    others.save("s", 0, at=NOON)

    def beaten(error):
        root = place.open(on("put", Fail(error)))
        put = root.backend.put

        def slow(*what, **how):
            if root.backend.count("put") == 0:
                others.save("s", f"other {error}", at=NOON, replace=True)
            return put(*what, **how)

        root.backend.put = slow
        return Snapshots(root)

    beaten(ConflictError("412")).save("s", "mine", at=NOON, replace=True)
    assert others.load("s", NOON).state == "mine"

    with pytest.raises(OutcomeUnknownError):
        beaten(OutcomeUnknownError("500")).save("s", "mine too", at=NOON, replace=True)
    assert others.load("s", NOON).state == "other 500"


def test_a_writer_that_loses_every_attempt_gets_a_conflict(place):
    others = Snapshots(place.open())
    others.save("s", 0, at=NOON)
    root = place.open()
    put = root.backend.put

    def slow(*what, **how):
        others.save("s", f"other {root.backend.count('put')}", at=NOON, replace=True)
        return put(*what, **how)

    root.backend.put = slow

    with pytest.raises(ConflictError, match="another writer replaced it first at every attempt"):
        Snapshots(root).save("s", "mine", at=NOON, replace=True)


def test_every_put_carries_a_condition(place):
    root = place.open()
    put, conditions = root.backend.put, []

    def record(key, data, *, if_version=None):
        conditions.append(if_version)
        return put(key, data, if_version=if_version)

    root.backend.put = record
    Snapshots(root).save("s", 1, at=NOON, replace=True)
    Snapshots(root).save("s", 2, at=NOON, replace=True)

    assert conditions[0] is ABSENT
    assert isinstance(conditions[1], str)


# -- loading and removing ----------------------------------------------------------------------------------------------


def test_loading_what_is_not_there_says_where_to_look(snapshots):
    snapshots.save("s", 1, at="2026-02-05")

    for at in (NOON, "2026-2-5"):
        with pytest.raises(NotFoundError, match="load snapshot 's'") as caught:
            snapshots.load("s", at)
        assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not JSON"),
        (b"garbage", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"format":"bucketlog.snapshot/1"}', "no member 'name'"),
        (b'{"format":"bucketlog.snapshot/1","name":"s","cursor":{}}', "no member 'state'"),
        (b'{"format":"bucketlog.snapshot/1","name":"s","cursor":{"0":-1},"state":1}', "offset -1"),
        (b'{"format":"bucketlog.snapshot/1","name":"t","cursor":{},"state":1}', "holds the snapshot 't'"),
    ],
)
def test_garbage_is_an_error_that_names_the_object(place, snapshots, content, told):
    place.backend.put("snapshots/s__x.json", content)

    with pytest.raises(CorruptCheckpointError, match=told) as caught:
        snapshots.latest("s")

    assert caught.value.key == "snapshots/s__x.json"


def test_what_a_newer_version_saved_is_not_misread(place, snapshots):
    place.backend.put("snapshots/s__x.json", b'{"format":"bucketlog.snapshot/2","name":"s"}')

    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        snapshots.load("s", "x")


def test_a_file_of_another_program_under_such_a_name_is_a_state(place, snapshots):
    place.backend.put("snapshots/s__2026-02-05.json", json.dumps({"day": "2026-02-05"}, indent=2).encode())

    assert snapshots.latest("s").state == {"day": "2026-02-05"}


def test_prune_keeps_the_last_ones(place, snapshots):
    for day in range(1, 6):
        snapshots.save("s", day, at=f"2026-02-0{day}")
    snapshots.save("other", 1, at="2026-01-01")

    assert [info.at for info in snapshots.prune("s", keep=2)] == ["2026-02-01", "2026-02-02", "2026-02-03"]
    assert [info.at for info in snapshots.list("s")] == ["2026-02-04", "2026-02-05"]
    assert snapshots.prune("s", keep=2) == []
    assert len(snapshots.prune("s", keep=0)) == 2
    assert place.stored("snapshots/") == ["snapshots/other__2026-01-01.json"]


@pytest.mark.parametrize("keep", [-1, 1.5, True, None])
def test_prune_takes_a_count(snapshots, keep):
    with pytest.raises(InvalidValueError, match="keep is"):
        snapshots.prune("s", keep=keep)


def test_the_latest_is_the_one_before_when_the_last_was_removed_meanwhile(place):
    root = place.open()
    snapshots = Snapshots(root)
    snapshots.save("s", 1, at="2026-02-01")
    snapshots.save("s", 2, at="2026-02-02")
    read = root.backend.inner.get

    def get(key, *span):
        place.backend.delete(["snapshots/s__2026-02-02.json"])
        return read(key, *span)

    root.backend.inner.get = get

    assert snapshots.latest("s").state == 1


def test_a_store_opened_for_reading_reads_and_never_writes(place):
    saved = Snapshots(place.open()).save("s", 1, at=NOON)
    reader = Snapshots(place.open(read_only=True))

    assert reader.latest("s") == saved
    for act in (lambda: reader.save("s", 2), lambda: reader.prune("s", keep=0)):
        with pytest.raises(ReadOnlyError):
            act()
    assert reader.latest("s") == saved
