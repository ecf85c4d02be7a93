"""JSON values: what may be stored. A value that would not come back as it went in is refused, with its place.

Encoders alone are not strict enough: orjson writes NaN as `null` and a UUID as text.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Limits(NamedTuple):
    """What one kind of stored JSON may hold.

    Attributes:
        depth_max: How deep lists and objects may nest.
        integer_min: The smallest integer.
        integer_max: The largest integer.
        integer_rule: What is wrong with other integers, and what to do instead.
        subclass_keys: Whether keys may be of a subclass of str.
    """

    depth_max: int
    integer_min: int
    integer_max: int
    integer_rule: str
    subclass_keys: bool


DOCUMENT_LIMITS = Limits(
    depth_max=200,
    integer_min=-(2**63),
    integer_max=2**64 - 1,
    integer_rule="an integer over 64 bits, which JSON parsers may round; store it as text",
    subclass_keys=False,
)


class _Refused(Exception):  # noqa: N818  (never leaves this module)
    """Why a value is refused. Its place is collected while the error leaves one container after another."""

    def __init__(
        self, why: str, kind: type[TypeError | ValueError] = ValueError, *, shown_parts: int | None = None
    ) -> None:
        super().__init__(why)
        self.why, self.kind, self.shown_parts = why, kind, shown_parts
        self.path: list[str | int] = []  # innermost first

    def message(self, name: str) -> str:
        parts = self.path[::-1][: self.shown_parts]
        place = "".join(
            f".{part}" if isinstance(part, str) and part.isidentifier() else f"[{part!r}]" for part in parts
        )
        return f"{name}{place}{self.why}"


def check_json(value: object, limits: Limits, *, name: str = "value") -> None:
    """Refuse a value that JSON cannot represent or would change; the message names the place, as in `value.orders[3]`.

    Tuples are accepted, although they come back as lists.

    Args:
        value: Any value.
        limits: What this kind of JSON may hold.
        name: What the value is called in messages.

    Raises:
        TypeError: It holds something that JSON cannot represent, such as a datetime, a set or a key that is not a str.
        ValueError: It holds NaN, an infinity, lone surrogates or an integer out of range, or nests too deep.
    """
    try:
        _check(value, limits, 0)
    except _Refused as err:
        raise err.kind(err.message(name)) from None


def _check(value: object, limits: Limits, depth: int) -> None:
    if value is None:
        return
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int):
        if not limits.integer_min <= value <= limits.integer_max:
            raise _Refused(f" is {limits.integer_rule}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _Refused(f" is {value!r}, which JSON cannot represent")
    elif depth >= limits.depth_max:
        raise _Refused(f"… nests over {limits.depth_max} deep, or holds itself", shown_parts=3)
    elif isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str and not (limits.subclass_keys and isinstance(key, str)):
                raise _Refused(f" has the key {key!r} of type {type(key).__name__}; keys in JSON are str", TypeError)
            try:
                _check_text(key)
                _check(item, limits, depth + 1)
            except _Refused as err:
                err.path.append(key)
                raise
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            try:
                _check(item, limits, depth + 1)
            except _Refused as err:
                err.path.append(number)
                raise
    else:
        raise _Refused(f" is of type {type(value).__name__}, which JSON cannot represent", TypeError)


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Refused(" holds lone surrogates, which UTF-8 cannot encode") from None
