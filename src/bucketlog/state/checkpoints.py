"""Checkpoints: small named values, replaced atomically with compare-and-set.

Every PUT carries a condition that can hold only once, so a PUT that arrives late has no effect: versions never come
back. The empty object of a deleted checkpoint does come back, so a save replaces it in two steps. The first step, see
`_mark`, only replaces one form of "deleted" by another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  (msgspec reads the annotations of _Document)
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import orjson

from bucketlog.backend import ABSENT, PUT_BYTES_MAX, Condition, Precondition
from bucketlog.errors import (
    CheckpointConflictError,
    ConflictError,
    CorruptCheckpointError,
    InvalidNameError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
    UnprovenStorageError,
    UnsupportedFormatError,
)
from bucketlog.format.documents import decode_document, encode_document, place
from bucketlog.format.names import decode_name, encode_name
from bucketlog.storage.conditional_put import put_and_settle
from bucketlog.storage.retries import Retries

if TYPE_CHECKING:
    from bucketlog.backend import Content
    from bucketlog.storage.root import Root

FOLDER = "checkpoints/"
HISTORY_MAX = 16  # marks kept; an unclear outcome can be settled until that many later saves
VALUE_BYTES_MAX = PUT_BYTES_MAX - 4096  # the rest of the document takes less
NO_VERSION = ""  # version of a default that stands in for a missing or unreadable checkpoint

_SUFFIX = ".json"
_MARK = re.compile(rb'\{"deleted":"([0-9a-f]{16})"\}\n')
_MARK_BYTES = len('{"deleted":"0123456789abcdef"}\n')
_NEVER = ""  # the first entry of a history: no object. It never comes back, because objects are not removed
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A value as it was saved.

    Attributes:
        name: Its name.
        value: Any JSON value.
        version: Opaque; unique to each save, even after a delete. Empty for a default.
        updated: When it was saved, by the clock of its writer, aware UTC; None for a default.
    """

    name: str
    value: Any
    version: str
    updated: datetime | None


