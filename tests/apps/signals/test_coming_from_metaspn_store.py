"""The page `Coming from metaspn-store` is correct: its code runs in order, and prints what the page says."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("metaspn_store")

from metaspn_store import FileSystemStore as Peer

from bucketlog.errors import InvalidEventError
from bucketlog.signals import EntityRef, ReplayCheckpoint, SignalStore

from .making import END, HOUR, START, R, T, ids, signal

PAGE = Path(__file__).parents[3] / "docs" / "coming-from-metaspn-store.md"
FENCE = re.compile(r"^```(py|sh)\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
SHELL_COMMANDS = {
    "python": 'exec "{python}" "$@"\n',
    "bucketlog": 'exec "{python}" -c "import sys; from bucketlog.cli import main; sys.exit(main())" "$@"\n',
}
PEER_WRITES = "assert 'bucketlog' not in __import__('sys').modules\n"


def everything(store):
    return ids(store.iter_signals(T(1), T(20)))


class Block(NamedTuple):
    language: str
    text: str
    printed: str | None


BLOCKS = [Block(*found.groups()) for found in FENCE.finditer(PAGE.read_text())]


@pytest.fixture
def run(tmp_path, monkeypatch, s3_url, s3_bucket):
    """Return a function that runs a block in an empty directory; the page's bucket is on moto's server."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in SHELL_COMMANDS.items():
        (programs / name).write_text("#!/bin/sh\n" + text.format(python=sys.executable))
        (programs / name).chmod(0o755)
    here = tmp_path / "here"
    here.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": str(s3_bucket["endpoint_url"]),
        "AWS_ACCESS_KEY_ID": str(s3_bucket["access_key_id"]),
        "AWS_SECRET_ACCESS_KEY": str(s3_bucket["secret_access_key"]),
        "AWS_REGION": str(s3_bucket.get("region", "us-east-1")),
    }
    monkeypatch.chdir(here)

    def run(language, text):
        text = text.replace("s3://acme-events", s3_url)
        command = ["sh", "-ec", text] if language == "sh" else [sys.executable, "-W", "error", "-c", text]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        return done.stdout

    return run


def test_all_that_the_page_shows_runs_in_its_order_and_prints_what_it_says(run):
    program, line, *others = BLOCKS
    Path("worker.py").write_text(program.text)

    assert run("py", PEER_WRITES + program.text) == program.printed
    assert run("py", line.text + program.text) == program.printed
    for block in others:
        printed = run(block.language, block.text)
        if block.printed is not None:
            assert printed == block.printed


def test_what_came_along_to_another_place_is_what_was_there(run):
    program, line, *_ = BLOCKS
    (move,) = [one for one in BLOCKS if "new.write_signals" in one.text]
    asks = """
print(store.read_checkpoint("router"), store.read_daily_digest_snapshot(morning))
print(list(store.iter_signals(morning, morning)), list(store.iter_emissions(morning, morning)))
"""
    opening = program.text.partition("store = ")[0] + 'store = FileSystemStore("elsewhere")'

    before = run("py", PEER_WRITES + program.text + asks).splitlines()[1:]
    run("py", move.text)
    after = run("py", line.text + opening + asks).splitlines()

    assert len(after) == 2
    assert after == before


def test_a_directory_that_was_copied_into_a_bucket_as_it_is_is_whole_there(peer, tmp_path, moto_s3, s3_url, s3_bucket):
    peer.write_signals([signal("a", T(5)), signal("b", T(6))])
    peer.write_checkpoint("router", ReplayCheckpoint(T(5), ("a",)))
    peer.write_daily_digest_snapshot(day=T(5), digest={"n": 1})
    for path in tmp_path.rglob("*.json*"):
        moto_s3.upload_file(str(path), s3_url.removeprefix("s3://"), f"workspace/{path.relative_to(tmp_path)}")

    with SignalStore(f"{s3_url}/workspace", **s3_bucket) as store:
        assert everything(store) == ["a", "b"]
        assert store.read_checkpoint("router") == ReplayCheckpoint(T(5), ("a",))
        assert store.read_daily_digest_snapshot(T(5)) == peer.read_daily_digest_snapshot(T(5))


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.fixture
def peer(tmp_path):
    return Peer(tmp_path)


