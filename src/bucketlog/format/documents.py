"""Small JSON objects: checked strictly when written, named when they cannot be read.

orjson alone would write NaN as `null` and a UUID as text, so that what is loaded differs from what was saved without a
word. Whatever would not come back as it went in is therefore refused first; only a tuple comes back as a list.
"""

from __future__ import annotations

import math

import orjson

from bucketlog.errors import CorruptCheckpointError

DEPTH_MAX = 200
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1  # beyond these, JSON parsers round


def encode_document(value: object) -> bytes:
    """Encode a value as UTF-8 JSON that ends with a newline.

    Raises:
        TypeError: It holds something that JSON has no form for, such as a datetime, a set or a key that is not a str.
        ValueError: It holds NaN, an infinity, lone surrogates or an integer over 64 bits, or nests over 200 deep.
    """
    check_json(value)
    return orjson.dumps(value, default=_plain, option=orjson.OPT_APPEND_NEWLINE)


def check_json(value: object) -> None:
    """Refuse what JSON cannot hold or would change, naming the place, such as `value.orders[3]`.

    Raises:
        TypeError: As in `encode_document`.
        ValueError: As in `encode_document`.
    """
    _check(value, (), 0)


def decode_document(data: bytes, *, key: str, url: str) -> object:
    """Decode what was stored under a key.

    Args:
        data: The whole object.
        key: Its key, for the message and the error's field.
        url: The store, for the message.

    Raises:
        CorruptCheckpointError: It is not JSON.
    """
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError as err:
        msg = (
            f"read {place(url, key)}: {len(data)} bytes that are not JSON ({err}); "
            "repair the object or put a copy in its place"
        )
        raise CorruptCheckpointError(msg, key=key) from err
    return value


def place(url: str, key: str) -> str:
    """Return where an object is, for messages."""
    return f"{url.rstrip('/')}/{key}"


def _check(value: object, path: tuple[str | int, ...], depth: int) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, int):
        if not _INTEGER_MIN <= value <= _INTEGER_MAX:
            msg = f"{_at(path)} is an integer over 64 bits, which readers of JSON would round; store it as text"
            raise ValueError(msg)
    elif isinstance(value, float):
        if not math.isfinite(value):
            msg = f"{_at(path)} is {value!r}, which JSON has no form for"
            raise ValueError(msg)
    elif depth >= DEPTH_MAX:
        msg = f"{_at(path[:3])}… nests over {DEPTH_MAX} deep, or holds itself"
        raise ValueError(msg)
    elif isinstance(value, dict):
        for name, item in value.items():
            if type(name) is not str:
                msg = f"{_at(path)} has the key {name!r} of type {type(name).__name__}; keys in JSON are str"
                raise TypeError(msg)
            _check_text(name, (*path, name))
            _check(item, (*path, name), depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _check(item, (*path, number), depth + 1)
    else:
        msg = f"{_at(path)} is of type {type(value).__name__}, which JSON has no form for"
        raise TypeError(msg)


def _check_text(text: str, path: tuple[str | int, ...]) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        msg = f"{_at(path)} holds lone surrogates, which UTF-8 has no form for"
        raise ValueError(msg) from None


def _at(path: tuple[str | int, ...]) -> str:
    parts = (f".{part}" if isinstance(part, str) and part.isidentifier() else f"[{part!r}]" for part in path)
    return f"value{''.join(parts)}"


def _plain(value: float | tuple[object, ...]) -> object:
    """Serve what passed the check but orjson takes only in its exact type (numpy.float64 is such a float)."""
    return list(value) if isinstance(value, tuple) else float(value)
