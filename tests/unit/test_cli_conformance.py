"""`bucketlog conformance`: what it runs, prints and leaves behind."""

import importlib.util
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")

from bucketlog.backend import ANY
from bucketlog.cli import conformance, main
from bucketlog_backends.memory import MemoryBackend

pytestmark = pytest.mark.slow

ONE_TEST = "put_replaces_the_object"
ONE_OF_EACH = f"{ONE_TEST} or reopening_sees_everything"


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = main(["conformance", *map(str, args)])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run


def row(out, suite):
    """Return how many tests of a suite passed, were skipped, failed and did not run."""
    (found,) = re.findall(rf"^{suite} +(\d+) +(\d+) +(\d+) +(\d+)$", out, re.MULTILINE)
    return tuple(map(int, found))


@pytest.mark.parametrize("place", ["memory://conformance", "directory"])
def test_both_suites_run_and_are_counted(run, place, tmp_path):
    code, out, err = run(place, "-k", ONE_OF_EACH)

    assert code == 0, err
    assert row(out, "backend") == row(out, "event store") == (1, 0, 0, 0)
    assert row(out, "both") == (2, 0, 0, 0)
    assert "[100%]" in err
    assert "[100%]" not in out
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_as_it_was_before(run, s3_url, s3_bucket, moto_s3):
    bucket = s3_url.removeprefix("s3://")
    moto_s3.put_object(Bucket=bucket, Key="a/streams/mine", Body=b"mine")
    options = [word for name, value in s3_bucket.items() for word in ("-o", f"{name}={value}")]

    code, out, err = run(f"{s3_url}/a", "-k", ONE_OF_EACH, *options)

    assert code == 0, err
    assert row(out, "both") == (2, 0, 0, 0)
    assert [record["Key"] for record in moto_s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/streams/mine"]
    assert str(s3_bucket["secret_access_key"]) not in out + err


def test_the_environment_says_where_the_server_is(run, s3_url, s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_bucket["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_bucket["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_bucket["secret_access_key"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", s3_bucket["region"])

    code, out, err = run(s3_url, "-k", ONE_TEST)

    assert code == 0, err
    assert row(out, "backend") == (1, 0, 0, 0)


def test_a_directory_keeps_what_is_in_it(run, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine").write_text("mine")

    assert run("store", "-k", ONE_OF_EACH)[0] == 0

    assert [path.name for path in (tmp_path / "store").iterdir()] == ["mine"]


def test_a_failure_ends_with_1_and_is_explained(run, monkeypatch):
    put = MemoryBackend.put
    monkeypatch.setattr(MemoryBackend, "put", lambda self, key, data, if_version=ANY: put(self, key, data))

    code, out, err = run("memory://wrong", "-k", f"put_if_absent_replaces_nothing or {ONE_TEST}")

    assert code == 1
    passed, _, failed, _ = row(out, "backend")
    assert passed == 1
    assert failed >= 1
    assert "DID NOT RAISE" in err


def test_what_is_not_claimed_is_skipped(run):
    code, out, _ = run("memory://skips", "-k", "forked_child")

    assert code == 0
    assert row(out, "event store") == (0, 1, 0, 0)


def test_one_writer_is_enough_when_that_is_promised(run):
    code, out, _ = run("memory://one", "--single-writer", "-k", "ids_that_race_are_stored_once or reopening")

    assert code == 0
    assert row(out, "event store") == (1, 1, 0, 0)


def test_tests_that_ran_out_of_time_are_reported_and_fail_the_run(run, monkeypatch):
    monkeypatch.setattr(conformance, "TIME_LIMIT_SECONDS", -1.0)

    code, out, _ = run("memory://late", "-k", ONE_TEST)

    assert code == 1
    assert row(out, "backend") == (0, 0, 0, 1)
    assert "time ran out" in out


def test_settings_of_the_users_own_tests_are_left_out(run, monkeypatch, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "conftest.py").write_text("raise RuntimeError\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")

    assert run("memory://own", "-k", ONE_TEST)[0] == 0


@pytest.mark.parametrize("expression", ["no_such_test", "((("])
def test_an_expression_that_finds_nothing_is_wrong_usage(run, expression):
    code, out, _ = run("memory://none", "-k", expression)

    assert (code, out) == (2, "")


def test_a_place_that_cannot_be_used_ends_with_3_and_why(run, s3_url, s3_bucket):
    options = [word for name, value in s3_bucket.items() for word in ("-o", f"{name}={value}")]

    code, out, err = run(f"{s3_url}-not-there", *options)

    assert (code, out) == (3, "")
    assert "no such bucket" in err


def test_a_wrong_option_ends_with_3_and_why(run):
    code, out, err = run("memory://options", "-o", "no=option")

    assert (code, out) == (3, "")
    assert "unknown option 'no'" in err


def test_without_pytest_it_says_how_to_get_it(run, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "pytest" else found(name))

    code, out, err = run("memory://without")

    assert (code, out) == (2, "")
    assert 'pip install "bucketlog[testing]"' in err


def test_ctrl_c_ends_with_130_tells_what_was_done_and_removes_everything(tmp_path):
    command = [sys.executable, "-c", "import sys; from bucketlog.cli import main; sys.exit(main())"]
    place = tmp_path / "store"
    with subprocess.Popen(
        [*command, "conformance", place, "-k", "TestBackend"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        assert process.stderr.read(3) == b"..."  # two tests have ended, and the third one nearly has
        assert place.exists()

        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert row(out.decode(), "backend")[0] >= 2
    assert row(out.decode(), "backend")[3] > 0
    assert list(Path(tmp_path).iterdir()) == []
