"""Objects are whole, stay inside the root, and leave the store's own alone."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketlog.backend import ABSENT
from bucketlog.errors import (
    CapabilityError,
    ConflictError,
    InvalidNameError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
    ReadOnlyError,
    UnprovenStorageError,
)
from bucketlog.state import objects as module
from bucketlog.state.checkpoints import Checkpoints
from bucketlog.state.objects import Objects, _key, _path
from bucketlog.state.snapshots import Snapshots
from bucketlog.testing.faults import Fail, Hold, LoseAnswer, on

PATHS = ["a", "reports/2026-02-05.csv", "reports/x/y", "é/con", "%2F", "a b/c?d#e", "x/../y", "../z", "./w", ".hidden"]


@pytest.fixture
def objects(place):
    return Objects(place.open())


def test_bytes_come_back_under_their_path_and_paths_are_listed_as_given(objects):
    for path in PATHS:
        objects.put(path, f"bytes of {path}".encode())

    assert objects.list() == sorted(PATHS)
    for path in PATHS:
        assert objects.get(path) == f"bytes of {path}".encode()


@pytest.mark.parametrize("data", [b"", b"x", bytearray(b"x"), memoryview(b"x")])
def test_an_object_is_replaced_whole(objects, data):
    objects.put("a", b"old and long")
    objects.put("a", data)

    assert objects.get("a") == bytes(data)


def test_no_path_leaves_the_root(place, objects, tmp_path):
    for path in ("../../escaped", "a/../../escaped", ".", "\\..\\escaped", "~", "C:\\x"):
        objects.put(path, b"x")

    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} <= {"store"}
    for key in place.stored():
        assert not {"", ".", ".."} & set(key.split("/"))


@pytest.mark.slow
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=9), min_size=1
    )
)
def test_a_key_decodes_to_its_path(parts):
    path = "/".join(parts)

    assert _path(_key(path)) == path


@pytest.mark.parametrize("path", ["", "/", "/a", "a/", "a//b", "a\0b", "\ud800", "x" * 256, None, b"a"])
def test_what_is_no_path_is_refused_everywhere(place, objects, path):
    before = place.stored()

    for act in (objects.get, objects.delete, objects.url, lambda path: objects.put(path, b"x")):
        with pytest.raises(InvalidNameError):
            act(path)

    assert place.stored() == before


@pytest.mark.parametrize(
    "path",
    [
        "streams/orders/0/0.jsonl",
        "streams",
        "checkpoints/c.json",
        "blobs/ab/cd",
        "capabilities/x",
        "bucketlog.json",
        "Streams/x",
    ],
)
def test_what_is_the_store_s_own_is_neither_written_nor_deleted_here(place, objects, path):
    before = place.stored()

    for act in (lambda: objects.put(path, b"x"), lambda: objects.delete(path)):
        with pytest.raises(InvalidNameError, match="belongs to the store itself"):
            act()

    assert place.stored() == before


def test_what_is_the_store_s_own_can_be_read_but_is_not_listed(place, objects):
    root = place.open()
    Checkpoints(root).save("c", 1)
    Snapshots(root).save("s", {"n": 1}, at="x")
    objects.put("mine", b"x")

    assert b'"value":1' in objects.get("checkpoints/c.json")
    assert objects.list() == ["mine"]
    assert objects.list("checkpoints/") == []
    assert objects.list("snapshots/") == ["snapshots/s__x.json"]


def test_a_path_below_a_folder_that_begins_with_a_dot_is_not_the_probe_s(place, objects):
    objects.put(".probe/x", b"x")

    assert "%2Eprobe/x" in place.stored()


def test_list_takes_any_text_prefix(objects):
    for path in ("a", "ab/c", "ab/d/e", "ab/dd", "abc", "b/x"):
        objects.put(path, b"")

    assert objects.list("ab") == ["ab/c", "ab/d/e", "ab/dd", "abc"]
    assert objects.list("ab/") == ["ab/c", "ab/d/e", "ab/dd"]
    assert objects.list("ab/d") == ["ab/d/e", "ab/dd"]
    assert objects.list(prefix="ab/d/") == ["ab/d/e"]
    assert objects.list("none/") == objects.list("zzz") == []
    with pytest.raises(InvalidNameError):
        objects.list("a//b")


def test_foreign_files_are_passed_over(place, objects):
    objects.put("a/b", b"")
    for key in ("a/x y", "a/%2f", "a/%FF", "x y"):
        place.backend.put(key, b"")

    assert objects.list() == ["a/b"]


def test_a_missing_object_is_reported_and_deleting_it_is_no_error(objects):
    objects.put("a", b"x")

    objects.delete("a")
    objects.delete("a")

    with pytest.raises(NotFoundError, match="get object 'a' from"):
        objects.get("a")


def test_the_url_is_the_place_of_the_object(place, objects):
    assert objects.url("a b/c") == f"{place.backend.url}/a%20b/c"


@pytest.mark.parametrize("data", ["text", None, 1, [1]])
def test_only_bytes_are_stored(place, objects, data):
    before = place.stored()

    with pytest.raises(InvalidValueError, match="give bytes"):
        objects.put("a", data)

    assert place.stored() == before


# -- one key is not another's folder -----------------------------------------------------------------------------------


def test_no_object_is_another_s_folder(place):
    for first, second in (("a", "a/b/c"), ("b/c", "b"), ("d/e/f/g", "d/e")):
        Objects(place.open()).put(first, b"first")

        with pytest.raises(InvalidNameError, match="choose another path"):
            Objects(place.open()).put(second, b"second")

        assert Objects(place.open()).get(first) == b"first"


def test_what_is_known_of_folders_is_not_asked_again(place):
    root = place.open()
    objects = Objects(root)
    objects.put("a/b/c", b"")
    before = root.backend.count("head")

    objects.put("a/b/d", b"")

    assert root.backend.count("head") == before


def test_only_so_many_folders_are_remembered(place, monkeypatch):
    monkeypatch.setattr(module, "_FOLDERS_MAX", 1)
    root = place.open()
    objects = Objects(root)
    for path in ("a/x", "b/x"):
        objects.put(path, b"")
    before = root.backend.count("head")

    objects.put("a/y", b"")
    assert root.backend.count("head") == before
    objects.put("b/y", b"")
    assert root.backend.count("head") == before + 1


# -- only if absent ----------------------------------------------------------------------------------------------------


def test_if_absent_never_replaces_also_not_by_the_same_bytes(objects):
    objects.put("a", b"first", if_absent=True)

    for data in (b"first", b"second"):
        with pytest.raises(ConflictError, match="something is stored there already"):
            objects.put("a", data, if_absent=True)
    assert objects.get("a") == b"first"


def test_of_racing_puts_if_absent_one_returns(place):
    handles = [Objects(place.open()) for _ in range(6)]
    gate = threading.Barrier(len(handles))
    won = []

    def race(number):
        gate.wait()
        try:
            handles[number].put("a", str(number).encode(), if_absent=True)
        except ConflictError:
            return
        won.append(str(number).encode())

    threads = [threading.Thread(target=race, args=(number,)) for number in range(len(handles))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert won == [handles[0].get("a")]


@pytest.mark.parametrize("fault", [LoseAnswer(), Fail(OutcomeUnknownError("500")), Fail(ConflictError("409"))])
def test_an_unclear_put_if_absent_is_settled_by_reading_back(place, fault):
    Objects(place.open(on("put", fault))).put("a", b"x", if_absent=True)

    assert Objects(place.open()).get("a") == b"x"


def test_an_unclear_put_if_absent_that_finds_other_bytes_is_unknown(place):
    Objects(place.open()).put("a", b"theirs")

    with pytest.raises(OutcomeUnknownError, match="put object 'a'"):
        Objects(place.open(on("put", Fail(OutcomeUnknownError("500"))))).put("a", b"mine", if_absent=True)


def test_an_unclear_put_is_settled_by_reading_back_and_never_sent_twice(place):
    for fault, settled in ((LoseAnswer(), True), (Hold(), False)):
        root = place.open(on("put", fault))
        if settled:
            Objects(root).put("a", b"x")
        else:
            with pytest.raises(OutcomeUnknownError, match="read the object before trying again"):
                Objects(root).put("b", b"x")
        assert root.backend.count("put") == 1


def test_storage_that_is_no_longer_as_proven_acknowledges_nothing(place):
    for if_absent in (False, True):
        root = place.open(on("put", LoseAnswer(UnprovenStorageError("versioned"))))
        with pytest.raises(UnprovenStorageError):
            Objects(root).put(f"a{if_absent}", b"x", if_absent=if_absent)


def test_more_than_one_put_takes_is_uploaded_but_not_with_a_condition(place, monkeypatch):
    monkeypatch.setattr(module, "PUT_BYTES_MAX", 1000)
    root = place.open()

    Objects(root).put("large", b"x" * 1001)

    assert root.backend.count("upload") == 1
    assert Objects(root).get("large") == b"x" * 1001
    with pytest.raises(CapabilityError, match="put a blob"):
        Objects(root).put("other", b"x" * 1001, if_absent=True)
    monkeypatch.setattr(module, "UploadBackend", type(None))
    with pytest.raises(CapabilityError, match="put a blob"):
        Objects(root).put("other", b"x" * 1001)


def test_a_store_opened_for_reading_reads_and_never_writes(place):
    Objects(place.open()).put("a", b"x")
    reader = Objects(place.open(read_only=True))

    assert (reader.get("a"), reader.list()) == (b"x", ["a"])
    for act in (lambda: reader.put("a", b"y"), lambda: reader.delete("a")):
        with pytest.raises(ReadOnlyError):
            act()
    assert reader.get("a") == b"x"


def test_if_absent_asks_the_storage(place):
    root = place.open()
    put, conditions = root.backend.put, []
    root.backend.put = lambda key, data, *, if_version=None: (
        conditions.append(if_version) or put(key, data, if_version=if_version)
    )

    Objects(root).put("a", b"x", if_absent=True)

    assert conditions == [ABSENT]
