"""Record batches: what a read hands out, as columns."""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("duckdb")
pytest.importorskip("polars")
pytest.importorskip("pyarrow")

import duckdb
import polars
import pyarrow as pa

import bucketlog
from bucketlog import Event, arrow_schema
from bucketlog.errors import CapabilityError, CorruptSegmentError
from bucketlog.format.segments import ALL_BEFORE_SYNCED, seal_commit, segment_name
from bucketlog.reading import arrow

from .stores import KINDS, event, ids, opened_storage

FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(arrow, "BATCH_ROWS", 20)
    monkeypatch.setattr(arrow, "_PART_ROWS", 7)


def row(one):
    """What a record batch says of an event."""
    return {
        "type": one.type,
        "id": one.id,
        "source": one.source,
        "subject": one.subject,
        "time": one.time,
        "tags": list(one.tags),
        "data": one.data,
        "meta": one.meta,
        "partition": one.partition,
        "offset": one.offset,
    }


def rows(batches):
    found = pa.Table.from_batches(batches, arrow_schema()).to_pylist()
    return [
        {**one, "data": json.loads(one["data"] or "null"), "meta": json.loads(one["meta"] or "{}")} for one in found
    ]


def put_lines(storage, lines):
    """Store a commit as another program might have written it."""
    commit = seal_commit(lines, events=lines.count(b"\n"), flags=ALL_BEFORE_SYNCED, write_id="0" * 16)
    storage.backend.put(f"streams/s/0/{segment_name(0)}", commit)
    return storage.open().stream("s")


VARIETY = [
    Event(type="plain"),
    Event(type="full", source="/s", subject="o-17", tags=("a", "b", ""), data={"n": [1, 2.5, None]}, meta={"k": True}),
    Event(type="für 🦉", id="ü", source="ß", subject="日本", tags=("é",), data="🦉", meta={"ключ": "☃", "n": 1.5}),
    Event(type="null", data=None),
    Event(type="word", data="null"),
    Event(type="nested null", data=[None]),
    Event(type="empty", source="", subject="", tags=(), data={}, meta={"": None}),
    Event(type="escaped", data='"\\\n\u2028\x00', subject="\x01\t"),
    Event(type="first", time=FIRST),
    Event(type="last", time=LAST, data=0),
    Event(type="before 1970", time=datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), data=False),
    Event(type="long", data="x" * 2_000_000),
]


# -- columns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compacted", [False, True])
def test_record_batches_hold_all_fields_of_all_events(storage, compacted):
    stream = storage.open().stream("s")
    stream.append(VARIETY)
    if compacted:
        stream.compact()

    batches = list(stream.read_arrow())

    for batch in batches:
        batch.validate(full=True)
        assert batch.schema == arrow_schema()
    assert rows(batches) == [row(one) for one in stream.read()]


def test_the_schema_has_the_fields_of_an_event_in_their_order(storage):
    schema = arrow_schema()

    assert schema.names == list(Event.__struct_fields__)
    assert schema.field("time").type == pa.timestamp("us", tz="UTC")
    assert schema.field("tags").type == pa.list_(pa.string())
    assert schema.field("offset").type == pa.int64()
    assert {schema.field(name).type for name in ("type", "id", "source", "subject", "data", "meta", "partition")} == {
        pa.string()
    }
    assert storage.open().stream("s").read_arrow().schema == schema


def test_data_is_the_text_in_the_log_untouched(storage):
    lines = (
        b'{"type":"t","id":"a","time":"2026-02-05T12:30:00Z","data":{ "n" : 1.50e+2,\t"n":"\\u00e9" } }\n'
        b'{"type":"t","id":"b","time":"2026-02-05T12:30:00Z","data":null,"meta":{}}\n'
        b'{"type":"t","id":"c","time":"2026-02-05T12:30:00Z","data":"null"}\n'
        b'{"type":"t","id":"d","time":"2026-02-05T12:30:00+02:00","data":12345678901234567890.000}\n'
    )
    stream = put_lines(storage, lines)

    (batch,) = stream.read_arrow()

    assert batch["data"].to_pylist() == [
        '{ "n" : 1.50e+2,\t"n":"\\u00e9" }',
        None,
        '"null"',
        "12345678901234567890.000",
    ]
    assert batch["meta"].to_pylist() == [None] * 4
    assert batch["time"].to_pylist()[3] == datetime(2026, 2, 5, 10, 30, tzinfo=UTC)


