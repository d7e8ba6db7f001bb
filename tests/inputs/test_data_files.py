"""Data that cannot be used, through the whole command line: one line says what, where and what to do."""

from __future__ import annotations

import io
import os
import re
import socket
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from bench.tasks.table import LONGEST_CELL, MOST_SPARSE_COLUMNS
from tests.inputs.refused import carried_out, refused

PLAN = ("run", "--dry-run", "--variants", "mp")
ROWS = "".join(f"words of row {row},{'AB'[row % 2]}\n" for row in range(20))
GOOD = "text,label\n" + ROWS
RECORD = '{"text": "some words", "label": "A"}\n'
TRAIN = ("--train", "a.csv", "--test-split", "0.2")
HOSTILE = "\x1b[31mred\x07\u202etxt"


def many(label: str, rows: int = 300) -> str:
    """A file whose labels are `label` with the row's number."""
    return "text,label\n" + "".join(f"words of {row},{label.format(row)}\n" for row in range(rows))


def parquet(**columns: Any) -> bytes:
    """The bytes of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def workbook() -> bytes:
    """The first bytes of a ZIP archive, which a workbook is."""
    return b"PK\x03\x04" + bytes(64)


# One line a case: the file's name, what is in it, and what the refusal says.
FILES: dict[str, tuple[str, str | bytes, str]] = {
    # nothing in it
    "empty": ("a.csv", "", "a.csv is empty; give a file with one row"),
    "white space": ("a.tsv", " \n\t\r\n", "a.tsv is empty"),
    "a BOM alone": ("a.csv", b"\xef\xbb\xbf\n", "a.csv is empty"),
    "a BOM alone, JSON": ("a.jsonl", b"\xef\xbb\xbf", "a.jsonl is empty"),
    "only a header": ("a.csv", "text,label\n", "a.csv has no rows"),
    "only empty objects": ("a.jsonl", "{}\n{}\n", "a.jsonl has no rows"),
    "no Parquet rows": ("a.parquet", parquet(text=[], label=[]), "a.parquet has no rows"),
    # encodings
    "UTF-16 with a BOM": ("a.csv", GOOD.encode("utf-16"), "a.csv line 1: byte 0 (0xff) .* save it as UTF-8"),
    "UTF-16 without": ("a.csv", GOOD.encode("utf-16-le"), "line 1: holds a NUL byte; .* save it as UTF-8"),
    "UTF-32": ("a.csv", GOOD.encode("utf-32-be"), "line 1: holds a NUL byte; .* save it as UTF-8"),
    "Latin-1": ("a.csv", b"text,label\na b,A\ncaf\xe9 c,B\n", "line 3: byte 20 (0xe9) .* iconv"),
    "CP1252 quotes": ("a.csv", b"text,label\n\x93so\x94,A\n", "line 2: byte 11 (0x93) is not UTF-8"),
    "cut UTF-8": ("a.csv", "text,label\na,मराठी".encode()[:-1], "line 2: byte 25 (0xe0) is not UTF-8"),
    "overlong UTF-8": ("a.csv", b"text,label\n\xc0\xaf,A\n", "line 2: byte 11 (0xc0) is not UTF-8"),
    "a NUL byte": ("a.csv", "text,label\na b,A\nc\0d,B\n", "line 3: holds a NUL byte"),
    # another format than the name says
    "JSON lines in CSV": ("a.csv", RECORD * 9, "a.csv line 1: is a JSON object; .* .jsonl"),
    "Parquet in CSV": ("a.csv", parquet(text=["a"], label=["A"]), "a.csv is a Parquet file; name it"),
    "CSV in Parquet": ("a.parquet", GOOD, "a.parquet is not a readable Parquet file .* write it again"),
    "CSV in JSON lines": ("a.jsonl", GOOD, "a.jsonl line 1: not JSON (Expecting value, column 1); write one"),
    "gzip in CSV": ("a.csv", b"\x1f\x8b\x08\0", "a.csv is compressed; give it unpacked"),
    "a workbook in CSV": ("a.csv", workbook(), "a.csv is a ZIP archive or a workbook; .* as CSV in UTF-8"),
    "a workbook": ("a.xlsx", workbook(), "a.xlsx: cannot read .xlsx; give .csv, .tsv"),
    "a packed CSV": ("a.csv.gz", b"\x1f\x8b\x08\0", "a.csv.gz: cannot read .gz; unpack it, or give .csv"),
    "a ZIP archive": ("a.zip", workbook(), "a.zip: cannot read .zip; unpack it"),
    "semicolons": ("a.csv", GOOD.replace(",", ";"), "no column could be the label; .* 'text;label'"),
    # rows and columns
    "an open quote": ("a.csv", 'text,label\na,A\n"b,B\nc,C\n', "row at line 3 is malformed: .* close every"),
    "text after a quote": ("a.csv", 'text,label\n"b"c,B\n', "row at line 2 is malformed: .* double those"),
    "a longer row": ("a.csv", "text,label\na,A\nb,c,B\n", "line 3: 3 cells where the first row has 2; quote"),
    "a shorter row": ("a.tsv", "text\tlabel\na\n", "line 2: 1 cells where .* a tab"),
    "a column twice": ("a.csv", "text,text,label\na,b,A\n", "two columns are called 'text'; rename one"),
    "twice but for space": ("a.csv", "text, text,label\na,b,A\n", "two columns are called 'text'; rename"),
    "twice but for case": ("a.csv", "text,label,Label\na,A,B\n", "several columns .* 'label', 'Label'"),
    "no name, then one": ("a.csv", "text,,label,2\na,b,A,c\n", "two columns are called '2'; rename one"),
    "many columns, no label": (
        "a.csv",
        ",".join(f"x{place}" for place in range(2000)) + "\n" + "," * 1999,
        "no column could be the label; .* 'x18', 'x19' and 1,980 more",
    ),
    "a key a row": (
        "a.jsonl",
        "".join(f'{{"id {row}": "words"}}\n' for row in range(MOST_SPARSE_COLUMNS + 1)),
        "a.jsonl: 1,001 different keys leave most cells empty, .*; give each row the same keys",
    ),
    "a long key": (
        "a.jsonl",
        f'{{"{"k" * 300}": "a"}}',
        "a column is called 'kkkk.*'…; give it a short name",
    ),
    "no text": ("a.csv", "code,label\n1,A\n2,B\n", "no column reads like text; .* --text-column: 'code'"),
    "no label": ("a.csv", "text,other\na b,c d\n", "no column could be the label; .* --label-column"),
    "several labels": ("a.csv", "text,class,topic\na b,A,B\n", "several columns .* 'class', 'topic'"),
    "cells left out": ("a.csv", "text,label\n,A\nb,B\nc,\n", "2 of 3 rows cannot be used (1 no text, 1 no l"),
    # JSON
    "broken JSON": (
        "a.jsonl",
        RECORD + '{"text": \n',
        "line 2: not JSON (Expecting value, column 10); write",
    ),
    "two on a line": ("a.jsonl", RECORD.strip() * 2, "line 1: not JSON (Extra data, column 37)"),
    "a list at the top": ("a.jsonl", '[{"text": "a"}]\n', "line 1: not a JSON object; write one object per"),
    "a whole document": ("a.jsonl", '[\n  {"text": "a"}\n]', "line 1: not JSON .* write one object per line"),
    "a nested value": (
        "a.jsonl",
        '{"text": ["a"], "label": 1}',
        "row 1, column 'text': holds a nested value",
    ),
    "a key twice": (
        "a.jsonl",
        '{"text": "a", "text": "b"}',
        "line 1: cannot be read (the key 'text' stands twice",
    ),
    "half a surrogate": ("a.jsonl", '{"text": "\\ud83d"}', "row 1, column 'text': holds half a surrogate"),
    "deep nesting": ("a.jsonl", '{"text": ' + "[" * 100_000, "line 1: cannot be read .* one flat object"),
    "5,000 digits": ("a.jsonl", '{"text": ' + "1" * 5000 + "}", "line 1: cannot be read (Exceeds the limit"),
    "an escape in JSON": ("a.jsonl", '{"te\x1b[31mxt": "a"}', "line 1: not JSON (Invalid control character"),
    "an escape in a key": ("a.jsonl", '{"te\\u001b[31mxt": {}}', "column 'te\\x1b[31mxt': holds a nested"),
    # Parquet
    "cut Parquet": ("a.parquet", parquet(text=["a"] * 99)[:-20], "is not a readable Parquet file .* again"),
    "binary Parquet": ("a.parquet", parquet(text=[b"a"]), "row 1, column 'text': holds a binary value"),
    "nested Parquet": ("a.parquet", parquet(text=["a"], tokens=[["a"]]), "'tokens': holds a nested value"),
    # labels
    "one label": ("a.csv", "text,label\na b,A\nc d,A\n", "every row has the label 'A'; .* needs two or more"),
    "a row a class": ("a.csv", "text,label\na b,A\nc d,B\n", "no class has two rows.*; give --test a file"),
    "amounts": ("a.csv", many("0.{:03}") * 9, "300 different labels in .* hardly classes; .* into ranges"),
    "a label a row": ("a.csv", many("id {}"), "300 different labels in 300 rows, such as 'id 0', .* --label"),
    "NaN alone": ("a.jsonl", '{"text": "a", "label": NaN}\n' * 9, "9 of 9 rows cannot be used (9 no label)"),
    "a sentence a label": ("a.csv", GOOD + f"a,{'x' * 5000}\n", "line 22: a label of 5,000 characters; 200"),
    "a line in a label": ("a.csv", GOOD + 'a,"B\nC"\n', "line 22: the label 'B\\nC' holds a control char"),
    "a tab in a label": ("a.csv", GOOD + "a,B\tC\n", "line 22: the label 'B\\tC' holds a control character"),
    "an escape in a label": (
        "a.csv",
        GOOD + "a,B\x1b[2J\n",
        "line 22: the label 'B\\x1b[2J' holds a control",
    ),
    "a turned label": ("a.csv", GOOD + "a,B\u202eC\n", "line 22: the label 'B\\u202eC' holds a control char"),
    "a NUL in a label": (
        "a.jsonl",
        '{"text": "a", "label": "\\u0000A"}',
        "the label '\\x00A' holds a control",
    ),
    "a label set apart": (
        "a.csv",
        GOOD + "a,B\u2067C\u2069\n",
        "line 22: the label 'B\\u2067C\\u2069' holds",
    ),
    "an unseen label": ("a.csv", GOOD + "a,\u200b\n", "line 22: nothing of the label '\\u200b' can be seen"),
    "a joiner alone": ("a.csv", GOOD + "a,\u200d\n", "line 22: nothing of the label '\\u200d' can be seen"),
    "labels alike, NFD": (
        "a.csv",
        GOOD + "a,caf\xe9\nb," + unicodedata.normalize("NFD", "caf\xe9") + "\n",
        "line 23: the label 'cafe\\u0301' looks like 'caf\\xe9' (.*a.csv line 22); .* normal form C",
    ),
    "labels alike, space": ("a.csv", GOOD + "a,B C\nb,B\xa0C\n", "line 23: .*'B\\xa0C' .* the same spaces"),
    "labels alike, empty": ("a.csv", GOOD + "a,A\u200b\n", "line 22: the label 'A\\u200b' .* nothing unseen"),
    "labels alike, mark": ("a.csv", GOOD + "a,B C\nb,B\u200f C\n", "'B\\u200f C' looks like 'B C' .* unseen"),
}


@pytest.mark.parametrize(("name", "content", "said"), FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_used(name: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refused(tmp_path, *PLAN, "--train", name, "--test-split", "0.2")
    assert name in line
    assert pieces(said).search(line), line


def pieces(said: str) -> re.Pattern[str]:
    """`said` as a pattern in which nothing is special but `.*`."""
    return re.compile(".*".join(map(re.escape, said.split(".*"))))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.csv",
            'text,label\n"{}",A\n',
            "row at line 2 is malformed: field larger than field limit .* close",
        ),
        ("a.csv", 'text,label\na,A\n"{}\nb,B\n', "row at line 3 is malformed: .* close every quote"),
        (
            "a.jsonl",
            '{{"text": "{}"}}\n',
            "row 1, column 'text': holds 16,777,217 characters; 16,777,216 are",
        ),
    ],
    ids=["a cell", "an open quote", "a JSON string"],
)
def test_a_cell_beyond_every_limit(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content.format("x" * (LONGEST_CELL + 1)))
    line = refused(tmp_path, *PLAN, "--train", name, "--test-split", "0.2")
    assert pieces(said).search(line), line


def make_pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe.csv")
    return "pipe.csv"


def make_endless(folder: Path) -> str:
    (folder / "zero.csv").symlink_to("/dev/zero")
    return "zero.csv"


def make_loop(folder: Path) -> str:
    (folder / "loop.csv").symlink_to("loop.csv")
    return "loop.csv"


def make_folder(folder: Path) -> str:
    (folder / "data.csv").mkdir()
    return "data.csv"


def make_unreadable(folder: Path) -> str:
    # Not even root can read it from its beginning, where a mode would stop no test that runs as root.
    (folder / "memory.csv").symlink_to("/proc/self/mem")
    return "memory.csv"


def make_undecodable(folder: Path) -> str:
    name = os.fsdecode(b"caf\xe9.csv")
    (folder / name).write_text(GOOD)
    return name


def make_inside_a_file(folder: Path) -> str:
    (folder / "a.csv").write_text(GOOD)
    return "a.csv/b.csv"


@pytest.mark.skipif(sys.platform != "linux", reason="the names of devices are Linux's")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: "absent.csv", "absent.csv does not exist; check the path"),
        (make_inside_a_file, "a.csv/b.csv does not exist; check the path"),
        (make_folder, "data.csv is a folder; name one file in it"),
        (make_pipe, "pipe.csv is a pipe or a device; save what comes out of it as a file"),
        (make_endless, "zero.csv is a pipe or a device; save what comes out of it as a file"),
        (lambda _: "/dev/zero", "/dev/zero is a pipe or a device"),
        (make_loop, "loop.csv is a link that leads nowhere; check the path"),
        (make_unreadable, "memory.csv cannot be read: Input/output error; check"),
        (make_undecodable, "caf\\udce9.csv: this path is not UTF-8; rename the file or its folder"),
        (lambda _: "x" * 5000 + ".csv", "no such file (File name too long)"),
        (lambda _: "", "--train: the name is empty; give a file"),
        (lambda _: HOSTILE + "\n.csv", "\\x1b[31mred\\x07\\u202etxt\\x0a.csv does not exist; check the path"),
    ],
    ids=[
        *("missing", "inside a file", "folder", "pipe", "endless device", "device", "loop", "unreadable"),
        *("undecodable name", "overlong name", "no name", "hostile name"),
    ],
)
def test_what_is_no_file_of_rows(make: Any, said: str, tmp_path: Path) -> None:
    name = make(tmp_path)
    line = refused(tmp_path, *PLAN, "--train", name, "--test-split", "0.2")
    assert pieces(said).search(line), line


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (
            "text,label\na,A\nb,C\nc,D\n",
            "b.csv: 2 rows have labels .* 'C' (line 3), 'D' (line 4); known: A, B",
        ),
        (
            "text,label\na,a\n",
            "b.csv: 1 rows have labels that no training row has: 'a' (line 2); known: A, B",
        ),
        (
            "words,label\na,A\n",
            "b.csv has no column 'text' as the others have; rename it; .*known: words, label",
        ),
        ("text,label\na,A\u200b\n", "b.csv line 2: the label 'A\\u200b' looks like 'A' (a.csv line 3)"),
        (
            "text,label\na,A\u202e\n",
            "b.csv line 2: the label 'A\\u202e' holds a control character; take it out",
        ),
        ("text,label\na,\nb,\n", "b.csv: 2 of 2 rows cannot be used (2 no label); clean the file"),
    ],
    ids=[
        "unknown labels",
        "another case",
        "another column",
        "labels alike",
        "a control character",
        "no labels",
    ],
)
def test_a_test_file_that_does_not_belong_to_the_training_file(test: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,B\nx,A\n" + ROWS)
    (tmp_path / "b.csv").write_text(test)
    line = refused(tmp_path, *PLAN, "--train", "a.csv", "--test", "b.csv")
    assert pieces(said).search(line), line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            (*TRAIN, "--label-column", "lable"),
            "a.csv has no column 'lable'; did you mean 'label'? known: text",
        ),
        ((*TRAIN, "--text-column", "Text"), "a.csv has no column 'Text'; did you mean 'text'?"),
        ((*TRAIN, "--text-column", ""), "a.csv has no column ''; known: text, label"),
        ((*TRAIN, "--text-column", "text", "--label-column", "text"), "column 'text' is named twice; text,"),
        ((*TRAIN, "--text-pair-column", "label"), "no column could be the label"),
        (
            (*TRAIN, "--label-column", HOSTILE),
            "has no column '\\x1b[31mred\\x07\\u202etxt'; known: text, label",
        ),
        ((*TRAIN, "--limit", "0"), "--limit 0: must be above 0"),
        ((*TRAIN, "--limit", "-1"), "--limit -1: must be above 0"),
        ((*TRAIN, "--limit", "1"), "--limit 1 cannot hold the 2 classes of train; give 2 or more"),
        ((*TRAIN, "--limit-test", "1"), "--limit-test 1 cannot hold the 2 classes of test; give 2"),
        (("--train", "a.csv"), "give one of --test and --test-split; neither was given"),
        ((*TRAIN, "--test", "a.csv"), "give one of --test and --test-split; both were given"),
        (("--train", "a.csv", "--test-split", "1.5"), "--test-split 1.5 is not a share; give one between 0"),
        (("--train", "a.csv", "--test-split", "0"), "--test-split 0 is not a share"),
        (("--train", "a.csv", "--test-split", "-0.1"), "--test-split -0.1 is not a share"),
        (("--train", "a.csv", "--test-split", "nan"), "--test-split nan is not a share"),
        (("--train", "a.csv", "--test-split", "inf"), "--test-split inf is not a share"),
        (("--test", "a.csv"), "fine-tuning needs rows to learn from; give --train"),
        ((*TRAIN, "--validation", "absent.csv"), "absent.csv does not exist; check the path"),
        ((*TRAIN, "--label-map", "LABEL_0"), "--label-map LABEL_0: write CLASS=NAME, such as"),
        ((*TRAIN, "--label-map", "=A"), "--label-map =A: write CLASS=NAME"),
        ((*TRAIN, "--label-map", ""), "--label-map : write CLASS=NAME"),
        ((*TRAIN, "--label-map", "X=A,X=B"), "--label-map X=B: 'X' stands twice; each class has its own"),
        ((*TRAIN, "--label-map", "X=A,Y=A"), "--label-map Y=A: 'A' stands twice"),
        ((*TRAIN, "--label-map", "X=A,Y=B"), "--label-map names a checkpoint's classes; add --model"),
        ((*TRAIN, "--label-map", HOSTILE), "--label-map \\x1b[31mred\\x07\\u202etxt: write CLASS=NAME"),
    ],
    ids=lambda value: (
        " ".join(value).replace("--train a.csv --test-split 0.2 ", "") if value[0] == "-" else ""
    ),
)
def test_options_that_do_not_fit_the_data(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(GOOD)
    line = refused(tmp_path, *PLAN, *options)
    assert pieces(said).search(line), line


@pytest.mark.parametrize(
    "name",
    [
        *(
            "org/name@:",
            "org/name@",
            "org/name:",
            "org/name:a:b",
            "org/name@x@y",
            "org//name",
            "org/",
            "/org",
        ),
        *(
            "../x",
            "org/../x",
            "org/..",
            "org/name/../..",
            "org/name@../x",
            "org/name:../x",
            "org/name\n",
            "name",
        ),
        *("https://example.org/org/name", "hf://datasets/org/name", "org/नाव", "org/na me", "org/name@a//b"),
    ],
    ids=repr,
)
def test_a_malformed_id_of_a_data_set_asks_no_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        pytest.fail("asked the network")

    monkeypatch.setattr(socket.socket, "connect", asked)
    monkeypatch.setattr(socket, "getaddrinfo", asked)
    work = tmp_path / "here" / "below"
    work.mkdir(parents=True)
    line = refused(work, *PLAN, "--train", name, "--test-split", "0.2")
    assert "no such file, and no id of a data set; write ORG/NAME[/CONFIG][@REVISION][:SPLIT]" in line


def plan_of(folder: Path, *options: str) -> str:
    """What `--dry-run` says of a plan that is taken, on one line."""
    code, out, err = carried_out(folder, *PLAN, *options)
    assert code == 0, err
    return " ".join(out.split())


def test_what_is_odd_but_usable_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(GOOD + "more,a\nless,a\nalone,Z\n")
    (tmp_path / "b.csv").symlink_to("a.csv")
    plan = plan_of(tmp_path, "--train", "a.csv", "--test", "b.csv")
    assert "train and test are the same file: results on it say nothing about new rows" in plan
    assert "the labels 'A' and 'a' differ by case alone, and are classes of their own" in plan
    assert "validation: no rows of 'Z'; their only row each stays in train" in plan


def test_files_glued_together_with_their_marks_are_one(tmp_path: Path) -> None:
    """The second file's BOM and header are no row, and no class."""
    (tmp_path / "a.csv").write_text(("\ufefflabel,text\n" + "A,a b\nB,c d\n" * 9) * 2)
    plan = plan_of(tmp_path, *TRAIN)
    assert "2 classes" in plan
    assert "train: 1 of 37 rows dropped (1 repeated header)" in plan
