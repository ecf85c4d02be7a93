"""Reading obstore's errors, whose details are only in their text."""

from __future__ import annotations

import re

_STATUS = re.compile(r"^\s+status: (\d{3}),$", re.MULTILINE)
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_NOT_CONNECTED = re.compile(r"client::legacy::Error\(\s*Connect,")
_REDIRECTED = re.compile(r"^\s+inner: BareRedirect,$", re.MULTILINE)
_WHY_SILENT = (
    ("dns error", "its name is not known"),
    ("ConnectionRefused", "the connection was refused"),
    ("ertificate", "its TLS certificate is not trusted"),
    ("imedOut", "no answer came in time"),
    ("IncompleteMessage", "the connection was closed before the answer"),
    ("MissingEtag", "the answer has no ETag"),
)


def status_of(text: str) -> int | None:
    """Return the HTTP status of the answer; None if there was no answer."""
    found = _STATUS.search(text)
    return int(found[1]) if found else None


def code_of(text: str) -> str:
    """Return the code in the answer's body, or an empty string."""
    found = _CODE.search(text)
    return found[1] if found else ""


def is_past_the_end(err: Exception) -> bool:
    """Return True if a range was refused because it begins past the end of the object."""
    text = str(err)
    return status_of(text) == 416 or "StartTooLarge" in text


def was_redirected(text: str) -> bool:
    """Return True if the server redirected without saying where to, as S3 does for a bucket in another region."""
    return _REDIRECTED.search(text) is not None


def never_connected(text: str) -> bool:
    """Return True if there was never a connection, so that nothing can have been sent."""
    return _NOT_CONNECTED.search(text) is not None


def why_silent(text: str) -> str:
    """Return the reason why there was no answer."""
    return next((why for sign, why in _WHY_SILENT if sign in text), "the connection failed")
