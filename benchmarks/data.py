"""The events to measure with: real departures, repeated with new ids where more are needed, and generated ones."""

from __future__ import annotations

import gc
import itertools
import random
import re
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "flights"))

from flights import FLIGHTS, read_flights

from bucketlog import Event
from bucketlog.event import new_id
from bucketlog.format.lines import check_events, encode_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

BATCH = 1000
GENERATED_BYTES = 350  # of an event's line
_YEAR = timedelta(days=365)
_WORDS = tuple(
    re.findall(
        r"\w+",
        """
        accepted amount basket billing cancelled carrier confirmed customer delayed delivery discount invoice item late
        notified order packed paid parcel pending picked price quantity refund refused returned route shipped stock
        supplier total updated voucher warehouse weight
        """,
    )
)


def random_id() -> str:
    """Return an id that does not contain its time."""
    return str(uuid.uuid4())


IDS: dict[str, Callable[[], str]] = {"uuid7": new_id, "random": random_id}


def departures(count: int, *, ids: str = "uuid7", years: int = 0) -> Iterator[Event]:
    """Yield `count` departures in order of time, each with a new id.

    The year is repeated as often as needed; the last repetition is 2013, or `years` years later.
    """
    make_id, replace = IDS[ids], msgspec.structs.replace
    real = _real(min(count, FLIGHTS))
    repetitions = -(-count // FLIGHTS)
    for number in range(repetitions):
        shift = _YEAR * (number - repetitions + 1 + years)
        for one in itertools.islice(real, count - number * FLIGHTS):
            yield replace(one, id=make_id(), time=one.time + shift)


def generated(count: int, *, ids: str = "uuid7") -> Iterator[Event]:
    """Yield so many made-up events of `GENERATED_BYTES` each, of ten thousand subjects, a second apart."""
    make_id, chance = IDS[ids], random.Random(0)
    began, second = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=1)
    for number in range(count):
        data = {"number": number, "amount": chance.randrange(100_000) / 100, "text": ""}
        event = Event(
            type=f"order.{chance.choice(_WORDS)}",
            id=make_id(),
            source="generated",
            subject=f"order-{chance.randrange(10_000):05}",
            time=began + number * second,
            tags=(chance.choice(_WORDS), chance.choice(_WORDS)),
            data=data,
        )
        missing = GENERATED_BYTES - line_bytes(event)
        data["text"] = " ".join(chance.choices(_WORDS, k=missing // 4))[:missing]
        yield event


SOURCES: dict[str, Callable[..., Iterator[Event]]] = {"departures": departures, "generated": generated}


def fresh(events: Iterable[Event], *, ids: str = "uuid7") -> list[Event]:
    """Return the events with new ids: each can be appended once."""
    make_id, replace = IDS[ids], msgspec.structs.replace
    return [replace(one, id=make_id()) for one in events]


def batches(events: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Cut events into lists."""
    rest = iter(events)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def line_bytes(event: Event) -> int:
    """Return how many bytes an event takes in a log, without its commit's trailer."""
    return len(encode_lines(check_events([event], where="benchmark"), indexes=(0,), where="benchmark"))


def some_subjects(count: int, *, among: int) -> list[str]:
    """Return aircraft, drawn from so many first departures: those that fly more are drawn more."""
    chance = random.Random(0)
    real = _real(among)[:among]
    drawn: list[str] = []
    while len(drawn) < count:
        subject = chance.choice(real).subject
        if subject is not None:
            drawn.append(subject)
    return drawn


_unread = read_flights()
_read: list[Event] = []


def _real(count: int) -> list[Event]:
    """Return at least the first `count` rows, read once."""
    if len(_read) < count:
        _read.extend(itertools.islice(_unread, count - len(_read)))
        gc.collect()
        gc.freeze()  # or each collection of a round would walk over them
    return _read
