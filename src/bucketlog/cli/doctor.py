"""`bucketlog doctor`: what works at a place, what does not, and what to do."""

from __future__ import annotations

from dataclasses import asdict

import typer

from bucketlog import Diagnosis, diagnose
from bucketlog.cli.arguments import AsJson, StorageOptions, Url, storage_options_of
from bucketlog.cli.output import print_json, print_table, print_text
from bucketlog.cli.run import NO

EXAMPLE = """\
bucketlog doctor s3://acme-events/prod
bucketlog doctor ./events --json | jq 'select(.status != "ok")'"""

_SIGNS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def doctor(url: Url, as_json: AsJson = False, option: StorageOptions = None) -> None:
    """Find out whether a place can hold a store, and what stands in the way.

    Tries out credentials, permissions, conditional writes, listings, ranges, clocks, latency and a bucket's settings,
    on scratch keys that are removed again. No store needs to be there, and none is made. Exit code 1 when something
    fails.
    """
    diagnosis = diagnose(url, storage_options=storage_options_of(option))
    if as_json:
        for finding in diagnosis.findings:
            print_json(asdict(finding))
        for case, found in diagnosis.facts.items():
            print_json({"name": "fact", "case": case, "found": found})
    else:
        _print(diagnosis)
    if not diagnosis.ok:
        raise typer.Exit(NO)


def _print(diagnosis: Diagnosis) -> None:
    for finding in diagnosis.findings:
        print_text(f"{_SIGNS[finding.status]}  {finding.name}: {finding.what}")
        if finding.advice:
            print_text(f"      -> {finding.advice}")
    if diagnosis.facts:
        print_text("")
        print_table(["what the server does", ""], list(diagnosis.facts.items()))
    failed = [one.name for one in diagnosis.findings if one.status == "fail"]
    warned = [one.name for one in diagnosis.findings if one.status == "warn"]
    print_text("")
    if failed:
        print_text(f"{diagnosis.url}: not fit for a store as it is: {', '.join(failed)}")
    elif warned:
        print_text(f"{diagnosis.url}: fit for a store; have a look at {', '.join(warned)}")
    else:
        print_text(f"{diagnosis.url}: fit for a store")
