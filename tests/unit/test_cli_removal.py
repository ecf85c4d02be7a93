"""`bucketlog truncate` and `bucketlog vacuum`: their output, and that a dry run does nothing."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("typer")

import bucketlog
from bucketlog import Event
from bucketlog.cli import main

MIDNIGHT = datetime(2026, 2, 5, tzinfo=UTC)
UNTIL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def run(capfdbinary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(command):
        code = main(command.split())
        out, err = capfdbinary.readouterr()
        return code, out.decode(), re.sub(r"[\s│]+", " ", err.decode())  # boxes wrap their text

    return run


@pytest.fixture
def store(tmp_path):
    """Two streams: ten events of ten hours, compacted; and two days of one event each."""
    with bucketlog.open(tmp_path / "store") as store:
        for hour in range(10):
            store.stream("orders").append(Event(type="t", time=MIDNIGHT + timedelta(hours=hour)))
        store.stream("orders").compact()
        for day in range(2):
            store.stream("days", partition_by="day").append(Event(type="t", time=MIDNIGHT + timedelta(days=day)))
        yield store


def contents(tmp_path):
    return {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}


def table(output):
    return [re.split(r" {2,}", line.strip()) for line in output.splitlines()]


def rows(output):
    return [json.loads(line) for line in output.splitlines()]


# -- truncate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["4", "2026-02-05T04:00", "2026-02-05T04:00:00+00:00", "2026-02-05T05:00:00+01:00"])
def test_truncate_takes_an_offset_or_a_time(run, store, before):
    code, out, err = run(f"truncate store orders --before {before}")

    assert (code, err) == (0, "")
    assert table(out) == [["partition", "start before", "start", "events"], ["0", "0", "4", "4"]]
    assert next(store.stream("orders").read()).offset == 4
    assert run(f"truncate store orders --before {before}") == (0, "nothing to truncate\n", "")


def test_truncate_shows_each_partition_that_begins_later_and_the_total(run, store):
    code, out, _ = run("truncate store days --before 2026-03-01")

    assert code == 0
    assert table(out)[1:] == [["2026-02-05", "0", "1", "1"], ["2026-02-06", "0", "1", "1"], ["total", "2"]]
    assert list(store.stream("days").read()) == []


def test_truncate_as_json_has_a_line_for_every_partition(run, store):
    code, out, _ = run("truncate store days --before 2026-02-06 --json")

    assert code == 0
    assert rows(out) == [
        {"stream": "days", "partition": "2026-02-05", "start_before": 0, "start": 1, "events": 1},
        {"stream": "days", "partition": "2026-02-06", "start_before": 0, "start": 0, "events": 0},
    ]


def test_truncate_of_one_partition_leaves_the_others(run, store):
    assert run("truncate store days --before 1 --partition 2026-02-06")[0] == 0

    assert [event.partition for event in store.stream("days").read()] == ["2026-02-05"]


def test_truncate_dry_run_tells_the_same_and_does_nothing(run, store, tmp_path):
    before = contents(tmp_path)

    planned = run("truncate store orders --before 4 --dry-run")

    assert contents(tmp_path) == before
    assert planned == run("truncate store orders --before 4")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("orders", 2, "--before"),
        ("orders --before yesterday", 2, "is not a valid time"),
        ("orders --before -3", 2, ""),
        ("nope --before 3", 1, "there is no stream 'nope'"),
        ("orders --before 11", 3, "beyond the end"),
        ("days --before 1", 3, "partition="),
    ],
)
def test_truncate_says_what_is_wrong(run, store, tmp_path, arguments, code, words):
    before = contents(tmp_path)

    found, out, err = run(f"truncate store {arguments}")

    assert (found, out) == (code, "")
    assert words in err
    assert contents(tmp_path) == before


# -- vacuum ------------------------------------------------------------------------------------------------------------


def live_bytes(tmp_path):
    return sum(path.stat().st_size for path in (tmp_path / "store/streams/orders").rglob("*.jsonl"))


def test_vacuum_shows_what_waits_and_until_when(run, store, tmp_path):
    code, out, err = run("vacuum store orders")

    assert (code, err) == (0, "")
    titles, found = table(out)
    assert titles[:5] == ["partition", "segments removed", "bytes removed", "segments waiting", "bytes waiting"]
    assert found[:5] == ["0", "0", "0", "1", str(live_bytes(tmp_path))]
    assert UNTIL.fullmatch(found[5])
    assert [event.offset for event in store.stream("orders").read()] == list(range(10))


def test_vacuum_without_a_grace_removes_at_once_and_then_has_nothing_to_do(run, store, tmp_path):
    size = live_bytes(tmp_path)

    code, out, err = run("vacuum store --grace 0 --exclusive")

    assert (code, err) == (0, "")
    assert table(out)[1:] == [["orders", "1", str(size), "0", "0"]]
    assert live_bytes(tmp_path) == 0
    assert run("vacuum store --grace 0 --exclusive") == (0, "nothing to remove\n", "")


def test_vacuum_shows_a_line_for_each_stream_and_the_total(run, store):
    store.stream("days").compact()

    by_stream = table(run("vacuum store --dry-run --grace 0 --exclusive")[1])
    by_partition = table(run("vacuum store days --dry-run --grace 0 --exclusive")[1])

    assert [row[:2] for row in by_stream[1:]] == [["days", "2"], ["orders", "1"], ["total", "3"]]
    assert [row[:2] for row in by_partition[1:]] == [["2026-02-05", "1"], ["2026-02-06", "1"], ["total", "2"]]


def test_vacuum_as_json_has_a_line_for_every_partition(run, store, tmp_path):
    size = live_bytes(tmp_path)

    code, out, _ = run("vacuum store --json")

    assert code == 0
    assert [(record["stream"], record["partition"]) for record in rows(out)] == [
        ("days", "2026-02-05"),
        ("days", "2026-02-06"),
        ("orders", "0"),
    ]
    orders = rows(out)[-1]
    assert datetime.fromisoformat(orders.pop("waiting_until")) > datetime.now(UTC)
    assert orders == {
        "stream": "orders",
        "partition": "0",
        "floor_before": 0,
        "floor": 10,
        "segments_removed": 0,
        "bytes_removed": 0,
        "segments_waiting": 1,
        "bytes_waiting": size,
    }


def test_vacuum_dry_run_tells_the_same_and_does_nothing(run, store, tmp_path):
    before = contents(tmp_path)

    planned = run("vacuum store --grace 0 --exclusive --dry-run")

    assert contents(tmp_path) == before
    assert planned == run("vacuum store --grace 0 --exclusive")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("nope", 1, "there is no stream 'nope'"),
        ("orders --grace 60", 3, "exclusive=True"),
        ("orders --grace -1", 2, "--grace"),
        ("orders --grace soon", 2, "--grace"),
    ],
)
def test_vacuum_says_what_is_wrong(run, store, tmp_path, arguments, code, words):
    before = contents(tmp_path)

    found, out, err = run(f"vacuum store {arguments}")

    assert (found, out) == (code, "")
    assert words in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", ["vacuum nowhere", "truncate nowhere orders --before 3"])
def test_no_store_is_made(run, tmp_path, command):
    code, out, err = run(command)

    assert (code, out) == (3, "")
    assert "there is no such directory" in err
    assert not (tmp_path / "nowhere").exists()


def test_what_was_done_before_a_failure_is_shown(run, store, tmp_path):
    store.stream("zzz").append(Event(type="t"))
    (tmp_path / "store/streams/zzz/0/bounds.json").write_bytes(b"{")

    code, out, err = run("vacuum store --grace 0 --exclusive")

    assert code == 3
    assert table(out)[1][:2] == ["orders", "1"]
    assert "bounds.json is damaged" in err
