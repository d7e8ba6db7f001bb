"""Data sets named by hub id, read with the `datasets` library into the same tables as files.

Only data is read: files of formats that hold no code, and no script of a repository, which `datasets`
no longer runs. The settings are the libraries' own: `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_DATASETS_CACHE`,
`HF_TOKEN` and the usual proxy variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import InputError, did_you_mean, in_one_line
from bench.tasks.table import SUFFIXES, Table, to_row
from compressors import hub

if TYPE_CHECKING:
    import datasets

SPLIT = r"\w+(?:\.\w+)*"
DATASET_ID = re.compile(
    rf"({hub.NAME}/{hub.NAME})(?:/({hub.NAME}))?(?:@({hub.REVISION}))?(?::({SPLIT}))?", re.ASCII
)
READ = {"csv": "CSV", "json": "JSON", "parquet": "Parquet", "arrow": "Arrow", "text": "plain text"}
CACHED = "cache"


@dataclass(frozen=True)
class DatasetId:
    """`ORG/NAME[/CONFIG][@REVISION][:SPLIT]`, taken apart."""

    repository: str
    config: str | None
    revision: str | None
    split: str

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repository}{config}{revision}:{self.split}"


def parse_dataset_id(text: str, split: str) -> DatasetId | None:
    """`text` as a data set's id, its split `split` where it names none; None where it can only be a path."""
    match = DATASET_ID.fullmatch(text)
    if match is None or text.lower().endswith(SUFFIXES):
        return None
    return DatasetId(match[1], match[2], match[3], match[4] or split)


def read_dataset(dataset: DatasetId) -> Table:
    """The rows of one split. The classes of a label column stand by name, columns that hold lists,
    images and the like are left out; `origin` names the commit.

    Raises InputError where it cannot be had or read, in one line.
    """
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"{dataset}: no such file, and data sets of a hub need the datasets library: "
            "pip install 'compressed-transformer-bench[hub]'"
        ) from None
    # What counts downloads asks a host of its own, which is neither the hub nor a mirror of it. And that the
    # newest copy in the cache is taken need not be said: its commit is checked below.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    datasets.logging.set_verbosity_error()
    commit = hub.dataset_commit(str(dataset), dataset.repository, dataset.revision)
    try:
        builder = datasets.load_dataset_builder(
            f"hf://datasets/{dataset.repository}", dataset.config, revision=commit
        )
        check_builder(dataset, builder, commit)
        builder.download_and_prepare()
        splits = [str(name) for name in builder.info.splits or ()]
        if dataset.split not in splits:
            raise InputError(f"{dataset}: no such split; {did_you_mean(dataset.split, splits)}")
        return to_table(dataset, builder.as_dataset(dataset.split), hub.said_commit(commit))
    except InputError:
        raise
    except Exception as error:  # the library passes on whatever its readers and its network raise
        raise InputError(f"{dataset}: cannot be read as a data set ({in_one_line(error)})") from None


def check_builder(dataset: DatasetId, builder: datasets.DatasetBuilder, commit: str) -> None:
    """Raise `InputError` for files of other formats, and for a cached commit that was not asked for."""
    module = type(builder).__module__.rpartition(".")[2]
    if module not in (*READ, CACHED):
        raise InputError(f"{dataset}: holds {module} files; use a data set of {', '.join(READ.values())}")
    if builder.hash != commit:
        raise InputError(
            f"{dataset}: the cache holds commit {builder.hash} and not {commit}; "
            "unset HF_HUB_OFFLINE to download it"
        )


def to_table(dataset: DatasetId, data: Any, commit: str) -> Table:
    """The columns of `data` that hold text, numbers or classes."""
    import datasets

    classes = {
        name: kind.names for name, kind in data.features.items() if isinstance(kind, datasets.ClassLabel)
    }
    kept = [
        name
        for name, kind in data.features.items()
        if name in classes or (isinstance(kind, datasets.Value) and "binary" not in kind.dtype)
    ]
    cells = data.with_format("arrow")[:]
    values = {name: cells[name].to_pylist() for name in kept}
    for name, names in classes.items():
        values[name] = [None if number is None or number < 0 else names[number] for number in values[name]]
    source, columns = str(dataset), tuple(kept)
    rows = [
        to_row(source, number, columns, row)
        for number, row in enumerate(zip(*values.values(), strict=True), 1)
    ]
    if not rows:
        raise InputError(f"{dataset} has no rows with columns of text and numbers; name another split")
    name = "/".join(filter(None, (dataset.repository, dataset.config)))
    left_out = [name for name in data.features if name not in kept]
    origin = f"{dataset}, {commit}"
    if left_out:
        origin += f"; left out, neither text nor numbers: {', '.join(map(repr, left_out))}"
    return Table(source, name, columns, rows, list(range(1, len(rows) + 1)), has_header=True, origin=origin)
