"""Files that were asked for with `--export-…`: found writable before measuring, written after it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import InputError
from bench.folder import write_atomically


@dataclass(frozen=True)
class Outputs:
    """The file that each format goes to; formats are named as their options are, `markdown` say."""

    files: Mapping[str, Path]

    def check(self) -> None:
        """Raise `InputError` for a file that cannot be written; nothing is changed or left behind."""
        taken: dict[Path, str] = {}
        for format_name, file in self.files.items():
            place = _target(file)
            if place in taken:
                raise InputError(
                    f"{_option(format_name)} {file}: is the file of {_option(taken[place])} too; "
                    "name another file"
                )
            taken[place] = format_name
            _check_place(f"{_option(format_name)} {file}", place)

    def write(self, texts: Mapping[str, str]) -> None:
        """Write each format's text, whole or not at all. Raises `InputError` that names the file."""
        for format_name, file in self.files.items():
            try:
                write_atomically(_target(file), texts[format_name])
            except OSError as error:
                raise _cannot_be_written(f"{_option(format_name)} {file}", error) from None


def _option(format_name: str) -> str:
    return f"--export-{format_name}"


def _target(file: Path) -> Path:
    """Where a file really lies, so that a link is followed and not replaced."""
    return Path(os.path.realpath(file))


def _check_place(what: str, place: Path) -> None:
    try:
        if place.is_dir():
            raise InputError(f"{what}: is a folder; name a file in it")
        if place.exists() and not place.is_file():
            raise InputError(f"{what}: is not an ordinary file; name another file")
        if not place.parent.is_dir():
            raise InputError(f"{what}: there is no folder {place.parent}; make it first")
        # As writing does: beside the file, under a name of this length.
        with tempfile.NamedTemporaryFile(dir=place.parent, prefix=f".{place.name}."):
            pass
    except OSError as error:
        raise _cannot_be_written(what, error) from None


def _cannot_be_written(what: str, error: OSError) -> InputError:
    return InputError(f"{what}: cannot be written ({error.strerror}); name another file")
