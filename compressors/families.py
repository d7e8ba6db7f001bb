"""Families of models by what a configuration says of them, and which are known here. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.errors import InputError
from compressors.formats import quoted
from compressors.registry import compressor_classes

PRUNED_PREFIX = "bench-pruned-"
CLASSIFIER = "ForSequenceClassification"
# Settings by which transformers reads other files in place of those that were looked at.
ELSEWHERE = ("configuration_files", "transformers_weights")


def family_of(config: Mapping[str, Any]) -> str:
    """The family by transformers' name, of a pruned model too."""
    return str(config.get("model_type")).removeprefix(PRUNED_PREFIX)


def refuse_code(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise `InputError` where loading would take code that is not in transformers, or other files."""
    file, family = folder / "config.json", config.get("model_type")
    if not isinstance(family, str) or not family:
        raise InputError(f'{file}: names no model_type; add the family, as in "model_type": "bert"')
    known = named_by_transformers("configuration_auto.py", "auto_mappings.py")
    if family_of(config) not in known and not has_plugins():
        why = (
            "only custom code builds it (auto_map), and no code of a checkpoint is run"
            if "auto_map" in config
            else "the installed transformers does not know it"
        )
        raise InputError(f"{file}: model_type {quoted(family)}: {why}; take a model of a known family")
    for name in ELSEWHERE:
        if config.get(name) is not None:
            raise InputError(f"{file}: {name} names other files in place of the usual ones; take it out")
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"{folder}: an adapter of another model (adapter_config.json); merge the two: "
            "merge_and_unload().save_pretrained(…)"
        )


def named_by_transformers(*modules: str) -> set[str]:
    """What stands in quotes in `transformers.models.auto`, read as text: importing it would take torch."""
    found = find_spec("transformers")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "models" / "auto"
    texts = [
        (folder / module).read_text(encoding="utf-8") for module in modules if (folder / module).exists()
    ]
    return {name for text in texts for name in re.findall(r'"([\w.-]+)"', text)}


def has_plugins() -> bool:
    """Whether there are compressors besides ours: they may bring families of their own to transformers."""
    return any(not kind.__module__.startswith("compressors.") for kind in compressor_classes().values())
