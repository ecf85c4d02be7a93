"""`bucketlog signals URL COMMAND`, called as from a shell: with data of metaspn-store, and on every storage."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("metaspn_store")
pytest.importorskip("typer")

from metaspn_store import FileSystemStore as Peer

import bucketlog
from bucketlog.cli import main
from bucketlog.cli.app import GROUPS
from bucketlog.signals import EntityRef, SignalStore

from .making import END, NOW, START, R, T, emission, everything, ids, signal

COMMANDS = GROUPS["signals"].commands
PROGRAM = [sys.executable, "-c", "import sys; from bucketlog.cli import main; sys.exit(main())"]
TIMEOUT = 60
ALICE = EntityRef("account", "alice", platform="x", label="Alice")


@pytest.fixture
def run(capfdbinary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        code = main(["signals", *map(str, args)])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), re.sub(r"[\s│]+", " ", err.decode())  # boxes wrap their text

    return run


@pytest.fixture
def peer(tmp_path):
    """Return a workspace `old` with records of every kind, written by metaspn-store."""
    peer = Peer(tmp_path / "old")
    peer.write_signals(
        [
            signal("a", T(4, 10), {"text": "one"}, refs=[ALICE]),
            signal("b", T(5, 23, 59), {"text": "two"}, source="ingest.feed", refs=[R]),
            signal("c", T(6), {"text": "three"}, type="Other"),
            signal("u1", T(5, 1), {"expires_at": "2026-02-06T00:00:00Z"}, type="OutcomePending", refs=[R]),
            signal("u2", T(5, 2), {"expires_at": "2026-02-07T12:00:00Z"}, type="OutcomePending", refs=[R]),
            signal("u3", T(5, 3), [], type="EvaluationRequested"),
            signal("u4", T(5, 4), {"expires_at": 7}, type="OutcomePending"),
        ]
    )
    peer.write_emissions(
        [
            emission("e1", T(6), {"by": "bob"}, caused_by="u3"),
            emission("e2", T(7), type="DraftRejected", caused_by="elsewhere", refs=[R]),
            emission("e3", T(7, 1), type="Noted", caused_by="a"),
        ]
    )
    peer.write_daily_digest_snapshot(day=T(5), digest={"seen": 6, "top": ["b", "u1"], "mood": "é"})
    peer.write_daily_digest_snapshot(day=T(6), digest=["c"])
    peer.write_calibration_snapshot(day=T(5), report={"bias": 0.1})
    return peer


@pytest.fixture
def workspace(run, peer):
    """Return that workspace after it was imported."""
    assert run("old", "import-workspace", "old")[0] == 0
    return "old"


def table(output):
    return [re.split(r" {2,}", line.strip()) for line in output.splitlines()]


def column(output, title):
    titles, *rows = table(output)
    return [row[titles.index(title)] for row in rows]


def records(output):
    return [json.loads(line) for line in output.splitlines()]


# -- import-workspace --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["old", "./new", "file:{here}/new"])
def test_a_workspace_is_taken_in_where_it_is_or_elsewhere_and_again_adds_nothing(run, peer, tmp_path, url):
    url = url.format(here=tmp_path)

    first = run(url, "import-workspace", "old")
    again = run(url, "import-workspace", tmp_path / "old")

    assert first[0] == 0
    assert table(first[1]) == [["stream", "files", "records"], ["signals", "3", "7"], ["emissions", "2", "3"]]
    assert again == (0, f"nothing new in {tmp_path / 'old'}\n", "")
    with SignalStore(url) as store:
        assert everything(store) == ids(peer.iter_signals(T(1), T(20)))
        assert list(store.iter_emissions(START, END)) == list(peer.iter_emissions(T(1), T(20)))


def test_what_metaspn_store_wrote_since_is_taken_in_by_the_same_command(run, peer):
    run("new", "import-workspace", "old")
    peer.write_signals([signal("late", T(4)), signal("new", T(9)), signal("a", T(9))])

    code, out, _ = run("new", "import-workspace", "old", "--json")

    assert code == 0
    assert records(out) == [
        {"file": "signals/2026-02-04.jsonl", "records": 1},
        {"file": "signals/2026-02-09.jsonl", "records": 1},
    ]
    with SignalStore("new") as store:
        assert everything(store) == ["a", "late", "b", "u1", "u2", "u3", "u4", "c", "new"]


def test_an_interrupted_import_ends_with_130_says_so_and_the_same_command_goes_on(run, peer, monkeypatch):
    append, calls = bucketlog.Stream.append, []

    def interrupted(self, *args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return append(self, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(bucketlog.Stream, "append", interrupted)
        code, out, err = run("new", "import-workspace", "old")

    assert (code, out) == (130, "")
    assert err == "interrupted; the records read before are stored; run the same command again to resume "
    with SignalStore("new") as store:
        assert everything(store) == ["a"]
    assert run("new", "import-workspace", "old")[0] == 0
    with SignalStore("new") as store:
        assert everything(store) == ids(peer.iter_signals(T(1), T(20)))


def test_a_line_that_is_no_record_is_named_and_when_it_is_mended_the_import_goes_on(run, peer):
    path = peer.signals_dir / "2026-02-05.jsonl"
    whole = path.read_text()
    path.write_text(whole.replace('"signal_id":"u2"', '"signal_id":'))

    code, out, err = run("new", "import-workspace", "old")

    assert (code, out) == (3, "")
    assert "signals/2026-02-05.jsonl, line 3 is not a record" in err
    with SignalStore("new") as store:
        assert everything(store) == ["a", "b", "u1"]
    path.write_text(whole)
    assert run("new", "import-workspace", "old")[0] == 0
    with SignalStore("new") as store:
        assert everything(store) == ids(peer.iter_signals(T(1), T(20)))


@pytest.mark.slow
def test_an_unfinished_last_line_is_logged_and_left_for_the_next_import(run, peer):
    with (peer.signals_dir / "2026-02-06.jsonl").open("a") as file:
        file.write('{"signal_id":"half","time')

    done = subprocess.run(
        [*PROGRAM, "signals", "new", "import-workspace", "old"], capture_output=True, text=True, timeout=TIMEOUT
    )

    assert done.returncode == 0
    assert "2026-02-06.jsonl: skipped the unfinished last line 2; the next import reads it" in done.stderr


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nope", "nope does not exist"),
        ("file.txt", "file.txt is not a directory"),
        ("old/store", "old/store is the store inside a workspace; use the workspace: "),
        ("empty", "empty is not a workspace of metaspn-store: it contains neither store/signals nor store/emissions"),
        ("s3://bucket/old", "s3://bucket/old is not a local directory"),
    ],
)
def test_a_path_that_is_no_workspace_is_wrong_usage_and_makes_nothing(run, peer, tmp_path, path, says):
    (tmp_path / "file.txt").touch()
    (tmp_path / "empty").mkdir()

    code, out, err = run("new", "import-workspace", path)

    assert (code, out) == (2, "")
    assert says in err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_import_shows_its_progress_on_a_terminal_and_the_result_on_standard_output(peer, tmp_path):
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "signals", str(tmp_path / "new"), "import-workspace", str(tmp_path / "old")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "300"},
    ) as process:
        os.close(theirs)
        out, _ = process.communicate(timeout=TIMEOUT)
    shown = os.read(mine, 65536).decode()
    os.close(mine)

    assert process.returncode == 0
    assert out.startswith(b"stream ")
    assert f"import {tmp_path / 'old'}"[:20] in shown


# -- recent ------------------------------------------------------------------------------------------------------------


def test_recent_shows_the_newest_signals_first(run, workspace):
    code, out, err = run(workspace, "recent", "-n", 2)

    assert (code, err) == (0, "")
    assert out == (
        "time                  signal  source       type            entities     payload\n"
        '2026-02-06T00:00:00Z  c       ingest       Other                        {"text":"three"}\n'
        '2026-02-05T23:59:00Z  b       ingest.feed  SocialPostSeen  entity_id:v  {"text":"two"}\n'
    )


def test_recent_shows_emissions_when_asked(run, workspace):
    _, out, _ = run(workspace, "recent", "--emissions")

    assert table(out)[0] == ["time", "emission", "caused by", "type", "entities", "payload"]
    assert column(out, "emission") == ["e3", "e2", "e1"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("-n 0", []),
        ("--source ingest.feed", ["b"]),
        ("--source ingest.feed --source ingest -n 2", ["c", "b"]),
        ("--type Other --type EvaluationRequested", ["c", "u3"]),
        ("--entity account:alice --platform x", ["a"]),
        ("--entity account:alice", []),
        ("--entity entity_id:v --source ingest.feed", ["b"]),
        ("--start 2026-02-05T04:00 --end 2026-02-05T23:59", ["b", "u4"]),
        ("--end 2026-02-04", ["a"]),
        ("--start 2026-02-05 --end 2026-02-05 -n 1", ["b"]),
        ("--start 2026-02-05 --end 2026-02-05T00:00", []),
        ("--emissions --type Noted", ["e3"]),
        ("--emissions --entity entity_id:v", ["e2"]),
    ],
)
def test_recent_passes_filters_on(run, workspace, options, found):
    code, out, _ = run(workspace, "recent", "--json", *options.split())

    assert code == 0
    assert [record.get("signal_id") or record["emission_id"] for record in records(out)] == found


def test_recent_prints_for_programs_what_a_program_gets(run, workspace):
    _, out, err = run(workspace, "recent", "--json")
    _, emissions, _ = run(workspace, "recent", "--emissions", "--json")

    with SignalStore(workspace) as store:
        newest = store.get_latest_draft_signals(limit=10, start=T(1), end=T(20))
        outcomes = store.get_latest_approval_outcomes(limit=10, start=T(1), end=T(20))
    assert records(out) == [one.to_dict() for one in newest]
    assert records(emissions) == [outcome.to_dict() for outcome in outcomes]
    assert err == ""


@pytest.mark.parametrize("payload", [10**40, "\ud800", [1, {"a": None}], "\x1b[31m\x9b\n", 1e400])
def test_no_payload_is_lost_and_none_reaches_the_terminal_as_a_command(run, payload):
    with SignalStore("ws") as store:
        store.write_signal(signal("\x1b[2J", T(5), payload, source="a\nb"))

    _, out, _ = run("ws", "recent", "--json")
    _, shown, _ = run("ws", "recent")

    assert records(out)[0]["payload"] == payload
    assert len(shown.splitlines()) == 2
    assert shown.replace("\n", "").isprintable()
    assert "\\x1b[2J  a\\nb" in shown


def test_what_is_dated_in_the_future_is_recent_only_when_asked_for(run):
    with SignalStore("ws") as store:
        store.write_signals([signal("now", NOW - timedelta(hours=1)), signal("then", NOW + timedelta(days=2))])

    assert column(run("ws", "recent")[1], "signal") == ["now"]
    assert column(run("ws", "recent", "--end", "9999-12-31")[1], "signal") == ["then", "now"]


def test_a_store_without_records_shows_nothing_and_says_so(run):
    SignalStore("ws").close()

    code, out, err = run("ws", "recent")
    assert (code, out) == (0, "")
    assert err.startswith("no signal matches from 1970-01-01T00:00:00Z to ")
    assert run("ws", "outcomes") == (0, "", "0 pending, 0 expired, 0 success, 0 failure ")
    assert run("ws", "digest") == (0, "", "no day has a document in ws/store ")
    for command in COMMANDS:
        if command != "import-workspace":
            assert run("ws", command, "--json") == (0, "", "")


def test_on_a_terminal_the_payload_is_cut_to_what_room_there_is(tmp_path):
    with SignalStore(tmp_path / "ws") as store:
        store.write_signal(signal("a", T(5), {"text": "ä" * 500}))
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "signals", str(tmp_path / "ws"), "recent"],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "100"},
    ) as process:
        os.close(theirs)
        code = process.wait(TIMEOUT)
    shown = os.read(mine, 65536).decode()
    os.close(mine)

    assert code == 0
    assert [len(line) for line in shown.splitlines()][1] == 100
    assert shown.splitlines()[1].endswith("ä…")


# -- outcomes ----------------------------------------------------------------------------------------------------------


def test_outcomes_shows_what_became_of_each_signal_and_counts_them(run, workspace):
    code, out, err = run(workspace, "outcomes", "--now", "2026-02-07T12:00")

    assert code == 0
    assert [(row[0], row[2], row[3]) for row in table(out)[1:]] == [
        ("pending", "u2", "ingest"),
        ("pending", "u4", "ingest"),
        ("expired", "u1", "ingest"),
        ("success", "e1", "u3"),
        ("failure", "e2", "elsewhere"),
    ]
    assert [row[-1] for row in table(out)][:4] == ["expires", "2026-02-07T12:00:00Z", "7", "2026-02-06T00:00:00Z"]
    assert err == "2 pending, 1 expired, 1 success, 1 failure "


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", "u1:expired u2:expired u4:pending e1:success e2:failure"),
        ("--now 2026-02-06T00:00:00Z", "u1:pending u2:pending u4:pending e1:success e2:failure"),
        ("--end 2026-02-05 --now 2026-02-06T12:00", "u1:expired u2:pending u3:pending u4:pending"),
        ("--entity entity_id:v", "u1:expired u2:expired e2:failure"),
        ("--source elsewhere", "e1:success e2:failure"),
        ("--pending Other", "c:pending e1:success e2:failure"),
        ("--success Noted --failure DraftApproved", "u1:expired u2:expired u4:pending e3:success e1:failure"),
        ("--pending SocialPostSeen --success Noted", "b:pending e3:success e2:failure"),
        ("--expires-at none --only pending", "u1:pending u2:pending u4:pending"),
        ("--only failure --only expired", "u1:expired u2:expired e2:failure"),
    ],
)
def test_outcomes_passes_options_on(run, workspace, options, found):
    code, out, err = run(workspace, "outcomes", "--json", *options.split())

    shown = [(record.get("signal_id") or record["emission_id"], record["outcome"]) for record in records(out)]
    assert (code, err) == (0, "")
    order = ["pending", "expired", "success", "failure"]
    wanted = [tuple(one.split(":")) for one in found.split()]
    assert shown == sorted(wanted, key=lambda one: order.index(one[1]))


# -- digest ------------------------------------------------------------------------------------------------------------


def test_digest_lists_the_days_that_have_a_document(run, workspace):
    assert table(run(workspace, "digest")[1]) == [
        ["kind", "day"],
        ["digest", "2026-02-05"],
        ["digest", "2026-02-06"],
        ["calibration", "2026-02-05"],
    ]
    assert records(run(workspace, "digest", "--json", "--kind", "calibration")[1]) == [
        {"kind": "calibration", "day": "2026-02-05"}
    ]


def test_digest_shows_the_document_of_a_day(run, workspace):
    assert run(workspace, "digest", "2026-02-05") == (
        0,
        'member  value\nmood    é\nseen    6\ntop     ["b","u1"]\n',
        "",
    )
    assert run(workspace, "digest", "2026-02-06")[1] == '[\n  "c"\n]\n'
    assert table(run(workspace, "digest", "2026-02-05", "--kind", "calibration")[1])[1] == ["bias", "0.1"]
    with SignalStore(workspace) as store:
        assert records(run(workspace, "digest", "2026-02-05", "--json")[1]) == [
            store.read_daily_digest_snapshot("2026-02-05")
        ]


def test_a_day_of_any_text_is_listed_as_it_was_written_and_found_by_that(run):
    with SignalStore("ws") as store:
        store.write_daily_digest_snapshot(day="week 6/é", digest={"n": 1})

    assert records(run("ws", "digest", "--json")[1]) == [{"kind": "digest", "day": "week 6/é"}]
    assert run("ws", "digest", "week 6/é")[0] == 0


def test_a_day_without_a_document_ends_with_1(run, workspace):
    code, out, err = run(workspace, "digest", "2026-02-05", "--kind", "credibility")

    assert (code, out) == (1, "")
    assert "there is no credibility of '2026-02-05' in old/store/snapshots" in err


def test_a_document_that_was_cut_short_ends_with_3_and_says_which(run, workspace, peer):
    (peer.snapshots_dir / "digest__2026-02-05.json").write_text('{"day":')

    code, out, err = run(workspace, "digest", "2026-02-05")

    assert (code, out) == (3, "")
    assert err.startswith("bucketlog: read old/store/snapshots/digest__2026-02-05.json: not JSON")


# -- the place ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["recent", "outcomes", "digest"])
def test_a_workspace_that_was_not_imported_yet_is_an_error_that_names_the_command(run, peer, command):
    code, out, err = run("old", command)

    assert (code, out) == (3, "")
    suggested = shlex.split(err.split("`")[1])
    assert suggested[:2] == ["bucketlog", "signals"]
    assert run(*suggested[2:])[0] == 0
    assert run("old", command)[0] == 0


@pytest.mark.parametrize("command", ["recent", "outcomes", "digest"])
def test_looking_where_no_workspace_is_ends_with_3_and_makes_none(run, tmp_path, command):
    for url in ("nope", f"file://{tmp_path}/nope"):
        code, out, err = run(url, command)

        assert (code, out) == (3, "")
        assert "nope/store: there is no such directory" in err
        assert "URL is the workspace; its events are stored below it, in 'store'" in err
    assert list(tmp_path.iterdir()) == []


def test_events_that_are_no_signals_are_an_error_and_no_traceback(run):
    with bucketlog.open("ws/store") as store:
        store.stream("signals", partition_by="day").append(bucketlog.Event(type="t", data=1, time=T(5)))

    code, out, err = run("ws", "recent")

    assert (code, out) == (3, "")
    assert "offset 0 is not a valid SignalEnvelope" in err


def test_every_command_works_on_every_storage(run, place, peer):
    options = [word for key, value in place.options.items() for word in ("-o", f"{key}={value}")]

    taken = run(place.workspace, "import-workspace", "old", "--json", *options)
    recent = run(place.workspace, "recent", "-n", 1, "--json", *options)
    outcomes = run(place.workspace, "outcomes", "--only", "success", "--json", *options)
    with SignalStore(place.workspace, **place.options) as store:
        store.write_daily_digest_snapshot(day="2026-02-05", digest={"seen": 6})
    days = run(place.workspace, "digest", "--json", *options)
    digest = run(place.workspace, "digest", "2026-02-05", "--json", *options)

    assert {code for code, _, _ in (taken, recent, outcomes, days, digest)} == {0}
    assert sum(record["records"] for record in records(taken[1])) == 10
    assert [record["signal_id"] for record in records(recent[1])] == ["c"]
    assert [record["emission_id"] for record in records(outcomes[1])] == ["e1"]
    assert records(days[1]) == [{"kind": "digest", "day": "2026-02-05"}]
    assert [record["digest"] for record in records(digest[1])] == [{"seen": 6}]


# -- usage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["recent"], "The URL comes before the command: bucketlog signals URL recent"),
        (["recent", "-n", "3"], "The URL comes before the command: bucketlog signals URL recent"),
        (["recent", "old"], "The URL comes before the command: bucketlog signals old recent"),
        (["old"], "Missing command for 'old': import-workspace, recent, outcomes, digest"),
        (["old", "recnt"], "No such command 'recnt'. Did you mean 'recent'?"),
        (["old", "import-workspace"], "Missing argument 'PATH'"),
        (["old", "recent", "--entity", "alice"], "'alice' is not a valid entity; write its type and value"),
        (["old", "recent", "--platform", "x"], "--platform needs an --entity"),
        (["old", "recent", "--emissions", "--source", "x"], "emissions have no source"),
        (["old", "recent", "--start", "soon"], "'soon' is not a valid time; write 2026-02-05"),
        (["old", "recent", "--start", "2026-02-06", "--end", "2026-02-05"], "lies before --start (2026-02-06T"),
        (["old", "outcomes", "--start", "9999-01-01"], "--end (now) lies before --start (9999-01-01T"),
        (["old", "outcomes", "--only", "lost"], "'lost' is not one of 'pending'"),
        (["old", "digest", "--kind", "lost"], "'lost' is not one of 'digest'"),
        (["old", "digest", "-o", "secret"], "write -o KEY=VALUE"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_why(run, peer, args, says):
    code, out, err = run(*args)

    assert (code, out) == (2, "")
    assert says in err


def test_a_workspace_may_have_the_name_of_a_command(run):
    SignalStore("recent").close()

    assert run("recent", "digest", "--json") == (0, "", "")


@pytest.mark.parametrize("args", [["--help"], ["./workspace", "--help"]])
def test_the_help_of_the_group_names_its_commands(run, args):
    code, out, _ = run(*args)

    assert code == 0
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example_whether_or_not_the_url_is_there(run, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERMINAL_WIDTH", "120")

    for args in ([name, "--help"], ["./workspace", name, "-h"]):
        code, out, _ = run(*args)

        assert code == 0
        assert "Example" in out
        for line in COMMANDS[name][1].splitlines():
            assert line in out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_work(run, workspace, name):
    Path("workspace").symlink_to(workspace)

    for line in COMMANDS[name][1].splitlines():
        words = shlex.split(line.split(" | ")[0].replace("s3://acme-events/workspace", "./elsewhere"))
        assert words[:2] == ["bucketlog", "signals"]
        assert run(*words[2:])[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["recent", "outcomes"])
def test_it_ends_quietly_with_141_when_its_reader_has_enough(tmp_path, command):
    with SignalStore(tmp_path / "ws") as store:
        store.write_signals(signal(f"s{n}", T(5), {"text": "x" * 90}, type="OutcomePending") for n in range(2_000))
    with subprocess.Popen(
        [*PROGRAM, "signals", str(tmp_path / "ws"), command, *(["-n", "2000"] if command == "recent" else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        first = process.stdout.readline()
        process.stdout.close()
        code, said = process.wait(TIMEOUT), process.stderr.read()

    assert first.split()
    assert (code, said) == (141, b"")


def test_other_commands_start_without_the_application():
    program = "import sys, bucketlog.cli.app; print('bucketlog.signals' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=TIMEOUT)

    assert done.stdout == "False\n"
