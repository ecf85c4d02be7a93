"""`bucketlog snapshots`: list the snapshots of a store, or show one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
import typer

from bucketlog import Snapshot
from bucketlog.cli.arguments import AsJson, StorageOptions, Url, open_to_read
from bucketlog.cli.output import print_json, print_table, print_text, say
from bucketlog.cli.run import NO
from bucketlog.errors import NotFoundError

EXAMPLE = """\
bucketlog snapshots ./events
bucketlog snapshots ./events system_state --latest --json | jq .state
bucketlog snapshots ./events digest --at 2026-02-05"""


def snapshots(
    url: Url,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="List the times of this snapshot. Default: all names.", show_default=False),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="AT", help="Show the snapshot with this time or text key.", show_default=False),
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="Show the newest snapshot.")] = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """List the snapshots of a store, or show one.

    Exits with 1 if there is no such snapshot.
    """
    if (at is not None or latest) and name is None:
        msg = "--at and --latest need a NAME"
        raise typer.BadParameter(msg)
    if at is not None and latest:
        msg = "use --at or --latest, not both"
        raise typer.BadParameter(msg)
    with open_to_read(url, option) as store:
        if name is None:
            _print_list("name", store.snapshots.names(), as_json=as_json)
            return
        if at is None and not latest:
            times = [_shown(listed.at) for listed in store.snapshots.list(name)]
            if not times:
                say(f"bucketlog: there is no snapshot {name!r} in {store.url}")
                raise typer.Exit(NO)
            _print_list("at", times, as_json=as_json)
            return
        try:
            found = store.snapshots.latest(name) if at is None else store.snapshots.load(name, _parse_at(at))
        except NotFoundError as err:
            say(f"bucketlog: {err}")
            raise typer.Exit(NO) from None
        if found is None:
            say(f"bucketlog: there is no snapshot {name!r} in {store.url}")
            raise typer.Exit(NO)
    _print_snapshot(found, as_json=as_json)


def _parse_at(text: str) -> datetime | str:
    """Parse a time with an offset as a time; take everything else, bare dates included, as a text key."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if time.tzinfo is None else time


def _shown(at: datetime | str) -> str:
    return at if isinstance(at, str) else at.isoformat().replace("+00:00", "Z")


def _print_list(title: str, values: list[str], *, as_json: bool) -> None:
    if as_json:
        for value in values:
            print_json({title: value})
    elif values:
        print_table([title], [[value] for value in values])


def _print_snapshot(found: Snapshot, *, as_json: bool) -> None:
    cursor = None if found.cursor is None else dict(found.cursor)
    if as_json:
        print_json({"name": found.name, "at": _shown(found.at), "cursor": cursor, "state": found.state})
    else:
        shown = None if cursor is None else msgspec.json.encode(cursor).decode()
        print_table(["snapshot", "at", "cursor"], [[found.name, _shown(found.at), shown]])
        print_text(msgspec.json.format(msgspec.json.encode(found.state)).decode())
