"""Which compressors there are: our own, those of installed packages, and files named by the user."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from bench.errors import InputError, in_one_line
from bench.nouns.run import DENSE
from compressors.contract import Compressor

OUR_MODULES = (
    "ft",
    "checkpoint",
    "layers",
    "vocab",
    "kd",
    "bmp",
    "magnitude",
    "random",
    "fisher",
    "mp",
    "int8",
    "fp8",
    "compile",
    "graphs",
    "onnx",
    "unpadded",
    "sorted",
)
ENTRY_POINT_GROUP = "bench.compressors"

NAME = re.compile(r"[a-z][a-z0-9_]*")

_classes: dict[str, type[Compressor]] = {}
_plugins: set[Path] = set()


def compressor_classes() -> dict[str, type[Compressor]]:
    """Every known technique by name, ours first. Raises `InputError` where an installed one is unusable."""
    if not _classes:
        for module in OUR_MODULES:
            register(importlib.import_module(f"compressors.{module}"))
        for entry in entry_points(group=ENTRY_POINT_GROUP):
            try:
                register(entry.load())
            except Exception as error:
                _classes.clear()
                raise InputError(f"installed compressor {entry.value}: {described(error)}") from error
    return _classes


def add_plugins(files: Iterable[Path]) -> None:
    """Run each named Python file, once, and take up the compressors it defines. Raises `InputError`."""
    compressor_classes()
    for file in files:
        if file.resolve() in _plugins:
            continue
        name = f"bench_plugin_{len(_plugins)}_{file.stem}"
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None or not file.is_file():
            raise InputError(f"--plugin {file}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and type hints look a class's module up here
        try:
            spec.loader.exec_module(module)
            register(module)
        except Exception as error:
            del sys.modules[name]
            raise InputError(f"--plugin {file}: {described(error)}") from error
        _plugins.add(file.resolve())


def register(source: ModuleType | type[Compressor]) -> None:
    """Take up a class, or every compressor class that a module defines itself; all of them or none."""
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
    taken = {**_classes}
    for kind in found:
        check_class(kind)
        if taken.setdefault(kind.name, kind) is not kind or kind.name in reserved_names():
            raise InputError(f"{kind.__name__}: a compressor or preset named {kind.name!r} exists already")
    _classes.update(taken)


def check_class(kind: type[Compressor]) -> None:
    """Raise `InputError` where a class lacks what every technique declares."""
    missing = [word for word in ("name", "phase", "summary") if not hasattr(kind, word)]
    if missing:
        raise InputError(f"{kind.__name__}: declares no {missing[0]}")
    if not NAME.fullmatch(kind.name):
        raise InputError(f"{kind.__name__}: the name {kind.name!r} is not lowercase letters, digits and _")


def reserved_names() -> set[str]:
    """What a variant list already means by these words."""
    from compressors.presets import PRESETS

    return {DENSE, *PRESETS}


def described(error: BaseException) -> str:
    """An exception as part of an error that must fit on one line; our own need no type in front."""
    text = in_one_line(error)
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
