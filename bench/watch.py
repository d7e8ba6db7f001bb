"""Whether what a run's steps read is still what it was when the run began: others may write it meanwhile.

A step is kept under a hash of what it was to read, and reads it later, at times by hours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bench
import compressors
from bench.foreign_code import plugin_sources
from bench.plan import Plan
from compressors import hub

Stamp = tuple[int, int]


@dataclass
class Watched:
    """Files that belong together, what they are called, and what they held when this was made."""

    name: str
    files: Sequence[Path]
    _stamps: list[Stamp | None] = field(init=False)
    _digest: str = field(init=False)

    def __post_init__(self) -> None:
        self._stamps, self._digest = self._now(), digest(self.files)

    @property
    def is_changed(self) -> bool:
        """Whether any file holds something else. They are read only where one was written."""
        stamps = self._now()
        if stamps != self._stamps and digest(self.files) != self._digest:
            return True
        self._stamps = stamps
        return False

    def _now(self) -> list[Stamp | None]:
        return [stamp(file) for file in self.files]


class Watch:
    """Over our own code, and the checkpoints, plugins and files that a plan names."""

    def __init__(self, plan: Plan) -> None:
        self._watched = [Watched(name, files) for name, files in inputs(plan)]

    def changed(self) -> str | None:
        """What has changed since this was made, None where nothing has."""
        return next((each.name for each in self._watched if each.is_changed), None)


def inputs(plan: Plan) -> Iterator[tuple[str, Sequence[Path]]]:
    """What the plan's steps read, by what it is called; the rows are a copy of the run's own."""
    packages = (Path(package.__file__ or "").parent for package in (bench, compressors))
    yield "bench itself", [file for package in packages for file in sorted(package.rglob("*.py"))]
    for name in plan.checkpoints:
        yield name, hub.files_of(hub.find(name))
    for plugin in plan.plugins:
        yield str(plugin), plugin_sources(plugin)
    for file in plan.files:
        yield str(file), [hub.place_of(file)]


def stamp(file: Path) -> Stamp | None:
    """Size and time of the last change; None where there is no such file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def digest(files: Sequence[Path]) -> str:
    """A hash of what the files hold; one that is not there counts as such."""
    found = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as content:
                found.update(hashlib.file_digest(content, "sha256").digest())
        except OSError:
            found.update(b"not there")
    return found.hexdigest()
