"""What an S3 server's answer, or the lack of one, asks of the caller, whichever client brought it."""

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
    """Say what a server's answer asks of the caller.

    Args:
        doing: What was being done, to what, where.
        status: The HTTP status.
        code: The code in the answer's body, or empty.
        writing: The key that was being put, else None.
        conditional: Whether the put had a condition.
    """
    said = f"{doing}: the server answered {status}{f' {code}' if code else ''}"
    if code == "NoSuchBucket":
        return StoreNotFoundError(f"{doing}: there is no such bucket; make it, or mend the URL")
    if status == 507 or code in _FULL_CODES:
        return StorageFullError(f"{said}: it has no room, or the quota is used up; nothing was written")
    if code in _REGION_CODES or status in (301, 307, 308):
        return InvalidOptionError(f"{said}: the bucket is in another region; give region=…", option="region")
    if status in (401, 403) or code in _TOKEN_CODES:
        hint = "see to credentials and permissions"
        if code == "RequestTimeTooSkewed":
            hint = "set this machine's clock, which is too far from the server's"
        return AccessDeniedError(f"{said}; {hint}")
    if status == 404:
        return NotFoundError(f"{doing}: nothing is stored there")
    if conditional and status in (409, 412):
        return conflict_error(doing, status, code)
    if status in (405, 501):
        what = "conditional puts" if conditional else "this"
        return CapabilityError(f"{said}: it does not know {what}; use another server, or single_writer=True")
    if writing is not None and (status >= 500 or status == 408):
        return OutcomeUnknownError(f"{said}, which leaves open whether it was written; read it back", key=writing)
    if status >= 500 or status in (408, 409, 429):
        return BackendUnavailableError(f"{said}; try again later")
    return BackendUnavailableError(f"{said}, a refusal that is not known here; nothing was written")


def silence_error(doing: str, why: str, *, writing: str | None, sent: bool) -> BucketlogError:
    """Say what the lack of an answer asks of the caller.

    Args:
        doing: What was being done, to what, where.
        why: What is known of the reason.
        writing: The key that was being put, else None.
        sent: Whether something may have left; False only if there was never a connection.
    """
    if writing is not None and sent:
        return OutcomeUnknownError(f"{doing}: {why}; it may have been written: read it back", key=writing)
    return BackendUnavailableError(f"{doing}: the server cannot be used: {why}; try again later, or mend endpoint_url")


def versioning_error(doing: str, key: str) -> UnprovenStorageError:
    """Say that a bucket keeps versions since it was probed: conditions may not have held."""
    msg = (
        f"{doing}: the answer has a version id, so versioning was switched on since the bucket was probed, and some "
        "servers ignore conditions then; read it back, and run the probe again"
    )
    return UnprovenStorageError(msg, key=key)


def conflict_error(doing: str, status: int | None, code: str) -> ConflictError:
    """Say that a condition did not hold; the answer may also be about bytes of the caller's own."""
    said = f" (the server answered {status}{f' {code}' if code else ''})" if status is not None else ""
    return ConflictError(f"{doing}: the condition did not hold{said}; read it again and decide again")


def bare_etag(etag: str) -> Version:
    """Return an ETag without its quotes, which is how versions are kept."""
    return etag[1:-1] if len(etag) > 1 and etag[0] == etag[-1] == '"' else etag


def etag_in_form(version: Version, form: Literal["unquoted", "quoted"]) -> str:
    """Return a version as the server wants it in a condition."""
    return f'"{version}"' if form == "quoted" else version
