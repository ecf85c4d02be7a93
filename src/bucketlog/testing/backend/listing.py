"""Listings."""

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
    """Listings are complete and in order."""

    # -- list ----------------------------------------------------------------------------------------------------------

    def test_list_of_nothing_is_empty(self, backend: Backend) -> None:
        """An empty root and a folder that does not exist list as empty, and are no error."""
        assert self._listed(backend, "") == []
        assert self._listed(backend, "missing/") == []
        assert self._listed(backend, "missing/deeper/", delimiter=True) == []
        assert self._listed(backend, "missing/", start_after="missing/0") == []

    def test_list_is_ascending_by_the_whole_key(self, backend: Backend) -> None:
        """Keys ascend as ASCII texts: `a-b/…` and `a.b` come before `a/…`, capitals before small letters."""
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
        """Below `a/` lie no keys of `ab/`, `a-b` or `a`-something: the prefix ends with `/`, and so is compared."""
        self._fill(backend, ["a-b", "a/0", "a/b/0", "a/b/c/0", "a0/0", "ab/0", "b/a/0", "x/a/b/0"])

        assert [entry.key for entry in self._listed(backend, "a/")] == ["a/0", "a/b/0", "a/b/c/0"]
        assert [entry.key for entry in self._listed(backend, "a/b/")] == ["a/b/0", "a/b/c/0"]

    def test_list_tells_sizes_and_times(self, backend: Backend) -> None:
        """An entry tells size and, aware and in UTC, time of its object, as `head` does."""
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
    def test_list_starts_behind_a_key(self, backend: Backend, start_after: str, expected: list[str]) -> None:
        """With `start_after` only keys greater than it, as whole keys, are listed; it need not exist itself."""
        self._fill(backend, ["Z", "a/0", "a/1", "a/10", "a/b/0", "a/b/1", "b/0"])

        assert [entry.key for entry in self._listed(backend, "a/", start_after=start_after)] == expected

    def test_list_of_one_level_shows_folders_once(self, backend: Backend) -> None:
        """With `delimiter` deeper keys show once, as their folder with `/` behind it, ascending among the others."""
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

    def test_list_of_one_level_starts_behind_a_key(self, backend: Backend) -> None:
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
        """A folder exists by its keys alone: once they are deleted it is gone from every listing."""
        self._fill(backend, ["a/b/0", "a/b/c/0", "a/d"])

        other.delete(["a/b/0", "a/b/c/0"])

        assert [entry.key for entry in self._listed(backend, "a/", delimiter=True)] == ["a/d"]
        assert self._listed(backend, "a/b/", delimiter=True) == []

    def test_list_of_many_keys_is_whole(self, backend: Backend, other: Backend) -> None:
        """A listing goes on past the pages in which a server hands it out, with and without `delimiter`."""
        keys = [f"many/{number:05}/0" for number in range(self.many_keys)]
        self._fill(backend, keys)

        assert [entry.key for entry in self._listed(other, "many/")] == keys
        assert [entry.key for entry in self._listed(other, "many/", start_after=keys[40])] == keys[41:]
        assert [entry.key for entry in self._listed(other, "many/", start_after=keys[-41])] == keys[-40:]
        assert [entry.key for entry in self._listed(other, "many/", delimiter=True)] == [
            key.removesuffix("0") for key in keys
        ]

    def test_list_is_lazy(self, backend: Backend) -> None:
        """`list` returns an iterator, which may be left before its end, and used beside other calls."""
        keys = [f"a/{number:02}" for number in range(20)]
        self._fill(backend, keys)

        listing = backend.list("a/")

        assert iter(listing) is listing
        assert next(listing).key == keys[0]
        assert backend.get(keys[5]).data == b"x"
        assert next(listing).key == keys[1]
        del listing
        assert [entry.key for entry in self._listed(backend, "a/")] == keys

    def test_list_keeps_what_stays_while_other_keys_go(self, backend: Backend, other: Backend) -> None:
        """Keys deleted while a listing is under way do not make it skip or repeat those that stay."""
        keys = [f"a/{number:03}" for number in range(60)]
        self._fill(backend, keys)

        listing = backend.list("a/")
        first = [next(listing).key for _ in range(20)]
        other.delete([*keys[:15], *keys[40::2]])
        rest = [entry.key for entry in itertools.islice(listing, len(keys))]

        assert first == keys[:20]
        assert rest == sorted(set(rest))
        assert set(rest) >= {*keys[20:40], *keys[41::2]}
