"""The probe believes what it sees: honest backends pass, and each wrong one fails a check of its own."""

import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import orjson
import pytest

from bucketlog.backend import ABSENT, ANY, Backend, Capabilities, Content, Entry, Stat
from bucketlog.clock import SystemClock
from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    CapabilityError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
)
from bucketlog.storage.probe import RIVALS, Proof, probe, release
from bucketlog_backends.memory import open_memory


class DictBackend:
    """A correct backend where a commit is one PUT. The wrong ones below change one thing each."""

    name = "dict"
    url = "dict://here"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.objects: dict[str, Content] = {}
        self.requests: Counter[str] = Counter()
        self.lock = threading.RLock()
        self._versions = count(1)

    def get(self, key, start=0, end=None):
        self.requests["get"] += 1
        with self.lock:
            if key not in self.objects:
                raise NotFoundError(key)
            data, version = self.objects[key]
        return Content(data[start:end], version)

    def head(self, key):
        data, version = self.get(key)
        return Stat(len(data), version, datetime.now(UTC))

    def put(self, key, data, *, if_version=ANY):
        with self.lock:
            self.requests["put"] += 1
            self.check(key, if_version)
            return self.write(key, data)

    def check(self, key, if_version):
        there = self.objects.get(key)
        if if_version is ABSENT and there is not None:
            raise ConflictError(key)
        if isinstance(if_version, str) and (there is None or there.version != if_version):
            raise ConflictError(key)

    def write(self, key, data):
        version = f"v{next(self._versions)}"
        self.objects[key] = Content(data, version)
        return version

    def list(self, prefix, *, start_after="", delimiter=False):
        self.requests["list"] += 1
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > start_after:
                yield Entry(key, len(self.objects[key].data))

    def delete(self, keys):
        self.requests["delete"] += 1
        for key in keys:
            self.objects.pop(key, None)

    def close(self):
        pass


class VersioningDict(DictBackend):
    """A server that accepts only one form of ETag, or ignores conditions in a versioned bucket."""

    takes = ("unquoted", "quoted")
    version_id: str | None = None
    ignores_conditions = False

    def __init__(self) -> None:
        super().__init__()
        self.etag_form = "unquoted"
        self.versioned = False

    def check(self, key, if_version):
        if self.ignores_conditions:
            return
        if isinstance(if_version, str) and self.etag_form not in self.takes:
            raise ConflictError(key)
        super().check(key, if_version)

    def put_version_id(self, key, data):
        self.put(key, data)
        return self.version_id


def checks_of(backend: Backend) -> dict[str, bool]:
    return {check.name: check.ok for check in probe(backend, SystemClock()).checks}


def failed(backend: Backend) -> set[str]:
    return {name for name, ok in checks_of(backend).items() if not ok}


# -- honest backends ---------------------------------------------------------------------------------------------------


def test_an_honest_backend_passes_every_check_that_it_claims():
    proof = probe(DictBackend(), SystemClock())

    assert [check.name for check in proof.checks if check.ok] == [
        "exclusive_create",
        "compare_and_set",
        "ranges",
        "list",
        "delete",
    ]
    assert not proof.check("append").claimed
    assert not proof.unsafe()
    assert not proof.unusable()


def test_a_backend_whose_objects_grow_passes_the_append_check_too():
    backend = open_memory("memory://probe-append", {}, create=True)

    assert failed(backend) == set()


def test_the_probe_costs_at_most_forty_requests():
    backend = VersioningDict()

    probe(backend, SystemClock())

    assert backend.requests.total() <= 40
    assert backend.requests["put"] >= 3 * RIVALS


def test_the_probe_removes_all_its_objects():
    backend = open_memory("memory://probe-clean", {}, create=True)
    backend.put("streams/x", b"mine")

    probe(backend, SystemClock())

    assert [entry.key for entry in backend.list("")] == ["streams/x"]


