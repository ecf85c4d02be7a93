"""Snapshots: immutable states under a name and a time, usually with the cursor that they were taken at.

A snapshot without a cursor is stored as the bare state, so other programs can read it, and equal states are equal
bytes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bucketlog.backend import ABSENT, PUT_BYTES_MAX, Condition
from bucketlog.cursor import Cursor
from bucketlog.errors import (
    ConflictError,
    CorruptCheckpointError,
    InvalidValueError,
    NotFoundError,
    UnsupportedFormatError,
)
from bucketlog.format.documents import decode_document, place
from bucketlog.format.json_values import DOCUMENT_LIMITS, check_json
from bucketlog.format.names import decode_name, encode_name
from bucketlog.storage.conditional_put import put_and_settle
from bucketlog.storage.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bucketlog.backend import Content
    from bucketlog.storage.root import Root

FOLDER = "snapshots/"
FORMAT = "bucketlog.snapshot/1"

_FORMATS = "bucketlog.snapshot/"
_SUFFIX = ".json"
_SEPARATOR = "__"  # the last one in a file name counts: the part after it is encoded so that it holds none
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d)(\d\d)(\d\d)(?:\.(\d{6}))?Z")
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state as it was saved.

    Attributes:
        name: The name it was saved under.
        at: When it was taken (aware UTC), or the text key that it was saved under.
        cursor: How far its stream had been read; None if it was saved without one.
        state: Any JSON value.
    """

    name: str
    at: datetime | str
    cursor: Cursor | None
    state: Any


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot as it is listed, without cursor and state. `key` is its path below the store's root."""

    name: str
    at: datetime | str
    key: str


