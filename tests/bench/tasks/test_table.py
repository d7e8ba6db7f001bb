"""Reading tables: every format, every way a file can be wrong."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import InputError
from bench.tasks.table import LONGEST_CELL, MOST_SPARSE_COLUMNS, Row, Table, read_table

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_table(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\none,A\n\n two ,B\n"),
        ("a.CSV", "\ufefftext,label\r\none,A\r\n\r\n two ,B\r\n"),
        ("a.tsv", "text\tlabel\none\tA\n\n two \tB"),
        ("a.jsonl", '{"text": "one", "label": "A"}\n\n{"text": " two ", "label": "B"}\n'),
        ("a.ndjson", '{"text": "one", "label": "A"}\r\n\r\n{"label": "B", "text": " two "}'),
    ],
)
def test_every_text_format_gives_the_same_table(write: Write, name: str, content: str) -> None:
    path = write(name, content)
    lines = [1, 3] if "json" in name else [2, 4]
    rows: list[Row] = [("one", "A"), (" two ", "B")]
    assert read_table(path) == Table(
        str(path), f"{path.parent.name}/a", ("text", "label"), rows, lines, has_header=True
    )


def test_parquet_numbers_and_booleans_become_text_and_nan_is_missing(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet",
        {"text": ["one", None], "label": [3, 4], "score": [1.5, float("nan")], "good": [True, False]},
    )
    table = read_table(path)
    assert table.columns == ("text", "label", "score", "good")
    assert table.rows == [("one", "3", "1.5", "True"), (None, "4", None, "False")]
    assert table.lines == [1, 2]


def test_jsonl_keys_may_be_left_out_and_numbers_become_text(write: Write) -> None:
    table = read_table(write("a.jsonl", '{"text": "one\\u2028", "label": 1}\n{"label": true, "extra": null}'))
    assert table.columns == ("text", "label", "extra")
    assert table.rows == [("one\u2028", "1", None), (None, "True", None)]


def test_quoted_cells_may_hold_lines_and_rows_know_where_they_start(write: Write) -> None:
    table = read_table(write("a.csv", 'text,label\n"a\nb, ""c""",A\nd,B\n'))
    assert table.rows == [('a\nb, "c"', "A"), ("d", "B")]
    assert table.lines == [2, 4]


@pytest.mark.parametrize(
    "content",
    [
        "text,label\ngood,1\nbad,0\n",
        "Text,Label\ngood,1\nText,Label\nbad,0\n",
        "Headline,Category\ngood,Label\n,Category\n",
        "label,0,text\n1,x,good\n",
        ",text,label\n0,good,A\n1,bad,B\n",
        "utterance,intention\ngood,A\nbad,A\nutterance,intention\n",
        "मजकूर,विषय\nचांगले,A\nवाईट,B\n",
        "verbatim,code,\ngood,A,\nbad,B,\n",
    ],
)
def test_a_header_is_recognised(write: Write, content: str) -> None:
    table = read_table(write("a.csv", content))
    assert table.has_header
    header = [name or str(place) for place, name in enumerate(content.partition("\n")[0].split(","), 1)]
    assert table.columns == tuple(header)


