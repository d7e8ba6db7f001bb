"""What the tasks of MahaNews download, generated: files of the same shape and size, a checkpoint's files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from bench.tasks.mahanews import COMMIT, FILES, MODEL, ROWS, SOURCE

TOPICS = (
    *("Auto", "Bhakti", "Crime", "Education", "Fashion", "Health", "International", "Manoranjan"),
    *("Politics", "Sports", "Tech", "Travel"),
)
REPEATED_HEADERS = 11
HEADER = ("Text", "Label")


def file_of(root: Path, corpus: str, part: str) -> Path:
    """Where the file server keeps a published file."""
    name = f"{corpus}_{FILES[part]}.csv"
    return root / "files" / SOURCE / COMMIT / "L3Cube-MahaNews" / corpus / name


def write_corpora(root: Path, *corpora: str) -> None:
    """The published files of `corpora`, no text twice, the header repeated in the validation files."""
    for corpus in corpora:
        for part, count in ROWS[corpus].items():
            rows = [(f"बातमी {corpus} {part} {number}", TOPICS[number % 12]) for number in range(count)]
            again = [HEADER] * REPEATED_HEADERS if part == "validation" else []
            file = file_of(root, corpus, part)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("w", encoding="utf-8", newline="") as out:
                csv.writer(out).writerows([HEADER, *rows[:100], *again, *rows[100:]])


def write_checkpoint_files(root: Path, name: str = MODEL) -> Path:
    """A repository of which only the configuration is more than a name; no model can be loaded from it."""
    folder = root / "models" / name
    folder.mkdir(parents=True)
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "max_position_embeddings": 512,
        "id2label": dict(enumerate(TOPICS)),
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    return folder
