"""`bucketlog signals URL outcomes`: print the outcomes of signals that expect one."""

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
    """The outcome of a signal."""

    pending = "pending"
    expired = "expired"
    success = "success"
    failure = "failure"


def _types(name: str, text: str, usual: str) -> Any:  # noqa: ANN401  (the type that Typer's function returns)
    return typer.Option(name, metavar="TYPE", help=f"{text}; may be repeated.", show_default=usual)


# Longer than 60 lines because Typer reads the options from the signature.
def outcomes(
    context: typer.Context,
    start: Start = None,
    end: End = None,
    now: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_time, metavar="TIME", help="Signals that end before this time are expired.", show_default="now"
        ),
    ] = None,
    only: Annotated[
        list[Outcome] | None,
        typer.Option(metavar="|".join(Outcome), help="Only this outcome; may be repeated."),
    ] = None,
    entity: Entity = None,
    platform: Platform = None,
    source: Sources = None,
    pending: Annotated[
        list[str] | None,
        _types(
            "--pending",
            "Payload type of signals that expect an outcome",
            "OutcomePending, EvaluationRequested, RecommendationAttempted",
        ),
    ] = None,
    success: Annotated[
        list[str] | None,
        _types("--success", "Emission type that means success", "OutcomeSuccess, DraftApproved"),
    ] = None,
    failure: Annotated[
        list[str] | None,
        _types("--failure", "Emission type that means failure", "OutcomeFailure, DraftRejected"),
    ] = None,
    expires_at: Annotated[
        str, typer.Option("--expires-at", metavar="MEMBER", help="Member of the payload with its end time.")
    ] = "expires_at",
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Print the outcomes of signals that expect one.

    A signal is pending until an emission of a success or failure type names it as its cause. It is expired if its end
    time passes before that. Both signals and emissions must lie in the window, and with --entity both must refer to the
    entity; --source applies to signals only. Every success and failure is printed, even if something else caused it.
    Within each outcome, the oldest come first.
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
            for envelope in envelopes:
                print_record({"outcome": outcome, **envelope.to_dict()})
        return
    rows = [_row(outcome, envelope, expires_at) for outcome, envelopes in shown.items() for envelope in envelopes]
    if rows:
        titles = ["outcome", "time", "id", "source or cause", "type", "expires"]
        print_table(titles, rows)
    say(", ".join(f"{len(envelopes):,} {outcome}" for outcome, envelopes in shown.items()))


def _row(outcome: Outcome, envelope: Any, expires_at: str) -> tuple[str, ...]:  # noqa: ANN401  (of either kind)
    if outcome in (Outcome.success, Outcome.failure):
        cells, expires = emission_cells(envelope), None
    else:
        payload = envelope.payload
        cells, expires = signal_cells(envelope), payload.get(expires_at) if isinstance(payload, dict) else None
    return (outcome.value, *cells, "" if expires is None else shown_value(expires))
