"""Names: any text, as one part of a key.

A part is ASCII, never begins with a dot, has no separator, and decodes to exactly the text that it was made from, so no
two names share a file and none leaves the root. Percent-encoding as in RFC 3986, section 2.1, with more encoded than a
URL would need: filesystems and object stores differ in what they misread.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from bucketlog.errors import InvalidNameError

SCRATCH = ".probe/"  # keys of trials; names of users never begin with a dot
PART_BYTES_MAX = 255  # NAME_MAX of the common filesystems; MinIO refuses longer parts too

# Device names of Windows, with or without an extension, and the files that live beside folders named by users.
_SPECIAL = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)|(?:stream\.json|bounds\.json)$", re.IGNORECASE)


def encode_name(name: str, *, what: str = "name", suffix: str = "") -> str:
    """Encode a name as one part of a key, with `suffix` behind it.

    Args:
        name: Any text but the ones below.
        what: What is being named, for the message.
        suffix: ASCII that follows, such as `.json`; it counts towards the length.

    Raises:
        InvalidNameError: Empty, with NUL or lone surrogates, or over 255 bytes when encoded.
    """
    if not isinstance(name, str):
        msg = f"{what} {name!r}: a name is a str, not {type(name).__name__}"
        raise InvalidNameError(msg, name=repr(name))
    if not name:
        msg = f"{what}: a name cannot be empty"
        raise InvalidNameError(msg, name=name)
    if "\0" in name:
        msg = f"{what} {name!r}: a name cannot hold NUL"
        raise InvalidNameError(msg, name=name)
    try:
        part = quote(name, safe="")
    except UnicodeEncodeError:
        msg = f"{what} {name!r}: a name cannot hold lone surrogates"
        raise InvalidNameError(msg, name=name) from None
    part = part.replace("~", "%7E")  # a temporary or short (8.3) name to some filesystems
    if part[0] == "." or _SPECIAL.match(part):
        part = f"%{ord(part[0]):02X}{part[1:]}"
    if part[-1] == ".":  # dropped by Windows
        part = part[:-1] + "%2E"
    part += suffix
    if len(part) > PART_BYTES_MAX:
        msg = f"{what} {name[:40]!r}…: takes {len(part)} bytes when encoded, at most {PART_BYTES_MAX} fit; shorten it"
        raise InvalidNameError(msg, name=name)
    return part


def decode_name(part: str) -> str:
    """Return the name that a part was made from (without its suffix)."""
    return unquote(part, errors="strict")


def name_of(part: str) -> str | None:
    """Return the name that a part of a listed key stands for, or None for what others put there."""
    try:
        name = decode_name(part)
        return name if encode_name(name) == part else None
    except (UnicodeDecodeError, InvalidNameError):
        return None
