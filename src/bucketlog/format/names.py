"""Names: any text, encoded as one component of a key.

A component is ASCII, contains no separator, never begins with a dot, and decodes to exactly the original text. So no
two names share a file, and none leaves the root. The encoding is that of RFC 3986, section 2.1, and encodes more
characters than a URL needs, because filesystems and object stores misread different ones.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from bucketlog.errors import InvalidNameError

SCRATCH = ".probe/"  # scratch keys of the probe; users' names never begin with a dot
PART_BYTES_MAX = 255  # NAME_MAX of common filesystems; MinIO refuses longer components too

# Windows device names, with or without an extension, and our files that are stored next to folders with users' names.
_SPECIAL = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)|(?:stream\.json|bounds\.json)$", re.IGNORECASE)


def encode_name(name: str, *, what: str = "name", suffix: str = "") -> str:
    """Encode a name as one component of a key, followed by `suffix`.

    Args:
        name: The name.
        what: The kind of name, for the message.
        suffix: An ASCII suffix, such as `.json`; it counts towards the length.

    Raises:
        InvalidNameError: The name is empty, contains NUL or lone surrogates, or takes over 255 bytes when encoded.
    """
    if not isinstance(name, str):
        msg = f"{what} {name!r}: a name must be a str, not {type(name).__name__}"
        raise InvalidNameError(msg, name=repr(name))
    if not name:
        msg = f"{what}: a name cannot be empty"
        raise InvalidNameError(msg, name=name)
    if "\0" in name:
        msg = f"{what} {name!r}: a name cannot contain NUL"
        raise InvalidNameError(msg, name=name)
    try:
        part = quote(name, safe="")
    except UnicodeEncodeError:
        msg = f"{what} {name!r}: a name cannot contain lone surrogates"
        raise InvalidNameError(msg, name=name) from None
    part = part.replace("~", "%7E")  # a temporary or short (8.3) name to some filesystems
    if part[0] == "." or _SPECIAL.match(part):
        part = f"%{ord(part[0]):02X}{part[1:]}"
    if part[-1] == ".":  # dropped by Windows
        part = part[:-1] + "%2E"
    part += suffix
    if len(part) > PART_BYTES_MAX:
        msg = (
            f"{what} {name[:40]!r}…: it takes {len(part)} bytes when encoded, at most {PART_BYTES_MAX} fit; shorten it"
        )
        raise InvalidNameError(msg, name=name)
    return part


def decode_name(part: str) -> str:
    """Decode a component (without its suffix) to the name."""
    return unquote(part, errors="strict")


def name_of(part: str) -> str | None:
    """Return the name for a component of a listed key, or None if bucketlog did not write that key."""
    try:
        name = decode_name(part)
        return name if encode_name(name) == part else None
    except (UnicodeDecodeError, InvalidNameError):
        return None
