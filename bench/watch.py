"""Whether what a run's steps read is still what it was when the run began: others may write it meanwhile.

A step is kept under a hash of what it was to read, and reads it later, at times by hours.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import bench
import compressors
from bench.errors import InputError
from bench.foreign_code import plugin_sources
from bench.plan import Plan
from bench.steps.request import Request
from compressors import hub
from compressors.variant import parse_variant

OURS = "bench itself"
# Whoever replaces a file may have taken the old one away just now.
LOOK_AGAIN_S = 1.0
Stamp = tuple[int, int, int, int]


@dataclass
class Watched:
    """The files that `listed` gives, and what they held when this was made."""

    listed: Callable[[], Iterable[Path]]
    _stamps: dict[Path, Stamp | None] = field(init=False)
    _digest: str = field(init=False)

    def __post_init__(self) -> None:
        self._stamps = self._now()
        self._digest = digest(self._stamps)

    @property
    def is_changed(self) -> bool:
        """Whether there are others, or one holds something else. They are read only where one was written."""
        now = self._now()
        if now != self._stamps and digest(now) != self._digest:
            return True
        self._stamps = now
        return False

    def _now(self) -> dict[Path, Stamp | None]:
        return {file: stamp(file) for file in self.listed()}


class Watch:
    """Over our own code, and the checkpoints, plugins and files that a plan names."""

    def __init__(self, plan: Plan) -> None:
        self._model = plan.task.model
        self._watched = {name: Watched(listed) for name, listed in inputs(plan)}

    def changed(self, request: Request) -> str | None:
        """What of all that a step reads has changed since this was made, None where nothing has."""
        names = [OURS, *map(str, request.plugins)]
        if request.kind == "dense" and self._model:
            names.append(self._model)
        if request.kind == "compress":
            parts = parse_variant(request.variant).parts
            names += [name for part in parts for name in (*part.checkpoints, *map(str, part.files))]
        if not any(self._watched[name].is_changed for name in names):
            return None
        time.sleep(LOOK_AGAIN_S)
        return next((name for name in names if self._watched[name].is_changed), None)


def inputs(plan: Plan) -> Iterator[tuple[str, Callable[[], Iterable[Path]]]]:
    """What the plan's steps read, by what it is called; the rows are a copy of the run's own."""
    yield OURS, our_sources
    for name in plan.checkpoints:
        yield name, partial(checkpoint_files, name)
    # What a plugin imports only later is no part of the hash that its steps are kept under.
    for plugin in plan.plugins:
        yield str(plugin), partial(iter, plugin_sources(plugin))
    for file in plan.files:
        yield str(file), partial(iter, [hub.place_of(file)])


def our_sources() -> Iterator[Path]:
    """The files of our own code."""
    for package in (bench, compressors):
        yield from Path(package.__file__ or "").parent.rglob("*.py")


def checkpoint_files(name: str) -> list[Path]:
    """A checkpoint's files; none where it is gone."""
    try:
        return hub.files_of(hub.find(name))
    except (FileNotFoundError, InputError):
        return []


def stamp(file: Path) -> Stamp | None:
    """What any change of a file changes; None where there is no such file."""
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def digest(files: Iterable[Path]) -> str:
    """A hash of what files are there, and of what they hold."""
    found = hashlib.sha256()
    for file in sorted(files):
        try:
            with file.open("rb") as content:
                found.update(str(file).encode("utf-8", "surrogateescape"))
                found.update(hashlib.file_digest(content, "sha256").digest())
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found.hexdigest()
