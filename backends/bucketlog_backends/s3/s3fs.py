"""S3 through s3fs, by its direct calls to the server, without its listing caches and PUT retries.

aiohttp, below s3fs, sends a PUT again if the connection closes before the answer. A conflict may therefore be with our
own bytes; callers find out by reading them back, as commits and checkpoints do.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar
from weakref import WeakKeyDictionary

from bucketlog.backend import ABSENT, ANY, Backend, Capabilities, Condition, Content, Entry, Stat, Version
from bucketlog.errors import AccessDeniedError, BucketlogError, CapabilityError
from bucketlog_backends.common_prefixes import list_level
from bucketlog_backends.s3.answers import answer_error, bare_etag, etag_in_form, silence_error, versioning_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from bucketlog_backends.s3.options import S3Settings

T = TypeVar("T")

_PAGE_KEYS = 1000
_DELETE_KEYS = 250  # servers answer once all are deleted, which takes slow ones 10 ms each
_COPY_BYTES = 8 * 1024 * 1024
_PARTS_MAX = 9_000  # servers allow 10,000
_CONNECT_SECONDS = 3
_SILENCE_SECONDS = 4
# s3fs never gives up on a server that accepts a connection and does not answer, so each call gets a timeout. That of a
# read leaves time for a second attempt within the 10 seconds in which an unreachable server is reported.
_ANSWER_SECONDS = 4.5
_BODY_SECONDS = 120.0
_PUT_SECONDS = 15.0
_PUT_BYTES_PER_SECOND = 1024 * 1024


def open_s3fs(settings: S3Settings) -> Backend:
    """Open a bucket with s3fs instead of obstore.

    Raises:
        CapabilityError: s3fs is missing.
    """
    try:
        from s3fs import S3FileSystem
    except ImportError:
        msg = f'open {settings.url}: s3fs is not installed; pip install "bucketlog[s3fs]"'
        raise CapabilityError(msg) from None
    wanted: dict[str, object] = {
        "key": settings.access_key_id,
        "secret": settings.secret_access_key,
        "token": settings.session_token,
        "endpoint_url": settings.endpoint_url,
        "profile": settings.profile,
        "anon": settings.anon,
        "client_kwargs": {"region_name": settings.region} if settings.region else None,
    }
    config = {
        "s3": {"addressing_style": "virtual" if settings.virtual else "path"},
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _SILENCE_SECONDS,
        "retries": {"mode": "standard", "total_max_attempts": 3},
        # Older servers refuse these checksums.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    given = {name: value for name, value in wanted.items() if value}
    fs = S3FileSystem(**given, config_kwargs=config, use_listings_cache=False)
    return S3fsBackend(fs, f"{settings.bucket}/{settings.prefix}".rstrip("/"))


class S3fsBackend:
    """One handle on a prefix of a bucket. The probe sets `etag_form` and `versioned` (see `VersioningBackend`)."""

    name = "s3fs"
    capabilities = Capabilities()

    def __init__(self, fs: Any, path: str) -> None:  # noqa: ANN401  (s3fs has no types)
        self.url = f"s3://{path}"
        self.etag_form: Literal["unquoted", "quoted"] = "unquoted"
        self.versioned = False
        self._bucket, _, prefix = path.partition("/")
        self._base = f"{prefix}/" if prefix else ""
        self._fs = fs
        self._once: Any = None  # the same filesystem without retries

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Return the bytes `[start, end)` of an object, cut off at its end.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        if end is not None and end <= start:
            return Content(b"", self.head(key).version)
        asked = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}

        def ask() -> Content:
            answer = self._call("get_object", Key=self._base + key, **asked)
            return Content(self._read(answer["Body"]), bare_etag(answer["ETag"]))

        with self._translating(f"get {key!r} from {self.url}"):
            try:
                return _at_most_twice(ask)
            except OSError as err:
                if _answer_of(err)[0] == 416:
                    return Content(b"", self.head(key).version)
                raise

    def head(self, key: str) -> Stat:
        """Return the size, version and time of an object.

        Raises:
            NotFoundError: Nothing is stored under the key, or there is no bucket: the answer does not say which.
        """
        with self._translating(f"look at {key!r} in {self.url}"):
            answer = _at_most_twice(lambda: self._call("head_object", Key=self._base + key))
        return Stat(answer["ContentLength"], bare_etag(answer["ETag"]), answer["LastModified"])

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield the objects whose keys begin with `prefix`, lazily and in ascending order of their keys."""
        if delimiter and start_after:
            return list_level(lambda after: self._pages(prefix, after), prefix, start_after)
        asked = {"Delimiter": "/"} if delimiter else {}
        return (entry for page in self._pages(prefix, start_after, **asked) for entry in page)

    # -- writing -------------------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes under a key in one request and return the new version.

        Raises:
            ConflictError: The condition did not hold, or the server says so.
            OutcomeUnknownError: There was no clear answer.
            UnprovenStorageError: The answer has a version id, but the probe found no versioning.
            CapabilityError: The server does not support conditions.
        """
        answer = self._put(key, data, if_version)
        if if_version is not ANY and not self.versioned and answer.get("VersionId") is not None:
            raise versioning_error(f"put {key!r} to {self.url}", key)
        return bare_etag(answer["ETag"])

    def put_version_id(self, key: str, data: bytes) -> str | None:
        """Store bytes under a scratch key unconditionally, and return the version id in the answer; None without one.

        Raises:
            OutcomeUnknownError: There was no clear answer.
        """
        version_id: str | None = self._put(key, data, ANY).get("VersionId")
        return version_id

    def upload(self, key: str, source: BinaryIO) -> None:
        """Store the rest of `source`, in parts if it is large.

        Raises:
            OutcomeUnknownError: There was no clear answer.
        """
        here = source.tell()
        size = source.seek(0, os.SEEK_END) - here
        source.seek(here)
        part = max(_COPY_BYTES, size // _PARTS_MAX + 1)
        doing = f"upload {key!r} to {self.url}"
        with self._translating(doing, writing=key):
            target = self._fs.open(f"{self._bucket}/{self._base}{key}", "wb", block_size=part)
        try:
            while chunk := source.read(_COPY_BYTES):
                with self._translating(doing, writing=key):
                    target.write(chunk)
        except BaseException:
            with self._translating(doing, writing=key):
                target.discard()
            target.closed = True  # else it would store what it has when it is garbage-collected
            raise
        with self._translating(doing, writing=key):
            target.close()

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, many in a request. A missing key is not an error."""
        left = iter(keys)
        while batch := list(islice(left, _DELETE_KEYS)):
            doing = f"delete {batch[0]!r} and {len(batch) - 1} more from {self.url}"
            asked = {"Delete": {"Objects": [{"Key": self._base + key} for key in batch], "Quiet": True}}
            with self._translating(doing):
                answer = _at_most_twice(partial(self._call, "delete_objects", **asked))
            for failed in answer.get("Errors", ()):
                code = str(failed.get("Code", ""))
                raise answer_error(doing, 403 if code == "AccessDenied" else 500, code)

    def close(self) -> None:
        """Do nothing: a filesystem may have other users."""

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _call(self, method: str, **parameters: object) -> Any:  # noqa: ANN401  (botocore's answers)
        return self._fs.call_s3(method, timeout=_ANSWER_SECONDS, Bucket=self._bucket, **parameters)

    def _put(self, key: str, data: bytes, condition: Condition) -> dict[str, Any]:
        parameters: dict[str, object] = {"Bucket": self._bucket, "Key": self._base + key, "Body": data}
        if condition is ABSENT:
            parameters["IfNoneMatch"] = "*"
        elif isinstance(condition, str):
            parameters["IfMatch"] = etag_in_form(condition, self.etag_form)
        timeout = _PUT_SECONDS + len(data) / _PUT_BYTES_PER_SECOND
        with self._translating(f"put {key!r} to {self.url}", writing=key, conditional=condition is not ANY):
            answer: dict[str, Any] = self._without_retries().call_s3("put_object", timeout=timeout, **parameters)
        return answer

    def _without_retries(self) -> Any:  # noqa: ANN401  (s3fs has no types)
        if self._once is None:
            self._once = _without_retries(self._fs)
        return self._once

    def _read(self, body: Any) -> bytes:  # noqa: ANN401  (aiobotocore's stream)
        from fsspec.asyn import sync

        async def read() -> bytes:
            async with body as stream:
                return bytes(await stream.read())

        data: bytes = sync(self._fs.loop, read, timeout=_BODY_SECONDS)
        return data

    def _pages(self, prefix: str, start_after: str, **asked: object) -> Iterator[Sequence[Entry]]:
        """Yield pages of what is below a prefix, without the folders that a console makes, which are objects `a/`."""
        strip = len(self._base)
        if start_after:
            asked["StartAfter"] = self._base + start_after
        while True:
            with self._translating(f"list {prefix!r} in {self.url}"):
                answer = _at_most_twice(
                    partial(self._call, "list_objects_v2", Prefix=self._base + prefix, MaxKeys=_PAGE_KEYS, **asked)
                )
            page = [Entry(folder["Prefix"][strip:]) for folder in answer.get("CommonPrefixes", ())]
            page += [
                Entry(found["Key"][strip:], found["Size"], found["LastModified"])
                for found in answer.get("Contents", ())
                if not found["Key"].endswith("/")
            ]
            page.sort()
            yield page
            if not answer.get("IsTruncated"):
                return
            asked["ContinuationToken"] = answer["NextContinuationToken"]

    @contextmanager
    def _translating(self, doing: str, *, writing: str | None = None, conditional: bool = False) -> Iterator[None]:
        from aiohttp import ClientError as HTTPError
        from botocore.exceptions import BotoCoreError

        try:
            yield
        except (OSError, BotoCoreError, HTTPError) as err:
            if isinstance(err, BucketlogError):
                raise
            raise _translated(err, doing, writing=writing, conditional=conditional) from err


