"""Writes torn at every byte: what was whole before is read, and the next writer moves the rest aside."""

from __future__ import annotations

import os
import shutil

import pytest

import bucketlog


def event(event_id: str, **values: object) -> bucketlog.Event:
    return bucketlog.Event(**{"type": "e", "id": event_id, **values})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of three commits, and where the last one begins and ends in the only segment."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    with bucketlog.open(folder) as store:
        stream = store.stream("s")
        stream.append(event("0"))
        stream.append([event("1"), event("2", data={"text": "x" * 40})])
        segment = folder / "streams" / "s" / "0" / f"{0:020d}.jsonl"
        start = segment.stat().st_size
        stream.append([event("3", data=[1, 2]), event("4", subject="é")])
    return folder, start, segment.stat().st_size


@pytest.mark.slow
def test_write_torn_at_any_byte_is_ignored_then_moved_aside(whole, tmp_path):
    folder, start, end = whole
    content = (folder / "streams" / "s" / "0" / f"{0:020d}.jsonl").read_bytes()

    for size in range(start, end):
        torn = tmp_path / "torn"
        shutil.copytree(folder, torn)
        partition = torn / "streams" / "s" / "0"
        os.truncate(partition / f"{0:020d}.jsonl", size)
        with bucketlog.open(torn) as store:
            stream = store.stream("s")

            assert [one.id for one in stream.read()] == ["0", "1", "2"]
            commit = stream.append(event("after"))

            assert commit.offsets == (3,)
            assert [one.id for one in stream.read()] == ["0", "1", "2", "after"]
            assert stream.verify().ok
        aside = [one.read_bytes() for one in partition.glob(".torn-*")]
        assert aside == ([content[start:size]] if size > start else [])
        shutil.rmtree(torn)


@pytest.mark.parametrize("written", [0, 1, 60])
def test_pages_that_were_never_written_are_ignored_then_moved_aside(whole, tmp_path, written):
    folder, start, end = whole
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn)
    segment = torn / "streams" / "s" / "0" / f"{0:020d}.jsonl"
    os.truncate(segment, start + written)
    os.truncate(segment, end)

    with bucketlog.open(torn) as store:
        stream = store.stream("s")
        before = [one.id for one in stream.read()]
        stream.append(event("after"))

        assert before == ["0", "1", "2"]
        assert [one.id for one in stream.read()] == ["0", "1", "2", "after"]
        assert stream.verify().ok
