"""`bucketlog signals URL outcomes`: what became of the signals that wait for an outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from bucketlog.cli.arguments import AsJson, StorageOptions, parse_time
from bucketlog.cli.output import print_table, say
from bucketlog.cli.signals.arguments import End, Entity, Platform, Sources, Start, entity_of, open_to_read, window_of
from bucketlog.cli.signals.printing import (
    emission_cells,
    print_record,
    shown_value,
    signal_cells,
)

EXAMPLE = """\
bucketlog signals ./workspace outcomes --start 2026-02-01 --end 2026-02-07
bucketlog signals ./workspace outcomes --only expired --json | jq -r .signal_id"""


class Outcome(StrEnum):
    """What may have become of a signal."""

    pending = "pending"
    expired = "expired"
    success = "success"
    failure = "failure"


def _types(name: str, text: str, usual: str) -> Any:  # noqa: ANN401  (what Typer's own function returns)
    return typer.Option(name, metavar="TYPE", help=f"{text}; may be repeated.", show_default=usual)


def outcomes(
    context: typer.Context,
    start: Start = None,
    end: End = None,
    now: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="Expired is what ends before it.", show_default="now"),
    ] = None,
    only: Annotated[
        list[Outcome] | None,
        typer.Option(metavar="|".join(Outcome), help="Only these; may be repeated."),
    ] = None,
    entity: Entity = None,
    platform: Platform = None,
    source: Sources = None,
    pending: Annotated[
        list[str] | None,
        _types(
            "--pending",
            "The payload type of signals that wait",
            "OutcomePending, EvaluationRequested, RecommendationAttempted",
        ),
    ] = None,
    success: Annotated[
        list[str] | None,
        _types("--success", "The emission type that is a success", "OutcomeSuccess, DraftApproved"),
    ] = None,
    failure: Annotated[
        list[str] | None,
        _types("--failure", "The emission type that is a failure", "OutcomeFailure, DraftRejected"),
    ] = None,
    expires_at: Annotated[
        str, typer.Option("--expires-at", metavar="MEMBER", help="The member of the payload that holds its end.")
    ] = "expires_at",
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Print what became of the signals that wait for an outcome.

    A signal is pending until an emission of a success or failure type names it as its cause, and expired when its
    payload holds a time that has passed before. Signals and emissions both have to lie in the window, and with --entity
    both have to refer to it; --source is of signals alone. Every success and failure is shown, also one that was
    caused by something else. All of them are oldest first.
    """
    first, last = window_of(start, end)
    ref = entity_of(entity, platform)
    with open_to_read(context, option) as store:
        found = store.get_outcome_window_buckets(
            now=now or datetime.now(UTC),
            start=first,
            end=last,
            entity_ref=ref,
            sources=source,
            pending_payload_types=pending,
            success_emission_types=success,
            failure_emission_types=failure,
            expires_at_field=expires_at,
        )
    shown = {outcome: found[outcome] for outcome in Outcome if not only or outcome in only}
    if as_json:
        for outcome, envelopes in shown.items():
            for one in envelopes:
                print_record({"outcome": outcome, **one.to_dict()})
        return
    rows = [_row(outcome, one, expires_at) for outcome, envelopes in shown.items() for one in envelopes]
    if rows:
        titles = ["outcome", "time", "id", "source or cause", "type", "expires"]
        print_table(titles, rows)
    say(", ".join(f"{len(envelopes):,} {outcome}" for outcome, envelopes in shown.items()))


def _row(outcome: Outcome, one: Any, expires_at: str) -> tuple[str, ...]:  # noqa: ANN401  (an envelope of either kind)
    if outcome in (Outcome.success, Outcome.failure):
        cells, expires = emission_cells(one), None
    else:
        cells, expires = signal_cells(one), one.payload.get(expires_at) if isinstance(one.payload, dict) else None
    return (outcome.value, *cells, "" if expires is None else shown_value(expires))
