"""Printing of envelopes, as table cells and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from bucketlog.cli.output import print_text

if TYPE_CHECKING:
    from bucketlog.signals import EmissionEnvelope, SignalEnvelope


def print_record(record: Mapping[str, object]) -> None:
    """Print an object as one line of JSON to stdout, with Python's extensions: NaN and big integers."""
    print_text(json.dumps(record, sort_keys=True, separators=(",", ":")))


def signal_cells(signal: SignalEnvelope) -> tuple[str, str, str, str]:
    """Return a signal's time, id, source and type."""
    return shown_time(signal.timestamp), signal.signal_id, signal.source, signal.payload_type


def emission_cells(emission: EmissionEnvelope) -> tuple[str, str, str, str]:
    """Return an emission's time, id, cause and type."""
    return shown_time(emission.timestamp), emission.emission_id, emission.caused_by, emission.emission_type


def shown_refs(envelope: SignalEnvelope | EmissionEnvelope) -> str:
    """Return an envelope's references, such as `account:alice (x)`."""
    from bucketlog.signals import EntityRef

    shown = []
    for ref in envelope.entity_refs:
        if isinstance(ref, EntityRef):
            shown.append(f"{ref.ref_type}:{ref.value}" + ("" if ref.platform is None else f" ({ref.platform})"))
        else:
            shown.append(str(ref))
    return ", ".join(shown)


def shown_value(value: object) -> str:
    """Return a JSON value as one line; a string without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def shown_time(time: datetime) -> str:
    """Return a time in UTC."""
    return time.isoformat().replace("+00:00", "Z")
