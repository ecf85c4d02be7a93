"""Any target of `bucketlog.open` becomes a backend, a URL and options, or an error that says what to write."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bucketlog.backend import SHIPPED, installed_backends
from bucketlog.errors import InvalidOptionError, InvalidURLError, StoreNotFoundError
from bucketlog.storage import location
from bucketlog.storage.location import Location, parse, redact
from bucketlog_backends.memory import MemoryBackend, open_memory

fsspec = pytest.importorskip("fsspec")
SECRET = "wJalrXUtnFEMI"


# -- URLs and paths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "factory", "opened"),
    [
        ("memory://name", "memory", "memory://name"),
        ("file:///var/log", "file", "file:///var/log"),
        ("file://localhost/var/log", "file", "file:///var/log"),
        ("FILE:///var/log", "file", "file:///var/log"),
        ("s3://bucket/prefix", "s3", "s3://bucket/prefix"),
        ("S3://bucket/Prefix", "s3", "s3://bucket/Prefix"),
        ("s3://bucket/a::b#c", "s3", "s3://bucket/a::b#c"),
        ("gcs://bucket/prefix", "fsspec", "gcs://bucket/prefix"),
        ("simplecache::s3://bucket/prefix", "fsspec", "simplecache::s3://bucket/prefix"),
        ("dir://sub::s3://bucket", "fsspec", "dir://sub::s3://bucket"),
        ("/var/log/a b?c%20", "file", "file:///var/log/a%20b%3Fc%2520"),
    ],
)
def test_a_scheme_chooses_the_backend(url, factory, opened):
    found = parse(url, None, {})

    assert (found.factory, found.url, dict(found.options)) == (factory, opened, {})


def test_a_relative_path_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert parse("events", None, {}).url == tmp_path.joinpath("events").as_uri()
    assert parse(Path("events"), None, {}).url == tmp_path.joinpath("events").as_uri()


def test_a_tilde_is_the_home_directory_in_a_text_and_a_name_in_a_path_object(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    assert parse("~/events", None, {}).url == tmp_path.joinpath("events").as_uri()
    assert parse(Path("~/events"), None, {}).url.endswith("/~/events")
    assert parse("~nobody-here/events", None, {}).url.endswith("/~nobody-here/events")


def test_a_path_that_looks_like_a_scheme_can_be_written_with_a_dot(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert parse("./s3:bucket", None, {}).url == tmp_path.joinpath("s3:bucket").as_uri()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "the URL is empty; pass memory://name"),
        ("  ", "the URL is empty"),
        ("C:\\events", "Linux or macOS"),
        ("c:/events", "Linux or macOS"),
        ("\\\\server\\share", "Linux or macOS"),
        ("s3:/bucket", "write s3://"),
        ("s3:bucket", "write s3://"),
        ("file:/var/log", "write file:///path"),
        (" s3://bucket", "does not begin with a URL scheme"),
        ("://bucket", "does not begin with a URL scheme"),
        ("file://events", "file:///path"),
        ("file://host/events", "file:///path"),
        ("s3://bucket/a\nb", "control characters"),
        ("/var/lo\0g", "control characters"),
        ("gcz://bucket", "did you mean gcs://…"),
        ("s3x://bucket", "use file://, memory://, s3:// or a scheme of fsspec"),
        ("fsspec://bucket", "unknown scheme 'fsspec'"),
        ("nocache::s3://bucket", "unknown scheme 'nocache'"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_with_what_is_allowed(url, says):
    with pytest.raises(InvalidURLError) as caught:
        parse(url, None, {})

    assert says in str(caught.value)


def test_a_path_object_with_nul_is_refused():
    with pytest.raises(InvalidURLError, match="NUL"):
        parse(Path("a\0b"), None, {})


@pytest.mark.parametrize("target", [None, 3, b"memory://x", object(), ["memory://x"]])
def test_an_object_of_another_kind_is_refused(target):
    with pytest.raises(InvalidURLError, match="cannot use an object of type"):
        parse(target, None, {})


def test_without_fsspec_an_unknown_scheme_says_what_to_install(monkeypatch):
    monkeypatch.setattr(location.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(InvalidURLError, match=r"pip install 'bucketlog\[fsspec\]'"):
        parse("gcs://bucket", None, {})


def test_a_known_scheme_does_not_import_fsspec(monkeypatch):
    monkeypatch.setattr(location, "_fsspec_protocols", lambda: pytest.fail("fsspec was asked"))

    assert parse("s3://bucket", None, {}).factory == "s3"


# -- options -----------------------------------------------------------------------------------------------------------


def test_keywords_overrule_storage_options_which_overrule_the_query():
    found = parse(
        "s3://bucket/p?region=query&endpoint_url=query&profile=query",
        {"region": "storage", "endpoint_url": "storage"},
        {"region": "keyword"},
    )

    assert found.url == "s3://bucket/p"
    assert found.options == {"region": "keyword", "endpoint_url": "storage", "profile": "query"}


def test_none_counts_as_not_given():
    found = parse("s3://bucket?region=query", {"profile": None}, {"region": None})

    assert found.options == {"region": "query"}


def test_the_query_is_percent_decoded_and_a_plus_stays_a_plus():
    found = parse("s3://b?endpoint_url=http://h:9000&secret_access_key=a+b%2Fc%26%3D", None, {})

    assert found.options == {"endpoint_url": "http://h:9000", "secret_access_key": "a+b/c&="}


@pytest.mark.parametrize("query", ["anon", "=x", "region=x&", f"secret_access_key=ab&{SECRET}"])
def test_an_option_without_name_or_value_is_refused_unseen(query):
    with pytest.raises(InvalidOptionError, match="write name=value") as caught:
        parse(f"s3://bucket?{query}", None, {})

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("options", ["region=x", ["region"], {1: "x"}])
def test_storage_options_are_a_mapping_from_names(options):
    with pytest.raises(InvalidOptionError, match="mapping") as caught:
        parse("s3://bucket", options, {})

    assert caught.value.option == "storage_options"


# -- objects -----------------------------------------------------------------------------------------------------------


class FakeUPath:
    """The part of universal_pathlib that is used."""

    def __init__(self, url, storage_options):
        self.protocol, _, self.path = url.partition("://")
        self.storage_options = storage_options
        self.url = url

    def __str__(self):
        return self.url


def test_a_upath_stands_for_its_url_and_its_storage_options():
    found = parse(FakeUPath("s3://bucket/a?b", {"key": "k", "token": None}), None, {"key": "mine"})

    assert (found.factory, found.url, found.options) == ("s3", "s3://bucket/a?b", {"key": "mine"})


def test_a_chained_upath_says_its_inner_options_once():
    chained = FakeUPath("simplecache::s3://bucket", {"target_protocol": "s3", "target_options": {"anon": True}})

    assert parse(chained, None, {}).options == {"s3": {"anon": True}}


def test_real_upaths_are_understood(tmp_path):
    upath = pytest.importorskip("upath")

    assert parse(upath.UPath(tmp_path), None, {}).url == tmp_path.as_uri()
    assert parse(upath.UPath("memory://name"), None, {}).factory == "memory"
    assert parse(upath.UPath("simplecache::memory://name"), None, {}).options == {}


def test_ready_objects_are_handed_to_the_backend_that_knows_them():
    filesystem = fsspec.filesystem("memory")
    store = pytest.importorskip("obstore.store").MemoryStore()
    as_fsspec = pytest.importorskip("obstore.fsspec").FsspecStore("s3", region="eu")

    assert (parse(filesystem, None, {}).factory, parse(filesystem, None, {}).ready) == ("fsspec", filesystem)
    assert (parse(store, None, {}).factory, parse(store, None, {}).ready) == ("s3", store)
    assert parse((filesystem, "a/b"), None, {}).ready == (filesystem, "a/b")
    assert parse(as_fsspec, None, {}).factory == "fsspec"


def test_a_ready_object_takes_no_options():
    with pytest.raises(InvalidOptionError, match="leave out region") as caught:
        parse(fsspec.filesystem("memory"), {"region": "eu"}, {})

    assert caught.value.option == "region"


def test_a_backend_is_used_as_it_is():
    backend = open_memory("memory://location", {}, create=True)

    assert parse(backend, None, {}).open_backend(create=False) is backend


# -- opening -----------------------------------------------------------------------------------------------------------


def test_a_location_opens_its_backend():
    backend = parse("memory://location-open", None, {}).open_backend(create=True)

    assert isinstance(backend, MemoryBackend)
    assert backend.url == "memory://location-open"


def test_options_and_create_reach_the_factory():
    with pytest.raises(InvalidOptionError, match="regoin"):
        parse("memory://x", None, {"regoin": "eu"}).open_backend(create=True)
    with pytest.raises(StoreNotFoundError):
        parse("memory://never-made", None, {}).open_backend(create=False)


@pytest.fixture
def factory_module(monkeypatch):
    """A stand-in for a backend's module."""
    module = ModuleType("fake_backend_module")

    def factory(url, options, *, create):
        pytest.fail("a ready object has no URL")

    factory.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(location, "find_factory", lambda scheme: factory)
    return module


