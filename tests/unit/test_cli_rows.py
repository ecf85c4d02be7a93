"""The rows of a JSONL or CSV file, and the lines that cannot be read."""

from __future__ import annotations

import io

import pytest

from bucketlog.cli.rows import BadLine, CsvRows, HeaderError, Row, read_jsonl


def jsonl(data):
    return list(read_jsonl(io.BytesIO(data)))


def csv(data, delimiter=","):
    return list(CsvRows(io.BytesIO(data), delimiter=delimiter))


def columns(found):
    return [one.columns for one in found]


def test_every_object_of_a_jsonl_file_is_a_row_with_its_line_number():
    found = jsonl(b'{"a": 1}\n\n  \n{"b": [true, null]}')

    assert [(one.line, one.columns) for one in found] == [(1, {"a": 1}), (4, {"b": [True, None]})]


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    assert columns(jsonl(b'\xef\xbb\xbf{"a": 1}\n')) == [{"a": 1}]
    assert columns(csv(b"\xef\xbb\xbfa\n1\n")) == [{"a": "1"}]


def test_whole_numbers_of_any_size_are_kept_exactly():
    assert columns(jsonl(b'{"n": 123456789012345678901234567890}')) == [{"n": 123456789012345678901234567890}]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "expected a JSON object, found a list"),
        (b'"a"', "found a string"),
        (b"1.5", "found a number"),
        (b"true", "found a boolean"),
        (b"null", "found null"),
    ],
)
def test_a_line_that_is_no_json_object_is_a_bad_line_and_the_next_one_is_read(line, why):
    bad, after = jsonl(line + b'\n{"a": 2}\n')

    assert isinstance(bad, BadLine)
    assert bad.line == 1
    assert why in bad.why
    assert (after.line, after.columns) == (2, {"a": 2})


def test_cells_of_csv_are_texts_and_an_empty_one_is_none():
    assert columns(csv(b'a,b,c\r\n1,"x, ""y""",\r\n')) == [{"a": "1", "b": 'x, "y"', "c": None}]


def test_a_cell_of_csv_may_hold_newlines_and_its_row_ends_where_the_line_number_says():
    found = csv(b'a,b\n"one\ntwo",2\n3,4\n')

    assert [(one.line, one.columns) for one in found] == [
        (3, {"a": "one\ntwo", "b": "2"}),
        (4, {"a": "3", "b": "4"}),
    ]


def test_cells_may_be_parted_by_another_character():
    assert columns(csv(b"a\tb\n1,5\t2\n", "\t")) == [{"a": "1,5", "b": "2"}]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"1", "1 cells, but the header names 2 columns"),
        (b"1,2,3", "3 cells"),
        (b'"1"x,2', "expected after"),
        (b"\xff,2", "can't decode"),
        (b"x" * 9_000_000 + b",2", "field limit"),
    ],
)
def test_a_line_of_csv_that_does_not_fit_is_a_bad_line_and_the_next_one_is_read(line, why):
    bad, after = csv(b"a,b\n" + line + b"\n8,9\n")

    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert why in bad.why
    assert isinstance(after, Row)
    assert after.columns == {"a": "8", "b": "9"}


@pytest.mark.parametrize(
    ("header", "why"),
    [(b"a,,b", "column 2 has no name"), (b"a,b,a", "names a twice"), (b"\xff,b", "cannot be read")],
)
def test_a_header_that_does_not_name_all_columns_is_refused(header, why):
    with pytest.raises(HeaderError, match=why):
        csv(header + b"\n1,2,3\n")


def test_an_empty_csv_file_has_no_rows():
    assert csv(b"") == []
