"""The events that are measured: real departures, repeated with new ids where more are wanted."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "flights"))

from flights import read_flights

from bucketlog.event import new_id

if TYPE_CHECKING:
    import bucketlog


def departures(count: int) -> list[bucketlog.Event]:
    """Return so many departures, each with a fresh time-ordered id."""
    real = list(itertools.islice(read_flights(), min(count, 50_000)))
    return [msgspec.structs.replace(one, id=new_id()) for one in itertools.islice(itertools.cycle(real), count)]
