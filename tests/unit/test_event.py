"""An event: what it promises as a value, what may be written, and how a line holds it."""

import copy
import datetime as dt
import decimal
import enum
import json
import math
import pickle
import types
import uuid
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketlog import Event
from bucketlog.errors import BucketlogError, InvalidEventError
from bucketlog.format.lines import (
    DATA_DEPTH_MAX,
    EVENT_BYTES_MAX,
    check_events,
    decode_events,
    decode_ids,
    encode_lines,
    is_touched,
)

NOW = dt.datetime(2026, 2, 5, 12, 0, tzinfo=dt.UTC)


def event(**fields) -> Event:
    return Event(**{"type": "order.placed", "id": "e-1", "time": NOW, **fields})


def written(*events) -> bytes:
    lines = check_events(events, where="memory://test, stream 'orders'")
    return encode_lines(lines, indexes=range(len(lines)), where="memory://test, stream 'orders'")


def stored(one: Event, *, eager: bool = False) -> Event:
    return decode_events(written(one), "0", range(1), eager=eager)[0]


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
zones = st.just(dt.UTC) | st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu"]).map(ZoneInfo)
events = st.builds(
    Event,
    type=texts.filter(bool),
    id=texts.filter(bool),
    source=st.none() | texts,
    subject=st.none() | texts,
    time=st.datetimes(timezones=zones).filter(lambda time: 1 < time.year < 9999),
    tags=st.lists(texts, max_size=3).map(tuple),
    data=json_values,
    meta=st.dictionaries(texts, scalars, max_size=3),
)


# -- a value -----------------------------------------------------------------------------------------------------------


def test_an_event_needs_only_a_type():
    before = dt.datetime.now(dt.UTC)

    made = Event(type="order.placed")

    assert before <= made.time <= dt.datetime.now(dt.UTC)
    assert uuid.UUID(made.id).version == 7
    assert (made.source, made.subject, made.tags, made.data, made.meta) == (None, None, (), None, {})
    assert (made.partition, made.offset) == (None, None)


def test_ids_made_one_after_the_other_ascend():
    ids = [Event(type="t").id for _ in range(10_000)]

    assert ids == sorted(set(ids))


def test_events_are_equal_when_all_but_their_place_is():
    assert event(partition="0", offset=7) == event()
    assert hash(event(partition="0", offset=7)) == hash(event())
    for name, other in [
        ("type", "x"),
        ("id", "x"),
        ("source", "x"),
        ("subject", ""),
        ("time", NOW + dt.timedelta(microseconds=1)),
        ("tags", ("x",)),
        ("data", 0),
        ("meta", {"x": None}),
    ]:
        assert event(**{name: other}) != event()
    assert event() != "order.placed"


@pytest.mark.parametrize("make", [event, lambda **fields: stored(event(**fields))])
def test_an_event_cannot_be_changed(make):
    made = make(data=[1])

    for name in ("type", "data", "offset"):
        with pytest.raises(AttributeError):
            setattr(made, name, "x")
        with pytest.raises(AttributeError):
            delattr(made, name)


def test_the_pickle_of_an_event_names_public_classes_alone():
    pickled = pickle.dumps([event(), stored(event(id="e-2"))], protocol=0)  # whose GLOBALs are plain text

    assert b"cbucketlog\nEvent\n" in pickled
    assert b"bucketlog." not in pickled


def test_a_subclass_of_the_event_still_finds_what_its_annotations_name():
    class Order(Event, kw_only=True):
        amount: int = 0

    found = msgspec.json.decode(b'{"type":"order.placed","amount":3}', type=Order)

    assert (found.type, found.amount, found.meta) == ("order.placed", 3, {})


@pytest.mark.parametrize("touch", [False, True])
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_stored_event_survives_copying_and_pickling_before_and_after_its_data_was_decoded(duplicate, touch):
    original = stored(event(data={"a": [1, 2]}, tags=("x",), meta={"k": 1}, source="s"))
    if touch:
        assert original.data == {"a": [1, 2]}

    copied = duplicate(original)

    assert copied == original
    assert copied.data == {"a": [1, 2]}
    assert (copied.partition, copied.offset) == ("0", 0)


def test_a_deep_copy_shares_no_data_with_its_original():
    original = stored(event(data={"a": [1]}))

    copy.deepcopy(original).data["a"].append(2)

    assert original.data == {"a": [1]}


