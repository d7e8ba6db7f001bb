"""Files that nobody meant to write: each is a table, or refused in one line that names it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import InputError
from bench.nouns.task import Task
from bench.tasks.files import FileOptions, load_files
from bench.tasks.table import Table, read_table

Cells = list[tuple[str, str]]

HEADER = ("text", "label")
ROWS = [(f"some words, {row}\nand more", "AB"[row % 2]) for row in range(12)]


def delimited(rows: Cells, delimiter: str) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([HEADER, *rows])
    return file.getvalue().encode()


def json_lines(rows: Cells) -> bytes:
    return "".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in rows).encode()


def parquet(rows: Cells) -> bytes:
    file = io.BytesIO()
    columns = {name: pyarrow.array([row[at] for row in rows], "string") for at, name in enumerate(HEADER)}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


WRITERS: dict[str, Any] = {
    ".csv": lambda rows: delimited(rows, ","),
    ".tsv": lambda rows: delimited(rows, "\t"),
    ".jsonl": json_lines,
    ".parquet": parquet,
}
VALID: dict[str, bytes] = {suffix: write(ROWS) for suffix, write in WRITERS.items()}
PIECES = [
    *(
        b'"',
        b'""',
        b",",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n",
        b" ",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"\\u0000",
        b"\\ud800",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xff",
        b"\0",
        b"\x1b",
        "\u202e".encode(),
        "\u200b".encode(),
        "मराठी".encode(),
        b"1e999",
    ),
    *(b'{"a": 1}', b"text,label", b"NaN", b"null", b"true", b"A", b'"A"\n', b"PAR1"),
]
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def damaged(draw: st.DrawFn, suffix: str) -> bytes:
    """A valid file in which a few stretches, up to 9 bytes long, were replaced, removed or added."""
    content = bytearray(VALID[suffix])
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(content)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=4))
        content[start : start + draw(st.integers(0, 9))] = piece
    return bytes(content)


def read_or_refused(path: Path) -> Table | None:
    """The table in `path`, looked over, or None where it was refused as it should be."""
    try:
        table = read_table(path)
    except InputError as error:
        assert_names(path, error)
        return None
    assert table.columns
    assert table.rows
    assert len(set(table.columns)) == len(table.columns)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert len(table.lines) == len(table.rows)
    assert sorted(set(table.lines)) == table.lines
    return table


def assert_names(path: Path, error: InputError) -> None:
    assert str(path) in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


@in_one_folder
@given(
    suffix=st.sampled_from(sorted(VALID)),
    content=st.lists(st.sampled_from(PIECES)).map(b"".join) | st.binary(),
)
def test_any_bytes_are_a_table_or_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    read_or_refused(path)


@pytest.mark.parametrize("suffix", VALID)
@in_one_folder
@given(data=st.data())
def test_a_damaged_file_is_a_table_or_refused(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(data.draw(damaged(suffix)))
    read_or_refused(path)


@pytest.mark.parametrize("suffix", VALID)
@settings(in_one_folder, max_examples=50)
@given(data=st.data())
def test_a_damaged_file_is_a_task_or_refused(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(data.draw(damaged(suffix)))
    try:
        task = load_files(FileOptions(train=path, test=None, test_split=0.3))
    except InputError as error:
        assert_names(path, error)
        return
    assert_whole(task, read_table(path))


def assert_whole(task: Task, table: Table) -> None:
    """Every row of the file is in one part, or was counted as dropped."""
    parts = (task.train, task.validation, task.test)
    assert sum(map(len, parts)) + sum(task.dropped.values()) == len(table.rows)
    assert len(set(task.labels)) == len(task.labels) >= 2
    assert {row.label for row in task.train} == set(range(len(task.labels)))
    assert all(row.text for part in parts for row in part)
    assert not any("\n" in label or "\x1b" in label or "\u202e" in label for label in task.labels)


@pytest.mark.parametrize("suffix", VALID)
@in_one_folder
@given(
    cells=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"))] * 2), min_size=1
    )
)
def test_what_was_written_is_read(tmp_path: Path, suffix: str, cells: Cells) -> None:
    path = tmp_path / f"written{suffix}"
    path.write_bytes(WRITERS[suffix](cells))
    table = read_or_refused(path)
    assert table is not None
    assert (table.columns, table.rows, table.has_header) == (HEADER, cells, True)
