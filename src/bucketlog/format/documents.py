"""Small JSON documents: checked strictly before they are written, named in the error when they cannot be read."""

from __future__ import annotations

import orjson

from bucketlog.errors import CorruptCheckpointError
from bucketlog.format.json_values import DOCUMENT_LIMITS, check_json


def encode_document(value: object) -> bytes:
    """Encode a value as UTF-8 JSON that ends with a newline.

    Raises:
        TypeError: It holds something that JSON cannot represent, such as a datetime, a set or a key that is not a str.
        ValueError: It holds NaN, an infinity, lone surrogates or an integer over 64 bits, or nests over 200 deep.
    """
    check_json(value, DOCUMENT_LIMITS)
    return orjson.dumps(value, default=_plain, option=orjson.OPT_APPEND_NEWLINE)


def decode_document(data: bytes, *, key: str, url: str) -> object:
    """Decode a stored object.

    Args:
        data: The whole object.
        key: The object's key, for the message and the error's field.
        url: The store's URL, for the message.

    Raises:
        CorruptCheckpointError: The object is not JSON.
    """
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError as err:
        msg = (
            f"read {place(url, key)}: its {len(data)} bytes are not JSON ({err}); "
            "repair the object or restore it from a copy"
        )
        raise CorruptCheckpointError(msg, key=key) from err
    return value


def place(url: str, key: str) -> str:
    """Return an object's location, for messages."""
    return f"{url.rstrip('/')}/{key}"


def _plain(value: float | tuple[object, ...]) -> object:
    """Convert what passed the check but is a subclass that orjson refuses, such as numpy.float64."""
    return list(value) if isinstance(value, tuple) else float(value)
