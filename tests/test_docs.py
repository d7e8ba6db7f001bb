"""What the author's guide shows works as printed, and it leaves nothing out."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

from compressors import Compressor, registry
from compressors.presets import expand
from compressors.registry import add_plugins
from compressors.testing import check
from compressors.variant import parse_variant

GUIDE = (Path(__file__).parents[1] / "docs/writing-a-compressor.md").read_text()
[EXAMPLE] = re.findall(r"```python\n(.*?class Sparse.*?)```", GUIDE, flags=re.DOTALL)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example in a file, known as `--plugin` makes it known."""
    monkeypatch.setattr(registry, "_classes", dict(registry.compressor_classes()))
    file = tmp_path / "sparse.py"
    file.write_text(EXAMPLE)
    add_plugins([file])
    return file


def test_its_example_keeps_its_promises(example: Path) -> None:
    [part] = parse_variant("sparse50").parts
    check(part)


def test_its_example_does_what_it_says(example: Path) -> None:
    from tests.compressors.tiny import context_of, tiny

    [part] = parse_variant("sparse50").parts
    model = tiny()
    context = context_of(model, tokenizer=None)
    matrices = [p for p in part.finish(model, context).parameters() if p.ndim == 2]
    for matrix in matrices:
        assert (matrix == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert "50%" in context.notes[0]


def test_the_variants_of_its_command_exist(example: Path) -> None:
    [command] = re.findall(r"^ +(bench run --plugin sparse\.py .*)$", GUIDE, flags=re.MULTILINE)
    words = shlex.split(command)
    names = [variant.name for variant in expand(words[words.index("--variants") + 1], "cpu")]
    assert names == ["dense", "sparse30", "sparse50", "sparse50:pull=0.0+mp", "sparse50+kd"]


def test_it_names_every_moment_and_declaration() -> None:
    members = {*vars(Compressor), *inspect.get_annotations(Compressor)}
    named = set(re.findall(r"`(\w+)[`(]", GUIDE))
    assert {name for name in members if not name.startswith("_")} <= named