def test_repr_shows_what_an_event_has_and_decodes_its_data():
    assert repr(stored(event(data={"a": 1}))) == (
        "Event(type='order.placed', id='e-1', time=datetime.datetime(2026, 2, 5, 12, 0, tzinfo=datetime.timezone.utc), "
        "data={'a': 1}, partition='0', offset=0)"
    )


# -- lines -------------------------------------------------------------------------------------------------------------


def test_members_stand_in_their_order_and_defaults_are_left_out():
    full = event(source="shop", subject="o-17", tags=("a", "b"), data={"total": 42}, meta={"actor": "x", "n": None})

    assert written(full, event()) == (
        b'{"type":"order.placed","id":"e-1","time":"2026-02-05T12:00:00Z","source":"shop","subject":"o-17",'
        b'"tags":["a","b"],"data":{"total":42},"meta":{"actor":"x","n":null}}\n'
        b'{"type":"order.placed","id":"e-1","time":"2026-02-05T12:00:00Z"}\n'
    )


def test_text_is_written_in_its_shortest_form():
    text = '"\\/\b\f\n\r\t\x00\x1f\x7f\u2028é😀'

    line = written(event(data=text))

    assert '"data":"\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\u2028é😀"'.encode() in line
    assert stored(event(data=text)).data == text


def test_times_are_written_as_utc_to_the_microsecond():
    berlin = dt.datetime(2026, 10, 25, 2, 30, 0, 1, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)

    assert b'"time":"2026-10-25T01:30:00.000001Z"' in written(event(time=berlin))


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.lists(events, max_size=3), st.booleans())
def test_what_is_read_equals_what_was_written(batch, eager):
    data = written(*batch)

    found = decode_events(data, "p", range(5, 5 + len(batch)), eager=eager)

    # As UTC: a local time that a clock skips or repeats is unequal to every time of another zone (PEP 495).
    assert found == [msgspec.structs.replace(one, time=one.time.astimezone(dt.UTC)) for one in batch]
    # Equality takes 1, 1.0 and True for the same; JSON does not.
    assert [json.dumps([one.data, one.meta]) for one in found] == [json.dumps([one.data, one.meta]) for one in batch]
    assert [(one.partition, one.offset) for one in found] == [("p", 5 + index) for index in range(len(batch))]
    assert decode_ids(data, count=len(batch)) == [one.id for one in batch]
    assert data.count(b"\n") == len(batch)
    assert written(*found) == data


def test_data_is_decoded_when_first_touched_and_then_kept():
    lazy = stored(event(data={"a": [1]}))

    assert lazy.type == "order.placed"
    assert not is_touched(lazy)
    assert lazy.data == {"a": [1]}
    assert lazy.data is lazy.data
    assert is_touched(lazy)


def test_tuples_come_back_as_lists_and_subclasses_as_what_they_are():
    class Text(str):
        __slots__ = ()

    class Kind(enum.StrEnum):
        PLACED = "placed"

    found = stored(event(data={"t": (1, (2,)), "s": Text("x"), "e": Kind.PLACED, "n": np.float64(1.5)}))

    assert found.data == {"t": [1, [2]], "s": "x", "e": "placed", "n": 1.5}


def test_what_was_checked_is_detached_from_the_caller():
    data, meta = {"a": [1, (2, 3)]}, {"k": 1}
    lines = check_events([event(data=data, meta=meta)], where="w")

    data["a"].append(4)
    meta["k"] = 2

    assert (lines[0].data, lines[0].meta) == ({"a": [1, [2, 3]]}, {"k": 1})


# -- bad input ---------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


recursive: list = []
recursive.append(recursive)

