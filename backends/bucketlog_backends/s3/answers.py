"""The errors for answers of S3 servers, and for missing answers, with any client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BucketlogError,
    CapabilityError,
    ConflictError,
    InvalidOptionError,
    NotFoundError,
    OutcomeUnknownError,
    StorageFullError,
    StoreNotFoundError,
    UnprovenStorageError,
)

if TYPE_CHECKING:
    from bucketlog.backend import Version

_REGION_CODES = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
_TOKEN_CODES = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired")
_FULL_CODES = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "EntityTooLargeForQuota")


def answer_error(
    doing: str, status: int, code: str, *, writing: str | None = None, conditional: bool = False
) -> BucketlogError:
    """Return the error for an answer that is not a success.

    Args:
        doing: The operation, its key and its place, for the message.
        status: The HTTP status.
        code: The code in the body of the answer, or an empty string.
        writing: The key, if the request was a PUT.
        conditional: Whether the PUT had a condition.
    """
    said = f"{doing}: the server answered {status}{f' {code}' if code else ''}"
    if code == "NoSuchBucket":
        return StoreNotFoundError(f"{doing}: there is no such bucket; create it, or fix the URL")
    if status == 507 or code in _FULL_CODES:
        return StorageFullError(f"{said}: it has no room, or a quota is exhausted; nothing was written")
    if code in _REGION_CODES or status in (301, 307, 308):
        return InvalidOptionError(f"{said}: the bucket is in another region; give region=…", option="region")
    if status in (401, 403) or code in _TOKEN_CODES:
        hint = "check credentials and permissions"
        if code == "RequestTimeTooSkewed":
            hint = "set the clock of this machine, which differs too much from the server's"
        return AccessDeniedError(f"{said}; {hint}")
    if status == 404:
        return NotFoundError(f"{doing}: nothing is stored there")
    if conditional and status in (409, 412):
        return conflict_error(doing, status, code)
    if status in (405, 501):
        what = "conditional PUTs" if conditional else "this"
        return CapabilityError(f"{said}: it does not support {what}; use another server, or single_writer=True")
    if writing is not None and (status >= 500 or status == 408):
        return OutcomeUnknownError(f"{said}, so it may have been written; read it back", key=writing)
    if status >= 500 or status in (408, 409, 429):
        return BackendUnavailableError(f"{said}; try again later")
    return BackendUnavailableError(f"{said}, an unrecognised refusal; nothing was written")


def silence_error(doing: str, why: str, *, writing: str | None, sent: bool) -> BucketlogError:
    """Return the error for a missing answer.

    Args:
        doing: The operation, its key and its place, for the message.
        why: The reason, if known.
        writing: The key, if the request was a PUT.
        sent: Whether the request may have been sent. False only if there was never a connection.
    """
    if writing is not None and sent:
        return OutcomeUnknownError(f"{doing}: {why}; it may have been written: read it back", key=writing)
    return BackendUnavailableError(f"{doing}: the server cannot be used: {why}; try again later, or fix endpoint_url")


def versioning_error(doing: str, key: str) -> UnprovenStorageError:
    """Return the error for a bucket that got versioning after the probe: conditions may have been ignored."""
    msg = (
        f"{doing}: the answer has a version id, so versioning was switched on since the bucket was probed, and some "
        "servers ignore conditions then; read it back, and run the probe again"
    )
    return UnprovenStorageError(msg, key=key)


def conflict_error(doing: str, status: int | None, code: str) -> ConflictError:
    """Return the error for a condition that did not hold. It may be the caller's own bytes that are in the way."""
    said = f" (the server answered {status}{f' {code}' if code else ''})" if status is not None else ""
    return ConflictError(f"{doing}: the condition did not hold{said}; read it and decide again")


def bare_etag(etag: str) -> Version:
    """Return an ETag without its quotes. Versions have none."""
    return etag[1:-1] if len(etag) > 1 and etag[0] == etag[-1] == '"' else etag


def etag_in_form(version: Version, form: Literal["unquoted", "quoted"]) -> str:
    """Return a version in the form that the server accepts as a condition."""
    return f'"{version}"' if form == "quoted" else version
