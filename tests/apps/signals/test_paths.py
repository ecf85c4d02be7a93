"""Paths of records and documents, which programs keep, compare, log and inspect."""

import json
import os
import pickle
from pathlib import Path

import pytest

from bucketlog.signals import ReplayCheckpoint, SignalStore, StorePath

from .making import T, signal


def test_paths_are_real_ones_on_files_and_text_elsewhere(store, place):
    path = store.write_signal(signal("a"))

    assert isinstance(path, Path if place.kind == "file" else StorePath)
    assert path == store.signals_dir / "2026-02-05"
    assert (path.name, path.stem, path.suffix) == ("2026-02-05", "2026-02-05", "")
    assert path.parent == store.signals_dir
    assert store.signals_dir.parent.parent == store.store_root == store.workspace / "store"
    assert path.exists()
    assert not (store.signals_dir / "2026-02-06").exists()
    assert not (store.emissions_dir / "2026-02-05").exists()


def test_documents_are_found_and_read_through_their_paths(store):
    path = store.write_daily_digest_snapshot(day=T(5), digest={"b": 1, "a": "é"})
    store.write_daily_digest_snapshot(day=T(15), digest={})

    assert path == store.snapshots_dir / "digest__2026-02-05.json"
    assert path.exists()
    assert path.suffix == ".json"
    assert path.read_text() == '{"day":"2026-02-05","digest":{"a":"\\u00e9","b":1},"schema_version":"0.1"}\n'
    assert json.loads(path.read_bytes()) == store.read_daily_digest_snapshot(T(5))
    assert list(path.parent.glob("digest__2026-02-05*.json")) == [path]
    assert not (store.snapshots_dir / "digest__2026-02-06.json").exists()


def test_writing_a_document_again_replaces_it_at_the_same_path(store):
    path = store.write_snapshot("state", {"n": 1}, T(5, 1, 2, 3))

    assert store.write_snapshot("state", {"n": 2}, T(5, 1, 2, 3).replace(microsecond=9)) == path
    assert path.name == "state__2026-02-05T010203Z.json"
    assert path.read_text() == '{"n":2}\n'
    assert list(path.parent.glob("state__*.json")) == [path]


def test_no_name_leaves_the_directory(store):
    for name in ("../x", "a/b", "..", "a b"):
        path = store.write_snapshot(name, {"n": name}, T(5))
        assert path.parent == store.snapshots_dir
        assert path.exists()
        assert json.loads(path.read_text()) == {"n": name}
        checkpoint = ReplayCheckpoint(T(5), (name,))
        path = store.write_checkpoint(name, checkpoint)
        assert path.parent == store.checkpoints_dir
        assert path.exists()
        assert store.read_checkpoint(name) == checkpoint
    assert store.write_daily_digest_snapshot(day="2/5", digest=1).parent == store.snapshots_dir
    assert store.read_daily_digest_snapshot("2/5")["digest"] == 1


def test_a_checkpoint_lies_under_its_name(store):
    path = store.write_checkpoint("worker-1.x", ReplayCheckpoint(T(5)))

    assert path == store.checkpoints_dir / "worker-1.x.json"
    assert list(store.checkpoints_dir.glob("*.json")) == [path]
    assert json.loads(path.read_text())["value"] == ReplayCheckpoint(T(5)).to_dict()


def test_directories_exist_once_a_store_is_open(tmp_path):
    with SignalStore(tmp_path / "deep" / "er") as store:
        for folder in (store.signals_dir, store.emissions_dir, store.snapshots_dir, store.checkpoints_dir):
            assert folder.is_dir()


def test_paths_begin_with_the_workspace_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with (
        SignalStore("ws") as by_text,
        SignalStore(Path("ws")) as by_path,
        SignalStore(f"file://{tmp_path}/ws") as by_url,
    ):
        relative = Path("ws/store/streams/signals/2026-02-05")
        assert by_text.write_signal(signal("a")) == by_path.write_signal(signal("a")) == relative
        assert by_url.write_signal(signal("a")) == tmp_path / relative
        assert by_text.workspace == Path("ws")


def test_a_workspace_that_is_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(NotADirectoryError):
        SignalStore(tmp_path / "file")


def test_a_store_path_is_text_without_secrets():
    with SignalStore("memory://user:secret@paths/ws") as store:
        path = store.write_signal(signal("a"))

    assert "secret" not in path
    assert json.loads(json.dumps([path])) == [str(path)]
    assert not isinstance(path, os.PathLike)
    assert {path: 1}[str(path)] == 1
    assert path / "x" > path
    copied = pickle.loads(pickle.dumps(path))
    assert copied == path
    assert isinstance(copied, StorePath)
    with pytest.raises(ValueError, match="not attached to a store"):
        copied.exists()
    with pytest.raises(IsADirectoryError):
        path.read_bytes()
    with pytest.raises(FileNotFoundError):
        (store.snapshots_dir / "none.json").read_text()


def test_folders_of_a_store_can_be_looked_through():
    with SignalStore("memory://folders/ws") as store:
        assert store.store_root.exists()
        assert not store.signals_dir.exists()
        store.write_signals([signal("a", T(5)), signal("b", T(16))])

        assert list(store.signals_dir.glob("2026-02-1*")) == [store.signals_dir / "2026-02-16"]
        assert list(store.workspace.glob("*")) == [store.store_root]
        assert store.signals_dir in list(store.signals_dir.parent.glob("*"))
        assert store.workspace.parent == "memory://folders"
        assert store.workspace.parent.parent == "memory://folders"