# Creating a filesystem takes 100 ms of CPU time, so all handles on the same one share its copy without retries.
_once_of: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _without_retries(fs: Any) -> Any:  # noqa: ANN401  (s3fs has no types)
    """Return a copy of a filesystem without retries."""
    if (found := _once_of.get(fs)) is not None:
        return found
    options = dict(fs.storage_options)
    options["config_kwargs"] = {
        **(options.get("config_kwargs") or {}),
        "read_timeout": _BODY_SECONDS,  # each call has a timeout that fits its size
        "retries": {"mode": "standard", "total_max_attempts": 1},
    }
    once = type(fs)(*fs.storage_args, **options, skip_instance_cache=True)
    once.retries = 1  # s3fs's own, which counts attempts
    return _once_of.setdefault(fs, once)


def _at_most_twice(ask: Callable[[], T]) -> T:
    """Send a request that may be repeated, once more if the connection stays silent or breaks during the answer."""
    from aiohttp import ClientPayloadError

    try:
        return ask()
    except (TimeoutError, ClientPayloadError):
        return ask()


def _answer_of(err: BaseException) -> tuple[int | None, str]:
    """Return the status and code of the answer that caused an error of s3fs or botocore."""
    for error in (err, err.__cause__):
        response: Mapping[str, Any] | None = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = str(response.get("Error", {}).get("Code", ""))
            return status, "" if code.isdigit() else code
    return None, ""


def _translated(err: Exception, doing: str, *, writing: str | None, conditional: bool) -> BucketlogError:
    from botocore import exceptions

    status, code = _answer_of(err)
    if status is not None:
        if conditional and status == 404 and code != "NoSuchBucket":
            status = 412  # the object whose version was expected does not exist
        return answer_error(doing, status, code, writing=writing, conditional=conditional)
    no_credentials = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.SSOError,
        exceptions.ProfileNotFound,
    )
    kind = type(err).__name__
    if isinstance(err, no_credentials):
        hint = "give access_key_id and secret_access_key, a profile, or anon=True"
        return AccessDeniedError(f"{doing}: no credentials ({kind}); {hint}")
    not_connected = (
        exceptions.EndpointConnectionError,
        exceptions.ConnectTimeoutError,
        exceptions.ProxyConnectionError,
        exceptions.SSLError,
    )
    return silence_error(doing, f"no answer ({kind})", writing=writing, sent=not isinstance(err, not_connected))
