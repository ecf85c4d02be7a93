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
    """A store over any backend. Use it as a context manager to close it."""

    @property
    def url(self) -> str:
        """The store's URL, without credentials and query."""
        ...

    @property
    def id(self) -> str:
        """Assigned when the store is created; recreating it gives a new one."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether this handle cannot write."""
        ...

    @property
    def checkpoints(self) -> Checkpoints:
        """Small named values with compare-and-set."""
        ...

    @property
    def snapshots(self) -> Snapshots:
        """Immutable states with a name and a time."""
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
            name: Any text up to 255 bytes when percent-encoded.
            partition_by: `None` (as stored; a new stream has one partition, `"0"`), `"single"`, `"day"` (UTC date of
                `time`), `"subject"`, `"source"`, `"hash:16"` (of the subject) or a callable from event to name. The
                first append stores it.
            auto_compact: Compact, in the background, each partition after every 16 MiB that this handle appends to it
                (on an object store also after 512 commits), and in a stream by day each day that is over. Closing the
                store waits for it.

        Raises:
            InvalidNameError: Not a valid name.
            StreamSettingsError: `partition_by` is none of these.
        """
        ...

    def streams(self) -> list[str]:
        """List the existing streams, sorted by name."""
        ...

    def subscribe(
        self, stream: str | Stream, name: str, *, start: Literal["earliest", "latest"] = "earliest"
    ) -> Subscription:
        """Take over a durable consumer by name, fencing off its previous holder.

        Args:
            stream: Which stream to follow.
            name: The consumer's name.
            start: Where a new consumer starts reading.
        """
        ...

    def close(self) -> None:
        """End all tails and release all resources. You can call it again."""
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
    """The one implementation of `EventStore`. Made by `bucketlog.open`."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._streams: dict[str, StreamState] = {}
        self.checkpoints = Checkpoints(root)
        self.snapshots = Snapshots(root)
        self.blobs = Blobs(root)
        self.objects = Objects(root)

    @property
    def url(self) -> str:
        """The store's URL, without credentials and query."""
        return self._root.url

    @property
    def id(self) -> str:
        """Assigned when the store is created; recreating it gives a new one."""
        return self._root.store_id

    @property
    def read_only(self) -> bool:
        """Whether this handle cannot write."""
        return self._root.read_only

    @property
    def backend(self) -> Backend:
        """The backend, for tools and tests."""
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
        """List the existing streams, sorted by name."""
        found = self._root.backend.list("streams/", delimiter=True)
        names = (name_of(entry.key[len("streams/") : -1]) for entry in found if entry.key.endswith("/"))
        return sorted(name for name in names if name is not None)

    def subscribe(
        self, stream: str | Stream, name: str, *, start: Literal["earliest", "latest"] = "earliest"
    ) -> Subscription:
        """Take over a durable consumer by name; see `EventStore.subscribe`."""
        source = self.stream(stream) if isinstance(stream, str) else stream
        return Subscription(self._root, self.checkpoints, source, name, start=start)

    def close(self) -> None:
        """End all tails and release all resources. You can call it again."""
        with ExitStack() as closing:  # every step runs, even if one raises
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
    """Open the store at a URL, creating it if there is none.

    Args:
        url: `memory://name`, `file:///path`, a plain or `os.PathLike` path, `s3://bucket/prefix`, any fsspec URL, or a
            ready obstore or fsspec object, or the pair of an fsspec filesystem and a path.
        create: Whether to create a store if there is none.
        read_only: Refuse to write.
        single_writer: Your promise that there is no other writer, which storage without conditional writes needs.
        sync: When a local commit becomes durable: `"always"` before it is acknowledged, within an `"interval"` of one
            second, or `"never"` until the operating system writes it.
        storage_options: Backend options, as pandas, polars and fsspec take them.
        clock: Time, waiting and randomness, for tests.
        **options: Backend options by name, such as `endpoint_url`, `region` or `profile` for S3.

    Raises:
        StoreNotFoundError: There is no store and `create` is off, or the bucket or folder is missing.
        InvalidURLError: Not a valid URL, or no backend is installed for it.
        InvalidOptionError: An unknown option.
        AccessDeniedError: The storage rejected the credentials.
        BackendUnavailableError: The storage could not be reached (raised within 10 s).
        CapabilityError: The storage cannot support several writers.
        UnsupportedFormatError: A newer version created the store.
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
