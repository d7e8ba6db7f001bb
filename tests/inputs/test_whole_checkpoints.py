"""Checkpoints that are whole, however odd: they are taken, and they load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    ByT5Tokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from compressors import artifact
from compressors.inspection import check_checkpoint
from tests.compressors.tiny import LABELS, logits, same_names
from tests.inputs.test_checkpoints import WEIGHTS, Damage, linked, settings

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
# What a family calls otherwise, or needs beside.
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"max_position_embeddings": 66},
    "xlm-roberta": {},
    "electra": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "albert": {"embedding_size": 16, "num_hidden_layers": 48},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16},
    "mpnet": {},
    "deberta-v2": {
        "relative_attention": True,
        "position_biased_input": False,
        "pos_att_type": ["c2p", "p2c"],
    },
    "modernbert": {"eos_token_id": 3, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 3},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gpt_neox": {},
    "llama": {},
    "qwen2": {"num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2},
    "gemma": {"head_dim": 8, "num_key_value_heads": 2},
}
CAUSAL = ("xlnet", "gpt2", "gpt_neox", "llama", "qwen2", "mistral", "gemma")
KINDS = ("classifier", "half", "sharded", "base", "language model")


def made(family: str, kind: str, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A checkpoint with fresh weights, as its owner would have saved it."""
    language_model = AutoModelForCausalLM if family in CAUSAL else AutoModelForMaskedLM
    kinds = {"base": AutoModel, "language model": language_model}
    trained = kind not in kinds
    names = {"id2label": dict(enumerate(LABELS))} if trained else {}
    config = AutoConfig.for_model(family, **(SHAPE | FAMILIES[family] | names))
    torch.manual_seed(0)
    model = kinds.get(kind, AutoModelForSequenceClassification).from_config(config)
    if kind == "half":
        model = model.half()
    model.save_pretrained(folder, max_shard_size="20KB" if kind == "sharded" else "1GB")
    tokenizer.save_pretrained(folder)
    return folder


def loaded(folder: Path, trained: bool) -> PreTrainedModel:
    """The model as a run begins with it: as it is, or to be fine-tuned."""
    if trained:
        return artifact.load_model(str(folder))
    tokenizer = artifact.load_tokenizer(str(folder))
    return artifact.load_classifier(str(folder), LABELS, tokenizer, same_names, [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_checkpoint_is_taken(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, family: str, kind: str
) -> None:
    folder = made(family, kind, tmp_path / "model", tokenizer)
    assert (folder / WEIGHTS).exists() == (kind != "sharded")
    check_checkpoint(str(folder))
    answer = logits(loaded(folder, kind in ("classifier", "half", "sharded")))
    assert answer.shape == (5, 3)
    assert answer.isfinite().all()


def filled(value: float, *names: str) -> Damage:
    """Puts tensors among the weights, of half precision, that hold but one value."""

    def add(folder: Path) -> None:
        more = {name: torch.full((4, 4), value).half() for name in names}
        save_file(load_file(folder / WEIGHTS) | more, folder / WEIGHTS, metadata={"format": "pt"})

    return add


def elsewhere(target: str) -> Damage:
    """Moves the weights, and links to them."""

    def move(folder: Path) -> None:
        (folder / target).parent.mkdir(parents=True)
        (folder / WEIGHTS).rename(folder / target)
        (folder / WEIGHTS).symlink_to(target)

    return move


def bytes_for_tokens(folder: Path) -> None:
    """A ByT5: its configuration is a T5's, and its tokenizer has no file of a vocabulary."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    ByT5Tokenizer().save_pretrained(folder)
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    others = {"vocab_size": 384, "decoder_start_token_id": 0, "id2label": dict(enumerate(LABELS))}
    config = AutoConfig.for_model("t5", **shape, **others)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def many_links(folder: Path) -> None:
    """What loading does not read: the state of a training, kept on another disk."""
    linked("optimizer.pt", "../disk/optimizer.pt")(folder)
    linked("training_args.bin", "../disk/training_args.bin")(folder)
    (folder / "template").write_text("")
    linked("chat_template.jinja", "template")(folder)


def project_around(folder: Path) -> None:
    """A project's folder, with what else lies in one: an environment, data on another disk."""
    for place in (folder / ".venv" / "bin", folder.parent / "disk"):
        place.mkdir(parents=True, exist_ok=True)
    (folder / ".venv" / "bin" / "python").symlink_to("/usr/bin/env")
    (folder / "data").symlink_to("../disk")


# (family, kind, what is odd about it)
ODD: dict[str, tuple[str, str, Damage]] = {
    "weights on another disk": ("bert", "classifier", elsewhere("../disk/weights.safetensors")),
    "weights of a hub's cache": ("bert", "classifier", elsewhere("../hub/models--a--b/blobs/abc")),
    "links that are not read": ("bert", "classifier", many_links),
    "a project around it": ("bert", "classifier", project_around),
    "bytes for tokens": ("bert", "classifier", bytes_for_tokens),
    "infinite masks": (
        "gpt_neox",
        "half",
        filled(-1e9, *(f"gpt_neox.layers.{i}.attention.masked_bias" for i in (0, 1))),
    ),
    "an infinite buffer": ("bert", "classifier", filled(-float("inf"), "bert.mask")),
    "NaN in another task's head": (
        "bert",
        "language model",
        filled(float("nan"), "cls.predictions.transform.dense.weight", "lm_head.bias"),
    ),
    "names for two classes of three": (
        "bert",
        "classifier",
        settings(num_labels=3, id2label={0: "LABEL_0", 1: "LABEL_1"}, label2id=None),
    ),
    "attention of a hub": ("bert", "classifier", settings(_attn_implementation="someone/kernel")),
    "attention that is not installed": ("bert", "half", settings(attn_implementation="flash_attention_2")),
    "marks of the direction": (
        "bert",
        "classifier",
        settings(id2label={0: "رياضة\u200f", 1: "\u061cسياسة", 2: "C++\u200e"}, label2id=None),
    ),
    "joiners": ("bert", "classifier", settings(id2label={0: "خانه‌ها", 1: "क्‍ष", 2: "👩‍🔬"}, label2id=None)),
    "one name twice where no class is told": (
        "bert",
        "language model",
        settings(id2label={0: "x", 1: "x"}, label2id=None),
    ),
    "NaN that nothing reads": ("bert", "classifier", settings(best_loss=float("nan"))),
    "infinity that nothing reads": ("bert", "classifier", settings(limit=float("inf"))),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_checkpoint_is_taken(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, case: str) -> None:
    family, kind, oddity = ODD[case]
    folder = made(family, kind, tmp_path / "model", tokenizer)
    oddity(folder)
    check_checkpoint(str(folder))
    model = loaded(folder, kind != "language model")
    rows = artifact.load_tokenizer(str(folder))(["an old rose", "ice"], padding=True, return_tensors="pt")
    batch = {name: rows[name] for name in ("input_ids", "attention_mask")}
    assert logits(model, batch).isfinite().all()
    if kind != "language model":
        assert artifact.class_names(model.config) == artifact.config_class_names(str(folder))


@pytest.mark.parametrize("family", ["canine", "perceiver"])
def test_a_tokenizer_of_characters_needs_no_file(tmp_path: Path, family: str) -> None:
    AutoModel.from_config(AutoConfig.for_model("bert", **SHAPE)).save_pretrained(tmp_path)
    settings(model_type=family)(tmp_path)
    check_checkpoint(str(tmp_path))
