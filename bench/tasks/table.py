"""Tables of text cells, read strictly from CSV, TSV, JSONL and Parquet files."""

from __future__ import annotations

import codecs
import csv
import datetime
import decimal
import io
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import InputError, in_one_line

Row = tuple[str | None, ...]

LONGEST_CELL = 1 << 24
LONGEST_NAME = 40
LONGEST_COLUMN = 200
MOST_SPARSE_COLUMNS = 1_000
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
FORMATS = " and ".join((", ".join(SUFFIXES[:-1]), SUFFIXES[-1]))
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
# What often stands in a file of text instead, by its first bytes, and what to do about it.
MISTAKEN = {
    b"PAR1": "is a Parquet file; name it .parquet",
    b"\x1f\x8b": "is compressed; give it unpacked",
    b"PK\x03\x04": "is a ZIP archive or a workbook; unpack it, or save the sheet as CSV in UTF-8",
}
BOM = "\ufeff"


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
    """`name` without case, surrounding space, BOM and plural: "Labels" and "label" are the same column.

    A BOM stands before a name where files were glued together.
    """
    word = name.replace(BOM, "").strip().casefold()
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
    if not path.exists():
        what = "is a link that leads nowhere" if path.is_symlink() else "does not exist"
        raise InputError(f"{path} {what}; check the path")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name one file in it")
    if not path.is_file():
        # A resumed run reads its data again, and a pipe or a device may never end.
        raise InputError(f"{path} is a pipe or a device; save what comes out of it as a file and give that")
    readers = {
        ".csv": lambda: _read_delimited(path, ","),
        ".tsv": lambda: _read_delimited(path, "\t"),
        ".jsonl": lambda: _read_jsonl(path),
        ".ndjson": lambda: _read_jsonl(path),
        ".parquet": lambda: _read_parquet(path),
    }
    read = readers.get(path.suffix.lower())
    if read is None:
        suffix = path.suffix or "files without a suffix"
        remedy = "unpack it, or " if path.suffix.lower() in PACKED else ""
        raise InputError(f"{path}: cannot read {suffix}; {remedy}give {FORMATS}")
    table = read()
    if not table.columns or not table.rows:
        raise InputError(f"{path} has no rows; give a file with one row per text")
    return table


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    if not data.removeprefix(codecs.BOM_UTF8).strip():
        raise InputError(f"{path} is empty; give a file with one row per text")
    return data


def _read_text(path: Path) -> str:
    data = _read_bytes(path)
    for beginning, remedy in MISTAKEN.items():
        if data.startswith(beginning):
            raise InputError(f"{path} {remedy}")
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
    return text.removeprefix(BOM)


def _read_delimited(path: Path, delimiter: str) -> Table:
    """Quotes are strict, lines without any cell are skipped, and every row must be as wide as the first."""
    text = _read_text(path)
    if _is_record(text.lstrip().partition("\n")[0]):
        raise InputError(f"{path} line 1: is a JSON object; name a file of one object per line .jsonl")
    csv.field_size_limit(LONGEST_CELL)  # the standard 128 KiB is less than a long document
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
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
            f"{path}: the row at line {start} is malformed: {error}; close every quote, "
            "and double those inside quoted cells"
        ) from None
    _check_widths(path, rows, lines, delimiter)
    if not _has_header(rows):
        columns = tuple(str(position) for position in range(1, len(rows[0]) + 1))
        return _of_file(path, columns, [tuple(row) for row in rows], lines, has_header=False)
    columns = tuple(name.strip() or str(position) for position, name in enumerate(rows[0], 1))
    _check_columns(path, columns)
    return _of_file(path, columns, [tuple(row) for row in rows[1:]], lines[1:])


def _is_record(line: str) -> bool:
    try:
        return line.startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _of_file(
    path: Path, columns: tuple[str, ...], rows: list[Row], lines: list[int], has_header: bool = True
) -> Table:
    if not _is_unicode(str(path.resolve())):
        raise InputError(f"{path}: this path is not UTF-8; rename the file or its folder")
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
            record = json.loads(text, object_pairs_hook=_unique_keys)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path} line {line}: not JSON ({error.msg}, column {error.colno}); write one object per line"
            ) from None
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path} line {line}: cannot be read ({in_one_line(error)}); write one flat object per line"
            ) from None
        if not isinstance(record, dict):
            raise InputError(f"{path} line {line}: not a JSON object; write one object per line")
        records[line] = record
    columns = tuple(dict.fromkeys(name for record in records.values() for name in record))
    _check_columns(path, columns)
    written, all_cells = sum(map(len, records.values())), len(columns) * len(records)
    # Each row gets all columns: rows with keys of their own would fill the memory with empty cells.
    if len(columns) > MOST_SPARSE_COLUMNS and 2 * written < all_cells:
        raise InputError(
            f"{path}: {len(columns):,} different keys leave most cells empty, and {MOST_SPARSE_COLUMNS:,} "
            "are the most that may; give each row the same keys"
        )
    rows = [
        to_row(str(path), line, columns, (record.get(name) for name in columns))
        for line, record in records.items()
    ]
    return _of_file(path, columns, rows, list(records))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a key that stands twice: RFC 8259 does not say which one holds."""
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return record


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    """Raise `InputError` for names that stand twice or are too long."""
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise InputError(f"{path}: two columns are called {min(repeated)!r}; rename one")
    longest = max(columns, key=len, default="")
    if len(longest) > LONGEST_COLUMN:
        raise InputError(f"{path}: a column is called {longest[:LONGEST_NAME]!r}…; give it a short name")


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    data = _read_bytes(path)
    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)).read()
        columns = tuple(table.column_names)
        _check_columns(path, columns)
        values = [column.to_pylist() for column in table.columns]
    except InputError:
        raise
    except Exception as error:  # a damaged file brings up whatever its decoders and converters raise
        raise InputError(
            f"{path} is not a readable Parquet file ({in_one_line(error)}); write it again"
        ) from None
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
        if not _is_unicode(value):
            raise InputError(f"{where}: holds half a surrogate pair; write the character itself in UTF-8")
        if len(value) > LONGEST_CELL:
            raise InputError(f"{where}: holds {len(value):,} characters; {LONGEST_CELL:,} are the most")
        return value
    if isinstance(value, bool | int | float | decimal.Decimal | datetime.date | datetime.time):
        return str(value)
    kinds: dict[type[Any], str] = {bytes: "binary", list: "nested", dict: "nested"}
    kind = kinds.get(type(value), type(value).__name__)
    raise InputError(f"{where}: holds a {kind} value; keep only columns of text and numbers")


def _is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