BAD = [
    ("data", {"data": math.nan}, "data is nan"),
    ("data", {"data": {"a": [1, -math.inf]}}, r"data\.a\[1\] is -inf"),
    ("data", {"data": [[[[[[math.nan]]]]]]}, "is nan"),
    ("data", {"data": np.float64("nan")}, r"nan\)?, which JSON cannot represent"),
    ("meta", {"meta": {"k": math.inf}}, r"meta\.k is inf"),
    ("time", {"time": NOW.replace(tzinfo=None)}, "timezone"),
    ("time", {"time": "2026-02-05T12:00:00Z"}, "expected a datetime, got str"),
    ("time", {"time": 1770292800}, "expected a datetime, got int"),
    ("time", {"time": dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))}, "does not exist as UTC"),
    ("data", {"data": b"x"}, "of type bytes, which JSON cannot represent"),
    ("data", {"data": {"t": NOW}}, r"data\.t is of type datetime"),
    ("data", {"data": {1, 2}}, "is of type set"),
    ("data", {"data": [uuid.UUID(int=0)]}, r"data\[0\] is of type UUID"),
    ("data", {"data": decimal.Decimal("0.1")}, "is of type Decimal"),
    ("data", {"data": Colour.RED}, "is of type Colour"),
    ("data", {"data": np.int64(1)}, "is of type int64"),
    ("data", {"data": np.array([1.0])}, "is of type ndarray"),
    ("data", {"data": object()}, "is of type object"),
    ("data", {"data": {1: "x"}}, "has the key 1"),
    ("data", {"data": {"a": {"b": {"c": {"d": {"e": {None: 1}}}}}}}, r"data\.a\.b\.c\.d\.e has the key None"),
    ("data", {"data": 10**5000}, "over 4,000 digits"),
    ("data", {"data": nested(DATA_DEPTH_MAX + 1)}, "nests over 200 deep"),
    ("data", {"data": recursive}, "nests over 200 deep"),
    ("meta", {"meta": {"k": [1]}}, "got `array`"),
    ("meta", {"meta": {1: "x"}}, "Expected `str`"),
    ("meta", {"meta": {"k": decimal.Decimal("0.1")}}, "is of type Decimal"),
    ("meta", {"meta": None}, "Expected `object`"),
    ("type", {"type": "\ud800"}, "lone surrogates"),
    ("id", {"id": "a\udfff"}, "lone surrogates"),
    ("source", {"source": "\ud800"}, "lone surrogates"),
    ("subject", {"subject": "\ud800"}, "lone surrogates"),
    ("tags", {"tags": ("a", "\ud800")}, r"tags\[1\] holds lone surrogates"),
    ("data", {"data": {"a": "\ud800"}}, r"data\.a holds lone surrogates"),
    ("data", {"data": {"\ud800": 1}}, "lone surrogates"),
    ("meta", {"meta": {"\ud800": 1}}, "lone surrogates"),
    ("data", {"data": "x" * EVENT_BYTES_MAX}, r"takes 838\d{4} bytes as JSON, at most 8388608"),
    ("type", {"type": ""}, "length >= 1"),
    ("id", {"id": ""}, "length >= 1"),
    ("type", {"type": None}, "got `null`"),
    ("id", {"id": uuid.UUID(int=0)}, "got `uuid`"),
    ("source", {"source": 5}, "got `int`"),
    ("tags", {"tags": "abc"}, "got `str`"),
    ("tags", {"tags": (1,)}, "got `int`"),
]


@pytest.mark.parametrize(("field", "fields", "why"), BAD, ids=[f"{field}-{why}" for field, _, why in BAD])
def test_what_cannot_be_written_is_refused_with_its_index_and_field(field, fields, why):
    with pytest.raises(InvalidEventError, match=why) as caught:
        written(event(), event(), event(**fields))

    assert (caught.value.index, caught.value.field) == (2, field)
    assert "append to memory://test, stream 'orders': event 2" in str(caught.value)
    assert isinstance(caught.value, (BucketlogError, ValueError))


@pytest.mark.parametrize(
    "thing",
    [
        None,
        "order.placed",
        {"type": "t", "id": "i", "time": NOW},
        types.SimpleNamespace(type="t", id="i", time=NOW, data=None),
    ],
)
def test_what_is_no_event_is_refused(thing):
    with pytest.raises(InvalidEventError, match="expected an Event") as caught:
        written(event(), thing)

    assert (caught.value.index, caught.value.field) == (1, "event")


def test_an_event_of_just_the_allowed_size_and_depth_is_written():
    large = event(data="x" * (EVENT_BYTES_MAX - len(written(event(data="")))))

    assert len(written(large)) == EVENT_BYTES_MAX
    assert stored(event(data=nested(DATA_DEPTH_MAX))).data == nested(DATA_DEPTH_MAX)
    assert stored(event(data=2**200)).data == 2**200


def test_the_word_null_in_a_text_is_no_reason_to_refuse():
    assert stored(event(data=[None, "null", {"null": None}])).data == [None, "null", {"null": None}]
