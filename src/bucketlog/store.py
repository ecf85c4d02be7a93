"""The store: one root, opened by URL; streams, checkpoints, snapshots, blobs and objects in it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from bucketlog.clock import SystemClock
from bucketlog.format.names import name_of
from bucketlog.log.stream_state import StreamState
from bucketlog.state.blobs import Blobs
from bucketlog.state.checkpoints import Checkpoints
from bucketlog.state.objects import Objects
from bucketlog.state.snapshots import Snapshots
from bucketlog.storage.location import parse
from bucketlog.storage.root import SyncMode, open_root
from bucketlog.stream import Stream
from bucketlog.subscriptions import Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from bucketlog.backend import Backend
    from bucketlog.clock import Clock
    from bucketlog.log.settings import PartitionBy
    from bucketlog.storage.root import Root


@runtime_checkable
class EventStore(Protocol):
    """What a store can do, whatever backend moves its bytes. A context manager that closes it."""

    @property
    def url(self) -> str:
        """Where the store is: without credentials and query."""
        ...

    @property
    def id(self) -> str:
        """Made with the store; a store made anew at the same place has another."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether this handle cannot write."""
        ...

    @property
    def checkpoints(self) -> Checkpoints:
        """Small named values, replaced by compare-and-set."""
        ...

    @property
    def snapshots(self) -> Snapshots:
        """Immutable named, timestamped states."""
        ...

    @property
    def blobs(self) -> Blobs:
        """Content-addressed bytes."""
        ...

    @property
    def objects(self) -> Objects:
        """Plain named objects, for an application's own documents."""
        ...

    def stream(self, name: str, *, partition_by: PartitionBy | None = None, auto_compact: bool = False) -> Stream:
        """Return a stream, without any I/O.

        Args:
            name: Any text (see `bucketlog.names`).
            partition_by: `None` (as stored; a new stream gets one partition, `"0"`), `"single"`, `"day"` (UTC date of
                `time`), `"subject"`, `"source"`, `"hash:16"` (of the subject) or a callable from event to name. The
                first append stores it.
            auto_compact: Compact, in the background, each partition after every 16 MiB that this handle appends to it
                (on an object store also after 512 commits), and in a stream by day each day that is over. Closing the
                store waits for it.

        Raises:
            InvalidNameError: The name cannot be one.
            StreamSettingsError: `partition_by` is none of these.
        """
        ...

    def streams(self) -> list[str]:
        """List the streams that were written, sorted by name."""
        ...

    def subscribe(
        self, stream: str | Stream, name: str, *, start: Literal["earliest", "latest"] = "earliest"
    ) -> Subscription:
        """Take over a durable consumer by name, fencing off whoever held it.

        Args:
            stream: Which stream to follow.
            name: The consumer's.
            start: Where a new consumer begins.
        """
        ...

    def close(self) -> None:
        """End all tails and release what is held. Calling it again does nothing."""
        ...

    def __enter__(self) -> EventStore:
        """Return the store."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        ...


class Store:
    """The store over any backend. Made by `bucketlog.open`."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._streams: dict[str, StreamState] = {}
        self.checkpoints = Checkpoints(root)
        self.snapshots = Snapshots(root)
        self.blobs = Blobs(root)
        self.objects = Objects(root)

    @property
    def url(self) -> str:
        """Where the store is: without credentials and query."""
        return self._root.url

    @property
    def id(self) -> str:
        """Made with the store; a store made anew at the same place has another."""
        return self._root.store_id

    @property
    def read_only(self) -> bool:
        """Whether this handle cannot write."""
        return self._root.read_only

    @property
    def backend(self) -> Backend:
        """What moves the bytes; for tools and tests."""
        return self._root.backend

    def __repr__(self) -> str:
        return f"<EventStore {self.url}>"

    def stream(self, name: str, *, partition_by: PartitionBy | None = None, auto_compact: bool = False) -> Stream:
        """Return a stream; see `EventStore.stream`."""
        state = self._streams.get(name)
        if state is None:
            state = self._streams.setdefault(name, StreamState(self._root, name))
        return Stream(state, partition_by, auto_compact=auto_compact)

    def streams(self) -> list[str]:
        """List the streams that were written, sorted by name."""
        found = self._root.backend.list("streams/", delimiter=True)
        names = (name_of(one.key[len("streams/") : -1]) for one in found if one.key.endswith("/"))
        return sorted(name for name in names if name is not None)

    def subscribe(
        self, stream: str | Stream, name: str, *, start: Literal["earliest", "latest"] = "earliest"
    ) -> Subscription:
        """Take over a durable consumer by name; see `EventStore.subscribe`."""
        source = self.stream(stream) if isinstance(stream, str) else stream
        return Subscription(self._root, self.checkpoints, source, name, start=start)

    def close(self) -> None:
        """End all tails and release what is held. Calling it again does nothing."""
        with ExitStack() as closing:  # all of it, also when something raises
            closing.callback(self._root.close)
            for state in list(self._streams.values()):
                closing.callback(state.close)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open(
    url: object,
    *,
    create: bool = True,
    read_only: bool = False,
    single_writer: bool = False,
    sync: SyncMode = "always",
    storage_options: Mapping[str, object] | None = None,
    clock: Clock | None = None,
    **options: object,
) -> Store:
    """Open the store at a URL, making it if there is none.

    Args:
        url: `memory://name`, `file:///path`, a plain or `os.PathLike` path, `s3://bucket/prefix`, any fsspec URL, or a
            ready obstore or fsspec object, or the pair of an fsspec filesystem and a path.
        create: Whether to make a store where there is none.
        read_only: Refuse to write.
        single_writer: Promise that nobody else writes: the only way to use storage without conditional writes.
        sync: When a local commit is made durable: `"always"` before it is acknowledged, at an `"interval"` of one
            second, or `"never"` but by the operating system.
        storage_options: Options of the backend, as pandas, polars and fsspec take them.
        clock: For tests: time, waiting and chance.
        **options: Options of the backend by name, such as `endpoint_url`, `region` or `profile` for S3.

    Raises:
        StoreNotFoundError: There is no store and `create` is off, or the bucket or folder is missing.
        InvalidURLError: The URL cannot be understood.
        InvalidOptionError: An option is not known.
        AccessDeniedError: The storage refused the credentials.
        BackendUnavailableError: The storage could not be reached (told within 10 s).
        CapabilityError: The storage cannot hold a store for several writers.
        UnsupportedFormatError: The store was made by a newer version.
    """
    location = parse(url, storage_options, options)
    backend = location.open_backend(create=create and not read_only)
    try:
        root = open_root(
            backend,
            create=create,
            read_only=read_only,
            single_writer=single_writer,
            sync=sync,
            clock=clock or SystemClock(),
        )
    except BaseException:
        backend.close()
        raise
    root.location = location
    return Store(root)
