"""What the tasks of MahaNews download, generated: files of the same shape and size, a checkpoint's files."""

from __future__ import annotations

import csv
from pathlib import Path

from bench.tasks.mahanews import COMMIT, FILES, MODEL, ROWS, SOURCE
from tests.compressors.tiny import TOY_ROWS, tiny, toy_tokenizer

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
    """A repository of a tiny classifier of the topics, which takes as many tokens as the real one."""
    folder = root / "models" / name
    tokenizer = toy_tokenizer([text for text, _ in TOY_ROWS])
    tiny(labels=TOPICS, vocab_size=len(tokenizer), max_position_embeddings=512).save_pretrained(folder)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder)
    return folder
