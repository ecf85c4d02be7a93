"""Diagnosis: what works at a location, what does not, and what to do about it.

Everything is tried on scratch keys that are removed afterwards, so any location can be diagnosed: one with a store, one
without a store yet, and one that cannot hold a store.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import statistics
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from bucketlog.backend import Backend, find_factory
from bucketlog.clock import SystemClock
from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BucketlogError,
    NotFoundError,
    OutcomeUnknownError,
    StoreNotFoundError,
)
from bucketlog.format.names import SCRATCH
from bucketlog.storage.location import Location, parse, redact
from bucketlog.storage.probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from bucketlog.clock import Clock
    from bucketlog.storage.probe import Proof

Status = Literal["ok", "warn", "fail"]

SKEW_WARN_SECONDS = 30.0
SKEW_FAIL_SECONDS = 600.0  # servers refuse requests that are signed 15 to 20 minutes off
SLOW_SECONDS = 1.0
SAMPLES = 5
SAMPLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: The check's name, for programs, such as `compare_and_set`.
        status: `ok`, `warn` (usable, or could not be checked), or `fail`.
        what: The finding, a sentence without its full stop.
        advice: The next step; empty if there is none.
    """

    name: str
    status: Status
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings about a location.

    Attributes:
        url: The location, without credentials and query.
        backend: The backend's name; empty if it could not be opened.
        checked: The time of the diagnosis by the local clock, in UTC.
        findings: All findings, in the order of the checks; a failure that makes further checks pointless ends the list.
        facts: The server's behaviour in cases where servers differ, by case; empty if the backend does not ask.
    """

    url: str
    backend: str
    checked: datetime
    findings: tuple[Finding, ...]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not any(finding.status == "fail" for finding in self.findings)


def diagnose(
    target: object, *, storage_options: Mapping[str, object] | None = None, clock: Clock | None = None
) -> Diagnosis:
    """Find out what works at a location; a problem is a finding, not an error.

    Args:
        target: A target as for `bucketlog.open`, or a backend, which stays open. A missing directory is not created:
            its nearest existing parent is checked instead.
        storage_options: Options of the backend, as for `bucketlog.open`.
        clock: Time, sleep and randomness, for tests.

    Raises:
        InvalidURLError: The URL cannot be parsed.
        InvalidOptionError: An option is unknown or has an invalid value.
        CapabilityError: A library is missing.
    """
    clock = clock or SystemClock()
    location = parse(target, storage_options, {})
    doctor = _Doctor(clock)
    with contextlib.ExitStack() as stack:
        try:
            backend = stack.enter_context(_opened(location, doctor))
        except OSError as err:  # bucketlog's errors for refused, missing and unreachable are among them
            url, name = redact(location.url), ""
            doctor.add("place", "fail", str(err), "correct the URL, or check the permissions there")
        else:
            name = backend.name
            url = redact(location.url if _is_directory(location) else backend.url)
            if doctor.examine(backend):
                doctor.ask_server(location)
    return Diagnosis(url, name, clock.now(), tuple(doctor.findings), doctor.facts)


# -- opening -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(location: Location, doctor: _Doctor) -> Iterator[Backend]:
    """Open the location; for a directory, open a temporary one inside it, so that no locks or folders remain."""
    with contextlib.ExitStack() as stack:
        if _is_directory(location):
            path = Path(unquote(location.url.removeprefix("file://")))
            there = next(parent for parent in (path, *path.parents) if parent.exists())
            if there != path:
                doctor.add("place", "ok", f"{path} does not exist yet; bucketlog.open creates it (checked in {there})")
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix=".bucketlog-doctor-", dir=there))
            location = Location("file", Path(scratch).as_uri(), location.options)
        backend = location.open_backend(create=True)
        if backend is not location.ready:
            stack.callback(backend.close)
        yield backend


def _is_directory(location: Location) -> bool:
    return location.factory == "file" and location.ready is None


# -- looking -----------------------------------------------------------------------------------------------------------

_OUT_OF_REACH = (BackendUnavailableError, OutcomeUnknownError)
_PERMISSIONS = {
    "may_put": ("put objects", "s3:PutObject"),
    "may_get": ("read objects", "s3:GetObject"),
    "may_list": ("list objects", "s3:ListBucket"),
    "may_delete": ("delete objects", "s3:DeleteObject"),
}
_WORKS = {
    "exclusive_create": "conditional create: one of eight racing writers wins, and nothing is overwritten",
    "compare_and_set": "compare-and-set: one of eight racing writers wins, and a stale version is refused",
    "ranges": "range reads: a range returns exactly its bytes",
    "list": "listing: sorted by key, complete right after a put, and start_after is respected",
    "append": "append: an object grows only at the expected size, and not after it was sealed",
}
_CANNOT_HOLD = "choose another server or backend: this one cannot hold a store"
_ONE_WRITER = "choose another server or backend, or, if only one process ever writes, open with single_writer=True"


class _Doctor:
    """One diagnosis and its findings so far."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.findings: list[Finding] = []
        self.facts: Mapping[str, str] = {}
        self._folder = f"{SCRATCH}doctor-{clock.write_id()}/"
        self._keys = [f"{self._folder}{name}" for name in ("access", "clock", *map(str, range(SAMPLES)))]

    def add(self, name: str, status: Status, what: str, advice: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(name, status, what, advice))

    def examine(self, backend: Backend) -> bool:
        """Check everything that the backend protocol can show; return True if the server could be used."""
        try:
            if not self._access(backend):
                return False
            self._probe(backend)
            for name, look in (("clock", self._skew), ("latency", self._latency)):
                try:
                    look(backend)
                except BucketlogError as err:
                    self.add(name, "warn", f"could not be checked: {err}", "try again")
        finally:
            with suppress(BucketlogError):  # a finding already, from the check of deleting
                backend.delete(self._keys)
        return True

    def ask_server(self, location: Location) -> None:
        """Run the backend's own diagnosis module, if it has one, for what the protocol cannot show."""
        if location.ready is not None:
            return
        package = sys.modules[find_factory(location.factory).__module__].__package__
        name = f"{package}.diagnosis"
        if not package or importlib.util.find_spec(name) is None:
            return
        module: Any = importlib.import_module(name)
        findings, self.facts = module.ask(location.url, location.options, self._folder)
        for finding in findings:
            self.add(*finding)

    # -- access --------------------------------------------------------------------------------------------------------

    def _access(self, backend: Backend) -> bool:
        """Try each action that needs its own permission; return True if enough of them work to continue."""
        key = self._keys[0]
        actions: dict[str, Callable[[], object]] = {
            "may_put": lambda: backend.put(key, b"scratch"),
            "may_get": lambda: backend.get(key),
            "may_list": lambda: next(iter(backend.list(self._folder)), None),
            "may_delete": lambda: backend.delete([key]),
        }
        attempts: dict[str, BucketlogError | None] = {}
        for name, action in actions.items():
            attempts[name] = err = _attempt(action)
            if isinstance(err, _OUT_OF_REACH):
                break  # each other action would time out as well
        if attempts["may_put"] is not None and isinstance(attempts.get("may_get"), NotFoundError):
            attempts["may_get"] = None  # reading is allowed: the put failed, so there is nothing to read
        if not self._reached(attempts):
            return False
        for name, err in attempts.items():
            doing, permission = _PERMISSIONS[name]
            if err is None:
                self.add(name, "ok", f"may {doing}")
            elif isinstance(err, AccessDeniedError) and name == "may_delete":
                what = f"may not {doing}: a log works without, but vacuum cannot remove anything"
                advice = f"allow it ({permission} on S3), and remove the objects that this check left below {SCRATCH}"
                self.add(name, "warn", what, advice)
            elif isinstance(err, AccessDeniedError):
                self.add(name, "fail", f"may not {doing}: {err}", f"allow it ({permission} on S3)")
            else:
                self.add(name, "fail", f"cannot {doing}: {err}", "check the storage")
        return all(attempts[name] is None for name in ("may_put", "may_get", "may_list"))

    def _reached(self, attempts: Mapping[str, BucketlogError | None]) -> bool:
        """Add findings about the server, the bucket and the credentials; return True if all of them work."""
        errors = [err for err in attempts.values() if err is not None]
        for err in errors:
            if "RequestTimeTooSkewed" in str(err):
                self.add("clock", "fail", str(err), "set this machine's clock: the server refuses its signatures")
                return False
            if isinstance(err, StoreNotFoundError):
                self.add("place", "fail", str(err), "create the bucket, or correct the URL")
                return False
            if isinstance(err, _OUT_OF_REACH):
                self.add("server", "fail", str(err), "correct endpoint_url, or check the server and the network")
                return False
        self.add("server", "ok", "the server answers")
        if len(errors) == len(_PERMISSIONS) and all(isinstance(err, AccessDeniedError) for err in errors):
            advice = "use other credentials, or allow these to put, get, list and delete there"
            self.add("credentials", "fail", f"everything is refused: {errors[0]}", advice)
            return False
        self.add("credentials", "ok", "the credentials are accepted")
        return True

    # -- what the probe proves -----------------------------------------------------------------------------------------

    def _probe(self, backend: Backend) -> None:
        try:
            proof = probe(backend, self.clock)
        except BucketlogError as err:
            self.add("probe", "fail", f"conditions, ranges and listings could not be checked: {err}", "fix this first")
            return
        for name, works in _WORKS.items():
            check = proof.check(name)
            if check.ok:
                form = f" (ETags are sent {proof.etag_form})" if name == "compare_and_set" and proof.etag_form else ""
                self.add(name, "ok", works + form)
            elif name == "append" and not check.claimed:
                continue  # each commit is a PUT there
            else:
                self.add(name, "fail", f"{works.partition(':')[0]}: {check.finding}", _advice(name, proof))

    # -- times ---------------------------------------------------------------------------------------------------------

    def _skew(self, backend: Backend) -> None:
        key = self._keys[1]
        before = self.clock.now()
        backend.put(key, b"what time is it?")
        after = self.clock.now()
        seconds = _skew_seconds(before, after, backend.head(key).modified)
        if abs(seconds) < SKEW_WARN_SECONDS:
            self.add(
                "clock", "ok", f"this machine's clock and the server's agree within {max(1, round(abs(seconds)))} s"
            )
            return
        what = f"this machine's clock is {abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead of'} the server's"
        status: Status = "fail" if abs(seconds) >= SKEW_FAIL_SECONDS else "warn"
        self.add("clock", status, what, "synchronize it (NTP): servers refuse requests that are 15 minutes off")

    def _latency(self, backend: Backend) -> None:
        keys, data = self._keys[2:], b"x" * SAMPLE_BYTES
        put = statistics.median([self._seconds(partial(backend.put, key, data)) for key in keys])
        get = statistics.median([self._seconds(partial(backend.get, key)) for key in keys])
        what = f"a put of 4 KiB takes {_duration(put)}, a get {_duration(get)} (median of {SAMPLES})"
        if put < SLOW_SECONDS:
            self.add("latency", "ok", what)
        else:
            self.add("latency", "warn", what, "put more events into each commit (stream.writer), or move closer")

    def _seconds(self, action: Callable[[], object]) -> float:
        begin = self.clock.elapsed_seconds()
        action()
        return self.clock.elapsed_seconds() - begin


def _attempt(action: Callable[[], object]) -> BucketlogError | None:
    try:
        action()
    except BucketlogError as err:
        return err
    return None


def _advice(name: str, proof: Proof) -> str:
    if name not in ("exclusive_create", "compare_and_set"):
        return _CANNOT_HOLD
    return f"use a bucket that never had versioning, or {_ONE_WRITER}" if proof.versioned else _ONE_WRITER


def _skew_seconds(before: datetime, after: datetime, modified: datetime) -> float:
    """Return how far the server's clock is at least ahead of ours, given a PUT between two readings of our clock."""
    if modified > after:
        return (modified - after).total_seconds()
    earliest = before - timedelta(seconds=1)  # servers report whole seconds
    return min(0.0, (modified - earliest).total_seconds())


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