@pytest.mark.parametrize(
    "content",
    [
        '"3","Fears for pension","Unions say so"\n"4","The Race is On","A team"\n',
        "Sports,They won\nHealth,They are well\nSports,They lost\n",
        "They won the cup in the very last minute of a long match,Sports\nbad,Health\n",
        "good,1\nbad,0\n",
    ],
)
def test_a_file_without_a_header_keeps_its_first_row(write: Write, content: str) -> None:
    table = read_table(write("a.csv", content))
    assert not table.has_header
    assert table.columns == tuple("123"[: len(table.columns)])
    assert len(table.rows) == content.count("\n")
    assert table.lines[0] == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", r": cannot read \.txt; give \.csv, \.tsv"),
        ("a", "x", ": cannot read files without a suffix"),
        ("a.csv", "", " is empty; give"),
        ("a.jsonl", " \n\n", " is empty; give"),
        ("a.parquet", "", " is empty; give"),
        ("a.csv", "text,label\n", " has no rows; give"),
        ("a.jsonl", "{}\n", " has no rows; give"),
        ("a.csv", "text,label\na,A\nb,c,B\n", r" line 3: 3 cells where the first row has 2; .*','"),
        ("a.tsv", "text\tlabel\na\n", " line 2: 1 cells where .*a tab"),
        ("a.csv", "text,text,label\na,b,A\n", ": two columns are called 'text'; rename one"),
        ("a.csv", 'text,label\na,A\n"b,B\nc,C\n', ": the row at line 3 is malformed: unexpected end of data"),
        ("a.csv", 'text,label\n"b"c,B\n', ": the row at line 2 is malformed: ',' expected after '\"'"),
        (
            "a.csv",
            b"text,label\na,A\ncaf\xe9,B\n",
            r" line 3: byte 18 \(0xe9\) is not UTF-8; save it as UTF-8",
        ),
        ("a.csv", "text,label\na,A\n".encode("utf-16"), r" line 1: byte 0 \(0xff\) is not UTF-8; save it as"),
        ("a.csv", "text,label\na,A\n".encode("utf-16-le"), " line 1: holds a NUL byte; .* UTF-16"),
        ("a.csv", "text,label\na\0,A\n", " line 2: holds a NUL byte"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r" line 2: not JSON \(Expecting value, column 10\); write"),
        ("a.jsonl", '{"text": ' + "1" * 5000 + "}", r" line 1: cannot be read \(Exceeds the limit"),
        ("a.jsonl", "[" * 100_000, r" line 1: cannot be read \(maximum recursion depth .*; write one flat"),
        ("a.jsonl", '["a"]\n', " line 1: not a JSON object"),
        ("a.jsonl", '{"a": 1}\n{"a": [1]}', " row 2, column 'a': holds a nested value; keep only"),
        ("a.jsonl", '{"a": "\\ud800"}', " row 1, column 'a': holds half a surrogate pair"),
        ("a.parquet", "text,label\na,A\n", r" is not a readable Parquet file \(.*\); write it again"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    write: Write, name: str, content: str | bytes, message: str
) -> None:
    assert re.match(message, refusal(write(name, content)))


def test_a_cell_beyond_every_limit_is_refused(write: Write) -> None:
    path = write("a.csv", f"text,label\n{'x' * 200_000},A\n")
    assert len(read_table(path).rows[0][0] or "") == 200_000
    path = write("b.csv", f"text,label\n{'x' * (LONGEST_CELL + 1)},A\n")
    assert "line 2 is malformed: field larger than field limit" in refusal(path)


def test_nested_and_binary_parquet_columns_are_refused(tmp_path: Path) -> None:
    nested = write_parquet(tmp_path / "a.parquet", {"text": ["a"], "tokens": [["a"]]})
    assert refusal(nested).startswith(" row 1, column 'tokens': holds a nested value")
    binary = write_parquet(tmp_path / "b.parquet", {"text": [b"a"]})
    assert refusal(binary).startswith(" row 1, column 'text': holds a binary value")


def test_a_table_may_be_as_wide_as_it_was_written(write: Write, tmp_path: Path) -> None:
    names = [f"x{place}" for place in range(2 * MOST_SPARSE_COLUMNS)]
    record = json.dumps(dict.fromkeys(names, 0.5)) + "\n"
    paths = [
        write("a.csv", ",".join(names) + "\n" + ",".join(["y"] * len(names))),
        write("b.jsonl", record * 3 + "{}\n" * 2),
        write_parquet(tmp_path / "c.parquet", {name: [0.5] for name in names}),
    ]
    for path in paths:
        assert read_table(path).columns == tuple(names)


def test_rows_of_keys_of_their_own_are_refused_where_they_would_widen_the_table(write: Write) -> None:
    rows = [json.dumps({f"x{row}": 1}) + "\n" for row in range(MOST_SPARSE_COLUMNS + 1)]
    assert len(read_table(write("a.jsonl", "".join(rows[1:]))).columns) == MOST_SPARSE_COLUMNS
    message = refusal(write("b.jsonl", "".join(rows)))
    assert message.startswith(": 1,001 different keys leave most cells empty, and 1,000 are the most")


def test_a_value_that_is_no_text_is_called_by_its_kind(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a"], "took": [datetime.timedelta(seconds=1)]})
    assert refusal(path).startswith(" row 1, column 'took': holds a timedelta value; keep only columns")


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == " is a folder; name one file in it"
    assert refusal(tmp_path / "a.csv") == " does not exist; check the path"


def test_an_unreadable_file_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")  # a mode would not stop a test that runs as root

    path = write("a.csv", "text,label\na,A\n")
    monkeypatch.setattr(Path, "read_bytes", deny)
    assert refusal(path) == " cannot be read: Permission denied; check its permissions"


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a"] * 100})
    path.write_bytes(path.read_bytes()[:-20])
    assert "is not a readable Parquet file" in refusal(path)
