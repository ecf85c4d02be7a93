"""A wrapper has the abilities of the backend inside it, or does not declare them."""

import uuid

import pytest

from bucketlog.backend import ABSENT, AppendBackend, Capabilities, UploadBackend, WatchBackend
from bucketlog.errors import ConflictError
from bucketlog.storage.single_writer import emulate_conditions
from bucketlog.storage.wrapper import BackendWrapper, class_around
from bucketlog_backends.memory import open_memory


@pytest.fixture
def inner():
    return open_memory(f"memory://{uuid.uuid4()}", {}, create=True)


class Uploads(BackendWrapper):
    def upload(self, key, source):
        self.inner.upload(key, source)


class Appends(BackendWrapper):
    def append(self, key, data, *, expected_size, sync=True):
        self.inner.append(key, data, expected_size=expected_size, sync=sync)


def test_methods_are_forwarded(inner):
    wrapper = BackendWrapper(inner)

    version = wrapper.put("a/0", b"first", if_version=ABSENT)
    with pytest.raises(ConflictError):
        wrapper.put("a/0", b"second", if_version=ABSENT)

    assert (wrapper.name, wrapper.url) == (inner.name, inner.url)
    assert wrapper.get("a/0", 1, 3).data == b"ir"
    assert wrapper.head("a/0").version == version
    assert [entry.key for entry in wrapper.list("a/", delimiter=True)] == ["a/0"]
    assert list(wrapper.list("a/", start_after="a/0")) == []
    wrapper.delete(["a/0"])
    assert list(inner.list("")) == []


def test_plain_wrapper_neither_has_nor_declares_optional_abilities(inner):
    wrapper = BackendWrapper(inner)

    assert inner.capabilities == Capabilities(append=True, watch=True)
    assert wrapper.capabilities == Capabilities()
    assert not any(isinstance(wrapper, ability) for ability in (AppendBackend, UploadBackend, WatchBackend))


def test_wrapper_with_the_methods_declares_what_its_inner_backend_declares(inner):
    assert Appends(inner).capabilities == Capabilities(append=True)
    assert Appends(BackendWrapper(inner)).capabilities == Capabilities()


def test_class_around_has_the_abilities_of_the_inner_backend(inner):
    abilities = [(UploadBackend, Uploads)]

    assert isinstance(class_around(inner, BackendWrapper, abilities)(inner), UploadBackend)
    assert class_around(BackendWrapper(inner), BackendWrapper, abilities) is BackendWrapper


def test_single_writer_does_not_declare_appends_that_it_cannot_make(inner):
    class Unconditional(Appends):
        capabilities = Capabilities(exclusive_create=False, append=True)

    assert emulate_conditions(Unconditional(inner)).capabilities == Capabilities()
