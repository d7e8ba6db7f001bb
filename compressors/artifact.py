"""An artifact: a folder with `model.safetensors`, `config.json`, the tokenizer and `variant.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import InputError
from compressors.variant import Variant, parse_variant

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

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
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / VARIANT_FILE).write_text(text, encoding="utf-8")


def load(path: str | Path, device: str = "cpu") -> PreTrainedModel:
    """The artifact's model in eval mode on `device`, in its stored precision, its runtime applied.

    `load(path)(input_ids=…, attention_mask=…).logits` gives the logits, shape (rows, classes). Raises
    `InputError` where `path` is not an artifact or names a compressor that is not installed.
    """
    folder = Path(path)
    try:
        document = json.loads((folder / VARIANT_FILE).read_text(encoding="utf-8"))
        spec, dtype = str(document["variant"]), str(document["dtype"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {in_one_line(error)}"
        raise InputError(f"{folder}: not an artifact, {VARIANT_FILE} cannot be read ({reason})") from None
    variant = parse_variant(spec)
    model = load_model(str(folder), dtype).to(device).eval()
    for part in variant.parts:
        model = part.runtime(model, device)
    return model


def load_model(path_or_id: str, dtype: str = "float32") -> PreTrainedModel:
    """A sequence classifier from a checkpoint, its weights as `dtype` (`auto`: as stored), in eval mode.

    Raises `InputError` for a checkpoint that lacks any of the weights, rather than make them up.
    """
    check_checkpoint(path_or_id)
    with told_as_input_error(path_or_id, "cannot be loaded as a classifier"):
        model, left_open = from_pretrained(path_or_id, dtype=dtype)
        if left_open:
            raise InputError(f"{path_or_id}: its weights lack {left_open[0]}: not a fine-tuned classifier")
        return model.eval()


def load_classifier(path_or_id: str, labels: tuple[str, ...], notes: list[str]) -> PreTrainedModel:
    """An encoder with a head for `labels`: the checkpoint's own where the names agree, else a fresh one.

    A fresh head is said in `notes`.
    """
    import torch
    from transformers import AutoConfig

    import compressors.shapes  # noqa: F401  (registers the pruned families)

    check_checkpoint(path_or_id)
    with told_as_input_error(path_or_id, "cannot be loaded as a classifier"):
        config = AutoConfig.from_pretrained(path_or_id)
        head_fits = set(class_names(config)) == set(labels)
        if not head_fits:
            config.id2label = dict(enumerate(labels))
        model, left_open = from_pretrained(path_or_id, config=config, dtype=torch.float32)
        head = [name for name, _ in model.named_children() if name != model.base_model_prefix]
        for name in left_open:
            if name.split(".")[0] not in head and ".pooler." not in name:
                raise InputError(f"{path_or_id}: its weights lack {name}: not a whole encoder")
        if not head_fits:
            notes.append(f"{path_or_id} has no head for these classes: a fresh one was put on and trained")
            for name in head:
                renew(model.get_submodule(name), getattr(config, "initializer_range", 0.02))
        return model


def renew(head: nn.Module, deviation: float) -> None:
    """Fresh weights, as transformers draws them: it keeps another task's where only their number agrees."""
    from torch import nn

    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def from_pretrained(path_or_id: str, **settings: Any) -> tuple[PreTrainedModel, list[str]]:
    """The model, and the names of the parameters that the checkpoint does not hold in their shape."""
    from transformers import AutoModelForSequenceClassification

    import compressors.shapes  # noqa: F401  (registers the pruned families)

    model, report = AutoModelForSequenceClassification.from_pretrained(
        path_or_id, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **settings
    )
    names = class_names(model.config)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}
    return model, sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})


def class_names(config: PreTrainedConfig) -> list[str]:
    """The classes in the order of the logits, as text; a file's own `label2id` may be missing or stale."""
    return [str(config.id2label[i]) for i in range(len(config.id2label))]


def load_tokenizer(path_or_id: str) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer. Raises `InputError` where it has none, or none that can pad."""
    from transformers import AutoTokenizer

    check_checkpoint(path_or_id)
    with told_as_input_error(path_or_id, "no usable tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path_or_id)
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise InputError(f"{path_or_id}: no usable tokenizer: its vocabulary is empty or missing")
    if tokenizer.pad_token_id is None:
        raise InputError(f"{path_or_id}: no usable tokenizer: it has no padding token")
    return tokenizer


def read_config(path_or_id: str) -> dict[str, Any]:
    """A local checkpoint's `config.json`; empty for a hub id. Raises `InputError` where it is broken."""
    file = Path(path_or_id) / "config.json"
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}); save the model again") from None
    if not isinstance(found, dict):
        raise InputError(f"{file}: not a JSON object; save the model again")
    return found


def check_checkpoint(path_or_id: str) -> None:
    """Raise `InputError` unless `path_or_id` is a folder with safetensors weights, or may be a hub id."""
    folder = Path(path_or_id)
    try:
        exists = folder.exists()
    except OSError as error:
        raise InputError(f"{path_or_id}: no such model directory ({error.strerror})") from None
    if not exists:
        if folder.is_absolute() or path_or_id.startswith((".", "~")) or path_or_id.count("/") > 1:
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


@contextmanager
def told_as_input_error(path_or_id: str, what: str) -> Iterator[None]:
    """Whatever transformers raises while it reads the user's files, as one line about them.

    It has no exception of its own for a damaged file: safetensors', huggingface_hub's and built-in ones
    all occur. The original stays as the cause.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path_or_id}: {what}: {in_one_line(error)}") from error


def in_one_line(error: BaseException) -> str:
    """An exception's text without line breaks, for an error that must fit on one."""
    return " ".join(str(error).split())[:300] or type(error).__name__
