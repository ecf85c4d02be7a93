"""The program as a process: pipes that close, Ctrl-C, terminals, and missing packages."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("typer")

import bucketlog
from bucketlog import Event

pytestmark = pytest.mark.slow

# Ctrl-C in the middle of an import statement leaves a file to the garbage collector: no ResourceWarning for that.
WARNINGS = ["-W", "error", "-W", "ignore::ResourceWarning"]
PROGRAM = [sys.executable, *WARNINGS, "-c", "import sys; from bucketlog.cli import main; sys.exit(main())"]
TIMEOUT = 60


def start(*args, **options):
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([*PROGRAM, *map(str, args)], text=True, **streams)


def run(*args, **options):
    with start(*args, **options) as process:
        out, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, out, err


def events(count, start=0):
    begin = datetime(2026, 2, 5, tzinfo=UTC)
    numbers = range(start, start + count)
    return [Event(type="t", id=f"e{number}", time=begin + timedelta(seconds=number)) for number in numbers]


@pytest.fixture
def store(tmp_path):
    with bucketlog.open(tmp_path / "store") as store:
        store.stream("orders").append(events(20_000))  # more than a pipe holds
        yield store


# -- pipes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_read_ends_quietly_with_141_when_its_reader_has_enough(store, options):
    with start("read", store.url, "orders", *options) as process:
        first = process.stdout.readline()
        process.stdout.close()
        code, said = process.wait(TIMEOUT), process.stderr.read()

    assert "t" in first
    assert (code, said) == (141, "")


def test_a_short_output_to_a_reader_that_has_gone_ends_quietly_with_141(store):
    reading, writing = os.pipe()
    os.close(reading)

    code, _, said = run("streams", store.url, stdout=writing)
    os.close(writing)

    assert (code, said) == (141, "")


def test_tail_ends_when_its_reader_has_gone_although_nothing_comes(store):
    with start("tail", store.url, "orders", "-n", "1") as process:
        assert " 0/19999 " in process.stdout.readline()
        process.stdout.close()
        code, said = process.wait(TIMEOUT), process.stderr.read()

    assert (code, said) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_an_output_that_cannot_be_written_is_reported_and_ends_with_3(store):
    with Path("/dev/full").open("w") as full:
        code, _, said = run("read", store.url, "orders", stdout=full)

    assert code == 3
    assert re.fullmatch(r"bucketlog: .*No space left on device\n", said)


@pytest.mark.parametrize(
    ("closed", "args", "expected"),
    [
        (">&-", ["read", "--json"], (0, b"", b"")),
        (">&-", ["read"], (0, b"", b"")),
        ("2>&-", ["verify", "nope"], (1, b"", b"")),
        ("<&-", ["import"], (0, b"0 events read, 0 added, 0 already stored\n", b"")),
    ],
)
def test_standard_streams_that_are_closed_are_no_error(store, closed, args, expected):
    command, *more = args
    program = [*PROGRAM, command, store.url, *([] if more == ["nope"] else ["orders"]), *more]

    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *program], capture_output=True, timeout=TIMEOUT)

    assert (done.returncode, done.stdout, done.stderr) == expected


def test_output_that_the_terminal_s_encoding_lacks_is_escaped(store):
    store.stream("umlauts").append(Event(type="ä→"))

    code, out, _ = run(
        "read", store.url, "umlauts", env={**os.environ, "PYTHONIOENCODING": "latin-1"}, encoding="latin-1"
    )

    assert code == 0
    assert " ä\\u2192" in out


def test_import_reads_what_a_pipe_brings(tmp_path):
    with start("import", tmp_path / "store", "orders", "--type", "t", "--json", stdin=subprocess.PIPE) as process:
        out, said = process.communicate('{"n": 1}\n{"n": 2}\n', TIMEOUT)

    assert (process.returncode, said) == (0, "")
    assert json.loads(out) == {"read": 2, "added": 2, "present": 0, "bad": 0}


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


def test_tail_prints_the_newest_then_what_comes_and_ends_with_130_at_ctrl_c(store):
    with start("tail", store.url, "orders", "-n", "2", "--json") as process:
        shown = [json.loads(process.stdout.readline())["id"] for _ in range(2)]
        store.stream("orders").append(events(2, 20_000))
        come = [json.loads(process.stdout.readline())["id"] for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=TIMEOUT)

    assert shown == ["e19998", "e19999"]
    assert come == ["e20000", "e20001"]
    assert (process.returncode, rest, said) == (130, "", "")


def test_tail_waits_for_a_stream_that_does_not_exist_yet_and_filters(store):
    with start("tail", store.url, "later", "--json", "--type", "u", "--poll", "0.05") as process:
        store.stream("later").append([Event(type="t"), Event(type="u", id="mine")])
        come = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT)

    assert come["id"] == "mine"


def test_tail_after_a_cursor_prints_all_that_follows_it(store):
    with start("tail", store.url, "orders", "--after", '{"0": 19998}', "--json") as process:
        come = [json.loads(process.stdout.readline())["id"] for _ in range(2)]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT)

    assert come == ["e19998", "e19999"]


def test_import_tells_at_ctrl_c_how_far_it_came_and_the_same_command_goes_on(tmp_path):
    lines = [json.dumps({"type": "t", "n": number}) + "\n" for number in range(10)]
    lines[8] = json.dumps({"type": "t", "n": "8" * 1_000_000}) + "\n"
    command = ("import", tmp_path / "store", "orders", "--batch", "4")

    with start(*command, stdin=subprocess.PIPE) as process:
        process.stdin.writelines(lines[:9])
        process.stdin.flush()  # returns when most of line 9 was read, so all lines before are done
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=TIMEOUT)
    with start(*command, stdin=subprocess.PIPE) as again:
        total = again.communicate("".join(lines), TIMEOUT)[0]

    assert (process.returncode, out) == (130, "")
    assert said == (
        "interrupted after line 8: 8 events read, 8 added, 0 already stored; run the same command again to resume\n"
    )
    assert total == "10 events read, 2 added, 8 already stored\n"


# -- terminals ---------------------------------------------------------------------------------------------------------


def on_a_terminal(args, which):
    """Run with stdout or stderr on a terminal; return the terminal's content."""
    mine, theirs = pty.openpty()
    with start(*args, **{which: theirs}, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"}) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(mine, 65536)
            except OSError:  # EIO: the program has ended
                break
            if not piece:
                break
            shown += piece
        out, _ = process.communicate(timeout=TIMEOUT)
    os.close(mine)
    return process.returncode, out, shown.decode()


def test_import_shows_its_progress_on_a_terminal_and_the_result_on_standard_output(tmp_path):
    file = tmp_path / "orders.jsonl"
    file.write_text("".join(f'{{"n": {number}}}\n' for number in range(2_000)) + "x\n")

    code, out, shown = on_a_terminal(
        ["import", tmp_path / "store", "orders", file, "--type", "t", "--skip-bad"], "stderr"
    )

    assert (code, out) == (0, "2,000 events read, 2,000 added, 0 already stored, 1 bad lines skipped\n")
    assert "orders.jsonl" in shown
    assert "events" in shown
    assert "line 2001: not JSON" in " ".join(shown.split())


def test_compact_shows_its_progress_on_a_terminal_and_the_result_on_standard_output(store):
    store.stream("others").append(events(3))

    code, out, shown = on_a_terminal(["compact", store.url], "stderr")

    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["orders", "1", "20000"],
        ["others", "1", "3"],
        ["total", "2", "20003"],
    ]
    assert f"compact {store.url}"[:20] in shown
    assert re.search(r"MB\b.*\d:\d\d:\d\d", shown, re.DOTALL)


