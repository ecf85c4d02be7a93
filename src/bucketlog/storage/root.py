"""An opened root: the backend, the store's identity and mode, and whether this handle may write."""

from __future__ import annotations

import logging
import re
import threading
from contextlib import suppress
from datetime import UTC
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn, TypeVar, get_args
from uuid import UUID

from bucketlog._version import __version__
from bucketlog.backend import ABSENT, AppendBackend, after_fork_in_child
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
REQUESTS_MAX = 16  # concurrent requests of one handle, in addition to those of the callers' own threads

_PUTS_MAX = 5
_CALLS_AHEAD = 8  # each makes several requests; `REQUESTS_MAX` of them run at a time
_INDEXES_MAX = 256  # cached indexes of compacted segments, a few MB each

_log = logging.getLogger("bucketlog")

T = TypeVar("T")
R = TypeVar("R")


def open_root(
    backend: Backend, *, create: bool, read_only: bool, single_writer: bool, sync: SyncMode, clock: Clock
) -> Root:
    """Open a store, or create one.

    Opening a store that was probed before through this kind of backend takes two GETs, with `read_only` one. Creating a
    store runs the probe first; for a store that was not probed yet, the first write does. If this function fails, the
    caller closes `backend`.

    Args:
        backend: The storage of the store.
        create: Whether to create the store if there is none.
        read_only: Never write, and never probe.
        single_writer: The caller's promise that nothing else writes; needed on storage without conditions.
        sync: `always`, `interval` or `never`.
        clock: Time, sleep and randomness.

    Raises:
        InvalidOptionError: `sync` has another value.
        StoreNotFoundError: There is no store, and `create` is False.
        CapabilityError: The store cannot be created because the storage failed the probe.
        UnsupportedFormatError: This version does not read the store's format.
        CorruptCheckpointError: `bucketlog.json` cannot be read.
        OutcomeUnknownError: It is not known whether the store was created.
    """
    if sync not in get_args(SyncMode):
        msg = f"open {redact(backend.url)}: sync={sync!r} is not one of {', '.join(map(repr, get_args(SyncMode)))}"
        raise InvalidOptionError(msg, option="sync")
    root = Root(backend, clock=clock, read_only=read_only, single_writer=single_writer, sync=sync)
    root.settle(create=create and not read_only)
    return root


