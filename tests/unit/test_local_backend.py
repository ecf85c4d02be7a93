"""The local backend beyond the conformance suite: processes, forks, failing disks, and the order of syncs."""

import errno
import fcntl
import gc
import itertools
import os
import signal
import stat
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from blake3 import blake3

from bucketlog.backend import ABSENT, Entry
from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BucketlogError,
    CapabilityError,
    ConflictError,
    InvalidNameError,
    InvalidOptionError,
    InvalidURLError,
    NotFoundError,
    OutcomeUnknownError,
    StorageFullError,
    StoreNotFoundError,
)
from bucketlog_backends.local import LocalBackend, open_local
from bucketlog_backends.local import files as local_files
from bucketlog_backends.local import locks as local_locks
from bucketlog_backends.local import watch as local_watch

SEGMENT = "streams/s/0/00000000000000000000.jsonl"
FOLDER = "streams/s/0/"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def open_handle(root: Path) -> Iterator[Callable[[], LocalBackend]]:
    opened: list[LocalBackend] = []

    def open_one() -> LocalBackend:
        opened.append(open_local(str(root), {}, create=True))
        return opened[-1]

    yield open_one
    for handle in opened:
        handle.close()


@pytest.fixture
def backend(open_handle: Callable[[], LocalBackend]) -> LocalBackend:
    return open_handle()


