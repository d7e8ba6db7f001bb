"""A run's folder: `run.json`, `predictions/`, the reports, `artifacts/`, and the options asked for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from bench.cache import link_files
from bench.errors import InputError
from bench.nouns.run import Run
from bench.options import Options

DEFAULT_ROOT = Path(".bench/runs")
Read = TypeVar("Read", bound=BaseModel)
RUN, OPTIONS, REPORT, PAGE = "run.json", "options.json", "report.md", "report.html"
LONGEST_NAME = 120


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, out: Path | None, options: Options, needed_bytes: int) -> RunFolder:
        """A new folder, found writable and with room, or `InputError` with nothing left behind."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        path = out or DEFAULT_ROOT / f"{stamp}-{secrets.token_hex(3)}"
        fresh: list[Path] = []
        try:
            if (path / RUN).exists():
                raise InputError(
                    f"--out {path}: holds a run already; name another folder, or use --resume {path}"
                )
            if path.exists() and not path.is_dir():
                raise InputError(f"--out {path}: is not a folder")
            lineage = (path.absolute(), *path.absolute().parents)
            fresh = [folder for folder in lineage if not folder.exists()]
            free = shutil.disk_usage(lineage[len(fresh)]).free
            if free < needed_bytes:
                raise InputError(
                    f"--out {path}: {free / 1e6:.0f} MB free, about {needed_bytes / 1e6:.0f} MB needed; "
                    "free some, name another disk, or keep less with --keep best"
                )
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / OPTIONS, options.model_dump_json(indent=2))
        except OSError as error:
            for folder in fresh:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise InputError(
                f"--out {path}: cannot be written ({error.strerror}); name another folder"
            ) from None
        return cls(path.absolute() if path == Path() else path)

    def discard(self) -> None:
        """Take back a run that could not begin: our own files, and the folder if nothing else is in it."""
        for name in (RUN, OPTIONS):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def options(self) -> Options:
        """The options the run was asked with."""
        return read_document(Options, self.path / OPTIONS)

    def write(self, run: Run) -> None:
        """Replace `run.json`, whole or not at all."""
        write_atomically(self.path / RUN, run.model_dump_json(indent=2))

    def read(self) -> Run:
        """The run document. Raises `InputError` where there is none or it is not valid."""
        return read_run(self.path)

    def predictions(self, variant: str) -> Path:
        """Where a variant's predictions lie."""
        return self.path / "predictions" / f"{file_name(variant)}.jsonl"

    def artifact(self, variant: str) -> Path:
        """Where a variant's artifact lies."""
        return self.path / "artifacts" / file_name(variant)

    def add_predictions(self, variant: str, source: Path) -> Path:
        """Put a variant's predictions into the folder; returns where."""
        place = self.predictions(variant)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, place)
        return place

    def add_log(self, name: str, source: Path) -> Path:
        """Put the log of a step that failed into the folder; returns where."""
        place = self.path / "logs" / f"{file_name(name)}.txt"
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, place)
        return place

    def add_artifact(self, variant: str, source: Path) -> str:
        """Put an artifact into the folder; returns its path relative to it."""
        link_files(source, self.artifact(variant))
        return str(self.artifact(variant).relative_to(self.path))


def read_run(place: Path) -> Run:
    """The run document in a run folder, or in a file."""
    return read_document(Run, place / RUN if place.is_dir() else place)


def read_document(kind: type[Read], file: Path) -> Read:
    """A JSON document of ours. Raises `InputError` that names the file and the first thing wrong in it."""
    try:
        return kind.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        refuse_other_schema(file)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise InputError(f"{file}: not a valid {kind.__name__} document; {place}: {first['msg']}") from None


def refuse_other_schema(file: Path) -> None:
    """Raise `InputError` for a document whose schema version is not the one this bench reads."""
    known = Run.model_fields["schema_version"].default
    with contextlib.suppress(ValueError, AttributeError):
        found = json.loads(file.read_bytes()).get("schema_version")
        if isinstance(found, int) and found != known:
            age = "a newer" if found > known else "an older"
            raise InputError(
                f"{file}: written by {age} bench (schema version {found}, this one reads {known}); "
                "read it with that one"
            )


def latest_run(root: Path = DEFAULT_ROOT) -> Path:
    """The run folder that was begun last. Raises `InputError` where there is none."""
    runs = sorted((folder for folder in root.glob("*") if (folder / RUN).is_file()), key=started)
    if not runs:
        raise InputError(f"no run in {root}; start one with: bench run")
    return runs[-1]


def started(folder: Path) -> float:
    """When a run folder was made."""
    return (folder / OPTIONS).stat().st_mtime if (folder / OPTIONS).exists() else folder.stat().st_mtime


def write_atomically(file: Path, text: str) -> None:
    """Write `text` so that a reader, or a crash, sees the old content or the new, never a part."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_documents(folder: Path, texts: dict[str, str]) -> None:
    """Write texts by file name into a folder, made if need be. Raises `InputError` where that cannot be."""
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out {folder}: is not a folder")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, text)
    except OSError as error:
        raise InputError(
            f"--out {folder}: cannot be written ({error.strerror}); name another folder"
        ) from None


def file_name(variant: str) -> str:
    """A variant's name as a file name: one path component of plain characters, another for each variant."""
    plain = re.sub(r"[^A-Za-z0-9+=._-]", "_", variant)[:LONGEST_NAME].lstrip(".")
    if plain == variant and plain:
        return plain
    return f"{plain or '_'}-{hashlib.sha256(variant.encode()).hexdigest()[:8]}"
