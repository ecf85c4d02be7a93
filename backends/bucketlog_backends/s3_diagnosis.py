"""What an S3 server and a bucket's settings hold in store for a log, asked with requests of their own through boto3.

The protocol of backends shows neither a bucket's versioning and lifecycle rules nor how a server words its refusals.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from bucketlog_backends.s3_options import S3Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Remark = tuple[str, Literal["ok", "warn", "fail"], str, str]

RIVALS = 8
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
        client = _client(settings)
    except errors as err:
        why = f"could not look: boto3 cannot be used ({type(err).__name__})"
        return [("versioning", "warn", why, "see to boto3's configuration")], {}
    rules, lifecycle = _lifecycle(client, settings, errors)
    remarks = [_versioning(client, settings, rules, errors), lifecycle]
    experiment = _Experiment(client, settings, scratch, errors)
    try:
        facts = experiment.facts()
    except errors as err:
        facts = experiment.found
        remarks.append(("facts", "warn", f"could not look at every case: {_why(err)}", "try again"))
    finally:
        experiment.clean_up()
    return remarks, facts


# -- the bucket's settings ---------------------------------------------------------------------------------------------


def _versioning(
    client: Any,  # noqa: ANN401  (boto3 has no types)
    settings: S3Settings,
    rules: Iterable[Mapping[str, Any]],
    errors: tuple[type[Exception], ...],
) -> Remark:
    try:
        status = client.get_bucket_versioning(Bucket=settings.bucket).get("Status", "")
    except errors as err:
        return "versioning", "warn", f"could not look: {_why(err)}", "allow s3:GetBucketVersioning, or ask its owner"
    if not status:
        return "versioning", "ok", "the bucket keeps no old versions", ""
    if any("NoncurrentVersionExpiration" in rule for rule in rules):
        return "versioning", "ok", f"versioning is {status.lower()}, and a rule removes old versions", ""
    what = f"versioning is {status.lower()}: what is replaced or deleted keeps taking room, and is never gone"
    advice = "use a bucket that never had versioning, or add a lifecycle rule with NoncurrentVersionExpiration"
    return "versioning", "warn", what, advice


def _lifecycle(
    client: Any,  # noqa: ANN401
    settings: S3Settings,
    errors: tuple[type[Exception], ...],
) -> tuple[list[Mapping[str, Any]], Remark]:
    """Return the rules that reach the store's objects, and what they mean for it."""
    try:
        found = client.get_bucket_lifecycle_configuration(Bucket=settings.bucket).get("Rules", [])
    except errors as err:
        if _code(err) != "NoSuchLifecycleConfiguration":
            advice = "allow s3:GetLifecycleConfiguration, or ask its owner"
            return [], ("lifecycle", "warn", f"could not look: {_why(err)}", advice)
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


# -- what the server does ----------------------------------------------------------------------------------------------


class _Answer:
    """How one request went: its status, and the bare ETag when it was taken."""

    def __init__(self, status: int, etag: str = "") -> None:
        self.status, self.etag = status, etag
        self.taken = status < 300


