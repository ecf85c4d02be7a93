"""Events and CloudEvents convert to each other without loss, also through the package `cloudevents`."""

import base64
import copy
import datetime as dt
import json
import math
import re

import pytest

pytest.importorskip("cloudevents")

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1 import conversion as v1_conversion
from cloudevents.v1.http import CloudEvent as V1CloudEvent
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bucketlog import Event
from bucketlog.errors import InvalidEventError

NOW = dt.datetime(2026, 2, 5, 12, 0, tzinfo=dt.UTC)
FORMAT = JSONFormat()


def event(**fields) -> Event:
    return Event(**{"type": "order.placed", "id": "e-1", "time": NOW, "source": "/shop", **fields})


def through_the_package(event: Event) -> Event:
    """Written and read by the package, in both directions."""
    as_object = FORMAT.read(None, json.dumps(event.to_cloudevent()))
    as_mapping = json.loads(FORMAT.write(as_object))
    found = Event.from_cloudevent(as_object)
    assert found == Event.from_cloudevent(as_mapping)
    return found


texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
names = st.sampled_from(
    [
        *("specversion", "id", "source", "type", "subject", "time", "data", "tags", "bucketlogmeta", "bucketlogevent"),
        *("datacontenttype", "dataschema", "datacontentencoding", "traceparent", "a1", "trace_id", "Ü"),
    ]
)
values = st.sampled_from(
    [
        *("", "base64", "text/plain", "application/json", "urn:x:1", '["a"]', "[]", "{}", "\x00", "\ufffe"),
        *("2026-02-05T12:00:00Z", "2026-02-05T14:00:00+02:00", "2026-02-05T12:00:00.0000001Z"),
        *(2**31, 2**31 - 1, True),
    ]
)
events = st.builds(
    Event,
    type=texts.filter(bool),
    id=texts.filter(bool),
    source=st.sampled_from([None, "", "/unknown", "https://example.com/a?b#c", "a b", "50%"]) | texts,
    subject=st.none() | texts,
    time=st.just(NOW) | st.datetimes(timezones=st.just(dt.UTC)),
    tags=st.lists(texts, max_size=3).map(tuple),
    data=st.sampled_from(["YWJj", "YWJ", ""]) | json_values,
    meta=st.dictionaries(names | texts, values | scalars, max_size=5),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(events)
@example(Event(type="t", id="e-1", time=NOW, meta={"time": "2026-02-05T12:00:00.0000001Z"}))
def test_every_event_comes_back_from_its_cloudevent(one):
    written = one.to_cloudevent()
    # The package keeps microseconds of a time, and drops the rest.
    whole = re.search(r"\.[0-9]{7}", written.get("time", "")) is None
    found = through_the_package(one) if whole else Event.from_cloudevent(written)

    assert found == one
    # 1, 1.0 and True are equal in Python, but not in JSON.
    assert json.dumps([found.data, found.meta], sort_keys=True) == json.dumps([one.data, one.meta], sort_keys=True)


def test_a_plain_event_is_a_plain_cloudevent():
    one = event(subject="o-17", data={"total": 42}, meta={"traceparent": "00-ab", "attempt": 2, "dry": False})

    assert one.to_cloudevent() == {
        "specversion": "1.0",
        "type": "order.placed",
        "source": "/shop",
        "id": "e-1",
        "time": "2026-02-05T12:00:00Z",
        "subject": "o-17",
        "data": {"total": 42},
        "traceparent": "00-ab",
        "attempt": 2,
        "dry": False,
    }


def test_what_cloudevents_have_no_form_for_travels_in_extensions():
    one = event(
        id="a\nb",
        source=None,
        subject="",
        tags=("new", "ü"),
        meta={"Trace Id": "x", "rate": 0.5, "none": None, "id": 1},
    )

    assert one.to_cloudevent() == {
        "specversion": "1.0",
        "type": "order.placed",
        "source": "/unknown",
        "id": "a%0Ab",
        "time": "2026-02-05T12:00:00Z",
        "tags": '["new","\\u00fc"]',
        "bucketlogmeta": '{"Trace Id":"x","rate":0.5,"none":null,"id":1}',
        "bucketlogevent": '{"source":null,"id":"a\\nb","subject":""}',
    }
    assert through_the_package(one) == one


def test_a_source_that_is_no_uri_reference_is_encoded_for_others_and_comes_back_as_it_was():
    one = event(source="billing service/ü")

    assert one.to_cloudevent()["source"] == "billing%20service/%C3%BC"
    assert through_the_package(one).source == "billing service/ü"


FOREIGN = [
    {},
    {"time": "2018-04-05T17:31:00Z", "subject": "s"},
    {"time": "2018-04-05T17:31:00.123456789Z"},
    {"time": "2018-04-05T17:31:00+02:00"},
    {"time": "0001-01-01T00:00:00Z", "datacontenttype": "text/xml", "data": '<much wow="xml"/>'},
    {
        "time": "2018-04-05T17:31:00Z",
        "datacontenttype": "application/vnd.x+json; charset=utf-8",
        "data": [1, {"a": None}],
    },
    {"time": "2018-04-05T17:31:00Z", "dataschema": "https://example.com/schema/1", "data": 1.5},
    {"time": "2018-04-05T17:31:00Z", "datacontenttype": "image/png", "data_base64": "AAH/"},
    {"time": "2018-04-05T17:31:00Z", "data_base64": ""},
    {
        "time": "2018-04-05T17:31:00Z",
        "traceparent": "00-x",
        "count": -3,
        "flag": True,
        "tags": "a,b",
        "sampledrate": "",
    },
    {"time": "2018-04-05T17:31:00Z", "tags": "[]", "datacontentencoding": "gzip", "data": "x"},
    {"time": "2018-04-05T17:31:00Z", "tags": '["a","b"]'},
]


@pytest.mark.parametrize("extra", FOREIGN)
def test_every_cloudevent_comes_back_from_its_event(extra):
    original = {"specversion": "1.0", "type": "com.example", "source": "/mine", "id": "A-1", **extra}

    one = Event.from_cloudevent(copy.deepcopy(original))
    back = one.to_cloudevent()

    if "time" not in original:  # the time of arrival is compared separately
        assert json.loads(back.pop("bucketlogevent")) == {"time": one.time.isoformat().replace("+00:00", "Z")}
    assert back == original
    assert Event.from_cloudevent(one.to_cloudevent()) == one


@pytest.mark.parametrize("extra", [one for one in FOREIGN if "time" in one])
def test_objects_of_the_package_and_the_json_that_it_makes_of_them_are_the_same_event(extra):
    original = {"specversion": "1.0", "type": "com.example", "source": "/mine", "id": "A-1", **extra}
    as_object = FORMAT.read(None, json.dumps(original))

    assert Event.from_cloudevent(as_object) == Event.from_cloudevent(json.loads(FORMAT.write(as_object)))


def test_an_object_of_the_package_keeps_its_bytes_times_and_extensions():
    when = dt.datetime(2026, 2, 5, 14, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    attributes = {"type": "t", "source": "/s", "id": "1", "time": when, "seen": NOW, "raw": b"\x00", "n": 1}

    one = Event.from_cloudevent(CloudEvent(attributes, b"\x00\xff"))

    assert (one.time, base64.b64decode(one.data)) == (NOW, b"\x00\xff")
    assert one.meta == {
        "time": "2026-02-05T14:00:00+02:00",
        "seen": "2026-02-05T12:00:00+00:00",
        "raw": "AA==",
        "n": 1,
        "datacontentencoding": "base64",
    }
    assert FORMAT.read(None, json.dumps(one.to_cloudevent())).get_data() == b"\x00\xff"


def test_objects_of_the_older_interface_are_taken_too():
    made = V1CloudEvent({"type": "t", "source": "/s", "id": "1", "time": "2026-02-05T12:00:00Z", "x": "y"}, {"a": 1})

    one = Event.from_cloudevent(made)

    assert one == Event(type="t", source="/s", id="1", time=NOW, data={"a": 1}, meta={"x": "y"})
    assert v1_conversion.from_json(V1CloudEvent, json.dumps(one.to_cloudevent())) == made


def test_a_data_type_that_is_not_json_is_an_attribute_only_of_texts():
    structured = event(data={"a": 1}, meta={"datacontenttype": "text/plain"})

    assert "datacontenttype" not in structured.to_cloudevent()
    assert through_the_package(structured) == structured
    assert event(data="x", meta={"datacontenttype": "text/plain"}).to_cloudevent()["datacontenttype"] == "text/plain"


GOOD = {"specversion": "1.0", "type": "t", "source": "/s", "id": "1"}


@pytest.mark.parametrize(
    ("field", "cloudevent"),
    [
        ("specversion", {"type": "t", "source": "/s", "id": "1"}),
        ("specversion", {**GOOD, "specversion": "0.3"}),
        ("type", {**GOOD, "type": None}),
        ("source", {**GOOD, "source": ""}),
        ("id", {**GOOD, "id": 5}),
        ("subject", {**GOOD, "subject": 5}),
        ("time", {**GOOD, "time": "2026-02-05"}),
        ("time", {**GOOD, "time": "2026-02-05T12:00:00"}),
        ("time", {**GOOD, "time": "2026-02-31T12:00:00Z"}),
        ("time", {**GOOD, "time": "0001-01-01T00:00:00+01:00"}),
        ("time", {**GOOD, "time": 5}),
        ("data_base64", {**GOOD, "data_base64": "?"}),
        ("data_base64", {**GOOD, "data_base64": 5}),
        ("data_base64", {**GOOD, "data_base64": "AA==", "data": 1}),
        ("nested", {**GOOD, "nested": {"a": 1}}),
        ("bucketlogmeta", {**GOOD, "bucketlogmeta": "{"}),
        ("bucketlogmeta", {**GOOD, "bucketlogmeta": 5}),
        ("bucketlogmeta", {**GOOD, "bucketlogmeta": "[]"}),
        ("bucketlogevent", {**GOOD, "bucketlogevent": '{"subject":5}'}),
        ("bucketlogevent", {**GOOD, "bucketlogevent": '{"colour":"red"}'}),
        ("5", {**GOOD, 5: "x"}),
        ("event", "text"),
        ("event", None),
    ],
)
def test_what_is_no_cloudevent_is_refused_with_the_attribute(field, cloudevent):
    with pytest.raises(InvalidEventError) as caught:
        Event.from_cloudevent(cloudevent)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("type", {"type": ""}),
        ("id", {"id": None}),
        ("time", {"time": NOW.replace(tzinfo=None)}),
        ("meta", {"meta": {"k": math.nan}}),
        ("meta", {"meta": {"k": object()}}),
    ],
)
def test_what_could_not_be_written_becomes_no_cloudevent_either(field, fields):
    with pytest.raises(InvalidEventError) as caught:
        event(**fields).to_cloudevent()

    assert caught.value.field == field
