"""An opened root: the backend, what the store says of itself, and whether this handle may write."""

from __future__ import annotations

import logging
import os
import re
import threading
import weakref
from contextlib import suppress
from datetime import UTC
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn, TypeVar, get_args
from uuid import UUID

from bucketlog._version import __version__
from bucketlog.backend import ABSENT, AppendBackend
from bucketlog.errors import (
    BucketlogError,
    CapabilityError,
    ConflictError,
    CorruptCheckpointError,
    InvalidOptionError,
    NotFoundError,
    OutcomeUnknownError,
    ReadOnlyError,
    StoreNotFoundError,
    UnsupportedFormatError,
)
from bucketlog.format.documents import decode_document, encode_document, place
from bucketlog.format.names import encode_name
from bucketlog.storage.cache import Cache
from bucketlog.storage.location import redact
from bucketlog.storage.probe import Proof, probe, release
from bucketlog.storage.single_writer import emulate_conditions
from bucketlog.storage.threads import RequestPool, Syncer, map_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bucketlog.backend import Backend
    from bucketlog.clock import Clock
    from bucketlog.format.compacted import CompactedSegment
    from bucketlog.storage.location import Location

SyncMode = Literal["always", "interval", "never"]
Mode = Literal["append", "put"]

STORE_KEY = "bucketlog.json"
FORMAT = "bucketlog/1"
SYNC_INTERVAL_SECONDS = 1.0  # with sync="interval", no acknowledged commit waits longer for its sync
REQUESTS_MAX = 16  # of one handle at a time, beside those of the callers' own threads

_PUTS_MAX = 5
_CALLS_AHEAD = 8  # each makes several requests, of which `REQUESTS_MAX` run at a time
_INDEXES_MAX = 256  # of compacted segments: some MB each

_log = logging.getLogger("bucketlog")

T = TypeVar("T")
R = TypeVar("R")


def open_root(
    backend: Backend, *, create: bool, read_only: bool, single_writer: bool, sync: SyncMode, clock: Clock
) -> Root:
    """Read what a store says of itself, or make one.

    A store that was proven through this kind of backend costs two gets, one of them for `read_only`. Making one runs
    the probe first; where a store was not proven yet, the first write does. If this fails, the caller closes `backend`.

    Args:
        backend: Where the store is, or is to be.
        create: Whether to make a store where there is none.
        read_only: Never write, and never probe.
        single_writer: The caller's promise that nobody else writes, which storage without conditions needs.
        sync: `always`, `interval` or `never`.
        clock: Time, waiting and chance.

    Raises:
        InvalidOptionError: `sync` is something else.
        StoreNotFoundError: There is no store, and none may be made.
        CapabilityError: A store cannot be made: the storage failed the probe.
        UnsupportedFormatError: The store has another format than this version reads.
        CorruptCheckpointError: `bucketlog.json` cannot be read.
        OutcomeUnknownError: Whether the store was made is not known.
    """
    if sync not in get_args(SyncMode):
        msg = f"open {redact(backend.url)}: sync={sync!r} is not one of {', '.join(map(repr, get_args(SyncMode)))}"
        raise InvalidOptionError(msg, option="sync")
    root = Root(backend, clock=clock, read_only=read_only, single_writer=single_writer, sync=sync)
    root.settle(create=create and not read_only)
    return root


