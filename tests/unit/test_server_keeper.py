"""Servers for tests come up, go away with whoever asked for them, and are missed aloud."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.servers import MissingServerError, Server, ServerStartError, keep, minio, own
from tests.servers.processes import Processes, free_port
from tests.servers.settings import ROOT

pytestmark = pytest.mark.slow

NOWHERE = {"PATH": "/nonexistent"}
WAITS = """
import sys
from tests.servers import keep
with keep("moto") as server:
    print(server.endpoint_url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path):
    """A process that has a server, and the server's URL."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", WAITS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        yield process, process.stdout.readline().strip()
        process.kill()


def answers(url):
    try:
        with urllib.request.urlopen(f"{url}/moto-api/", timeout=5):
            return True
    except OSError:  # also when it goes in the middle of an answer
        return False


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def child_of(pid):
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_server_and_its_data_go_when_the_block_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    with keep("moto") as server:
        assert server.client().list_buckets()["Buckets"][0]["Name"] == server.bucket
        assert len(list(tmp_path.iterdir())) == 1

    assert not answers(server.endpoint_url)
    assert list(tmp_path.iterdir()) == []


def test_server_and_its_data_go_when_their_owner_is_killed(owner, tmp_path):
    process, url = owner
    assert answers(url)

    process.kill()

    wait_until(lambda: not answers(url))
    wait_until(lambda: not list(tmp_path.iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not end a child with its parent")
def test_server_goes_when_its_keeper_is_killed(owner):
    process, url = owner
    assert answers(url)

    os.kill(child_of(process.pid), signal.SIGKILL)

    wait_until(lambda: not answers(url))


def test_server_that_does_not_start_is_told_with_what_it_wrote(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = [sys.executable, "-c", "print('no such option'); raise SystemExit(7)"]

    with Processes("broken") as processes:
        processes.start(program)
        with pytest.raises(ServerStartError, match=r"ended with 7.*\nno such option"):
            processes.wait_until_ready(f"http://127.0.0.1:{free_port()}")


def test_keeper_tells_why_there_is_no_server(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with pytest.raises(MissingServerError, match="neither on PATH nor built"), keep("minio"):
        pass


def test_minio_on_the_path_goes_before_the_one_that_was_built(monkeypatch, tmp_path):
    program = tmp_path / "minio"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert minio.find() == program


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_preparing_tells_what_was_left_out_and_fails_in_ci_alone(ci, code, tmp_path):
    made = run("tests.servers", "prepare", "moto", "minio", CI=ci, XDG_CACHE_HOME=str(tmp_path), **NOWHERE)

    moto, left_out = made.stdout.splitlines()
    assert moto.startswith("moto: ready (")
    assert left_out.startswith("minio: left out: no Go to build it with; ")
    assert made.returncode == code


@pytest.mark.parametrize(("ci", "code", "said"), [("", 0, "SKIPPED"), ("true", 1, "ERROR")])
def test_missing_server_skips_its_tests_with_the_reason_and_fails_in_ci(ci, code, said, tmp_path):
    test = "tests/conformance/test_servers.py::test_versioned_bucket_that_keeps_conditions_is_opened"

    made = run("pytest", "-pno:cacheprovider", test, CI=ci, XDG_CACHE_HOME=str(tmp_path), **NOWHERE)

    assert made.returncode == code
    assert said in made.stdout
    assert "minio is neither on PATH nor built" in made.stdout


def test_own_server_is_told_by_the_environment():
    environment = {
        "BUCKETLOG_TEST_S3_URL": "s3://acme/deep/below?region=eu-1&key=id",
        "BUCKETLOG_TEST_S3_ENDPOINT_URL": "https://s3.example",
        "BUCKETLOG_TEST_S3_SECRET": "hush",
    }

    server = own.from_environment(environment)

    options = {"region": "eu-1", "key": "id", "endpoint_url": "https://s3.example", "secret": "hush"}
    assert server == Server("own_server", "s3://acme/deep/below", options, ours=False)
    assert (server.bucket, server.prefix) == ("acme", "deep/below/")
    assert server.url("tests") == "s3://acme/deep/below/tests"
    assert "hush" not in repr(server)


def test_without_the_variable_there_is_no_own_server():
    assert own.from_environment({"BUCKETLOG_TEST_S3_ENDPOINT_URL": "https://s3.example"}) is None


def test_own_server_is_left_as_it_was(minio):
    own_server = own.from_environment(
        {
            "BUCKETLOG_TEST_S3_URL": minio.url("own"),
            **{f"BUCKETLOG_TEST_S3_{n.upper()}": v for n, v in minio.options.items()},
        }
    )
    client = minio.client()
    for key in ("own/a/1", "own/a/2/3", "own/ab", "elsewhere/a/1"):
        client.put_object(Bucket=minio.bucket, Key=key, Body=b"bytes")

    own_server.remove("a")

    left = []
    for prefix in ("elsewhere/", "own/"):  # the bucket is shared by all tests, and a listing holds a thousand keys
        found = client.list_objects_v2(Bucket=minio.bucket, Prefix=prefix)
        left += [entry["Key"] for entry in found["Contents"]]
    assert left == ["elsewhere/a/1", "own/ab"]
