"""The code of techniques that are not ours: plugins and installed packages, and hashes of what they hold."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from bench.environment import module_version
from bench.errors import InputError
from compressors.contract import Compressor
from compressors.registry import PLUGIN
from compressors.variant import parse_variant

# The reports are no part of what a step does.
KNOWN_CODE = {"bench", "compressors", "reports", *sys.stdlib_module_names}


def parts_of(variant: str) -> list[Compressor]:
    """A variant's parts, and those of an artifact that it goes on from."""
    parts = parse_variant(variant).parts
    return [*parts, *(made for part in parts for made in part.continues)]


def plugins_of(variant: str, plugins: Iterable[Path]) -> list[Path]:
    """Those of the plugins that define a part of the variant: no other has to run where it is made."""
    needed = {place for part in parts_of(variant) for place in map(location, modules_of(part)) if place}
    return [plugin for plugin in plugins if plugin.resolve() in needed]


def foreign_code(variant: str) -> dict[str, str]:
    """Hashes of the code outside our packages that defines a variant's parts, by technique.

    Of an installed package all modules count, and its version. Of a plugin it is the file, and what it
    imported at its top from beside it.
    """
    return {part.name: hashed(modules) for part in parts_of(variant) if (modules := modules_of(part))}


def modules_of(part: Compressor) -> list[ModuleType]:
    """The packages, or modules in none, that define a part's class and its bases, without our own."""
    names = {kind.__module__.partition(".")[0] for kind in type(part).__mro__}
    return [sys.modules[name] for name in sorted(names - KNOWN_CODE)]


def hashed(modules: Iterable[ModuleType]) -> str:
    """A hash of the modules' versions and sources."""
    versions = [module_version(module.__name__) for module in modules]
    files = [file_fingerprint(file) for module in modules for file in sources(module)]
    return hashlib.sha256(json.dumps([versions, files]).encode()).hexdigest()


def sources(module: ModuleType) -> list[Path]:
    """The Python files of a package, of a module, or of a plugin with what it imported from its folder."""
    place = location(module)
    if place is None:
        return []
    if place.is_dir():
        return sorted(place.rglob("*.py"))
    if not module.__name__.startswith(PLUGIN):
        return [place]
    return [place, *(file for other in beside(place) for file in sources(other))]


def beside(plugin: Path) -> list[ModuleType]:
    """What is imported from a plugin's own folder, without other plugins."""
    loaded = [each for name, each in sorted(sys.modules.items()) if "." not in name]
    return [
        module
        for module in loaded
        if isinstance(module, ModuleType)
        and (place := location(module)) is not None
        and place.parent == plugin.parent
        and module.__name__ not in KNOWN_CODE
        and not module.__name__.startswith(PLUGIN)
    ]


def installed_code(variants: Iterable[str]) -> dict[str, str]:
    """Hashes of the code of the variants' techniques that come from installed packages."""
    parts = [part for variant in variants for part in parts_of(variant)]
    installed = [part for part in parts if not type(part).__module__.startswith(PLUGIN)]
    return {f"compressor {part.name}": hashed(found) for part in installed if (found := modules_of(part))}


def plugin_code(plugins: Iterable[Path]) -> dict[str, str]:
    """Hashes of plugins by file name, those of one name together."""
    contents: dict[str, list[str]] = {}
    for plugin in plugins:
        hashes = map(file_fingerprint, plugin_sources(plugin))
        contents.setdefault(f"plugin {plugin.name}", []).extend(hashes)
    return {name: hashlib.sha256("".join(each).encode()).hexdigest() for name, each in contents.items()}


def plugin_sources(plugin: Path) -> list[Path]:
    """A plugin's file and those that it imported from its folder."""
    return [plugin, *(file for module in beside(plugin.resolve()) for file in sources(module))]


def location(module: ModuleType) -> Path | None:
    """A package's folder or a module's file; None for what has neither."""
    known = vars(module)
    places = [*known.get("__path__", ()), known.get("__file__")]
    return Path(places[0]).resolve() if places[0] else None


def file_fingerprint(file: Path) -> str:
    """A hash of what a file holds. Raises `InputError` where it is not there any more or no plain file."""
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):  # a pipe or a device may never end
            raise InputError(f"{file}: is no plain file; name one")
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); put it back") from None