def test_a_ready_object_is_wrapped_by_the_module_of_the_factory(factory_module):
    backend = open_memory("memory://wrapped", {}, create=True)
    factory_module.from_object = lambda ready: backend if ready == "ready" else None

    assert Location("s3", "", ready="ready").open_backend(create=True) is backend


def test_a_ready_object_that_the_backend_cannot_use_is_refused(factory_module):
    factory_module.from_object = lambda ready: None

    with pytest.raises(InvalidURLError, match=r"builtins\.dict object: it cannot hold a store"):
        Location("s3", "", ready={}).open_backend(create=True)


def test_a_backend_without_a_way_to_wrap_objects_refuses_them(factory_module):
    with pytest.raises(InvalidURLError, match="it cannot hold a store"):
        Location("s3", "", ready={}).open_backend(create=True)


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("/plain/path", "/plain/path"),
        (f"s3://bucket/prefix?secret={SECRET}", "s3://bucket/prefix"),
        (f"sftp://user:{SECRET}@host:22/path", "sftp://host:22/path"),
        (f"sftp://user:{SECRET}/with/slashes@host/path", "sftp://host/path"),
        (f"sftp://user:{SECRET}?{SECRET}@host/path", "sftp://…"),
        (f"simplecache::sftp://user:{SECRET}@host/path", "simplecache::sftp://host/path"),
        (f"dir://sub/x::sftp://user:{SECRET}@host/path", "dir://sub/x::sftp://host/path"),
        (f"ftp://user:{SECRET}@host/x::sftp://u:{SECRET}@host/y", "ftp://host/x::sftp://host/y"),
        ("sftp://host:22/mail@example.org", "sftp://host:22/mail@example.org"),
        ("http://[::1]:9000/mail@example.org", "http://[::1]:9000/mail@example.org"),
    ],
)
def test_a_redacted_url_keeps_the_place_and_loses_the_secrets(url, shown):
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"nope://user:{SECRET}@host/path?secret={SECRET}",
        f" s3://user:{SECRET}@bucket",
        f"s3://user:{SECRET}@bu\tcket",
        f"file://user:{SECRET}@host/path",
        f"s3://user:{SECRET}@bucket?anon",
    ],
)
def test_no_error_shows_a_secret(url):
    with pytest.raises(InvalidURLError) as caught:
        parse(url, None, {})

    assert SECRET not in str(caught.value)


def test_a_location_hides_its_secrets_when_it_is_printed():
    found = parse(f"sftp://user:{SECRET}@host/path?password={SECRET}", None, {"token": SECRET})

    assert SECRET not in repr(found)
    assert "sftp://host/path" in repr(found)


def test_backends_that_are_shipped_are_those_of_the_entry_points():
    installed = {entry.name: entry.value for entry in installed_backends() if entry.dist.name == "bucketlog"}

    assert installed == SHIPPED


@pytest.mark.slow
def test_opening_a_store_of_a_shipped_backend_reads_no_metadata_of_what_is_installed(tmp_path):
    program = f"""
import sys, bucketlog
bucketlog.open({str(tmp_path / "events")!r}).stream("s").append(bucketlog.Event(type="e"))
bucketlog.open("memory://one").stream("s").append(bucketlog.Event(type="e"))
assert "importlib.metadata" not in sys.modules, sorted(one for one in sys.modules if one.startswith("importlib"))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
