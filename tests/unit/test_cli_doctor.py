"""`bucketlog doctor` and its diagnosis: the findings for healthy locations and for broken ones."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("typer")

from bucketlog.backend import Content, find_factory
from bucketlog.cli import main
from bucketlog.errors import AccessDeniedError, BackendUnavailableError, InvalidOptionError, StoreNotFoundError
from bucketlog.format.names import SCRATCH
from bucketlog.storage.diagnosis import diagnose
from bucketlog.testing import BackendWrapper, FakeClock

ALL_WELL = [
    *("server", "credentials", "may_put", "may_get", "may_list", "may_delete"),
    *("exclusive_create", "compare_and_set", "ranges", "list"),
]


@pytest.fixture
def run(capfdbinary):
    def run(*args):
        code = main([str(arg) for arg in args])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run


@pytest.fixture
def memory():
    """A backend in memory that uses the machine's clock."""
    return find_factory("memory")(f"memory://{uuid.uuid4()}", {}, create=True)


@pytest.fixture
def s3_args(s3_bucket):
    return [word for name, value in s3_bucket.items() for word in ("-o", f"{name}={value}")]


class Wrapped(BackendWrapper):
    """A backend whose subclasses refuse a call, or answer it differently."""

    name, url = "wrapped", "wrapped://place"

    def __init__(self, inner):
        super().__init__(inner)
        self.closed = False

    def close(self):
        self.closed = True


def refuse(*_args, **_more):
    msg = "refused; check the credentials and permissions"
    raise AccessDeniedError(msg)


def finding(diagnosis, name):
    (found,) = [finding for finding in diagnosis.findings if finding.name == name]
    return found


def failed(diagnosis):
    return [finding.name for finding in diagnosis.findings if finding.status == "fail"]


# -- places that are well ----------------------------------------------------------------------------------------------


def test_memory_is_well_and_nothing_is_left_in_it(memory):
    diagnosis = diagnose(memory)

    assert diagnosis.ok
    assert [finding.name for finding in diagnosis.findings] == [*ALL_WELL, "append", "clock", "latency"]
    assert {finding.status for finding in diagnosis.findings} == {"ok"}
    assert list(memory.list("")) == []
    assert (diagnosis.url, diagnosis.backend) == (memory.url, "memory")


@pytest.mark.slow
def test_a_store_and_its_directory_stay_as_they_are(tmp_path, run):
    run("append", tmp_path, "orders", "{}", "--type", "t")
    before = sorted(tmp_path.rglob("*"))

    code, out, _ = run("doctor", tmp_path)

    assert code == 0
    assert "fit for a store" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_that_is_not_there_is_tried_out_and_not_made(tmp_path, run):
    code, out, _ = run("doctor", tmp_path / "not" / "there")

    assert code == 0
    assert "does not exist yet" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_bucket_is_well_its_server_described_and_nothing_left_in_it(run, s3_url, s3_args, moto_s3):
    code, out, _ = run("doctor", f"{s3_url}/a/b", *s3_args, "--json")

    records = [json.loads(line) for line in out.splitlines()]
    findings = {record["name"]: record for record in records if "status" in record}
    facts = {record["case"]: record["found"] for record in records if record["name"] == "fact"}
    assert code == 0, out
    assert list(findings) == [*ALL_WELL, "clock", "latency", "versioning", "lifecycle"]
    assert all(set(value) == {"name", "status", "what", "advice"} for value in findings.values())
    assert "unquoted" in findings["compare_and_set"]["what"]
    assert facts["PUT If-None-Match: *, 8-way race"] == facts["compare-and-set, 8-way race"] == "one winner"
    assert facts["loser of a compare-and-set race"] == "412"
    assert facts["keys `a` and `a/b` together"] == "fine"
    assert facts["CompleteMultipartUpload If-None-Match: *"] == facts["list order, start-after"] == "right"
    assert facts["client clock 20 minutes off"] == "accepted"
    assert facts["the same in a versioned bucket"] == "-"
    assert "Contents" not in moto_s3.list_objects_v2(Bucket=s3_url.removeprefix("s3://"))


