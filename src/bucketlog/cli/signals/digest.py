"""`bucketlog signals URL digest`: print the documents of a day."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import typer

from bucketlog.cli.arguments import AsJson, StorageOptions
from bucketlog.cli.output import print_table, print_text, say
from bucketlog.cli.run import FAILED, NO
from bucketlog.cli.signals.arguments import open_to_read
from bucketlog.cli.signals.printing import print_record, shown_value
from bucketlog.errors import BucketlogError

if TYPE_CHECKING:
    from bucketlog.signals import SignalStore

EXAMPLE = """\
bucketlog signals ./workspace digest
bucketlog signals ./workspace digest 2026-02-05
bucketlog signals ./workspace digest 2026-02-05 --kind calibration --json | jq .report"""


class Kind(StrEnum):
    """The documents that a day may have."""

    digest = "digest"
    calibration = "calibration"
    credibility = "credibility"


def digest(
    context: typer.Context,
    day: Annotated[
        str | None,
        typer.Argument(metavar="DAY", help="A day, e.g. 2026-02-05. Default: list the days.", show_default=False),
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(metavar="|".join(Kind), help="The kind of document.", show_default="digest; in the list, all"),
    ] = None,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Print the digest of a day, or list the days that have one.

    A day can have three documents: digest, calibration and credibility. Exits with 1 if the day does not have the one
    asked for.
    """
    with open_to_read(context, option) as store:
        if day is None:
            kinds = list(Kind) if kind is None else [kind]
            days = [(listed.value, found) for listed in kinds for found in _days(store, listed)]
            place = str(store.store_root)
        else:
            kind = kind or Kind.digest
            document = _read(store, kind, day)
            place = str(store.snapshots_dir)
    if day is None:
        _print_days(days, place, as_json=as_json)
    elif document is None:
        say(f"bucketlog: there is no {kind} of {day!r} in {place}; run this command without a day to list all days")
        raise typer.Exit(NO)
    else:
        _print_document(document, as_json=as_json)


def _days(store: SignalStore, kind: Kind) -> list[str]:
    beginning = f"{kind.value}__"
    names = [path.name for path in store.snapshots_dir.glob(f"{beginning}*.json")]
    return sorted(unquote(name.removeprefix(beginning).removesuffix(".json")) for name in names)


def _read(store: SignalStore, kind: Kind, day: str) -> Any:  # noqa: ANN401  (any JSON value, if another program wrote it)
    reads: dict[Kind, Callable[[str], dict[str, Any] | None]] = {
        Kind.digest: store.read_daily_digest_snapshot,
        Kind.calibration: store.read_calibration_snapshot,
        Kind.credibility: store.read_credibility_snapshot,
    }
    try:
        return reads[kind](day)
    except BucketlogError:
        raise
    except ValueError as err:
        path = store.snapshots_dir / f"{kind.value}__{day}.json"
        say(f"bucketlog: read {path}: not JSON ({err}); write the {kind} of that day again, or remove the file")
        raise typer.Exit(FAILED) from None


def _print_days(days: list[tuple[str, str]], place: str, *, as_json: bool) -> None:
    if as_json:
        for kind, day in days:
            print_record({"kind": kind, "day": day})
    elif days:
        print_table(["kind", "day"], days)
    else:
        say(f"no day has a document in {place}")


def _print_document(document: Any, *, as_json: bool) -> None:  # noqa: ANN401
    if as_json:
        print_record(document if isinstance(document, dict) else {"state": document})
        return
    content = document
    if isinstance(document, dict):
        content = document.get("digest", document.get("report", document))
    if isinstance(content, dict) and content:
        print_table(["member", "value"], [(name, shown_value(value)) for name, value in content.items()])
    else:
        print_text(json.dumps(content, indent=2))
