"""Tasks from a user's files: columns, cleaning, splits and limits, and what is said about each."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError
from bench.nouns.task import Example, Task
from bench.tasks.files import FileOptions, load_files, make_task
from bench.tasks.table import Row, Table

Write = Callable[[str, str], Path]
ROWS = "".join(f"text number {row},{'ABC'[row % 3]}\n" for row in range(60))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write


def load(train: Path | None, test: Path | None = None, **options: Any) -> Task:
    if test is None:
        options.setdefault("test_split", 0.2)
    return load_files(FileOptions(train=train, test=test, **options))


def refusal(*files: Path | None, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(*files, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def sizes(examples: tuple[Example, ...]) -> dict[int, int]:
    return dict(Counter(example.label for example in examples))


def test_a_task_says_what_it_is(write: Write, tmp_path: Path) -> None:
    path = write("train.csv", "text,label\n" + ROWS)
    task = load(path, model="some/model", fine_tune=False)
    assert task.name == f"{tmp_path.name}/train"
    assert task.description == "Rows from train.csv: 42 train, 6 validation, 12 test; 3 classes."
    assert task.labels == ("A", "B", "C")
    assert (task.model, task.fine_tune, task.demonstration) == ("some/model", False, False)
    assert sizes(task.train) == {0: 14, 1: 14, 2: 14}
    assert sizes(task.test) == {0: 4, 1: 4, 2: 4}
    assert task.notes == (
        "guessed: text from 'text', label from 'label' (--text-column, --label-column)",
        "test: 12 rows (20%, by class) taken from train, seed 0",
        "validation: 6 rows (10%, by class) taken from train, seed 0",
    )
    assert task == load(path, model="some/model", fine_tune=False)
    assert task.train != load(path, seed=1).train


def test_files_of_their_own_are_used_as_they_are(write: Write) -> None:
    train, test = write("a.csv", "text,label\none,A\ntwo,B\n"), write("b.csv", "text,label\nthree,B\n")
    task = load(train, test, validation=write("c.csv", "label,text\nA,four\n"))
    assert task.train == (Example("one", 0), Example("two", 1))
    assert task.test == (Example("three", 1),)
    assert task.validation == (Example("four", 0),)


def test_a_test_file_alone_is_enough_for_a_model_used_as_it_is(write: Write) -> None:
    test = write("a.csv", "text,label\none,A\ntwo,B\n")
    task = load(None, test, fine_tune=False)
    assert (task.train, task.validation, task.labels, len(task.test)) == ((), (), ("A", "B"), 2)


@pytest.mark.parametrize(
    ("header", "rows", "example", "label", "note"),
    [
        (
            "Headline,Topics",
            ["a b,X", "c d,Y"],
            Example("a b", 0),
            "X",
            "text from 'Headline', label from 'Topics'",
        ),
        (
            "title,id,description,category",
            ["a,1,b,X", ",2,d,Y"],
            Example("a b", 0),
            "X",
            "'title' and 'description' joined with a space, label from 'category' .*; left out: 'id'",
        ),
        (
            "key,verbatim,rating",
            ["k1,so good,5", "k2,so bad,1", "k3,very good,5", "k4,very bad,1"],
            Example("so good", 1),
            "5",
            "text from 'verbatim', label from 'rating' .*; left out: 'key'",
        ),
        (
            "3,good thing",
            ["4,bad thing", "3,x y", "4,z w"],
            Example("good thing", 0),
            "3",
            "from '2', label from '1'",
        ),
        (
            "sentence1,sentence2,label",
            ["a b,c d,same", "e f,g h,other"],
            Example("a b", 1, "c d"),
            "same",
            "text from 'sentence1', second text from 'sentence2', label",
        ),
    ],
)
def test_obvious_columns_are_guessed_and_said(
    write: Write, header: str, rows: list[str], example: Example, label: str, note: str
) -> None:
    path = write("a.csv", "\n".join([header, *rows]))
    task = load(path, path, validation=path)
    first = next(row for row in task.train if row.text == example.text)
    assert first == example
    assert task.labels[first.label] == label
    assert any(re.search(note, said) for said in task.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "text,age,sex\na b,1,f\nc d,2,m\ne f,1,m\ng h,2,f\n",
            r"several columns could be .*--label-column: 'age', 'sex'",
        ),
        ("text,label,category\na b,1,f\n", "several columns could be the label; .*: 'label', 'category'"),
        (
            "text,other\na b,c d\n",
            "no column could be the label; name it with --label-column: 'text', 'other'",
        ),
        ("text;label\na b;c\n", "no column could be the label; .*: 'text;label'"),
        ("word,label\na,X\nb,Y\n", "no column reads like text; name it with --text-column: 'word', 'label'"),
    ],
)
def test_a_guess_that_is_not_obvious_is_refused(write: Write, content: str, message: str) -> None:
    assert re.search(message, refusal(write("a.csv", content)))


def test_named_columns_are_used_without_a_note(write: Write) -> None:
    path = write("a.csv", "one,two,three,label\n" + "a,b,c,X\nd,e,f,Y\n" * 20)
    task = load(path, text_columns=("three", "one"), text_pair_column="two", label_column="label")
    assert {Example("c a", 0, "b"), Example("f d", 1, "e")} == set(task.train)
    assert not any("guessed" in note for note in task.notes)


def test_an_unknown_or_repeated_column_is_refused(write: Write) -> None:
    path = write("a.csv", "text,label\n" + ROWS)
    for options in ({"text_columns": ("Text",)}, {"text_pair_column": "texts"}):
        assert "did you mean 'text'? known: text, label" in refusal(path, **options)
    assert "has no column 'lable'; did you mean 'label'?" in refusal(path, label_column="lable")
    assert "has no column ''; known: text, label" in refusal(path, text_columns=("",))
    assert "'text' is named twice" in refusal(path, text_columns=("text",), label_column="text")


def test_columns_of_the_other_files_may_differ_by_case_only(write: Write) -> None:
    train, test = write("a.csv", "text,label\n" + ROWS), write("b.csv", "Text,LABEL\na,A\n")
    task = load(train, test)
    assert "test: column 'Text' is read as 'text'" in task.notes
    assert "test: column 'LABEL' is read as 'label'" in task.notes
    assert "b.csv has no column 'text'" in refusal(train, write("b.csv", "Text,TEXT,label\na,b,A\n"))
    assert "did you mean 'labels'?" in refusal(train, write("b.csv", "text,labels\na,A\n"))


def test_unusable_rows_are_dropped_and_counted(write: Write) -> None:
    bad = "Text,Labels\n,LABEL\n ,A\nlost, \n,\n"
    task = load(write("a.csv", f"text,label\n{bad}{ROWS}"), write("b.csv", "text,label\n spaced , A \n"))
    assert task.dropped == {"train: repeated header": 2, "train: no text": 2, "train: no label": 1}
    assert "train: 5 of 65 rows dropped (2 repeated header, 2 no text, 1 no label)" in task.notes
    assert task.test == (Example("spaced", 0),)


def test_a_class_called_label_keeps_its_real_rows(write: Write) -> None:
    path = write(
        "a.csv", "text,label\n" + ROWS + "printed on paper,Label\nsewn into shirts,Label\nText,Label\n"
    )
    task = load(path, text_columns=("text",))
    assert "Label" in task.labels
    assert task.dropped == {"train: repeated header": 1}


def test_a_row_that_looks_like_the_columns_numbers_is_no_header(write: Write) -> None:
    path = write("a.csv", "1,2\n1,good\n2,bad\n" * 10)
    task = load(path, path, text_columns=("2",), label_column="1")
    assert task.dropped == {}


def test_too_many_unusable_rows_are_refused(write: Write) -> None:
    rows = "a b,A\nc d,B\n" * 4
    assert load(write("a.csv", f"text,label\n{rows * 2},A\n,B\n")).dropped == {"train: no text": 2}
    message = refusal(write("a.csv", f"text,label\n{rows},A\n,B\n"))
    assert "2 of 10 rows cannot be used (2 no text)" in message
    assert "5 of 5 rows cannot be used" in refusal(write("a.csv", "text,label\n" + ",A\n" * 5))


def test_a_second_text_is_needed_where_a_pair_is_asked_for(write: Write) -> None:
    path = write("a.csv", "text,pair,label\n" + "a,b,A\nc,d,B\n" * 9 + "e,,A\n")
    assert load(path, text_pair_column="pair").dropped == {"train: no second text": 1}


def test_labels_are_sorted_by_value(write: Write) -> None:
    path = write(
        "a.csv", "text,label\n" + "".join(f"x,{label}\n" for label in ("10", "2", "nan", "-1", "b") * 2)
    )
    assert load(path, path).labels == ("-1", "2", "10", "b", "nan")


def test_a_single_class_is_refused(write: Write) -> None:
    message = refusal(write("a.csv", "text,label\na b,A\nc d,A\n"))
    assert message.endswith("every row has the label 'A'; a classifier needs two or more")


@pytest.mark.parametrize("label", ["{}", "{}.0", "intent {}"])
def test_many_classes_are_classes_where_each_has_its_rows(write: Write, label: str) -> None:
    rows = [f"words,{label.format(number)}\n" for number in range(150)]
    assert len(load(write("a.csv", "text,label\n" + "".join(rows * 3))).labels) == 150
    assert "150 different labels in 150 rows" in refusal(write("b.csv", "text,label\n" + "".join(rows)))


def test_amounts_are_classes_where_they_are_few_or_each_has_its_rows(write: Write) -> None:
    rows = [f"words,{number / 10}\n" for number in range(101)]
    assert len(load(write("a.csv", "text,label\n" + "".join(rows[1:] * 3))).labels) == 100
    assert len(load(write("b.csv", "text,label\n" + "".join(rows * 10))).labels) == 101
    path = write("c.csv", "text,label\n" + "".join(rows * 9))
    for files in ((path,), (path, path)):
        message = refusal(*files)
        assert "101 different labels in 909 rows, such as '0.0', are hardly classes" in message


def test_a_row_a_class_is_enough_where_none_is_to_be_held_out(write: Write) -> None:
    path = write("a.csv", "text,label\n" + "".join(f"words {row},intent {row}\n" for row in range(150)))
    assert len(load(path, path, validation=path).labels) == 150
    assert "no class has two rows, so none can be held out; give --validation" in refusal(path, path)


def test_a_checkpoint_is_tested_on_whatever_classes_the_rows_have(write: Write) -> None:
    path = write("a.csv", "text,label\n" + "".join(f"words {row},{row / 10}\n" for row in range(150)))
    assert len(load(None, path, fine_tune=False).labels) == 150


def test_a_named_column_of_many_labels_is_taken_and_said(write: Write) -> None:
    rows = [f"words {row},{row / 10}\n" for row in range(150)]
    task = load(write("a.csv", "text,label\n" + "".join(rows * 3)), label_column="label")
    assert len(task.labels) == 150
    said = "train: 150 different labels in 450 rows, such as '0.0', are taken as classes (--label-column)"
    assert said in task.notes


def test_labels_that_differ_by_case_alone_are_classes_and_said(write: Write) -> None:
    task = load(write("a.csv", "text,label\n" + ROWS + "more,a\nless,a\n"))
    assert task.labels == ("A", "B", "C", "a")
    assert "the labels 'A' and 'a' differ by case alone, and are classes of their own" in task.notes


LABEL_SETS = {
    "Hindi": ["खेल", "राजनीति", "मनोरंजन", "विज्ञान और तकनीक"],
    "Marathi with joiners": ["क्\u200dष", "क्ष", "र्\u200dया", "र्या", "दऱ्या"],
    "Persian with non-joiners": ["خانه\u200cها", "خانهها", "می\u200cشود", "کتاب"],
    "Arabic with marks inside": ["رياضة", "لغة C\u200e (برمجة)", "سعر\u200f: 5", "نسبة\u061c %"],
    "Hebrew": ["ספורט", "כלכלה", "ארה\u05f4ב", "שׁלום"],
    "Arabic signs": ["\u06dd", "\u0600", "\u0605١", "آية\u06dd١"],
    "Chinese and Japanese": ["体育", "體育", "スポーツ", "ｽﾎﾟｰﾂ", "전자\u3000제품"],
    "flags": [
        "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in letters) + "\U000e007f"
        for letters in ("gbeng", "gbsct", "gbwls")
    ],
    "emoji": ["👩", "👩\u200d💻", "👩💻", "👩🏽", "❤", "❤\ufe0f", ":)"],
    "codes": [f"{code / 10:.1f}" for code in range(3000, 3120)],
    "other codes": ["A00", "A00.0", "A000", "QA76.9", "I-9", "C++", "C#", "c"],
    "numbers": ["-1", "0", "1", "01", "1.0", "1e1", "１", "½"],
    "very short": ["0", "a", "-", "?", "क"],
    "markup": ["Arts, books", "=A1", "<b>", "&amp;", "a|b", "*", "\\", "\u0301", '"so"'],
    "200 characters": ["x" * 200, "x" * 199, "ठ" * 200],
}


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=LABEL_SETS)
def test_labels_that_can_be_told_apart_are_taken_as_they_are(tmp_path: Path, labels: list[str]) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [[f"some words of {row}", label] for row, label in enumerate(labels * 20)]
        csv.writer(file).writerows([["text", "label"], *rows])
    task = load(path)
    assert sorted(task.labels) == sorted(labels)
    assert task.dropped == {}
    assert not any("left out" in note for note in task.notes)


@pytest.mark.parametrize(
    ("one", "other"), [("خانه\u200cها", "خانهها"), ("क्\u200dष", "क्ष"), ("👩\u200d💻", "👩💻")]
)
def test_labels_that_differ_by_joiners_alone_are_classes_and_said(write: Write, one: str, other: str) -> None:
    task = load(write("a.csv", "text,label\n" + f"words,{one}\nmore,{other}\n" * 9))
    assert set(task.labels) == {one, other}
    first, second = map(repr, task.labels)
    said = f"the labels {first} and {second} differ by joiners (U+200C, U+200D) alone, and are classes of"
    assert any(note.startswith(said) for note in task.notes)


@given(
    label=st.sampled_from(["רגיל", "A", "0", "a b", "سعر\u200f: 5"]),
    before=st.text(" \t\xa0\u061c\u200e\u200f"),
    after=st.text(" \t\xa0\u061c\u200e\u200f"),
)
def test_space_and_direction_marks_at_a_labels_ends_are_left_out(label: str, before: str, after: str) -> None:
    rows: list[Row] = [("one", label), ("two", "B"), ("three", f"{before}{label}{after}")] * 4
    table = Table("a.csv", "a", ("text", "label"), rows, list(range(len(rows))), has_header=True)
    task = make_task({"train": table}, FileOptions(train="a.csv", test=None, test_split=0.3))
    assert set(task.labels) == {label, "B"}
    marked = not set(before + after).isdisjoint("\u061c\u200e\u200f")
    said = (
        "train: 4 of 12 rows: direction marks (U+061C, U+200E, U+200F) at the ends of their labels are left"
    )
    assert any(note.startswith(said) for note in task.notes) == marked


def test_a_label_of_direction_marks_alone_is_none(write: Write) -> None:
    path = write("a.csv", "text,label\n" + ROWS + "words,\u200f \u200e\n")
    assert load(path).dropped == {"train: no label": 1}


def test_columns_beyond_those_read_are_counted_and_not_all_named(write: Write) -> None:
    names = [f"x{place}" for place in range(1024)]
    rows = "".join(f"some words {row},{'AB'[row % 2]},{',0.5' * 1023}\n" for row in range(20))
    task = load(write("a.csv", f"text,label,{','.join(names)}\n{rows}"))
    assert (len(task.train), task.labels) == (14, ("A", "B"))
    assert task.notes[0].endswith("left out: " + ", ".join(map(repr, names[:20])) + " and 1,004 more")


def test_texts_keep_the_characters_that_labels_may_not_hold(write: Write) -> None:
    odd = "a\x1b[2J \u202e\u200b\u2028 b\nc"
    path = write("a.csv", "text,label\n" + f'"{odd}",A\nmore,B\n' * 9)
    assert {row.text for row in load(path).train} == {odd, "more"}


def test_labels_unknown_to_train_are_named_with_their_lines(write: Write) -> None:
    train = write("a.csv", "text,label\n" + ROWS)
    test = write("b.csv", "text,label\n" + "".join(f"x,{label}\n" for label in "ADEFGHIDA"))
    assert re.search(
        r"b\.csv: 7 rows have labels that no training row has: "
        r"'D' \(line 3\), 'E' \(line 4\), .* and 1 more; known: A, B, C",
        refusal(train, test),
    )
    assert "b.csv: 7 rows" in refusal(train, train, validation=test)


def test_a_class_of_one_row_stays_in_train(write: Write) -> None:
    task = load(write("a.csv", "text,label\n" + ROWS + "alone here,Z\n"))
    assert sizes(task.train)[3] == 1
    assert "test: no rows of 'Z'; their only row each stays in train" in task.notes
    assert "validation: no rows of 'Z'; their only row each stays in train" in task.notes
    assert "no class has two rows" in refusal(write("b.csv", "text,label\na b,A\nc d,B\n"))


def test_limits_keep_every_class_and_are_said(write: Write) -> None:
    rows = "x y,A\n" * 900 + "z w,B\n" * 100
    task = load(write("a.csv", "text,label\n" + rows), limit=90, limit_test=10)
    assert sizes(task.train) == {0: 81, 1: 9}
    assert sizes(task.validation) == {0: 9, 1: 1}
    assert sizes(task.test) == {0: 9, 1: 1}
    assert task.notes[-3:] == (
        "train: 90 of 720 rows kept, by class, seed 0 (--limit)",
        "test: 10 of 200 rows kept, by class, seed 0 (--limit-test)",
        "validation: 10 of 80 rows kept, by class, seed 0 (--limit-test)",
    )


def test_a_limit_leaves_a_validation_file_whole_and_a_small_file_alone(write: Write) -> None:
    path = write("a.csv", "text,label\n" + ROWS)
    task = load(path, path, validation=path, limit=6)
    assert (len(task.train), len(task.validation)) == (6, 60)
    assert not any("--limit)" in note for note in load(path, limit=1000).notes)


def test_a_limit_on_test_rows_holds_for_a_validation_file_too(write: Write) -> None:
    path = write("a.csv", "text,label\n" + ROWS)
    task = load(path, path, validation=path, limit_test=6)
    assert (len(task.train), len(task.validation), len(task.test)) == (60, 6, 6)


def test_a_limit_below_the_number_of_classes_is_refused(write: Write) -> None:
    path = write("a.csv", "text,label\n" + ROWS)
    assert refusal(path, limit=2) == "--limit 2 cannot hold the 3 classes of train; give 3 or more"
    assert refusal(path, limit_test=0).startswith("--limit-test 0 cannot hold the 3 classes of test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of --test and --test-split; neither was given"),
        ({"test": Path("b.csv"), "test_split": 0.5}, "give one of .*; both were given"),
        ({"test_split": 1.0}, "--test-split 1 is not a share; give one between 0 and 1"),
        ({"test_split": float("nan")}, "--test-split nan is not a share"),
        ({"train": None, "test": Path("b.csv")}, "fine-tuning needs rows to learn from; give --train"),
        ({"train": None, "test_split": 0.5, "fine_tune": False}, "--test-split 0.5 needs training rows"),
        (
            {"train": None, "test": Path("b.csv"), "validation": Path("c.csv"), "fine_tune": False},
            "--validation c.csv needs training rows; give --train or leave it out",
        ),
        (
            {"train": None, "test": Path("b.csv"), "limit": 5, "fine_tune": False},
            "--limit 5 needs training rows",
        ),
    ],
)
def test_contradicting_options_are_refused_before_any_file_is_read(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_files(FileOptions(**{"train": Path("a.csv"), "test": None} | options))


def test_the_same_file_twice_is_said(write: Write) -> None:
    path = write("a.csv", "text,label\n" + ROWS)
    notes = load(path, path.parent / "." / "a.csv").notes
    assert "train and test are the same file: results on it say nothing about new rows" in notes


def test_the_audit_is_of_all_rows_before_any_limit(write: Write) -> None:
    train = write("a.csv", f"text,label\n{ROWS}both words,A\nboth  words,B\ntext number 0,A\n")
    test = write("b.csv", "text,label\ntext number 1 ,B\nnew words,A\nmore words,C\n")
    task = load(train, test, validation=test, limit=6, limit_test=3)
    train_audit, validation_audit, test_audit = task.audit.splits.values()
    assert (train_audit.rows, train_audit.duplicates, train_audit.conflicting) == (63, 1, 2)
    assert train_audit.classes == {"A": 22, "B": 21, "C": 20}
    assert (test_audit.rows, test_audit.in_train) == (3, 1)
    assert validation_audit == test_audit
    assert task.audit.removed == {}
    assert [row.seen for row in task.test] == [row.seen for row in task.validation] == [True, False, False]
    assert task.notes[-4:] == (
        "train: 2 of 63 rows (3.2%) have a text that also has another label; --deduplicate drops them",
        "validation: 1 of 3 rows (33.3%) stand in train too; --deduplicate trains without them",
        "test: 1 of 3 rows (33.3%) stand in train too; --deduplicate trains without them, "
        "and accuracy is given on the others too",
        "train: 6 of 63 rows kept, by class, seed 0 (--limit)",
    )


def test_a_test_row_is_seen_in_any_part_of_the_training_file(write: Write) -> None:
    train = write("a.csv", "text,label\n" + ROWS)
    task = load(train, train, limit=6)
    assert len(task.validation) == 6
    assert all(row.seen for row in task.test)
    assert not any(row.seen for row in task.validation)


def test_rows_held_out_are_seen_where_their_text_stays_in_train(write: Write) -> None:
    doubled = "".join(f"text number {row},{'ABC'[row % 3]}\n" for row in (*range(60), *range(30)))
    task = load(write("a.csv", "text,label\n" + doubled))
    left = {row.text for row in task.train}
    assert [row.seen for row in task.test] == [row.text in left for row in task.test]
    assert [row.seen for row in task.validation] == [row.text in left for row in task.validation]
    assert {row.seen for row in task.test} == {True, False}
    assert task.audit.splits["test"].in_train == sum(row.seen for row in task.test)


def test_a_test_file_alone_is_audited(write: Write) -> None:
    test = write("a.csv", "text,label\none,A\ntwo,B\ntwo,B\n")
    task = load(None, test, fine_tune=False)
    assert list(task.audit.splits) == ["test"]
    assert task.audit.splits["test"].duplicates == 1
    assert len(load(None, test, fine_tune=False, deduplicate=True).test) == 2


def test_deduplicating_cleans_before_anything_is_held_out_or_limited(write: Write) -> None:
    path = write("a.csv", f"text,label\n{ROWS}{ROWS}odd words,A\nodd words,C\n")
    task = load(path, deduplicate=True, limit=12, limit_test=6)
    parts = (task.train, task.validation, task.test)
    assert [len(part) for part in parts] == [12, 6, 6]
    assert len({row.text for part in parts for row in part}) == 24
    assert task.audit.removed == {"train: repeated": 60, "train: conflicting labels": 2}
    assert "train: 62 of 122 rows removed (60 repeated, 2 conflicting labels; --deduplicate)" in task.notes
    assert "train: 12 of 42 rows kept, by class, seed 0 (--limit)" in task.notes
    assert not any("stand in train" in note for note in task.notes)
    assert task.dropped == {}


def test_the_audit_tells_what_it_would_have_been_without_deduplicating(write: Write) -> None:
    path = write("a.csv", f"text,label\n{ROWS}{ROWS}")
    assert load(path, deduplicate=True).audit.splits == load(path).audit.splits
    assert load(path).audit.splits["test"].in_train > 0


def test_the_judged_rows_stay_and_training_gives_way(write: Write) -> None:
    train = write("a.csv", f"text,label\n{ROWS}judged words,A\n")
    test = write("b.csv", "text,label\njudged words,A\nnew words,B\n")
    task = load(train, test, deduplicate=True)
    assert task.test == (Example("judged words", 0), Example("new words", 1))
    assert task.audit.removed == {"train: text in test": 1}
    assert "judged words" not in {row.text for row in task.train + task.validation}


def test_a_checkpoint_used_as_it_came_has_seen_what_is_removed_now(write: Write) -> None:
    train = write("a.csv", f"text,label\n{ROWS}judged words,A\n")
    test = write("b.csv", "text,label\njudged words,A\nnew words,B\n")
    task = load(train, test, deduplicate=True, model="some/model", fine_tune=False)
    assert [row.seen for row in task.test] == [True, False]
    assert task.notes[-1] == (
        "test: 1 of 2 rows stand in the training file, which the checkpoint may know; "
        "accuracy is given on the others too"
    )


def test_cleaning_may_take_a_fifth_of_the_rows_and_more(write: Write) -> None:
    path = write("a.csv", f"text,label\n{ROWS * 20}")
    task = load(path, deduplicate=True)
    assert len(task.train + task.validation + task.test) == 60


def test_a_class_that_cleaning_takes_from_train_is_named(write: Write) -> None:
    train = write("a.csv", f"text,label\n{ROWS}only this,Z\n")
    test = write("b.csv", "text,label\nonly this,Z\nnew words,A\n")
    assert refusal(train, test, deduplicate=True).endswith(
        "a.csv: --deduplicate leaves no row of 'Z' (1 text in test); leave it out or add rows"
    )
    assert "no row of 'A', 'B', 'C', 'Z' (61 text in test)" in refusal(train, train, deduplicate=True)


def test_a_class_that_cleaning_takes_from_test_is_said(write: Write) -> None:
    train = write("a.csv", "text,label\n" + ROWS)
    test = write("b.csv", "text,label\nodd words,A\nodd words,B\nnew words,B\n")
    task = load(train, test, deduplicate=True)
    assert sizes(task.test) == {1: 1}
    assert "test: no rows of 'A' are left (--deduplicate)" in task.notes


def test_a_file_that_cleaning_empties_is_refused(write: Write) -> None:
    train = write("a.csv", "text,label\n" + ROWS)
    test = write("b.csv", "text,label\nodd words,A\nodd words,B\n")
    assert "b.csv: --deduplicate leaves no row of 'A', 'B' (2 conflicting" in refusal(
        train, test, deduplicate=True
    )
    same = write("c.csv", "text,label\nnew words,A\nmore words,B\n")
    assert "c.csv: --deduplicate leaves no row of 'A', 'B' (2 text in test)" in refusal(
        train, same, validation=same, deduplicate=True
    )
