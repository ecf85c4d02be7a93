"""The s3 backend: obstore moves the bytes.

A put is a single PUT request, never a multipart upload, because servers may ignore the condition when a multipart
upload is completed. It goes through a client without retries, because a retry can be refused on account of its own
first attempt.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from bucketlog.backend import ANY, Capabilities, Condition, Content, Entry, Stat, Version
from bucketlog.errors import AccessDeniedError, BucketlogError, CapabilityError
from bucketlog_backends.common_prefixes import list_level
from bucketlog_backends.s3.answers import (
    answer_error,
    bare_etag,
    conflict_error,
    etag_in_form,
    silence_error,
    versioning_error,
)
from bucketlog_backends.s3.connections import BIG_PUTS, PUTS, READS, UPLOADS
from bucketlog_backends.s3.obstore_errors import (
    code_of,
    is_past_the_end,
    never_connected,
    status_of,
    was_redirected,
    why_silent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from obstore import ObjectMeta, PutMode, PutResult
    from obstore.store import ObjectStore

    from bucketlog_backends.s3.connections import Connect, Traffic

PAGE_KEYS = 1000
DELETE_KEYS = 250  # servers answer once all are deleted, which takes slow ones 10 ms each
_SMALL_BYTES = 1024 * 1024
_UPLOAD_PART_BYTES = 8 * 1024 * 1024
_UPLOAD_PARTS_MAX = 9_000  # servers allow 10,000


class ObstoreBackend:
    """One handle on a prefix of an object store, through obstore."""

    capabilities = Capabilities()

    def __init__(
        self,
        url: str,
        *,
        connect: Connect,
        name: str = "s3",
        prefix: str = "",
        endpoint: str = "",
        credentials: object = None,
    ) -> None:
        import obstore
        import obstore.exceptions

        self.name, self.url = name, url
        self._library = obstore
        self._failures = (obstore.exceptions.BaseError, FileNotFoundError)
        self._lost_race = (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError)
        self._unnameable = obstore.exceptions.InvalidPathError
        self._refused = obstore.exceptions.UnauthenticatedError
        self._base = f"{prefix}/" if prefix else ""
        self._connect = connect
        self._endpoint, self._credentials = endpoint, credentials
        self._clients: dict[Traffic, ObjectStore] = {}

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
        asked: Any = None
        if start or end is not None:
            asked = {"range": {"offset": start} if end is None else (start, end)}
        try:
            found = self._library.get(self._client(READS), self._base + key, options=asked)
            return Content(found.bytes().to_bytes(), self._version_of(found.meta))
        except self._failures as err:
            if asked is not None and is_past_the_end(err):
                return Content(b"", self.head(key).version)
            raise self._translated(err, f"get {key!r} from {self.url}") from None

    def head(self, key: str) -> Stat:
        """Return the size, version and time of an object.

        Raises:
            NotFoundError: Nothing is stored under the key, or there is no bucket: the answer does not say which.
        """
        try:
            found = self._library.head(self._client(READS), self._base + key)
        except self._failures as err:
            raise self._translated(err, f"look at {key!r} in {self.url}") from None
        return Stat(found["size"], self._version_of(found), found["last_modified"])

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield the objects whose keys begin with `prefix`, lazily and in ascending order of their keys."""
        if not delimiter:
            return (entry for page in self._pages(prefix, start_after) for entry in page)
        if start_after:
            return list_level(lambda after: self._pages(prefix, after), prefix, start_after)
        return self._level(prefix)

    # -- writing -------------------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes under a key in one request and return the new version.

        Raises:
            ConflictError: The condition did not hold, or the server says so.
            OutcomeUnknownError: There was no clear answer.
            CapabilityError: The server does not support conditions.
        """
        return self._version_of(self._put(key, data, if_version))

    def upload(self, key: str, source: BinaryIO) -> None:
        """Store the rest of `source`, in parts if it is large.

        Raises:
            OutcomeUnknownError: There was no clear answer.
        """
        here = source.tell()
        size = source.seek(0, os.SEEK_END) - here
        source.seek(here)
        part = max(_UPLOAD_PART_BYTES, size // _UPLOAD_PARTS_MAX + 1)
        target = self._base + key
        try:
            self._library.put(self._client(UPLOADS), target, source, chunk_size=part, max_concurrency=4)
        except self._failures as err:
            raise self._translated(err, f"upload {key!r} to {self.url}", writing=key, repeated=True) from None

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, many in a request. A missing key is not an error."""
        left = iter(keys)
        while batch := list(islice(left, DELETE_KEYS)):
            try:
                self._library.delete(self._client(READS), [self._base + key for key in batch])
            except self._failures as err:
                raise self._translated(err, f"delete {batch[0]!r} and {len(batch) - 1} more from {self.url}") from None

    def close(self) -> None:
        """Drop the connections."""
        self._clients.clear()

    # -- versions and conditions ---------------------------------------------------------------------------------------

    def _version_of(self, answer: ObjectMeta | PutResult) -> Version:
        return answer["e_tag"] or ""

    def _mode(self, condition: Condition) -> PutMode:
        if condition is ANY:
            return "overwrite"
        if isinstance(condition, str):
            return {"e_tag": condition}
        return "create"

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _put(self, key: str, data: bytes, condition: Condition) -> PutResult:
        client = self._client(PUTS if len(data) <= _SMALL_BYTES else BIG_PUTS)
        mode = self._mode(condition)
        try:
            return self._library.put(client, self._base + key, data, mode=mode, use_multipart=False)
        except self._failures as err:
            doing = f"put {key!r} to {self.url}"
            raise self._translated(err, doing, writing=key, conditional=condition is not ANY) from None

    def _client(self, traffic: Traffic) -> ObjectStore:
        _check_not_forked(self.url)
        client = self._clients.get(traffic)
        if client is None:
            client = self._clients[traffic] = self._connect(traffic)
        return client

    def _pages(self, prefix: str, start_after: str) -> Iterator[Sequence[Entry]]:
        """Yield pages of keys below a prefix."""
        strip, below = len(self._base), self._base + prefix
        pages = None
        while True:
            try:
                if pages is None:
                    offset = self._base + start_after if start_after else None
                    client = self._client(READS)
                    pages = self._library.list(client, below or None, offset=offset, chunk_size=PAGE_KEYS)
                page = next(pages, None)
            except self._failures as err:
                raise self._translated(err, f"list {prefix!r} in {self.url}") from None
            if page is None:
                return
            # obstore reports a folder that a console made, an object `a/`, as `a`, even in a listing of `a/`.
            yield [
                Entry(found["path"][strip:], found["size"], found["last_modified"])
                for found in page
                if found["path"].startswith(below) and found["path"][strip:] > start_after
            ]

    def _level(self, prefix: str) -> Iterator[Entry]:
        """Yield one level with the server's common prefixes: a request per thousand folders, however full they are."""
        strip, below = len(self._base), self._base + prefix
        try:
            found = self._library.list_with_delimiter(self._client(READS), below or None)
        except self._failures as err:
            raise self._translated(err, f"list {prefix!r} in {self.url}") from None
        entries = [Entry(f"{folder[strip:]}/") for folder in found["common_prefixes"]]
        entries += [
            Entry(meta["path"][strip:], meta["size"], meta["last_modified"])
            for meta in found["objects"]
            if meta["path"].startswith(below)
        ]
        entries.sort()
        yield from entries

    def _translated(
        self,
        err: Exception,
        doing: str,
        *,
        writing: str | None = None,
        conditional: bool = False,
        repeated: bool = False,
    ) -> BucketlogError:
        """Translate an error of obstore. Its text is not shown, because it may contain a session token."""
        text = str(err)
        status, code = status_of(text), code_of(text)
        if isinstance(err, self._lost_race) and code != "NoSuchBucket":
            return conflict_error(doing, status, code)
        if isinstance(err, self._refused) and status is None:
            problem = getattr(self._credentials, "problem", "") or "they could not be obtained"
            hint = "give access_key_id and secret_access_key, a profile, or anon=True"
            return AccessDeniedError(f"{doing}: no credentials: {problem}; {hint}")
        if isinstance(err, self._unnameable):
            why = "a key there has an empty or a dot part, which obstore cannot represent"
            return CapabilityError(f"{doing}: {why}; remove it, or open with client='s3fs'")
        if status is None and isinstance(err, FileNotFoundError):
            status = 404
        if status is not None:
            return answer_error(doing, status, code, writing=writing, conditional=conditional)
        if was_redirected(text):
            return answer_error(doing, 301, "PermanentRedirect")
        at = f" ({self._endpoint})" if self._endpoint else ""
        # After several attempts, the text only says how the last one ended.
        sent = repeated or not never_connected(text)
        return silence_error(doing, why_silent(text) + at, writing=writing, sent=sent)