def test_two_probes_at_once_do_not_disturb_each_other():
    backend = open_memory("memory://probe-twice", {}, create=True)
    found: list[set[str]] = []
    threads = [threading.Thread(target=lambda: found.append(failed(backend))) for _ in range(3)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [set()] * 3


# -- conditions that do not hold ---------------------------------------------------------------------------------------


class OverwritesOnAbsent(DictBackend):
    def check(self, key, if_version):
        if if_version is not ABSENT:
            super().check(key, if_version)


class ChecksThenWrites(DictBackend):
    """Correct for sequential PUTs: only a race to create shows the fault."""

    def __init__(self) -> None:
        super().__init__()
        self.between = threading.Barrier(2)
        self.conditional = 0

    def put(self, key, data, *, if_version=ANY):
        self.check(key, if_version)
        if self.takes_its_time(if_version):
            with suppress(threading.BrokenBarrierError):
                self.between.wait(timeout=1)
        return self.write(key, data)

    def takes_its_time(self, if_version):
        return if_version is ABSENT


class ChecksVersionThenWrites(ChecksThenWrites):
    """Correct except in a race to replace, which the probe runs after checking the right and a stale version."""

    def put(self, key, data, *, if_version=ANY):
        if isinstance(if_version, str):
            self.conditional += 1
            return super().put(key, data, if_version=if_version)
        return DictBackend.put(self, key, data, if_version=if_version)

    def takes_its_time(self, if_version):
        return self.conditional > 2


class OverwritesWhileRefusing(DictBackend):
    def check(self, key, if_version):
        if if_version is ABSENT and key in self.objects:
            self.write(key, b"lost")
        super().check(key, if_version)


class LosersOverwrite(DictBackend):
    """Answers correctly, but writes anyway."""

    def put(self, key, data, *, if_version=ANY):
        try:
            return super().put(key, data, if_version=if_version)
        except ConflictError:
            self.write(key, data)
            raise


class ForgetsKeysLater(DictBackend):
    """Correct in races, but accepts a later create."""

    def check(self, key, if_version):
        if if_version is not ABSENT or self.requests["put"] <= 2 * RIVALS:
            super().check(key, if_version)


class IgnoresVersions(DictBackend):
    def check(self, key, if_version):
        if not isinstance(if_version, str):
            super().check(key, if_version)


class RefusesEveryVersion(DictBackend):
    def check(self, key, if_version):
        if isinstance(if_version, str):
            raise ConflictError(key)
        super().check(key, if_version)


@pytest.mark.parametrize(
    ("wrong", "check", "finding"),
    [
        (OverwritesOnAbsent, "exclusive_create", "8 of 8 rivals"),
        (ChecksThenWrites, "exclusive_create", "2 of 8 rivals"),
        (OverwritesWhileRefusing, "exclusive_create", "bytes are not stored"),
        (LosersOverwrite, "exclusive_create", "overwritten by a rival"),
        (ForgetsKeysLater, "exclusive_create", "a second create of the same key is accepted"),
        (IgnoresVersions, "compare_and_set", "a stale version is accepted"),
        (ChecksVersionThenWrites, "compare_and_set", "rivals got the answer"),
        (RefusesEveryVersion, "compare_and_set", "is refused as a condition"),
    ],
)
def test_a_condition_that_does_not_hold_is_found_out(wrong, check, finding):
    proof = probe(wrong(), SystemClock())

    assert [check.name for check in proof.unsafe()] == [check]
    assert finding in proof.check(check).finding


def test_a_refused_second_create_that_overwrites_is_found_out():
    class OverwritesLater(DictBackend):
        """Correct in the race, but refuses a later condition that holds."""

        def check(self, key, if_version):
            there = self.objects.get(key)
            if if_version is ABSENT and there and self.requests["put"] > 2 * RIVALS:
                self.write(key, b"lost")
            super().check(key, if_version)

    proof = probe(OverwritesLater(), SystemClock())

    assert "refused, but overwrites it" in proof.check("exclusive_create").finding


def test_what_is_not_claimed_is_not_tried():
    class Plain(DictBackend):
        capabilities = Capabilities(exclusive_create=False, compare_and_set=False, ranges=False)

        def check(self, key, if_version):
            if if_version is not ANY:
                pytest.fail("a condition that is not claimed was used")

    proof = probe(Plain(), SystemClock())

    assert [check.name for check in proof.unsafe()] == ["exclusive_create", "compare_and_set"]
    assert not proof.unusable()
    assert {check.finding for check in proof.unsafe()} == {"is not claimed"}


def test_a_claim_that_the_backend_itself_refuses_is_a_failed_check():
    class Disclaims(DictBackend):
        def check(self, key, if_version):
            if if_version is ABSENT:
                raise CapabilityError("mode='create' is ignored here")

    assert probe(Disclaims(), SystemClock()).check("exclusive_create").finding == "mode='create' is ignored here"


# -- answers that are unclear ------------------------------------------------------------------------------------------


class AnswersLosersWith500(DictBackend):
    def check(self, key, if_version):
        try:
            super().check(key, if_version)
        except ConflictError as err:
            raise OutcomeUnknownError(key) from err


class ThrottlesLosers(DictBackend):
    def check(self, key, if_version):
        try:
            super().check(key, if_version)
        except ConflictError as err:
            raise BackendUnavailableError(key) from err


class LosesTheAnswerOfEveryWinner(DictBackend):
    def put(self, key, data, *, if_version=ANY):
        version = super().put(key, data, if_version=if_version)
        if if_version is not ANY:
            raise OutcomeUnknownError(key)
        return version


class TellsEveryWinnerThatItLost(DictBackend):
    """Answers like a client that retries and is refused because of its own bytes; compare-and-set answers clearly."""

    def put(self, key, data, *, if_version=ANY):
        version = super().put(key, data, if_version=if_version)
        if if_version is ABSENT:
            raise ConflictError(key)
        return version


class AnswersTheFirstRaceWith409(DictBackend):
    """All rivals block each other, and none of them wins."""

    def put(self, key, data, *, if_version=ANY):
        with self.lock:
            self.requests["put"] += 1
            if self.requests["put"] <= RIVALS:
                raise ConflictError(key)
            self.requests["put"] -= 1
            return super().put(key, data, if_version=if_version)


@pytest.mark.parametrize(
    "unclear",
    [
        AnswersLosersWith500,
        ThrottlesLosers,
        LosesTheAnswerOfEveryWinner,
        TellsEveryWinnerThatItLost,
        AnswersTheFirstRaceWith409,
    ],
)
def test_an_unclear_answer_is_settled_by_reading_back(unclear):
    assert not probe(unclear(), SystemClock()).unsafe()


def test_storage_where_no_rival_ever_wins_fails():
    class NobodyWins(DictBackend):
        def check(self, key, if_version):
            if if_version is ABSENT:
                raise ConflictError(key)

    assert probe(NobodyWins(), SystemClock()).check("exclusive_create").finding == "none of the rivals won"


# -- ETag forms and versioning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("takes", "form"), [(("unquoted",), "unquoted"), (("quoted",), "quoted"), (("unquoted", "quoted"), "unquoted")]
)
def test_the_etag_form_that_the_server_takes_is_set_on_the_backend(takes, form):
    backend = VersioningDict()
    backend.takes = takes

    proof = probe(backend, SystemClock())

    assert (proof.etag_form, backend.etag_form) == (form, form)
    assert not proof.unsafe()


