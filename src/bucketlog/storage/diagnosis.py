"""Diagnosis: what works at a place, what does not, and what to do about it, in words.

All is tried on scratch keys that are removed afterwards, so that it may be asked of any place: where a store is, where
none is yet, and where there cannot be one.
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
    """One thing that was looked at.

    Attributes:
        name: Which, for programs, such as `compare_and_set`.
        status: `ok`, `warn` (it will do, or could not be looked at), or `fail`.
        what: What was found, a sentence without its end.
        advice: What to do; empty where there is nothing.
    """

    name: str
    status: Status
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about a place.

    Attributes:
        url: The place, without credentials and query.
        backend: The backend's name; empty when it could not be opened.
        checked: When, aware UTC, by the local clock.
        findings: In the order in which they were made; what makes the rest pointless is the last one.
        facts: What the server does where servers differ, by case; empty where that cannot be asked.
    """

    url: str
    backend: str
    checked: datetime
    findings: tuple[Finding, ...]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not any(one.status == "fail" for one in self.findings)


def diagnose(
    target: object, *, storage_options: Mapping[str, object] | None = None, clock: Clock | None = None
) -> Diagnosis:
    """Find out what works at a place; what does not is a finding, not an error.

    Args:
        target: What `bucketlog.open` takes, or a backend, which stays open. No directory is left behind: one that is
            missing is tried out in the nearest one that is there.
        storage_options: Options of the backend, as `bucketlog.open` takes them.
        clock: For tests: time, waiting and chance.

    Raises:
        InvalidURLError: The URL cannot be understood.
        InvalidOptionError: An option is not known, or has an impossible value.
        CapabilityError: A library is missing.
    """
    clock = clock or SystemClock()
    location = parse(target, storage_options, {})
    doctor = _Doctor(clock)
    with contextlib.ExitStack() as stack:
        try:
            backend = stack.enter_context(_opened(location, doctor))
        except OSError as err:  # bucketlog's own among them: refused, missing, out of reach
            url, name = redact(location.url), ""
            doctor.add("place", "fail", str(err), "mend the URL, or see to the permissions there")
        else:
            name = backend.name
            url = redact(location.url if _is_directory(location) else backend.url)
            if doctor.examine(backend):
                doctor.ask_server(location)
    return Diagnosis(url, name, clock.now(), tuple(doctor.findings), doctor.facts)


# -- opening -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(location: Location, doctor: _Doctor) -> Iterator[Backend]:
    """Open the place; instead of a directory, one within it that goes away again with its locks and folders."""
    with contextlib.ExitStack() as stack:
        if _is_directory(location):
            path = Path(unquote(location.url.removeprefix("file://")))
            there = next(one for one in (path, *path.parents) if one.exists())
            if there != path:
                doctor.add("place", "ok", f"{path} is not there yet; bucketlog.open makes it (tried out in {there})")
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
    "may_list": ("list them", "s3:ListBucket"),
    "may_delete": ("delete them", "s3:DeleteObject"),
}
_WORKS = {
    "exclusive_create": "conditional create: of eight that race for a key one wins, and none is overwritten",
    "compare_and_set": "compare-and-set: of eight that race to replace a version one wins, and a stale one is refused",
    "ranges": "reading ranges: a range comes back as exactly its bytes",
    "list": "listing: in the order of keys, complete right after a put, and start_after is kept",
    "append": "appending: objects grow, at the size that is expected only, and no more once sealed",
}
_CANNOT_HOLD = "choose another server or backend: this one cannot hold a store"
_ONE_WRITER = "choose another server or backend, or, if only one process ever writes, open with single_writer=True"


