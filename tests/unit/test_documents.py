"""JSON documents are read back unchanged, or refused with the place that is wrong."""

import collections
import enum
import uuid
from datetime import UTC, datetime

import pytest

from bucketlog.errors import CorruptCheckpointError
from bucketlog.format.documents import decode_document, encode_document
from bucketlog.format.json_values import DOCUMENT_LIMITS, check_json


class Colour(enum.StrEnum):
    RED = "red"


class Half(float):
    pass


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**64 - 1,
        1.5,
        "",
        "é\U0001f600\0",
        [],
        {},
        {"a": [1, {"b": None}], "": "empty key"},
    ],
)
def test_a_json_value_comes_back_as_it_was(value):
    data = encode_document(value)

    assert data.endswith(b"\n")
    assert decode_document(data, key="k", url="memory://x") == value


def test_subclasses_come_back_as_their_json_kind():
    value = [Colour.RED, Half(0.5), Point(1, (2, 3)), collections.OrderedDict(a=1)]

    assert decode_document(encode_document(value), key="k", url="") == ["red", 0.5, [1, [2, 3]], {"a": 1}]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1, {"b c": float("nan")}]}, "value.a[1]['b c'] is nan"),
        (float("inf"), "value is inf"),
        ([-float("inf")], "value[0] is -inf"),
        (2**64, "value is an integer over 64 bits"),
        (-(2**63) - 1, "value is an integer over 64 bits"),
        (["\ud800"], "value[0] holds lone surrogates"),
        ({"\udfff": 1}, "value['\\udfff'] holds lone surrogates"),
    ],
)
def test_a_value_that_json_would_change_is_refused_with_its_place(value, says):
    with pytest.raises(ValueError, match=r"^value") as caught:
        encode_document(value)

    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"id": uuid.UUID(int=1)}, "value.id is of type UUID"),
        ([datetime(2026, 1, 1, tzinfo=UTC)], "value[0] is of type datetime"),
        (b"bytes", "value is of type bytes"),
        ({"a": {1, 2}}, "value.a is of type set"),
        ({"a": {1: 2}}, "value.a has the key 1 of type int"),
        ({Colour.RED: 1}, "value has the key <Colour.RED: 'red'> of type Colour"),
        (object(), "value is of type object"),
    ],
)
def test_a_type_that_json_cannot_represent_is_refused_with_its_place(value, says):
    with pytest.raises(TypeError) as caught:
        check_json(value, DOCUMENT_LIMITS)

    assert str(caught.value).startswith(says)


def test_a_value_that_nests_too_deep_or_contains_itself_is_refused():
    deep: list[object] = []
    for _ in range(199):
        deep = [deep]
    endless: list[object] = []
    endless.append(endless)

    check_json(deep, DOCUMENT_LIMITS)
    for value in ([deep], endless):
        with pytest.raises(ValueError, match="nests over 200 deep"):
            encode_document(value)


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b"\xff", b'{"a":1} x', b"[" * 5000])
def test_error_for_garbage_names_the_object(data):
    with pytest.raises(CorruptCheckpointError, match=r"read memory://documents/checkpoints/x\.json") as caught:
        decode_document(data, key="checkpoints/x.json", url="memory://documents")

    assert caught.value.key == "checkpoints/x.json"