def test_a_server_that_takes_no_etag_form_cannot_compare_and_set():
    backend = VersioningDict()
    backend.takes = ()

    proof = probe(backend, SystemClock())

    assert proof.etag_form is None
    assert [check.name for check in proof.unsafe()] == ["compare_and_set"]


def test_a_versioned_bucket_that_keeps_conditions_is_fine():
    backend = VersioningDict()
    backend.version_id = "3sL4kqtJlcpXroDTDmJ"

    proof = probe(backend, SystemClock())

    assert proof.versioned
    assert backend.versioned
    assert not proof.unsafe()


def test_a_versioned_bucket_that_ignores_conditions_is_named_as_the_reason():
    backend = VersioningDict()
    backend.version_id, backend.ignores_conditions = "null", True

    proof = probe(backend, SystemClock())

    assert "8 of 8 rivals" in proof.check("exclusive_create").finding
    assert "versioned" in proof.check("exclusive_create").finding


def test_a_proof_is_applied_to_another_handle():
    first, second = VersioningDict(), VersioningDict()
    first.takes, first.version_id = ("quoted",), "1"

    probe(first, SystemClock()).apply(second)

    assert (second.etag_form, second.versioned) == ("quoted", True)


def test_a_proof_that_says_nothing_about_versions_changes_nothing():
    backend = VersioningDict()
    backend.etag_form, backend.versioned = "quoted", True

    probe(DictBackend(), SystemClock()).apply(backend)

    assert (backend.etag_form, backend.versioned) == ("quoted", True)