@pytest.fixture
def ours(tmp_path):
    with SignalStore(tmp_path / "ours") as store:
        yield store


def test_metaspn_store_does_not_see_what_was_written_here_and_what_it_writes_is_seen_at_the_next_opening(
    peer, tmp_path
):
    with SignalStore(tmp_path) as store:
        store.write_signal(signal("ours"))
        store.write_checkpoint("router", ReplayCheckpoint(T(5)))
    peer.write_signal(signal("theirs"))

    assert everything(peer) == ["theirs"]
    with pytest.raises(KeyError):
        peer.read_checkpoint("router")
    with SignalStore(tmp_path) as store:
        assert everything(store) == ["ours", "theirs"]


def test_what_was_taken_in_stays_when_the_old_files_are_removed(peer, tmp_path):
    peer.write_signals([signal("a"), signal("b")])
    SignalStore(tmp_path).close()
    for folder in (peer.signals_dir, peer.emissions_dir):
        shutil.rmtree(folder)

    with SignalStore(tmp_path, read_only=True) as store:
        assert everything(store) == ["a", "b"]


def test_the_way_back_is_to_read_and_write(peer, ours):
    ours.write_signals([signal("a", T(5), {"n": 1}, refs=[R]), signal("b", T(3))])

    peer.write_signals(ours.iter_signals(START, END))

    assert list(peer.iter_signals(T(1), T(20))) == list(ours.iter_signals(START, END))


# -- what differs ------------------------------------------------------------------------------------------------------


def test_documents_are_the_same_files_byte_for_byte(peer, ours):
    paths = [store.write_daily_digest_snapshot(day=T(5), digest={"b": 1.5, "a": ["é"]}) for store in (peer, ours)]

    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].name == paths[1].name


def test_paths_in_errors_are_ours_and_the_rest_of_the_text_is_the_same(peer, ours):
    texts = []
    for store in (peer, ours):
        path = store.write_signal(signal("a"))
        with pytest.raises(ValueError, match="Duplicate") as raised:
            store.write_signal(signal("a"), on_duplicate="raise")
        texts.append(str(raised.value).replace(str(path), "PATH"))

    assert texts[0] == texts[1]


def test_an_unknown_policy_is_an_error_always(peer, ours):
    assert peer.write_signal(signal("a"), on_duplicate="perhaps")
    with pytest.raises(ValueError, match="perhaps"):
        ours.write_signal(signal("a"), on_duplicate="perhaps")
    assert everything(ours) == []


def test_an_id_that_is_no_text_counts_after_a_restart(peer, ours):
    for store in (peer, ours):
        store.write_signal(signal(7))
        type(store)(store.workspace).write_signal(signal(7))

    assert len((peer.signals_dir / "2026-02-05.jsonl").read_text().splitlines()) == 2
    assert len(list(ours.read_signals())) == 1


def test_any_datetime_is_a_bound(peer, ours):
    with pytest.raises(OverflowError):
        list(peer.iter_signals(END - HOUR, END))
    assert list(ours.iter_signals(END - HOUR, END)) == []


def test_of_two_copies_of_an_id_on_two_days_the_earlier_counts_in_every_window(peer, tmp_path):
    others = Peer(tmp_path)
    others.write_signal(signal("warm", T(1)))
    peer.write_signal(signal("x", T(5), 1))
    others.write_signal(signal("x", T(6), 2))

    assert [signal.payload for signal in peer.iter_signals(T(6), T(7))] == [2]
    with SignalStore(tmp_path) as store:
        assert [signal.payload for signal in store.iter_signals(T(1, 1), T(7))] == [1]
        assert list(store.iter_signals(T(6), T(7))) == []


def test_posts_among_newer_signals_are_found(peer, ours):
    for store in (peer, ours):
        store.write_signals(signal(f"post-{hour}", T(5, hour), refs=[R]) for hour in range(3))
        store.write_signals(signal(f"other-{hour}", T(6, hour), type="Other", refs=[R]) for hour in range(8))

    assert peer.get_last_posts_by_entity(entity_ref=R, limit=2) == []
    assert ids(ours.get_last_posts_by_entity(entity_ref=R, limit=2)) == ["post-2", "post-1"]


