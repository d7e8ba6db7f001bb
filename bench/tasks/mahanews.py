"""MahaNews, the study's data: Marathi news over twelve topics, as headlines, paragraphs and documents.

Mittal et al., L3Cube-MahaNews: News-based Short Text and Long Document Classification Datasets in Marathi,
SPELLL 2023, arXiv:2404.18216; published at github.com/l3cube-pune/MarathiNLP.
"""

from __future__ import annotations

import os
from dataclasses import replace

from bench.errors import InputError
from bench.nouns.task import Task
from bench.tasks.download import cached_file
from bench.tasks.files import FileOptions, make_task
from bench.tasks.table import Table, read_table

MODEL = "l3cube-pune/marathi-topic-all-doc-v2"
SOURCE = "l3cube-pune/MarathiNLP"
COMMIT = "3505588137d814dcb2c326bf191b5015e72ddd93"
ENDPOINT = "https://github.com"
HEADLINES, PARAGRAPHS, DOCUMENTS = "SHC", "LPC", "LDC"
ROWS = {
    HEADLINES: {"train": 22_014, "validation": 2_750, "test": 2_761},
    PARAGRAPHS: {"train": 42_870, "validation": 5_357, "test": 5_366},
    DOCUMENTS: {"train": 22_014, "validation": 2_750, "test": 2_761},
}
FILES = {"train": "Train", "validation": "Valid", "test": "Test"}
# Of the files whose checksum is known; the others are held to what was first downloaded of that commit.
SHA256 = {"SHC_Valid.csv": "4682ba92da0119c84f7d8456c20c9ee206fcd7f37c0e94710f8437ae9916663a"}


def mahanews_task(name: str, corpora: tuple[str, ...], options: FileOptions) -> Task:
    """The published splits of `corpora`, those of several pooled, cleaned as a user's files are.

    `BENCH_DATA_ENDPOINT` names a mirror of github.com. Raises InputError where a file cannot be had or has
    other than the published number of rows.
    """
    tables = {part: pool(name, [read_part(corpus, part) for corpus in corpora]) for part in FILES}
    return make_task(tables, replace(options, text_columns=("Text",), label_column="Label"))


def read_part(corpus: str, part: str) -> Table:
    """One published file, downloaded where it is not in the cache."""
    file = f"{corpus}_{FILES[part]}.csv"
    endpoint = os.environ.get("BENCH_DATA_ENDPOINT", ENDPOINT).rstrip("/")
    url = f"{endpoint}/{SOURCE}/raw/{COMMIT}/L3Cube-MahaNews/{corpus}/{file}"
    table = read_table(cached_file(url, SOURCE, COMMIT, SHA256.get(file)))
    found, published = sum(row != table.columns for row in table.rows), ROWS[corpus][part]
    # A published count may be of all rows: some files have their header again among them.
    if published not in (found, len(table.rows)):
        raise InputError(
            f"{table.source}: {found:,} rows without repeated headers, {published:,} expected; delete it to "
            "download it again, or give such files by --train, --validation and --test"
        )
    return table


def pool(name: str, tables: list[Table]) -> Table:
    """The rows of all `tables`, which have the same columns."""
    first = tables[0]
    for table in tables:
        if table.columns != first.columns:
            raise InputError(f"{table.source}: its columns are not those of {first.source}; delete it")
    files = ", ".join(table.source.rpartition("/")[2] for table in tables)
    return Table(
        files,
        name,
        first.columns,
        [row for table in tables for row in table.rows],
        [line for table in tables for line in table.lines],
        has_header=first.has_header,
        origin=f"{files} of github.com/{SOURCE}, commit {COMMIT}",
    )
