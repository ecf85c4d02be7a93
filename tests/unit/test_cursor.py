"""A cursor is a value: an immutable mapping that survives JSON and pickling."""

import copy
import json
import pickle
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketlog.cursor import Cursor
from bucketlog.errors import BucketlogError, InvalidValueError
from bucketlog.storage.retries import Retries
from bucketlog.testing.clocks import FakeClock

CURSORS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 2**63 - 1))


@pytest.mark.slow
@given(CURSORS)
def test_a_cursor_comes_back_from_json_pickle_and_copies(offsets):
    cursor = Cursor(offsets)

    assert Cursor.from_json(cursor.to_json()) == cursor == offsets
    assert pickle.loads(pickle.dumps(cursor)) == cursor
    assert copy.deepcopy(cursor) == copy.copy(cursor) == cursor
    assert Cursor(json.loads(json.dumps(dict(cursor)))) == cursor


def test_json_is_compact_and_the_same_for_equal_cursors():
    assert Cursor({"b": 2, "a": 1}).to_json() == Cursor({"a": 1, "b": 2}).to_json() == '{"a":1,"b":2}'
    assert Cursor().to_json() == "{}"


def test_a_cursor_is_a_mapping_equal_to_every_mapping_with_the_same_items():
    cursor = Cursor({"b": 2, "a": 1})

    assert isinstance(cursor, Mapping)
    assert cursor == {"a": 1, "b": 2}
    assert {"a": 1, "b": 2} == cursor  # noqa: SIM300  (asks the dict)
    assert cursor != {"a": 1}
    assert cursor != Cursor({"a": 1, "b": 3})
    assert cursor != [("a", 1), ("b", 2)]
    assert list(cursor) == ["a", "b"]
    assert (cursor["b"], len(cursor), cursor.get("c", 0)) == (2, 2, 0)


def test_equal_cursors_have_the_same_hash():
    assert {Cursor({"a": 1, "b": 2}): "here"}[Cursor({"b": 2, "a": 1})] == "here"


def test_a_cursor_shows_how_to_make_it():
    assert repr(Cursor({"0": 17})) == "Cursor({'0': 17})"


def test_a_cursor_cannot_be_changed_from_outside():
    given_offsets = {"a": 1}
    cursor = Cursor(given_offsets)

    given_offsets["a"] = 2

    assert cursor == {"a": 1}
    with pytest.raises(TypeError, match="item assignment"):
        cursor["a"] = 3


def test_advancing_moves_one_partition_and_leaves_the_old_cursor_alone():
    cursor = Cursor({"a": 1})

    assert cursor.advance("a", 5).advance("b", 0) == {"a": 5, "b": 0}
    assert cursor == {"a": 1}


@pytest.mark.slow
@given(CURSORS, CURSORS)
def test_merging_takes_the_farther_of_the_two_everywhere(one, other):
    merged = Cursor(one).merge(other)

    assert merged == {name: max(one.get(name, 0), other.get(name, 0)) for name in {*one, *other}}
    assert merged == Cursor(other).merge(Cursor(one))


@pytest.mark.parametrize(
    ("offsets", "why"),
    [
        ({"": 1}, "non-empty str"),
        ({1: 1}, "non-empty str"),
        ({"\ud800": 1}, "lone surrogates"),
        ({"a": -1}, "offset -1 of partition 'a'"),
        ({"a": True}, "offset True"),
        ({"a": 1.0}, r"offset 1\.0"),
        ({"a": "1"}, "offset '1'"),
        ({"a": None}, "offset None"),
        ({"a": 2**63}, "offset 9223372036854775808"),
        ([("a", 1)], "found list"),
        ("a", "found str"),
    ],
)
def test_an_invalid_cursor_is_refused_at_the_call(offsets, why):
    with pytest.raises(InvalidValueError, match=why) as caught:
        Cursor(offsets)

    assert isinstance(caught.value, (BucketlogError, ValueError, TypeError))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", '{"a":-1}', '{"a":1.5}', '{"":1}', '{"a":true}', b"\xff"])
def test_json_of_anything_else_is_refused(text):
    with pytest.raises(InvalidValueError, match="cursor"):
        Cursor.from_json(text)


def test_attempts_end_when_the_budget_is_spent_and_back_off_under_a_doubling_ceiling():
    clock = FakeClock()

    attempts = list(Retries(clock, seconds=20))

    assert attempts == list(range(1, len(attempts) + 1))
    assert len(clock.slept_seconds) == len(attempts) - 1
    assert sum(clock.slept_seconds) <= 20
    ceilings = [min(0.05 * 2**number, 2) for number in range(len(attempts))]
    assert all(0 < slept <= ceiling for slept, ceiling in zip(clock.slept_seconds, ceilings, strict=False))
    assert len(attempts) >= 20 / 2


def test_one_attempt_is_made_however_small_the_budget():
    assert list(Retries(FakeClock(), seconds=0)) == [1]


def test_time_that_passes_inside_an_attempt_counts():
    clock = FakeClock()
    made = 0
    for _ in Retries(clock, seconds=20):
        made += 1
        clock.advance(15)

    assert made == 2


def test_attempts_end_on_a_clock_that_stands_still():
    class Frozen(FakeClock):
        def elapsed_seconds(self):
            return 0.0

    assert len(list(Retries(Frozen()))) < 100
