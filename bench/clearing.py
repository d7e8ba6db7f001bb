"""What a cache holds, and how a part of it is taken out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from os import stat_result
from pathlib import Path

from bench.cache import INPUTS, LOCK, NAME, entries, remove
from bench.errors import InputError, did_you_mean
from bench.lock import hold
from bench.steps.request import Request
from bench.worker import REQUEST

TASK, UNFINISHED = "task", "unfinished"
KINDS = (*INPUTS, TASK, UNFINISHED)


@dataclass(frozen=True)
class Entry:
    """A folder in a cache: a finished step, a task's rows, or what is not finished and may never be.

    `request` is what its step was told, None for a task. `used` is when a run used it last.
    """

    folder: Path
    kind: str
    request: Request | None
    size_bytes: int
    used: datetime

    @property
    def unused_s(self) -> float:
        """How long ago that is."""
        return (datetime.now(UTC) - self.used).total_seconds()


@dataclass(frozen=True)
class Chosen:
    """Which entries are meant: those of a kind, of variants by a glob, not used for so long; None is any."""

    kind: str | None = None
    variant: str | None = None
    older_than_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise InputError(f"--kind {self.kind}: {did_you_mean(self.kind, list(KINDS))}")

    def __contains__(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        name = entry.request.variant if entry.request else None
        return (
            self.kind in (None, entry.kind)
            and (self.variant is None or (name is not None and fnmatchcase(name, self.variant)))
            and (self.older_than_s is None or entry.unused_s > self.older_than_s)
        )


def contents(root: Path) -> list[Entry]:
    """What is in a cache, by name. Raises `InputError` where there is no such folder."""
    try:
        found = [entry for folder in entries(root) if (entry := entry_of(folder))]
    except OSError as error:
        raise InputError(f"--cache {root}: cannot be read ({error.strerror}); name a run's cache") from None
    last: dict[str, datetime] = {}
    for entry in found:
        if entry.request:
            task = entry.request.task.name
            last[task] = max(entry.used, last.get(task, entry.used))
    return [task_of(entry, last) if entry.kind == TASK else entry for entry in found]


def entry_of(folder: Path) -> Entry | None:
    """What a folder of the cache is; None for one that a run has just finished with."""
    named = NAME.fullmatch(folder.name)
    assert named
    kind = UNFINISHED if named["left"] else folder.name.partition("-")[0]
    try:
        used = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
    size_bytes = sum(status.st_size for status in statuses(folder))
    return Entry(folder, kind, read_request(folder), size_bytes, used)


def task_of(entry: Entry, last: dict[str, datetime]) -> Entry:
    """A task, used when the last of its steps was."""
    used = max(entry.used, last.get(entry.folder.name, entry.used))
    return Entry(entry.folder, entry.kind, None, entry.size_bytes, used)


def read_request(folder: Path) -> Request | None:
    """What a step was told, as far as the folder says."""
    try:
        return Request.model_validate_json((folder / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def statuses(folder: Path) -> Iterator[stat_result]:
    """The status of each file below a folder, of links as links; what goes meanwhile is left out."""
    for place in folder.rglob("*"):
        try:
            status = place.lstat()
        except FileNotFoundError:
            continue
        if not place.is_dir():
            yield status


def freed_bytes(folders: Sequence[Path]) -> int:
    """The space that is free once these folders are gone: a file counts if no link to it is elsewhere."""
    found = [((each.st_dev, each.st_ino), each) for folder in folders for each in statuses(folder)]
    links = Counter(file for file, _ in found)
    return sum(each.st_size for file, each in dict(found).items() if links[file] >= each.st_nlink)


def clear(root: Path, chosen: Chosen) -> tuple[list[Entry], int]:
    """Take the chosen entries out of a cache; which these were, and the bytes that became free.

    Raises `InputError` where a run works with the cache, or where nothing tells whether one does.
    """
    if not contents(root):
        return [], 0
    with hold(root / LOCK, f"--cache {root}") as held:
        if held.doubt:
            raise InputError(
                f"--cache {root}: its file system knows no locks, so a run that works there cannot be seen; "
                "remove the folder yourself while none does"
            )
        found = [entry for entry in contents(root) if entry in chosen]
        freed = freed_bytes([entry.folder for entry in found])
        for entry in found:
            remove(entry.folder)
    return found, freed