@pytest.mark.slow
def test_secrets_are_never_shown(run, s3_url, s3_args, s3_bucket):
    _, out, err = run("doctor", s3_url, *s3_args)

    assert str(s3_bucket["secret_access_key"]) not in out + err


# -- settings of a bucket ----------------------------------------------------------------------------------------------


def lifecycle(moto_s3, s3_url, *rules):
    rules = [{"ID": f"rule-{number}", "Status": "Enabled", **rule} for number, rule in enumerate(rules)]
    moto_s3.put_bucket_lifecycle_configuration(
        Bucket=s3_url.removeprefix("s3://"), LifecycleConfiguration={"Rules": rules}
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}, "deletes objects after 30 days"),
        ({"Filter": {"Prefix": "a/root/streams/"}, "Expiration": {"Days": 1}}, "deletes objects after 1 days"),
        ({"Filter": {"Prefix": "a/"}, "Transitions": [{"Days": 9, "StorageClass": "GLACIER"}]}, "GLACIER"),
    ],
)
def test_a_rule_that_deletes_or_archives_events_fails(run, s3_url, s3_args, moto_s3, rule, says):
    lifecycle(moto_s3, s3_url, rule)

    code, out, _ = run("doctor", f"{s3_url}/a/root", *s3_args)

    assert code == 1
    assert re.search(rf"FAIL +lifecycle: .*rule-0.*{says}", out)
    assert "not fit for a store; fix lifecycle" in out