class Snapshots:
    """The snapshots of a store."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def save(
        self,
        name: str,
        state: object,
        *,
        cursor: Mapping[str, int] | None = None,
        at: datetime | str | None = None,
        replace: bool = False,
    ) -> Snapshot:
        """Save a state and return it as it will be loaded. Saving equal content again changes nothing.

        Args:
            name: Any name.
            state: Any JSON value. `load` returns an equal one, except that tuples come back as lists.
            cursor: How far the stream had been read.
            at: An aware datetime, by default now; or a text key, such as `2026-02-05`.
            replace: Replace other content that is there already. Meant for content that follows from name and time,
                such as the digest of a day: a PUT that is applied late may bring an earlier state back, if the state
                before that one had come back as well.

        Raises:
            ConflictError: Other content is there already. Nothing was saved.
            OutcomeUnknownError: The storage gave no clear answer, and reading back did not settle it.
            InvalidValueError: JSON cannot represent the state, it is too large, `at` is naive, or `cursor` is invalid.
            InvalidNameError: The name or the text key is not valid, or they are too long together.
            ReadOnlyError: The store was opened read-only.
        """
        at = self._root.clock.now() if at is None else at
        key = _key(name, at)
        doing = f"save snapshot {name!r} at {_shown(at)} in {self._root.url}"
        taken = None if cursor is None else Cursor(cursor)
        data = _encode(name, at, taken, state, doing)
        self._root.check_writable(doing)
        if replace:
            self._replace(key, data, doing)
        elif not self._put(key, data, ABSENT, doing, replace=False):
            msg = f"{doing}: other content is there already; choose another time, or pass replace=True"
            raise ConflictError(msg)
        at = at.astimezone(UTC) if isinstance(at, datetime) else at
        return Snapshot(name, at, taken, _decode(data, name, key, self._root.url)[1])

    def load(self, name: str, at: datetime | str) -> Snapshot:
        """Return the snapshot of a name at a time, or under a text key.

        Raises:
            NotFoundError: There is none.
            CorruptCheckpointError: The stored object is not JSON, or not a snapshot.
            UnsupportedFormatError: A newer version of bucketlog saved it.
            InvalidValueError: `at` is naive, or neither a datetime nor a str.
            InvalidNameError: The name or the text key is not valid.
        """
        key = _key(name, at)
        try:
            data = self._root.backend.get(key).data
        except NotFoundError:
            msg = f"load snapshot {name!r} at {_shown(at)} from {self._root.url}: there is none; see list({name!r})"
            raise NotFoundError(msg) from None
        cursor, state = _decode(data, name, key, self._root.url)
        return Snapshot(name, at.astimezone(UTC) if isinstance(at, datetime) else at, cursor, state)

    def latest(self, name: str) -> Snapshot | None:
        """Return the last snapshot of a name, in the order of `list`; None if there is none.

        Raises:
            CorruptCheckpointError: The stored object is not JSON, or not a snapshot.
            UnsupportedFormatError: A newer version of bucketlog saved it.
            InvalidNameError: The name is not valid.
        """
        for info in reversed(self.list(name)):
            try:
                return self.load(name, info.at)
            except NotFoundError:
                continue  # removed since it was listed
        return None

    def names(self) -> list[str]:
        """Return the names that have snapshots, sorted."""
        infos = (_info(entry.key) for entry in self._root.backend.list(FOLDER))
        return sorted({info.name for info in infos if info is not None})

    def prune(self, name: str, *, keep: int) -> list[SnapshotInfo]:
        """Remove all snapshots of a name except the last `keep`, in the order of `list`; return the removed ones.

        Raises:
            InvalidValueError: `keep` is not an int of 0 or more.
            InvalidNameError: The name is not valid.
            ReadOnlyError: The store was opened read-only.
        """
        doing = f"prune snapshots {name!r} in {self._root.url}"
        if type(keep) is not int or keep < 0:
            msg = f"{doing}: keep is {keep!r}; give an int of 0 or more"
            raise InvalidValueError(msg)
        self._root.check_writable(doing)
        found = self.list(name)
        removed = found[: max(len(found) - keep, 0)]
        self._root.backend.delete([info.key for info in removed])
        return removed

    def list(self, name: str) -> list[SnapshotInfo]:
        """List the snapshots of a name, oldest first, without reading them.

        Text keys that are dates, such as `2026-02-05` or `2026-2-5`, or ISO 8601 times are sorted by that time, before
        a datetime of the same instant. A date is midnight UTC; a time without an offset is UTC. Other text keys come
        first, sorted as text.

        Raises:
            InvalidNameError: The name is not valid.
        """
        start = FOLDER + encode_name(name, what="snapshot") + _SEPARATOR
        found = []
        for entry in self._root.backend.list(FOLDER, start_after=start):
            if not entry.key.startswith(start):
                break
            info = _info(entry.key)
            if info is not None and info.name == name:
                found.append(info)
        return sorted(found, key=_order)

    # -- storing -------------------------------------------------------------------------------------------------------

    def _replace(self, key: str, data: bytes, doing: str) -> None:
        for _ in Retries(self._root.clock):
            condition: Condition = ABSENT
            try:
                there = self._root.backend.get(key)
            except NotFoundError:
                pass
            else:
                if there.data == data:
                    return
                condition = there.version
            if self._put(key, data, condition, doing, replace=True):
                return
        msg = f"{doing}: another writer replaced it first at every attempt; try again when fewer writers save it"
        raise ConflictError(msg)

    def _put(self, key: str, data: bytes, condition: Condition, doing: str, *, replace: bool) -> bool:
        def resolve(content: Content | None, /, *, unclear: bool) -> bool | None:
            if content is not None and content.data == data:
                return True
            # Ours may have been applied and then replaced; sending it again would apply it twice. Without `replace`,
            # any other content is a conflict, whichever came first.
            return None if unclear and replace else False

        return put_and_settle(self._root, key, data, if_version=condition, resolve=resolve, doing=doing)


# -- names -------------------------------------------------------------------------------------------------------------


def _key(name: str, at: datetime | str) -> str:
    return FOLDER + encode_name(name, what="snapshot", suffix=f"{_SEPARATOR}{_encode_at(at)}{_SUFFIX}")


def _encode_at(at: datetime | str) -> str:
    if isinstance(at, datetime):
        if at.utcoffset() is None:
            msg = f"snapshot at {at.isoformat()}: a naive time is ambiguous; give one with a tzinfo"
            raise InvalidValueError(msg)
        at = at.astimezone(UTC)
        fraction = f".{at.microsecond:06}" if at.microsecond else ""
        return f"{at.year:04}-{at:%m-%dT%H%M%S}{fraction}Z"
    if not isinstance(at, str):
        msg = f"snapshot at {at!r:.40}: give an aware datetime or a str, not {type(at).__name__}"
        raise InvalidValueError(msg)
    part = encode_name(at, what="key of a snapshot")
    if part[0] == "_" or _TIME.fullmatch(part):
        part = f"%{ord(part[0]):02X}{part[1:]}"
    return part.replace(_SEPARATOR, "_%5F")


def _decode_at(part: str) -> datetime | str:
    if (time := _TIME.fullmatch(part)) is None:
        return decode_name(part)
    *parts, fraction = time.groups("0")
    year, month, day, hour, minute, second = map(int, parts)
    return datetime(year, month, day, hour, minute, second, int(fraction), tzinfo=UTC)


def _info(key: str) -> SnapshotInfo | None:
    """Decode the key of a snapshot; return None for keys that bucketlog did not make."""
    name, separator, at = key.removeprefix(FOLDER).removesuffix(_SUFFIX).rpartition(_SEPARATOR)
    try:
        info = SnapshotInfo(decode_name(name), _decode_at(at), key)
        return info if separator and _key(info.name, info.at) == key else None
    except ValueError:  # bytes that are not UTF-8, a 31st of February, an invalid name
        return None


def _order(info: SnapshotInfo) -> tuple[float, bool, str]:
    if isinstance(info.at, datetime):
        return info.at.timestamp(), True, ""
    return _text_seconds(info.at), False, info.at


def _text_seconds(text: str) -> float:
    """Return the Unix time of a text key that is a date or a time, else minus infinity."""
    try:
        if date := _DATE.fullmatch(text):
            year, month, day = map(int, date.groups())
            return datetime(year, month, day, tzinfo=UTC).timestamp()
        if _DATE.match(text):
            time = datetime.fromisoformat(text)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        pass
    return float("-inf")


def _shown(at: datetime | str) -> str:
    return at.isoformat() if isinstance(at, datetime) else repr(at)


# -- content -----------------------------------------------------------------------------------------------------------


def _encode(name: str, at: datetime | str, cursor: Cursor | None, state: object, doing: str) -> bytes:
    try:
        check_json(state, DOCUMENT_LIMITS)
    except (TypeError, ValueError) as err:
        msg = f"{doing}: {err}; nothing was saved; give a state that JSON can represent"
        raise InvalidValueError(msg) from err
    document = state
    # A bare state that looks like the wrapped form must be wrapped, or it would be read as one.
    if cursor is not None or _format(state):
        document = {
            "format": FORMAT,
            "name": name,
            "at": at.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(at, datetime) else at,
            "cursor": None if cursor is None else dict(cursor),
            "state": state,
        }
    text = json.dumps(document, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    data = f"{text}\n".encode("ascii")
    if len(data) > PUT_BYTES_MAX:
        msg = (
            f"{doing}: the state takes {len(data)} bytes as JSON, at most {PUT_BYTES_MAX} fit; put it among the blobs "
            "and save its digest"
        )
        raise InvalidValueError(msg)
    return data


def _decode(data: bytes, name: str, key: str, url: str) -> tuple[Cursor | None, Any]:
    document = decode_document(data, key=key, url=url)
    form = _format(document)
    if not isinstance(document, dict) or not form:
        return None, document
    if form != FORMAT:
        msg = (
            f"read snapshot {name!r} at {place(url, key)}: its format is {form!r:.80}, this version of bucketlog reads "
            f"{FORMAT!r}; upgrade"
        )
        raise UnsupportedFormatError(msg)
    try:
        if document["name"] != name:
            wrong = f"it holds the snapshot {document['name']!r:.80}"
        else:
            return None if document["cursor"] is None else Cursor(document["cursor"]), document["state"]
    except KeyError as err:
        wrong = f"it has no member {err}"
    except InvalidValueError as err:
        wrong = str(err)
    msg = f"read snapshot {name!r} at {place(url, key)}: {wrong}; repair the object or put a copy in its place"
    raise CorruptCheckpointError(msg, key=key)


def _format(document: object) -> str:
    """Return the format that a document declares, if it is one of ours; else an empty str."""
    form = document.get("format") if isinstance(document, dict) else None
    return form if isinstance(form, str) and form.startswith(_FORMATS) else ""
