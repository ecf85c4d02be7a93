"""A conditional put of which it is known in the end whether it was applied.

Client libraries retry, and servers answer late, or with an error after they have written: what counts is what is read
back. Every attempt sends the same bytes under the same condition, so it does not matter which of them landed.
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
    """Says what became of a put, from what is stored instead of what was there before."""

    def __call__(self, content: Content | None, /, *, unclear: bool) -> bool | None:
        """Return True when it was applied, False when it surely was not and never will be, None when nobody can tell.

        Args:
            content: What is stored now; None for nothing.
            unclear: Whether some attempt got no clear answer. If not, the storage said each time that the condition
                did not hold.
        """
        ...


def put_and_settle(root: Root, key: str, data: bytes, *, if_version: Condition, resolve: Resolver, doing: str) -> bool:
    """Put under a condition until it is certain what became of it; tell whether it was applied.

    Where the old version is still there (or still nothing, with `ABSENT`), the same bytes are sent again.

    Args:
        root: The store.
        key: Where to.
        data: The whole content.
        if_version: `ABSENT` or the version that must still be there.
        resolve: Decides when something else is found.
        doing: What is being done and where, for the message, such as `save checkpoint 'a' in s3://b/c`.

    Raises:
        OutcomeUnknownError: No certainty within the budget; it may have been written, or may land later.
        BackendUnavailableError: No attempt has left this machine.
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
        f"{doing}: the storage gave no clear answer, and reading {key} back did not tell; it may have been written or "
        "may still land: read it before trying again"
    )
    raise OutcomeUnknownError(msg, key=key) from failure


def _read(root: Root, key: str) -> Content | None:
    try:
        return root.backend.get(key)
    except NotFoundError:
        return None
