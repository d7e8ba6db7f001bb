"""The published data files, dirt included, become the tasks they should."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import InputError
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