# -- reading, listing, appending, deleting -----------------------------------------------------------------------------


class ListsByFolder(DictBackend):
    """Lists level by level, like a walk over directories."""

    def list(self, prefix, *, start_after="", delimiter=False):
        entries = super().list(prefix, start_after=start_after)
        return iter(sorted(entries, key=lambda entry: entry.key.split("/")))


class ForgetsNewest(DictBackend):
    def list(self, prefix, *, start_after="", delimiter=False):
        return iter([*super().list(prefix, start_after=start_after)][:-1])


class IgnoresStartAfter(DictBackend):
    def list(self, prefix, *, start_after="", delimiter=False):
        return super().list(prefix)


class ListsEverything(DictBackend):
    def __init__(self) -> None:
        super().__init__()
        self.write("other/key", b"")

    def list(self, prefix, *, start_after="", delimiter=False):
        return super().list("", start_after=start_after)


class IgnoresRanges(DictBackend):
    def get(self, key, start=0, end=None):
        return super().get(key)


class ShortensRangesOverTheEnd(DictBackend):
    def get(self, key, start=0, end=None):
        content = super().get(key, start, end)
        return content if end is None or (end < 20 - 3 and end - start < 5) else Content(b"", content.version)


@pytest.mark.parametrize(
    ("wrong", "check", "finding"),
    [
        (ListsByFolder, "list", "ascending order"),
        (ForgetsNewest, "list", "not listed right after"),
        (IgnoresStartAfter, "list", "start_after"),
        (ListsEverything, "list", "outside the prefix"),
        (IgnoresRanges, "ranges", "in the middle"),
        (ShortensRangesOverTheEnd, "ranges", "past the end"),
    ],
)
def test_a_wrong_read_makes_the_storage_unusable(wrong, check, finding):
    proof = probe(wrong(), SystemClock())

    assert [check.name for check in proof.unusable()] == [check]
    assert finding in proof.check(check).finding


class GrowingBackend:
    """The memory backend with one method replaced."""

    def __new__(cls, name, **replaced):
        backend = open_memory(f"memory://{name}", {}, create=True)
        for method, replacement in replaced.items():
            setattr(backend, method, replacement(getattr(backend, method)))
        return backend


def test_an_append_that_ignores_the_size_makes_the_storage_unusable():
    def ignoring(append):
        def call(key, data, *, expected_size, sync=True):
            with suppress(ConflictError):
                append(key, data, expected_size=expected_size, sync=sync)

        return call

    proof = probe(GrowingBackend("probe-sizes", append=ignoring), SystemClock())

    assert [check.name for check in proof.unusable()] == ["append"]
    assert "at a stale size" in proof.check("append").finding


def test_a_seal_that_does_not_hold_makes_the_storage_unusable():
    proof = probe(GrowingBackend("probe-seals", seal=lambda seal: lambda key: None), SystemClock())

    assert proof.check("append").finding == "a sealed object still grows"


