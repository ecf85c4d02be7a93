"""The commands, called as from a shell: arguments in, output and an exit code out."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("typer")

import bucketlog
from bucketlog import Event
from bucketlog.cli import main
from bucketlog.cli.app import COMMANDS
from bucketlog.cli.arguments import open_to_read
from bucketlog.cli.output import event_line
from bucketlog.cli.reference import reference

ORDERS_CSV = "no,when,who,total\n1,2026-02-05T10:00,bob,17\n2,2026-02-06T11:00,ann,\n2,2026-02-06T11:00,ann,\n"


@pytest.fixture
def run(capfdbinary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*args, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([str(arg) for arg in args])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), re.sub(r"[\s│]+", " ", err.decode())  # boxes wrap their text

    return run


@pytest.fixture
def store(tmp_path):
    with bucketlog.open(tmp_path / "store") as store:
        yield store


def event(number, **more):
    time = datetime(2026, 2, 5, 12, number, tzinfo=UTC)
    return Event(**{"type": "t", "id": f"e{number}", "time": time, "data": {"n": number}} | more)


def ids(output):
    return [json.loads(line)["id"] for line in output.splitlines()]


def table(output):
    return [re.split(r" {2,}", line.strip()) for line in output.splitlines()]


# -- append ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_append_stores_an_event_with_all_that_was_said_of_it(run):
    options = "--type t --id i --subject s --source o --tag a --tag b --meta k=v=w --time 2026-02-05T13:00+01:00"

    code, out, _ = run("append", "store", "orders", '{"total": 42}', *options.split())

    assert (code, out) == (0, "i at 0/0\n")
    with bucketlog.open("store") as store:
        (stored,) = store.stream("orders").read()
    assert stored == Event(
        type="t",
        id="i",
        subject="s",
        source="o",
        tags=("a", "b"),
        meta={"k": "v=w"},
        time=datetime(2026, 2, 5, 12, tzinfo=UTC),
        data={"total": 42},
    )


def test_append_takes_data_from_standard_input_and_none_is_null(run):
    run("append", "store", "orders", "-", "--type", "t", stdin=b'["\xc3\xa4"]')
    run("append", "store", "orders", "--type", "t", stdin=b"not looked at")

    with bucketlog.open("store") as store:
        assert [event.data for event in store.stream("orders").read()] == [["ä"], None]


def test_append_tells_programs_where_the_event_is_and_whether_it_was_there(run):
    for duplicate in (False, True):
        code, out, _ = run(
            *("append", "store", "orders", "--type", "t", "--id", "i", "--time", "2026-02-05"),
            *("--partition-by", "day", "--on-duplicate", "return", "--json"),
        )

        assert code == 0
        assert json.loads(out) == {"id": "i", "partition": "2026-02-05", "offset": 0, "duplicate": duplicate}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["hello", "--type", "t"], "not JSON"),
        (["{}"], "--type"),
        (["--type", "t", "--meta", "k"], "write --meta KEY=VALUE"),
        (["--type", "t", "--time", "soon"], "'soon' is not a valid time; write 2026-02-05"),
        (["--type", "t", "--on-duplicate", "perhaps"], "perhaps"),
        (["--type", "t", "-o", "secret"], "write -o KEY=VALUE"),
    ],
)
def test_wrong_usage_ends_with_2_says_why_and_makes_no_store(run, args, says):
    code, out, err = run("append", "store", "orders", *args)

    assert (code, out) == (2, "")
    assert says in err
    assert not Path("store").exists()


def test_an_option_without_a_value_is_not_shown_as_it_may_be_a_secret(run):
    _, _, err = run("streams", "store", "-o", "s3cret")

    assert "KEY=VALUE" in err
    assert "s3cret" not in err


def test_an_error_of_the_store_is_one_line_and_ends_with_3(run, store):
    store.stream("orders").append(event(1))

    code, out, err = run("append", "store", "orders", "--type", "t", "--expected-offset", "7")

    assert (code, out) == (3, "")
    assert err.startswith("bucketlog: append to file://")
    assert "expected offset 7, the next is 1" in err


# -- read --------------------------------------------------------------------------------------------------------------


def test_read_prints_events_for_people_one_a_line(run, store):
    store.stream("orders").append([event(1, subject="s", tags=["a", "b"]), event(2, data=None)])

    code, out, err = run("read", "store", "orders")

    assert (code, err) == (0, "")
    assert out == '2026-02-05T12:01:00Z 0/0 t s #a #b {"n":1}\n2026-02-05T12:02:00Z 0/1 t\n'


def test_nothing_in_an_event_can_break_its_line_or_reach_the_terminal_as_a_command(run, store):
    store.stream("orders").append(event(1, type="a\nb", subject="\x1b[31m", tags=["\x9b"], data="\x1b\u2028"))

    _, out, _ = run("read", "store", "orders")

    assert out == '2026-02-05T12:01:00Z 0/0 a\\nb \\x1b[31m #\\x9b "\\u001b\\u2028"\n'


def test_on_a_terminal_a_line_is_cut_at_its_width():
    shown = event_line(event(1, subject="ä" * 50, partition="0", offset=0), width=40)

    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert plain == f"2026-02-05T12:01:00Z 0/0 t {'ä' * 12}…"
    assert shown != plain


def test_read_prints_whole_events_for_programs(run, store):
    store.stream("orders").append(event(1, tags=["a"]))

    _, out, _ = run("read", "store", "orders", "--json")

    assert json.loads(out) == {
        "type": "t",
        "id": "e1",
        "source": None,
        "subject": None,
        "time": "2026-02-05T12:01:00Z",
        "tags": ["a"],
        "data": {"n": 1},
        "meta": {},
        "partition": "0",
        "offset": 0,
    }


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("--type u --type w", ["e2"]),
        ("--subject s", ["e3"]),
        ("--source o", ["e4"]),
        ("--tag a --tag b", ["e1", "e2"]),
        ("--tag a --type t", ["e1"]),
        ("--since 2026-02-05T12:03", ["e3", "e4"]),
        ("--until 2026-02-05T13:03+01:00", ["e1", "e2"]),
        ("--limit 2", ["e1", "e2"]),
        ("-n 0", []),
        ("--partition 1", []),
        ("--partition 0 -n 1", ["e1"]),
        ("""--after '{"0": 3}'""", ["e4"]),
    ],
)
def test_read_passes_filters_on(run, store, options, found):
    store.stream("orders").append(
        [event(1, tags=["a"]), event(2, type="u", tags=["b"]), event(3, subject="s"), event(4, source="o")]
    )

    code, out, _ = run("read", "store", "orders", "--json", *shlex.split(options))

    assert code == 0
    assert ids(out) == found


def test_a_cursor_file_makes_every_run_go_on_where_the_last_one_ended(run, store):
    orders = store.stream("orders")
    read = ("read", "store", "orders", "--json", "--cursor-file", "cursor")
    orders.append([event(1), event(2), event(3)])

    first, second = run(*read, "-n", "2")[1], run(*read)[1]
    orders.append(event(4))
    third, fourth = run(*read)[1], run(*read)[1]

    assert [ids(out) for out in (first, second, third, fourth)] == [["e1", "e2"], ["e3"], ["e4"], []]


def test_a_cursor_file_without_a_cursor_is_refused_and_not_changed(run, store):
    store.stream("orders").append(event(1))
    Path("cursor").write_text("[]")

    code, out, err = run("read", "store", "orders", "--cursor-file", "cursor")

    assert (code, out) == (2, "")
    assert "cursor: parse a cursor" in err
    assert Path("cursor").read_text() == "[]"


def test_a_cursor_and_a_cursor_file_exclude_each_other(run):
    code, _, err = run("read", "store", "orders", "--after", "{}", "--cursor-file", "cursor")

    assert code == 2
    assert "not both" in err


def test_reading_never_makes_a_store(run):
    for command in ("read", "recent", "tail"):
        code, _, err = run(command, "store", "orders")

        assert code == 3
        assert err.startswith("bucketlog: open ")
    assert not Path("store").exists()


def test_recent_prints_the_newest_first(run, store):
    store.stream("orders").append([event(3), event(1, subject="s"), event(2, subject="s")])

    assert ids(run("recent", "store", "orders", "--json", "-n", "2")[1]) == ["e3", "e2"]
    assert ids(run("recent", "store", "orders", "--json", "--subject", "s")[1]) == ["e2", "e1"]


# -- what there is -----------------------------------------------------------------------------------------------------


def test_streams_are_listed_by_name(run, store):
    assert run("streams", "store") == (0, "", "")
    store.stream("b c").append(event(1))
    store.stream("a").append(event(1))

    assert run("streams", "store")[1] == "stream\na\nb c\n"
    assert run("streams", "store", "--json")[1] == '{"stream":"a"}\n{"stream":"b c"}\n'


def test_stats_count_streams_and_the_partitions_of_one(run, store):
    by_day = store.stream("days", partition_by="day")
    by_day.append([event(1), event(2), event(3, time=datetime(2026, 2, 6, tzinfo=UTC))])
    size = by_day.stats().bytes

    totals = json.loads(run("stats", "store", "--json")[1])
    partitions = [json.loads(line) for line in run("stats", "store", "days", "--json")[1].splitlines()]
    shown = run("stats", "store")[1]

    assert totals == {
        "stream": "days",
        "partition_by": "day",
        "partitions": 2,
        "events": 3,
        "segments": 2,
        "bytes": size,
        "compacted_segments": 0,
        "compacted_bytes": 0,
    }
    assert [(record["partition"], record["start"], record["next_offset"]) for record in partitions] == [
        ("2026-02-05", 0, 2),
        ("2026-02-06", 0, 1),
    ]
    assert table(shown) == [
        [title.replace("_", " ") for title in totals],
        ["days", "day", "2", "3", "2", str(size), "0", "0"],
    ]


def test_stats_tell_what_is_compacted_from_what_is_live(run, store):
    days = store.stream("days", partition_by="day")
    days.append([event(1), event(2)])
    days.compact()
    days.append([event(3), event(4, time=datetime(2026, 2, 6, tzinfo=UTC))])
    stats = days.stats()

    partitions = [json.loads(line) for line in run("stats", "store", "days", "--json")[1].splitlines()]
    total = json.loads(run("stats", "store", "--json")[1])

    assert [(record["segments"], record["compacted_segments"]) for record in partitions] == [(2, 1), (1, 0)]
    assert 0 < partitions[0]["compacted_bytes"] < partitions[0]["bytes"]
    assert partitions[1]["compacted_bytes"] == 0
    assert (total["segments"], total["compacted_segments"]) == (3, 1) == (stats.segments, stats.compacted_segments)
    assert total["compacted_bytes"] == partitions[0]["compacted_bytes"] == stats.compacted_bytes


def test_verify_ends_with_0_for_a_sound_store_and_with_1_for_a_damaged_one(run, store, tmp_path):
    store.stream("orders").append([event(1), event(2)])
    store.stream("orders").append(event(3))

    assert run("verify", "store")[:2] == (0, "'orders': ok; 3 events in 2 commits, 1 segments, 1 partitions\n")
    segment = next((tmp_path / "store" / "streams" / "orders" / "0").glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b"e2", b"eX"))
    code, out, _ = run("verify", "store", "orders")
    as_json = json.loads(run("verify", "store", "--json")[1])

    assert code == 1
    assert "PROBLEMS" in out
    assert "partition '0'" in out
    assert (as_json["stream"], as_json["ok"]) == ("orders", False)
    assert as_json["problems"][0]["partition"] == "0"


@pytest.mark.parametrize(
    "args", ["stats store nope", "verify store nope", "compact store nope", "checkpoints store nope"]
)
def test_what_is_not_there_ends_with_1(run, store, args):
    code, out, err = run(*args.split())

    assert (code, out) == (1, "")
    assert "there is no " in err
    assert "'nope'" in err


def test_checkpoints_are_listed_and_shown(run, store):
    saved = store.checkpoints.save("billing", {"upTo": 17})

    assert run("checkpoints", "store")[1] == "checkpoint\nbilling\n"
    assert json.loads(run("checkpoints", "store", "--json")[1]) == {"name": "billing"}
    shown = run("checkpoints", "store", "billing")[1]
    record = json.loads(run("checkpoints", "store", "billing", "--json")[1])

    assert saved.version in shown
    assert '"upTo": 17' in shown
    assert (record["name"], record["version"], record["value"]) == ("billing", saved.version, {"upTo": 17})
    assert datetime.fromisoformat(record["updated"]) == saved.updated


@pytest.mark.slow
def test_snapshots_are_listed_and_shown(run, store):
    noon = datetime(2026, 2, 5, 12, tzinfo=UTC)
    store.snapshots.save("state", {"n": 1}, at=noon, cursor={"0": 3})
    store.snapshots.save("state", {"n": 2}, at="2026-02-06")

    assert run("snapshots", "store")[1] == "name\nstate\n"
    assert [json.loads(line) for line in run("snapshots", "store", "state", "--json")[1].splitlines()] == [
        {"at": "2026-02-05T12:00:00Z"},
        {"at": "2026-02-06"},
    ]
    for option in ("--at 2026-02-05T12:00:00Z", "--at 2026-02-05T13:00:00+01:00"):
        record = json.loads(run("snapshots", "store", "state", *option.split(), "--json")[1])
        assert record == {"name": "state", "at": "2026-02-05T12:00:00Z", "cursor": {"0": 3}, "state": {"n": 1}}
    for option in ("--at 2026-02-06", "--latest"):
        shown = run("snapshots", "store", "state", *option.split())[1]
        assert '"n": 2' in shown


@pytest.mark.parametrize("args", ["nope", "nope --latest", "state --at 2026-02-07", "state --at 2026-02-07T00:00Z"])
def test_a_snapshot_that_is_not_there_ends_with_1(run, store, args):
    store.snapshots.save("state", 1, at="2026-02-06")

    code, out, err = run("snapshots", "store", *args.split())

    assert (code, out) == (1, "")
    assert err.startswith("bucketlog: ")


@pytest.mark.parametrize("args", ["--latest", "--at x", "state --at x --latest"])
def test_showing_a_snapshot_needs_its_name_and_one_time(run, args):
    assert run("snapshots", "store", *args.split())[0] == 2


# -- upkeep ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def uncompacted(store):
    """Two streams, with three partitions and with one, and their sizes."""
    day = datetime(2026, 2, 5, tzinfo=UTC)
    for number in range(3):
        store.stream("days", partition_by="day").append(event(number, time=day + timedelta(days=number)))
    store.stream("orders").append([event(number) for number in range(50)])
    return {"days": store.stream("days").stats().bytes, "orders": store.stream("orders").stats().bytes}


def test_compact_shows_what_became_of_each_partition_and_then_has_nothing_to_do(run, store, uncompacted):
    code, out, err = run("compact", "store", "orders")
    again = run("compact", "store", "orders")

    stats = store.stream("orders").stats()
    assert (code, err) == (0, "")
    assert table(out) == [
        ["partition", "events", "segments before", "segments after", "bytes before", "bytes after"],
        ["0", "50", "1", "1", str(uncompacted["orders"]), str(stats.bytes)],
    ]
    assert (stats.compacted_segments, stats.segments) == (1, 1)
    assert store.stream("days").stats().compacted_segments == 0
    assert again == (0, "nothing to compact\n", "")


def test_compact_of_all_streams_shows_a_line_for_each_with_something_to_do_and_their_total(run, store, uncompacted):
    store.stream("done").append(event(1))
    store.stream("done").compact()

    code, out, _ = run("compact", "store")

    assert code == 0
    sizes = {name: store.stream(name).stats().bytes for name in uncompacted}
    assert [line[0] for line in table(out)] == ["stream", "days", "orders", "total"]
    assert [list(map(int, line[1:])) for line in table(out)[1:]] == [
        [3, 3, 3, 3, uncompacted["days"], sizes["days"]],
        [1, 50, 1, 1, uncompacted["orders"], sizes["orders"]],
        [4, 53, 4, 4, sum(uncompacted.values()), sum(sizes.values())],
    ]


def test_compact_of_many_partitions_shows_only_those_with_something_to_do_and_their_total(run, store, uncompacted):
    run("compact", "store")
    days = store.stream("days")
    days.append([event(9, id=f"new-{day}", time=datetime(2026, 2, day, tzinfo=UTC)) for day in (6, 7)])
    added = days.stats().bytes - days.stats().compacted_bytes

    _, out, _ = run("compact", "store", "days")

    rows = table(out)
    assert [line[:3] for line in rows[1:]] == [["2026-02-06", "1", "1"], ["2026-02-07", "1", "1"], ["total", "2", "2"]]
    assert rows[-1][4] == str(added)


def test_a_dry_run_of_compact_tells_what_would_be_merged_and_changes_nothing(run, store, uncompacted, tmp_path):
    def files():
        return {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}

    before = files()

    shown = [table(run("compact", "store", *args, "--dry-run")[1]) for args in ((), ("orders",))]
    planned = run("compact", "store", "orders", "--dry-run", "--json")[1]

    orders, days = str(uncompacted["orders"]), str(uncompacted["days"])
    assert shown[0] == [
        ["stream", "partitions", "segments before", "bytes before"],
        ["days", "3", "3", days],
        ["orders", "1", "1", orders],
        ["total", "4", "4", str(sum(uncompacted.values()))],
    ]
    assert shown[1] == [["partition", "segments before", "bytes before"], ["0", "1", orders]]
    assert json.loads(planned) == {
        "stream": "orders",
        "partition": "0",
        "segments_before": 1,
        "bytes_before": int(orders),
    }
    assert files() == before


def test_compact_tells_programs_of_every_partition(run, store, uncompacted):
    store.stream("days").append(event(9, id="late", time=datetime(2026, 2, 6, tzinfo=UTC)))
    run("compact", "store", "orders")

    code, out, _ = run("compact", "store", "--json")

    printed = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [
        (record["stream"], record["partition"], record["events"], record["segments_before"]) for record in printed
    ] == [
        ("days", "2026-02-05", 1, 1),
        ("days", "2026-02-06", 2, 1),
        ("days", "2026-02-07", 1, 1),
        ("orders", "0", 0, 0),
    ]
    assert sum(record["bytes_after"] for record in printed[:3]) == store.stream("days").stats().bytes
    assert printed[3] == dict.fromkeys(printed[3], 0) | {"stream": "orders", "partition": "0"}


def test_compact_of_a_damaged_stream_ends_with_3_and_shows_what_was_done_before(run, store, uncompacted, tmp_path):
    segment = next((tmp_path / "store" / "streams" / "orders" / "0").glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b'"e30"', b'"eXX"'))

    code, out, err = run("compact", "store")
    second = run("compact", "store")

    assert code == second[0] == 3
    assert [line[0] for line in table(out)] == ["stream", "days"]
    assert "is damaged at byte" in err
    assert second[1] == ""  # not "nothing to compact"
    assert store.stream("days").stats().compacted_segments == 3


def test_compact_never_makes_a_store(run):
    code, _, err = run("compact", "store")

    assert code == 3
    assert err.startswith("bucketlog: open ")
    assert not Path("store").exists()


# -- import ------------------------------------------------------------------------------------------------------------


def test_import_of_csv_maps_columns_to_fields(run):
    Path("orders.csv").write_text(ORDERS_CSV)
    mapping = "--type order.placed --time-column when --time-zone UTC --subject-column who --tag-column no --numbers"

    code, out, err = run("import", "store", "orders", "orders.csv", *mapping.split(), "--partition-by", "day")

    assert (code, err) == (0, "")
    assert out == "3 events read, 3 added, 0 already stored\n"
    with bucketlog.open("store") as store:
        stored = list(store.stream("orders").read())
        assert store.stream("orders").partitions() == ["2026-02-05", "2026-02-06"]
    assert [(event.type, event.subject, event.tags, event.data) for event in stored] == [
        ("order.placed", "bob", ("1",), {"no": 1, "total": 17}),
        ("order.placed", "ann", ("2",), {"no": 2, "total": None}),
        ("order.placed", "ann", ("2",), {"no": 2, "total": None}),
    ]
    assert stored[0].time == datetime(2026, 2, 5, 10, tzinfo=UTC)


@pytest.mark.slow
def test_importing_again_adds_nothing_and_a_longer_file_only_what_is_new(run):
    command = ("import", "store", "orders", "orders.csv", "--type", "t", "--json")
    Path("orders.csv").write_text(ORDERS_CSV)
    run(*command)

    again = json.loads(run(*command)[1])
    Path("orders.csv").write_text(f"{ORDERS_CSV}3,2026-02-07,eve,1\n")
    longer = json.loads(run(*command, "--batch", "2")[1])

    assert again == {"read": 3, "added": 0, "present": 3, "bad": 0}
    assert longer == {"read": 4, "added": 1, "present": 3, "bad": 0}


def test_what_read_printed_is_imported_unchanged(run, store):
    store.stream("orders").append([event(1, tags=["a"], meta={"k": 1}), event(2, subject="s", data=[{"x": None}])])
    printed = run("read", "store", "orders", "--json")[1]

    code, _, _ = run("import", "copy", "orders", stdin=printed.encode())

    assert code == 0
    assert run("read", "copy", "orders", "--json")[1] == printed


def test_the_lines_of_a_segment_are_imported_unchanged(run, store, tmp_path):
    store.stream("orders").append([event(1, tags=["a"]), event(2, subject="s", data=None)])
    store.stream("orders").append(event(3, data={"commit": 1}))
    (segment,) = (tmp_path / "store" / "streams" / "orders" / "0").glob("*.jsonl")

    run("import", "copy", "orders", segment)

    assert run("read", "copy", "orders", "--json")[1] == run("read", "store", "orders", "--json")[1]


def test_a_column_named_commit_is_kept_unless_it_is_a_segment_s(run):
    line = {"type": "t", "id": "i", "time": "2026-02-05T12:00:00Z", "commit": "5f3a9c1"}

    run("import", "store", "builds", stdin=json.dumps(line).encode())

    assert json.loads(run("read", "store", "builds", "--json")[1])["data"] == {"commit": "5f3a9c1"}


@pytest.mark.slow
def test_the_name_or_an_option_says_the_format_of_a_file(run):
    Path("a.tsv").write_text("x\ty\n1,5\t2\n")
    Path("a.txt").write_text("x;y\n3;4\n")

    run("import", "store", "s", "a.tsv", "--type", "t")
    run("import", "store", "s", "a.txt", "--type", "t", "--format", "csv", "--delimiter", ";")
    run("import", "store", "s", "-", "--type", "t", stdin=b'{"x": 5}')

    with bucketlog.open("store") as store:
        assert [event.data for event in store.stream("s").read()] == [
            {"x": "1,5", "y": "2"},
            {"x": "3", "y": "4"},
            {"x": 5},
        ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ('{"id": "e3", "type": ""}', "line 3: type: "),  # found by the store, in the middle of a batch
        ('{"id": "e3", "type": "t", "time": "x"}', "line 3: the time 'x'"),
        ("nonsense", "line 3: not JSON"),
    ],
)
def test_import_stops_at_a_bad_line_with_all_before_it_stored_and_none_after_it(run, bad, why):
    lines = [f'{{"id": "e{number}", "type": "t"}}' for number in range(1, 6)]
    lines[2] = bad

    code, out, err = run("import", "store", "orders", stdin="\n".join(lines).encode())

    assert (code, out) == (3, "")
    assert f"import standard input, {why}" in err
    assert "2 events read, 2 added, 0 already stored; fix the line" in err
    assert ids(run("read", "store", "orders", "--json")[1]) == ["e1", "e2"]


def test_import_skips_and_counts_bad_lines_with_skip_bad(run):
    lines = ['{"id": "e1", "type": "t"}', "x", '{"id": "e2", "type": ""}', '{"id": "e3", "type": "t"}', '{"id": 1.5}']

    code, out, err = run("import", "store", "orders", "--skip-bad", stdin="\n".join(lines).encode())

    assert code == 0
    assert out == "2 events read, 2 added, 0 already stored, 3 bad lines skipped\n"
    assert [number for number in "12345" if f"line {number}:" in err] == ["2", "3", "5"]
    assert ids(run("read", "store", "orders", "--json")[1]) == ["e1", "e3"]


def test_import_tells_how_far_it_came_when_the_store_refuses(run, store):
    store.stream("orders", partition_by="subject").append(event(1, subject="s"))

    code, _, err = run("import", "store", "orders", "--partition-by", "day", stdin=b'{"type": "t"}')

    assert code == 3
    assert "stopped after line 0: 0 events read, 0 added" in err
    assert "it was made with partition_by='subject', not 'day'" in err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("nope.csv", "No such file"),
        ("orders.csv --time-column wen", "no column 'wen'; the header names no, when, who, total"),
        ("orders.csv --type t --type-column who", "use --type or --type-column, not both"),
        ("orders.csv --source t --source-column who", "use --source or --source-column, not both"),
        ("orders.csv --time-zone Mars/Olympus", "unknown time zone 'Mars/Olympus'"),
        ("orders.csv --delimiter ab", "use a single character"),
        ("bad.csv", "names a twice"),
        ("orders.csv --batch 0", "--batch"),
        ("orders.csv --format xml", "xml"),
    ],
)
def test_wrong_usage_of_import_is_refused_before_anything_is_created(run, args, says):
    Path("orders.csv").write_text(ORDERS_CSV)
    Path("bad.csv").write_text("a,a\n")

    code, out, err = run("import", "store", "orders", *args.split())

    assert (code, out) == (2, "")
    assert says in err
    assert not Path("store").exists()


# -- help --------------------------------------------------------------------------------------------------------------


def test_the_version_is_the_package_s(run):
    assert run("--version") == (0, f"bucketlog {bucketlog.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(run, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERMINAL_WIDTH", "100")

    code, out, _ = run(name, "--help")

    assert code == 0
    for line in COMMANDS[name][1].splitlines():
        assert line in out
    assert "Example" in out


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "tail"])
def test_the_examples_of_the_help_work(run, name, store):
    store.stream("orders").append(event(1, subject="o-17", tags=["eu"]))
    store.checkpoints.save("billing", 1)
    store.snapshots.save("system_state", 1)
    store.snapshots.save("digest", 1, at="2026-02-05")
    Path("events").symlink_to("store")
    Path("old.csv").write_text("no,total\n1,2\n")

    for line in COMMANDS[name][1].splitlines():
        for part in line.split(" && ")[0].split(" | "):
            words = [word.replace("s3://acme-events/prod", "./events") for word in shlex.split(part)]
            if words[0] == "bucketlog":
                assert run(*words[1:], stdin=b"{}" if words[1] == "append" else b"")[0] == 0


def test_the_reference_page_is_what_the_commands_say_of_themselves():
    page = Path(__file__).parents[2] / "docs" / "cli.md"

    assert page.read_text() == reference(), "run: python -m bucketlog.cli.reference docs/cli.md"


def test_the_url_and_its_options_reach_every_storage(run, s3_url, s3_bucket):
    options = [word for key, value in s3_bucket.items() for word in ("-o", f"{key}={value}")]

    run("append", f"{s3_url}/prod", "orders", "[1]", "--type", "t", *options)
    code, out, err = run("read", f"{s3_url}/prod", "orders", "--json", *options)

    assert (code, err) == (0, "")
    assert json.loads(out)["data"] == [1]


def test_an_option_that_the_storage_does_not_know_is_refused(tmp_path):
    with bucketlog.open(tmp_path / "store"):
        pass

    with pytest.raises(bucketlog.errors.InvalidOptionError) as caught:
        open_to_read(str(tmp_path / "store"), ["colour=red=blue"])

    assert caught.value.option == "colour"
