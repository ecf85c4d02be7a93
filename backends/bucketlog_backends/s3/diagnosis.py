"""A bucket's settings and its server, as `bucketlog doctor` reports them.

The backend protocol does not show the versioning and the lifecycle rules of a bucket.
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
ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")  # whose objects must be restored before they can be read

_NO_BOTO3 = "boto3 is not installed"
_INSTALL = 'pip install "bucketlog[s3]"'


def ask(url: str, options: Mapping[str, object], scratch: str) -> tuple[list[Remark], dict[str, str]]:
    """Check the settings of a bucket, and measure the cases in which servers differ.

    Args:
        url: `s3://bucket/prefix`.
        options: The options of the backend.
        scratch: A folder below the URL that is not used otherwise, ending with `/`. It is empty again afterwards.

    Returns:
        The findings as (name, status, finding, advice), and the result of each case.
    """
    settings = read_settings(url, options, os.environ)
    try:
        import boto3
        import botocore.exceptions
    except ImportError:
        missing = f"could not check: {_NO_BOTO3}"
        return [("versioning", "warn", missing, _INSTALL), ("lifecycle", "warn", missing, _INSTALL)], {}
    del boto3
    errors = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError)
    try:
        client = client_of(settings)
    except errors as err:
        why = f"could not check: boto3 cannot be used ({type(err).__name__})"
        return [("versioning", "warn", why, "check boto3's configuration")], {}
    rules, lifecycle = _lifecycle(client, settings, errors)
    status, versioning = _versioning(client, settings, rules, errors)
    remarks = [versioning, lifecycle]
    experiment = Experiment(settings, scratch, rounds=ROUNDS)
    try:
        facts = experiment.facts(versioned=settings.bucket if status == "Enabled" else "")
    except errors as err:
        facts = experiment.found
        remarks.append(("facts", "warn", f"could not check every case: {reason_of(err)}", "try again"))
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
    """Return the status of versioning, empty if it was never enabled, and what it means for a log."""
    try:
        status: str = client.get_bucket_versioning(Bucket=settings.bucket).get("Status", "")
    except errors as err:
        advice = "allow s3:GetBucketVersioning, or ask the owner of the bucket"
        return "", ("versioning", "warn", f"could not check: {reason_of(err)}", advice)
    if not status:
        return "", ("versioning", "ok", "the bucket keeps no old versions", "")
    if any("NoncurrentVersionExpiration" in rule for rule in rules):
        what = f"versioning is {status.lower()}, and a rule deletes old versions"
        return status, ("versioning", "ok", what, "")
    what = f"versioning is {status.lower()}: replaced and deleted objects keep using space"
    advice = "use a bucket that never had versioning, or add a lifecycle rule with NoncurrentVersionExpiration"
    return status, ("versioning", "warn", what, advice)


def _lifecycle(
    client: Any,  # noqa: ANN401
    settings: S3Settings,
    errors: tuple[type[Exception], ...],
) -> tuple[list[Mapping[str, Any]], Remark]:
    """Return the rules that apply to the store's objects, and what they mean for it."""
    try:
        found = client.get_bucket_lifecycle_configuration(Bucket=settings.bucket).get("Rules", [])
    except errors as err:
        if code_of(err) != "NoSuchLifecycleConfiguration":
            advice = "allow s3:GetLifecycleConfiguration, or ask the owner of the bucket"
            return [], ("lifecycle", "warn", f"could not check: {reason_of(err)}", advice)
        found = []
    rules = [rule for rule in found if rule.get("Status") == "Enabled" and _reaches(rule, settings.prefix)]
    harm = [f"rule {rule.get('ID', '')!r} {wrong}" for rule in rules for wrong in _harm(rule)]
    if harm:
        advice = f"exclude s3://{settings.bucket}/{settings.prefix} from these rules, or use another bucket or prefix"
        return rules, ("lifecycle", "fail", "; ".join(harm), advice)
    return rules, ("lifecycle", "ok", "no lifecycle rule deletes or archives the objects here", "")


def _reaches(rule: Mapping[str, Any], prefix: str) -> bool:
    """Return True if a rule applies to objects below a prefix. The objects of a store have no tags."""
    only = rule.get("Filter") or {}
    both = only.get("And") or {}
    if "Tag" in only or both.get("Tags"):
        return False
    scope = only.get("Prefix") or both.get("Prefix") or rule.get("Prefix") or ""
    base = f"{prefix}/" if prefix else ""
    return bool(base.startswith(scope) or scope.startswith(base))


def _harm(rule: Mapping[str, Any]) -> Iterable[str]:
    expiration = rule.get("Expiration") or {}
    if "Days" in expiration:
        yield f"deletes objects after {expiration['Days']} days: events will be lost"
    elif "Date" in expiration:
        yield "deletes objects after a date: events will be lost"
    for step in rule.get("Transitions", ()):
        if step.get("StorageClass") in ARCHIVES:
            yield f"moves objects to {step['StorageClass']}: they could no longer be read"
