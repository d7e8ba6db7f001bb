"""Tables of text cells, read strictly from CSV, TSV, JSONL and Parquet files."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import InputError

Row = tuple[str | None, ...]

LONGEST_CELL = 1 << 24
LONGEST_NAME = 40
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
FORMATS = " and ".join((", ".join(SUFFIXES[:-1]), SUFFIXES[-1]))


@dataclass(frozen=True)
class Table:
    """Rows as written: nothing stripped, nothing dropped.

    `source` is the file's path or the data set's id, `name` a short one. `lines` says where each row
    starts: its line, or its number where there are no lines. Columns without a name are called by their
    position: "1", "2", "3". `origin` is a sentence on where a data set came from.
    """

    source: str
    name: str
    columns: tuple[str, ...]
    rows: list[Row]
    lines: list[int]
    has_header: bool
    origin: str | None = None


def bare_name(name: str) -> str:
    """`name` without case, surrounding space and plural: "Labels" and "label" are the same column."""
    word = name.strip().casefold()
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


TEXT_NAMES = {
    *("text", "sentence", "headline", "title", "description", "content", "body", "review", "comment"),
    *("tweet", "message", bare_name("news"), "article", "document", "abstract", "paragraph", "post"),
    *("question", "query", "utterance"),
}
LABEL_NAMES = {"label", "category", "class", "target", "topic", "sentiment", "intent", "emotion", "genre"}


def read_table(path: Path) -> Table:
    """The table in `path`, whose suffix names its format. Text must be UTF-8, with or without a BOM.

    JSONL rows may leave keys out (None); numbers and booleans become their `str`, NaN is None.
    Raises InputError for a file that is missing, empty, unreadable or malformed, saying where.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name one file in it")
    readers = {
        ".csv": lambda: _read_delimited(path, ","),
        ".tsv": lambda: _read_delimited(path, "\t"),
        ".jsonl": lambda: _read_jsonl(path),
        ".ndjson": lambda: _read_jsonl(path),
        ".parquet": lambda: _read_parquet(path),
    }
    read = readers.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{path}: cannot read {path.suffix or 'files without a suffix'}; give {FORMATS}")
    table = read()
    repeated = {name for name in table.columns if table.columns.count(name) > 1}
    if repeated:
        raise InputError(f"{path}: two columns are called {min(repeated)!r}; rename one")
    if not table.columns or not table.rows:
        raise InputError(f"{path} has no rows; give a file with one row per text")
    return table


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    if not data.strip():
        raise InputError(f"{path} is empty; give a file with one row per text")
    return data


def _read_text(path: Path) -> str:
    data = _read_bytes(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} line {line}: byte {error.start} ({data[error.start]:#04x}) is not UTF-8; "
            "save it as UTF-8, for example: iconv -f ITS_ENCODING -t UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path} line {line}: holds a NUL byte; it is no text or UTF-16: save it as UTF-8")
    return text.removeprefix("\ufeff")


def _read_delimited(path: Path, delimiter: str) -> Table:
    """Quotes are strict, lines without any cell are skipped, and every row must be as wide as the first."""
    csv.field_size_limit(LONGEST_CELL)  # the standard 128 KiB is less than a long document
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}: the row at line {start} is malformed: {error}; double the quotes inside quoted cells"
        ) from None
    _check_widths(path, rows, lines, delimiter)
    if not _has_header(rows):
        columns = tuple(str(position) for position in range(1, len(rows[0]) + 1))
        return _of_file(path, columns, [tuple(row) for row in rows], lines, has_header=False)
    columns = tuple(name.strip() or str(position) for position, name in enumerate(rows[0], 1))
    return _of_file(path, columns, [tuple(row) for row in rows[1:]], lines[1:])


def _of_file(
    path: Path, columns: tuple[str, ...], rows: list[Row], lines: list[int], has_header: bool = True
) -> Table:
    folder = path.resolve().parent
    parent = "" if folder == Path.home() else folder.name  # a user's name is no data set's
    name = "/".join(filter(None, (parent, path.stem)))
    return Table(str(path), name, columns, rows, lines, has_header)


def _check_widths(path: Path, rows: list[list[str]], lines: list[int], delimiter: str) -> None:
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise InputError(
                f"{path} line {line}: {len(row)} cells where the first row has {len(rows[0])}; "
                f"quote cells that hold {'a tab' if delimiter == chr(9) else repr(delimiter)}"
            )


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns.

    No, where one of its cells is too long for a name. Yes, where it holds both a usual name for a text
    column and one for a label column. Otherwise only if none of its cells is a number or comes back
    further down in its column, as a label would; whole repetitions of the row do not count.
    """
    first = [cell.strip() for cell in rows[0]]
    if max(map(len, first)) > LONGEST_NAME:
        return False
    names = {bare_name(cell) for cell in first}
    if names & TEXT_NAMES and names & LABEL_NAMES:
        return True
    if any(_is_number(cell) for cell in first):
        return False
    others = [row for row in rows[1:] if row != rows[0]]
    return not any(
        cell.strip() == name != "" for row in others for cell, name in zip(row, first, strict=True)
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_jsonl(path: Path) -> Table:
    records: dict[int, dict[str, Any]] = {}
    for line, text in enumerate(_read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} line {line}: not JSON ({error}); write one object per line") from None
        if not isinstance(record, dict):
            raise InputError(f"{path} line {line}: not a JSON object; write one object per line")
        records[line] = record
    columns = tuple(dict.fromkeys(name for record in records.values() for name in record))
    rows = [
        to_row(str(path), line, columns, (record.get(name) for name in columns))
        for line, record in records.items()
    ]
    return _of_file(path, columns, rows, list(records))


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    data = _read_bytes(path)
    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)).read()
        columns = tuple(table.column_names)
        values = [column.to_pylist() for column in table.columns]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is not a readable Parquet file ({reason}); write it again") from None
    rows = [
        to_row(str(path), number, columns, cells) for number, cells in enumerate(zip(*values, strict=True), 1)
    ]
    return _of_file(path, columns, rows, list(range(1, len(rows) + 1)))


def to_row(source: str, line: int, columns: tuple[str, ...], values: Iterable[Any]) -> Row:
    """A row's cells as text, None where there is none. Raises InputError for what is no text or number."""
    return tuple(
        _cell(value, f"{source} row {line}, column {name!r}")
        for name, value in zip(columns, values, strict=True)
    )


def _cell(value: Any, where: str) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        # JSON can spell half a surrogate pair, which no tokenizer takes.
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise InputError(f"{where}: holds half a surrogate pair; write the character itself in UTF-8")
        return value
    if isinstance(value, bool | int | float | decimal.Decimal | datetime.date | datetime.time):
        return str(value)
    kind = "binary" if isinstance(value, bytes) else "nested"
    raise InputError(f"{where}: holds a {kind} value; keep only columns of text and numbers")
