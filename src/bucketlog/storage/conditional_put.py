"""A conditional PUT that always ends with a definite answer.

Client libraries retry, and servers answer late, or report an error after they have written, so the outcome is decided
by reading the object back. Every attempt sends the same bytes under the same condition, so it does not matter which
attempt was applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bucketlog.backend import ABSENT
from bucketlog.errors import (
    BackendUnavailableError,
    BucketlogError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    UnprovenStorageError,
)
from bucketlog.storage.retries import Retries

if TYPE_CHECKING:
    from bucketlog.backend import Condition, Content
    from bucketlog.storage.root import Root


class Resolver(Protocol):
    """Decides the outcome of a PUT from the content that replaced the expected version."""

    def __call__(self, content: Content | None, /, *, unclear: bool) -> bool | None:
        """Return True if the PUT was applied, False if it was not and never will be, None if that cannot be known.

        Args:
            content: The content stored now; None if there is none.
            unclear: Whether some attempt got no clear answer. If False, the storage refused every attempt because the
                condition did not hold.
        """
        ...


def put_and_settle(root: Root, key: str, data: bytes, *, if_version: Condition, resolve: Resolver, doing: str) -> bool:
    """Put an object under a condition until the outcome is certain; return True if the PUT was applied.

    While the expected version is still there (with `ABSENT`: nothing), the same bytes are sent again.

    Args:
        root: The store.
        key: The object's key.
        data: The whole content.
        if_version: `ABSENT`, or the version that must still be there.
        resolve: Decides the outcome when anything else is stored under the key.
        doing: The operation and its place, for the message, such as `save checkpoint 'a' in s3://b/c`.

    Raises:
        OutcomeUnknownError: The outcome stayed unknown; the data may have been written, or may be written later.
        BackendUnavailableError: No attempt left this machine.
    """
    failure: BucketlogError | None = None
    sent = unclear = False
    # The same bytes every time (I6), and what is read back decides (I14).
    for _ in Retries(root.clock):
        try:
            root.backend.put(key, data, if_version=if_version)
        except UnprovenStorageError:
            raise
        except ConflictError as err:
            failure, sent = err, True
        except OutcomeUnknownError as err:
            failure, sent, unclear = err, True, True
        except BackendUnavailableError as err:
            failure = err
            if not sent:
                continue
        except BucketlogError as err:
            failure = err
            break
        else:
            return True
        try:
            found = _read(root, key)
        except BucketlogError as err:
            failure = err
            continue
        if (found is None) if if_version is ABSENT else (found is not None and found.version == if_version):
            continue
        verdict = resolve(found, unclear=unclear)
        if verdict is not None:
            return verdict
        break
    if not sent and failure is not None:
        raise failure
    msg = (
        f"{doing}: the storage gave no clear answer, and reading {key} back did not settle it; it may have been "
        "written, or may still be: read it before trying again"
    )
    raise OutcomeUnknownError(msg, key=key) from failure


def _read(root: Root, key: str) -> Content | None:
    try:
        return root.backend.get(key)
    except NotFoundError:
        return None
