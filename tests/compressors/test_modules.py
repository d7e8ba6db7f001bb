"""What modules are for, told by their classes and names, in families that nothing else here knows."""

from __future__ import annotations

import pytest
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    OPTConfig,
    OPTForSequenceClassification,
    PreTrainedModel,
    T5Config,
    T5ForSequenceClassification,
)

from compressors.modules import module_kinds
from tests.compressors.tiny import EVERY_FAMILY, tiny

SIZES = {"vocab_size": 64, "pad_token_id": 1}
BART = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
OPT = {"hidden_size": 32, "num_hidden_layers": 1, "ffn_dim": 64, "num_attention_heads": 2}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
OTHERS = {
    "bart": lambda: BartForSequenceClassification(BartConfig(**SIZES, **BART)),
    "opt": lambda: OPTForSequenceClassification(OPTConfig(**SIZES, **OPT, word_embed_proj_dim=32)),
    "t5": lambda: T5ForSequenceClassification(T5Config(**SIZES, **T5)),
}


def words(model: PreTrainedModel, kind: str) -> set[str]:
    """The last words of the paths of this kind's modules that hold weights of their own."""
    kinds = module_kinds(model)
    held = {path for path, module in model.named_modules() if list(module.parameters(recurse=False))}
    return {path.rpartition(".")[2] for path in held if kinds[path] == kind}


@pytest.mark.parametrize(
    ("family", "attention", "feed_forward"),
    [
        ("bart", {"q_proj", "k_proj", "v_proj", "out_proj"}, {"fc1", "fc2"}),
        ("opt", {"q_proj", "k_proj", "v_proj", "out_proj"}, {"fc1", "fc2"}),
        ("t5", {"q", "k", "v", "o", "relative_attention_bias"}, {"wi", "wo"}),
    ],
)
def test_layers_of_other_families_are_told_apart(
    family: str, attention: set[str], feed_forward: set[str]
) -> None:
    model = OTHERS[family]()
    assert words(model, "attention") == attention
    assert words(model, "feed-forward") == feed_forward
    assert words(model, "other") == set()
    assert words(model, "head")
    assert words(model, "norms")


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_no_weights_are_of_no_kind(family: str) -> None:
    assert words(tiny(family), "other") == set()
