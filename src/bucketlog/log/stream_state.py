"""The state that all `Stream` objects of one name share in a store handle."""

from __future__ import annotations

import threading
import weakref
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from bucketlog.backend import ABSENT, after_fork_in_child
from bucketlog.errors import CorruptCheckpointError, NotFoundError, StreamSettingsError
from bucketlog.format.documents import decode_document, encode_document
from bucketlog.format.names import encode_name, name_of
from bucketlog.log.days import Days
from bucketlog.log.partition_reader import PartitionReader
from bucketlog.log.partition_view import PartitionView
from bucketlog.log.partition_writer import PartitionWriter
from bucketlog.log.settings import StreamSettings, parse_settings
from bucketlog.storage.conditional_put import put_and_settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from bucketlog.backend import Content
    from bucketlog.storage.root import Root


class Attached(Protocol):
    """Something that works on a stream until the store handle is closed: a tail, or the automatic compaction."""

    def close(self) -> None:
        """Stop working; return when it has."""
        ...

    def invalidate(self) -> None:
        """Stop trusting what was listed before; from any thread."""
        ...

    def forget(self) -> None:
        """Start afresh in a forked child, which has none of the parent's threads."""
        ...


A = TypeVar("A", bound=Attached)


class StreamState:
    """Shared by all `Stream` objects of one name in a store handle: the settings, and the writer of each partition."""

    def __init__(self, root: Root, name: str) -> None:
        self.root, self.name = root, name
        self.folder = f"streams/{encode_name(name, what='stream')}/"
        self.where = f"{root.url}, stream {name!r}"
        self._lock = threading.RLock()
        self._settings: StreamSettings | None = None
        self._writers: dict[str, PartitionWriter] = {}
        self.days = Days(root, self.folder, self._lock, self._writers, self.writer)
        self.attached: weakref.WeakSet[Attached] = weakref.WeakSet()
        self._shared: dict[Callable[[StreamState], Attached], Attached] = {}
        self.single: PartitionWriter | None = None  # of an unpartitioned stream, once this handle has written to it
        after_fork_in_child(self.forget)

    def where_of(self, partition: str) -> str:
        """Return a partition's name for messages.

        Raises:
            InvalidNameError: Not a valid partition name.
        """
        self.folder_of(partition)
        return f"{self.where}, partition {partition!r}"

    def folder_of(self, partition: str) -> str:
        """Return the key prefix of a partition."""
        return f"{self.folder}{encode_name(partition, what='partition')}/"

    def stored_settings(self) -> StreamSettings | None:
        """Return the settings that the first append stored, or None before it.

        Raises:
            CorruptCheckpointError: They cannot be read.
        """
        if self._settings is None:
            key = self.folder + "stream.json"
            try:
                data = self.root.backend.get(key).data
            except NotFoundError:
                return None
            value = decode_document(data, key=key, url=self.root.url)
            self._settings = parse_settings(value)
            if self._settings is None:
                msg = f"read {self.where}: {key} holds no stream settings; restore it from a copy"
                raise CorruptCheckpointError(msg, key=key)
        return self._settings

    def settings_for(self, choice: str | None) -> StreamSettings | None:
        """Return the stored settings, or None if there are none yet.

        Args:
            choice: The caller's `partition_by`, which must be the stored one; None for any.

        Raises:
            StreamSettingsError: The stream was created with another choice.
        """
        settings = self.stored_settings()
        if settings is not None and choice is not None and choice != settings.partition_by:
            msg = (
                f"append to {self.where}: it was made with partition_by={settings.partition_by!r}, not {choice!r}; "
                "open it without partition_by, or use another stream"
            )
            raise StreamSettingsError(msg)
        return settings

    def settings_to_write(self, choice: str | None) -> StreamSettings:
        """Store a choice unless another writer was first; return what is stored.

        Raises:
            StreamSettingsError: The stream was created with another choice.
            OutcomeUnknownError: The storage gave no clear answer.
            BackendUnavailableError: The storage could not be reached.
        """
        wanted = StreamSettings(choice or "single")
        key = self.folder + "stream.json"
        data = encode_document(asdict(wanted))
        if put_and_settle(self.root, key, data, if_version=ABSENT, resolve=_not_ours, doing=f"append to {self.where}"):
            self._settings = wanted
            return wanted
        return self.settings_for(choice) or wanted

    def writer(self, partition: str) -> PartitionWriter:
        """Return this store handle's only writer of a partition."""
        writer = self._writers.get(partition)
        if writer is None:
            folder = self.folder_of(partition)
            settings = self.stored_settings() or StreamSettings()
            with self._lock:
                view = PartitionView(
                    self.root,
                    folder,
                    partition,
                    grace_seconds=settings.grace_seconds,
                    where=f"{self.where}, partition {partition!r}",
                    days=self.days.known if settings.partition_by == "day" else None,
                )
                writer = self._writers.setdefault(partition, PartitionWriter(view))
        return writer

    def shared(self, make: Callable[[StreamState], A]) -> A:
        """Return what `make` made of this stream, making it on the first call: one for all `Stream` objects."""
        with self._lock:
            found = self._shared.get(make)
            if found is None:
                found = self._shared[make] = make(self)
                self.attached.add(found)
            return cast("A", found)

    def reader(self, partition: str, settings: StreamSettings | None = None) -> PartitionReader:
        """Return a new reader of a partition, positioned at the start of its log.

        Args:
            partition: Its name.
            settings: Used instead of the stored ones.
        """
        settings = settings or self.stored_settings() or StreamSettings()
        reader = PartitionReader(
            self.root,
            self.folder_of(partition),
            partition,
            grace_seconds=settings.grace_seconds,
            where=f"{self.where}, partition {partition!r}",
        )
        reader.seek(-1)
        return reader

    def partitions(self) -> list[str]:
        """List the partitions, sorted by name."""
        found = self.root.backend.list(self.folder, delimiter=True)
        names = (name_of(entry.key[len(self.folder) : -1]) for entry in found if entry.key.endswith("/"))
        return sorted(name for name in names if name is not None)

    def invalidate(self) -> None:
        """Make writers, tails and compaction stop trusting what they listed before."""
        with self._lock:
            self.days.invalidate()  # first, so that a commit in between is learnt afterwards and not forgotten
            for writer in list(self._writers.values()):
                writer.view.invalidate()
        for attached in list(self.attached):
            attached.invalidate()

    def close(self) -> None:
        """End all tails and finish running compactions."""
        shared, self._shared = self._shared, {}
        with ExitStack() as closing:  # every one, even if another raises
            for attached in shared.values():
                closing.callback(attached.close)
            for attached in list(self.attached):
                if attached not in shared.values():
                    closing.callback(attached.close)

    def forget(self) -> None:
        """Start afresh in a forked child: the inherited state may be half changed."""
        self._lock = threading.RLock()
        self._writers = {}
        self.days = Days(self.root, self.folder, self._lock, self._writers, self.writer)
        self.single = None
        for attached in list(self.attached):
            attached.forget()


def _not_ours(content: Content | None, *, unclear: bool) -> bool:  # noqa: ARG001  (another writer's settings count)
    return False