class Root:
    """The state that streams, checkpoints, snapshots, blobs and objects of one store handle share.

    Attributes:
        backend: The storage; with `single_writer`, wrapped so that missing conditions are emulated.
        clock: Time, sleep and randomness.
        url: The redacted URL, for messages.
        store_id: Assigned when the store is created; recreating it gives a new one.
        read_only: Whether this handle was opened for reading only, or cannot write the store's mode.
        single_writer: The caller's promise that nothing else writes.
        sync: When appends are synced.
        appender: The same backend, if segments grow in this store; None if each commit is a PUT.
        proof: The result of the probe; None until it is known.
        location: The target given to `bucketlog.open`, to open the store elsewhere; None if it was opened otherwise.
        compacted: The cached indexes of compacted segments.
        writable: Whether this handle is known to be able to write; while it is False, call `check_writable`.
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
        self._bare = backend  # without emulation, for the probe
        self._why_not = "it was opened with read_only=True; open it for writing" if read_only else ""
        self._executor: RequestPool | None
        self.compacted: Cache[CompactedSegment | None]
        self._failure: BucketlogError | None = None  # of a background sync
        self._failure_raised = False
        self.begin()
        after_fork_in_child(self.begin)

    def check_writable(self, doing: str) -> None:
        """Check that this handle may write; the first check runs the probe if the storage was not probed yet.

        Args:
            doing: The operation and its place, for the message, such as `append to stream 'orders'`.

        Raises:
            ReadOnlyError: The store was opened for reading only, or is written in the other mode.
            CapabilityError: The storage failed the probe.
            OutcomeUnknownError: A background sync failed, so the last acknowledged commits may be lost.
        """
        if not self.writable:
            self._become_writable(doing)

    @property
    def executor(self) -> RequestPool:
        """Threads for concurrent requests, started on first use."""
        with self._lock:
            if self._executor is None:
                self._executor = RequestPool(REQUESTS_MAX)
            return self._executor

    @property
    def segments_grow(self) -> bool:
        """Whether commits are appended to segments; otherwise each commit is a PUT of its own."""
        return self.appender is not None

    @property
    def requests_cost(self) -> bool:
        """Whether each call is a request to a server, so that it saves time to make several at once."""
        return self.appender is None

    def side_by_side(self, call: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Yield `call(item)` in the order of the items, with several calls at a time if each makes requests.

        In a directory they run one after the other, because threads gain nothing there.
        """
        if not self.requests_cost or len(items) <= 1:
            return map(call, items)
        return map_ahead(self.executor, call, items, ahead=_CALLS_AHEAD)

    def sync_soon(self, key: str) -> None:
        """Sync a growing object in the background, within `SYNC_INTERVAL_SECONDS`.

        If the sync fails, this handle refuses to write: commits acknowledged since the last sync may be lost.
        """
        self._syncer.soon(key)

    def close(self) -> None:
        """Run pending syncs, stop all threads and close the backend. Calling it again does nothing.

        Raises:
            OutcomeUnknownError: A background sync failed, and no write has raised that yet.
        """
        with self._lock:
            executor, self._executor = self._executor, None
        self._syncer.close()
        if executor is not None:
            executor.shutdown(cancel_futures=True)
        self.backend.close()
        if self._failure is not None and not self._failure_raised:
            self._raise_failure(f"close the store {self.url}")

    # -- opening -------------------------------------------------------------------------------------------------------

    def settle(self, *, create: bool) -> None:
        """Read `bucketlog.json`, or create it; then read the stored proof."""
        try:
            data = self.backend.get(STORE_KEY).data
        except NotFoundError as err:
            if not create:
                msg = f"open {self.url}: there is no store here; correct the URL, or create one with create=True"
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
                f"the store commits in mode {store.mode!r}, backend {self._bare.name!r} in mode "
                f"{_mode_of(self._bare)!r}; mixing them would lose events, so it is open for reading only; "
                "open it through the kind of backend that created it, or copy its events to a new store"
            )
        if self.proof is None and not self.read_only:
            self.proof = self._read_proof()
        if self.proof is not None and not self.read_only:
            self.proof.apply(self._bare)
            self.writable = not self._unfit(self.proof)

    def _make_store(self) -> bytes:
        """Probe the storage, then put `bucketlog.json`; return the stored content, even if another process put it."""
        self._prove(f"create a store at {self.url}")
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
                # The bytes stored now, ours or another process's, are the store. If there are none, send ours again.
                with suppress(NotFoundError):
                    return self.backend.get(STORE_KEY).data
                self.clock.sleep(self.clock.jitter() * 0.1 * 2**attempt)
            else:
                return data
        msg = f"create a store at {self.url}: none of {_PUTS_MAX} attempts got a clear answer; open it again"
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
        """Run the probe and store its result.

        Raises:
            CapabilityError: The storage failed the probe.
        """
        self.proof = probe(self._bare, self.clock)
        if unfit := self._unfit(self.proof):
            raise CapabilityError(f"{doing}: {unfit}")
        with suppress(OutcomeUnknownError):  # if it was not stored, the next opening probes again
            self.backend.put(self._proof_key, encode_document(self.proof.to_json()))

    def _read_proof(self) -> Proof | None:
        """Return the proof that this version or a newer one stored for this kind of backend.

        A proof that cannot be read counts as missing: the probe runs again.
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
        """Return why the storage is not fit for this handle, and the next step; an empty text if it is fit."""
        where = f"backend {self._bare.name!r} at {self.url}"
        if broken := proof.unusable():
            found = "; ".join(f"{check.name} {check.finding}" for check in broken)
            return f"{where} cannot hold a store: {found}; choose another backend"
        if self.single_writer or not (missing := proof.unsafe()):
            return ""
        found = "; ".join(f"{check.name} {check.finding}" for check in missing)
        way = "use a bucket without versioning" if proof.versioned else "choose another backend"
        return (
            f"{where} is not safe for several writers: {found}; {way}, or, if only one process ever writes, open it "
            "with single_writer=True"
        )

    # -- in the background ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Create locks and threads: on construction, and again in a forked child, which cannot use inherited ones."""
        self.compacted = Cache(_INDEXES_MAX)
        self._lock = threading.Lock()
        self._proving = threading.Lock()
        self._executor = None
        self._syncer = Syncer(self._sync_now, SYNC_INTERVAL_SECONDS, self._fail)

    def _sync_now(self, key: str) -> None:
        if self.appender is not None:  # a commit that is a PUT is durable already
            self.appender.sync(key)

    def _fail(self, err: BucketlogError) -> None:
        _log.error("%s: a background sync failed; this handle refuses to write from now on: %s", self.url, err)
        self.writable, self._failure = False, err

    def _raise_failure(self, doing: str) -> NoReturn:
        self._failure_raised = True
        msg = (
            f"{doing}: a background sync failed, so commits acknowledged up to {SYNC_INTERVAL_SECONDS:g} s before may "
            "be lost; open the store again, check which events are stored, and resume from there"
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
            way = "upgrade bucketlog" if newer else "check what other program keeps its data there"
            msg = f"open {url}: the store has format {written!r}, this version reads {FORMAT!r}; {way}"
            raise UnsupportedFormatError(msg)
        case {"format": str(), "store_id": str(store_id), "mode": "append" | "put" as mode} if store_id:
            return _Store(store_id, mode)
    msg = f"open {url}: {place(url, STORE_KEY)} does not describe a store; restore it from a copy"
    raise CorruptCheckpointError(msg, key=STORE_KEY)
