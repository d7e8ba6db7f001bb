"""A project's own settings: the table `[tool.bench]` of its `pyproject.toml`."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from bench.baselines import ROOT
from bench.errors import InputError, did_you_mean, in_one_line

PYPROJECT = "pyproject.toml"


class Settings(BaseModel):
    """What gates of this project rest on, where the command line does not say otherwise."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )

    baseline: str | None = None
    fail_on: list[str] = []
    strict: bool = False
    allow_missing_baseline: bool = False
    _folder: Path = PrivateAttr(default=Path())

    @property
    def baselines(self) -> Path:
        """Where the project keeps its baselines."""
        return self._folder / ROOT


def read_settings(folder: Path) -> Settings:
    """Those of the nearest `pyproject.toml` at or above `folder`; the defaults where it has none.

    Raises `InputError` that names the file for a key or a value that cannot be used.
    """
    place = folder.absolute()
    file = next((each / PYPROJECT for each in (place, *place.parents) if (each / PYPROJECT).is_file()), None)
    if file is None:
        return Settings()
    try:
        tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read ({in_one_line(error)})") from None
    table = tool.get("bench", {}) if isinstance(tool, dict) else {}
    try:
        settings = Settings.model_validate(table)
        settings._folder = Path(os.path.relpath(file.parent))
        return settings
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = [name.replace("_", "-") for name in Settings.model_fields]
        why = did_you_mean(key, known) if first["type"] == "extra_forbidden" else first["msg"]
        raise InputError(f"{file}: [tool.bench] {key}: {why}") from None
