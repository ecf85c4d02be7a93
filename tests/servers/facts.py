"""Facts about servers, in the cases of `bucketlog doctor`, and a table that compares several servers."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from bucketlog_backends.s3.facts import Experiment
from bucketlog_backends.s3.options import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .server import Server

ROUNDS = 12


def measure(server: Server) -> dict[str, str]:
    """Return the result of each case. On a server that is not ours no bucket is created, so one case is skipped."""
    versioned = ""
    if server.ours:
        client, versioned = server.client(), f"bucketlog-{uuid.uuid4()}"
        client.create_bucket(Bucket=versioned)
        client.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Enabled"})
    settings = read_settings(server.base_url, server.options, os.environ)
    experiment = Experiment(settings, f"facts-{uuid.uuid4()}/", rounds=ROUNDS)
    try:
        return experiment.facts(versioned=versioned)
    finally:
        experiment.clean_up()


def table(columns: dict[str, dict[str, str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table with a column for each server."""
    cases = list(dict.fromkeys(case for facts in columns.values() for case in facts))
    rows = [["case", *columns], *([case, *(facts[case] for facts in columns.values())] for case in cases)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