class Checkpoints:
    """The checkpoints of a store."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def load(self, name: str, *, default: object = _NOTHING) -> Checkpoint | None:
        """Return a checkpoint, or None if there is none.

        Args:
            name: Its name.
            default: The value to use if the checkpoint is missing or unreadable. It is returned as a checkpoint with an
                empty version, which `save` takes as `expected_version`: still missing or unreadable. With `None` the
                result is None.

        Raises:
            CorruptCheckpointError: The stored object is not a checkpoint, and no default was given.
            UnsupportedFormatError: A newer version of bucketlog saved it.
            InvalidNameError: The name is not valid.
        """
        found = self._look(name, _key(name))
        if found.checkpoint is not None:
            return found.checkpoint
        if found.damage is not None and default is _NOTHING:
            raise found.damage
        if default is _NOTHING or default is None:
            return None
        return Checkpoint(name, default, NO_VERSION, None)

    def save(
        self, name: str, value: object, *, expected_version: str | Literal[Precondition.ABSENT] | None = None
    ) -> Checkpoint:
        """Save a value and return it as a checkpoint, with its new version.

        Args:
            name: Any name.
            value: Any JSON value. `load` returns an equal one, except that tuples come back as lists.
            expected_version: The version that must still be there. `ABSENT`: there must be none. `None` replaces
                anything, even an unreadable object.

        Raises:
            CheckpointConflictError: The version there is not the expected one. Nothing was saved.
            OutcomeUnknownError: The storage gave no clear answer, and too many saves have followed to see the outcome.
            CorruptCheckpointError: The stored object is not a checkpoint, and `expected_version` is not None.
            UnsupportedFormatError: A newer version of bucketlog saved the checkpoint that is there.
            InvalidValueError: JSON cannot represent the value, or it is too large.
            InvalidNameError: The name is not valid.
            ReadOnlyError: The store was opened read-only.
        """
        key = _key(name)
        doing = self._doing("save", name)
        _check_version_type(expected_version, doing)
        body = _encode(value, doing)
        self._root.check_writable(doing)
        for _ in Retries(self._root.clock):
            found = self._look(name, key)
            _check_expected(found, expected_version, name, doing)
            if found.is_empty:
                marked = self._mark(key, found.condition)
                if marked is None:
                    continue
                found = marked
            mark = self._root.clock.write_id()
            saved = Checkpoint(name, orjson.loads(body), f"{found.count + 1}-{mark}", self._root.clock.now())
            if self._replace(key, _encode_checkpoint(saved, body, found, mark), found, mark, doing):
                return saved
        msg = f"{doing}: another writer replaced it first at every attempt; try again when fewer writers save it"
        raise CheckpointConflictError(msg, name=name)

    def delete(self, name: str, *, expected_version: str | None = None) -> bool:
        """Delete a checkpoint; return True if there was one.

        Args:
            name: Its name.
            expected_version: The version that must still be there. `None` deletes anything, even an unreadable object.

        Raises:
            CheckpointConflictError: The version there is not the expected one, or there is none. Nothing was deleted.
            OutcomeUnknownError: The storage gave no clear answer, and another checkpoint is there now.
            CorruptCheckpointError: The stored object is not a checkpoint, and `expected_version` is not None.
            UnsupportedFormatError: A newer version of bucketlog saved the checkpoint that is there.
            InvalidNameError: The name is not valid.
            ReadOnlyError: The store was opened read-only.
        """
        key = _key(name)
        doing = self._doing("delete", name)
        _check_version_type(expected_version, doing)
        self._root.check_writable(doing)
        for _ in Retries(self._root.clock):
            found = self._look(name, key)
            _check_expected(found, expected_version, name, doing)
            if found.checkpoint is None and found.damage is None:
                return False
            if self._replace(key, b"", found, None, doing):
                return True
        msg = f"{doing}: another writer replaced it first at every attempt; try again when fewer writers save it"
        raise CheckpointConflictError(msg, name=name)

    def list(self, prefix: str = "") -> list[str]:
        """Return the names that begin with `prefix`, sorted, including those of unreadable checkpoints."""
        names = []
        for entry in self._root.backend.list(FOLDER):
            name = _name(entry.key)
            if name is None or not name.startswith(prefix) or entry.size == 0:
                continue
            if entry.size != _MARK_BYTES or not self._is_deleted(entry.key):
                names.append(name)
        return sorted(names)

    # -- what is stored ------------------------------------------------------------------------------------------------

    def _look(self, name: str, key: str) -> _Found:
        try:
            content = self._root.backend.get(key)
        except NotFoundError:
            return _Found(ABSENT, (_NEVER,))
        return _parse(content, name=name, key=key, url=self._root.url)

    def _is_deleted(self, key: str) -> bool:
        try:
            data = self._root.backend.get(key).data
        except NotFoundError:
            return True
        return not data or _MARK.fullmatch(data) is not None

    def _doing(self, verb: str, name: str) -> str:
        return f"{verb} checkpoint {name!r} in {self._root.url}"

    # -- replacing it --------------------------------------------------------------------------------------------------

    def _replace(self, key: str, data: bytes, found: _Found, mark: str | None, doing: str) -> bool:
        """Replace the object that was found; return True if that was done, False if it was not and never will be."""

        def resolve(content: Content | None, /, *, unclear: bool) -> bool | None:
            history = _history(content)
            if mark is None and history is None:
                return True  # deleted, by us or by another
            if mark is not None and history is not None and mark in history:
                return True
            # Another save followed the version that we wanted to replace. That version never comes back, so ours was
            # not applied and never will be. Ceph RGW 16 answers some losers of a race with 500.
            if not unclear or (history is not None and found.history and found.history[-1] in history):
                return False
            return None

        return put_and_settle(self._root, key, data, if_version=found.condition, resolve=resolve, doing=doing)

    def _mark(self, key: str, condition: Condition) -> _Found | None:
        """Replace the empty object of a deleted checkpoint by a unique one; return None unless that surely succeeded.

        Where versions are digests of the bytes, all empty objects have the same version. A save that was sent twice,
        the first time without an answer, could then be applied, deleted, and applied again. So a save is sent against
        this object, which never comes back. If this PUT is applied late, it replaces an empty object: nothing changes.

        That is why it does not go through `put_and_settle`, which may send the same bytes twice: the object could then
        come back.
        """
        mark = self._root.clock.write_id()
        data = b'{"deleted":"%b"}\n' % mark.encode()
        try:
            return _Found(self._root.backend.put(key, data, if_version=condition), (mark,))
        except UnprovenStorageError:
            raise
        except (ConflictError, OutcomeUnknownError):
            return None


class _Document(msgspec.Struct):
    """A checkpoint as JSON. `history` holds the random parts of the last versions, its own at the end."""

    name: str
    version: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}-[0-9a-f]{16}$")]
    updated: Annotated[datetime, msgspec.Meta(tz=True)]
    value: Any
    history: list[str]


@dataclass(frozen=True, slots=True)
class _Found:
    """The object under a checkpoint's key: the condition to replace it, and a checkpoint, damage or nothing."""

    condition: Condition
    history: tuple[str, ...] = ()
    count: int = 0
    checkpoint: Checkpoint | None = None
    damage: CorruptCheckpointError | None = None
    is_empty: bool = False

    @property
    def version(self) -> str | None:
        return None if self.checkpoint is None else self.checkpoint.version


