"""Backends that are wrong in one way each, as real ones have been, and the test of the suite that must notice it."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import ClassVar
from urllib.parse import unquote

from bucketlog.backend import ABSENT, ANY, Capabilities, Condition, Content, Entry, Version
from bucketlog.errors import NotFoundError

from .dict_backend import DictBackend, DictWatch, Root, Stored

NOTICED_BY: dict[type[DictBackend], str] = {}


def noticed_by(test: str):
    """Name the test that a wrong backend must turn red."""

    def note(broken: type[DictBackend]) -> type[DictBackend]:
        NOTICED_BY[broken] = test
        return broken

    return note


def give_way() -> None:
    """Let the other threads come in between, as a network would."""
    time.sleep(0.0005)


# -- conditions --------------------------------------------------------------------------------------------------------


@noticed_by("test_put_if_absent_replaces_nothing")
class OverwritesOnAbsent(DictBackend):
    def _check(self, key: str, condition: Condition) -> None:
        super()._check(key, ANY if condition is ABSENT else condition)


class ChecksThenWrites(DictBackend):
    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        self._check(key, if_version)
        give_way()
        return super().put(key, data)


@noticed_by("test_race_to_create_an_object_has_one_winner")
class ChecksForAbsenceThenWrites(ChecksThenWrites):
    pass


@noticed_by("test_race_to_replace_an_object_has_one_winner")
class ChecksTheVersionThenWrites(ChecksThenWrites):
    pass


@noticed_by("test_compare_and_set_in_a_loop_loses_no_update")
class LosesUpdates(ChecksThenWrites):
    pass


@noticed_by("test_put_with_a_stale_version_changes_nothing")
class IgnoresVersions(DictBackend):
    def _check(self, key: str, condition: Condition) -> None:
        super()._check(key, ANY if isinstance(condition, str) else condition)


@noticed_by("test_put_with_a_version_needs_an_object")
class MakesAnObjectForAVersion(DictBackend):
    def _check(self, key: str, condition: Condition) -> None:
        super()._check(key, condition if key in self.root.objects else ANY)


@noticed_by("test_put_with_a_version_needs_an_object")
class SaysNotFoundToAVersion(DictBackend):
    def _check(self, key: str, condition: Condition) -> None:
        if isinstance(condition, str):
            self._find(key)
        super()._check(key, condition)


@noticed_by("test_version_changes_whenever_the_bytes_do")
class TakesTheSizeForAVersion(DictBackend):
    def _store(self, key: str, data: bytes, *, made: int = 0) -> Stored:
        stored = super()._store(key, data, made=made)
        stored.version = str(len(data))
        return stored


@noticed_by("test_version_changes_when_an_object_is_created_again")
class CountsVersionsByKey(DictBackend):
    def _store(self, key: str, data: bytes, *, made: int = 0) -> Stored:
        before = self.root.objects.get(key)
        stored = super()._store(key, data, made=made)
        stored.version = str(int(before.version) + 1 if before else 1)
        return stored


# -- reading and writing -----------------------------------------------------------------------------------------------


@noticed_by("test_readers_see_a_put_whole_or_not_at_all")
class WritesInPlace(DictBackend):
    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        super().put(key, data[: len(data) // 2], if_version=if_version)
        give_way()
        return super().put(key, data)


@noticed_by("test_readers_see_a_put_whole_or_not_at_all")
class RemovesBeforeItReplaces(DictBackend):
    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        with self.root.changed:
            self._check(key, if_version)
            self.root.objects.pop(key, None)
        give_way()
        return super().put(key, data)


@noticed_by("test_range_returns_exactly_its_bytes")
class GivesShortRanges(DictBackend):
    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        return super().get(key, start, None if end is None else max(start, end - 1))


@noticed_by("test_range_is_cut_off_at_the_end")
class RefusesRangesPastTheEnd(DictBackend):
    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        content = super().get(key, start, end)
        if start >= self.head(key).size > 0:
            raise ValueError("416 range not satisfiable")
        return content


@noticed_by("test_missing_key_is_not_found")
class ReadsMissingKeysAsEmpty(DictBackend):
    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        try:
            return super().get(key, start, end)
        except NotFoundError:
            return Content(b"", "")


@noticed_by("test_put_is_visible_to_other_handles_at_once")
class RemembersWhatItRead(DictBackend):
    def __init__(self, root: Root) -> None:
        super().__init__(root)
        self.seen: dict[tuple[str, int, int | None], Content] = {}

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        return self.seen.setdefault((key, start, end), super().get(key, start, end))


@noticed_by("test_keys_that_differ_by_percent_signs_are_distinct")
class DecodesKeys(DictBackend):
    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        return super().put(unquote(key), data, if_version=if_version)

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        return super().get(unquote(key), start, end)


@noticed_by("test_closing_one_handle_leaves_the_others_open")
class ClosesForAll(DictBackend):
    def close(self) -> None:
        self.root.objects.clear()


# -- listing and deleting ----------------------------------------------------------------------------------------------


@noticed_by("test_list_takes_a_prefix_as_a_folder")
class TakesAPrefixForASubstring(DictBackend):
    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        return super().list(prefix.removesuffix("/"), start_after=start_after, delimiter=delimiter)


@noticed_by("test_list_is_ascending_by_the_whole_key")
class ListsInAnyOrder(DictBackend):
    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        entries = super().list(prefix, start_after=start_after, delimiter=delimiter)
        return iter(sorted(entries, key=lambda entry: hash(entry.key)))


@noticed_by("test_list_is_ascending_by_the_whole_key")
class ListsFolderByFolder(DictBackend):
    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        entries = super().list(prefix, start_after=start_after, delimiter=delimiter)
        return iter(sorted(entries, key=lambda entry: entry.key.split("/")))


@noticed_by("test_list_of_many_keys_is_complete")
class ForgetsTheSecondPage(DictBackend):
    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        return islice(super().list(prefix, start_after=start_after, delimiter=delimiter), 1000)


@noticed_by("test_list_is_ascending_by_the_whole_key")
class ListsTheSamePageForever(DictBackend):
    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        page = [*super().list(prefix, start_after=start_after, delimiter=delimiter)]
        while page:
            yield from page


@noticed_by("test_list_starts_after_a_key")
class StartsAtAKeyInsteadOfBehind(DictBackend):
    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        entries = super().list(prefix, start_after=start_after, delimiter=delimiter)
        stored = self.root.objects.get(start_after)
        return chain([Entry(start_after, len(stored.data), stored.modified)] if stored else [], entries)


@noticed_by("test_list_starts_after_a_key")
class TakesStartAfterForAPrefix(DictBackend):
    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        entries = super().list(prefix, start_after=start_after, delimiter=delimiter)
        return (entry for entry in entries if not start_after or not entry.key.startswith(start_after))


@noticed_by("test_list_of_one_level_shows_folders_once")
class RepeatsFolders(DictBackend):
    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        for entry in super().list(prefix, start_after=start_after):
            below, slash, _ = entry.key[len(prefix) :].partition("/")
            yield Entry(f"{prefix}{below}/") if delimiter and slash else entry


@noticed_by("test_delete_of_a_missing_key_is_no_error")
class RaisesForAMissingKey(DictBackend):
    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.head(key)
            super().delete([key])


@noticed_by("test_delete_removes_any_number_of_keys")
class DeletesAThousandAtMost(DictBackend):
    def delete(self, keys: Iterable[str]) -> None:
        super().delete(islice(keys, 1000))


# -- abilities ---------------------------------------------------------------------------------------------------------


@noticed_by("test_append_is_declared_or_refused")
class HidesThatItAppends(DictBackend):
    capabilities = Capabilities(append=False, watch=True)


@noticed_by("test_append_at_another_size_changes_nothing")
class AppendsAtAnySize(DictBackend):
    def _check_growth(self, key: str, there: Stored | None, expected_size: int) -> None:
        super()._check_growth(key, there, len(there.data) if there else 0)


@noticed_by("test_sealed_object_never_grows")
class AppendsToSealedObjects(DictBackend):
    def seal(self, key: str) -> None:
        self.sync(key)


@noticed_by("test_append_to_a_replaced_object_is_a_conflict")
class AppendsToReplacedObjects(DictBackend):
    def _check_growth(self, key: str, there: Stored | None, expected_size: int) -> None:
        self.believed.clear()
        super()._check_growth(key, there, expected_size)


@noticed_by("test_race_to_append_at_one_size_has_one_winner")
class ChecksTheSizeThenAppends(DictBackend):
    def append(self, key: str, data: bytes, *, expected_size: int, sync: bool = True) -> None:
        there = self.root.objects.get(key)
        self._check_growth(key, there, expected_size)
        give_way()
        super().append(key, data, expected_size=self.head(key).size if there else 0)


@noticed_by("test_lock_excludes_other_handles")
class LocksForNobody(DictBackend):
    @contextmanager
    def lock(self, folder: str, *, shared: bool = False) -> Iterator[None]:
        yield


@noticed_by("test_lock_excludes_other_handles")
class LocksForItsOwnThreads(DictBackend):
    def lock(self, folder: str, *, shared: bool = False):
        return super().lock(f"{folder}{id(self)}", shared=shared)


@noticed_by("test_exclusive_lock_keeps_shared_ones_out")
class LetsReadersIn(DictBackend):
    def lock(self, folder: str, *, shared: bool = False):
        return super().lock(f"{folder}{shared}", shared=shared)


@noticed_by("test_lock_is_released_by_an_error")
class NeverUnlocksAfterAnError(DictBackend):
    kept: ClassVar[list] = []  # or the garbage collector would unlock

    @contextmanager
    def lock(self, folder: str, *, shared: bool = False) -> Iterator[None]:
        held = super().lock(folder, shared=shared)
        self.kept.append(held)
        held.__enter__()
        yield
        held.__exit__(None, None, None)


class DeafWatch(DictWatch):
    def wait(self, timeout: float) -> bool:
        with self.root.changed:
            self.root.changed.wait_for(lambda: self.closed, timeout)
        return False


@noticed_by("test_watch_wakes_on_a_change_by_another_handle")
class NeverWakes(DictBackend):
    def watch(self, prefix: str) -> DictWatch:
        return DeafWatch(self.root)


class ForgetfulWatch(DictWatch):
    def wait(self, timeout: float) -> bool:
        self.seen = self.root.changes
        return super().wait(timeout)


@noticed_by("test_watch_remembers_a_change_before_the_wait")
class WatchesOnlyWhileItWaits(DictBackend):
    def watch(self, prefix: str) -> DictWatch:
        return ForgetfulWatch(self.root)


class RestlessWatch(DictWatch):
    def wait(self, timeout: float) -> bool:
        return True


@noticed_by("test_watch_sleeps_while_nothing_changes")
class WakesAllTheTime(DictBackend):
    def watch(self, prefix: str) -> DictWatch:
        return RestlessWatch(self.root)
