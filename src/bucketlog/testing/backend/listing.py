"""Listing keys: order, prefixes, folders, pages."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from bucketlog.backend import (
    Backend,
    Entry,
)
from bucketlog.testing.backend.harness import (
    BackendTests,
)


class ListingTests(BackendTests):
    """Listings."""

    # -- list ----------------------------------------------------------------------------------------------------------

    def test_list_of_nothing_is_empty(self, backend: Backend) -> None:
        """An empty root or a folder that does not exist lists as empty, without an error."""
        assert self._listed(backend, "") == []
        assert self._listed(backend, "missing/") == []
        assert self._listed(backend, "missing/deeper/", delimiter=True) == []
        assert self._listed(backend, "missing/", start_after="missing/0") == []

    def test_list_is_ascending_by_the_whole_key(self, backend: Backend) -> None:
        """Keys ascend in ASCII order of the whole key: `a-b/…` and `a.b` before `a/…`, capitals first."""
        keys = [
            "C/x",
            "a%2Fb",
            "a-b/c",
            "a.b",
            "a/b",
            "a/b-c",
            "a/b.c/d",
            "a0",
            "a_",
            "aB",
            "b/0",
            "b/00",
            "b/1",
            "b/10",
        ]
        self._fill(backend, reversed(keys))

        assert [entry.key for entry in self._listed(backend, "")] == sorted(keys)

    def test_list_takes_a_prefix_as_a_folder(self, backend: Backend) -> None:
        """`a/` lists the keys in that folder, not `ab/…`, `a-b` or `x/a/…`. A prefix is empty or ends with `/`."""
        self._fill(backend, ["a-b", "a/0", "a/b/0", "a/b/c/0", "a0/0", "ab/0", "b/a/0", "x/a/b/0"])

        assert [entry.key for entry in self._listed(backend, "a/")] == ["a/0", "a/b/0", "a/b/c/0"]
        assert [entry.key for entry in self._listed(backend, "a/b/")] == ["a/b/0", "a/b/c/0"]

    def test_list_returns_sizes_and_times(self, backend: Backend) -> None:
        """An entry has the size and the modification time of its object, timezone-aware UTC, as in `head`."""
        backend.put("a/0", b"")
        backend.put("a/1", b"x" * 1_000)

        entries = self._listed(backend, "a/")

        assert [entry.size for entry in entries] == [0, 1_000]
        for entry in entries:
            assert entry.modified is not None
            assert entry.modified.utcoffset() == timedelta(0)

    @pytest.mark.parametrize(
        ("start_after", "expected"),
        [
            ("", ["a/0", "a/1", "a/10", "a/b/0", "a/b/1"]),
            ("a/", ["a/0", "a/1", "a/10", "a/b/0", "a/b/1"]),
            ("a/0", ["a/1", "a/10", "a/b/0", "a/b/1"]),
            ("a/1", ["a/10", "a/b/0", "a/b/1"]),
            ("a/05", ["a/1", "a/10", "a/b/0", "a/b/1"]),
            ("a/10", ["a/b/0", "a/b/1"]),
            ("a/b", ["a/b/0", "a/b/1"]),
            ("a/b/0", ["a/b/1"]),
            ("a/b/00", ["a/b/1"]),
            ("a/b/1", []),
            ("a/c", []),
            ("0", ["a/0", "a/1", "a/10", "a/b/0", "a/b/1"]),
            ("b", []),
        ],
    )
    def test_list_starts_after_a_key(self, backend: Backend, start_after: str, expected: list[str]) -> None:
        """With `start_after`, only keys greater than it are listed. It need not exist."""
        self._fill(backend, ["Z", "a/0", "a/1", "a/10", "a/b/0", "a/b/1", "b/0"])

        assert [entry.key for entry in self._listed(backend, "a/", start_after=start_after)] == expected

    def test_list_of_one_level_shows_folders_once(self, backend: Backend) -> None:
        """With `delimiter`, deeper keys appear once, as their folder with a trailing `/`, in order among the others."""
        self._fill(backend, ["a-", "a/0", "a/b-", "a/b/0", "a/b/1", "a/b/c/0", "a/b0", "a/d/e/f", "ab/0"])

        assert [entry.key for entry in self._listed(backend, "", delimiter=True)] == ["a-", "a/", "ab/"]
        assert [entry.key for entry in self._listed(backend, "a/", delimiter=True)] == [
            "a/0",
            "a/b-",
            "a/b/",
            "a/b0",
            "a/d/",
        ]
        assert Entry("a/b/", 0, None) in self._listed(backend, "a/", delimiter=True)

    def test_list_of_one_level_starts_after_a_key(self, backend: Backend) -> None:
        """`delimiter` and `start_after` work together."""
        self._fill(backend, ["a/0", "a/1", "a/b/0", "a/c", "a/d/0"])

        assert [entry.key for entry in self._listed(backend, "a/", start_after="a/0", delimiter=True)] == [
            "a/1",
            "a/b/",
            "a/c",
            "a/d/",
        ]
        assert [entry.key for entry in self._listed(backend, "a/", start_after="a/c", delimiter=True)] == ["a/d/"]

    def test_folder_without_keys_is_not_listed(self, backend: Backend, other: Backend) -> None:
        """A folder exists only through its keys: once they are deleted, no listing shows it."""
        self._fill(backend, ["a/b/0", "a/b/c/0", "a/d"])

        other.delete(["a/b/0", "a/b/c/0"])

        assert [entry.key for entry in self._listed(backend, "a/", delimiter=True)] == ["a/d"]
        assert self._listed(backend, "a/b/", delimiter=True) == []

    def test_list_of_many_keys_is_complete(self, backend: Backend, other: Backend) -> None:
        """A listing continues past the server's page size, with and without `delimiter`."""
        keys = [f"many/{number:05}/0" for number in range(self.many_keys)]
        self._fill(backend, keys)

        assert [entry.key for entry in self._listed(other, "many/")] == keys
        assert [entry.key for entry in self._listed(other, "many/", start_after=keys[40])] == keys[41:]
        assert [entry.key for entry in self._listed(other, "many/", start_after=keys[-41])] == keys[-40:]
        assert [entry.key for entry in self._listed(other, "many/", delimiter=True)] == [
            key.removesuffix("0") for key in keys
        ]

    def test_list_is_lazy(self, backend: Backend) -> None:
        """`list` returns an iterator. It can be abandoned, and other calls can be made while it is open."""
        keys = [f"a/{number:02}" for number in range(20)]
        self._fill(backend, keys)

        listing = backend.list("a/")

        assert iter(listing) is listing
        assert next(listing).key == keys[0]
        assert backend.get(keys[5]).data == b"x"
        assert next(listing).key == keys[1]
        del listing
        assert [entry.key for entry in self._listed(backend, "a/")] == keys

    def test_deletes_during_a_listing_do_not_disturb_it(self, backend: Backend, other: Backend) -> None:
        """Deleting other keys during a listing makes it neither skip nor repeat the keys that remain."""
        keys = [f"a/{number:03}" for number in range(60)]
        self._fill(backend, keys)

        listing = backend.list("a/")
        first = [next(listing).key for _ in range(20)]
        other.delete([*keys[:15], *keys[40::2]])
        rest = [entry.key for entry in itertools.islice(listing, len(keys))]

        assert first == keys[:20]
        assert rest == sorted(set(rest))
        assert set(rest) >= {*keys[20:40], *keys[41::2]}