def test_appends_that_come_back_as_other_bytes_make_the_storage_unusable():
    def shouting(append):
        return lambda key, data, **rest: append(key, data.upper(), **rest)

    proof = probe(GrowingBackend("probe-bytes", append=shouting), SystemClock())

    assert proof.check("append").finding == "appended bytes are read back as other bytes"


def test_a_claim_to_append_without_the_methods_fails():
    class Boasts(DictBackend):
        capabilities = Capabilities(append=True)

    assert "its methods are missing" in probe(Boasts(), SystemClock()).check("append").finding


def test_credentials_that_may_not_delete_are_good_enough():
    class KeepsEverything(DictBackend):
        def delete(self, keys):
            raise AccessDeniedError("no s3:DeleteObject")

    proof = probe(KeepsEverything(), SystemClock())

    assert not proof.check("delete").ok
    assert not proof.unsafe()
    assert not proof.unusable()


# -- failures of the storage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AccessDeniedError, BackendUnavailableError, KeyboardInterrupt])
def test_a_storage_that_fails_is_an_error_and_what_was_written_is_removed(error):
    class FailsOnListing(DictBackend):
        def list(self, prefix, *, start_after="", delimiter=False):
            raise error("no listing")

    backend = FailsOnListing()

    with pytest.raises(error, match="no listing"):
        probe(backend, SystemClock())

    assert backend.requests["delete"] == 1
    assert not backend.objects


def test_the_first_error_is_the_one_that_is_raised():
    class FailsAllOver(DictBackend):
        def list(self, prefix, *, start_after="", delimiter=False):
            raise BackendUnavailableError("first")

        def delete(self, keys):
            raise BackendUnavailableError("second")

    with pytest.raises(BackendUnavailableError, match="first"):
        probe(FailsAllOver(), SystemClock())


@pytest.mark.parametrize("error", [BackendUnavailableError, OutcomeUnknownError])
def test_storage_that_accepts_no_writes_raises_its_error(error):
    class TakesNoWrites(DictBackend):
        def put(self, key, data, *, if_version=ANY):
            raise error("come back later")

    with pytest.raises(error, match="come back later"):
        probe(TakesNoWrites(), SystemClock())


# -- as JSON -----------------------------------------------------------------------------------------------------------


def test_a_proof_survives_json():
    backend = VersioningDict()
    backend.version_id, backend.takes = "1", ("quoted",)
    proof = probe(backend, SystemClock())

    assert Proof.from_json(orjson.loads(orjson.dumps(proof.to_json()))) == proof


def test_members_of_a_newer_proof_are_left_out():
    value = probe(DictBackend(), SystemClock()).to_json() | {"atomic_rename": True}

    assert Proof.from_json(value).to_json() == {name: value[name] for name in value if name != "atomic_rename"}


@pytest.mark.parametrize(
    "change",
    [
        {"backend": 1},
        {"version": None},
        {"checked": "yesterday"},
        {"checked": "2026-01-01T00:00:00"},
        {"proven": []},
        {"proven": {"list": True}},
        {"proven": {"list": {"ok": 1, "claimed": True, "finding": ""}}},
        {"etag_form": "strong"},
        {"versioned": 1},
    ],
)
def test_what_is_not_a_proof_is_refused(change):
    value = probe(DictBackend(), SystemClock()).to_json()

    with pytest.raises(ValueError, match=r"not a proof|not a check|isoformat"):
        Proof.from_json(value | change)


def test_a_check_that_was_never_made_counts_as_failed():
    proof = replace(probe(DictBackend(), SystemClock()), checks=())

    assert [check.name for check in proof.unsafe()] == ["exclusive_create", "compare_and_set"]
    assert [check.name for check in proof.unusable()] == ["list"]


@pytest.mark.parametrize(
    ("older", "newer"), [("0.1.0", "0.1.1"), ("0.9.0", "0.10.0"), ("0.1.0+local.7", "0.2.0"), ("0.1", "0.1.1")]
)
def test_releases_are_ordered_by_their_numbers(older, newer):
    assert release(older) < release(newer)
