"""Facts about an S3 server, in cases in which servers differ, measured by its own requests through boto3.

`bucketlog doctor` shows the facts about a user's server, and the tests compare those of their servers with what is
written down. The backend protocol does not show them, because it hides how a server refuses a request.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bucketlog_backends.s3.options import S3Settings

RIVALS = 8

# The cases and their results, in the words of the table.
CREATE_RACE = f"PUT If-None-Match: *, {RIVALS}-way race"
CREATE_RACE_VERSIONED = "the same in a versioned bucket"
COMPLETE = "CompleteMultipartUpload If-None-Match: *"
IF_MATCH_QUOTED = "PUT If-Match, quoted ETag"
IF_MATCH_UNQUOTED = "PUT If-Match, unquoted ETag"
IF_MATCH_LONGER = "PUT If-Match, the ETag and more"
SWAP_RACE = f"compare-and-set, {RIVALS}-way race"
SWAP_LOSERS = "loser of a compare-and-set race"
DELETE = "conditional DELETE"
COPY = "conditional COPY"
FOLDER = "keys `a` and `a/b` together"
LONG_PART = "a path part of 256 bytes"
LONG_KEY = "a key of 1025 bytes"
CLOCK = "client clock 20 minutes off"
LIST = "list order, start-after"

RIGHT, IGNORED, ONE_WINNER, ALL_WIN = "right", "ignored", "one winner", "ignored: all win"
FINE, ACCEPTED, REFUSED, NOT_LISTED = "fine", "accepted", "refused", "`a/b` never listed"
NOT_MEASURED = "-"

_CLOCK_OFF = timedelta(minutes=20)


class _Answer:
    """The answer to one request: its status, and the bare ETag if the server accepted it."""

    def __init__(self, status: int, etag: str = "") -> None:
        self.status, self.etag = status, etag
        self.accepted = status < 300


class Experiment:
    """Measures the cases on keys below a scratch folder of a bucket."""

    def __init__(self, settings: S3Settings, scratch: str, *, rounds: int) -> None:
        import botocore.exceptions

        self.found: dict[str, str] = {}
        """The results so far, by case."""
        self._settings, self._rounds, self._client = settings, rounds, client_of(settings)
        self._errors = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError)
        self._bucket = settings.bucket
        self._base = f"{settings.prefix}/{scratch}" if settings.prefix else scratch
        self._keys: list[tuple[str, str]] = []  # bucket and key of every object that was tried

    def facts(self, *, versioned: str = "") -> dict[str, str]:
        """Return the result of each case. `versioned` is a bucket with versioning, if there is one."""
        found = self.found
        found[CREATE_RACE] = self._race({"IfNoneMatch": "*"}, self._bucket)[0]
        found[CREATE_RACE_VERSIONED] = self._race({"IfNoneMatch": "*"}, versioned)[0] if versioned else NOT_MEASURED
        found[COMPLETE] = self._complete()
        found[IF_MATCH_QUOTED] = self._if_match('"{}"')
        found[IF_MATCH_UNQUOTED] = self._if_match("{}")
        found[IF_MATCH_LONGER] = self._if_match_longer()
        form = "{}" if found[IF_MATCH_UNQUOTED] == RIGHT else '"{}"'
        found[SWAP_RACE], found[SWAP_LOSERS] = self._race(form, self._bucket)
        found[DELETE] = self._delete()
        found[COPY] = self._copy()
        found[FOLDER] = self._folder()
        found[LONG_PART] = self._accepts(self._new_key("p" * 256))
        found[LONG_KEY] = self._accepts(self._new_key(bytes_in_all=1025))
        found[CLOCK] = self._clock()
        found[LIST] = self._listing()
        return found

    def clean_up(self) -> None:
        """Delete all objects that were tried."""
        for bucket, key in self._keys:
            # One by one: not every server supports DeleteObjects, and some keys were never accepted.
            self._answer(partial(self._client.delete_object, Bucket=bucket, Key=key))

    # -- cases ---------------------------------------------------------------------------------------------------------

    def _race(self, condition: Mapping[str, str] | str, bucket: str) -> tuple[str, str]:
        """Let rivals put under the same condition. A `str` is the form of the ETag of a version to replace."""
        verdicts: set[str] = set()
        statuses: Counter[int] = Counter()
        with ThreadPoolExecutor(RIVALS) as pool:
            for _ in range(self._rounds):
                key = self._new_key(bucket=bucket)
                asked = {"IfMatch": condition.format(self._put(key).etag)} if isinstance(condition, str) else condition
                rival = partial(self._rival, key, asked, bucket, threading.Barrier(RIVALS))
                answers = list(pool.map(rival, range(RIVALS)))
                winners = [number for number, answer in enumerate(answers) if answer.accepted]
                statuses.update(answer.status for answer in answers if not answer.accepted)
                verdicts.add(self._verdict(key, winners, bucket))
        wrong = sorted(verdicts - {ONE_WINNER})
        return ", ".join(wrong) or ONE_WINNER, ", sometimes ".join(str(status) for status, _ in statuses.most_common())

    def _rival(
        self, key: str, condition: Mapping[str, str], bucket: str, barrier: threading.Barrier, number: int
    ) -> _Answer:
        barrier.wait(30)
        return self._put(key, f"rival {number}".encode(), bucket, **condition)

    def _verdict(self, key: str, winners: list[int], bucket: str) -> str:
        if len(winners) == RIVALS:
            return ALL_WIN
        if len(winners) != 1:
            return f"{len(winners)} winners"
        return (
            ONE_WINNER if self._read(key, bucket) == f"rival {winners[0]}".encode() else "the winner's bytes are lost"
        )

    def _if_match(self, form: str) -> str:
        key = self._new_key()
        stale = self._put(key, b"first").etag
        fresh = self._put(key, b"second", IfMatch=form.format(stale))
        late = self._put(key, b"third", IfMatch=form.format(stale))
        if fresh.accepted:
            return IGNORED if late.accepted else RIGHT
        return f"{fresh.status} always"

    def _if_match_longer(self) -> str:
        key = self._new_key()
        return ACCEPTED if self._put(key, b"second", IfMatch=f"{self._put(key).etag}0").accepted else REFUSED

    def _complete(self) -> str:
        """Complete a multipart upload to an existing key, on condition that the key is free."""
        key = self._new_key()
        self._put(key, b"there")
        place = {"Bucket": self._bucket, "Key": key}
        try:
            upload = {**place, "UploadId": self._client.create_multipart_upload(**place)["UploadId"]}
        except self._errors as err:
            return reason_of(err)
        part = self._client.upload_part(**upload, PartNumber=1, Body=b"part")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        done = self._answer(
            lambda: self._client.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*")
        )
        if not done.accepted:
            self._answer(lambda: self._client.abort_multipart_upload(**upload))
        return _refused(done, kept=self._read(key) == b"there")

    def _delete(self) -> str:
        key = self._new_key()
        self._put(key)
        wrong = f'"{"0" * 32}"'
        done = self._answer(lambda: self._client.delete_object(Bucket=self._bucket, Key=key, IfMatch=wrong))
        there = self._answer(lambda: self._client.head_object(Bucket=self._bucket, Key=key)).accepted
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
        if not (answer := self._put(below)).accepted:
            return str(answer.status)
        return FINE if {key, below} <= set(self._listed(key)) else NOT_LISTED

    def _accepts(self, key: str) -> str:
        return ACCEPTED if self._put(key).accepted else REFUSED

    def _clock(self) -> str:
        """Sign a request like a client whose clock is 20 minutes slow."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        credentials = _credentials(self._settings)
        if credentials is None:
            return NOT_MEASURED
        slow = (datetime.now(UTC) - _CLOCK_OFF).strftime("%Y%m%dT%H%M%SZ")

        def sign_slowly(request: Any) -> Any:  # noqa: ANN401
            request.context["timestamp"] = slow
            del request.headers["X-Amz-Date"]
            request.headers["X-Amz-Date"] = slow
            return S3SigV4Auth.canonical_request(signer, request)

        def sign_again(request: Any, **_: object) -> None:  # noqa: ANN401
            names = ("Authorization", "X-Amz-Date", "X-Amz-Content-SHA256", "X-Amz-Security-Token")
            late = AWSRequest(method=request.method, url=request.url)
            signer.add_auth(late)
            for name in names:
                if name in request.headers:
                    del request.headers[name]
                if name in late.headers:
                    request.headers[name] = late.headers[name]

        client = client_of(self._settings)
        signer = S3SigV4Auth(credentials, "s3", client.meta.region_name)
        vars(signer)["canonical_request"] = sign_slowly
        client.meta.events.register("before-send.s3.HeadObject", sign_again)
        key = self._new_key()
        self._put(key)
        answer = self._answer(lambda: client.head_object(Bucket=self._bucket, Key=key))
        return ACCEPTED if answer.accepted else str(answer.status)

    def _listing(self) -> str:
        """List names whose order could depend on folders, punctuation or letter case, by pages and from given keys."""
        names = ("-", "A", "B/a", "a-b", "a.b", "a/b", "a/c", "a0", "b%2F", "z")
        keys = sorted(self._new_key(f"list/{name}") for name in names)
        for key in keys:
            self._put(key)
        folder = f"{self._base}list/"
        found = self._listed(folder, page=3)
        if found != keys:
            return "wrong order" if set(found) == set(keys) else "not all are listed"
        starts = [*keys, f"{folder}a,", f"{folder}a/", f"{folder}zz"]
        if any(self._listed(folder, after=start) != [key for key in keys if key > start] for start in starts):
            return "start-after is not kept"
        return RIGHT

    # -- requests ------------------------------------------------------------------------------------------------------

    def _new_key(self, name: str = "", *, bucket: str = "", bytes_in_all: int = 0) -> str:
        """Return a new key. One of `bytes_in_all` bytes consists of parts of ordinary length."""
        key = f"{self._base}{name or f'{len(self._keys):04}'}"
        if bytes_in_all:
            key = (key + "/".join(["k" * 99] * 11))[: bytes_in_all - 1] + "k"
        self._keys.append((bucket or self._bucket, key))
        return key

    def _put(self, key: str, data: bytes = b"before", bucket: str = "", **condition: str) -> _Answer:
        place = {"Bucket": bucket or self._bucket, "Key": key}
        return self._answer(lambda: self._client.put_object(**place, Body=data, **condition))

    def _read(self, key: str, bucket: str = "") -> bytes:
        data: bytes = self._client.get_object(Bucket=bucket or self._bucket, Key=key)["Body"].read()
        return data

    def _listed(self, prefix: str, *, after: str = "", page: int = 1000) -> list[str]:
        """Return the keys below a prefix in the order of the server."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, StartAfter=after, PaginationConfig={"PageSize": page}
        )
        return [entry["Key"] for answer in pages for entry in answer.get("Contents", ())]

    def _answer(self, request: Callable[[], Mapping[str, Any]]) -> _Answer:
        """Send a request and return its answer, even a refusal. If boto3 refuses to send it, the status is 400."""
        try:
            answer = request()
        except self._errors as err:
            response: Mapping[str, Any] = getattr(err, "response", {})
            return _Answer(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
        return _Answer(answer["ResponseMetadata"]["HTTPStatusCode"], str(answer.get("ETag", "")).strip('"'))


def _refused(answer: _Answer, *, kept: bool) -> str:
    if kept:
        return RIGHT if answer.status in (409, 412) else f"{answer.status}, nothing done"
    return IGNORED if answer.accepted else f"{answer.status}, yet done"


# -- boto3 -------------------------------------------------------------------------------------------------------------


def client_of(settings: S3Settings) -> Any:  # noqa: ANN401  (boto3 has no types)
    """Return a client that sends each request once, without adding checksums."""
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
            max_pool_connections=2 * RIVALS,
            connect_timeout=5,
            read_timeout=20,
            s3={"addressing_style": "virtual" if settings.virtual else "path"},
            **signing,
        ),
    )


def _credentials(settings: S3Settings) -> Any:  # noqa: ANN401
    """Return botocore's credentials; None if requests are not signed."""
    import boto3
    from botocore.credentials import Credentials

    if settings.anon:
        return None
    if settings.access_key_id:
        return Credentials(settings.access_key_id, settings.secret_access_key, settings.session_token or None)
    return boto3.Session(profile_name=settings.profile or None).get_credentials()


def code_of(err: Exception) -> str:
    """Return the code in the server's answer, or an empty string."""
    response: Mapping[str, Any] = getattr(err, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def reason_of(err: Exception) -> str:
    """Return what may be shown of an error, whose text may contain parts of the request."""
    code = code_of(err)
    if code in ("AccessDenied", "403", "AllAccessDisabled"):
        return "permission denied"
    return f"the server answered {code}" if code else type(err).__name__
