"""The store that workers use: writing, checkpoints and documents; replay and queries are inherited."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bucketlog.errors import CorruptCheckpointError, NotFoundError, StoreNotFoundError
from bucketlog.signals.checkpoints import ReplayCheckpoint, build_checkpoint
from bucketlog.signals.codec import EMISSIONS, SIGNALS
from bucketlog.signals.documents import Documents
from bucketlog.signals.metaspn_workspace import Imported, LocalFiles, import_records
from bucketlog.signals.paths import STORE_FOLDER, AnyPath, encoded
from bucketlog.signals.queries import Queries
from bucketlog.signals.reading import Log
from bucketlog.signals.workspace import Workspace
from bucketlog.signals.writing import Writer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from bucketlog.signals.envelopes import EmissionEnvelope, SignalEnvelope
    from bucketlog.signals.references import EntityMatch
    from bucketlog.signals.vocabulary import DuplicatePolicy


class SignalStore(Queries):
    """Signals and emissions in a workspace: a directory, or a URL of any backend. Thread-safe.

    Args:
        workspace: A path or a URL; the events are stored below it, in `store`. Records of metaspn-store found there are
            imported.
        entity_match: How filters compare references: `"exact"` compares all fields, `"identity"` only type, platform
            and value.
        import_progress: Called with the bytes of metaspn-store's files imported so far and the total.
        **storage_options: Options of `bucketlog.open`, such as `endpoint_url` or `read_only`.

    Attributes:
        workspace: The workspace as given; on backends other than files without credentials and query.
        store_root: The path of the store.
        signals_dir: The folder with the days of signals.
        emissions_dir: The folder with the days of emissions.
        snapshots_dir: The folder with the documents.
        checkpoints_dir: The folder with the checkpoints.

    Raises:
        NotADirectoryError: The workspace is a file.
        BrokenWorkspaceError: A line written by metaspn-store is not a record; all records before it are stored.
        ReadOnlyError: Opened for reading only, but there are records of metaspn-store to import.
    """

    def __init__(
        self,
        workspace: str | os.PathLike[str],
        *,
        entity_match: EntityMatch = "exact",
        import_progress: Callable[[int, int], None] | None = None,
        **storage_options: Any,  # noqa: ANN401
    ) -> None:
        if entity_match not in ("exact", "identity"):
            msg = f"entity_match={entity_match!r} is not valid; use 'exact' or 'identity'"
            raise ValueError(msg)
        opened = Workspace(workspace, storage_options)
        store = self._store = opened.store
        try:
            self.workspace, self.store_root = opened.path, opened.root
            self.signals_dir = self.store_root / "streams" / SIGNALS.stream
            self.emissions_dir = self.store_root / "streams" / EMISSIONS.stream
            self.snapshots_dir = self.store_root / "snapshots"
            self.checkpoints_dir = self.store_root / "checkpoints"
            if not store.read_only:
                for folder in (self.signals_dir, self.emissions_dir, self.snapshots_dir, self.checkpoints_dir):
                    if isinstance(folder, Path):
                        folder.mkdir(parents=True, exist_ok=True)
            signals = store.stream(SIGNALS.stream, partition_by="day", auto_compact=True)
            emissions = store.stream(EMISSIONS.stream, partition_by="day", auto_compact=True)
            super().__init__(Log(SIGNALS, signals), Log(EMISSIONS, emissions), entity_match)
            self._signal_writer = Writer(SIGNALS, signals, self.signals_dir)
            self._emission_writer = Writer(EMISSIONS, emissions, self.emissions_dir)
            self._documents = Documents(store, self.snapshots_dir)
            self._writes = {SIGNALS.stream: self._signal_writer.write, EMISSIONS.stream: self._emission_writer.write}
            self._imported = import_records(
                store, opened.files, self._writes, place=str(self.store_root), progress=import_progress
            )
        except BaseException:
            store.close()
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.workspace}>"

    def __enter__(self) -> SignalStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release all resources. Nothing is lost if you do not call it; calling it again does nothing."""
        self._store.close()

    # -- writing -------------------------------------------------------------------------------------------------------

    def write_signal(self, signal: SignalEnvelope, *, on_duplicate: DuplicatePolicy = "return_existing") -> AnyPath:
        """Write a signal durably; return the path of its day, or of the day where its id is already stored.

        Raises:
            DuplicateEventError: Its id is already stored, and `on_duplicate` is `"raise"`.
            ValueError: It has no id or version, is too large, or `on_duplicate` is not valid.
            TypeError: JSON cannot represent it.
        """
        return self._signal_writer.write((signal,), on_duplicate)[0]

    def write_signals(
        self, signals: Iterable[SignalEnvelope], *, on_duplicate: DuplicatePolicy = "return_existing"
    ) -> list[AnyPath]:
        """Write signals in order, as `write_signal` would, but in few commits; return the path of each.

        If a signal or the iterable fails, all signals before are stored, and none after.

        Raises:
            DuplicateEventError: As for `write_signal`.
            ValueError: As for `write_signal`.
            TypeError: As for `write_signal`.
        """
        return self._signal_writer.write(signals, on_duplicate)

    def write_emission(
        self, emission: EmissionEnvelope, *, on_duplicate: DuplicatePolicy = "return_existing"
    ) -> AnyPath:
        """Write an emission; see `write_signal`.

        Raises:
            DuplicateEventError: As for `write_signal`.
            ValueError: As for `write_signal`.
            TypeError: As for `write_signal`.
        """
        return self._emission_writer.write((emission,), on_duplicate)[0]

    def write_emissions(
        self, emissions: Iterable[EmissionEnvelope], *, on_duplicate: DuplicatePolicy = "return_existing"
    ) -> list[AnyPath]:
        """Write emissions; see `write_signals`.

        Raises:
            DuplicateEventError: As for `write_signal`.
            ValueError: As for `write_signal`.
            TypeError: As for `write_signal`.
        """
        return self._emission_writer.write(emissions, on_duplicate)

    def import_workspace(
        self, path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
    ) -> list[Imported]:
        """Import the new records that metaspn-store wrote to another workspace; an id that is stored is skipped.

        Checkpoints and snapshots are not imported. Opening a store imports the records in its own workspace. For that
        workspace, this method imports records written since, and returns both.

        Args:
            path: The workspace, a directory.
            progress: Called with the bytes read so far and the total.

        Raises:
            StoreNotFoundError: There is no workspace at the path.
            BrokenWorkspaceError: A line is not a record; all records before it are stored.
            ReadOnlyError: This store was opened for reading only.
        """
        root = Path(path).absolute() / STORE_FOLDER
        if not root.is_dir():
            msg = (
                f"import {path}: there is no directory {root}; pass the directory that contains metaspn-store's `store`"
            )
            raise StoreNotFoundError(msg)
        files = LocalFiles(root)
        if isinstance(self.store_root, Path) and root.resolve() == self.store_root.resolve():
            more = import_records(self._store, files, self._writes, place=str(self.store_root), progress=progress)
            self._imported += more
            return list(self._imported)
        return import_records(self._store, files, self._writes, place=str(root), elsewhere=True, progress=progress)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def build_signal_checkpoint(
        self, processed_signals: Iterable[SignalEnvelope], *, after: ReplayCheckpoint | None = None
    ) -> ReplayCheckpoint | None:
        """Return the checkpoint after processing some signals; without any, `after`.

        Args:
            processed_signals: The signals, in the order of their replay.
            after: The checkpoint that they were replayed from; signals seen at the same time stay seen.

        Raises:
            ValueError: A signal is older than the previous one, or than `after`.
        """
        return build_checkpoint(processed_signals, after)

    def write_checkpoint(self, name: str, checkpoint: ReplayCheckpoint) -> AnyPath:
        """Write a checkpoint, replacing any other of this name; return its path.

        Raises:
            InvalidNameError: The name is not valid.
        """
        self._store.checkpoints.save(name, checkpoint.to_dict())
        return self.checkpoints_dir / f"{encoded(self._store, name)}.json"

    def read_checkpoint(self, name: str) -> ReplayCheckpoint | None:
        """Return a checkpoint, or None if there is none.

        Raises:
            CorruptCheckpointError: The stored checkpoint is not JSON.
            KeyError: It is not a replay checkpoint.
        """
        try:
            found = self._store.checkpoints.load(name)
        except CorruptCheckpointError:
            bare = self._bare_checkpoint(name)
            if bare is None:
                raise
            return ReplayCheckpoint.from_dict(bare)
        if found is not None:
            return ReplayCheckpoint.from_dict(found.value)
        bare = self._bare_checkpoint(name)
        return None if bare is None else ReplayCheckpoint.from_dict(bare)

    def _bare_checkpoint(self, name: str) -> dict[str, Any] | None:
        """Return a checkpoint written by metaspn-store: the bare value, under the name without encoding."""
        try:
            if isinstance(self.checkpoints_dir, Path):
                path = self.checkpoints_dir / f"{name}.json"
                data = path.read_bytes() if path.parent == self.checkpoints_dir else b""
            else:
                data = self._store.objects.get(f"checkpoints/{name}.json")
            found = json.loads(data)
        except (NotFoundError, FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) and "last_timestamp" in found else None

    # -- documents -----------------------------------------------------------------------------------------------------

    def write_snapshot(self, name: str, snapshot_state: object, snapshot_time: datetime | None = None) -> AnyPath:
        """Write a state as `<name>__<time>.json`, with the time (default: now) to the second; return its path.

        Raises:
            TypeError: JSON cannot represent the state; the old document is kept.
            InvalidNameError: The name is not valid.
        """
        return self._documents.write_state(name, snapshot_state, snapshot_time or datetime.now(UTC))

    def write_daily_digest_snapshot(self, *, day: date | datetime | str, digest: object) -> AnyPath:
        """Write the digest of a day as `digest__<day>.json`; return its path.

        Raises:
            TypeError: `day` is not a day, or JSON cannot represent the digest; the old document is kept.
        """
        return self._documents.write_day("digest", day, "digest", digest)

    def read_daily_digest_snapshot(self, day: date | datetime | str) -> dict[str, Any] | None:
        """Return the document with the digest of a day, or None if there is none."""
        return self._documents.read_day("digest", day)

    def write_calibration_snapshot(self, *, day: date | datetime | str, report: object) -> AnyPath:
        """Write the calibration report of a day as `calibration__<day>.json`; return its path.

        Raises:
            TypeError: `day` is not a day, or JSON cannot represent the report; the old document is kept.
        """
        return self._documents.write_day("calibration", day, "report", report)

    def read_calibration_snapshot(self, day: date | datetime | str) -> dict[str, Any] | None:
        """Return the document with the calibration report of a day, or None if there is none."""
        return self._documents.read_day("calibration", day)

    def write_credibility_snapshot(self, *, day: date | datetime | str, report: object) -> AnyPath:
        """Write the credibility report of a day as `credibility__<day>.json`; return its path.

        Raises:
            TypeError: `day` is not a day, or JSON cannot represent the report; the old document is kept.
        """
        return self._documents.write_day("credibility", day, "report", report)

    def read_credibility_snapshot(self, day: date | datetime | str) -> dict[str, Any] | None:
        """Return the document with the credibility report of a day, or None if there is none."""
        return self._documents.read_day("credibility", day)


FileSystemStore = SignalStore