def test_data_stays_text_when_somebody_beside_us_has_theirs_decoded(storage):
    stream = storage.open().stream("s")
    for number in range(6):
        stream.append([event(number * 1000 + place, data={"n": place}) for place in range(1000)])

    texts = []
    beside = iter(stream.read())
    for batch in stream.read_arrow():
        for _ in range(3000):
            next(beside, event(0)).data  # noqa: B018
        texts += batch["data"].to_pylist()

    assert texts == [f'{{"n":{place}}}' for _ in range(6) for place in range(1000)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"type":"t","id":"a","time":"2026-02-05T12:30:00Z","data":"\xff"}\n', "utf-8"),
        (b'{"type":"t","id":"a","time":"2026-02-05T12:30:00"}\n', "naive"),
    ],
)
def test_what_no_column_can_hold_is_damage(storage, line, why):
    good = b'{"type":"t","id":"b","time":"2026-02-05T12:30:00Z"}\n'
    stream = put_lines(storage, good + line)

    with pytest.raises(CorruptSegmentError, match=f"partition '0' as Arrow: between offset 0 and 1 .*{why}") as error:
        list(stream.read_arrow())

    assert error.value.offset == 0


# -- batches and cursors -----------------------------------------------------------------------------------------------


def test_small_commits_are_joined_and_partitions_too(storage):
    stream = storage.open().stream("s", partition_by="hash:8")
    for number in range(0, 300, 3):
        stream.append([event(number + place, subject=f"o-{place + number}") for place in range(3)])

    batches = list(stream.read_arrow())

    assert [batch.num_rows for batch in batches] == [300]
    assert rows(batches) == [row(one) for one in stream.read()]
    assert len(set(batches[0]["partition"].to_pylist())) == 8


def test_batches_are_bounded_in_rows(storage, small_batches):
    stream = storage.open().stream("s")
    for number in range(0, 90, 3):
        stream.append([event(number + place) for place in range(3)])

    sizes = [batch.num_rows for batch in stream.read_arrow()]

    assert sum(sizes) == 90
    assert all(size >= 20 for size in sizes[:-1])
    assert max(sizes) <= 20 + 3 or storage.kind != "put"  # elsewhere so few bytes are read and decoded at once


def test_batches_are_bounded_in_bytes(storage, monkeypatch):
    monkeypatch.setattr(arrow, "BATCH_BYTES", 500_000)
    monkeypatch.setattr(arrow, "_PART_BYTES", 100_000)
    stream = storage.open().stream("s")
    for number in range(20):
        stream.append(event(number, data="x" * 200_000))

    batches = list(stream.read_arrow())

    assert sum(batch.num_rows for batch in batches) == 20
    assert all(batch.nbytes < 1_200_000 for batch in batches)


@pytest.mark.parametrize("filters", [{}, {"types": ["b"]}, {"types": ["none"]}, {"limit": 33}, {"limit": 0}])
def test_the_cursor_goes_on_behind_what_was_handed_out(storage, small_batches, filters):
    stream = storage.open().stream("s", partition_by="hash:3")
    for number in range(0, 150, 5):
        stream.append([event(number + k, subject=f"o-{k}", type="abc"[number % 3]) for k in range(5)])
    wanted = {name: value for name, value in filters.items() if name != "limit"}
    expected = ids(stream.read(**wanted))

    reader = stream.read_arrow(**filters)
    seen = []
    assert reader.cursor == {}
    for batch in reader:
        seen += batch["id"].to_pylist()
        assert ids(stream.read(reader.cursor, **wanted)) == expected[len(seen) :]

    assert seen == expected[: filters.get("limit")]
    assert ids(stream.read(reader.cursor, **wanted)) == expected[len(seen) :]
    if "limit" not in filters:
        assert reader.cursor == stream.cursor()


def test_what_stands_before_damage_is_handed_out_before_the_error(storage, small_batches):
    stream = storage.open().stream("s", partition_by="source")
    for number in range(65):
        stream.append(event(number, source="a"))
    stream.append(event(100, source="b"))
    key = f"streams/s/b/{segment_name(0)}"
    storage.backend.put(key, b"x" + storage.backend.get(key).data[1:])

    reader, seen = storage.open().stream("s").read_arrow(), []
    with pytest.raises(CorruptSegmentError) as error:
        seen.extend(offset for batch in reader for offset in batch["offset"].to_pylist())

    assert error.value.key == key
    assert seen == list(range(65))
    assert reader.cursor == {"a": 65}


