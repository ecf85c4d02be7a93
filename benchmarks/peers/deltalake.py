"""delta-rs, as the PyPI package `deltalake`: an append is a Parquet file and an entry in the table's log.

It writes without any sync: what it has appended may be lost with the power.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING

import pyarrow
from deltalake import DeltaTable, write_deltalake

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bucketlog import Event

_TEXTS = ("id", "type", "source", "subject", "data")
_SCHEMA = pyarrow.schema(
    [
        *((name, pyarrow.string()) for name in _TEXTS),
        ("time", pyarrow.timestamp("us", "UTC")),
        ("tags", pyarrow.list_(pyarrow.string())),
    ]
)


class Table:
    """A Delta table of events; `data` is JSON text, as it has no fixed shape."""

    label = f"delta-rs {version('deltalake')}, not synced"

    def __init__(self, folder: Path) -> None:
        self._table = DeltaTable.create(folder, _SCHEMA)

    def append(self, events: Sequence[Event]) -> None:
        """Append events as one version of the table."""
        columns = {
            "id": [event.id for event in events],
            "type": [event.type for event in events],
            "source": [event.source for event in events],
            "subject": [event.subject for event in events],
            "time": [event.time for event in events],
            "tags": [event.tags for event in events],
            "data": [json.dumps(event.data) for event in events],
        }
        write_deltalake(self._table, pyarrow.table(columns, _SCHEMA), mode="append")

    def replay(self) -> int:
        """Read all rows, decoding their data; the order of files is not promised."""
        count = 0
        for batch in self._table.to_pyarrow_dataset().to_batches():
            for row in batch.to_pylist():
                json.loads(row["data"])
            count += len(batch)
        return count

    def close(self) -> None:
        """Do nothing: a table keeps no file open."""


def open_peer(folder: Path) -> Table:
    """Make a table in a folder."""
    return Table(folder)
