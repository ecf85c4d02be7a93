"""Reading: filters, cursors, the newest events, and one event by its id."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from bucketlog.cursor import Cursor
from bucketlog.errors import (
    OffsetOutOfRangeError,
)
from bucketlog.event import Event
from bucketlog.testing.store.harness import (
    START,
    StoreTests,
    ids_of,
    make_event,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bucketlog.store import EventStore
    from bucketlog.stream import Stream


class ReadingTests(StoreTests):
    """Reads, filters, cursors, `recent` and `get`."""

    # -- read ----------------------------------------------------------------------------------------------------------

    def test_stream_that_was_never_written_reads_as_empty(self, store: EventStore) -> None:
        """Reading a stream that does not exist is not an error and does not create it."""
        stream = store.stream("nothing")

        assert list(stream.read()) == []
        assert list(stream.read(partitions=["0"])) == []
        assert list(stream.read_batches()) == []
        assert stream.recent(5) == []
        assert stream.get("e0") is None
        assert stream.partitions() == []
        assert stream.cursor() == {}
        assert stream.stats().events == 0
        assert stream.verify().ok
        assert store.streams() == []

    def test_events_come_partition_by_partition_in_order(self, store: EventStore) -> None:
        """`read` yields partitions in the order of their names and, within each, events by offset."""
        stream = store.stream("orders")
        for number, partition in enumerate(["b", "a", "c", "a", "b"]):
            stream.append([make_event(2 * number), make_event(2 * number + 1)], partition=partition)

        found = [(event.partition, event.offset) for event in stream.read()]

        assert found == [("a", n) for n in range(4)] + [("b", n) for n in range(4)] + [("c", n) for n in range(2)]
        assert [event.partition for event in stream.read(partitions=["c", "a"])] == ["a"] * 4 + ["c"] * 2
        assert list(stream.read(partitions=["nowhere"])) == []

    @pytest.mark.parametrize(
        "filters",
        [
            {"types": ["order.placed"]},
            {"types": ["order.placed", "order.paid"]},
            {"types": ["nothing"]},
            {"types": []},
            {"subjects": ["s1"]},
            {"subjects": ["s0", "s2"]},
            {"sources": ["é/日本"]},
            {"tags": ["UA"]},
            {"tags": ["UA", "B6"]},
            {"since": START + timedelta(hours=5)},
            {"until": START + timedelta(hours=5)},
            {"since": START + timedelta(hours=3), "until": START + timedelta(hours=30)},
            {"since": (START + timedelta(hours=3)).astimezone(timezone(timedelta(hours=9)))},
            {"types": ["order.placed", "order.paid"], "subjects": ["s1"], "tags": ["UA"]},
            {"types": ["order.placed"], "since": START + timedelta(hours=4), "sources": ["nyc"]},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("partition_by", ["single", "day"])
    def test_filters_are_ored_inside_and_anded_between(
        self, store: EventStore, partition_by: str, filters: dict[str, Any]
    ) -> None:
        """An event passes if every given filter lists one of its values and `since <= time < until`."""
        stream = store.stream("orders", partition_by=partition_by)
        events = _mixed_events(40)
        stream.append(events[:25])
        stream.append(events[25:])
        in_order = sorted(events, key=lambda event: event.time.date()) if partition_by == "day" else events
        expected = [event.id for event in in_order if _passes(event, filters)]

        reader = stream.read(**filters)

        assert ids_of(reader) == expected
        assert (
            ids_of(itertools.chain.from_iterable(batch.events for batch in stream.read_batches(**filters))) == expected
        )
        assert ids_of(stream.read(**filters, limit=3)) == expected[:3]

    def test_filter_looks_at_its_own_field_only(self, stream: Stream) -> None:
        """A value in another field, or as part of a longer value, does not match."""
        stream.append(
            [
                make_event(0, type="wanted"),
                make_event(1, data={"type": "wanted", "tags": ["wanted"], "subject": "wanted"}),
                make_event(2, type="unwanted", meta={"subject": "wanted"}),
                make_event(3, subject="wanted", data='"type":"wanted"'),
                make_event(4, tags=("wanted",)),
            ]
        )

        assert ids_of(stream.read(types=["wanted"])) == ["e0"]
        assert ids_of(stream.read(subjects=["wanted"])) == ["e3"]
        assert ids_of(stream.read(tags=["wanted"])) == ["e4"]

    def test_naive_times_are_refused(self, stream: Stream) -> None:
        """A time without a zone is ambiguous and raises `ValueError`."""
        naive = START.replace(tzinfo=None)

        for call in (partial(stream.read, since=naive), partial(stream.recent, 1, until=naive)):
            with pytest.raises(ValueError, match="naive"):
                call()

    def test_text_in_place_of_a_list_is_refused(self, stream: Stream) -> None:
        """A filter given as a plain string raises `TypeError`: it would otherwise be read as a list of letters."""
        stream.append(make_event(0))

        for name in ("types", "subjects", "sources", "tags", "partitions"):
            with pytest.raises(TypeError, match=name):
                list(stream.read(**{name: "text"}))  # type: ignore[arg-type]  # the mistake tested here

    def test_limit_caps_the_number_of_events(self, stream: Stream) -> None:
        """`limit` counts the events that pass. 0 reads nothing; a negative limit raises `ValueError`."""
        stream.append([make_event(number) for number in range(5)])

        assert ids_of(stream.read(limit=3)) == ["e0", "e1", "e2"]
        assert ids_of(stream.read(limit=10)) == [f"e{number}" for number in range(5)]
        assert ids_of(stream.read(limit=0)) == []
        assert sum(len(batch.events) for batch in stream.read_batches(limit=3)) == 3
        with pytest.raises(ValueError, match="limit"):
            stream.read(limit=-1)

    def test_batches_hold_what_read_yields(self, store: EventStore) -> None:
        """`read_batches` yields the events of `read` in batches, each of contiguous offsets in one partition."""
        stream = store.stream("orders")
        for number in range(6):
            stream.append([make_event(10 * number + n) for n in range(3)], partition=f"p{number % 2}")

        batches = list(stream.read_batches())

        assert [event for batch in batches for event in batch.events] == list(stream.read())
        for batch in batches:
            assert batch.events
            assert {event.partition for event in batch.events} == {batch.partition}
            places = [event.offset for event in batch.events]
            assert places == list(range(batch.first_offset, batch.first_offset + len(places)))

    def test_long_stream_is_read_whole(self, store: EventStore, other: EventStore) -> None:
        """Thousands of events are read in order and once each, wherever the reader splits them into batches."""
        stream = store.stream("orders")
        for first in range(0, 6000, 2000):
            stream.append([make_event(first + n, data={"text": "x" * (n % 500)}) for n in range(2000)])

        found = list(other.stream("orders").read())

        assert [event.id for event in found] == [f"e{number}" for number in range(6000)]
        assert [event.offset for event in found] == list(range(6000))
        assert [len(event.data["text"]) for event in found[1990:2010]] == [n % 500 for n in range(1990, 2000)] + [
            *range(10)
        ]
        assert ids_of(other.stream("orders").read({"0": 5990})) == [f"e{number}" for number in range(5990, 6000)]

    # -- cursors -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("filters", [{}, {"subjects": ["s1"]}], ids=["all", "filtered"])
    def test_resuming_anywhere_loses_and_repeats_nothing(self, store: EventStore, filters: dict[str, Any]) -> None:
        """A read stopped after any event, by `limit` or by the caller, resumes from its cursor at the next event."""
        stream = store.stream("orders", partition_by="source")
        for part in (_mixed_events(8), _mixed_events(14)[8:]):
            stream.append(part)
        everything = ids_of(stream.read(**filters))

        for count in range(len(everything) + 1):
            limited = stream.read(**filters, limit=count)
            assert ids_of(limited) == everything[:count]
            assert ids_of(stream.read(limited.cursor, **filters)) == everything[count:]

            broken_off = stream.read(**filters)
            assert ids_of(itertools.islice(broken_off, count)) == everything[:count]
            stored = json.loads(json.dumps(dict(broken_off.cursor)))
            assert ids_of(stream.read(stored, **filters)) == everything[count:]

    def test_reading_can_resume_at_every_offset(self, stream: Stream) -> None:
        """A cursor may hold any offset up to the end, including one inside a commit."""
        stream.append([make_event(0), make_event(1), make_event(2)])
        stream.append([make_event(3), make_event(4)])

        for offset in range(6):
            assert ids_of(stream.read({"0": offset})) == [f"e{number}" for number in range(offset, 5)]
            batches = list(stream.read_batches({"0": offset}))
            assert [batch.first_offset for batch in batches[:1]] == [offset] * (offset < 5)

    def test_cursor_of_batches_is_after_the_last_one(self, stream: Stream) -> None:
        """The cursor is after the last batch yielded; with a limit, after the last event yielded."""
        stream.append([make_event(0), make_event(1), make_event(2)])
        reader = stream.read_batches(limit=2)

        [batch] = list(reader)

        assert ids_of(batch.events) == ["e0", "e1"]
        assert reader.cursor == {"0": 2}
        assert ids_of(stream.read(reader.cursor)) == ["e2"]

    def test_cursor_of_a_filtered_read_skips_what_it_examined(self, store: EventStore) -> None:
        """At the end of a filtered read, the cursor is at the end of the stream, even if no event passed."""
        stream = store.stream("orders")
        stream.append([make_event(0), make_event(1)], partition="a")
        stream.append([make_event(2), make_event(3)], partition="b")
        reader = stream.read(types=["none of these"])

        assert ids_of(reader) == []

        assert reader.cursor == stream.cursor() == {"a": 2, "b": 2}

    def test_cursor_of_the_stream_is_where_it_ends(self, store: EventStore, other: EventStore) -> None:
        """`stream.cursor()` has the next offset of every partition: reading from it yields only later events."""
        stream = store.stream("orders")
        stream.append([make_event(0), make_event(1)], partition="a")
        end = other.stream("orders").cursor()
        stream.append(make_event(2), partition="a")
        stream.append(make_event(3), partition="b")

        assert isinstance(end, Cursor)
        assert end == {"a": 2}
        assert ids_of(other.stream("orders").read(end)) == ["e2", "e3"]

    def test_late_event_is_never_missed_by_a_cursor(self, store: EventStore) -> None:
        """An event written now with an old time is after every cursor taken before."""
        days = store.stream("days", partition_by="day")
        days.append([make_event(0), make_event(1, days=1)])
        reader = days.read()
        assert ids_of(reader) == ["e0", "e1"]

        days.append([make_event(2), make_event(3, days=-7)])

        assert ids_of(days.read(reader.cursor)) == ["e3", "e2"]

    @pytest.mark.parametrize(
        ("cursor", "end"), [({"0": 4}, 3), ({"0": 2**40}, 3), ({"0": 1, "gone": 1}, 0)], ids=["one", "far", "partition"]
    )
    def test_cursor_beyond_the_end_is_out_of_range(self, stream: Stream, cursor: dict[str, int], end: int) -> None:
        """A cursor past the end raises `OffsetOutOfRangeError` and never skips: the log may be a restored copy."""
        stream.append([make_event(0), make_event(1), make_event(2)])
        wrong = max(cursor, key=lambda name: name == "gone")

        for read in (partial(stream.read, cursor), partial(stream.read_batches, cursor)):
            with pytest.raises(OffsetOutOfRangeError) as caught:
                list(read())
            error = caught.value
            assert (error.partition, error.offset, error.start, error.next_offset) == (wrong, cursor[wrong], 0, end)
        with pytest.raises(OffsetOutOfRangeError), stream.tail(cursor) as tail:
            list(tail)

    @pytest.mark.parametrize("wrong", [{"0": -1}, {"0": 1.5}, {"0": "1"}, {"": 1}, ["0"], "0", 3])
    def test_invalid_cursor_is_refused(self, stream: Stream, wrong: Any) -> None:  # noqa: ANN401
        """A cursor maps partitions to offsets. Anything else raises `ValueError` at the call, before reading."""
        for call in (stream.read, stream.read_batches, stream.tail):
            with pytest.raises(ValueError, match="cursor"):
                call(wrong)

    # -- recent and get ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "filters",
        [
            {},
            {"types": ["order.placed", "order.paid"]},
            {"subject": "s1"},
            {"source": "nyc"},
            {"tags": ["UA"]},
            {"since": START + timedelta(hours=3), "until": START + timedelta(hours=30)},
            {"subject": "s2", "types": ["order.paid"], "until": START + timedelta(hours=40)},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("partition_by", ["single", "day"])
    def test_recent_is_the_newest_by_time_and_id(
        self, store: EventStore, partition_by: str, filters: dict[str, Any]
    ) -> None:
        """`recent(n)` returns the n greatest by `(time, id)`, newest first, wherever and whenever they were written."""
        stream = store.stream("orders", partition_by=partition_by)
        events = _mixed_events(40)
        stream.append(events[:30])
        stream.append(events[30:])
        model = sorted(events, key=lambda event: (event.time, event.id), reverse=True)
        lists = {f"{name}s" if name in ("subject", "source") else name: value for name, value in filters.items()}
        lists = {name: [value] if isinstance(value, str) else value for name, value in lists.items()}
        expected = [event.id for event in model if _passes(event, lists)]

        for count in (1, 4, 100):
            assert [event.id for event in stream.recent(count, **filters)] == expected[:count]
        assert stream.recent(0, **filters) == []

    def test_recent_sorts_late_events_by_their_time(self, store: EventStore) -> None:
        """`recent` orders events by their time, not by when they were written."""
        days = store.stream("days", partition_by="day")
        days.append([make_event(0), make_event(1, days=2)])
        days.append(make_event(2, days=1))

        assert [event.id for event in days.recent(3)] == ["e1", "e2", "e0"]

    def test_get_finds_an_event_by_its_id(self, store: EventStore, other: EventStore) -> None:
        """`get` returns the event with its partition and offset, or None. It searches all partitions."""
        stream = store.stream("orders")
        stream.append([make_event(0), make_event(1)], partition="a")
        stream.append([make_event(2, id='é "quoted"')], partition="b")

        found = other.stream("orders").get("e1")
        strange = other.stream("orders").get('é "quoted"')

        assert found is not None
        assert (found.id, found.partition, found.offset, found.data) == ("e1", "a", 1, 1)
        assert strange is not None
        assert strange.partition == "b"
        assert stream.get("e") is None


def _mixed_events(count: int) -> list[Event]:
    """Return events that differ in every field that filters look at, over two days, in no order of time."""
    types, tags = ["order.placed", "order.paid", "order.sent"], ["UA", "B6", "AA"]
    return [
        Event(
            type=types[number % 3],
            id=f"id-{(number * 7) % count:03}" if count % 7 else f"id-{number:03}",
            subject=f"s{number % 4}" if number % 5 else None,
            source=["nyc", "ewr", "é/日本"][(number // 2) % 3],
            time=START + timedelta(hours=(number * 11) % 36),
            tags=tuple(tags[: number % 4]),
            data={"number": number, "types": types},
        )
        for number in range(count)
    ]


def _passes(event: Event, filters: Mapping[str, Any]) -> bool:
    """Return True if an event passes filters: an independent implementation to compare with."""
    values: dict[str, Sequence[str | None]] = {
        "types": [event.type],
        "subjects": [event.subject],
        "sources": [event.source],
        "tags": event.tags,
    }
    return all(
        event.time >= value
        if name == "since"
        else event.time < value
        if name == "until"
        else any(item in value for item in values[name])
        for name, value in filters.items()
    )
