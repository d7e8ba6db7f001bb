"""A run's folder: `run.json`, `predictions/`, the reports, `artifacts/`, and the options asked for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from bench.cache import link_files
from bench.errors import InputError
from bench.lock import Held, hold
from bench.nouns.run import Run
from bench.options import Options

DEFAULT_ROOT = Path(".bench/runs")
Read = TypeVar("Read", bound=BaseModel)
RUN, OPTIONS, REPORT, PAGE, LOCK = "run.json", "options.json", "report.md", "report.html", ".lock"
LONGEST_NAME = 120
# Some hundred times what a sweep of 200 variants writes.
LARGEST_BYTES = 2**31
TEMPORARY_BYTES = 4


class Versioned(BaseModel):
    """What a document of any schema version says."""

    schema_version: int


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fresh: list[Path] = []

    @classmethod
    def create(cls, out: Path | None, needed_bytes: int) -> RunFolder:
        """A folder for a new run, found free and with room, or `InputError` with nothing left behind."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        path = out or DEFAULT_ROOT / f"{stamp}-{secrets.token_hex(3)}"
        made = cls(path.absolute() if path == Path() else path)
        try:
            made.refuse_another_run()
            if path.exists() and not path.is_dir():
                raise InputError(f"--out {path}: is not a folder")
            lineage = (path.absolute(), *path.absolute().parents)
            made._fresh = [folder for folder in lineage if not folder.exists()]
            free = shutil.disk_usage(lineage[len(made._fresh)]).free
            if free < needed_bytes:
                raise InputError(
                    f"--out {path}: {free / 1e6:.0f} MB free, about {needed_bytes / 1e6:.0f} MB needed; "
                    "free some, name another disk, or keep less with --keep best"
                )
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path) as probe:
                probe.write(b"a full disk takes a file but nothing into it")
        except OSError as error:
            made.remove_fresh_folders()
            raise cannot_be_written(path, error) from None
        return made

    def refuse_another_run(self) -> None:
        """Raise `InputError` where the folder holds a run."""
        if self.has_run:
            raise InputError(
                f"--out {self.path}: holds a run already; name another folder, or use --resume {self.path}"
            )
        if found := next(
            (name for name in (OPTIONS, REPORT, PAGE) if os.path.lexists(self.path / name)), None
        ):
            raise InputError(
                f"--out {self.path}: holds {found}, which a run would replace; name another folder, or "
                f"use --resume {self.path} where a run broke off"
            )

    @contextmanager
    def held(self, option: str) -> Iterator[Held]:
        """The right to work in the folder while the block runs; see `hold`.

        What a run that was killed had half written is taken away.
        """
        with hold(self.path / LOCK, f"{option} {self.path}") as held:
            for name in (RUN, OPTIONS, REPORT, PAGE, "predictions/*.jsonl"):
                place = self.path / name
                for half in place.parent.glob(f".{place.name}.{'[0-9a-f]' * 2 * TEMPORARY_BYTES}"):
                    half.unlink(missing_ok=True)
            yield held

    def begin(self, options: Options) -> None:
        """Note what was asked. Raises `InputError` where another process has begun a run here meanwhile."""
        self.refuse_another_run()
        try:
            write_atomically(self.path / OPTIONS, options.model_dump_json(indent=2))
        except OSError as error:
            self.discard()
            raise cannot_be_written(self.path, error) from None
        except PydanticSerializationError:
            self.discard()
            raise InputError("an option names a file whose name is not UTF-8; rename the file") from None

    def discard(self) -> None:
        """Take back a run that could not begin: our own files, and the folders that were made for it."""
        with contextlib.suppress(OSError):
            for name in (RUN, OPTIONS, LOCK):
                (self.path / name).unlink(missing_ok=True)
        self.remove_fresh_folders()

    def remove_fresh_folders(self) -> None:
        """Remove the folders that were made for the run, and that hold nothing."""
        for folder in self._fresh:
            with contextlib.suppress(OSError):
                folder.rmdir()

    @property
    def has_run(self) -> bool:
        """Whether a run's document lies here already."""
        return os.path.exists(self.path / RUN)  # noqa: PTH110 - a name too long holds no run, where Path raises

    def options(self) -> Options:
        """The options the run was asked with. A merged run has none."""
        if self.has_run and not (self.path / OPTIONS).exists():
            raise InputError(
                f"{self.path}: was merged from others; go on with those by --resume, and merge them again"
            )
        return read_document(Options, self.path / OPTIONS)

    def write(self, run: Run) -> None:
        """Replace `run.json`, whole or not at all. Raises `InputError` where the folder was removed."""
        self.make_room_for(self.path / RUN)
        write_atomically(self.path / RUN, run.model_dump_json(indent=2))

    def read(self) -> Run:
        """The run document. Raises `InputError` where there is none or it is not valid."""
        return read_run(self.path)

    def make_room_for(self, place: Path) -> None:
        """See to the folder of a file to be written. Raises `InputError` where the run's was removed."""
        if not self.path.is_dir():
            raise InputError(f"{self.path}: was removed while the run worked; start the run anew")
        place.parent.mkdir(exist_ok=True)

    def predictions(self, variant: str) -> Path:
        """Where a variant's predictions lie."""
        return self.path / "predictions" / f"{file_name(variant)}.jsonl"

    def artifact(self, variant: str) -> Path:
        """Where a variant's artifact lies."""
        return self.path / "artifacts" / file_name(variant)

    def trace(self, variant: str) -> Path:
        """Where the trace of a variant's profile lies."""
        return self.path / "traces" / f"{file_name(variant)}.json.gz"

    def add_predictions(self, variant: str, source: Path) -> Path:
        """Put a variant's predictions into the folder; returns where."""
        place = self.predictions(variant)
        self.make_room_for(place)
        write_atomically(place, source.read_text(encoding="utf-8"))
        return place

    def add_trace(self, variant: str, source: Path) -> str:
        """Put a variant's trace into the folder; returns its path relative to it."""
        place = self.trace(variant)
        self.make_room_for(place)
        shutil.copyfile(source, place)
        return str(place.relative_to(self.path))

    def add_log(self, name: str, source: Path) -> Path:
        """Put the log of a step that failed into the folder; returns where. One may have died without any."""
        place = self.path / "logs" / f"{file_name(name)}.txt"
        self.make_room_for(place)
        if source.exists():
            shutil.copyfile(source, place)
        else:
            place.write_text("")
        return place

    def add_artifact(self, variant: str, source: Path) -> str:
        """Put an artifact into the folder; returns its path relative to it."""
        self.make_room_for(self.artifact(variant))
        link_files(source, self.artifact(variant))
        return str(self.artifact(variant).relative_to(self.path))


