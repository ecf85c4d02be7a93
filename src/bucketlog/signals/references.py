"""Entity references: the tag that finds one in a stream, and when one matches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from bucketlog.signals.envelopes import EntityRef

if TYPE_CHECKING:
    from collections.abc import Callable

EntityMatch: TypeAlias = Literal["exact", "identity"]


def tag_of(ref: EntityRef) -> str:
    """Return a tag for the identity of a reference: its type, value and platform. No two identities share one.

    Label and version stand in no tag: those of one entity differ from record to record.
    """
    tag = f"{_escaped(ref.ref_type)}:{_escaped(ref.value)}"
    return tag if ref.platform is None else f"{tag}:{_escaped(ref.platform)}"


def identity_of(ref: EntityRef) -> tuple[str, str | None, str]:
    """Return what makes two references mean the same entity."""
    return ref.ref_type, ref.platform, ref.value


def matcher(wanted: object, match: EntityMatch) -> Callable[[tuple[object, ...]], bool]:
    """Return what tells whether one of some references is the wanted one.

    Args:
        wanted: A reference; anything else, such as a dict, matches none.
        match: `"exact"`: in all fields; `"identity"`: in those of the tag.
    """
    if not isinstance(wanted, EntityRef):
        return lambda _: False
    if match == "exact":
        return lambda refs: wanted in refs
    identity = identity_of(wanted)
    return lambda refs: any(identity_of(ref) == identity for ref in refs if isinstance(ref, EntityRef))


def storable(text: str) -> str:
    """Return a text as an event's member can hold it: lone surrogates become `%uXXXX`, beside them `%` is `%25`.

    Members only narrow a read down, so it does no harm there that two texts may share one.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_escaped_character(one) for one in text)
    return text


def _escaped(part: object) -> str:
    text = part if isinstance(part, str) else str(part)
    if "%" in text or ":" in text:
        text = text.replace("%", "%25").replace(":", "%3A")
    if text.isascii():
        return text
    return "".join(f"%u{ord(one):04X}" if "\ud800" <= one <= "\udfff" else one for one in text)


def _escaped_character(one: str) -> str:
    return "%25" if one == "%" else f"%u{ord(one):04X}" if "\ud800" <= one <= "\udfff" else one
