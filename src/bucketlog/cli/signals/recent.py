"""`bucketlog signals URL recent`: print the newest signals or emissions."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from bucketlog.cli.arguments import AsJson, StorageOptions
from bucketlog.cli.output import print_table, say
from bucketlog.cli.signals.arguments import End, Entity, Platform, Sources, Start, entity_of, open_to_read, window_of
from bucketlog.cli.signals.printing import (
    emission_cells,
    print_record,
    shown_refs,
    shown_time,
    shown_value,
    signal_cells,
)

EXAMPLE = """\
bucketlog signals ./workspace recent -n 5 --entity account:alice --platform x
bucketlog signals ./workspace recent --source ingest.social --start 2026-02-05 --json | jq .payload
bucketlog signals ./workspace recent --emissions --type DraftApproved"""

_PAYLOAD_WIDTH_MIN = 20


def recent(
    context: typer.Context,
    n: Annotated[int, typer.Option("-n", "--limit", min=0, metavar="N", help="Print at most N.")] = 10,
    entity: Entity = None,
    platform: Platform = None,
    source: Sources = None,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only this payload or emission type; may be repeated."),
    ] = None,
    emissions: Annotated[bool, typer.Option("--emissions", help="Print emissions instead of signals.")] = False,
    start: Start = None,
    end: End = None,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Print the newest signals, newest first.

    Sorted by time and id. Signals dated in the future are left out, unless --end includes them. With --json, signals
    are printed completely, as `to_dict()` returns them.
    """
    if emissions and source:
        msg = "emissions have no source; filter them with --type"
        raise typer.BadParameter(msg, param_hint="'--source'")
    first, last = window_of(start, end)
    ref = entity_of(entity, platform)
    with open_to_read(context, option) as store:
        if emissions:
            titles = ["time", "emission", "caused by", "type", "entities", "payload"]
            concluded = store.get_latest_approval_outcomes(
                limit=n, start=first, end=last, entity_ref=ref, emission_types=type_
            )
            records = [emission.to_dict() for emission in concluded]
            rows = [(*emission_cells(item), shown_refs(item), shown_value(item.payload)) for item in concluded]
        else:
            titles = ["time", "signal", "source", "type", "entities", "payload"]
            observed = store.get_latest_draft_signals(
                limit=n, start=first, end=last, entity_ref=ref, sources=source, payload_types=type_
            )
            records = [signal.to_dict() for signal in observed]
            rows = [(*signal_cells(item), shown_refs(item), shown_value(item.payload)) for item in observed]
    if as_json:
        for record in records:
            print_record(record)
    elif rows:
        print_table(titles, _cut(titles, rows))
    else:
        what = "emission" if emissions else "signal"
        say(f"no {what} matches from {shown_time(first)} to {shown_time(last)}")


def _cut(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Return rows with the last cell, the payload, cut to the width of a terminal."""
    if not sys.stdout.isatty():
        return rows
    others = [max(map(len, column)) + 2 for column in zip(titles, *rows, strict=True)][:-1]
    room = max(shutil.get_terminal_size().columns - sum(others), _PAYLOAD_WIDTH_MIN)
    return [[*cells, payload if len(payload) <= room else f"{payload[: room - 1]}…"] for *cells, payload in rows]
