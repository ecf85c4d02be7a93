"""`bucketlog streams`: list the streams of a store."""

from __future__ import annotations

from bucketlog.cli.arguments import AsJson, StorageOptions, Url, open_to_read
from bucketlog.cli.output import print_json, print_table

EXAMPLE = "bucketlog streams s3://acme-events/prod"


def streams(url: Url, as_json: AsJson = False, option: StorageOptions = None) -> None:
    """List the streams of a store."""
    with open_to_read(url, option) as store:
        names = store.streams()
    if as_json:
        for name in names:
            print_json({"stream": name})
    elif names:
        print_table(["stream"], [[name] for name in names])
