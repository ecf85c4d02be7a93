"""From a row's columns to an event."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest

from bucketlog import Event
from bucketlog.cli.mapping import EventMapping

NOON = datetime(2026, 2, 5, 12, tzinfo=UTC)


def to_event(columns, **mapping):
    return EventMapping(**mapping).mapper()(columns)


def fields(event):
    return (event.type, event.id, event.time, event.subject, event.source, event.tags, event.data, event.meta)


def test_columns_that_have_a_field_s_name_become_that_field_and_the_others_the_data():
    event = to_event(
        {
            "type": "t",
            "id": "i",
            "time": "2026-02-05T12:00:00Z",
            "subject": "s",
            "source": "o",
            "tags": ["a", "b"],
            "meta": {"by": "me"},
            "total": 42,
            "offset": 7,
        }
    )

    assert fields(event) == ("t", "i", NOON, "s", "o", ("a", "b"), {"total": 42, "offset": 7}, {"by": "me"})


def test_named_columns_become_fields_and_leave_the_data_but_those_of_tags_stay():
    event = to_event(
        {"kind": "t", "no": 17, "at": "2026-02-05T12:00:00Z", "who": "s", "from": "o", "shop": "eu", "total": 42},
        type_column="kind",
        id_column="no",
        time_column="at",
        subject_column="who",
        source_column="from",
        tags=("all",),
        tag_columns=("shop", "missing"),
    )

    assert fields(event) == ("t", "17", NOON, "s", "o", ("all", "eu"), {"shop": "eu", "total": 42}, {})


def test_what_is_said_for_all_events_leaves_columns_of_that_name_to_the_data():
    event = to_event({"type": "A320", "source": "x"}, type="landed", source="tower")

    assert (event.type, event.source, event.data) == ("landed", "tower", {"type": "A320", "source": "x"})


def test_only_the_columns_asked_for_are_kept_in_the_data():
    event = to_event(
        {"id": "i", "subject": "s", "a": 1, "b": 2, "data": 3}, type="t", data_columns=("b", "subject", "none")
    )

    assert event.data == {"b": 2, "subject": "s"}
    assert (event.id, event.subject) == ("i", None)


def test_an_event_as_read_prints_it_comes_back_unchanged():
    event = Event(
        type="t",
        subject="",
        source="o",
        tags=("a", "a,b"),
        data={"n": [1, 2.5, None, 2**70]},
        meta={"k": None, "f": 1.5},
        partition="p",
        offset=3,
    )

    again = to_event(msgspec.json.decode(msgspec.json.encode(event)))

    assert again == event
    assert (again.partition, again.offset) == (None, None)


def test_an_option_replaces_the_field_of_an_event_as_read_prints_it():
    event = Event(type="t", source="here", data=[1])

    again = to_event(msgspec.json.decode(msgspec.json.encode(event)), source="mirror")

    assert (again.source, again.data, again.id) == ("mirror", [1], event.id)


def test_a_column_named_data_is_the_data():
    assert to_event({"data": [1, 2]}, type="t").data == [1, 2]
    assert to_event({"id": "x"}, type="t").data is None


def test_the_cells_of_csv_named_data_and_meta_are_ordinary_columns():
    assert to_event({"data": "x", "meta": "y"}, type="t", from_csv=True).data == {"data": "x", "meta": "y"}


def test_numbers_of_csv_are_read_as_such_when_asked_for_and_only_in_the_data():
    cells = {
        "subject": "0017",
        "a": "17",
        "b": "-1.50",
        "c": "0017",
        "d": "1e5",
        "e": "true",
        "f": None,
        "g": "9" * 30,
        "h": "٣",
        "i": "1.",
    }

    event = to_event(cells, type="t", from_csv=True, numbers=True)

    assert event.subject == "0017"
    del cells["subject"]
    assert event.data == {**cells, "a": 17, "b": -1.5, "e": True}
    assert to_event(cells, type="t", from_csv=True).data == cells


@pytest.mark.parametrize(
    ("value", "mapping", "expected"),
    [
        ("2026-02-05T13:00:00+01:00", {}, NOON),
        ("2026-02-05T13:00", {"time_zone": ZoneInfo("Europe/Berlin")}, NOON),
        ("2026-02-05T12:00Z", {"time_zone": ZoneInfo("Europe/Berlin")}, NOON),
        ("05.02.2026 12h", {"time_format": "%d.%m.%Y %Hh", "time_zone": UTC}, NOON),
        (1770292800, {"time_format": "unix"}, NOON),
        ("1770292800.5", {"time_format": "unix"}, NOON.replace(microsecond=500_000)),
        (1770292800123, {"time_format": "unix-ms"}, NOON.replace(microsecond=123_000)),
        ("-1000", {"time_format": "unix-ms"}, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times_are_parsed_as_the_options_say(value, mapping, expected):
    assert to_event({"time": value}, type="t", **mapping).time == expected


@pytest.mark.parametrize(
    ("columns", "mapping", "why"),
    [
        ({}, {}, "it has no type; use --type"),
        ({"type": None}, {}, "it has no type"),
        ({"kind": None}, {"type_column": "kind"}, "column 'kind', which should hold the type, is missing or empty"),
        ({}, {"type": "t", "id_column": "no"}, "column 'no', which should hold the id,"),
        ({"at": None}, {"type": "t", "time_column": "at"}, "column 'at', which should hold the time,"),
        ({"time": "2026-02-05T12:00"}, {"type": "t"}, "no time zone; set one with --time-zone"),
        ({"time": "tomorrow"}, {"type": "t"}, "'tomorrow' does not match ISO 8601; set the format"),
        ({"time": "tomorrow"}, {"type": "t", "time_format": "%H"}, "does not match '%H'"),
        ({"time": 12}, {"type": "t"}, "use --time-format unix"),
        ({"time": True}, {"type": "t", "time_format": "unix"}, "not a valid unix time"),
        ({"time": "x"}, {"type": "t", "time_format": "unix"}, "not a valid unix time"),
        ({"time": float("nan")}, {"type": "t", "time_format": "unix"}, "not a valid unix time"),
        ({"time": 10**30}, {"type": "t", "time_format": "unix-ms"}, "not a valid unix-ms time"),
        ({"subject": 1.5}, {"type": "t"}, "its subject is neither a string nor an integer"),
        ({"id": True}, {"type": "t"}, "its id is neither"),
        ({"tags": [{}]}, {"type": "t"}, "its tag is neither"),
        ({"meta": "x"}, {"type": "t"}, "use --data-column meta"),
        ({"data": 1, "b": 2, "a": 3}, {"type": "t"}, r"both 'data' and other columns \(a, b\)"),
    ],
)
def test_a_row_that_makes_no_event_is_refused_with_what_to_do(columns, mapping, why):
    with pytest.raises(ValueError, match=why):
        to_event(columns, **mapping)


def test_a_row_without_an_id_gets_the_same_one_every_time():
    first, again = (to_event({"a": 1, "b": 2}, type="t").id for _ in range(2))
    reordered = to_event({"b": 2, "a": 1}, type="t").id
    other = to_event({"a": 1, "b": 3}, type="t").id

    assert first == again == reordered
    assert len(first) == 32
    assert other != first


def test_equal_rows_get_ids_that_tell_which_of_them_it_is():
    def ids():
        mapper = EventMapping(type="t").mapper()
        return [mapper({"a": value}).id for value in (1, 2, 1, 1)]

    made = ids()

    assert len(set(made)) == 4
    assert made[2:] == [f"{made[0]}-2", f"{made[0]}-3"]
    assert ids() == made
