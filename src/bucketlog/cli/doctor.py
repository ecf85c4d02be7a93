"""`bucketlog doctor`: diagnose a location."""

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
    """Check whether a location can hold a store, and explain what to fix.

    Checks credentials, permissions, conditional writes, listings, range reads, clocks, latency and the bucket's
    settings, on scratch keys that are removed afterwards. The location needs no store, and none is created. Exits with
    1 if a check fails.
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
        print_table(["server behaviour", ""], list(diagnosis.facts.items()))
    failed = [finding.name for finding in diagnosis.findings if finding.status == "fail"]
    warned = [finding.name for finding in diagnosis.findings if finding.status == "warn"]
    print_text("")
    if failed:
        print_text(f"{diagnosis.url}: not fit for a store; fix {', '.join(failed)}")
    elif warned:
        print_text(f"{diagnosis.url}: fit for a store; check {', '.join(warned)}")
    else:
        print_text(f"{diagnosis.url}: fit for a store")
