"""What the README shows works as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from compressors import registry
from compressors.presets import expand
from compressors.registry import add_plugins
from compressors.variant import parse_variant
from tests.compressors.tiny import context_of, tiny

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_compressor_it_shows_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerBase
) -> None:
    monkeypatch.setattr(registry, "_classes", dict(registry.compressor_classes()))
    [code] = re.findall(r"```python\n([^`]*class Clip[^`]*)```", README)
    (tmp_path / "clip.py").write_text(code)
    add_plugins([tmp_path / "clip.py"])
    [clip] = parse_variant("clip:deviations=2").parts
    model = tiny("bert")
    weight = model.get_parameter("bert.encoder.layer.0.intermediate.dense.weight")
    with torch.no_grad():
        weight[0, 0] = 1e3
    bound = 2 * weight.std().item()
    clip.finish(model, context_of(model, tokenizer))
    assert weight.max().item() == pytest.approx(bound)
    [variants] = re.findall(r"--plugin clip\.py --variants '(.*)'", README)
    assert "clip+mp" in [variant.name for variant in expand(variants, "cpu")]


@pytest.mark.parametrize("variants", re.findall(r"--variants '?([^\s']+)'?\s+#", README))
def test_the_variants_it_names_exist(variants: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny("bert").save_pretrained(tmp_path / "someone-elses-model")
    monkeypatch.chdir(tmp_path)
    assert expand(variants, "cpu")