def _parse(content: Content, *, name: str, key: str, url: str) -> _Found:
    data, version = content
    if not data:
        return _Found(version, is_empty=True)
    if marked := _MARK.fullmatch(data):
        return _Found(version, (marked[1].decode(),))
    try:
        document = decode_document(data, key=key, url=url)
        if isinstance(document, dict) and "format" in document:
            msg = (
                f"read checkpoint {name!r} at {place(url, key)}: its format is {document['format']!r:.80}, which a "
                "newer version of bucketlog wrote; upgrade"
            )
            raise UnsupportedFormatError(msg)
        stored = _convert(document, key=key, url=url)
    except CorruptCheckpointError as err:
        return _Found(version, damage=err)
    if stored.name != name:
        if stored.name.casefold() == name.casefold():
            msg = (
                f"checkpoint {name!r} in {url}: this disk ignores case, and {stored.name!r} is stored there; use that "
                "name, or another one"
            )
            raise InvalidNameError(msg, name=name)
        msg = (
            f"read checkpoint {name!r} at {place(url, key)}: it holds the checkpoint {stored.name!r}; put the right "
            "object back"
        )
        return _Found(version, damage=CorruptCheckpointError(msg, key=key))
    count, _, mark = stored.version.partition("-")
    history = (*(other for other in stored.history if other != mark), mark)
    return _Found(version, history, int(count), Checkpoint(stored.name, stored.value, stored.version, stored.updated))


def _convert(document: object, *, key: str, url: str) -> _Document:
    try:
        return msgspec.convert(document, _Document)
    except msgspec.ValidationError as err:
        msg = (
            f"read {place(url, key)}: JSON, but not a checkpoint ({err}); repair the object or put a copy in its place"
        )
        raise CorruptCheckpointError(msg, key=key) from err


def _history(content: Content | None) -> tuple[str, ...] | None:
    """Return the marks of an object that was read back: None if it is empty, no marks if it is unreadable."""
    if content is None or not content.data or _MARK.fullmatch(content.data):
        return None
    try:
        return tuple(_convert(decode_document(content.data, key="", url=""), key="", url="").history)
    except CorruptCheckpointError:
        return ()


def _check_version_type(expected_version: object, doing: str) -> None:
    if expected_version is not None and expected_version is not ABSENT and not isinstance(expected_version, str):
        msg = (
            f"{doing}: expected_version is {expected_version!r:.40}; give the version of a checkpoint that was loaded "
            "or saved, bucketlog.ABSENT, or None"
        )
        raise InvalidValueError(msg)


def _check_expected(found: _Found, expected: str | Precondition | None, name: str, doing: str) -> None:
    if expected is None:
        return
    if expected == NO_VERSION:
        holds = found.checkpoint is None
    elif found.damage is not None:
        raise found.damage
    else:
        holds = found.checkpoint is None if expected is ABSENT else found.version == expected
    if not holds:
        wanted = "no such checkpoint" if expected in {ABSENT, NO_VERSION} else f"version {expected!r:.80}"
        there = "there is none" if found.version is None else f"found {found.version!r}"
        msg = f"{doing}: expected {wanted}, {there}; load it and decide again"
        version = expected if isinstance(expected, str) else None
        raise CheckpointConflictError(msg, name=name, expected_version=version, version=found.version)


def _encode(value: object, doing: str) -> bytes:
    try:
        body = encode_document(value)
    except (TypeError, ValueError) as err:
        msg = f"{doing}: {err}; nothing was saved; give a value that JSON can represent"
        raise InvalidValueError(msg) from err
    if len(body) > VALUE_BYTES_MAX:
        msg = (
            f"{doing}: the value takes {len(body)} bytes as JSON, at most {VALUE_BYTES_MAX} fit; put it among the "
            "blobs and save its digest"
        )
        raise InvalidValueError(msg)
    return body


def _encode_checkpoint(saved: Checkpoint, body: bytes, before: _Found, mark: str) -> bytes:
    document = {
        "name": saved.name,
        "version": saved.version,
        "updated": saved.updated,
        "value": orjson.Fragment(body.rstrip(b"\n")),
        "history": (*before.history, mark)[-HISTORY_MAX:],
    }
    return orjson.dumps(document, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)


def _key(name: str) -> str:
    return FOLDER + encode_name(name, what="checkpoint", suffix=_SUFFIX)


def _name(key: str) -> str | None:
    """Return the name that a key was made from; None for keys that bucketlog did not make."""
    part = key.removeprefix(FOLDER).removesuffix(_SUFFIX)
    try:
        name = decode_name(part)
        return name if _key(name) == key else None
    except (UnicodeDecodeError, InvalidNameError):
        return None
