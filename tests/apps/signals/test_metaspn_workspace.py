"""Opening a workspace of metaspn-store imports its records and does not change its files."""

import json
import logging
import uuid

import pytest

pytest.importorskip("metaspn_store")

from metaspn_store import FileSystemStore as Peer

import bucketlog
from bucketlog.errors import ReadOnlyError
from bucketlog.signals import BrokenWorkspaceError, ReplayCheckpoint, SignalStore

from .making import END, START, R, T, emission, everything, ids, signal


@pytest.fixture
def peer(tmp_path):
    peer = Peer(tmp_path)
    peer.write_signals([signal("a", T(6), {"n": float("nan")}), signal("b", T(5), refs=[R]), signal("c", T(6), 10**30)])
    peer.write_emissions([emission("a", T(5)), emission("x", T(4), caused_by="b")])
    return peer


def files_of(peer):
    return {
        path.name: path.read_bytes() for folder in (peer.signals_dir, peer.emissions_dir) for path in folder.iterdir()
    }


def test_it_is_never_shown_as_empty(peer, tmp_path):
    before = files_of(peer)

    for _ in range(2):
        with SignalStore(tmp_path) as store:
            assert [repr(signal) for signal in store.iter_signals(START, END)] == [
                repr(signal) for signal in peer.iter_signals(T(1), T(20))
            ]
            assert list(store.iter_emissions(START, END)) == list(peer.iter_emissions(T(1), T(20)))
    assert files_of(peer) == before


def test_what_is_added_to_it_later_is_taken_in_at_the_next_opening(peer, tmp_path):
    with SignalStore(tmp_path) as store:
        store.write_signal(signal("ours", T(5)))
    peer.write_signals([signal("late", T(5)), signal("ours", T(7)), signal("new", T(8))])

    with SignalStore(tmp_path) as store:
        assert everything(store) == ["b", "ours", "late", "a", "c", "new"]


def test_the_first_copy_of_an_id_wins(peer, tmp_path):
    with (peer.signals_dir / "2026-02-07.jsonl").open("w") as file:
        for one in (signal("a", T(7), "second"), signal("d", T(7), "first"), signal("d", T(7), "second")):
            file.write(json.dumps(one.to_dict()) + "\n")

    with SignalStore(tmp_path) as store:
        assert everything(store) == ["b", "a", "c", "d"]
        assert next(store.iter_signals(T(7), T(7))).payload == "first"


def test_an_unfinished_last_line_is_skipped_and_logged(peer, tmp_path, caplog):
    path = peer.signals_dir / "2026-02-06.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"signal_id":"half","time')

    with caplog.at_level(logging.WARNING, "bucketlog"), SignalStore(tmp_path) as store:
        assert everything(store) == ["b", "a", "c"]
    assert "2026-02-06.jsonl: skipped the unfinished last line 3" in caplog.text

    path.write_bytes(whole + json.dumps(signal("half", T(6)).to_dict()).encode())
    with SignalStore(tmp_path) as store:
        assert everything(store) == ["b", "a", "c", "half"]
    with path.open("ab") as file:
        file.write(b"\n\n" + json.dumps(signal("more", T(6)).to_dict()).encode() + b"\n")
    with SignalStore(tmp_path) as store:
        assert everything(store) == ["b", "a", "c", "half", "more"]


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"5", b"\xff", b'{"signal_id":"x"}', b'{"signal_id":"","timestamp":"2026-02-05"}']
)
def test_a_broken_line_is_an_error_that_names_it_and_what_stands_before_it_is_kept(peer, tmp_path, line):
    path = peer.signals_dir / "2026-02-06.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)

    for _ in range(2):
        with pytest.raises(BrokenWorkspaceError, match=r"signals/2026-02-06\.jsonl, line 2 is not a record") as raised:
            SignalStore(tmp_path)
        assert (raised.value.line, isinstance(raised.value, ValueError)) == (2, True)

    path.write_bytes(first + second)
    with SignalStore(tmp_path) as store:
        assert everything(store) == ["b", "a", "c"]


def test_opening_it_for_reading_only_tells_what_to_do(peer, tmp_path):
    with pytest.raises(ReadOnlyError, match=r"import-workspace|open it once for writing"):
        SignalStore(tmp_path, read_only=True)
    SignalStore(tmp_path).close()
    with SignalStore(tmp_path, read_only=True) as store:
        assert everything(store) == ["b", "a", "c"]
    peer.write_signal(signal("later", T(9)))
    with pytest.raises(ReadOnlyError, match="were not imported yet"):
        SignalStore(tmp_path, read_only=True)


