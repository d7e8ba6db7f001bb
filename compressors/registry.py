"""Which compressors there are: our own, those of installed packages, and files named by the user."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from bench.errors import InputError
from compressors.contract import Compressor

OUR_MODULES = ("ft", "checkpoint", "kd", "bmp", "mp")
ENTRY_POINT_GROUP = "bench.compressors"

_classes: dict[str, type[Compressor]] = {}


def compressor_classes() -> dict[str, type[Compressor]]:
    """Every known technique by name, ours first."""
    if not _classes:
        for module in OUR_MODULES:
            register(importlib.import_module(f"compressors.{module}"))
        for entry in entry_points(group=ENTRY_POINT_GROUP):
            register(entry.load())
    return _classes


def add_plugins(files: Iterable[Path]) -> None:
    """Run each named Python file and take up the compressors it defines. Raises `InputError`."""
    compressor_classes()
    for file in files:
        spec = importlib.util.spec_from_file_location(f"bench_plugin_{file.stem}", file)
        if spec is None or spec.loader is None or not file.is_file():
            raise InputError(f"--plugin {file}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise InputError(f"--plugin {file}: {type(error).__name__}: {error}") from error
        register(module)


def register(source: ModuleType | type[Compressor]) -> None:
    """Take up a class, or every compressor class that a module defines itself."""
    if isinstance(source, ModuleType):
        found = [
            value
            for value in vars(source).values()
            if inspect.isclass(value)
            and issubclass(value, Compressor)
            and value.__module__ == source.__name__
        ]
        if not found:
            raise InputError(f"{source.__name__}: defines no Compressor")
    else:
        found = [source]
    for kind in found:
        if _classes.get(kind.name, kind) is not kind:
            raise InputError(f"{kind.__module__}: a compressor named {kind.name!r} exists already")
        _classes[kind.name] = kind
