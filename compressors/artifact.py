"""An artifact: a folder with `model.safetensors`, `config.json`, the tokenizer and `variant.json`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import InputError
from compressors.variant import Variant, parse_variant

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ARTIFACT = "artifact"
VARIANT_FILE = "variant.json"


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, variant: Variant, folder: Path) -> None:
    """Write `model` as it is, in its own precision, with everything that `load` needs."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    document = {
        "variant": variant.name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": {part.name: asdict(part) for part in variant.parts},
    }
    (folder / VARIANT_FILE).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def load(path: str | Path, device: str = "cpu") -> PreTrainedModel:
    """The artifact's model in eval mode on `device`, in its stored precision, its runtime applied.

    `load(path)(input_ids=…, attention_mask=…).logits` gives the logits, shape (rows, classes). Raises
    `InputError` where `path` is not an artifact or names a compressor that is not installed.
    """
    folder = Path(path)
    try:
        document = json.loads((folder / VARIANT_FILE).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: not an artifact, {VARIANT_FILE} cannot be read ({error})") from None
    model = load_model(str(folder), document["dtype"]).to(device).eval()
    for part in parse_variant(document["variant"]).parts:
        model = part.runtime(model, device)
    return model


def load_model(path_or_id: str, dtype: str = "float32") -> PreTrainedModel:
    """A sequence classifier from a checkpoint, its weights as `dtype` (`auto`: as stored), in eval mode."""
    from transformers import AutoModelForSequenceClassification

    import compressors.shapes  # noqa: F401  (registers the pruned families)

    check_checkpoint(path_or_id)
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            path_or_id, dtype=dtype, use_safetensors=True
        ).eval()
    except (OSError, ValueError) as error:
        raise InputError(f"{path_or_id}: cannot be loaded as a classifier: {first_line(error)}") from None


def load_classifier(path_or_id: str, labels: tuple[str, ...]) -> PreTrainedModel:
    """An encoder with a head for `labels`: the checkpoint's own where the names agree, else a fresh one."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    import compressors.shapes  # noqa: F401  (registers the pruned families)

    check_checkpoint(path_or_id)
    try:
        config = AutoConfig.from_pretrained(path_or_id)
        if set(config.id2label.values()) != set(labels):
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: i for i, label in enumerate(labels)}
        return AutoModelForSequenceClassification.from_pretrained(
            path_or_id, config=config, dtype=torch.float32, use_safetensors=True, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{path_or_id}: cannot be loaded as a classifier: {first_line(error)}") from None


def load_tokenizer(path_or_id: str) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer. Raises `InputError` where it has none."""
    from transformers import AutoTokenizer

    check_checkpoint(path_or_id)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path_or_id)
    except (OSError, ValueError) as error:
        raise InputError(f"{path_or_id}: no usable tokenizer: {first_line(error)}") from None
    return tokenizer


def check_checkpoint(path_or_id: str) -> None:
    """Raise `InputError` unless `path_or_id` is a folder with safetensors weights, or may be a hub id."""
    folder = Path(path_or_id)
    if not folder.exists():
        if folder.is_absolute() or path_or_id.startswith(".") or path_or_id.count("/") > 1:
            raise InputError(f"{path_or_id}: no such model directory")
        return
    if not (folder / "config.json").is_file():
        raise InputError(f"{path_or_id}: not a model directory, it has no config.json")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(file.name for file in folder.glob("*.bin"))
        remedy = (
            f"{pickled[0]} is a pickle, which can run code when opened; convert it where you trust it: "
            "AutoModelForSequenceClassification.from_pretrained(…).save_pretrained(…)"
            if pickled
            else "save the model with save_pretrained"
        )
        raise InputError(f"{path_or_id}: no safetensors weights; {remedy}")


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, for an error that must fit on one."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
