"""`bucketlog checkpoints`: the small named values of a store."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from bucketlog.cli.arguments import AsJson, StorageOptions, Url, open_to_read
from bucketlog.cli.output import print_json, print_table, print_text, say
from bucketlog.cli.run import NO

EXAMPLE = """\
bucketlog checkpoints ./events
bucketlog checkpoints ./events billing --json | jq .value"""


def checkpoints(
    url: Url,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The checkpoint to show. Default: list all.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """List the checkpoints of a store, or show one.

    Exits with 1 if there is no checkpoint NAME.
    """
    with open_to_read(url, option) as store:
        if name is None:
            names = store.checkpoints.list()
            if as_json:
                for listed in names:
                    print_json({"name": listed})
            elif names:
                print_table(["checkpoint"], [[listed] for listed in names])
            return
        found = store.checkpoints.load(name)
        if found is None:
            say(f"bucketlog: there is no checkpoint {name!r} in {store.url}")
            raise typer.Exit(NO)
    if as_json:
        record = {"name": found.name, "version": found.version, "updated": found.updated, "value": found.value}
        print_json(record)
    else:
        print_table(["checkpoint", "version", "updated"], [[found.name, found.version, found.updated]])
        print_text(msgspec.json.format(msgspec.json.encode(found.value)).decode())