@pytest.fixture
def other(open_handle: Callable[[], LocalBackend]) -> LocalBackend:
    return open_handle()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 256 KiB."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("mounting a small filesystem takes root on Linux")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small filesystem cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def failing(code: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def fail_after_half(code: int) -> Callable[[int, bytes], int]:
    """A write that accepts half of the first bytes and then fails, like a disk that fills up."""
    wrote: list[int] = []

    def write(fd: int, data: bytes) -> int:
        if wrote:
            raise OSError(code, os.strerror(code))
        wrote.append(os.write(fd, bytes(data[: len(data) // 2])))
        return wrote[0]

    return write


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def is_locked(folder: Path) -> bool:
    """Return True if the exclusive lock is held, as another process sees it."""
    with (folder / ".lock").open() as stranger:
        try:
            fcntl.flock(stranger, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def run_script(script: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    # Newer versions of Python warn about a fork in a process with threads, which some scripts test.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)  # type: ignore[call-overload, no-any-return]  # options are those of run


# -- opening -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{path}", "file://{quoted}", "file://localhost{quoted}", "file:{quoted}"])
def test_path_and_file_urls_name_the_same_place(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a b%41ü"
    quoted = str(path).replace("%", "%25").replace(" ", "%20").replace("ü", "%C3%BC")

    handle = open_local(form.format(path=path, quoted=quoted), {}, create=True)
    handle.put("here", b"")

    assert (path / "here").exists()
    assert handle.url == f"file://{quoted}"
    handle.close()


def test_relative_path_is_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert open_local("below/../store", {}, create=True).url == f"file://{tmp_path}/store"


def test_tilde_is_the_home_directory_in_a_plain_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert open_local("~/store", {}, create=True).url == f"file://{tmp_path}/store"


@pytest.mark.parametrize(
    "url", ["file://elsewhere/path", "file:relative", "file://", "", "a\0b", "file:///a%00b", "\ud800"]
)
def test_url_that_names_no_path_here_is_refused(url: str) -> None:
    with pytest.raises(InvalidURLError):
        open_local(url, {}, create=False)


def test_missing_directory_is_no_store_unless_it_may_be_made(root: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="create=True"):
        open_local(str(root), {}, create=False)

    assert not root.exists()


@pytest.mark.parametrize("below", ["", "/deeper"])
@pytest.mark.parametrize("create", [True, False])
def test_file_in_the_place_of_the_root_is_reported(root: Path, below: str, create: bool) -> None:
    root.write_bytes(b"")

    with pytest.raises(InvalidURLError, match="is a file"):
        open_local(f"{root}{below}", {}, create=create)


def test_unknown_option_is_refused(root: Path) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        open_local(str(root), {"endpoint_url": "x"}, create=True)

    assert caught.value.option == "endpoint_url"
    assert not root.exists()


def test_other_systems_are_refused_in_words(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")

    with pytest.raises(CapabilityError, match="win32"):
        open_local(str(root), {}, create=True)


def test_new_root_and_its_parents_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = record_directory_syncs(monkeypatch)

    open_local(str(tmp_path / "a/b/c"), {}, create=True)

    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]


# -- keys --------------------------------------------------------------------------------------------------------------

BAD_KEYS = ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/.", "a\0b", "ü", ".lock", "a/.lock", ".tmp-1"]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_key_that_is_no_key_reaches_no_file(backend: LocalBackend, root: Path, key: str) -> None:
    for call in (
        lambda: backend.get(key),
        lambda: backend.head(key),
        lambda: backend.put(key, b""),
        lambda: backend.delete([key]),
        lambda: backend.append(key, b"", expected_size=0),
        lambda: backend.seal(key),
        lambda: backend.is_sealed(key),
        lambda: backend.sync(key),
        lambda: backend.cut(key, 0, aside=None),
    ):
        with pytest.raises(InvalidNameError):
            call()

    assert names_in(root) == set()
    assert names_in(root.parent) == {"store"}


def test_part_that_is_too_long_is_an_invalid_name(backend: LocalBackend) -> None:
    key = "a" * 256

    for call in (lambda: backend.put(key, b""), lambda: backend.append(key, b"", expected_size=0)):
        with pytest.raises(InvalidNameError, match="too long") as caught:
            call()
        assert caught.value.name == key


def test_folder_is_no_object(backend: LocalBackend) -> None:
    backend.put("folder/key", b"kept")

    for call in (lambda: backend.get("folder"), lambda: backend.head("folder"), lambda: backend.sync("folder")):
        with pytest.raises(NotFoundError):
            call()
    backend.delete(["folder"])

    assert backend.get("folder/key").data == b"kept"


@pytest.mark.parametrize("key", ["folder", "folder/key/below"])
def test_key_cannot_be_the_folder_of_another(backend: LocalBackend, root: Path, key: str) -> None:
    backend.put("folder/key", b"kept")

    for call in (
        lambda: backend.put(key, b"new"),
        lambda: backend.put(key, b"new", if_version=ABSENT),
        lambda: backend.append(key, b"new", expected_size=0),
    ):
        with pytest.raises(InvalidNameError, match="in the way"):
            call()

    assert backend.get("folder/key").data == b"kept"
    assert names_in(root) == {"folder"}
    assert names_in(root / "folder") == {"key"}


def test_key_below_a_file_is_missing(backend: LocalBackend) -> None:
    backend.put("file", b"kept")

    with pytest.raises(NotFoundError):
        backend.get("file/below")
    backend.delete(["file/below"])

    assert not backend.is_sealed("file/below")
    assert [*backend.list("file/")] == []


# -- listing -----------------------------------------------------------------------------------------------------------

# In ASCII, "-" and "." come before "/", and "0" after it.
TRICKY_KEYS = ["a", "a-b", "a-b-c/x", "a.b/x", "b/-", "b/0", "b/x/y", "b/x-y", "b/x.y", "b0"]


def listing_of(keys: list[str], prefix: str, start_after: str, *, delimiter: bool) -> list[str]:
    found = {key for key in keys if key.startswith(prefix) and key > start_after}
    if delimiter:
        found = {
            prefix + "/".join(key[len(prefix) :].split("/")[:1]) + ("/" if "/" in key[len(prefix) :] else "")
            for key in found
        }
    return sorted(found)


@pytest.mark.parametrize("delimiter", [False, True])
def test_list_is_in_the_order_of_whole_keys_from_wherever_it_starts(backend: LocalBackend, delimiter: bool) -> None:
    for key in TRICKY_KEYS:
        backend.put(key, b"")
    starts = ["", *TRICKY_KEYS, "a-", "a/", "b", "b-", "b/", "b/x", "b/x/", "b/x/z", "b0", "c"]

    for prefix, start_after in itertools.product(["", "b/", "b/x/", "c/"], starts):
        listed = [entry.key for entry in backend.list(prefix, start_after=start_after, delimiter=delimiter)]
        assert listed == listing_of(TRICKY_KEYS, prefix, start_after, delimiter=delimiter), (prefix, start_after)


def test_list_shows_neither_locks_nor_what_was_cut_off_nor_empty_folders(backend: LocalBackend, root: Path) -> None:
    backend.append(SEGMENT, b"whole|torn", expected_size=0)
    backend.cut(SEGMENT, 5, aside=FOLDER + ".torn-1")
    backend.put(".probe/key", b"")
    (root / "streams/empty/deep").mkdir(parents=True)
    with backend.lock("streams/locked/"):
        pass

    assert [entry.key for entry in backend.list("")] == [".probe/key", SEGMENT]
    assert [*backend.list("streams/", delimiter=True)] == [Entry("streams/s/")]


def test_list_leaves_out_what_vanishes_meanwhile(backend: LocalBackend) -> None:
    for key in ("a", "b/x", "c", "d"):
        backend.put(key, b"")

    listing = backend.list("")
    first = next(listing).key
    backend.delete(["b/x", "c"])

    assert [first, *(entry.key for entry in listing)] == ["a", "d"]


# -- putting -----------------------------------------------------------------------------------------------------------


def test_version_is_the_digest_of_the_bytes(backend: LocalBackend, root: Path) -> None:
    version = backend.put("key", b"first")
    file = root / "key"
    before = file.stat()
    file.write_bytes(b"other")  # same size, same inode, and below the same time
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert version == blake3(b"first").hexdigest()
    assert backend.head("key").version == backend.get("key").version == blake3(b"other").hexdigest()
    with pytest.raises(ConflictError):
        backend.put("key", b"new", if_version=version)


def test_race_to_make_an_object_has_one_winner(open_handle: Callable[[], LocalBackend]) -> None:
    handles = [open_handle() for _ in range(8)]
    barrier = threading.Barrier(8)

    def put(handle: LocalBackend, number: int, key: str) -> bool:
        barrier.wait()
        try:
            handle.put(key, b"%d" % number, if_version=ABSENT)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        for turn in range(20):
            key = f"race/{turn}"
            won = [*threads.map(put, handles, range(8), [key] * 8)]
            assert won.count(True) == 1
            assert handles[0].get(key).data == b"%d" % won.index(True)


@pytest.mark.slow
def test_compare_and_set_of_many_handles_loses_no_update(open_handle: Callable[[], LocalBackend]) -> None:
    handles = [open_handle() for _ in range(8)]
    handles[0].put("count", b"0")

    def add(handle: LocalBackend) -> None:
        for _ in range(10):
            while True:
                there = handle.get("count")
                try:
                    handle.put("count", b"%d" % (int(there.data) + 1), if_version=there.version)
                    break
                except ConflictError:
                    continue

    with ThreadPoolExecutor(8) as threads:
        [*threads.map(add, handles)]

    assert handles[0].get("count").data == b"80"


def test_put_if_absent_works_where_there_are_no_hard_links(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_files, "link", failing(errno.EPERM))

    backend.put("key", b"first", if_version=ABSENT)
    with pytest.raises(ConflictError):
        backend.put("key", b"second", if_version=ABSENT)

    assert backend.get("key").data == b"first"
    assert names_in(root) == {"key"}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EACCES, AccessDeniedError),
        (errno.EROFS, AccessDeniedError),
        (errno.EIO, BackendUnavailableError),
    ],
)
@pytest.mark.parametrize("call", ["write", "fdatasync", "replace"])
def test_put_that_fails_changes_nothing_and_leaves_nothing(
    backend: LocalBackend,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
    error: type[BucketlogError],
) -> None:
    backend.put("key", b"before")
    monkeypatch.setattr(local_files, call, fail_after_half(code) if call == "write" else failing(code))

    with pytest.raises(error, match="key 'key'"):
        backend.put("key", b"after")

    assert backend.get("key").data == b"before"
    assert names_in(root) == {"key"}


# (I10)
def test_put_whose_name_cannot_be_synced_is_not_acknowledged(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_files, "fsync", failing(errno.EIO))

    with pytest.raises(OutcomeUnknownError) as caught:
        backend.put("key", b"data")

    assert caught.value.key == "key"


def test_put_in_a_new_folder_makes_every_name_above_it_durable(
    backend: LocalBackend, other: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = record_directory_syncs(monkeypatch)
    above = [str(root / "a/b"), str(root / "a"), str(root)]

    backend.put("a/b/1", b"")
    assert synced == above

    synced.clear()
    backend.put("a/b/2", b"")
    assert synced == above[:1]  # the rest is known to be durable

    synced.clear()
    other.put("a/b/3", b"")
    assert synced == above  # the handle that made the folders may have stalled before syncing them


@pytest.mark.slow
def test_killed_put_is_invisible(root: Path, backend: LocalBackend) -> None:
    script = (
        "import os, signal, sys\n"
        "from bucketlog_backends import local\n"
        "local.files.fdatasync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
        "local.open_local(sys.argv[1], {}, create=True).put('a/key', b'data')\n"
    )

    killed = run_script(script, root)

    assert killed.returncode == -signal.SIGKILL
    assert len(names_in(root / "a")) == 1  # the unfinished file is there
    assert [*backend.list("")] == []
    with pytest.raises(NotFoundError):
        backend.get("a/key")


def test_upload_of_a_source_that_fails_leaves_nothing_and_says_what_the_source_said(
    backend: LocalBackend, root: Path
) -> None:
    class Source:
        def read(self, _size: int) -> bytes:
            raise OSError(errno.ENOSPC, "said by the source")

    with pytest.raises(OSError, match="said by the source") as caught:
        backend.upload("key", Source())  # type: ignore[arg-type]  # upload calls nothing else

    assert not isinstance(caught.value, BucketlogError)
    assert names_in(root) == set()


# -- appending ---------------------------------------------------------------------------------------------------------

APPENDING = """
import sys
from bucketlog.errors import ConflictError
from bucketlog_backends.local import open_local
root, key, number = sys.argv[1:]
handle = open_local(root, {}, create=True)
size = 0
for count in range(50):
    line = f"{number} {count} ".ljust(99, "x").encode() + b"\\n"
    while True:
        try:
            handle.append(key, line, expected_size=size)
            break
        except ConflictError:
            try:
                size = len(handle.get(key).data)
            except KeyError:
                size = 0
    size += len(line)
"""


@pytest.mark.slow
def test_processes_that_append_at_once_lose_and_mix_nothing(root: Path, backend: LocalBackend) -> None:
    command = [sys.executable, "-c", APPENDING, str(root), SEGMENT]
    writers = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE) for number in range(8)]

    ended = [(writer.communicate(timeout=120)[1], writer.returncode) for writer in writers]

    assert ended == [(b"", 0)] * 8
    lines = backend.get(SEGMENT).data.splitlines(keepends=True)
    assert {len(line) for line in lines} == {100}
    for number in range(8):
        mine = [int(line.split()[1]) for line in lines if line.startswith(b"%d " % number)]
        assert mine == [*range(50)]


def test_sealed_segment_refuses_a_handle_that_had_it_open(
    backend: LocalBackend, other: LocalBackend, root: Path
) -> None:
    backend.append(SEGMENT, b"1", expected_size=0)
    other.append(SEGMENT, b"2", expected_size=1)

    other.seal(SEGMENT)

    with pytest.raises(ConflictError, match="sealed"):
        backend.append(SEGMENT, b"3", expected_size=2)
    assert stat.S_IMODE((root / SEGMENT).stat().st_mode) & 0o222 == 0
    assert backend.get(SEGMENT).data == b"12"


# (I4)
@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_segment_that_is_no_longer_the_one_opened_takes_no_append(backend: LocalBackend, root: Path, how: str) -> None:
    backend.append(SEGMENT, b"one", expected_size=0)
    file = root / SEGMENT
    if how == "replaced":
        (root / "new").write_bytes(b"two")
        (root / "new").replace(file)
    else:
        file.unlink()

    with pytest.raises(ConflictError, match="replaced"):
        backend.append(SEGMENT, b"!", expected_size=3)

    if how == "replaced":
        backend.append(SEGMENT, b"!", expected_size=3)  # now the handle has opened it again
        assert file.read_bytes() == b"two!"
    else:
        assert not file.exists()


def test_store_that_was_recreated_under_an_open_handle_has_one_lock(
    backend: LocalBackend, other: LocalBackend, root: Path
) -> None:
    backend.append(SEGMENT, b"old", expected_size=0)
    root.rename(root.with_name("moved"))
    root.mkdir()
    other.append(SEGMENT, b"new", expected_size=0)

    (root.with_name("moved") / SEGMENT).unlink()
    with pytest.raises(ConflictError, match="removed"):
        backend.append(SEGMENT, b"!", expected_size=3)
    with ThreadPoolExecutor(1) as thread:
        with other.lock(FOLDER):
            appended = thread.submit(backend.append, SEGMENT, b"!", expected_size=3)
            with pytest.raises(TimeoutError):
                appended.result(timeout=0.2)
            other.append(SEGMENT, b"?", expected_size=3)
        with pytest.raises(ConflictError, match="size"):
            appended.result(timeout=10)

    assert backend.get(SEGMENT).data == b"new?"


# (I4)
def test_lock_file_is_never_replaced(backend: LocalBackend, other: LocalBackend, root: Path) -> None:
    backend.append(SEGMENT, b"1", expected_size=0)
    before = (root / FOLDER / ".lock").stat().st_ino

    backend.put(FOLDER + "other", b"")
    other.append(SEGMENT, b"23", expected_size=1)
    other.cut(SEGMENT, 2, aside=FOLDER + ".torn")
    backend.seal(SEGMENT)
    other.delete([SEGMENT, FOLDER + "other"])
    backend.close()
    backend.append(SEGMENT, b"1", expected_size=0)

    assert (root / FOLDER / ".lock").stat().st_ino == before


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, StorageFullError), (errno.EDQUOT, StorageFullError), (errno.EIO, BackendUnavailableError)],
)
def test_append_that_tears_is_taken_back(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[BucketlogError]
) -> None:
    backend.append(SEGMENT, b"whole", expected_size=0)

    with monkeypatch.context() as patch:
        patch.setattr(local_files, "write", fail_after_half(code))
        with pytest.raises(error, match=FOLDER):
            backend.append(SEGMENT, b"torn", expected_size=5)

    assert backend.get(SEGMENT).data == b"whole"
    backend.append(SEGMENT, b"!", expected_size=5)
    assert backend.get(SEGMENT).data == b"whole!"
    assert not is_locked(root / FOLDER)


