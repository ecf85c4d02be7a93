"""What a bucket's settings and its server hold in store for a log, in the words of a doctor.

The protocol of backends does not show a bucket's versioning and lifecycle rules.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from bucketlog_backends.s3.facts import Experiment, client_of, code_of, reason_of
from bucketlog_backends.s3.options import S3Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Remark = tuple[str, Literal["ok", "warn", "fail"], str, str]

ROUNDS = 3
ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")  # from which nothing can be read without restoring it first

_NO_BOTO3 = "boto3 is not installed"
_INSTALL = 'pip install "bucketlog[s3]"'


def ask(url: str, options: Mapping[str, object], scratch: str) -> tuple[list[Remark], dict[str, str]]:
    """Look at a bucket's settings, and at what its server does where servers differ.

    Args:
        url: `s3://bucket/prefix`.
        options: As the backend takes them.
        scratch: A folder below the URL that nobody else uses; it ends with `/`, and is empty again afterwards.

    Returns:
        Findings as (name, status, what, advice), and the answer to each case.
    """
    settings = read_settings(url, options, os.environ)
    try:
        import boto3
        import botocore.exceptions
    except ImportError:
        missing = f"could not look: {_NO_BOTO3}"
        return [("versioning", "warn", missing, _INSTALL), ("lifecycle", "warn", missing, _INSTALL)], {}
    del boto3
    errors = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError)
    try:
        client = client_of(settings)
    except errors as err:
        why = f"could not look: boto3 cannot be used ({type(err).__name__})"
        return [("versioning", "warn", why, "see to boto3's configuration")], {}
    rules, lifecycle = _lifecycle(client, settings, errors)
    status, versioning = _versioning(client, settings, rules, errors)
    remarks = [versioning, lifecycle]
    experiment = Experiment(settings, scratch, rounds=ROUNDS)
    try:
        facts = experiment.facts(versioned=settings.bucket if status == "Enabled" else "")
    except errors as err:
        facts = experiment.found
        remarks.append(("facts", "warn", f"could not look at every case: {reason_of(err)}", "try again"))
    finally:
        experiment.clean_up()
    return remarks, facts


# -- the bucket's settings ---------------------------------------------------------------------------------------------


def _versioning(
    client: Any,  # noqa: ANN401  (boto3 has no types)
    settings: S3Settings,
    rules: Iterable[Mapping[str, Any]],
    errors: tuple[type[Exception], ...],
) -> tuple[str, Remark]:
    """Return the status of versioning, empty where it never was on, and what it means for a log."""
    try:
        status: str = client.get_bucket_versioning(Bucket=settings.bucket).get("Status", "")
    except errors as err:
        advice = "allow s3:GetBucketVersioning, or ask its owner"
        return "", ("versioning", "warn", f"could not look: {reason_of(err)}", advice)
    if not status:
        return "", ("versioning", "ok", "the bucket keeps no old versions", "")
    if any("NoncurrentVersionExpiration" in rule for rule in rules):
        what = f"versioning is {status.lower()}, and a rule removes old versions"
        return status, ("versioning", "ok", what, "")
    what = f"versioning is {status.lower()}: what is replaced or deleted keeps taking room, and is never gone"
    advice = "use a bucket that never had versioning, or add a lifecycle rule with NoncurrentVersionExpiration"
    return status, ("versioning", "warn", what, advice)


def _lifecycle(
    client: Any,  # noqa: ANN401
    settings: S3Settings,
    errors: tuple[type[Exception], ...],
) -> tuple[list[Mapping[str, Any]], Remark]:
    """Return the rules that reach the store's objects, and what they mean for it."""
    try:
        found = client.get_bucket_lifecycle_configuration(Bucket=settings.bucket).get("Rules", [])
    except errors as err:
        if code_of(err) != "NoSuchLifecycleConfiguration":
            advice = "allow s3:GetLifecycleConfiguration, or ask its owner"
            return [], ("lifecycle", "warn", f"could not look: {reason_of(err)}", advice)
        found = []
    rules = [rule for rule in found if rule.get("Status") == "Enabled" and _reaches(rule, settings.prefix)]
    harm = [f"rule {rule.get('ID', '')!r} {wrong}" for rule in rules for wrong in _harm(rule)]
    if harm:
        advice = f"take s3://{settings.bucket}/{settings.prefix} out of these rules, or use another bucket or prefix"
        return rules, ("lifecycle", "fail", "; ".join(harm), advice)
    return rules, ("lifecycle", "ok", "no lifecycle rule deletes or archives what lies here", "")


def _reaches(rule: Mapping[str, Any], prefix: str) -> bool:
    """Tell whether a rule is about objects below a prefix; those of a store have no tags."""
    only = rule.get("Filter") or {}
    both = only.get("And") or {}
    if "Tag" in only or both.get("Tags"):
        return False
    about = only.get("Prefix") or both.get("Prefix") or rule.get("Prefix") or ""
    base = f"{prefix}/" if prefix else ""
    return bool(base.startswith(about) or about.startswith(base))


def _harm(rule: Mapping[str, Any]) -> Iterable[str]:
    expiration = rule.get("Expiration") or {}
    if "Days" in expiration:
        yield f"deletes objects after {expiration['Days']} days: events will be lost"
    elif "Date" in expiration:
        yield "deletes objects from a date on: events will be lost"
    for step in rule.get("Transitions", ()):
        if step.get("StorageClass") in ARCHIVES:
            yield f"moves objects to {step['StorageClass']}: they could no longer be read"
