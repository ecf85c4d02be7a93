"""What a server does where servers differ, measured with requests of its own rather than with bucketlog."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from unittest import mock

from botocore import auth
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .server import Server

RIVALS, ROUNDS = 8, 12
CREATE_RACE = f"PUT If-None-Match: *, {RIVALS}-way race"
CREATE_RACE_VERSIONED = "the same in a versioned bucket"
COMPLETE = "CompleteMultipartUpload If-None-Match: *"
IF_MATCH_QUOTED = "PUT If-Match, quoted ETag"
IF_MATCH_UNQUOTED = "PUT If-Match, unquoted ETag"
IF_MATCH_LONGER = "PUT If-Match, the ETag and more"
SWAP_RACE = f"compare-and-set, {RIVALS}-way race"
SWAP_LOSERS = "loser of a compare-and-set race"
DELETE = "conditional DELETE"
COPY = "conditional COPY"
FOLDER = "keys `a` and `a/b` together"
LONG_PART = "a path part of 256 bytes"
LONG_KEY = "a key of 1025 bytes"
CLOCK = "client clock 20 minutes off"
LIST = "list order, start-after"

RIGHT, IGNORED, ONE_WINNER, ALL_WIN = "right", "ignored", "one winner", "ignored: all win"
FINE, ACCEPTED, REFUSED, NOT_LISTED = "fine", "accepted", "refused", "`a/b` never listed"
NOT_MEASURED = "-"


@dataclass(frozen=True)
class _Answer:
    """How one request went: an HTTP status, and the ETag when it was taken."""

    status: int
    etag: str = ""

    @property
    def taken(self) -> bool:
        return self.status < 300


def measure(server: Server) -> dict[str, str]:
    """Return what was found for each case. Cases that need a bucket of their own are left out on a server not ours."""
    measured = _Measured(server)
    facts = {
        CREATE_RACE: measured.create_race(server.bucket),
        CREATE_RACE_VERSIONED: measured.create_race_versioned() if server.ours else NOT_MEASURED,
        COMPLETE: measured.complete(),
        IF_MATCH_QUOTED: measured.if_match('"{}"'),
        IF_MATCH_UNQUOTED: measured.if_match("{}"),
        IF_MATCH_LONGER: measured.if_match_longer(),
        SWAP_RACE: "",
        SWAP_LOSERS: "",
        DELETE: measured.delete(),
        COPY: measured.copy(),
        FOLDER: measured.folder(),
        LONG_PART: measured.accepts(f"{measured.base}{'p' * 256}"),
        LONG_KEY: measured.accepts(measured.key_of(1025)),
        CLOCK: measured.clock(),
        LIST: measured.listing(),
    }
    form = "{}" if facts[IF_MATCH_UNQUOTED] == RIGHT else '"{}"'
    facts[SWAP_RACE], facts[SWAP_LOSERS] = measured.swap_race(form)
    server.remove(measured.folder_name)
    return facts


def table(columns: dict[str, dict[str, str]]) -> Iterator[str]:
    """Yield the lines of a table with a column for each server, in Markdown."""
    cases = list(dict.fromkeys(case for facts in columns.values() for case in facts))
    rows = [["case", *columns], *([case, *(facts[case] for facts in columns.values())] for case in cases)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"


class _Measured:
    """The cases, on keys below a folder that is new."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = server.client()
        self.folder_name = f"facts-{uuid.uuid4()}"
        self.base = f"{server.prefix}{self.folder_name}/"
        self._numbers = iter(range(1_000_000))

    # -- races ---------------------------------------------------------------------------------------------------------

    def create_race(self, bucket: str) -> str:
        """Let rivals create the same key: one winner, whose bytes are there, is what a log needs."""
        worst: set[str] = set()
        for _ in range(ROUNDS):
            key = self.new_key()
            answers = self.race(lambda data, key=key: self.put(key, data, bucket=bucket, IfNoneMatch="*"))
            worst.add(self._verdict(bucket, key, answers))
        return _worst(worst)

    def create_race_versioned(self) -> str:
        """The same, in a new bucket that keeps versions."""
        bucket = f"bucketlog-{uuid.uuid4()}"
        self.client.create_bucket(Bucket=bucket)
        self.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return self.create_race(bucket)

    def swap_race(self, form: str) -> tuple[str, str]:
        """Let rivals replace the same version; return the verdict, and what losers were told."""
        worst: set[str] = set()
        told: Counter[int] = Counter()
        for _ in range(ROUNDS):
            key = self.new_key()
            condition = form.format(self.put(key, b"before").etag)
            answers = self.race(lambda data, key=key, condition=condition: self.put(key, data, IfMatch=condition))
            worst.add(self._verdict(self.server.bucket, key, answers))
            told.update(answer.status for answer in answers.values() if not answer.taken)
        return _worst(worst), ", sometimes ".join(str(status) for status, _ in told.most_common())

    def race(self, put: Callable[[bytes], _Answer]) -> dict[bytes, _Answer]:
        """Have all rivals put at the same moment, each its own bytes."""
        barrier = threading.Barrier(RIVALS)

        def rival(data: bytes) -> _Answer:
            barrier.wait(30)
            return put(data)

        payloads = [f"rival {number}".encode() for number in range(RIVALS)]
        with ThreadPoolExecutor(RIVALS) as pool:
            return dict(zip(payloads, pool.map(rival, payloads), strict=True))

    def _verdict(self, bucket: str, key: str, answers: dict[bytes, _Answer]) -> str:
        winners = [data for data, answer in answers.items() if answer.taken]
        there = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        if len(winners) == RIVALS:
            return ALL_WIN
        if len(winners) != 1:
            return f"{len(winners)} winners"
        return ONE_WINNER if winners == [there] else "the winner's bytes are lost"

    # -- conditions ----------------------------------------------------------------------------------------------------

    def if_match(self, form: str) -> str:
        """Replace under the ETag that is there, then under one that is gone."""
        key = self.new_key()
        stale = self.put(key, b"first").etag
        fresh = self.put(key, b"second", IfMatch=form.format(stale))
        late = self.put(key, b"third", IfMatch=form.format(stale))
        if fresh.taken:
            return IGNORED if late.taken else RIGHT
        return f"{fresh.status} always"

    def if_match_longer(self) -> str:
        """Replace under a text that only begins with the ETag that is there."""
        key = self.new_key()
        return ACCEPTED if self.put(key, b"second", IfMatch=f"{self.put(key, b'first').etag}0").taken else REFUSED

    def complete(self) -> str:
        """Complete an upload to a key that is taken, under the condition that it is free."""
        key = self.new_key()
        self.put(key, b"there")
        place = {"Bucket": self.server.bucket, "Key": key}
        upload = {**place, "UploadId": self.client.create_multipart_upload(**place)["UploadId"]}
        part = self.client.upload_part(**upload, PartNumber=1, Body=b"part")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        done = self.ask(lambda: self.client.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*"))
        return self._refused(done, kept=self.client.get_object(**place)["Body"].read() == b"there")

    def delete(self) -> str:
        """Delete under an ETag that is not the key's."""
        key = self.new_key()
        self.put(key, b"there")
        done = self.ask(lambda: self.client.delete_object(Bucket=self.server.bucket, Key=key, IfMatch=f'"{"0" * 32}"'))
        return self._refused(done, kept=self.exists(key))

    def copy(self) -> str:
        """Copy to a key that is taken, under the condition that it is free."""
        source, key = self.new_key(), self.new_key()
        self.put(source, b"source")
        self.put(key, b"there")
        place = {"Bucket": self.server.bucket, "Key": key}
        come_from = {"Bucket": self.server.bucket, "Key": source}
        done = self.ask(lambda: self.client.copy_object(**place, CopySource=come_from, IfNoneMatch="*"))
        return self._refused(done, kept=self.client.get_object(**place)["Body"].read() == b"there")

    def _refused(self, answer: _Answer, *, kept: bool) -> str:
        if kept:
            return RIGHT if answer.status in (409, 412) else f"{answer.status}, nothing done"
        return IGNORED if answer.taken else f"{answer.status}, yet done"

    # -- keys ----------------------------------------------------------------------------------------------------------

    def folder(self) -> str:
        """Use a key that is also another key's folder."""
        key = self.new_key()
        self.put(key, b"a")
        below = self.put(f"{key}/b", b"b")
        if not below.taken:
            return str(below.status)
        return FINE if {key, f"{key}/b"} <= set(self.listed()) else NOT_LISTED

    def accepts(self, key: str) -> str:
        """Put under a key that may be too long."""
        return ACCEPTED if self.put(key, b"bytes").taken else REFUSED

    def key_of(self, size: int) -> str:
        """Return a key of so many bytes whose parts are all of ordinary length."""
        key = self.base + f"{'k' * 200}/" * (size // 200)
        return key[: size - 1] + "k"

    def listing(self) -> str:
        """List names whose order folders, signs and letter case could upset, a page and a start at a time."""
        folder = f"{self.new_key()}/"
        keys = sorted(folder + name for name in ("-", "A", "B/a", "a-b", "a.b", "a/b", "a/c", "a0", "b%2F", "z"))
        for key in keys:
            self.put(key, b"bytes")
        found = self.listed(folder, page=3)
        if found != keys:
            return "wrong order" if set(found) == set(keys) else "not all are listed"
        starts = [*keys, folder + "a,", folder + "a/", folder + "zz"]
        if any(self.listed(folder, after=start) != [key for key in keys if key > start] for start in starts):
            return "start-after is not kept"
        return RIGHT

    def listed(self, prefix: str | None = None, *, after: str = "", page: int = 1000) -> list[str]:
        """Return the keys below a prefix, as the server orders them."""
        asked = {"Bucket": self.server.bucket, "Prefix": self.base if prefix is None else prefix, "StartAfter": after}
        pages = self.client.get_paginator("list_objects_v2").paginate(**asked, PaginationConfig={"PageSize": page})
        return [entry["Key"] for answer in pages for entry in answer.get("Contents", ())]

    # -- requests ------------------------------------------------------------------------------------------------------

    def clock(self) -> str:
        """Sign a request as a client does whose clock is 20 minutes slow."""
        slow = auth.get_current_datetime() - timedelta(minutes=20)
        with mock.patch.object(auth, "get_current_datetime", return_value=slow):
            answer = self.put(self.new_key(), b"bytes")
        return ACCEPTED if answer.taken else str(answer.status)

    def new_key(self) -> str:
        """Return a key that was not used."""
        return f"{self.base}{next(self._numbers):06}"

    def put(self, key: str, data: bytes, *, bucket: str = "", **condition: str) -> _Answer:
        """Put an object, perhaps under a condition."""
        place = {"Bucket": bucket or self.server.bucket, "Key": key}
        return self.ask(lambda: self.client.put_object(**place, Body=data, **condition))

    def exists(self, key: str) -> bool:
        """Tell whether a key is there."""
        return self.ask(lambda: self.client.head_object(Bucket=self.server.bucket, Key=key)).taken

    def ask(self, request: Callable[[], dict[str, object]]) -> _Answer:
        """Send a request and return how it went, refused or not."""
        try:
            answer = request()
        except ClientError as err:
            return _Answer(err.response["ResponseMetadata"]["HTTPStatusCode"])
        return _Answer(answer["ResponseMetadata"]["HTTPStatusCode"], str(answer.get("ETag", "")).strip('"'))


def _worst(verdicts: Iterable[str]) -> str:
    wrong = sorted(set(verdicts) - {ONE_WINNER})
    return ", ".join(wrong) or ONE_WINNER