def test_first_append_that_tears_leaves_no_object(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(local_files, "write", fail_after_half(errno.ENOSPC))
        with pytest.raises(StorageFullError):
            backend.append(SEGMENT, b"torn", expected_size=0)

    with pytest.raises(NotFoundError):
        backend.get(SEGMENT)
    backend.append(SEGMENT, b"whole", expected_size=0)
    assert backend.get(SEGMENT).data == b"whole"


def test_short_writes_are_continued(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_files, "write", lambda fd, data: os.write(fd, bytes(data[:3])))

    backend.append(SEGMENT, b"0123456789", expected_size=0)
    backend.put("key", b"0123456789")

    assert backend.get(SEGMENT).data == backend.get("key").data == b"0123456789"


def test_append_that_is_interrupted_half_way_is_taken_back(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.append(SEGMENT, b"whole", expected_size=0)

    def write(fd: int, data: bytes) -> int:
        os.write(fd, data[:2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(local_files, "write", write)
        with pytest.raises(KeyboardInterrupt):
            backend.append(SEGMENT, b"torn", expected_size=5)

    assert backend.get(SEGMENT).data == b"whole"
    assert not is_locked(root / FOLDER)


def test_append_that_is_interrupted_when_whole_stays_for_readers_that_saw_it(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(fd: int, data: bytes) -> int:
        os.write(fd, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(local_files, "write", write)
        with pytest.raises(KeyboardInterrupt):
            backend.append(SEGMENT, b"whole", expected_size=0)

    assert backend.get(SEGMENT).data == b"whole"


def test_append_that_cannot_be_synced_is_cut_back_and_its_outcome_unknown(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.append(SEGMENT, b"synced", expected_size=0)

    with monkeypatch.context() as patch:
        patch.setattr(local_files, "fdatasync", failing(errno.EIO))
        with pytest.raises(OutcomeUnknownError) as caught:
            backend.append(SEGMENT, b"lost", expected_size=6)

    assert caught.value.key == SEGMENT
    assert backend.get(SEGMENT).data == b"synced"


@pytest.mark.parametrize("call", ["sync", "seal"])
def test_sync_that_fails_is_reported_and_seals_nothing(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    backend.append(SEGMENT, b"data", expected_size=0, sync=False)
    monkeypatch.setattr(local_files, "fdatasync", failing(errno.EIO))

    with pytest.raises(OutcomeUnknownError):
        getattr(backend, call)(SEGMENT)

    assert not backend.is_sealed(SEGMENT)


def record_directory_syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    synced: list[str] = []
    really = local_files.fsync_directory

    def record(path: str) -> None:
        synced.append(path.rstrip("/"))
        really(path)

    monkeypatch.setattr(local_files, "fsync_directory", record)
    return synced


# (I10)
def test_handle_syncs_the_name_of_a_segment_that_another_one_made(
    backend: LocalBackend, other: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.append(SEGMENT, b"1", expected_size=0, sync=False)  # and stalls before it syncs the folder
    synced = record_directory_syncs(monkeypatch)
    above = [str(root / FOLDER), str(root / "streams/s"), str(root / "streams"), str(root)]

    other.append(SEGMENT, b"2", expected_size=1)
    assert synced == above

    other.append(SEGMENT, b"3", expected_size=2)
    other.sync(SEGMENT)
    assert synced == above  # once is enough

    synced.clear()
    backend.append(SEGMENT, b"4", expected_size=3)
    assert synced == above


def test_reader_syncs_the_name_once(
    backend: LocalBackend, other: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.append(SEGMENT, b"1", expected_size=0, sync=False)
    synced = record_directory_syncs(monkeypatch)

    other.sync(SEGMENT)
    first = len(synced)
    other.sync(SEGMENT)

    assert first == len(synced) == 4


@pytest.mark.parametrize("failing_call", ["write", "fdatasync"])
def test_cut_that_cannot_keep_the_rest_cuts_nothing(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch, failing_call: str
) -> None:
    backend.append(SEGMENT, b"whole|torn", expected_size=0)

    with monkeypatch.context() as patch:
        patch.setattr(local_files, failing_call, failing(errno.ENOSPC))
        with pytest.raises(StorageFullError):
            backend.cut(SEGMENT, 5, aside=FOLDER + ".torn")

    assert backend.get(SEGMENT).data == b"whole|torn"
    assert names_in(root / FOLDER) == {SEGMENT.removeprefix(FOLDER)}


def test_cut_never_overwrites_what_was_kept_before(backend: LocalBackend) -> None:
    backend.append(SEGMENT, b"0|1", expected_size=0)
    backend.cut(SEGMENT, 1, aside=FOLDER + ".torn")
    backend.append(SEGMENT, b"|2", expected_size=1)

    backend.cut(SEGMENT, 1, aside=FOLDER + ".torn")
    backend.cut(SEGMENT, 1, aside=FOLDER + ".torn")  # nothing left to cut

    assert backend.get(FOLDER + ".torn").data == b"|1"
    assert backend.get(FOLDER + ".torn-1").data == b"|2"
    with pytest.raises(NotFoundError):
        backend.get(FOLDER + ".torn-2")


def test_sealed_segment_is_not_cut(backend: LocalBackend) -> None:
    backend.append(SEGMENT, b"data", expected_size=0)
    backend.seal(SEGMENT)

    with pytest.raises(ConflictError, match="sealed"):
        backend.cut(SEGMENT, 0, aside=None)

    assert backend.get(SEGMENT).data == b"data"


@pytest.mark.parametrize("call", [lambda b: b.seal(SEGMENT), lambda b: b.cut(SEGMENT, 0, aside=None)])
def test_call_about_a_missing_segment_makes_no_folder(
    backend: LocalBackend, root: Path, call: Callable[[LocalBackend], None]
) -> None:
    with pytest.raises(NotFoundError):
        call(backend)
    with pytest.raises(ConflictError):
        backend.append(SEGMENT, b"", expected_size=1)
    backend.delete([SEGMENT])

    assert names_in(root) == set()


# -- full and read-only disks ------------------------------------------------------------------------------------------


def test_full_disk_refuses_and_keeps_what_was_there(small_disk: Path) -> None:
    backend = open_local(str(small_disk / "store"), {}, create=True)
    backend.put("key", b"before")
    size = 0
    with suppress(StorageFullError):
        for size in range(0, 1_000_000, 30_000):
            backend.append(SEGMENT, b"x" * 30_000, expected_size=size)

    assert len(backend.get(SEGMENT).data) == size < 256 * 1024
    with pytest.raises(StorageFullError):
        backend.put("key", b"y" * 30_000)
    with pytest.raises(StorageFullError):
        backend.append(SEGMENT, b"x" * 30_000, expected_size=size)
    assert backend.get("key").data == b"before"
    assert names_in(small_disk / "store") == {"key", "streams"}

    backend.delete(["key"])
    backend.cut(SEGMENT, 30_000, aside=None)
    backend.append(SEGMENT, b"room", expected_size=30_000)
    assert backend.get(SEGMENT, 30_000).data == b"room"
    backend.close()


@pytest.mark.parametrize("with_lock_file", [True, False])
def test_read_only_directory_can_be_read_under_the_shared_lock_and_not_be_written(
    small_disk: Path, with_lock_file: bool
) -> None:
    writer = open_local(str(small_disk), {}, create=True)
    writer.append(SEGMENT, b"data", expected_size=0)
    writer.close()
    if not with_lock_file:
        (small_disk / FOLDER / ".lock").unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    reader = open_local(str(small_disk), {}, create=False)
    with reader.lock(FOLDER, shared=True):
        reader.sync(SEGMENT)
        assert reader.get(SEGMENT).data == b"data"

    for call in (
        lambda: reader.append(SEGMENT, b"!", expected_size=4),
        lambda: reader.append(FOLDER + "new", b"!", expected_size=0),
        lambda: reader.put("key", b""),
        lambda: reader.put("new/key", b""),
        lambda: reader.delete([SEGMENT]),
        lambda: reader.seal(SEGMENT),
        lambda: reader.cut(SEGMENT, 0, aside=None),
        lambda: open_local(str(small_disk / "new"), {}, create=True),
    ):
        with pytest.raises(AccessDeniedError):
            call()
    reader.close()


def test_directory_that_is_gone_is_reported(backend: LocalBackend, root: Path) -> None:
    root.rmdir()

    with pytest.raises(StoreNotFoundError):
        backend.put("a/b", b"")
    with pytest.raises(StoreNotFoundError):
        backend.append(SEGMENT, b"", expected_size=0)


def test_filesystem_without_locks_is_reported(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_locks, "_flock", failing(errno.ENOLCK))

    with pytest.raises(CapabilityError, match="no locks"):
        backend.append(SEGMENT, b"", expected_size=0)


# -- locks -------------------------------------------------------------------------------------------------------------


def test_calls_inside_a_lock_do_not_release_it(backend: LocalBackend, root: Path) -> None:
    def share() -> None:
        with backend.lock(FOLDER, shared=True):
            assert is_locked(root / FOLDER)

    with backend.lock(FOLDER):
        for call in (
            lambda: backend.append(SEGMENT, b"12", expected_size=0),
            lambda: backend.append(SEGMENT, b"3", expected_size=2),
            lambda: backend.cut(SEGMENT, 1, aside=FOLDER + ".torn"),
            lambda: backend.sync(SEGMENT),
            lambda: backend.put(FOLDER + "key", b""),
            lambda: backend.delete([FOLDER + "key"]),
            share,
            lambda: backend.seal(SEGMENT),
        ):
            call()
            assert is_locked(root / FOLDER)
        with pytest.raises(ConflictError):
            backend.append(SEGMENT, b"!", expected_size=9)
        assert is_locked(root / FOLDER)

    assert not is_locked(root / FOLDER)


def test_shared_lock_cannot_become_exclusive(backend: LocalBackend) -> None:
    backend.append(SEGMENT, b"1", expected_size=0)

    with backend.lock(FOLDER, shared=True), backend.lock(FOLDER, shared=True):
        with pytest.raises(RuntimeError, match="shared lock"), backend.lock(FOLDER):
            pass
        with pytest.raises(RuntimeError, match="shared lock"):
            backend.append(SEGMENT, b"2", expected_size=1)

    backend.append(SEGMENT, b"2", expected_size=1)


def test_threads_of_one_handle_share_a_shared_lock(backend: LocalBackend) -> None:
    with backend.lock(FOLDER, shared=True), ThreadPoolExecutor(1) as thread:

        def enter() -> None:
            with backend.lock(FOLDER, shared=True):
                pass

        thread.submit(enter).result(timeout=10)


def test_append_waits_for_the_shared_locks_of_its_own_handle(backend: LocalBackend) -> None:
    backend.append(SEGMENT, b"1", expected_size=0)

    with ThreadPoolExecutor(1) as thread:
        with backend.lock(FOLDER, shared=True):
            appended = thread.submit(backend.append, SEGMENT, b"2", expected_size=1)
            with pytest.raises(TimeoutError):
                appended.result(timeout=0.2)
            assert backend.get(SEGMENT).data == b"1"
        appended.result(timeout=10)

    assert backend.get(SEGMENT).data == b"12"


FORKING = """
import fcntl, os, sys, threading
from bucketlog_backends.local import open_local

def locked_by_another():
    with open(root + "/f/.lock") as stranger:
        try:
            fcntl.flock(stranger, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

def files_below_root():
    there = []
    for fd in os.listdir("/dev/fd"):
        try:
            there.append(os.readlink(f"/proc/self/fd/{fd}").startswith(root))
        except OSError:
            pass
    return any(there)

def child_says(does):
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reads)
        try:
            os.write(writes, repr(does()).encode())
        finally:
            os._exit(0)
    os.close(writes)
    return pid, reads

def wait_for(pid, reads):
    said = os.read(reads, 1000).decode()
    os.waitpid(pid, 0)
    return said

root = sys.argv[1]
handle = open_local(root, {}, create=True)
handle.append("f/key", b"0", expected_size=0)
"""

FORK_BESIDE_A_HOLDER = (
    FORKING
    + """
held, let_go = threading.Event(), threading.Event()
def hold():
    with handle.lock("f/"):
        held.set()
        let_go.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()

print(wait_for(*child_says(files_below_root)))     # the child closed what it inherited
print(wait_for(*child_says(handle.close)))         # and closing it releases no lock
print(locked_by_another())

def append():
    started.set_in_parent()
    handle.append("f/key", b"1", expected_size=1)
    return handle.get("f/key").data

class Pipe:
    def __init__(self):
        self.reads, self.writes = os.pipe()
    def set_in_parent(self):
        os.write(self.writes, b"!")
started = Pipe()
pid, reads = child_says(append)
os.read(started.reads, 1)
import select
print(select.select([reads], [], [], 0.3)[0])      # the child waits for the thread of its parent
let_go.set()
thread.join()
print(wait_for(pid, reads))
print(locked_by_another())
"""
)

FORK_INSIDE_A_LOCK = (
    FORKING
    + """
def leave():
    hold.__exit__(None, None, None)
    return locked_by_another()
hold = handle.lock("f/")
with hold:
    print(wait_for(*child_says(leave)))
    print(locked_by_another())
print(locked_by_another())
"""
)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_forked_child_drops_the_lock_of_its_parent_without_unlocking_it(root: Path) -> None:
    ran = run_script(FORK_BESIDE_A_HOLDER, root)

    assert ran.stderr == ""
    assert ran.stdout.split("\n") == ["False", "None", "True", "[]", "b'01'", "False", ""]


@pytest.mark.slow
def test_child_forked_inside_a_lock_cannot_unlock_it(root: Path) -> None:
    ran = run_script(FORK_INSIDE_A_LOCK, root)

    assert ran.stderr == ""
    assert ran.stdout.split() == ["True", "True", "False"]


# -- open files --------------------------------------------------------------------------------------------------------


def open_files_below(path: Path) -> int:
    count = 0
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208  (a Path would not return the names of removed files)
        try:
            count += os.readlink(f"/proc/self/fd/{fd}").startswith(str(path))  # noqa: PTH115  (likewise)
        except FileNotFoundError:
            continue
    return count


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")


@needs_proc
def test_files_kept_open_are_bounded(backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_locks, "_FOLDERS_MAX", 4)

    for turn in range(2):
        for number in range(12):
            backend.append(f"{number}/key", b"x", expected_size=turn)
            assert open_files_below(root) <= 8

    assert [entry.size for entry in backend.list("")] == [2] * 12


@needs_proc
def test_lock_that_is_held_is_not_closed_for_another(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_locks, "_FOLDERS_MAX", 2)

    with backend.lock(FOLDER):
        for number in range(12):
            backend.append(f"{number}/key", b"x", expected_size=0)
        assert is_locked(root / FOLDER)

    assert not is_locked(root / FOLDER)


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("how", ["close", "forget", "close inside a lock"])
def test_handle_that_ends_closes_its_files(root: Path, how: str) -> None:
    backend = open_local(str(root), {}, create=True)
    backend.append(SEGMENT, b"x", expected_size=0)
    backend.put("key", b"")
    assert open_files_below(root) == 3

    if how == "close":
        backend.close()
    elif how == "forget":
        del backend
        gc.collect()
    else:
        with backend.lock(FOLDER):
            backend.close()
            assert is_locked(root / FOLDER)

    assert open_files_below(root) == 0


@pytest.mark.slow
def test_too_many_open_files_make_room_by_closing_idle_ones(root: Path) -> None:
    script = (
        "import resource, sys\n"
        "from bucketlog_backends.local import open_local\n"
        "handle = open_local(sys.argv[1], {}, create=True)\n"
        "handle.append('f/key', b'', expected_size=0)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "for number in range(100):\n"
        "    handle.append(f'{number}/key', b'x', expected_size=0)\n"
        "    handle.put(f'{number}/other', b'x')\n"
        "print(len([*handle.list('')]))\n"
    )

    ran = run_script(script, root)

    assert ran.stderr == ""
    assert ran.stdout == "201\n"


# -- watching ----------------------------------------------------------------------------------------------------------


def test_watch_wakes_when_its_folder_is_created(backend: LocalBackend, other: LocalBackend) -> None:
    watch = backend.watch(FOLDER)
    assert not watch.wait(0.01)

    with ThreadPoolExecutor(1) as thread:
        woken = thread.submit(watch.wait, 30)
        other.append(SEGMENT, b"1", expected_size=0)
        assert woken.result(timeout=30)

    watch.close()


@pytest.mark.slow
def test_watch_outlives_the_removal_of_its_folder(backend: LocalBackend, root: Path) -> None:
    backend.put("folder/key", b"")
    watch = backend.watch("folder/")

    (root / "folder/key").unlink()
    (root / "folder/.lock").unlink()
    (root / "folder").rmdir()
    assert watch.wait(30)
    while watch.wait(0.2):
        pass

    (root / "folder").mkdir()
    assert watch.wait(30)
    while watch.wait(0.2):
        pass

    (root / "folder/key").write_bytes(b"")
    assert watch.wait(30)
    watch.close()


def test_watch_outlives_a_folder_that_is_removed_and_made_again_at_once(backend: LocalBackend, root: Path) -> None:
    (root / "folder").mkdir()
    watch = backend.watch("folder/")

    (root / "folder").rmdir()
    (root / "folder").mkdir()  # it may get the inode of the removed folder
    assert watch.wait(30)
    while watch.wait(0.2):
        pass

    (root / "folder/key").write_bytes(b"")
    assert watch.wait(30)
    watch.close()


def test_reading_wakes_no_watch(backend: LocalBackend, other: LocalBackend) -> None:
    backend.append(SEGMENT, b"1", expected_size=0)
    watch = backend.watch(FOLDER)
    while watch.wait(0.1):
        pass

    with other.lock(FOLDER, shared=True):
        other.get(SEGMENT)
        other.sync(SEGMENT)
        other.head(SEGMENT)
        assert [entry.key for entry in other.list(FOLDER)] == [SEGMENT]

    assert not watch.wait(0.1)
    watch.close()


def test_watch_compares_where_there_are_no_notifications(
    backend: LocalBackend, other: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_watch, "_Notifications", failing(errno.EMFILE))
    backend.append(SEGMENT, b"1", expected_size=0)

    watch = backend.watch("streams/")
    assert not watch.wait(0.01)

    other.append(SEGMENT, b"2", expected_size=1)
    assert watch.wait(0)
    assert not watch.wait(0)
    with ThreadPoolExecutor(1) as thread:
        woken = thread.submit(watch.wait, 30)
        other.seal(SEGMENT)
        other.append(FOLDER + "next", b"", expected_size=0)
        assert woken.result(timeout=30)
    watch.close()
    assert not watch.wait(30)


def test_watch_compares_once_notifications_fail(
    backend: LocalBackend, other: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.append(SEGMENT, b"1", expected_size=0)
    watch = backend.watch(FOLDER)
    while watch.wait(0.1):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(local_watch._Notifications, "wait", failing(errno.ENOSPC))
        assert watch.wait(30)  # changes may have been missed

    assert not watch.wait(0.01)
    other.append(SEGMENT, b"2", expected_size=1)
    assert watch.wait(30)
    watch.close()


def test_watchfiles_has_the_interface_that_is_used(backend: LocalBackend) -> None:
    watch = backend.watch("")

    assert isinstance(watch._source, local_watch._Notifications)
    assert not watch.wait(0.01)
    assert isinstance(watch._source, local_watch._Notifications)
    watch.close()


@pytest.mark.parametrize("how", ["module is gone", "other arguments", "other method"])
def test_watch_compares_and_warns_where_watchfiles_has_another_interface(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    class OtherArguments:
        def __init__(self, folder: str) -> None:
            raise AssertionError(folder)

    class OtherMethod:
        def __init__(self, *_: object, **__: object) -> None: ...
        def close(self) -> None: ...

    found = {"module is gone": None, "other arguments": OtherArguments, "other method": OtherMethod}[how]
    module = None if found is None else types.SimpleNamespace(RustNotify=found)
    monkeypatch.setitem(sys.modules, "watchfiles._rust_notify", module)
    local_watch._warn_of_interface.cache_clear()

    watch = backend.watch("")
    watch.wait(0)
    backend.put("key", b"")

    assert watch.wait(30)
    watch.close()
    assert len(caplog.records) == 1
    assert "another interface" in caplog.text


class StoppedError(Exception):
    """Raised by a program's own signal handler."""


def test_signal_ends_a_wait_with_what_its_handler_raises(backend: LocalBackend, root: Path) -> None:
    def stop(*_: object) -> None:
        raise StoppedError

    watch = backend.watch("")
    before = threading.active_count()
    handler = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        timer.start()
        with pytest.raises(StoppedError):
            watch.wait(30)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, handler)

    assert threading.active_count() == before
    watch.close()


@needs_proc
@pytest.mark.parametrize("exists", [True, False])
def test_closed_watch_leaves_no_thread_and_no_file(backend: LocalBackend, exists: bool) -> None:
    if exists:
        backend.put("folder/key", b"")
    threads, files = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (only counted)

    for _ in range(5):
        watch = backend.watch("folder/")
        watch.wait(0.01)
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(watch.wait, 30)
            watch.close()
            waiting.result(timeout=5)
        watch.close()

    limit = threading.Event()
    for _ in range(100):  # the threads of the library end a little later
        if len(os.listdir("/proc/self/task")) <= threads:  # noqa: PTH208  (only counted)
            break
        limit.wait(0.05)
    assert len(os.listdir("/proc/self/task")) <= threads  # noqa: PTH208  (only counted)
    assert len(os.listdir("/proc/self/fd")) <= files  # noqa: PTH208  (only counted)


@pytest.mark.slow
def test_watch_works_in_a_forked_child(root: Path) -> None:
    script = (
        "import os, sys\n"
        "from bucketlog_backends.local import open_local\n"
        "handle = open_local(sys.argv[1], {}, create=True)\n"
        "watch = handle.watch('')\n"
        "if not os.fork():\n"
        "    while watch.wait(0.2):\n"
        "        pass\n"
        "    handle.put('key', b'')\n"
        "    os._exit(0 if watch.wait(20) else 1)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )

    ran = run_script(script, root)

    assert (ran.stdout, ran.stderr) == ("0\n", "")