def test_scores_that_are_no_numbers_are_left_out_and_large_ones_ranked(peer, ours):
    window = {"start": T(1), "end": T(20), "limit": 9}
    for one in (peer, ours):
        one.write_signals([signal("nan", T(5), {"score": math.nan}), signal("one", T(5), {"score": 1})])
    assert "nan" in ids(peer.get_top_recommendation_candidates(**window))
    assert ids(ours.get_top_recommendation_candidates(**window)) == ["one"]

    for one in (peer, ours):
        one.write_signal(signal("huge", T(5), {"score": 10**400}))
    with pytest.raises(OverflowError):
        peer.get_top_recommendation_candidates(**window)
    assert ids(ours.get_top_recommendation_candidates(**window)) == ["huge", "one"]


def test_a_day_of_another_type_is_a_type_error(peer, ours):
    for one, error in ((peer, AttributeError), (ours, TypeError)):
        with pytest.raises(error):
            one.write_daily_digest_snapshot(day=5, digest={})


def test_a_record_of_more_than_8_mib_is_refused_as_a_value_error(ours):
    with pytest.raises(ValueError, match="at most 8388608") as raised:
        ours.write_signal(signal("a", T(5), "x" * 8 * 1024 * 1024))
    assert isinstance(raised.value, InvalidEventError)


def test_what_fails_leaves_all_as_it_was(peer, ours):
    for store in (peer, ours):
        store.write_daily_digest_snapshot(day="2026-02-05", digest={"n": 1})
        with pytest.raises(TypeError):
            store.write_daily_digest_snapshot(day="2026-02-05", digest={"n": {1}})
        with pytest.raises(TypeError):
            store.write_signal(signal("a", T(5), {1}))

    with pytest.raises(ValueError, match="Expecting value"):
        peer.read_daily_digest_snapshot("2026-02-05")
    assert ours.read_daily_digest_snapshot("2026-02-05")["digest"] == {"n": 1}
    assert [path.name for path in peer.signals_dir.iterdir()] == ["2026-02-05.jsonl"]
    assert list(ours.signals_dir.iterdir()) == []


def test_after_half_a_line_metaspn_store_fails_and_here_all_goes_on(peer, ours):
    for one in (peer, ours):
        path = one.write_signal(signal("a"))
        one.write_signal(signal("b"))
        file = path if path.is_file() else next(path.glob("*.jsonl"))
        os.truncate(file, file.stat().st_size - 20)

    killed = Peer(peer.workspace)
    with pytest.raises(ValueError, match="Unterminated"):
        everything(killed)
    with pytest.raises(ValueError, match="Unterminated"):
        killed.write_signal(signal("c"))
    with SignalStore(ours.workspace) as store:
        assert everything(store) == ["a"]
        store.write_signal(signal("c"))
        assert everything(store) == ["a", "c"]


def test_a_name_does_not_lead_out_of_the_directory(peer, ours):
    assert peer.write_snapshot("../x", {}, T(5)).resolve().parent == peer.store_root
    assert ours.write_snapshot("../x", {}, T(5)).resolve().parent == ours.snapshots_dir.resolve()


def test_an_entity_whose_label_changed_is_found_when_asked_for(peer, tmp_path):
    relabelled = EntityRef(R.ref_type, R.value, label="new")
    asked = {"entity_ref": R, "limit": 9}
    peer.write_signal(signal("a", refs=[relabelled]))

    assert peer.get_recent_signals_by_entity(**asked) == []
    with SignalStore(tmp_path) as store:
        assert store.get_recent_signals_by_entity(**asked) == []
    with SignalStore(tmp_path, entity_match="identity") as store:
        assert ids(store.get_recent_signals_by_entity(**asked)) == ["a"]


def test_a_url_given_as_a_path_is_a_local_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    SignalStore(Path("s3://acme-events/workspace")).close()

    assert [path.name for path in tmp_path.iterdir()] == ["s3:"]
