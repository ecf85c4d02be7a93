"""The example of signals: killed and resumed many times, it ends with the result of an undisturbed run."""

from __future__ import annotations

import importlib
import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bucketlog.signals import ReplayCheckpoint, SignalEnvelope, SignalStore

FOLDER = Path(__file__).parents[2] / "examples" / "signals"
WORKERS = ("ingest", "resolve", "score", "recommend", "learn")
DAYS = 2  # 1,743 flights
START, END = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 3, tzinfo=UTC) - timedelta(microseconds=1)
STAGES = [f"{day} {worker}" for day in ("01 Jan", "02 Jan") for worker in WORKERS]


def command(workspace, *options):
    return [sys.executable, str(FOLDER / "pipeline.py"), str(workspace), "--days", str(DAYS), *options]


def run(workspace, **environment):
    """Run the pipeline to its end; return its output."""
    env = {**os.environ, **environment}
    done = subprocess.run(command(workspace), env=env, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return done.stdout


def result(store):
    """Return the content of a workspace, independent of its files."""
    first, last = f"{START:%Y-%m-%d}", f"{END:%Y-%m-%d}"
    return {
        "signals": list(store.iter_signals(START, END)),
        "emissions": list(store.iter_emissions(START, END)),
        "checkpoints": {name: store.read_checkpoint(name) for name in WORKERS},
        "digests": [store.read_daily_digest_snapshot(day) for day in (first, last)],
        "calibrations": [store.read_calibration_snapshot(day) for day in (first, last)],
        "documents": sorted(path.name for path in store.snapshots_dir.glob("*.json")),
    }


def by_source(signals):
    """Return signals by the worker that wrote them; the order between workers depends on which was killed when."""
    ordered = sorted(signals, key=lambda one: one.source)
    return {source: list(found) for source, found in itertools.groupby(ordered, key=lambda one: one.source)}


def comparable(store):
    found = result(store)
    return {**found, "signals": by_source(found["signals"])}


def kill_in(stage, workspace, chance):
    """Run the pipeline and kill it shortly after a worker's first batch; return True if it was still running."""
    with subprocess.Popen(
        command(workspace, "--verbose"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith(stage):
                break
        try:
            process.wait(timeout=chance.uniform(0, 0.03))
        except subprocess.TimeoutExpired:
            process.kill()
        said += process.stderr
    assert process.returncode in (0, -9), said
    assert not any(line.startswith("Traceback") for line in said), said
    return process.returncode == -9


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Run the pipeline; return its workspace and its output."""
    workspace = tmp_path_factory.mktemp("undisturbed") / "workspace"
    return workspace, run(workspace)


@pytest.fixture(scope="module")
def expected(undisturbed):
    with SignalStore(undisturbed[0]) as store:
        return comparable(store)


def test_killed_at_random_moments_in_each_worker_it_ends_with_the_result_of_an_undisturbed_run(tmp_path, expected):
    chance = random.Random(2013)
    kills = 0

    for number in itertools.count():
        workspace = tmp_path / str(number)
        kills += sum(kill_in(stage, workspace, chance) for stage in STAGES)
        run(workspace)
        with SignalStore(workspace) as store:
            assert comparable(store) == expected
        if kills >= len(STAGES):  # almost always at once; on a busy machine some runs may end before they are killed
            break


def test_two_pipelines_at_once_end_with_the_result_of_one(tmp_path, expected):
    with (
        subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL) as one,
        subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL) as other,
    ):
        ended = one.wait(timeout=120), other.wait(timeout=120)

    assert ended == (0, 0)
    with SignalStore(tmp_path) as store:
        assert comparable(store) == expected


def test_of_signals_of_one_moment_that_are_in_two_batches_the_checkpoint_knows_all(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("pipeline", "airports", "report", "flights"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    pipeline = importlib.import_module("pipeline")
    monkeypatch.setattr(pipeline, "BATCH_SIGNALS", 2)
    given = [SignalEnvelope(name, START, "boards", "FlightAnnounced", {}) for name in "abc"]

    with SignalStore(tmp_path) as store:
        handled = list(pipeline.batches(store, "worker", lambda *, checkpoint: iter(given)))

        assert handled == [given[:2], given[2:]]
        assert store.read_checkpoint("worker") == ReplayCheckpoint(START, ("a", "b", "c"))


def test_run_again_it_does_nothing_and_prints_the_same(undisturbed):
    workspace, printed = undisturbed
    before = {path: path.read_bytes() for path in workspace.rglob("*") if path.is_file()}

    again = run(workspace)

    assert {path: path.read_bytes() for path in workspace.rglob("*") if path.is_file()} == before
    assert again.splitlines()[:-1] == printed.splitlines()[:-1]
    assert again.splitlines()[-1].startswith("0 signals dealt with")


def test_it_runs_in_a_bucket_as_in_a_directory(moto, expected):
    workspace = moto.url("signals-example")
    options = moto.options

    run(
        workspace,
        AWS_ENDPOINT_URL=options["endpoint_url"],
        AWS_ACCESS_KEY_ID=options["access_key_id"],
        AWS_SECRET_ACCESS_KEY=options["secret_access_key"],
        AWS_REGION=options["region"],
    )

    with SignalStore(workspace, **options) as store:
        assert comparable(store) == expected


def test_each_flight_makes_one_signal_a_worker_under_an_id_that_tells_what_it_comes_from(expected):
    signals = expected["signals"]
    boards = [signal.signal_id for signal in signals["boards"]]
    announced = [signal_id for signal_id in boards if signal_id.startswith("FlightAnnounced/")]

    assert len(announced) == 1743
    assert [signal.signal_id for signal in signals["resolve"]] == [f"resolve/{signal_id}" for signal_id in boards]
    assert [signal.signal_id for signal in signals["score"]] == [
        f"score/resolve/{signal_id}" for signal_id in announced
    ]
    assert {signal.signal_id for signal in signals["recommend"]} == {
        f"recommend/{signal.signal_id}" for signal in signals["score"] if signal.payload["score"] >= 0.88
    }


def test_every_recommendation_whose_flight_ended_has_one_outcome_and_it_is_true(expected):
    signals = expected["signals"]
    ended = {
        signal.payload["id"]: signal.payload.get("delay_minutes")
        for signal in signals["boards"]
        if signal.payload_type != "FlightAnnounced"
    }
    recommended = {signal.signal_id: signal.payload["id"] for signal in signals["recommend"]}

    outcomes = {emission.caused_by: emission.emission_type for emission in expected["emissions"]}

    assert len(expected["emissions"]) == len(outcomes) > 100
    assert outcomes == {
        signal_id: "OutcomeSuccess" if ended[flight] is not None and ended[flight] <= 15 else "OutcomeFailure"
        for signal_id, flight in recommended.items()
        if flight in ended
    }
    assert set(outcomes.values()) == {"OutcomeSuccess", "OutcomeFailure"}


def test_the_trace_of_an_emission_leads_over_every_worker_to_the_boards(expected):
    known = {signal.signal_id: signal for found in expected["signals"].values() for signal in found}

    for emission in expected["emissions"]:
        causes = [known[signal_id] for signal_id in emission.trace.caused_by]
        assert [signal.source for signal in causes] == ["boards", "resolve", "score", "recommend", "boards", "resolve"]
        assert {signal.trace.trace_id for signal in causes} == {emission.trace.trace_id}
        assert emission.caused_by == causes[3].signal_id
        assert emission.timestamp == causes[4].timestamp


def test_what_is_learned_is_what_the_flights_were_and_counts_from_the_next_day_on(expected):
    ends = [signal for signal in expected["signals"]["boards"] if signal.payload_type != "FlightAnnounced"]
    flights = Counter(f"carrier {signal.payload['carrier']}" for signal in ends)
    on_time = Counter(
        f"carrier {signal.payload['carrier']}" for signal in ends if signal.payload.get("delay_minutes", 16) <= 15
    )
    report = expected["calibrations"][-1]["report"]

    assert {name: record for name, record in report.items() if name.startswith("carrier ")} == {
        name: {"flights": count, "on_time": on_time[name]} for name, count in flights.items()
    }
    scores = {
        day: {envelope.payload["score"] for envelope in expected["signals"]["score"] if envelope.timestamp.day == day}
        for day in (1, 2)
    }
    assert scores[1] == {0.8}  # nothing is known about anyone
    assert len(scores[2]) > 50


def test_it_prints_how_the_recommendations_of_each_carrier_turned_out(undisturbed, expected):
    outcomes = Counter(
        emission.emission_type
        for emission in expected["emissions"]
        if emission.entity_refs[0].value == "DL"  # the first one counts
    )
    share = outcomes["OutcomeSuccess"] / outcomes.total()
    recommended = sum(1 for signal in expected["signals"]["recommend"] if signal.payload["carrier"] == "DL")

    (line,) = [line for line in undisturbed[1].splitlines() if line.startswith("Delta Air Lines")]

    assert f" {recommended} " in line
    assert line.split()[-1] == f"{share:.0%}"
    assert "The worst advice, and how it came about" in undisturbed[1]
    assert "signals dealt with in" in undisturbed[1].splitlines()[-1]
