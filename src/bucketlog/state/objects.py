"""Objects: an application's own documents, under paths below the store's root.

Each part of a path is encoded like a name, so any text works and none leaves the root. The store's own objects can be
read here, but not written or listed.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from bucketlog.backend import ABSENT, PUT_BYTES_MAX, UploadBackend
from bucketlog.errors import (
    CapabilityError,
    ConflictError,
    InvalidNameError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
    UnprovenStorageError,
)
from bucketlog.format.names import decode_name, encode_name
from bucketlog.storage.conditional_put import put_and_settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog.backend import Content
    from bucketlog.storage.root import Root

# Names that begin with a dot need no entry: the dot is encoded. Snapshots may be written by applications.
_OWN = frozenset({"streams", "checkpoints", "blobs", "capabilities", "bucketlog.json"})
_SNAPSHOTS = "snapshots/"
_FOLDERS_MAX = 10_000


class Objects:
    """The plain objects of a store."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._folders: set[str] = set()  # folders known to hold objects; no object can have such a name

    def get(self, path: str) -> bytes:
        """Return an object's bytes.

        Raises:
            NotFoundError: Nothing is stored under the path.
            InvalidNameError: A part of the path is empty or not a valid name.
        """
        try:
            return self._root.backend.get(_key(path)).data
        except NotFoundError:
            msg = f"get object {path!r} from {self._root.url}: nothing is stored under this path"
            raise NotFoundError(msg) from None

    def put(self, path: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """Store bytes under a path, all of them or none.

        Args:
            path: Parts, separated by `/`.
            data: The whole content; with `if_absent` at most 64 MiB.
            if_absent: Store only if nothing is stored there. Of several callers that race, exactly one returns. If the
                storage gives no clear answer and the same bytes are found there, this call counts as the writer.

        Raises:
            ConflictError: With `if_absent`: something is stored there already.
            OutcomeUnknownError: The storage gave no clear answer, and other bytes are there, or none.
            InvalidNameError: The path is not valid, belongs to the store itself, is the folder of other objects, or
                lies below an object.
            InvalidValueError: `data` is not bytes.
            CapabilityError: Over 64 MiB, which this backend cannot store at all, or not with `if_absent`.
            ReadOnlyError: The store was opened read-only.
        """
        key = _key(path)
        doing = f"put object {path!r} in {self._root.url}"
        _refuse_own(key, doing, path)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            msg = f"{doing}: the data is of type {type(data).__name__}; give bytes"
            raise InvalidValueError(msg)
        data = bytes(data)
        self._root.check_writable(doing)
        self._refuse_folders(key, doing, path)
        if if_absent:
            self._put_absent(key, data, doing)
        else:
            self._put(key, data, doing)

    def list(self, prefix: str = "") -> list[str]:
        """Return the paths that begin with `prefix` (any text), sorted, without those of the store itself.

        Snapshots are included if the prefix begins with `snapshots/`.

        Raises:
            InvalidNameError: A part of the prefix is empty or not a valid name.
        """
        folder, slash, _ = prefix.rpartition("/")
        keys = self._keys(_key(folder) + "/") if slash else self._top_keys(prefix)
        paths = (_path(key) for key in keys)
        return sorted(path for path in paths if path is not None and path.startswith(prefix))

    def delete(self, path: str) -> None:
        """Remove an object. A missing one is not an error.

        Raises:
            InvalidNameError: The path is not valid, or belongs to the store itself.
            ReadOnlyError: The store was opened read-only.
        """
        key = _key(path)
        doing = f"delete object {path!r} in {self._root.url}"
        _refuse_own(key, doing, path)
        self._root.check_writable(doing)
        self._root.backend.delete([key])

    def url(self, path: str) -> str:
        """Return an object's URL, for other programs. It holds no credentials.

        Raises:
            InvalidNameError: A part of the path is empty or not a valid name.
        """
        return f"{self._root.url.rstrip('/')}/{_key(path)}"

    # -- storing -------------------------------------------------------------------------------------------------------

    def _put(self, key: str, data: bytes, doing: str) -> None:
        backend = self._root.backend
        try:
            if len(data) <= PUT_BYTES_MAX:
                backend.put(key, data)
            elif isinstance(backend, UploadBackend):
                backend.upload(key, io.BytesIO(data))
            else:
                raise _too_large(doing, data)
        except UnprovenStorageError:
            raise
        except OutcomeUnknownError as err:
            # Never sent again: a second PUT could replace what another writer has stored since.
            if not self._holds(key, data):
                msg = f"{doing}: the storage gave no clear answer; read the object before trying again"
                raise OutcomeUnknownError(msg, key=key) from err

    def _put_absent(self, key: str, data: bytes, doing: str) -> None:
        def resolve(content: Content | None, /, *, unclear: bool) -> bool | None:
            if not unclear:
                return False
            return True if content is not None and content.data == data else None

        if len(data) > PUT_BYTES_MAX:
            raise _too_large(doing, data)
        if not put_and_settle(self._root, key, data, if_version=ABSENT, resolve=resolve, doing=doing):
            msg = f"{doing}: something is stored there already, and if_absent=True was given; read it and decide again"
            raise ConflictError(msg)

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self._root.backend.get(key).data == data
        except NotFoundError:
            return False

    def _refuse_folders(self, key: str, doing: str, path: str) -> None:
        """Refuse a path that is the folder of other objects, or lies below an object.

        A directory cannot hold both, and of two such keys MinIO lists only the shorter one.
        """
        parts = key.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        for folder in above:
            if folder not in self._folders and self._exists(folder):
                msg = f"{doing}: {_path(folder)!r} is an object, so it cannot be a folder; choose another path"
                raise InvalidNameError(msg, name=path)
        if next(iter(self._root.backend.list(key + "/")), None) is not None:
            msg = f"{doing}: it is the folder of other objects, so it cannot be an object; choose another path"
            raise InvalidNameError(msg, name=path)
        if len(self._folders) < _FOLDERS_MAX:
            self._folders.update(above)

    def _exists(self, key: str) -> bool:
        try:
            self._root.backend.head(key)
        except NotFoundError:
            return False
        return True

    # -- listing -------------------------------------------------------------------------------------------------------

    def _keys(self, folder: str) -> Iterator[str]:
        if not _is_own(folder):
            for entry in self._root.backend.list(folder):
                yield entry.key

    def _top_keys(self, prefix: str) -> Iterator[str]:
        for entry in self._root.backend.list("", delimiter=True):
            if _is_own(entry.key) or entry.key == _SNAPSHOTS:
                continue
            if not entry.key.endswith("/"):
                yield entry.key
            elif (_path(entry.key[:-1]) or "").startswith(prefix):
                yield from self._keys(entry.key)


def _key(path: str) -> str:
    if not isinstance(path, str):
        msg = f"object {path!r:.80}: a path is a str, not {type(path).__name__}"
        raise InvalidNameError(msg, name=repr(path)[:80])
    if "" in path.split("/"):
        msg = f"object {path!r}: no part of a path may be empty; remove leading, trailing and double `/`"
        raise InvalidNameError(msg, name=path)
    return "/".join(encode_name(part, what="part of a path") for part in path.split("/"))


def _path(key: str) -> str | None:
    """Return the path that a key was made from; None for keys that bucketlog did not make."""
    try:
        path = "/".join(decode_name(part) for part in key.split("/"))
        return path if _key(path) == key else None
    except (UnicodeDecodeError, InvalidNameError):
        return None


def _is_own(key: str) -> bool:
    return key.split("/", 1)[0].lower() in _OWN  # some disks ignore case


def _refuse_own(key: str, doing: str, path: str) -> None:
    if _is_own(key):
        msg = f"{doing}: {path.split('/', 1)[0]!r} belongs to the store itself; choose another first part"
        raise InvalidNameError(msg, name=path)


def _too_large(doing: str, data: bytes) -> CapabilityError:
    msg = (
        f"{doing}: {len(data)} bytes are too many; with if_absent=True, or on this backend, an object takes at most "
        f"{PUT_BYTES_MAX}; put a blob and store its digest"
    )
    return CapabilityError(msg)
