"""Any text is a name: it decodes to itself, shares its file with no other name, and stays below its folder."""

import re
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bucketlog.errors import BucketlogError, InvalidNameError
from bucketlog.format.names import PART_BYTES_MAX, decode_name, encode_name

AWKWARD = [
    *("/", "\\", ".", "..", "...", ".hidden", "a.", "a..", "a b", " a", "a ", "a/b", "../../etc/passwd", "C:\\x"),
    *(
        "%",
        "%2F",
        "%2f",
        "%63on",
        "con",
        "CON",
        "Con.txt",
        "con.",
        "nul",
        "aux.json",
        "com1",
        "lpt9.x",
        "com10",
        "console",
    ),
    *(
        "~",
        "~user",
        "a~1",
        "?",
        "*",
        "#",
        "&",
        "+",
        "=",
        ":",
        "<>",
        "|",
        '"',
        "'",
        "\n",
        "\r\n",
        "\t",
        "\x1b[0m",
        "\x7f",
    ),
    *("ü", "u\u0308", "İ", "ß", "日本語", "😀", "\u202e", "\ufeff", "\u2028", "-", "_", "__", "-rf", "$HOME", "`id`"),
    *("stream.json", "bounds.json", "STREAM.JSON", "stream.json2", "00000000000000000000.jsonl", ".lock", ".torn-1"),
]
names = st.sampled_from(AWKWARD) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
)
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def encoded(name: str) -> str | None:
    try:
        return encode_name(name)
    except InvalidNameError:
        return None  # too long


def assert_is_a_plain_file_name(part: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_\-.%]{1,255}", part)
    assert not part.startswith(".")
    assert not part.endswith(".")
    assert not RESERVED.match(part)
    assert PurePosixPath(part).parts == PureWindowsPath(part).parts == (part,)


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_come_back_as_given(name):
    part = encode_name(name)

    assert decode_name(part) == name
    assert_is_a_plain_file_name(part)


@given(names)
def test_every_name_comes_back_as_given_from_a_plain_file_name(name):
    part = encoded(name)

    if part is None:
        assert len(name.encode()) * 3 > PART_BYTES_MAX
    else:
        assert decode_name(part) == name
        assert_is_a_plain_file_name(part)


@given(names, names)
@example("con", "%63on")
@example("a.", "a%2E")
@example("ü", "u\u0308")
def test_no_two_names_share_a_file(one, other):
    parts = encoded(one), encoded(other)

    if one != other and None not in parts:
        assert parts[0] != parts[1]


@pytest.mark.slow
@given(names, names)
@example("con", "CON")
@example("é", "É")
@example("K", "\u212a")
def test_on_a_disk_that_ignores_case_only_names_that_differ_in_the_case_of_ascii_share_a_file(one, other):
    parts = encoded(one), encoded(other)

    if None not in parts and parts[0].lower() == parts[1].lower():
        assert re.sub("[A-Z]", lambda found: found[0].lower(), one) == re.sub(
            "[A-Z]", lambda found: found[0].lower(), other
        )


@given(names)
def test_names_of_the_store_itself_are_never_taken(name):
    assert encoded(name) not in {"stream.json", "bounds.json", ".lock", ".probe"}


def test_plain_names_stay_readable():
    for name in ("orders", "2026-02-05", "flight_UA-1545", "v1.2"):
        assert encode_name(name) == name
    assert encode_name("a/b c") == "a%2Fb%20c"


def test_a_suffix_is_not_encoded_and_counts_towards_the_length():
    assert encode_name("a.", suffix=".json") == "a%2E.json"
    assert encode_name("con", suffix=".json") == "%63on.json"
    assert len(encode_name("x" * 250, suffix=".json")) == PART_BYTES_MAX
    with pytest.raises(InvalidNameError, match="256 bytes when encoded, at most 255"):
        encode_name("x" * 251, suffix=".json")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "cannot be empty"),
        ("a\0b", "NUL"),
        ("\ud800", "lone surrogates"),
        ("a\udfff/b", "lone surrogates"),
        ("x" * 256, "256 bytes"),
        ("é" * 43, "258 bytes"),
        ("/" * 86, "258 bytes"),
        (None, "not NoneType"),
        (b"a", "not bytes"),
        (5, "not int"),
    ],
)
def test_what_cannot_be_a_name_is_refused_saying_what_it_was_to_name(name, why):
    with pytest.raises(InvalidNameError, match=why) as caught:
        encode_name(name, what="partition")

    assert str(caught.value).startswith("partition")
    assert caught.value.name == (name if isinstance(name, str) else repr(name))
    assert isinstance(caught.value, (BucketlogError, ValueError))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("part", ["%FF", "%C3", "a%E2%82"])
def test_a_component_that_no_name_encodes_to_is_recognised(part):
    with pytest.raises(UnicodeDecodeError):
        decode_name(part)