class Root:
    """What streams, checkpoints, snapshots, blobs and objects of one store handle share.

    Attributes:
        backend: Moves the bytes. With `single_writer`, over storage without conditions, it keeps them for this handle.
        clock: Time, waiting and chance.
        url: Redacted, for messages.
        store_id: Made with the store; another store at the same place has another.
        read_only: Whether this handle was opened so, or has to be.
        single_writer: The caller's promise that nobody else writes.
        sync: When appends are synced.
        appender: The same backend, in a store whose segments grow; None where commits are puts.
        proof: What was proven through this backend; None while nothing was.
        location: What `bucketlog.open` was given, to open the store again elsewhere; None where it was not asked.
        compacted: The indexes of compacted segments that were looked at.
        writable: Whether writes need no further look; `check_writable` is for when it is False.
    """

    def __init__(self, backend: Backend, *, clock: Clock, read_only: bool, single_writer: bool, sync: SyncMode) -> None:
        self.backend = emulate_conditions(backend) if single_writer else backend
        self.clock = clock
        self.url = redact(backend.url)
        self.store_id = ""
        self.read_only = read_only
        self.single_writer = single_writer
        self.sync: SyncMode = sync
        self.appender: AppendBackend | None = None
        self.proof: Proof | None = None
        self.location: Location | None = None
        self.writable = False
        self._bare = backend  # without emulation: what the probe looks at
        self._why_not = "it was opened with read_only=True; open it for writing" if read_only else ""
        self._executor: RequestPool | None
        self.compacted: Cache[CompactedSegment | None]
        self._failure: BucketlogError | None = None  # of a sync in the background
        self._failure_told = False
        self.begin()
        _roots.add(self)

    def check_writable(self, doing: str) -> None:
        """Refuse when this handle may not write; the first time, prove what the backend claims.

        Args:
            doing: What is to be written and where, for the message, such as `append to stream 'orders'`.

        Raises:
            ReadOnlyError: Opened for reading only, or the store's segments are written in the other mode.
            CapabilityError: The storage failed the probe.
            OutcomeUnknownError: A sync in the background failed, so what was acknowledged last may not last.
        """
        if not self.writable:
            self._become_writable(doing)

    @property
    def executor(self) -> RequestPool:
        """Threads for requests that go out side by side; made when first asked for."""
        with self._lock:
            if self._executor is None:
                self._executor = RequestPool(REQUESTS_MAX)
            return self._executor

    def side_by_side(self, call: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Yield `call(item)` in the order of the items, several calls at a time where each costs requests.

        In a directory they come one after the other: threads gain nothing there.
        """
        if self.appender is not None or len(items) <= 1:
            return map(call, items)
        return map_ahead(self.executor, call, items, ahead=_CALLS_AHEAD)

    def sync_soon(self, key: str) -> None:
        """Sync a growing object within `SYNC_INTERVAL_SECONDS`, in the background.

        When that fails this handle writes no more: what it acknowledged since the last sync may not last.
        """
        self._syncer.soon(key)

    def close(self) -> None:
        """Sync what waits for it, end all threads and close the backend. Calling it again does nothing.

        Raises:
            OutcomeUnknownError: A sync failed, and no write has told so yet.
        """
        with self._lock:
            executor, self._executor = self._executor, None
        self._syncer.close()
        if executor is not None:
            executor.shutdown(cancel_futures=True)
        self.backend.close()
        if self._failure is not None and not self._failure_told:
            self._raise_failure(f"close the store {self.url}")

    # -- opening -------------------------------------------------------------------------------------------------------

    def settle(self, *, create: bool) -> None:
        """Read `bucketlog.json`, or make it; then what was proven."""
        try:
            data = self.backend.get(STORE_KEY).data
        except NotFoundError as err:
            if not create:
                msg = f"open {self.url}: there is no store here; mend the URL, or make one with create=True"
                raise StoreNotFoundError(msg) from err
            data = self._make_store()
        store = _read_store(data, self.url)
        self.store_id = store.store_id
        # One way of writing for the life of a store (I5).
        if store.mode == _mode_of(self._bare):
            self.appender = _appender(self._bare)
        else:
            self.read_only = True
            self._why_not = self._why_not or (
                f"the store commits in mode {store.mode!r} and backend {self._bare.name!r} in mode "
                f"{_mode_of(self._bare)!r}; as both at once would lose events, it is open for reading only; "
                "open it as it was made, or copy its events to a new store"
            )
        if self.proof is None and not self.read_only:
            self.proof = self._read_proof()
        if self.proof is not None and not self.read_only:
            self.proof.apply(self._bare)
            self.writable = not self._unfit(self.proof)

    def _make_store(self) -> bytes:
        """Prove the storage, then put `bucketlog.json`; return what is there, be it another's."""
        self._prove(f"make a store at {self.url}")
        now = self.clock.now().astimezone(UTC)
        store_id = UUID(hex=self.clock.write_id() + self.clock.write_id(), version=4)
        store = {
            "format": FORMAT,
            "store_id": str(store_id),
            "mode": _mode_of(self._bare),
            "created": f"{now:%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        data = encode_document(store)
        for attempt in range(_PUTS_MAX):
            try:
                self.backend.put(STORE_KEY, data, if_version=ABSENT)
            except (ConflictError, OutcomeUnknownError):
                # Perhaps our own bytes; whosever they are, they are the store. With none there, the same bytes again.
                with suppress(NotFoundError):
                    return self.backend.get(STORE_KEY).data
                self.clock.sleep(self.clock.jitter() * 0.1 * 2**attempt)
            else:
                return data
        msg = f"make a store at {self.url}: {_PUTS_MAX} attempts, and no clear answer to any; open it again"
        raise OutcomeUnknownError(msg, key=STORE_KEY)

    # -- proving -------------------------------------------------------------------------------------------------------

    def _become_writable(self, doing: str) -> None:
        if self.read_only:
            msg = f"{doing}: the store {self.url} cannot be written: {self._why_not}"
            raise ReadOnlyError(msg)
        if self._failure is not None:
            self._raise_failure(doing)
        with self._proving:
            if not self.writable:
                self._prove(doing)
                self.writable = True

    def _prove(self, doing: str) -> None:
        """Run the probe and keep what it found.

        Raises:
            CapabilityError: The storage failed.
        """
        self.proof = probe(self._bare, self.clock)
        if unfit := self._unfit(self.proof):
            raise CapabilityError(f"{doing}: {unfit}")
        with suppress(OutcomeUnknownError):  # only the next opening would miss it, and prove again
            self.backend.put(self._proof_key, encode_document(self.proof.to_json()))

    def _read_proof(self) -> Proof | None:
        """Return what was proven through this backend by this version or a newer one.

        What cannot be read counts as nothing: it is found out again.
        """
        try:
            data = self.backend.get(self._proof_key).data
            proof = Proof.from_json(decode_document(data, key=self._proof_key, url=self.url))
        except (NotFoundError, CorruptCheckpointError, ValueError):
            return None
        return proof if release(proof.version) >= release(__version__) else None

    @property
    def _proof_key(self) -> str:
        return f"capabilities/{encode_name(self._bare.name, what='backend', suffix='.json')}"

    def _unfit(self, proof: Proof) -> str:
        """Say why storage is not good enough for this handle, and what to do; nothing when it is."""
        where = f"backend {self._bare.name!r} at {self.url}"
        if broken := proof.unusable():
            found = "; ".join(f"{one.name} {one.finding}" for one in broken)
            return f"{where} cannot hold a store: {found}; choose another backend"
        if self.single_writer or not (missing := proof.unsafe()):
            return ""
        found = "; ".join(f"{one.name} {one.finding}" for one in missing)
        way = "use a bucket without versioning" if proof.versioned else "choose another backend"
        return (
            f"{where} is not safe for several writers: {found}; {way}, or, if only one ever writes, single_writer=True"
        )

    # -- in the background ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make locks and threads: at first, and in a forked child, where the inherited ones are of no use."""
        self.compacted = Cache(_INDEXES_MAX)
        self._lock = threading.Lock()
        self._proving = threading.Lock()
        self._executor = None
        self._syncer = Syncer(self._sync_now, SYNC_INTERVAL_SECONDS, self._fail)

    def _sync_now(self, key: str) -> None:
        if self.appender is not None:  # where commits are puts, all is durable
            self.appender.sync(key)

    def _fail(self, err: BucketlogError) -> None:
        _log.error("%s: a sync in the background failed; this handle writes no more: %s", self.url, err)
        self.writable, self._failure = False, err

    def _raise_failure(self, doing: str) -> NoReturn:
        self._failure_told = True
        msg = (
            f"{doing}: a sync in the background failed, so what was acknowledged within {SYNC_INTERVAL_SECONDS:g} s "
            "before may not be durable; open the store anew, see what is there, and go on from that"
        )
        raise OutcomeUnknownError(msg) from self._failure


def _appender(backend: Backend) -> AppendBackend | None:
    return backend if isinstance(backend, AppendBackend) and backend.capabilities.append else None


def _mode_of(backend: Backend) -> Mode:
    return "append" if _appender(backend) is not None else "put"


class _Store(NamedTuple):
    store_id: str
    mode: Mode


def _read_store(data: bytes, url: str) -> _Store:
    match decode_document(data, key=STORE_KEY, url=url):
        case {"format": str(written)} if written != FORMAT:
            newer = re.fullmatch(r"bucketlog/([0-9]+)", written)
            way = "upgrade bucketlog" if newer else "look at what else is kept there"
            msg = f"open {url}: the store has format {written!r}, this version reads {FORMAT!r}; {way}"
            raise UnsupportedFormatError(msg)
        case {"format": str(), "store_id": str(store_id), "mode": "append" | "put" as mode} if store_id:
            return _Store(store_id, mode)
    msg = f"open {url}: {place(url, STORE_KEY)} is not what a store says of itself; put a copy in its place"
    raise CorruptCheckpointError(msg, key=STORE_KEY)


_roots: weakref.WeakSet[Root] = weakref.WeakSet()


def _begin_in_child() -> None:  # pragma: no cover  (coverage does not follow the fork that a test makes)
    for root in list(_roots):
        root.begin()


if hasattr(os, "register_at_fork"):  # pragma: no branch
    os.register_at_fork(after_in_child=_begin_in_child)