def cannot_be_written(folder: Path, error: OSError) -> InputError:
    """That a folder named with `--out` is no use."""
    return InputError(f"--out {folder}: cannot be written ({error.strerror}); name another folder")


def read_run(place: Path) -> Run:
    """The run document in a run folder, or in a file."""
    try:
        return read_document(Run, place / RUN if place.is_dir() else place)
    except OSError as error:  # no file can have such a name
        raise InputError(f"{place}: cannot be read ({error.strerror})") from None


def read_document(kind: type[Read], file: Path) -> Read:
    """A JSON document of ours. Raises `InputError` that names the file and the first thing wrong in it."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_BYTES:
            raise InputError(
                f"{file}: not a document of ours, which is a file of at most {LARGEST_BYTES:,} bytes"
            )
        return kind.model_validate_json(file.read_bytes(), strict=True)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        refuse_other_schema(file)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])[:100] or "the document"
        wrong = f"{place}: {first['msg'][:200]}"
        raise InputError(f"{file}: not a valid {kind.__name__} document; {wrong}") from None


def refuse_other_schema(file: Path) -> None:
    """Raise `InputError` for a document whose schema version is not the one this bench reads."""
    known = Run.model_fields["schema_version"].default
    with contextlib.suppress(ValidationError):
        found = Versioned.model_validate_json(file.read_bytes(), strict=True).schema_version
        if found != known:
            age = "a newer" if found > known else "an older"
            raise InputError(
                f"{file}: written by {age} bench (schema version {str(found)[:20]}, this one reads {known}); "
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
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(TEMPORARY_BYTES)}")
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
        raise cannot_be_written(folder, error) from None


def row_name(variant: str, seed: int, seeds: Sequence[int]) -> str:
    """What a row's files are called: by the variant, and the seed where there are several."""
    return variant if len(seeds) == 1 else f"{variant}.seed{seed}"


def file_name(variant: str) -> str:
    """A variant's name as a file name: one path component of plain characters, another for each variant."""
    plain = re.sub(r"[^A-Za-z0-9+=._-]", "_", variant)[:LONGEST_NAME].lstrip(".")
    if plain == variant and plain:
        return plain
    return f"{plain or '_'}-{hashlib.sha256(variant.encode()).hexdigest()[:8]}"
