"""The published data files, dirt included, become the tasks they should."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import InputError
from bench.nouns.task import Example
from bench.tasks.audit import mark_seen
from bench.tasks.files import FileOptions, load_files
from bench.tasks.table import read_table

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
MAHANEWS = DATA / "mahanews_shc" / "valid.csv"
PARAGRAPHS = DATA / "indicnews_marathi_lpc" / "valid.csv"
ENGLISH = DATA / "indicnews_english_shc"
AG_NEWS = DATA / "ag_news" / "test.csv"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data lies in ../shared/data, absent here")


@pytest.mark.parametrize(
    ("path", "columns", "rows"),
    [
        (MAHANEWS, ("Text", "Label"), 2_761),
        (PARAGRAPHS, ("text", "labels"), 2_761),
        (ENGLISH / "train.csv", ("text", "labels"), 36_877),
        (ENGLISH / "valid.csv", ("text", "labels"), 4_610),
        (AG_NEWS, ("1", "2", "3"), 7_600),
    ],
)
def test_every_file_has_its_columns_and_rows(path: Path, columns: tuple[str, ...], rows: int) -> None:
    table = read_table(path)
    assert table.columns == columns
    assert len(table.rows) == rows
    assert table.has_header == (path != AG_NEWS)


def test_english_headlines() -> None:
    task = load_files(
        FileOptions(train=ENGLISH / "train.csv", test=ENGLISH / "valid.csv", limit=1_500, limit_test=300)
    )
    assert task.name == "indicnews_english_shc/train"
    assert len(task.labels) == 12
    assert (len(task.train), len(task.validation), len(task.test)) == (1_500, 300, 300)
    assert {example.label for example in task.validation} == set(range(12))
    # The 20 and 4 rows without a label have no text either.
    assert task.dropped == {"train: no text": 272, "test: no text": 40}


def test_a_third_of_the_english_validation_rows_stand_in_the_training_file() -> None:
    train, judged = (
        [Example(text or "", 0) for text, _ in read_table(ENGLISH / name).rows]
        for name in ("train.csv", "valid.csv")
    )
    in_train = [row.text for row in mark_seen(judged, train) if row.seen]
    assert (len(in_train), len(judged)) == (1_644, 4_610)
    # 40 of these have no text, like 272 rows of train.csv: they are dropped, and nothing is judged by them.
    assert sum(not text.strip() for text in in_train) == 40
    audit = load_files(FileOptions(train=ENGLISH / "train.csv", test=ENGLISH / "valid.csv")).audit
    assert (audit.splits["test"].in_train, audit.splits["test"].rows) == (1_644 - 40, 4_610 - 40)


def test_english_headlines_deduplicated() -> None:
    options = FileOptions(train=ENGLISH / "train.csv", test=ENGLISH / "valid.csv", deduplicate=True)
    task = load_files(options)
    everything = [" ".join(row.text.split()) for row in task.train + task.validation + task.test]
    assert len(everything) == len(set(everything))
    assert not any(row.seen for row in task.test + task.validation)
    assert {row.label for row in task.test} == set(range(12))
    assert sum(task.audit.removed.values()) == 36_605 + 4_570 - len(everything)


def test_marathi_headlines_and_paragraphs_have_twelve_topics_and_no_header_rows() -> None:
    headlines = load_files(FileOptions(train=MAHANEWS, test=None, test_split=0.2))
    paragraphs = load_files(FileOptions(train=PARAGRAPHS, test=None, test_split=0.2))
    assert headlines.labels == paragraphs.labels
    assert len(headlines.labels) == 12
    assert headlines.dropped == {"train: repeated header": 11}
    assert paragraphs.dropped == {"train: repeated header": 11, "train: no text": 209}


def test_ag_news_has_its_label_first_and_two_columns_of_text() -> None:
    task = load_files(FileOptions(train=None, test=AG_NEWS, fine_tune=False))
    assert task.labels == ("1", "2", "3", "4")
    assert task.test[0].label == 2
    assert task.test[0].text.startswith("Fears for T N pension after talks Unions representing workers")
    assert len(task.test) == 7_600


def test_another_language_s_topics_are_refused() -> None:
    with pytest.raises(InputError, match=r"1,769 rows have labels .* 'Bhakti' \(line 211\)"):
        load_files(FileOptions(train=ENGLISH / "train.csv", test=PARAGRAPHS))
