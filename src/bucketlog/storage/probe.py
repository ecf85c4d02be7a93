"""The capability probe: it tests a backend's claims on scratch keys before any data depends on them.

Some servers and filesystems accept conditions and ignore them, a few only in a race or in a versioned bucket, and their
documentation does not say so. The probe makes about forty requests, once per store and backend.
"""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from bucketlog._version import __version__
from bucketlog.backend import ABSENT, AppendBackend, VersioningBackend
from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BucketlogError,
    CapabilityError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
)
from bucketlog.format.names import SCRATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bucketlog.backend import Backend, Condition, Content, Version
    from bucketlog.clock import Clock

RIVALS = 8

EtagForm = Literal["unquoted", "quoted"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; `finding` completes a sentence that begins with `name`."""

    name: str
    ok: bool
    finding: str
    claimed: bool = True


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of a probe: what a backend proved able to do, when, and which version of bucketlog checked it.

    Attributes:
        backend: The backend's name.
        version: The version of bucketlog.
        checked: The time of the probe, in UTC.
        checks: `exclusive_create`, `compare_and_set`, `ranges`, `list`, `append`, `delete`, in this order.
        etag_form: The form of ETag that the server accepts as a condition; None if the backend has no ETags.
        versioned: Whether the bucket keeps old versions; None if the backend cannot find out.
    """

    backend: str
    version: str
    checked: datetime
    checks: tuple[Check, ...]
    etag_form: EtagForm | None = None
    versioned: bool | None = None

    def check(self, name: str) -> Check:
        """Return a check by its name; a missing one counts as failed."""
        for check in self.checks:
            if check.name == name:
                return check
        return Check(name, ok=False, finding="was not checked", claimed=False)

    def unsafe(self) -> tuple[Check, ...]:
        """Return the failed checks that rule out several writers: those of the conditions."""
        return tuple(check for check in map(self.check, ("exclusive_create", "compare_and_set")) if not check.ok)

    def unusable(self) -> tuple[Check, ...]:
        """Return the failed checks that rule out any use: listings, and ranges and appends if they are claimed."""
        checks = map(self.check, ("list", "ranges", "append"))
        return tuple(check for check in checks if not check.ok and (check.claimed or check.name == "list"))

    def apply(self, backend: Backend) -> None:
        """Configure a backend with the ETag form and the versioning that the probe found."""
        if isinstance(backend, VersioningBackend):
            if self.etag_form is not None:
                backend.etag_form = self.etag_form
            if self.versioned is not None:
                backend.versioned = self.versioned

    def to_json(self) -> dict[str, object]:
        """Return the proof as a JSON object, for `from_json`."""
        return {
            "backend": self.backend,
            "version": self.version,
            "checked": f"{self.checked:%Y-%m-%dT%H:%M:%S.%fZ}",
            "proven": {
                check.name: {"ok": check.ok, "claimed": check.claimed, "finding": check.finding}
                for check in self.checks
            },
            "etag_form": self.etag_form,
            "versioned": self.versioned,
        }

    @classmethod
    def from_json(cls, value: object) -> Proof:
        """Make a proof from its JSON form, ignoring unknown members.

        Raises:
            ValueError: The value does not have that form.
        """
        match value:
            case {
                "backend": str(backend),
                "version": str(version),
                "checked": str(checked),
                "proven": dict(proven),
                "etag_form": "unquoted" | "quoted" | None as etag_form,
                "versioned": bool() | None as versioned,
            }:
                checks = tuple(_check_from_json(name, check) for name, check in proven.items())
                when = datetime.fromisoformat(checked)
                if when.tzinfo is not None:
                    return cls(backend, version, when, checks, etag_form, versioned)
        msg = "not a proof of capabilities"
        raise ValueError(msg)


def probe(backend: Backend, clock: Clock) -> Proof:
    """Test a backend's claims on keys below `.probe/`, which are removed afterwards.

    A failed check is a finding, not an error. The backend is configured with the result (`Proof.apply`).

    Raises:
        BackendUnavailableError: The storage could not be reached.
        AccessDeniedError: The storage refused to read, write or list.
        StorageFullError: The storage is full.
        StoreNotFoundError: The bucket does not exist.
        OutcomeUnknownError: The storage did not answer.
    """
    prober = _Prober(backend, clock.write_id())
    with ThreadPoolExecutor(RIVALS, thread_name_prefix="bucketlog-probe") as pool:
        try:
            checks = prober.run(pool)
        except BaseException:
            with suppress(BucketlogError):  # the first error says more
                prober.clean_up()
            raise
    checks.append(prober.check_delete())
    proof = Proof(backend.name, __version__, clock.now(), tuple(checks), prober.etag_form, prober.versioned)
    proof.apply(backend)
    return proof


def release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparison."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])


# -- who won a race ----------------------------------------------------------------------------------------------------


class _Outcome(NamedTuple):
    """One rival's answer: a `version` if its PUT succeeded, `unclear` if it was neither accepted nor refused."""

    version: Version | None
    unclear: BucketlogError | None = None


class _Race(NamedTuple):
    """The result of several PUTs under one condition: the winner's content, or why there is none."""

    failure: str
    no_winner: bool = False
    content: Content | None = None


def _settle(outcomes: Sequence[_Outcome], payloads: Sequence[bytes], content: Content | None) -> _Race:
    """Find out who won a race from the answers and from the bytes that are stored.

    An unclear answer does not mean that the rival won, and a refusal does not prove that it lost: a client library that
    retries is refused because of its own bytes.
    """
    winners = [number for number, outcome in enumerate(outcomes) if outcome.version is not None]
    if len(winners) > 1:
        return _Race(f"{len(winners)} of {len(outcomes)} rivals got the answer that they had won")
    if content is None or content.data not in payloads:
        if winners:
            return _Race("the winner's bytes are not stored")
        return _Race("none of the rivals won", no_winner=True)
    if winners and content.data != payloads[winners[0]]:
        return _Race("the winner's bytes were overwritten by a rival")
    return _Race("", content=content)


# -- the checks --------------------------------------------------------------------------------------------------------


class _Prober:
    """One run of the probe. Each check returns a description of its failure, or an empty text."""

    def __init__(self, backend: Backend, run_id: str) -> None:
        self.backend = backend
        # All probes share these two folders, so a directory that keeps locks or empty folders keeps only two. And as
        # "-" sorts before "/", a listing that is wrongly sorted folder by folder is detected.
        self.first, self.second = f"{SCRATCH}a-{run_id}", f"{SCRATCH}a/{run_id}"
        self.versions, self.growing = f"{SCRATCH}a-{run_id}.versions", f"{SCRATCH}a/{run_id}.growing"
        self.stored: set[str] = set()
        self.etag_form: EtagForm | None = None
        self.versioned: bool | None = None

    def run(self, pool: ThreadPoolExecutor) -> list[Check]:
        claims = self.backend.capabilities
        self.look_at_versioning()
        steps: list[tuple[str, bool, Callable[[], str]]] = [
            ("exclusive_create", claims.exclusive_create, lambda: self.exclusive_create(pool)),
            ("compare_and_set", claims.compare_and_set, lambda: self.compare_and_set(pool)),
            ("ranges", claims.ranges, self.ranges),
            ("list", True, self.list),
            ("append", claims.append, self.append),
        ]
        return [self._check(name, run, claimed=claimed) for name, claimed, run in steps]

    def _check(self, name: str, run: Callable[[], str], *, claimed: bool) -> Check:
        if not claimed:
            return Check(name, ok=False, finding="is not claimed", claimed=False)
        try:
            failure = run()
        except (CapabilityError, NotFoundError, ConflictError) as err:  # claimed, but refused or not found
            failure = str(err)
        return Check(name, ok=not failure, finding=failure or "works")

    def look_at_versioning(self) -> None:
        if not isinstance(self.backend, VersioningBackend):
            return
        self.versioned = self.backend.put_version_id(self.versions, b"versions\n") is not None
        self.backend.versioned = self.versioned  # else the backend would reject answers with a version id

    def exclusive_create(self, pool: ThreadPoolExecutor) -> str:
        won = b""
        for key in (self.second, self.first):
            race = self._race(pool, key, ABSENT)
            if race.content is None:
                return race.failure + (_VERSIONING if self.versioned else "")
            self.stored.add(key)
            won = race.content.data
        if self._put(self.first, b"again\n", ABSENT).version is not None:
            return "a second create of the same key is accepted"
        if self.backend.get(self.first).data != won:
            return "a second create of the same key is refused, but overwrites it"
        return ""

    def compare_and_set(self, pool: ThreadPoolExecutor) -> str:
        key, stale = self.first, self._content(self.first).version
        version = self._find_form(key, stale)
        if version is None:
            return "the current version is refused as a condition"
        if self._put(key, b"stale\n", stale).version is not None:
            return "a stale version is accepted as a condition"
        return self._race(pool, key, version).failure

    def _find_form(self, key: str, version: Version) -> Version | None:
        """Replace the content, trying each ETag form until one is accepted; return the new version."""
        forms: Sequence[EtagForm | None] = (None,)
        if isinstance(self.backend, VersioningBackend):
            forms = ("unquoted", "quoted")
        for form in forms:
            if form is not None and isinstance(self.backend, VersioningBackend):
                self.backend.etag_form = form
            data = f"fresh {form}\n".encode()
            new = self._put(key, data, version)
            found = new.version
            if found is None and new.unclear:
                content = self.backend.get(key)
                found = content.version if content.data == data else None
            if found is not None:
                self.etag_form = form
                return found
        return None

    def ranges(self) -> str:
        key, data = self.first, self._content(self.first).data
        if self.backend.get(key, 1, 4).data != data[1:4]:
            return "a range in the middle returns other bytes"
        if self.backend.get(key, len(data) - 2, len(data) + 9).data != data[-2:]:
            return "a range past the end returns other bytes"
        return ""

    def list(self) -> str:
        expected = [self.first, self.second]
        for key in expected:
            self._store(key)
        everything = [entry.key for entry in self.backend.list(SCRATCH)]
        if any(not key.startswith(SCRATCH) for key in everything):
            return "keys outside the prefix are listed"
        if not set(expected) <= set(everything):
            return "a key is not listed right after it was stored"
        if everything != sorted(set(everything)):  # keys of other probes may be among them
            return "keys are not listed once each, in ascending order"
        after = {entry.key for entry in self.backend.list(SCRATCH, start_after=self.first)}
        if self.first in after or self.second not in after:
            return "start_after is ignored"
        return ""

    def append(self) -> str:
        backend = self.backend
        if not isinstance(backend, AppendBackend):
            return "is claimed, but its methods are missing"
        key = self.growing
        with backend.lock(key.rpartition("/")[0] + "/"):
            backend.append(key, b"one\n", expected_size=0, sync=False)
            backend.append(key, b"two\n", expected_size=4, sync=False)
            if not self._append_refused(backend, key, expected_size=4):
                return "an append at a stale size is accepted"
            if backend.get(key).data != b"one\ntwo\n":
                return "appended bytes are read back as other bytes"
            backend.seal(key)
            if not backend.is_sealed(key) or not self._append_refused(backend, key, expected_size=8):
                return "a sealed object still grows"
        return ""

    def check_delete(self) -> Check:
        """Clean up; credentials that may write but not delete are enough for a log."""
        try:
            self.clean_up()
        except AccessDeniedError:
            finding = f"is refused: the probe's objects stay below {SCRATCH}, and vacuum cannot remove anything"
            return Check("delete", ok=False, finding=finding)
        return Check("delete", ok=True, finding="works")

    def clean_up(self) -> None:
        self.backend.delete([self.first, self.versions, self.second, self.growing])

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _store(self, key: str) -> None:
        """Store something under a key, unless a check did already."""
        if key not in self.stored:
            self.backend.put(key, b"scratch\n")
            self.stored.add(key)

    def _content(self, key: str) -> Content:
        self._store(key)
        return self.backend.get(key)

    def _put(self, key: str, data: bytes, condition: Condition) -> _Outcome:
        try:
            return _Outcome(self.backend.put(key, data, if_version=condition))
        except ConflictError:
            return _Outcome(None)
        except (OutcomeUnknownError, BackendUnavailableError) as err:
            # Ceph RGW answers some losers of a race with 500, others throttle; reading back finds the winner.
            return _Outcome(None, err)

    def _race(self, pool: ThreadPoolExecutor, key: str, condition: Condition) -> _Race:
        """Let all rivals put at the same moment; repeat once if nobody won."""
        payloads = [f"rival {number}\n".encode() for number in range(RIVALS)]
        race, outcomes = _Race(""), list[_Outcome]()
        for _ in range(2):
            outcomes = list(pool.map(partial(self._rival, key, condition, threading.Barrier(RIVALS)), payloads))
            content: Content | None = None
            with suppress(NotFoundError):
                content = self.backend.get(key)
            race = _settle(outcomes, payloads, content)
            if not race.no_winner:
                return race
        unclear = [outcome.unclear for outcome in outcomes if outcome.unclear is not None]
        if len(unclear) == RIVALS:  # this is not a race: the storage accepts no writes at all
            raise unclear[0]
        return race

    def _rival(self, key: str, condition: Condition, barrier: threading.Barrier, data: bytes) -> _Outcome:
        barrier.wait(timeout=30)
        return self._put(key, data, condition)

    def _append_refused(self, backend: AppendBackend, key: str, *, expected_size: int) -> bool:
        try:
            backend.append(key, b"wrong\n", expected_size=expected_size, sync=False)
        except ConflictError:
            return True
        return False


_VERSIONING = "; the bucket is versioned, and this server ignores conditions in versioned buckets"


def _check_from_json(name: object, value: object) -> Check:
    match name, value:
        case str(known), {"ok": bool(ok), "claimed": bool(claimed), "finding": str(finding)}:
            return Check(known, ok, finding, claimed)
    msg = "not a check of a proof of capabilities"
    raise ValueError(msg)
