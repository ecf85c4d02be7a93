"""Strategies of hypothesis that several test modules draw from."""

from __future__ import annotations

from hypothesis import strategies as st

from bucketlog.errors import InvalidNameError
from bucketlog.format.names import PART_BYTES_MAX, encode_name

_ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
_AWKWARD = st.text("_a%.Z-0", min_size=1)


def names(bytes_max: int = PART_BYTES_MAX) -> st.SearchStrategy[str]:
    """Draw texts that are names, of at most so many bytes when they are encoded."""
    return (_ANY | _AWKWARD).map(lambda text: _shortened(text, bytes_max))


def _shortened(text: str, bytes_max: int) -> str:
    while not _fits(text, bytes_max):
        text = text[:-1]
    return text


def _fits(text: str, bytes_max: int) -> bool:
    try:
        return len(encode_name(text)) <= bytes_max
    except InvalidNameError:
        return False  # over 255 bytes