def test_reading_only_where_nothing_is_makes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        SignalStore(tmp_path / "none", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_taking_in_goes_on(peer, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(bucketlog.Stream, "append", lambda *_, **__: (_ for _ in ()).throw(OSError("disk")))
        with pytest.raises(OSError, match="disk"):
            SignalStore(tmp_path)

    with SignalStore(tmp_path) as store:
        assert everything(store) == ["b", "a", "c"]
        assert ids(store.iter_emissions(START, END)) == ["x", "a"]


def test_documents_and_checkpoints_are_the_same_files(peer, tmp_path):
    path = peer.write_daily_digest_snapshot(day=T(5), digest={"n": 1})
    bare = peer.write_checkpoint("w", ReplayCheckpoint(T(5), ("b",)))

    with SignalStore(tmp_path) as store:
        assert store.read_daily_digest_snapshot(T(5)) == peer.read_daily_digest_snapshot(T(5))
        assert store.write_daily_digest_snapshot(day=T(5), digest={"n": 2}) == path
        assert peer.read_daily_digest_snapshot(T(5))["digest"] == {"n": 2}
        assert store.read_checkpoint("w") == ReplayCheckpoint(T(5), ("b",))
        assert store.write_checkpoint("w", ReplayCheckpoint(T(6))) == bare
        assert store.read_checkpoint("w") == ReplayCheckpoint(T(6))


def test_one_that_was_copied_to_another_backend_is_taken_in_too(peer):
    url = f"memory://{uuid.uuid4()}/ws"
    with bucketlog.open(f"{url}/store") as log:
        for folder in (peer.signals_dir, peer.emissions_dir):
            for path in folder.iterdir():
                log.objects.put(f"{folder.name}/{path.name}", path.read_bytes())

    with SignalStore(url) as store:
        assert everything(store) == ["b", "a", "c"]
        assert ids(store.iter_emissions(START, END)) == ["x", "a"]
    with SignalStore(url) as store:
        assert everything(store) == ["b", "a", "c"]


def test_another_workspace_is_taken_in_when_asked(peer, tmp_path, store):
    taken = store.import_workspace(tmp_path)

    assert [(file.file, file.records) for file in taken] == [
        ("signals/2026-02-05.jsonl", 1),
        ("signals/2026-02-06.jsonl", 2),
        ("emissions/2026-02-04.jsonl", 1),
        ("emissions/2026-02-05.jsonl", 1),
    ]
    assert everything(store) == ["b", "a", "c"]
    assert store.import_workspace(tmp_path) == []
    peer.write_signal(signal("d", T(6)))
    assert [file.records for file in store.import_workspace(str(tmp_path))] == [1]
    assert everything(store) == ["b", "a", "c", "d"]


def test_an_import_tells_how_far_it_is(peer, tmp_path, store):
    reported = []
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.jsonl"))

    store.import_workspace(tmp_path, progress=lambda *done: reported.append(done))

    assert [total for _, total in reported] == [size] * 4
    assert reported == sorted(reported)
    assert reported[-1] == (size, size)


def test_importing_from_its_own_place_reads_nothing_twice_and_tells_what_opening_took_in(peer, tmp_path):
    reported = []
    with SignalStore(tmp_path, import_progress=lambda *done: reported.append(done)) as store:
        assert [file.records for file in store.import_workspace(tmp_path)] == [1, 2, 1, 1]
        assert len(reported) == 4
        peer.write_signal(signal("later", T(9)))
        assert [file.records for file in store.import_workspace(tmp_path)] == [1, 2, 1, 1, 1]
    with SignalStore(tmp_path) as store:
        assert store.import_workspace(tmp_path) == []


def test_a_new_file_under_the_name_of_one_that_was_removed_is_taken_in(peer, tmp_path):
    SignalStore(tmp_path).close()
    (peer.signals_dir / "2026-02-06.jsonl").unlink()
    Peer(tmp_path).write_signal(signal("again", T(6)))

    with SignalStore(tmp_path) as store:
        assert everything(store) == ["b", "a", "c", "again"]


def test_importing_from_where_no_workspace_is_is_an_error(tmp_path, store):
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        store.import_workspace(tmp_path / "nope")
