"""Steps kept by the hash of their inputs, so that nothing is trained or measured twice."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import bench
import compressors
from bench.environment import LIBRARIES, cuda_versions, module_version
from bench.errors import InputError
from bench.foreign_code import file_fingerprint, foreign_code, installed_code, parts_of, plugin_code
from bench.lock import Held, hold_together
from bench.meters.findings import Findings
from bench.nouns.environment import Environment
from bench.nouns.task import Task
from bench.protocol import PROTOCOL_VERSION
from bench.steps.request import Request, StepKind
from bench.storage import Storage
from bench.tasks.stored import fingerprint as rows_fingerprint
from bench.worker import FINDINGS, REQUEST
from compressors import hub
from compressors.formats import unreadable
from compressors.variant import parse_variant

TRAINING = (
    "variant",
    "device",
    "seed",
    "epochs",
    "learning_rate",
    "batch_size",
    "max_length",
    "train_processes",
)
MEASURING = ("variant", "device", "seed", "batch_size", "max_length", "budget", "attempt")
MEASURED: tuple[StepKind, ...] = ("timing", "footprint", "profile")
FEEDS = ("paddings", "shapes", "thread_counts")
INPUTS: dict[StepKind, tuple[str, ...]] = {
    "dense": TRAINING,
    "teacher": ("device", "batch_size", "max_length"),
    "compress": TRAINING,
    "timing": (*MEASURING, *FEEDS),
    "footprint": MEASURING,
    "profile": MEASURING,
}
LOCK = ".lock"
SHARED = (".safetensors", ".onnx", ".onnx.data")
FILES = "files.json"
# A step or a task, and what a process that died may have left of one; nothing else in the folder is ours.
NAME = re.compile(
    rf"(?:(?:{'|'.join(INPUTS)})-[0-9a-f]{{16}}|task-[0-9a-f]{{16}}-(?:[0-9a-f]{{16}}|scratch))"
    r"(?P<left>(?:\.checkpoint)?(?:\.(?P<owner>[0-9]{1,9}))*(?:\.removed)?)"
)


@dataclass(frozen=True)
class Step:
    """A step that is done: its folder, what it found, and whether an earlier run did it."""

    kind: StepKind
    id: str
    folder: Path
    findings: Findings
    cached: bool


def step_id(request: Request, parents: dict[str, str]) -> str:
    """The hash of everything the step's outcome depends on; `parents` are ids of what it reads."""
    inputs = {name: getattr(request, name) for name in INPUTS[request.kind]}
    code = [code_fingerprint(), *foreign_code(request.variant).values()]
    named = named_inputs(request.variant) if request.kind == "compress" else []
    packages = {package: module_version(package) for package in packages_of(request.variant)}
    text = json.dumps([inputs, parents, code, named, packages], sort_keys=True)
    return f"{request.kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def machine_of(kind: StepKind, variant: str, environment: Environment) -> str:
    """A hash of what a step depends on of the machine.

    Where times are measured that is all. Where a model is made it is the hardware, the threads and their
    variables: they decide how sums are rounded, and its costs are theirs.
    """
    if depends_on_machine(kind, variant):
        return environment.measuring_key
    parts = [environment.machine_key, environment.threads, environment.variables]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def depends_on_machine(kind: StepKind, variant: str) -> bool:
    """Whether a step measures times, or makes a variant a part of which does."""
    making = kind == "compress" and any(part.measures_device for part in parse_variant(variant).parts)
    return making or kind in MEASURED


def packages_of(variant: str) -> set[str]:
    """Modules of extras that a variant's parts import, and those of an artifact that it goes on from."""
    return {package for part in parts_of(variant) for package in part.packages}


def named_inputs(variant: str) -> list[str]:
    """Hashes of the checkpoints and files that a variant's parts read besides dense: `load:PATH_OR_ID`."""
    parts = parse_variant(variant).parts
    checkpoints = [files_fingerprint(hub.find(name)) for part in parts for name in part.checkpoints]
    return checkpoints + [file_fingerprint(hub.place_of(file)) for part in parts for file in part.files]


@cache
def code_fingerprint() -> str:
    """A hash of our own sources, and of the versions of Python and the libraries that all variants use."""
    versions = [platform.python_version(), *map(version, LIBRARIES), *cuda_versions().values()]
    return hashlib.sha256(json.dumps([sources_fingerprint(), *versions]).encode()).hexdigest()