class S3Backend(ObstoreBackend):
    """One handle on an S3 server. The probe sets `etag_form` and `versioned` (see `VersioningBackend`)."""

    def __init__(self, url: str, **rest: Any) -> None:  # noqa: ANN401  (the base class types them)
        super().__init__(url, **rest)
        self.etag_form: Literal["unquoted", "quoted"] = "unquoted"
        self.versioned = False

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes under a key in one request and return the new version.

        Raises:
            ConflictError: The condition did not hold, or the server says so.
            OutcomeUnknownError: There was no clear answer.
            UnprovenStorageError: The answer has a version id, but the probe found no versioning.
            CapabilityError: The server does not support conditions.
        """
        answer = self._put(key, data, if_version)
        if if_version is not ANY and not self.versioned and answer["version"] is not None:
            raise versioning_error(f"put {key!r} to {self.url}", key)
        return self._version_of(answer)

    def put_version_id(self, key: str, data: bytes) -> str | None:
        """Store bytes under a scratch key unconditionally, and return the version id in the answer; None without one.

        Raises:
            OutcomeUnknownError: There was no clear answer.
        """
        return self._put(key, data, ANY)["version"]

    def _version_of(self, answer: ObjectMeta | PutResult) -> Version:
        return bare_etag(answer["e_tag"] or "")

    def _mode(self, condition: Condition) -> PutMode:
        if isinstance(condition, str):
            return {"e_tag": etag_in_form(condition, self.etag_form)}
        return super()._mode(condition)


class GCSBackend(ObstoreBackend):
    """One handle on Google Cloud Storage, whose conditions refer to generations instead of ETags."""

    def _version_of(self, answer: ObjectMeta | PutResult) -> Version:
        return answer["version"] or ""

    def _mode(self, condition: Condition) -> PutMode:
        return {"version": condition} if isinstance(condition, str) else super()._mode(condition)


# -- forks -------------------------------------------------------------------------------------------------------------

_runtime_pid: int | None = None


def _check_not_forked(url: str) -> None:
    """Raise an error in a forked child, which has none of obstore's threads and would hang."""
    global _runtime_pid
    pid = os.getpid()
    if _runtime_pid is None:
        _runtime_pid = pid
    elif _runtime_pid != pid:
        msg = (
            f"use {url}: obstore does not work in a process forked from one that has used it; start processes with "
            "multiprocessing's 'spawn' or 'forkserver', or open with client='s3fs'"
        )
        raise CapabilityError(msg)