def test_reading_can_be_broken_off_and_gone_on_with(storage, small_batches):
    stream = storage.open().stream("s")
    stream.append([event(number) for number in range(100)])
    stream.append([event(number) for number in range(100, 150)])

    with stream.read_arrow() as reader:
        first = next(reader)
    rest = list(stream.read_arrow(reader.cursor))

    assert [one for batch in [first, *rest] for one in batch["offset"].to_pylist()] == list(range(150))
    assert list(reader) == []


def test_an_empty_stream_has_no_batches_and_a_negative_limit_is_refused(storage):
    stream = storage.open().stream("s")

    assert list(stream.read_arrow()) == []
    assert pa.table(stream.read_arrow()).schema == arrow_schema()
    with pytest.raises(ValueError, match="limit=-1 is negative"):
        stream.read_arrow(limit=-1)


def test_the_async_surface_hands_out_the_same(storage, small_batches):
    stream = storage.open().stream("s")
    stream.append([event(number) for number in range(100)])

    async def main():
        async with bucketlog.aopen(storage.open_backend()) as store:
            reader = store.stream("s").read_arrow(types=["test.event"])
            return [batch async for batch in reader], reader.cursor, await store.stream("s").splits(2)

    batches, cursor, splits = asyncio.run(main())

    assert rows(batches) == [row(one) for one in stream.read()]
    assert cursor == {"0": 100}
    assert splits == stream.splits(2)


# -- other programs ----------------------------------------------------------------------------------------------------


def test_polars_duckdb_and_pyarrow_take_a_reader(storage, small_batches):
    stream = storage.open().stream("s", partition_by="hash:2")
    for number in range(40):
        stream.append(event(number, subject=f"o-{number % 5}", type="ab"[number % 2], data={"n": number}))

    frame = polars.DataFrame(stream.read_arrow())
    table = pa.table(stream.read_arrow(types=["a"]))
    reader = stream.read_arrow()  # DuckDB finds it by its name
    total = duckdb.sql("SELECT sum(CAST(data->>'n' AS BIGINT)) AS total FROM reader WHERE type = 'b'").fetchall()

    assert frame["offset"].to_list() == [one.offset for one in stream.read()]
    assert frame["time"].to_list() == [one.time for one in stream.read()]
    assert table["id"].to_pylist() == ids(stream.read(types=["a"]))
    assert total == [(sum(range(1, 40, 2)),)]
    assert reader.cursor == stream.cursor()


def test_a_reader_that_was_used_up_is_not_taken_for_an_empty_stream(storage):
    stream = storage.open().stream("s")
    stream.append([event(number) for number in range(10)])
    reader = stream.read_arrow()
    assert reader.__arrow_c_stream__() is not None  # of which nothing was read
    assert pa.table(reader).num_rows == 10

    for take in (pa.table, polars.DataFrame, lambda reader: duckdb.sql("FROM reader").fetchall()):
        with pytest.raises(Exception, match="this reader was used up; call read_arrow"):
            take(reader)

    begun = stream.read_arrow(limit=0)
    assert list(begun) == []
    assert pa.table(begun).num_rows == 0


def test_damage_reaches_whoever_reads_through_arrow(storage):
    good = b'{"type":"t","id":"b","time":"2026-02-05T12:30:00Z"}\n'
    stream = put_lines(storage, good + b'{"type":"t","id":"a","time":"2026-02-05T12:30:00"}\n')

    with pytest.raises(CorruptSegmentError):
        pa.RecordBatchReader.from_batches(arrow_schema(), stream.read_arrow()).read_all()
    with pytest.raises(Exception, match="a line is not an event"):
        pa.table(stream.read_arrow())
    with pytest.raises(Exception, match="a line is not an event"):
        polars.DataFrame(stream.read_arrow())


def test_without_pyarrow_the_error_names_the_extra(storage, monkeypatch):
    stream = storage.open().stream("s")
    stream.append(event(0))
    (split,) = stream.splits(1)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    for call in (stream.read_arrow, split.read_arrow, arrow_schema):
        with pytest.raises(CapabilityError, match=r'pyarrow is not installed; pip install "bucketlog\[arrow\]"'):
            call()


def test_times_to_the_microsecond_survive(storage):
    times = [datetime(2026, 2, 5, tzinfo=UTC) + timedelta(microseconds=7**k) for k in range(18)]
    stream = storage.open().stream("s")
    stream.append([event(number, time=time) for number, time in enumerate(times)])

    (batch,) = stream.read_arrow()

    assert batch["time"].to_pylist() == times
