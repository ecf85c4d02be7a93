"""Entity references: the tag that finds one in a stream, and the test whether one matches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from bucketlog.signals.envelopes import EntityRef

if TYPE_CHECKING:
    from collections.abc import Callable

EntityMatch: TypeAlias = Literal["exact", "identity"]


def tag_of(ref: EntityRef) -> str:
    """Return the tag of a reference's identity: its type, value and platform. No two identities share a tag.

    Label and version are left out, because they may differ between records of one entity.
    """
    tag = f"{_escaped(ref.ref_type)}:{_escaped(ref.value)}"
    return tag if ref.platform is None else f"{tag}:{_escaped(ref.platform)}"


def identity_of(ref: EntityRef) -> tuple[str, str | None, str]:
    """Return a reference's identity; two references to the same entity have equal ones."""
    return ref.ref_type, ref.platform, ref.value


def matcher(wanted: object, match: EntityMatch) -> Callable[[tuple[object, ...]], bool]:
    """Return a test whether the wanted reference is among an envelope's references.

    Args:
        wanted: A reference; anything else, such as a dict, never matches.
        match: `"exact"` compares all fields, `"identity"` those of the tag.
    """
    if not isinstance(wanted, EntityRef):
        return lambda _: False
    if match == "exact":
        return lambda refs: wanted in refs
    identity = identity_of(wanted)
    return lambda refs: any(identity_of(ref) == identity for ref in refs if isinstance(ref, EntityRef))


def storable(text: str) -> str:
    """Return a text that an event's field can hold: lone surrogates become `%uXXXX`, and with them `%` becomes `%25`.

    Two texts may become equal. This is harmless, because these fields only preselect events for a read.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(map(_escaped_character, text))
    return text


def _escaped(part: object) -> str:
    text = part if isinstance(part, str) else str(part)
    if "%" in text or ":" in text:
        text = text.replace("%", "%25").replace(":", "%3A")
    if text.isascii():
        return text
    return "".join(f"%u{ord(char):04X}" if "\ud800" <= char <= "\udfff" else char for char in text)


def _escaped_character(char: str) -> str:
    return "%25" if char == "%" else f"%u{ord(char):04X}" if "\ud800" <= char <= "\udfff" else char
