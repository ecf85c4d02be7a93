"""What docker/ ships is well-formed, careful, and what the tests' own servers are started with."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

import pytest

pytest.importorskip("botocore")
pytest.importorskip("yaml")

import yaml
from botocore.exceptions import ClientError
from tests.servers import ceph_rgw, minio, own
from tests.servers.settings import DOCKER, ROOT, in_ci, settings

COMPOSE_FILES = sorted(DOCKER.glob("compose.*.yaml"))
DOCKERFILES = [DOCKER / "Dockerfile", DOCKER / "minio" / "Dockerfile"]
SCRIPTS = [DOCKER / "make-bucket.sh", DOCKER / "ceph" / "start.sh"]
VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*")


def compose(path):
    """Return the services of a compose file as compose sees them, with the settings put in."""
    text = VARIABLE.sub(lambda found: settings()[found[1]], path.read_text())
    assert "$" not in "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return yaml.safe_load(text)["services"]


def instructions(path):
    """Return the instructions of a Dockerfile: pairs of a keyword and the rest of its line."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def tool(name):
    """Return a program that came with the tests' libraries."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None and in_ci():
        pytest.fail(f"{name} is not installed")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def by_name(paths):
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(DOCKER)) for path in paths])


# -- compose files -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@by_name(COMPOSE_FILES)
def test_compose_file_fits_the_published_schema(path):
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]

    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout


@by_name(COMPOSE_FILES)
def test_images_have_a_version(path):
    for name, service in compose(path).items():
        if "build" not in service:
            assert PINNED.fullmatch(service["image"]), name
        else:
            assert service["image"].endswith(f":{settings()['MINIO_VERSION']}")


@by_name(COMPOSE_FILES)
def test_servers_are_reached_from_this_machine_only(path):
    ports = [port for service in compose(path).values() for port in service.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@by_name(COMPOSE_FILES)
def test_bucket_is_made_once_the_server_is_healthy(path):
    services = compose(path)
    bucket = services.pop("bucket")
    ((name, server),) = services.items()

    assert "healthcheck" in server
    assert bucket["depends_on"] == {name: {"condition": "service_healthy"}}
    inside = server["ports"][0].rpartition(":")[2]
    shared = ("S3_BUCKET", "S3_REGION", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
    assert bucket["environment"] == {
        "S3_ENDPOINT_URL": f"http://{name}:{inside}",
        **{setting: settings()[setting] for setting in shared},
    }


def test_settings_are_all_used_and_nowhere_written_a_second_time():
    sources = [*COMPOSE_FILES, *DOCKERFILES, *SCRIPTS, *(ROOT / "tests" / "servers").glob("*.py")]
    text = "\n".join(path.read_text() for path in sources)

    assert [name for name in settings() if name not in text] == []
    written = {name: value for name, value in settings().items() if name.endswith(("_VERSION", "_KEY", "_PACKAGES"))}
    assert [name for name, value in written.items() if value in text] == []


# -- the same as the tests' servers ------------------------------------------------------------------------------------


def test_minio_is_started_as_the_tests_start_it():
    service = compose(DOCKER / "compose.minio.yaml")["minio"]

    assert service["command"] == minio.arguments("/data", ":9000")
    assert service["environment"] == minio.environment()
    assert service["build"]["args"] == {"MINIO_VERSION": settings()["MINIO_VERSION"]}
    assert service["ports"] == [f"127.0.0.1:{settings()['MINIO_PORT']}:9000"]
    assert service["healthcheck"]["test"][-1] == f"http://127.0.0.1:9000{minio.READY_PATH}"
    assert f"{minio.SOURCE}@${{MINIO_VERSION}}" in (DOCKER / "minio" / "Dockerfile").read_text()


def test_ceph_is_started_by_the_script_that_the_tests_run():
    service = compose(DOCKER / "compose.ceph.yaml")["ceph"]
    ((source, target, mode),) = (volume.split(":") for volume in service["volumes"])
    script = Path(service["entrypoint"][-1]).relative_to(target)

    assert (DOCKER / source / script).resolve() == ceph_rgw.SCRIPT
    assert mode == "ro"
    assert service["environment"] == ceph_rgw.environment("0.0.0.0", 7480)
    assert service["image"].endswith(f":v{settings()['CEPH_VERSION']}")
    assert service["ports"] == [f"127.0.0.1:{settings()['CEPH_PORT']}:7480"]
    assert service["healthcheck"]["test"][-1] == f"http://127.0.0.1:7480{ceph_rgw.READY_PATH}"


@pytest.mark.parametrize("name", ["moto", "minio", "ceph_rgw"])
def test_bucket_is_made_by_the_script_and_making_it_again_does_nothing(name, request):
    server = request.getfixturevalue(name)
    curl = tool("curl")
    if "--aws-sigv4" not in subprocess.run([curl, "--help", "all"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this curl cannot sign requests")
    bucket = f"bucketlog-script-{uuid.uuid4()}"
    environment = {"S3_ENDPOINT_URL": server.endpoint_url, **settings(), "S3_BUCKET": bucket}
    with pytest.raises(ClientError, match="404"):
        server.client().head_bucket(Bucket=bucket)

    for _ in range(2):
        subprocess.run(["sh", DOCKER / "make-bucket.sh"], env={**os.environ, **environment}, check=True)

    server.client().head_bucket(Bucket=bucket)


def test_bucket_script_tells_when_the_keys_are_wrong(ceph_rgw):
    environment = {"S3_ENDPOINT_URL": ceph_rgw.endpoint_url, **settings(), "S3_SECRET_ACCESS_KEY": "wrong"}
    command = ["sh", DOCKER / "make-bucket.sh"]

    run = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)

    assert run.returncode != 0
    assert "403" in run.stderr


def test_page_opens_the_servers_with_the_settings():
    page = (DOCKER / "README.md").read_text()
    exported = dict(re.findall(r"^export (\w+)=(\S+)$", page[: page.index("For Ceph, the same")], re.MULTILINE))
    shown = dict(re.findall(r"^    (\w+)=\"(.+?)\",", page, re.MULTILINE))

    server = own.from_environment(exported)

    assert server.options == shown
    assert server.bucket == settings()["S3_BUCKET"]
    assert shown == {
        "endpoint_url": f"http://127.0.0.1:{settings()['MINIO_PORT']}",
        "access_key_id": settings()["S3_ACCESS_KEY_ID"],
        "secret_access_key": settings()["S3_SECRET_ACCESS_KEY"],
        "region": settings()["S3_REGION"],
    }
    assert f"BUCKETLOG_TEST_S3_ENDPOINT_URL=http://127.0.0.1:{settings()['CEPH_PORT']}\n" in page
    assert f"# Ceph: {settings()['CEPH_PORT']}\n" in page


# -- Dockerfiles and scripts -------------------------------------------------------------------------------------------


@by_name(DOCKERFILES)
def test_hadolint_finds_nothing(path):
    checked = subprocess.run([tool("hadolint"), path], capture_output=True, text=True, check=False)

    assert checked.stdout == ""
    assert checked.returncode == 0


@by_name(DOCKERFILES)
def test_base_images_have_a_version(path):
    bases = [rest.split()[0] for keyword, rest in instructions(path) if keyword == "FROM"]

    assert bases
    assert all(PINNED.fullmatch(base) for base in bases)


@by_name(DOCKERFILES)
def test_image_runs_as_nobody_special(path):
    last = path.read_text().rpartition("FROM ")[2]
    users = re.findall(r"^USER (.+)$", last, re.MULTILINE)

    assert users
    assert int(users[-1]) >= 1000
    assert last.index("USER") < last.index("ENTRYPOINT")


def test_image_is_made_of_what_exists_and_of_that_alone():
    copied = [
        part
        for keyword, rest in instructions(DOCKER / "Dockerfile")
        if keyword == "COPY" and not rest.startswith("--from")
        for part in rest.split()[:-1]
    ]
    allowed = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r'"\.\[(.+)\]"', (DOCKER / "Dockerfile").read_text())[1].split(",")

    assert all((ROOT / part).exists() for part in copied)
    assert {line[1:] for line in allowed if line.startswith("!")} == set(copied)
    assert "*" in allowed
    assert set(extras) <= project["optional-dependencies"].keys()
    assert ("ENTRYPOINT", '["bucketlog"]') in instructions(DOCKER / "Dockerfile")
    assert "bucketlog" in project["scripts"]


@by_name(SCRIPTS)
def test_script_can_be_read_by_its_shell(path):
    shell = path.read_text().splitlines()[0].removeprefix("#!")

    subprocess.run([shell, "-n", path], check=True)
