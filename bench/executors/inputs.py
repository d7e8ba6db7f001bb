"""What a row's making reads besides the plan: it travels to the nodes through the storage, by its content."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench.cache import Cache, files_fingerprint, is_kept
from bench.errors import InputError
from bench.foreign_code import file_fingerprint, plugin_code, plugin_sources
from bench.nouns.document import Document
from bench.plan import Plan
from bench.storage import Storage
from bench.tasks.stored import write_task
from bench.workbench import task_id
from compressors import hub
from compressors.registry import add_plugins

HASH_LENGTH = 16


class Inputs(Document):
    """Names in the storage: the task, and as the user named them the checkpoints and files.

    `plugins` are (name in the storage, the plugin's file in it), which may lie beside others that it imports.
    """

    task: str
    checkpoints: dict[str, str]
    files: dict[str, str]
    plugins: list[tuple[str, str]]


def send(plan: Plan, cache: Cache, storage: Storage) -> Inputs:
    """Put everything into the storage that is not there yet."""

    def keep(kind: str, content: str, files: Mapping[str, Path]) -> str:
        # By what they are called, too: a copy is found by its name.
        known = json.dumps([content, sorted(files)]).encode()
        name = f"{kind}-{hashlib.sha256(known).hexdigest()[:HASH_LENGTH]}"
        if not storage.has(name):
            storage.keep(files, name)
        return name

    task = task_id(plan.task)
    cache.keep_task(task, partial(write_task, plan.task))
    cache.share(task)
    checkpoints = {name: hub.find(name) for name in plan.checkpoints}
    return Inputs(
        task=task,
        checkpoints={
            name: keep("checkpoint", files_fingerprint(folder), checkpoint_files(folder))
            for name, folder in checkpoints.items()
        },
        files={str(file): keep("file", file_fingerprint(file), {file.name: file}) for file in plan.files},
        plugins=[
            (
                keep("plugin", "".join(plugin_code([plugin]).values()), plugin_files(plugin)),
                plugin.name,
            )
            for plugin in plan.plugins
        ],
    )


def fetch(inputs: Inputs, cache: Cache, storage: Storage, folder: Path) -> tuple[Path, ...]:
    """Bring everything below `folder`, and run the plugins, whose files these are.

    From now on what the user named is found here. Raises `InputError` where the storage does not hold it.
    """

    def bring(name: str) -> Path:
        place = folder / name
        if not place.exists():
            fresh = Path(tempfile.mkdtemp(dir=folder))
            if not storage.fetch(name, fresh):
                raise missing(name, storage)
            cache.take(fresh, place, lambda: True)
        return place

    if not is_kept(cache.root / inputs.task) and not cache.fetch(inputs.task):
        raise missing(inputs.task, storage)
    files = {file: bring(name) / Path(file).name for file, name in inputs.files.items()}
    hub.take_over({name: bring(kept) for name, kept in inputs.checkpoints.items()} | files)
    plugins = tuple(bring(name) / file for name, file in inputs.plugins)
    # What a plugin imports from beside it is found here as it was there.
    sys.path += [str(plugin.parent) for plugin in plugins if str(plugin.parent) not in sys.path]
    add_plugins(plugins)
    return plugins


def missing(name: str, storage: Storage) -> InputError:
    """The error where a node does not find what the run has put into the storage."""
    return InputError(f"--storage {storage}: {name} is not there; name a place that all nodes share")


def checkpoint_files(folder: Path) -> dict[str, Path]:
    """A checkpoint's weights, configuration and tokenizer, by name."""
    return {file.name: file for file in hub.files_of(folder)}


def plugin_files(plugin: Path) -> dict[str, Path]:
    """A plugin and what it imports from its folder, by the path there."""
    return {file.relative_to(plugin.parent).as_posix(): file for file in plugin_sources(plugin)}