def test_progress_of_a_long_url_still_shows_bytes_and_time(tmp_path):
    with bucketlog.open(tmp_path / ("long" * 30)) as store:
        store.stream("orders").append(events(20_000))

    code, _, shown = on_a_terminal(["compact", store.url], "stderr")

    assert code == 0
    assert re.search(r"compact file:///.*….*MB\b.*\d:\d\d:\d\d", shown, re.DOTALL)


def test_read_shows_colours_on_a_terminal_and_none_where_they_are_not_wanted(store, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = on_a_terminal(["read", store.url, "orders", "-n", "1"], "stdout")[2]
    monkeypatch.setenv("NO_COLOR", "1")
    plain = on_a_terminal(["read", store.url, "orders", "-n", "1"], "stdout")[2]

    assert "\x1b[" in coloured
    assert plain == "2026-02-05T00:00:00Z 0/0 t\r\n"


# -- what it needs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install_and_ends_with_2(missing):
    program = f"import sys; sys.modules[{missing!r}] = None; from bucketlog.cli import main; sys.exit(main(['--help']))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=TIMEOUT)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f'bucketlog: {missing} is missing; run: pip install "bucketlog[cli]"\n'


def test_starting_loads_no_library_that_the_command_does_not_need(store):
    program = (
        "import sys; from bucketlog.cli import main; code = main(sys.argv[1:]); "
        "print(sorted({'rich.console', 'boto3', 'obstore', 'fsspec', 'asyncio'} & set(sys.modules)), code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, "read", store.url, "orders", "-n", "0"],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
    )

    assert done.stdout == "[] 0\n"