class _Doctor:
    """One examination: what was found so far."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.findings: list[Finding] = []
        self.facts: Mapping[str, str] = {}
        self._folder = f"{SCRATCH}doctor-{clock.write_id()}/"
        self._keys = [f"{self._folder}{name}" for name in ("access", "clock", *map(str, range(SAMPLES)))]

    def add(self, name: str, status: Status, what: str, advice: str = "") -> None:
        """Keep a finding."""
        self.findings.append(Finding(name, status, what, advice))

    def examine(self, backend: Backend) -> bool:
        """Look at everything that a backend shows; tell whether its server could be used."""
        try:
            if not self._access(backend):
                return False
            self._probe(backend)
            for name, look in (("clock", self._skew), ("latency", self._latency)):
                try:
                    look(backend)
                except BucketlogError as err:
                    self.add(name, "warn", f"could not look: {err}", "try again")
        finally:
            with suppress(BucketlogError):  # told already, where deleting was tried
                backend.delete(self._keys)
        return True

    def ask_server(self, location: Location) -> None:
        """Have the backend's own module, where it has one for this, ask what the protocol does not show."""
        if location.ready is not None:
            return
        package = sys.modules[find_factory(location.factory).__module__].__package__
        name = f"{package}.diagnosis"
        if not package or importlib.util.find_spec(name) is None:
            return
        module: Any = importlib.import_module(name)
        findings, self.facts = module.ask(location.url, location.options, self._folder)
        for one in findings:
            self.add(*one)

    # -- access --------------------------------------------------------------------------------------------------------

    def _access(self, backend: Backend) -> bool:
        """Try what needs a permission of its own; tell whether enough of it works to go on."""
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
                break  # each of the others would wait as long
        if attempts["may_put"] is not None and isinstance(attempts.get("may_get"), NotFoundError):
            attempts["may_get"] = None  # an answer: it would be read if it were there
        if not self._reached(attempts):
            return False
        for name, err in attempts.items():
            doing, permission = _PERMISSIONS[name]
            if err is None:
                self.add(name, "ok", f"may {doing}")
            elif isinstance(err, AccessDeniedError) and name == "may_delete":
                what = f"may not {doing}: a log does without, but vacuum will remove nothing"
                advice = f"allow it ({permission} on S3), and remove what this trial leaves under {SCRATCH}"
                self.add(name, "warn", what, advice)
            elif isinstance(err, AccessDeniedError):
                self.add(name, "fail", f"may not {doing}: {err}", f"allow it ({permission} on S3)")
            else:
                self.add(name, "fail", f"cannot {doing}: {err}", "see to the storage")
        return all(attempts[name] is None for name in ("may_put", "may_get", "may_list"))

    def _reached(self, attempts: Mapping[str, BucketlogError | None]) -> bool:
        """Say whether there is a server, a place and somebody whom it knows."""
        errors = [err for err in attempts.values() if err is not None]
        for err in errors:
            if "RequestTimeTooSkewed" in str(err):
                self.add("clock", "fail", str(err), "set this machine's clock: the server refuses what it signs")
                return False
            if isinstance(err, StoreNotFoundError):
                self.add("place", "fail", str(err), "make the bucket, or mend the URL")
                return False
            if isinstance(err, _OUT_OF_REACH):
                self.add("server", "fail", str(err), "mend endpoint_url, or see to the server and the network")
                return False
        self.add("server", "ok", "the server answers")
        if len(errors) == len(_PERMISSIONS) and all(isinstance(err, AccessDeniedError) for err in errors):
            advice = "give other credentials, or allow these to put, get, list and delete there"
            self.add("credentials", "fail", f"everything is refused: {errors[0]}", advice)
            return False
        self.add("credentials", "ok", "the credentials are taken")
        return True

    # -- what the probe proves -----------------------------------------------------------------------------------------

    def _probe(self, backend: Backend) -> None:
        try:
            proof = probe(backend, self.clock)
        except BucketlogError as err:
            self.add("probe", "fail", f"conditions, ranges and listings could not be tried: {err}", "see to this first")
            return
        for name, works in _WORKS.items():
            check = proof.check(name)
            if check.ok:
                form = f" (ETags are sent {proof.etag_form})" if name == "compare_and_set" and proof.etag_form else ""
                self.add(name, "ok", works + form)
            elif name == "append" and not check.claimed:
                continue  # commits are puts there
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
            self.add("clock", "ok", f"the clocks here and there agree to within {max(1, round(abs(seconds)))} s")
            return
        what = f"the clock here is {abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead of'} the server's"
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
            self.add("latency", "warn", what, "gather events into few commits (stream.writer), or move closer")

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
    return f"use a bucket that never had versioning; else {_ONE_WRITER}" if proof.versioned else _ONE_WRITER


def _skew_seconds(before: datetime, after: datetime, modified: datetime) -> float:
    """Return how far the server's clock is ahead of ours, as far as a put between two looks at ours can tell."""
    if modified > after:
        return (modified - after).total_seconds()
    earliest = before - timedelta(seconds=1)  # servers tell whole seconds
    return min(0.0, (modified - earliest).total_seconds())


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
