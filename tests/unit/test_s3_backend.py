"""The s3 backend: the requests that it sends, and what it makes of the answers."""

import contextlib
import datetime
import ipaddress
import os
import secrets
import socket
import ssl
import subprocess
import sys
import textwrap
import time
import traceback
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("obstore")

from bucketlog.backend import ABSENT, ANY, Backend, Entry, UploadBackend, VersioningBackend
from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    CapabilityError,
    ConflictError,
    InvalidOptionError,
    InvalidURLError,
    NotFoundError,
    OutcomeUnknownError,
    StorageFullError,
    StoreNotFoundError,
    UnprovenStorageError,
)
from bucketlog.testing import BackendSuite
from bucketlog_backends.common_prefixes import list_level
from bucketlog_backends.local import LocalBackend
from bucketlog_backends.s3 import S3Backend, connections, from_object, open_s3
from bucketlog_backends.s3 import backend as s3
from bucketlog_backends.s3.connections import READS, Traffic
from bucketlog_backends.s3.options import read_settings

from .fake_server import DROPPED, SILENT, STORED, FakeServer, answer, found, refusal

URL = "s3://bucket/prefix"
KEYS = {"access_key_id": "AKEY", "secret_access_key": "a-secret"}
LIST_EMPTY = answer(200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch, tmp_path):
    """Hide the settings of this machine."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def backend(s3_url, s3_bucket):
    return open_s3(f"{s3_url}/prefix", s3_bucket, create=True)


def serve(*answers):
    return FakeServer(list(answers))


def open_at(server, **options):
    return open_s3(URL, {"endpoint_url": server.url, **KEYS, **options}, create=True)


class TestObstoreMemory(BackendSuite):
    race_rounds = 4
    big_object_bytes = 2 * 1024 * 1024
    many_keys = 100

    @pytest.fixture
    def open_backend(self):
        from obstore.store import MemoryStore

        store = MemoryStore()
        return lambda: from_object(store)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "setting", "value"),
    [
        ({"endpoint_url": "http://h:9000/"}, "endpoint_url", "http://h:9000"),
        ({"endpoint": "http://h"}, "endpoint_url", "http://h"),
        ({"aws_endpoint": "http://h"}, "endpoint_url", "http://h"),
        ({"AWS_ENDPOINT_URL": "http://h"}, "endpoint_url", "http://h"),
        ({"client_kwargs": {"endpoint_url": "http://h"}}, "endpoint_url", "http://h"),
        ({"key": "k", "secret": "s"}, "access_key_id", "k"),
        ({"key": "k", "secret": "s"}, "secret_access_key", "s"),
        ({"aws_access_key_id": "k", "aws_secret_access_key": "s"}, "secret_access_key", "s"),
        ({**KEYS, "token": "t"}, "session_token", "t"),
        ({**KEYS, "aws_session_token": "t"}, "session_token", "t"),
        ({"region_name": "eu-1"}, "region", "eu-1"),
        ({"aws_default_region": "eu-1"}, "region", "eu-1"),
        ({"client_kwargs": {"region_name": "eu-1"}}, "region", "eu-1"),
        ({"profile_name": "p"}, "profile", "p"),
        ({"skip_signature": "true"}, "anon", True),
        ({"anon": False}, "anon", False),
        ({"anon": None}, "anon", False),
        ({"virtual_hosted_style_request": "false"}, "addressing", "path"),
        ({"addressing_style": "virtual"}, "addressing", "virtual"),
        ({"client": "s3fs"}, "client", "s3fs"),
    ],
)
def test_options_are_taken_under_the_names_of_boto3_s3fs_and_obstore(options, setting, value):
    assert getattr(read_settings(URL, options, {}), setting) == value


def test_unknown_option_is_refused_naming_the_nearest_one():
    with pytest.raises(InvalidOptionError, match=r"'endpoint_ulr'; did you mean 'endpoint_url'") as caught:
        read_settings(URL, {"endpoint_ulr": "http://h"}, {})
    assert caught.value.option == "endpoint_ulr"

    with pytest.raises(InvalidOptionError, match="'verfiy'"):
        read_settings(URL, {"client_kwargs": {"verfiy": False}}, {})


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"endpoint_url": "http://a", "endpoint": "http://b"}, "endpoint"),
        ({"endpoint_url": "localhost:9000"}, "endpoint_url"),
        ({"endpoint_url": "http://user:hidden@h"}, "endpoint_url"),
        ({"endpoint_url": "http://h", "allow_http": "false"}, "endpoint_url"),
        ({"endpoint_url": 9000}, "endpoint_url"),
        ({"access_key_id": "hidden"}, "secret_access_key"),
        ({"secret_access_key": "hidden"}, "access_key_id"),
        ({"session_token": "hidden"}, "access_key_id"),
        ({"secret_access_key": b"hidden"}, "secret_access_key"),
        ({"anon": True, "key": "hidden", "secret": "hidden"}, "anon"),
        ({"anon": "perhaps"}, "anon"),
        ({"addressing": "hosted"}, "addressing"),
        ({"client": "boto3"}, "client"),
        ({"client_kwargs": "region"}, "client_kwargs"),
        ({"profile": "nobody"}, "profile"),
    ],
)
def test_option_with_an_impossible_value_is_refused_and_not_repeated(options, option):
    with pytest.raises(InvalidOptionError) as caught:
        open_s3(URL, options, create=True)

    assert caught.value.option == option
    assert "hidden" not in str(caught.value)


def test_same_value_under_two_names_is_taken():
    settings = read_settings(URL, {"key": "k", "aws_access_key_id": "k", "secret": "s"}, {})

    assert settings.access_key_id == "k"


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///prefix", "s3://-b/x", "s3://b ucket/x", "s3://hidden:hidden@bucket/x", "s3://hidden:hidden/x"]
    + [f"s3://bucket/{prefix}" for prefix in ("a//b", "a/../b", "./a", "a/\n/b", "a/\udcff")],
)
def test_url_without_a_good_bucket_or_prefix_is_refused_and_not_repeated(url):
    with pytest.raises(InvalidURLError) as caught:
        open_s3(url, KEYS, create=True)

    assert "hidden" not in str(caught.value)


def test_url_tells_the_place_without_credentials():
    backend = open_s3("s3://bucket/a/b/", {"endpoint_url": "http://h", **KEYS}, create=True)

    assert backend.url == "s3://bucket/a/b"
    assert repr(backend) == "S3Backend('s3://bucket/a/b')"


def test_settings_do_not_show_their_secrets():
    settings = read_settings(URL, {"key": "hidden1", "secret": "hidden2", "token": "hidden3"}, {})

    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "options", "virtual"),
    [
        ("s3://bucket", {}, True),
        ("s3://with.dot", {}, False),
        ("s3://bucket", {"endpoint_url": "http://h"}, False),
        ("s3://bucket", {"endpoint_url": "http://h", "addressing": "virtual"}, True),
        ("s3://bucket", {"addressing": "path"}, False),
    ],
)
def test_bucket_is_in_the_path_where_there_is_an_endpoint(url, options, virtual):
    assert read_settings(url, options, {}).virtual is virtual


def test_virtual_addressing_puts_the_bucket_into_the_host():
    backend = open_s3(URL, {"endpoint_url": "https://h:9000", "addressing": "virtual", **KEYS}, create=True)

    assert backend._connect(READS).config["endpoint"] == "https://bucket.h:9000"


# -- environment and credentials ---------------------------------------------------------------------------------------


def signed_by(request):
    return request.headers["authorization"].partition("Credential=")[2].split("/")


def test_environment_is_honoured(monkeypatch):
    with serve(STORED) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVKEY")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "env-token")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")

        open_s3(URL, {}, create=True).put("a", b"bytes")

    (request,) = server.requests
    assert signed_by(request)[0] == "ENVKEY"
    assert signed_by(request)[2] == "eu-north-1"
    assert request.headers["x-amz-security-token"] == "env-token"


def test_options_win_over_the_environment_and_are_not_mixed_with_it(monkeypatch):
    with serve(STORED) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVKEY")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "env-token")
        monkeypatch.setenv("AWS_REGION", "eu-north-1")
        monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")

        open_at(server, region="us-west-2").put("a", b"bytes", if_version=ABSENT)

    (request,) = server.requests
    assert signed_by(request)[0] == "AKEY"
    assert signed_by(request)[2] == "us-west-2"
    assert request.headers["if-none-match"] == "*"
    assert "x-amz-security-token" not in request.headers


def test_profile_brings_keys_region_and_endpoint(monkeypatch, tmp_path):
    with serve(STORED) as server:
        (tmp_path / "credentials").write_text("[work]\naws_access_key_id=PKEY\naws_secret_access_key=secret\n")
        (tmp_path / "config").write_text(f"[profile work]\nregion=eu-west-3\nendpoint_url={server.url}/\n")

        open_s3(URL, {"profile": "work"}, create=True).put("a", b"bytes")
        monkeypatch.setenv("AWS_PROFILE", "work")
        open_s3(URL, {}, create=True).put("a", b"bytes")

    for request in server.requests:
        assert request.target == "/bucket/prefix/a"
        assert signed_by(request)[0] == "PKEY"
        assert signed_by(request)[2] == "eu-west-3"


def test_anonymous_requests_are_not_signed():
    with serve(STORED) as server:
        open_s3(URL, {"endpoint_url": server.url, "anon": "true"}, create=True).put("a", b"bytes")

    assert "authorization" not in server.requests[0].headers


def test_missing_credentials_are_reported_at_the_first_request():
    with serve(STORED) as server:
        backend = open_s3(URL, {"endpoint_url": server.url}, create=True)

        with pytest.raises(AccessDeniedError, match=r"no credentials.*access_key_id"):
            backend.get("a")

    assert server.requests == []


def test_certificate_of_the_own_authority_is_trusted_through_the_environment(monkeypatch, tmp_path):
    certificate = tmp_path / "certificate.pem"
    tls = _self_signed(certificate)
    with FakeServer([STORED], tls=tls) as server:
        with pytest.raises(BackendUnavailableError, match="certificate is not trusted"):
            open_at(server).put("a", b"bytes")

        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        open_at(server).put("a", b"bytes")

    assert len(server.requests) == 1


def test_missing_certificate_file_is_reported(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))

    with pytest.raises(InvalidOptionError, match="AWS_CA_BUNDLE") as caught:
        open_s3(URL, KEYS, create=True)
    assert caught.value.option == "AWS_CA_BUNDLE"


def _self_signed(path):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(hours=1))
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = path.with_name("key.pem")
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path, private)
    return tls


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_opening_makes_no_request():
    with serve(STORED) as server:
        open_at(server).close()

    assert server.requests == []


def test_key_is_stored_byte_for_byte(backend, moto_s3, s3_url):
    key = "streams/a%2Fb/%2E%2E/x%25y+z=.json"

    backend.put(key, b"bytes", if_version=ABSENT)

    bucket = s3_url.removeprefix("s3://")
    assert [entry["Key"] for entry in moto_s3.list_objects_v2(Bucket=bucket)["Contents"]] == [f"prefix/{key}"]
    assert moto_s3.get_object(Bucket=bucket, Key=f"prefix/{key}")["Body"].read() == b"bytes"
    assert backend.get(key).data == b"bytes"


@pytest.mark.parametrize("size", [1, 6 * 1024 * 1024])
def test_put_is_one_request(size):
    with serve(STORED) as server:
        open_at(server).put("a", b"x" * size, if_version=ABSENT)

    (request,) = server.requests
    assert (request.method, len(request.body)) == ("PUT", size)


def test_version_is_sent_in_the_form_that_the_server_takes():
    with serve(STORED) as server:
        backend = open_at(server)
        version = backend.put("a", b"bytes")
        backend.put("a", b"bytes", if_version=version)
        backend.etag_form = "quoted"
        backend.put("a", b"bytes", if_version=version)

    assert [request.headers.get("if-match") for request in server.requests] == [None, "an-etag", '"an-etag"']


def test_listing_begins_at_the_server_where_it_is_to_begin():
    with serve(LIST_EMPTY) as server:
        assert list(open_at(server).list("streams/a/0/", start_after="streams/a/0/00042")) == []

    (request,) = server.requests
    asked = parse_qs(urlsplit(request.target).query)
    assert asked["prefix"] == ["prefix/streams/a/0/"]
    assert asked["start-after"] == ["prefix/streams/a/0/00042"]


def test_listing_asks_for_the_next_page_only_when_it_is_wanted(backend, moto_s3, s3_url, monkeypatch):
    bucket = s3_url.removeprefix("s3://")
    for number in range(3):
        moto_s3.put_object(Bucket=bucket, Key=f"prefix/a/{number}", Body=b"")
    monkeypatch.setattr("bucketlog_backends.s3.backend.PAGE_KEYS", 1)
    listing = backend.list("a/")

    assert next(listing).key == "a/0"
    moto_s3.delete_object(Bucket=bucket, Key="prefix/a/0")
    assert [entry.key for entry in listing] == ["a/1", "a/2"]


def test_folders_made_by_a_console_are_not_taken_for_their_contents(backend, moto_s3, s3_url):
    bucket = s3_url.removeprefix("s3://")
    moto_s3.put_object(Bucket=bucket, Key="prefix/checkpoints/", Body=b"")
    moto_s3.put_object(Bucket=bucket, Key="prefix/checkpoints/a.json", Body=b"")

    assert [entry.key for entry in backend.list("checkpoints/")] == ["checkpoints/a.json"]
    assert [entry.key for entry in backend.list("checkpoints/", delimiter=True)] == ["checkpoints/a.json"]


def test_foreign_key_that_cannot_be_named_is_reported(backend, moto_s3, s3_url):
    moto_s3.put_object(Bucket=s3_url.removeprefix("s3://"), Key="prefix/a//b", Body=b"")

    with pytest.raises(CapabilityError, match=r"s3fs"):
        list(backend.list("a/"))


def test_level_skips_the_rest_of_a_folder_when_a_page_ends_inside_it():
    keys = [*(f"a/{number:04}" for number in range(1000)), "b", *(f"c/{number:04}" for number in range(1000)), "d"]
    asked = []

    def pages(after):
        asked.append(after)
        rest = [Entry(key) for key in keys if key > after]
        return (rest[at : at + 10] for at in range(0, len(rest), 10))

    assert [entry.key for entry in list_level(pages, "", "")] == ["a/", "b", "c/", "d"]
    assert len(asked) == 3


def test_level_ends_even_with_keys_that_are_not_ours():
    keys = [f"a/~~{number}" for number in range(30)]

    def pages(after):
        rest = [Entry(key) for key in sorted(keys) if key > after]
        return (rest[at : at + 10] for at in range(0, len(rest), 10))

    assert [entry.key for entry in list_level(pages, "", "")] == ["a/"]


# -- versioning --------------------------------------------------------------------------------------------------------


def test_version_id_tells_that_a_bucket_is_versioned(backend, moto_s3, s3_url):
    assert isinstance(backend, VersioningBackend)
    assert backend.put_version_id("scratch", b"bytes") is None

    enabled = {"Status": "Enabled"}
    moto_s3.put_bucket_versioning(Bucket=s3_url.removeprefix("s3://"), VersioningConfiguration=enabled)

    assert backend.put_version_id("scratch", b"bytes")


def test_conditional_put_is_not_acknowledged_when_versioning_was_switched_on(backend, moto_s3, s3_url):
    version = backend.put("there", b"bytes")
    enabled = {"Status": "Enabled"}
    moto_s3.put_bucket_versioning(Bucket=s3_url.removeprefix("s3://"), VersioningConfiguration=enabled)

    for key, condition in (("new", ABSENT), ("there", version)):
        with pytest.raises(UnprovenStorageError, match="versioning was switched on") as caught:
            backend.put(key, b"other", if_version=condition)
        assert caught.value.key == key

    backend.versioned = True
    assert backend.put("newer", b"bytes", if_version=ABSENT)


# -- errors ------------------------------------------------------------------------------------------------------------

REFUSALS = [
    (401, "", AccessDeniedError),
    (403, "SignatureDoesNotMatch", AccessDeniedError),
    (403, "RequestTimeTooSkewed", AccessDeniedError),
    (400, "ExpiredToken", AccessDeniedError),
    (403, "QuotaExceeded", StorageFullError),
    (507, "XMinioStorageFull", StorageFullError),
    (301, "PermanentRedirect", InvalidOptionError),
    (400, "AuthorizationHeaderMalformed", InvalidOptionError),
    (404, "NoSuchBucket", StoreNotFoundError),
    (429, "", BackendUnavailableError),
    (400, "EntityTooLarge", BackendUnavailableError),
]


@pytest.mark.parametrize(("status", "code", "error"), REFUSALS)
@pytest.mark.parametrize("condition", [ANY, ABSENT, "version"], ids=["any", "absent", "version"])
def test_put_that_was_refused_says_why(status, code, error, condition):
    with serve(refusal(status, code)) as server, pytest.raises(error) as caught:
        open_at(server).put("a", b"bytes", if_version=condition)

    assert not isinstance(caught.value, OutcomeUnknownError | ConflictError)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "code", "error"), [refusal for refusal in REFUSALS if refusal[0] not in (429, 507)])
def test_get_that_was_refused_says_why(status, code, error):
    with serve(refusal(status, code)) as server, pytest.raises(error, match="'a'"):
        open_at(server).get("a")


@pytest.mark.parametrize(
    ("status", "code"), [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict"), (404, "NoSuchKey")]
)
def test_condition_that_did_not_hold_is_a_conflict(status, code):
    with serve(refusal(status, code)) as server, pytest.raises(ConflictError, match=str(status)):
        open_at(server).put("a", b"bytes", if_version="version")

    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [409, 412])
def test_create_that_lost_is_a_conflict(status):
    with serve(refusal(status)) as server, pytest.raises(ConflictError, match=str(status)):
        open_at(server).put("a", b"bytes", if_version=ABSENT)

    assert len(server.requests) == 1


def test_server_without_conditions_is_reported():
    with serve(refusal(501, "NotImplemented")) as server, pytest.raises(CapabilityError, match="single_writer"):
        open_at(server).put("a", b"bytes", if_version=ABSENT)


@pytest.mark.parametrize(
    "unclear",
    [refusal(500, "InternalError"), refusal(503, "SlowDown"), refusal(504), refusal(408), DROPPED, answer(200)],
    ids=["500", "503", "504", "408", "dropped", "no etag"],
)
@pytest.mark.parametrize("condition", [ANY, ABSENT, "version"], ids=["any", "absent", "version"])
def test_put_without_a_clear_answer_is_sent_once_and_leaves_the_outcome_open(unclear, condition):
    with serve(unclear) as server, pytest.raises(OutcomeUnknownError, match="'a'") as caught:
        open_at(server).put("a", b"bytes", if_version=condition)

    assert caught.value.key == "a"
    assert len(server.requests) == 1


@pytest.mark.slow
def test_put_to_a_silent_server_leaves_the_outcome_open(monkeypatch):
    monkeypatch.setattr(s3, "PUTS", Traffic(timeout_seconds=1, silence_seconds=1, retries=0))
    with serve(SILENT) as server, pytest.raises(OutcomeUnknownError, match="no answer came in time"):
        open_at(server).put("a", b"bytes", if_version=ABSENT)

    assert len(server.requests) == 1


@pytest.mark.parametrize("condition", [ANY, ABSENT, "version"], ids=["any", "absent", "version"])
def test_put_that_never_left_says_so(condition):
    backend = open_s3(URL, {"endpoint_url": f"http://127.0.0.1:{_closed_port()}", **KEYS}, create=True)

    with pytest.raises(BackendUnavailableError, match=r"refused.*127\.0\.0\.1"):
        backend.put("a", b"bytes", if_version=condition)


def test_put_to_a_host_without_a_name_never_left():
    backend = open_s3(URL, {"endpoint_url": "http://nowhere.invalid", **KEYS}, create=True)

    with pytest.raises(BackendUnavailableError, match="name is not known"):
        backend.put("a", b"bytes", if_version=ABSENT)


@pytest.mark.slow
def test_put_to_a_host_that_does_not_take_connections_never_left(monkeypatch):
    monkeypatch.setattr("bucketlog_backends.s3.connections._CONNECT_SECONDS", 1)
    with contextlib.ExitStack() as opened:
        full = opened.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # fill its queue, so that it drops later connections
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        endpoint = f"http://127.0.0.1:{full.getsockname()[1]}"

        with pytest.raises(BackendUnavailableError, match="no answer came in time"):
            open_s3(URL, {"endpoint_url": endpoint, **KEYS}, create=True).put("a", b"bytes", if_version=ABSENT)


@pytest.mark.slow
@pytest.mark.timed
def test_unreachable_server_is_reported_within_ten_seconds():
    backend = open_s3(URL, {"endpoint_url": f"http://127.0.0.1:{_closed_port()}", **KEYS}, create=True)
    begun = time.monotonic()

    with pytest.raises(BackendUnavailableError, match="try again later"):
        backend.get("bucketlog.json")

    assert time.monotonic() - begun < 10


@pytest.mark.slow
def test_read_outlives_a_connection_that_stays_silent(monkeypatch):
    monkeypatch.setattr(s3, "READS", replace(READS, silence_seconds=1))

    with serve(SILENT, found("bytes")) as server:
        assert open_at(server).get("a").data == b"bytes"
    with serve(SILENT, found("bytes")) as server:
        assert open_at(server).head("a").size == 5
    with serve(SILENT, LIST_EMPTY) as server:
        assert list(open_at(server).list("")) == []


@pytest.mark.slow
def test_silent_server_is_given_up_after_two_attempts(monkeypatch):
    assert READS.silence_seconds < connections._RETRY_SECONDS < 2 * READS.silence_seconds < 9, (
        "reported within 10 seconds"
    )
    monkeypatch.setattr(connections, "_RETRY_SECONDS", 2)
    monkeypatch.setattr(s3, "READS", replace(READS, silence_seconds=1))

    with serve(SILENT) as server, pytest.raises(BackendUnavailableError, match="no answer came in time"):
        open_at(server).get("bucketlog.json")

    assert len(server.requests) == 2


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [refusal(503, "SlowDown"), refusal(500), DROPPED], ids=["503", "500", "dropped"])
def test_reads_lists_and_deletes_are_tried_again(trouble):
    with serve(trouble, found("bytes")) as server:
        assert open_at(server).get("a").data == b"bytes"
    with serve(trouble, LIST_EMPTY) as server:
        assert list(open_at(server).list("")) == []
    with serve(trouble, answer(200, "<DeleteResult><Deleted><Key>prefix/a</Key></Deleted></DeleteResult>")) as server:
        open_at(server).delete(["a"])
        assert len(server.requests) == 2


def test_missing_bucket_is_reported_and_not_made(moto_s3, s3_bucket):
    backend = open_s3("s3://bucketlog-nowhere/prefix", s3_bucket, create=True)

    for attempt in (
        lambda: backend.get("a"),
        lambda: backend.put("a", b"bytes"),
        lambda: backend.put("a", b"bytes", if_version=ABSENT),
        lambda: backend.put("a", b"bytes", if_version="version"),
        lambda: list(backend.list("")),
        lambda: list(backend.list("", delimiter=True)),
        lambda: backend.delete(["a"]),
    ):
        with pytest.raises(StoreNotFoundError, match="no such bucket"):
            attempt()

    assert "bucketlog-nowhere" not in [bucket["Name"] for bucket in moto_s3.list_buckets()["Buckets"]]


def test_missing_key_is_reported(backend):
    for attempt in (backend.get, backend.head):
        with pytest.raises(NotFoundError, match="'nothing/here'"):
            attempt("nothing/here")


def test_answer_that_repeats_secrets_is_not_shown():
    token = secrets.token_hex()
    body = f"<Error><Code>SignatureDoesNotMatch</Code><CanonicalRequest>token:{token}</CanonicalRequest></Error>"
    with serve(answer(403, body)) as server, pytest.raises(AccessDeniedError) as caught:
        open_at(server, session_token=token).put("a", b"bytes")

    shown = "".join(traceback.format_exception(caught.value))
    assert "SignatureDoesNotMatch" in shown
    assert token not in shown


def _closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# -- ready objects and libraries ---------------------------------------------------------------------------------------


def test_s3_store_is_used_with_its_own_settings_and_without_retries_of_puts():
    from obstore.store import S3Store

    with serve(refusal(503, "SlowDown")) as server:
        store = S3Store(
            "bucket",
            prefix="pre/fix",
            config={"endpoint": server.url, **KEYS, "region": "eu-west-1"},
            client_options={"allow_http": True},
        )
        backend = from_object(store)

        with pytest.raises(OutcomeUnknownError):
            backend.put("a", b"bytes", if_version=ABSENT)

    (request,) = server.requests
    assert request.target == "/bucket/pre/fix/a"
    assert signed_by(request)[0] == "AKEY"
    assert isinstance(backend, S3Backend)
    assert (backend.name, backend.url) == ("s3", "s3://bucket/pre/fix")


def test_stores_of_other_clouds_know_their_place():
    from obstore.store import AzureStore, GCSStore

    azure = from_object(AzureStore("box", prefix="a/b", config={"account_name": "me", "skip_signature": True}))
    google = from_object(GCSStore("bucket", config={"skip_signature": True}))

    assert (azure.name, azure.url) == ("az", "az://box/a/b")
    assert (google.name, google.url) == ("gs", "gs://bucket")
    assert isinstance(azure, Backend)
    assert isinstance(google, UploadBackend)
    assert not isinstance(google, VersioningBackend)


def test_local_store_becomes_the_local_backend(tmp_path):
    from obstore.store import LocalStore

    backend = from_object(LocalStore(tmp_path))

    assert isinstance(backend, LocalBackend)
    assert backend.url == tmp_path.as_uri()


def test_store_without_conditions_or_place_is_refused():
    from obstore.store import HTTPStore, LocalStore

    with pytest.raises(CapabilityError, match="HTTPStore"):
        from_object(HTTPStore("https://example.org"))
    with pytest.raises(InvalidURLError, match="whole disk"):
        from_object(LocalStore())


@pytest.mark.parametrize("other", ["s3://bucket", b"", 1, object()])
def test_other_objects_are_not_wrapped(other):
    assert from_object(other) is None


@pytest.mark.slow
def test_modules_load_no_client_library():
    libraries = {"obstore", "boto3", "botocore", "fsspec", "s3fs"}
    script = (
        "import sys, bucketlog_backends.s3, bucketlog_backends.fsspec, bucketlog_backends.s3.s3fs; print(*sys.modules)"
    )

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()

    assert not libraries & set(loaded)


@pytest.mark.parametrize(("module", "options"), [("obstore.store", KEYS), ("boto3", {})])
def test_missing_library_is_reported_with_the_extra_that_brings_it(monkeypatch, module, options):
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(CapabilityError, match=r'pip install "bucketlog\[s3\]"'):
        open_s3(URL, options, create=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_child_is_refused_instead_of_hanging():
    script = """
        import os, sys, warnings
        from bucketlog.errors import BackendUnavailableError, CapabilityError
        from bucketlog_backends.s3 import open_s3

        options = {"endpoint_url": "http://127.0.0.1:1", "key": "k", "secret": "s"}
        backend = open_s3("s3://bucket", options, create=True)
        try:
            backend.put("a", b"bytes")
        except BackendUnavailableError:
            print("parent", flush=True)
        warnings.simplefilter("ignore")
        if os.fork() == 0:
            try:
                open_s3("s3://bucket", options, create=True).put("a", b"bytes")
            except CapabilityError as err:
                print("child", "fork" in str(err), flush=True)
            os._exit(0)
        os.wait()
    """
    run = [sys.executable, "-c", textwrap.dedent(script)]

    printed = subprocess.run(run, capture_output=True, text=True, check=True, timeout=30).stdout.split()

    assert printed == ["parent", "child", "True"]