@cache
def sources_fingerprint() -> str:
    """A hash of our own sources."""
    digest = hashlib.sha256(str(PROTOCOL_VERSION).encode())
    for package in (bench, compressors):
        root = Path(package.__file__ or "").parent
        for file in sorted(root.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def files_fingerprint(folder: Path) -> str:
    """A hash of a checkpoint's or an artifact's weights, configuration and tokenizer.

    Raises `InputError` for a file that cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for file in hub.files_of(folder):
            digest.update(file.name.encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise unreadable(error.filename or folder, error) from None
    return digest.hexdigest()


def fingerprints(
    task: Task,
    checkpoints: Iterable[str] = (),
    plugins: Iterable[Path] = (),
    files: Iterable[Path] = (),
    variants: Iterable[str] = (),
) -> dict[str, str]:
    """Hashes of what a run's outcome depends on besides its configuration and the machine.

    Those of `variants` are of their techniques that come from installed packages.
    """
    return {
        "rows": rows_fingerprint(task),
        "model": files_fingerprint(hub.find(task.model)) if task.model else "scratch",
        "code": code_fingerprint(),
        **{
            f"checkpoint {name}": files_fingerprint(hub.find(name))
            for name in checkpoints
            if name != task.model
        },
        **plugin_code(plugins),
        **installed_code(variants),
        **{f"file {file}": file_fingerprint(hub.place_of(file)) for file in files},
    }


class Cache:
    """The folder of finished steps, one subfolder each; a step appears in it whole or not at all.

    What is not in it is looked for in the `storage` that machines share, where there is one, and what is
    kept is kept there too.
    """

    def __init__(self, root: Path, storage: Storage | None = None) -> None:
        self.root, self.storage = root, storage

    def check(self, needed_bytes: int) -> None:
        """Raise `InputError` where the folder cannot be written or has no room; nothing is left behind."""
        try:
            there = next(folder for folder in (self.root, *self.root.parents) if is_there(folder))
            with tempfile.TemporaryFile(dir=there):
                free = shutil.disk_usage(there).free
        except OSError as error:
            raise InputError(
                f"--cache {self.root}: cannot be written ({error.strerror}); name another folder"
            ) from None
        if free < needed_bytes:
            raise InputError(
                f"--cache {self.root}: {free / 1e6:.0f} MB free, about {needed_bytes / 1e6:.0f} MB needed; "
                "free some, or name another disk"
            )

    @contextmanager
    def held(self, listen: Callable[[], None]) -> Iterator[Held]:
        """A share in the folder, made where there is none, while the block runs: it is not cleared meanwhile.

        What dead runs left goes before, where no other works there; `listen` is told when the share has to be
        waited for. Raises `InputError` where another machine or container works there: its processes would be
        taken for dead, and both would write to one training's state.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        in_use = f"--cache {self.root}"
        with hold_together(self.root / LOCK, in_use, self._clear_leftovers, listen) as share:
            yield share

    def _clear_leftovers(self) -> None:
        for folder in entries(self.root):
            found = NAME.fullmatch(folder.name)
            if found and found["owner"]:
                shutil.rmtree(folder, ignore_errors=True)

    def checkpoint(self, name: str) -> Path:
        """Where the training of a step leaves its state, and finds that of one that was broken off."""
        return self.root / f"{name}.checkpoint"

    def find(self, kind: StepKind, name: str) -> Step | None:
        """The finished step of this id, from now on the last used; None where a file of it is lost or cut."""
        found = self._find_here(kind, name)
        if found is None:
            return self._find_here(kind, name) if self.fetch(name) else None
        if self.storage is not None and not self.storage.has(name):
            self.share(name)
        return found

    def fetch(self, name: str) -> bool:
        """Bring a step or a task from the storage, in place of what is here; False where it has none."""
        if self.storage is None:
            return False
        # Where the step itself is worked on is another.
        fresh = self.fresh_folder(f"{name}.{os.getpid()}")
        if not self.storage.fetch(name, fresh):
            shutil.rmtree(fresh)
            return False
        place = self.root / name
        self.take(fresh, place, lambda: is_kept(place))
        return True

    def _find_here(self, kind: StepKind, name: str) -> Step | None:
        folder = self.root / name
        try:
            findings = Findings.model_validate_json((folder / FINDINGS).read_text(encoding="utf-8"))
            if not is_whole(folder):
                return None
            os.utime(folder)
        except (OSError, ValueError):
            return None
        return Step(kind, name, folder, findings, cached=True)

    def begin(self, name: str, request: Request) -> Path:
        """A fresh folder for a step to work in, its request written."""
        folder = self.fresh_folder(name)
        (folder / REQUEST).write_text(request.model_dump_json(indent=2), encoding="utf-8")
        return folder

    def fresh_folder(self, name: str) -> Path:
        """An empty folder of this process's own, to be renamed to `name` once it is complete."""
        folder = self.root / f"{name}.{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def take(self, folder: Path, target: Path, stays: Callable[[], bool]) -> None:
        """Rename a complete folder to its place.

        Where something lies there already, another process's at times, `stays` says whether that is to stay.
        It is asked only then, since what is removed in passing could be what another one has just put there.
        """
        while True:
            try:
                folder.rename(target)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if stays():
                shutil.rmtree(folder)
                return
            remove(target)

    def keep_task(self, name: str, write: Callable[[Path], None]) -> Path:
        """The folder of a task, written where it is not there in full."""
        place = self.root / name
        if is_kept(place):
            return place
        fresh = self.fresh_folder(name)
        write(fresh)
        (fresh / FILES).write_text(json.dumps(file_sizes(fresh)))
        self.take(fresh, place, lambda: is_kept(place))
        return place

    def share(self, name: str) -> None:
        """Put a step or a task that is here into the storage."""
        if self.storage is not None:
            folder = self.root / name
            self.storage.keep({path: folder / path for path in file_sizes(folder)}, name)

    def keep(self, kind: StepKind, name: str, folder: Path) -> Step:
        """Take a step's folder into the cache under its id, whole or, if the process is killed, not at all.

        A measurement replaces an earlier one. A model that another process made meanwhile stays, since
        others may be reading it.
        """
        findings = Findings.model_validate_json((folder / FINDINGS).read_text(encoding="utf-8"))
        (folder / FILES).write_text(json.dumps(file_sizes(folder)))
        target = self.root / name
        self.take(folder, target, lambda: kind not in MEASURED and self._find_here(kind, name) is not None)
        if kind in MEASURED or (self.storage and not self.storage.has(name)):
            self.share(name)
        return Step(kind, name, target, findings, cached=False)


def is_there(place: Path) -> bool:
    """Whether a name is taken, by a link to nowhere too. Raises `OSError` for one that nothing can have."""
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def entries(root: Path) -> list[Path]:
    """The folders in a cache that are its own, left-over ones too, by name."""
    return sorted(
        place
        for place in root.iterdir()
        if NAME.fullmatch(place.name) and place.is_dir() and not place.is_symlink()
    )


def file_sizes(folder: Path) -> dict[str, int]:
    """The bytes of every file below a folder, by its path there."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def is_whole(folder: Path) -> bool:
    """Whether a step has all its files in full. Raises `OSError` or `ValueError` where nothing says so."""
    return bool(json.loads((folder / FILES).read_text()).items() <= file_sizes(folder).items())


def is_kept(folder: Path) -> bool:
    """Whether a step or a task is there with all its files."""
    try:
        return is_whole(folder)
    except (OSError, ValueError):
        return False


def remove(folder: Path) -> None:
    """Take a step out of the cache: renamed first, so that a kill halfway leaves nothing that looks whole.

    One that is gone is no error: another process may have been faster.
    """
    doomed = folder.with_name(f"{folder.name}.{os.getpid()}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder.rename(doomed))


def link_files(source: Path, target: Path) -> None:
    """Put `source`'s files into `target` as hard links, or as copies on another file system."""
    copy_files(source, target, link)


def copy_files(source: Path, target: Path, copy: Callable[[Path, Path], object] = shutil.copyfile) -> None:
    """Put the files below a folder into another, those that lie there replaced.

    The first that cannot be written ends it with its own `OSError`: that of `shutil.copytree` has no number.
    """
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        copy(file, place)


def link(file: Path, place: Path) -> None:
    """One file, whatever lay in its place. Only weights and engines are shared, which nobody edits."""
    place.unlink(missing_ok=True)
    try:
        if file.name.endswith(SHARED):
            place.hardlink_to(file)
            return
    except OSError:
        pass  # another file system
    shutil.copy2(file, place)
