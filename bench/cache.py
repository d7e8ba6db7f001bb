"""Steps kept by the hash of their inputs, so that nothing is trained or measured twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import psutil

import bench
import compressors
from bench.environment import LIBRARIES, module_version
from bench.errors import InputError
from bench.meters.findings import Findings
from bench.nouns.task import Task
from bench.protocol import PROTOCOL_VERSION
from bench.steps.request import Request, StepKind
from bench.tasks.stored import fingerprint as rows_fingerprint
from bench.worker import FINDINGS, REQUEST
from compressors import hub
from compressors.variant import parse_variant

TRAINING = ("variant", "device", "seed", "epochs", "learning_rate", "batch_size", "max_length")
MEASURING = ("variant", "device", "seed", "batch_size", "max_length", "budget", "attempt")
FEEDS = ("paddings", "shapes", "thread_counts")
INPUTS: dict[StepKind, tuple[str, ...]] = {
    "dense": TRAINING,
    "teacher": ("device", "batch_size", "max_length"),
    "compress": TRAINING,
    "timing": (*MEASURING, *FEEDS),
    "footprint": MEASURING,
}
SHARED = (".safetensors", ".onnx", ".onnx.data")


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
    plugins = [file_fingerprint(plugin) for plugin in request.plugins]
    named = named_inputs(request.variant) if request.kind == "compress" else []
    packages = {package: module_version(package) for package in packages_of(request.variant)}
    text = json.dumps([inputs, parents, plugins, named, packages, code_fingerprint()], sort_keys=True)
    return f"{request.kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def depends_on_machine(kind: StepKind, variant: str) -> bool:
    """Whether a step measures, or makes a variant a part of which does."""
    making = kind == "compress" and any(part.measures_device for part in parse_variant(variant).parts)
    return making or kind in ("timing", "footprint")


def packages_of(variant: str) -> set[str]:
    """Modules of extras that a variant's parts import, and those of an artifact that it goes on from."""
    parts = parse_variant(variant).parts
    earlier = [made for part in parts for made in part.continues]
    return {package for part in (*parts, *earlier) for package in part.packages}


def named_inputs(variant: str) -> list[str]:
    """Hashes of the checkpoints and files that a variant's parts read besides dense: `load:PATH_OR_ID`."""
    parts = parse_variant(variant).parts
    checkpoints = [files_fingerprint(hub.find(name)) for part in parts for name in part.checkpoints]
    return checkpoints + [file_fingerprint(file) for part in parts for file in part.files]


@cache
def code_fingerprint() -> str:
    """A hash of our own sources and of the versions of the libraries that all variants use."""
    digest = hashlib.sha256(str(PROTOCOL_VERSION).encode())
    for package in (bench, compressors):
        root = Path(package.__file__ or "").parent
        for file in sorted(root.rglob("*.py")):
            digest.update(file.read_bytes())
    for library in LIBRARIES:
        digest.update(version(library).encode())
    return digest.hexdigest()


def files_fingerprint(folder: Path) -> str:
    """A hash of a checkpoint's or an artifact's weights, configuration and tokenizer."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in hub.SUFFIXES:
            digest.update(file.name.encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def file_fingerprint(file: Path) -> str:
    """A hash of what a file holds."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def fingerprints(
    task: Task,
    checkpoints: Iterable[str] = (),
    plugins: Iterable[Path] = (),
    files: Iterable[Path] = (),
) -> dict[str, str]:
    """Hashes of what a run's outcome depends on besides its configuration and the machine."""
    return {
        "rows": rows_fingerprint(task),
        "model": files_fingerprint(hub.find(task.model)) if task.model else "scratch",
        "code": code_fingerprint(),
        **{
            f"checkpoint {name}": files_fingerprint(hub.find(name))
            for name in checkpoints
            if name != task.model
        },
        **{f"plugin {file.name}": file_fingerprint(file) for file in plugins},
        **{f"file {file}": file_fingerprint(file) for file in files},
    }


class Cache:
    """The folder of finished steps, one subfolder each; a step appears in it whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self, needed_bytes: int) -> None:
        """Find the folder writable and with room, or raise `InputError`; clear what dead runs left in it."""
        fresh = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        free = shutil.disk_usage(fresh).free
        if free < needed_bytes:
            raise InputError(
                f"--cache {self.root}: {free / 1e6:.0f} MB free, about {needed_bytes / 1e6:.0f} MB needed; "
                "free some, or name another disk"
            )
        self.fresh_folder("probe").rmdir()
        for folder in self.root.glob("*.*"):
            owner = folder.name.split(".")[1]
            if owner.isdecimal() and not psutil.pid_exists(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)

    def find(self, kind: StepKind, name: str) -> Step | None:
        """The finished step of this id, or None."""
        folder = self.root / name
        try:
            findings = Findings.model_validate_json((folder / FINDINGS).read_text())
        except (OSError, ValueError):
            return None
        return Step(kind, name, folder, findings, cached=True)

    def begin(self, name: str, request: Request) -> Path:
        """A fresh folder for a step to work in, its request written."""
        folder = self.fresh_folder(name)
        (folder / REQUEST).write_text(request.model_dump_json(indent=2))
        return folder

    def fresh_folder(self, name: str) -> Path:
        """An empty folder of this process's own, to be renamed to `name` once it is complete."""
        folder = self.root / f"{name}.{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise InputError(
                f"--cache {self.root}: cannot be written ({error.strerror}); name another folder"
            ) from None
        return folder

    def take(self, folder: Path, target: Path) -> None:
        """Rename a complete folder to its place, in place of what may be there."""
        remove(target)
        folder.rename(target)

    def keep(self, kind: StepKind, name: str, folder: Path) -> Step:
        """Take a step's folder into the cache under its id."""
        target = self.root / name
        self.take(folder, target)
        findings = Findings.model_validate_json((target / FINDINGS).read_text())
        return Step(kind, name, target, findings, cached=False)


def remove(folder: Path) -> None:
    """Take a step out of the cache: renamed first, so that a kill halfway leaves nothing that looks whole."""
    if folder.exists():
        doomed = folder.rename(folder.with_name(f"{folder.name}.{os.getpid()}.removed"))
        shutil.rmtree(doomed)


def link_files(source: Path, target: Path) -> None:
    """Put `source`'s files into `target` as hard links, or as copies on another file system."""
    shutil.copytree(source, target, copy_function=link, dirs_exist_ok=True)


def link(file: str, place: str) -> None:
    """One file, whatever lay in its place. Only weights and engines are shared, which nobody edits."""
    Path(place).unlink(missing_ok=True)
    try:
        if file.endswith(SHARED):
            os.link(file, place)
            return
    except OSError:
        pass  # another file system
    shutil.copy2(file, place)
