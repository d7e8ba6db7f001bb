"""What pruning leaves reloads anywhere: by us, by transformers beside our classes, by transformers alone."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

import compressors.pruned
from compressors import artifact
from compressors.bmp import BlockMovementPruning
from compressors.magnitude import MagnitudePruning
from compressors.pruned import PRUNED
from compressors.random import RandomPruning
from compressors.shapes import layer_shapes
from compressors.variant import Variant
from tests.compressors.pruning import Pruning, pruning, with_own_layers
from tests.compressors.tiny import FAMILIES, LABELS, logits, padded_batch, tiny

COMPARE = """
import sys
import torch
from pathlib import Path
from safetensors.torch import load_file

def compare(folder, model):
    batch = load_file(folder / "expected.tensors")
    expected = batch.pop("logits")
    with torch.no_grad():
        found = model.eval()(**batch).logits
    assert torch.allclose(found, expected, atol=1e-6), (folder, found - expected)

folders = [Path(word) for word in sys.argv[1:]]
assert folders
"""


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Pruned artifacts, each with the logits it gave when saved.

    Of every family one that lost a layer's heads and another's neurons, and a uniform one; of the baselines
    one each.
    """
    root = tmp_path_factory.mktemp("artifacts")
    made: dict[str, Pruning] = {}
    for family in FAMILIES:
        pruned = pruning(tokenizer, with_own_layers(family, 3), amount=0.45, block=8)
        pruned.draw_scores(15)
        with torch.no_grad():
            for scores in pruned.layers[1].scores()[:4]:
                scores.fill_(-100)
            pruned.layers[2].neurons.scores.fill_(-100)
        made[f"pruned-{family}"] = pruned
        made[f"uniform-{family}"] = pruning(tokenizer, with_own_layers(family), amount=0.45, uniform=True)
        made[f"uniform-{family}"].draw_scores(15)
    for kind in (MagnitudePruning, RandomPruning):
        made[f"pruned-{kind.name}"] = pruning(tokenizer, tiny(), kind, amount=0.45, block=8)
    for name, pruned in made.items():
        model = pruned.finish()
        artifact.save(model, tokenizer, Variant((pruned.part,)), root / name)
        save_file({"logits": logits(model), **padded_batch()}, root / name / "expected.tensors")
    return root


def in_fresh_process(code: str, *arguments: Path, isolated: bool = False, **environment: str) -> None:
    """Run Python that knows nothing of this one; it fails where an assertion in it does."""
    options = ["-W", "error", *(["-I"] if isolated else [])]
    finished = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, **environment},
    )
    assert finished.returncode == 0, finished.stderr[-3000:]


def test_pruned_artifacts_reload_by_our_own_load(artifacts: Path) -> None:
    code = f"""
{COMPARE}
import compressors
for folder in folders:
    compare(folder, compressors.load(folder))
"""
    in_fresh_process(code, *sorted(artifacts.glob("pruned-*")))


def test_pruned_artifacts_reload_by_transformers_once_the_classes_are_imported(artifacts: Path) -> None:
    code = f"""
{COMPARE}
import compressors.pruned
from transformers import AutoModelForSequenceClassification
for folder in folders:
    compare(folder, AutoModelForSequenceClassification.from_pretrained(folder))
assert "compressors.artifact" not in sys.modules
"""
    in_fresh_process(code, *sorted(artifacts.glob("pruned-*")))


def test_the_class_file_beside_a_pruned_artifact_is_enough(artifacts: Path, tmp_path: Path) -> None:
    for folder in sorted(artifacts.glob("pruned-*")):
        copied = tmp_path / folder.name
        shutil.copytree(folder, copied)
        shutil.copy(compressors.pruned.__file__, copied)
        settings = json.loads((copied / "config.json").read_text())
        family = PRUNED[settings["model_type"]]
        settings["auto_map"] = {
            "AutoConfig": f"pruned.{family.config_class.__name__}",
            "AutoModelForSequenceClassification": f"pruned.{family.model_class.__name__}",
        }
        (copied / "config.json").write_text(json.dumps(settings))
    code = f"""
{COMPARE}
from transformers import AutoModelForSequenceClassification
for folder in folders:
    compare(folder, AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True))
assert not [name for name in sys.modules if name.split(".")[0] in ("bench", "compressors")]
# What is our own goes on working where copies are registered, and takes over again.
import compressors
for folder in folders:
    compare(folder, compressors.load(folder))
"""
    in_fresh_process(code, *sorted(tmp_path.glob("pruned-*")), HF_MODULES_CACHE=str(tmp_path / "modules"))


def test_uniform_artifacts_reload_where_nothing_of_ours_can_be_imported(artifacts: Path) -> None:
    code = f"""
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("bench", "compressors"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
for name in ("bench", "compressors"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(name + " can be imported")
{COMPARE}
from transformers import AutoModelForSequenceClassification
for folder in folders:
    compare(folder, AutoModelForSequenceClassification.from_pretrained(folder))
"""
    in_fresh_process(code, *sorted(artifacts.glob("uniform-*")), isolated=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pruned_artifact_keeps_its_labels_and_shapes(artifacts: Path, family: str) -> None:
    model = compressors.load(artifacts / f"pruned-{family}")
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.layer_heads == [heads for heads, _ in layer_shapes(model)]
    assert model.config.layer_ffn_widths == [width for _, width in layer_shapes(model)]
    assert model.config.layer_heads[1] == 0
    assert model.config.layer_ffn_widths[2] == 0
    assert model.num_parameters() < with_own_layers(family, 3).num_parameters()
    assert math.isfinite(float(logits(model).sum()))


def test_an_artifact_remembers_how_it_was_pruned(artifacts: Path) -> None:
    (part,) = artifact.made_by(artifacts / "uniform-bert")
    assert part == BlockMovementPruning(amount=0.45, uniform=True)