@pytest.mark.slow
def test_rules_about_other_objects_do_not_matter(s3_url, s3_bucket, moto_s3):
    lifecycle(
        moto_s3,
        s3_url,
        {"Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}},
        {"Filter": {"Prefix": "a/rooted"}, "Expiration": {"Days": 1}},
        {"Filter": {"Tag": {"Key": "k", "Value": "v"}}, "Expiration": {"Days": 1}},
        {"Filter": {"Prefix": ""}, "Expiration": {"Days": 1}, "Status": "Disabled"},
    )

    assert finding(diagnose(f"{s3_url}/a/root", storage_options=s3_bucket), "lifecycle").status == "ok"


@pytest.mark.slow
def test_versioning_is_a_warning_unless_old_versions_are_removed(s3_url, s3_bucket, moto_s3):
    bucket = s3_url.removeprefix("s3://")
    moto_s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    before = diagnose(s3_url, storage_options=s3_bucket)
    lifecycle(moto_s3, s3_url, {"Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}})
    after = diagnose(s3_url, storage_options=s3_bucket)

    assert before.ok
    assert before.facts["the same in a versioned bucket"] == "one winner"
    assert finding(before, "versioning").status == "warn"
    assert "NoncurrentVersionExpiration" in finding(before, "versioning").advice
    assert finding(after, "versioning").status == "ok"


# -- places that are not well ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["put", "get", "list"])
def test_each_missing_permission_is_a_failure_of_its_own(memory, method):
    backend = Wrapped(memory)
    setattr(backend, method, refuse)

    diagnosis = diagnose(backend)

    assert failed(diagnosis) == [f"may_{method}"]
    assert "allow it" in finding(diagnosis, f"may_{method}").advice


def test_without_the_permission_to_delete_a_log_works_and_is_warned(memory):
    backend = Wrapped(memory)
    backend.delete = refuse

    diagnosis = diagnose(backend)

    assert diagnosis.ok
    assert finding(diagnosis, "may_delete").status == "warn"
    assert SCRATCH in finding(diagnosis, "may_delete").advice


def test_credentials_that_may_do_nothing_are_one_finding(memory):
    backend = Wrapped(memory)
    backend.put = backend.get = backend.list = backend.delete = refuse

    diagnosis = diagnose(backend)

    assert [(finding.name, finding.status) for finding in diagnosis.findings] == [
        ("server", "ok"),
        ("credentials", "fail"),
    ]


def test_a_clock_that_the_server_refuses_is_named(memory):
    backend = Wrapped(memory)

    def refuse_clock(*_args, **_more):
        msg = "put: the server answered 403 RequestTimeTooSkewed; set this machine's clock"
        raise AccessDeniedError(msg)

    backend.put = backend.get = backend.list = backend.delete = refuse_clock

    assert failed(diagnose(backend)) == ["clock"]


@pytest.mark.parametrize(("error", "name"), [(BackendUnavailableError, "server"), (StoreNotFoundError, "place")])
def test_what_makes_the_rest_pointless_is_the_only_finding(memory, error, name):
    backend = Wrapped(memory)

    def fail(*_args, **_more):
        msg = "put: why; what to do"
        raise error(msg)

    backend.put = fail

    assert [(finding.name, finding.status) for finding in diagnose(backend).findings] == [(name, "fail")]


def test_conditions_that_are_ignored_fail_with_the_way_round(memory):
    backend = Wrapped(memory)
    backend.put = lambda key, data, **_condition: memory.put(key, data)

    diagnosis = diagnose(backend)

    assert failed(diagnosis) == ["exclusive_create", "compare_and_set"]
    assert "single_writer=True" in finding(diagnosis, "exclusive_create").advice


def test_ranges_that_are_wrong_fail(memory):
    backend = Wrapped(memory)
    backend.get = lambda key, _start=0, _end=None: Content(*memory.get(key))

    assert failed(diagnose(backend)) == ["ranges"]


def test_a_listing_out_of_order_fails(memory):
    backend = Wrapped(memory)
    backend.list = lambda prefix, **how: iter(list(memory.list(prefix, **how))[::-1])

    assert failed(diagnose(backend)) == ["list"]


@pytest.mark.parametrize(
    ("seconds", "status", "says"),
    [
        (10, "ok", "agree"),
        (-20, "ok", "agree"),
        (45, "warn", "ahead of the server's"),
        (-45, "warn", "behind the server's"),
        (-700, "fail", "behind the server's"),
        (700, "fail", "ahead of the server's"),
    ],
)
def test_a_clock_that_differs_is_warned_from_30_seconds_and_fails_from_10_minutes(memory, seconds, status, says):
    diagnosis = diagnose(memory, clock=FakeClock(datetime.now(UTC) + timedelta(seconds=seconds)))

    assert finding(diagnosis, "clock").status == status
    assert says in finding(diagnosis, "clock").what
    assert diagnosis.ok == (status != "fail")


def test_latency_is_the_median_and_a_slow_place_is_warned(memory):
    clock, backend = FakeClock(datetime.now(UTC)), Wrapped(memory)

    def put_slowly(key, data, **condition):
        clock.advance(2)
        return memory.put(key, data, **condition)

    backend.put = put_slowly

    latency = finding(diagnose(backend, clock=clock), "latency")

    assert latency.status == "warn"
    assert latency.what.startswith("a put of 4 KiB takes 2.0 s, a get 0.0 ms")


def test_a_backend_that_was_handed_over_stays_open(memory):
    backend = Wrapped(memory)

    diagnose(backend)

    assert not backend.closed


def test_a_missing_bucket_ends_with_1_and_says_what_to_do(run, s3_url, s3_args):
    code, out, _ = run("doctor", f"{s3_url}-not-there", *s3_args)

    assert code == 1
    assert re.search(r"FAIL +place: .*no such bucket", out)
    assert "-> create the bucket, or correct the URL" in out


@pytest.mark.slow
def test_a_server_that_is_not_there_ends_with_1(run):
    keys = ["-o", "access_key_id=k", "-o", "secret_access_key=s"]

    code, out, _ = run("doctor", "s3://bucket", "-o", "endpoint_url=http://127.0.0.1:1", *keys)

    assert code == 1
    assert re.search(r"FAIL +server: .*127\.0\.0\.1:1", out)


def test_a_file_in_the_way_ends_with_1(tmp_path, run):
    (tmp_path / "file").write_text("")

    code, out, _ = run("doctor", tmp_path / "file" / "below")

    assert code == 1
    assert "FAIL  place:" in out


def test_an_unknown_option_is_an_error_and_no_finding(run, s3_url):
    with pytest.raises(InvalidOptionError):
        diagnose(s3_url, storage_options={"endpiont_url": "http://127.0.0.1:1"})

    code, out, err = run("doctor", s3_url, "-o", "endpiont_url=http://127.0.0.1:1")

    assert (code, out) == (3, "")
    assert "did you mean 'endpoint_url'?" in err
