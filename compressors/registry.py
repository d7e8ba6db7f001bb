"""Which compressors there are: our own, those of installed packages, and files named by the user."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import ClassVar, get_origin, get_type_hints

from bench.errors import BenchError, InputError, in_one_line
from bench.nouns.run import DENSE
from compressors.contract import Compressor, Phase

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
PLUGIN = "bench_plugin_"

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

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
        place = found(file)
        if place in _plugins:
            continue
        name = f"{PLUGIN}{len(_plugins)}_{file.stem}"
        spec = importlib.util.spec_from_file_location(name, file)
        if place is None or spec is None or spec.loader is None:
            raise InputError(f"--plugin {file}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and type hints look a class's module up here
        try:
            with redirect_stdout(sys.stderr):
                spec.loader.exec_module(module)
            register(module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may well end in sys.exit()
            del sys.modules[name]
            raise InputError(f"--plugin {file}: {described(error)}; mend it, or leave it out") from error
        _plugins.add(place)


def found(file: Path) -> Path | None:
    """Where an ordinary file really lies; None where there is none."""
    try:
        place = file.resolve(strict=True)
        return place if place.is_file() else None
    except (OSError, RuntimeError, ValueError):
        return None  # links in a circle, or a name that no file can have


@contextmanager
def running_plugins() -> Iterator[None]:
    """For a block that calls methods of compressors: an exception out of a plugin becomes an `InputError`.

    It names the file, the line and the exception. What a plugin prints goes to stderr, so that stdout holds
    nothing but what was asked for.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (BenchError, KeyboardInterrupt):
        raise
    except BaseException as error:
        lines = traceback.walk_tb(error.__traceback__)
        theirs = [(frame, line) for frame, line in lines if is_plugin(frame.f_globals.get("__name__", ""))]
        if not theirs:
            raise
        frame, line = theirs[-1]
        place = f"{frame.f_code.co_filename}, line {line}"
        raise InputError(f"the plugin {place}: {described(error)}; mend it, or leave it out") from error


def is_plugin(module: str) -> bool:
    """Whether a module holds a compressor that is not one of ours."""
    return any(kind.__module__ == module for kind in _classes.values()) and not module.startswith(
        "compressors."
    )


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
    for word, type_ in (("name", str), ("phase", Phase), ("summary", str)):
        if not hasattr(kind, word):
            raise InputError(f"{kind.__name__}: declares no {word}")
        if not isinstance(value := getattr(kind, word), type_):
            raise InputError(f"{kind.__name__}: {word} = {value!r} is no {type_.__name__}")
    if not NAME.fullmatch(kind.name):
        raise InputError(
            f"{kind.__name__}: the name {kind.name!r} is not 1 to 40 lowercase letters, digits and _"
        )
    if kind.packages and kind.extra is None:
        raise InputError(f"{kind.__name__}: needs packages, and declares no extra that brings them")
    check_fields(kind)
    for word, moment in inspect.getmembers(Compressor, inspect.isfunction):
        check_moment(kind, word, inspect.signature(moment))


def check_fields(kind: type[Compressor]) -> None:
    """Raise `InputError` where a class's settings cannot be read from a variant's name, or spelled in it."""
    try:
        hints = get_type_hints(kind)
    except NameError as error:
        raise InputError(f"{kind.__name__}: the type of a field is unknown ({in_one_line(error)})") from None
    own = [name for name in inspect.get_annotations(kind) if get_origin(hints[name]) is not ClassVar]
    if own and "__dataclass_fields__" not in vars(kind):
        raise InputError(f"{kind.__name__}: is no dataclass; put @dataclass above it")
    names = [field.name for field in dataclasses.fields(kind)]
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING:
            raise InputError(
                f"{kind.__name__}: {field.name} has no default; write {field.name}: TYPE = VALUE"
            )
    for word in ("number", "argument"):
        if getattr(kind, word) not in (None, *names):
            raise InputError(f"{kind.__name__}: {word} = {getattr(kind, word)!r} names none of its fields")


def check_moment(kind: type[Compressor], name: str, wanted: inspect.Signature) -> None:
    """Raise `InputError` where a method does not take what it is called with."""
    try:
        inspect.signature(getattr(kind, name)).bind(*wanted.parameters)
    except TypeError:
        raise InputError(f"{kind.__name__}: {name} must take ({', '.join(wanted.parameters)})") from None


def reserved_names() -> set[str]:
    """What a variant list already means by these words."""
    from compressors.presets import PRESETS

    return {DENSE, *PRESETS}


def described(error: BaseException) -> str:
    """An exception as part of an error that must fit on one line; our own need no type in front."""
    text = in_one_line(error)
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