class _Experiment:
    """The cases, on keys below a scratch folder. `found` holds what is known so far."""

    def __init__(
        self,
        client: Any,  # noqa: ANN401
        settings: S3Settings,
        scratch: str,
        errors: tuple[type[Exception], ...],
    ) -> None:
        self.found: dict[str, str] = {}
        self._client, self._bucket, self._errors = client, settings.bucket, errors
        self._base = f"{settings.prefix}/{scratch}" if settings.prefix else scratch
        self._keys: list[str] = []

    def facts(self) -> dict[str, str]:
        """Return the answer to each case."""
        found = self.found
        found[f"PUT If-None-Match: *, {RIVALS}-way race"] = self._race({"IfNoneMatch": "*"})[0]
        found["PUT If-Match, quoted ETag"] = self._if_match('"{}"')
        found["PUT If-Match, unquoted ETag"] = unquoted = self._if_match("{}")
        found["PUT If-Match, the ETag and more"] = self._if_match_longer()
        form = "{}" if unquoted == "right" else '"{}"'
        verdict, losers = self._race(form)
        found[f"compare-and-set, {RIVALS}-way race"] = verdict
        found["loser of a compare-and-set race"] = losers
        found["conditional DELETE"] = self._delete()
        found["conditional COPY"] = self._copy()
        found["keys `a` and `a/b` together"] = self._folder()
        found["a path part of 256 bytes"] = self._accepts(self._new_key("p" * 256))
        found["a key of 1025 bytes"] = self._accepts(self._new_key(bytes_in_all=1025))
        return found

    def clean_up(self) -> None:
        """Remove all keys that were tried."""
        for key in self._keys:
            # One by one: not every server knows DeleteObjects, and some keys were never taken.
            self._answer(partial(self._client.delete_object, Bucket=self._bucket, Key=key))

    # -- cases ---------------------------------------------------------------------------------------------------------

    def _race(self, condition: Mapping[str, str] | str) -> tuple[str, str]:
        """Let rivals put under one condition, or to replace one version whose ETag is sent in a form."""
        verdicts: set[str] = set()
        told: Counter[int] = Counter()
        with ThreadPoolExecutor(RIVALS) as pool:
            for _ in range(ROUNDS):
                key = self._new_key()
                asked = {"IfMatch": condition.format(self._put(key).etag)} if isinstance(condition, str) else condition
                barrier = threading.Barrier(RIVALS)

                def rival(
                    number: int, key: str = key, asked: Mapping[str, str] = asked, barrier: threading.Barrier = barrier
                ) -> _Answer:
                    barrier.wait(30)
                    return self._put(key, f"rival {number}".encode(), **asked)

                answers = list(pool.map(rival, range(RIVALS)))
                winners = [number for number, answer in enumerate(answers) if answer.taken]
                told.update(answer.status for answer in answers if not answer.taken)
                verdicts.add(self._verdict(key, winners))
        wrong = sorted(verdicts - {"one winner"})
        return ", ".join(wrong) or "one winner", ", sometimes ".join(str(status) for status, _ in told.most_common())

    def _verdict(self, key: str, winners: list[int]) -> str:
        if len(winners) == RIVALS:
            return "ignored: all win"
        if len(winners) != 1:
            return f"{len(winners)} winners"
        return "one winner" if self._read(key) == f"rival {winners[0]}".encode() else "the winner's bytes are lost"

    def _if_match(self, form: str) -> str:
        key = self._new_key()
        stale = self._put(key, b"first").etag
        fresh = self._put(key, b"second", IfMatch=form.format(stale))
        late = self._put(key, b"third", IfMatch=form.format(stale))
        if fresh.taken:
            return "ignored" if late.taken else "right"
        return f"{fresh.status} always"

    def _if_match_longer(self) -> str:
        key = self._new_key()
        return "accepted" if self._put(key, b"second", IfMatch=f"{self._put(key).etag}0").taken else "refused"

    def _delete(self) -> str:
        key = self._new_key()
        self._put(key)
        wrong = f'"{"0" * 32}"'
        done = self._answer(lambda: self._client.delete_object(Bucket=self._bucket, Key=key, IfMatch=wrong))
        there = self._answer(lambda: self._client.head_object(Bucket=self._bucket, Key=key)).taken
        return _refused(done, kept=there)

    def _copy(self) -> str:
        source, key = self._new_key(), self._new_key()
        self._put(source, b"source")
        self._put(key, b"there")
        place = {"Bucket": self._bucket, "Key": key, "CopySource": {"Bucket": self._bucket, "Key": source}}
        done = self._answer(lambda: self._client.copy_object(**place, IfNoneMatch="*"))
        return _refused(done, kept=self._read(key) == b"there")

    def _folder(self) -> str:
        key = self._new_key("a")
        below = self._new_key("a/b")
        self._put(key)
        if not (answer := self._put(below)).taken:
            return str(answer.status)
        listed = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key).get("Contents", ())
        return "fine" if below in {one["Key"] for one in listed} else "`a/b` never listed"

    def _accepts(self, key: str) -> str:
        return "accepted" if self._put(key).taken else "refused"

    # -- requests ------------------------------------------------------------------------------------------------------

    def _new_key(self, name: str = "", *, bytes_in_all: int = 0) -> str:
        """Return a key of its own; one of so many bytes has parts of ordinary length."""
        key = f"{self._base}{name or f'{len(self._keys):04}'}"
        if bytes_in_all:
            key = (key + "/".join(["k" * 99] * 11))[: bytes_in_all - 1] + "k"
        self._keys.append(key)
        return key

    def _put(self, key: str, data: bytes = b"before", **condition: str) -> _Answer:
        return self._answer(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=data, **condition))

    def _read(self, key: str) -> bytes:
        data: bytes = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return data

    def _answer(self, request: Callable[[], Mapping[str, Any]]) -> _Answer:
        """Send a request; a refusal is an answer too, with status 400 where boto3 would not send it."""
        try:
            answer = request()
        except self._errors as err:
            response: Mapping[str, Any] = getattr(err, "response", {})
            return _Answer(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
        return _Answer(answer["ResponseMetadata"]["HTTPStatusCode"], str(answer.get("ETag", "")).strip('"'))


def _refused(answer: _Answer, *, kept: bool) -> str:
    if kept:
        return "right" if answer.status in (409, 412) else f"{answer.status}, nothing done"
    return "ignored" if answer.taken else f"{answer.status}, yet done"


# -- boto3 -------------------------------------------------------------------------------------------------------------


def _client(settings: S3Settings) -> Any:  # noqa: ANN401
    """Return a client that sends each request once and adds nothing to it."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    session = boto3.Session(profile_name=settings.profile or None)
    signing = {"signature_version": UNSIGNED} if settings.anon else {}
    return session.client(
        "s3",
        endpoint_url=settings.endpoint_url or None,
        aws_access_key_id=settings.access_key_id or None,
        aws_secret_access_key=settings.secret_access_key or None,
        aws_session_token=settings.session_token or None,
        region_name=settings.region or session.region_name or "us-east-1",
        config=Config(
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=RIVALS,
            connect_timeout=5,
            read_timeout=20,
            s3={"addressing_style": "virtual" if settings.virtual else "path"},
            **signing,
        ),
    )


def _code(err: Exception) -> str:
    response: Mapping[str, Any] = getattr(err, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def _why(err: Exception) -> str:
    """Return what may be shown of an error: its text may repeat what was sent."""
    code = _code(err)
    if code in ("AccessDenied", "403", "AllAccessDisabled"):
        return "permission denied"
    return f"the server answered {code}" if code else type(err).__name__
