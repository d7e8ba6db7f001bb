"""An artifact: a folder with `model.safetensors`, `config.json`, the tokenizer and `variant.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from bench.errors import InputError, in_one_line, is_out_of_memory
from compressors import hub
from compressors.contract import Compressor, NameClasses
from compressors.families import family_of, refuse_code
from compressors.formats import quoted, read_json
from compressors.quantised import is_quantised
from compressors.registry import compressor_classes
from compressors.variant import CONVERT, Variant, refuse_missing_packages

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ARTIFACT = "artifact"
VARIANT_FILE = "variant.json"
ALL_POSITIONS = ("bert", "distilbert", "electra", "albert", "mobilebert")
USUAL_PADDING = 1
DTYPES = ("float32", "float64", "float16", "bfloat16")
MOST_CLASSES = 100_000
# What names code of a checkpoint's own: whoever trusts an artifact later would run that, or a stranger's.
NAMES_CODE = ("auto_map", "custom_pipelines")


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, variant: Variant, folder: Path) -> None:
    """Write `model` as it is, in its own precision, with everything that `load` needs."""
    # A reloaded quantised model's own format is the one that it came in; transformers knows no way back.
    model.save_pretrained(folder, save_original_format=not is_quantised(model))
    tokenizer.save_pretrained(folder)
    earlier = [made for part in variant.parts for made in part.continues]
    document = {
        "variant": variant.name,
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": {part.name: asdict(part) for part in variant.parts},
        "continues": {part.name: asdict(part) for part in earlier},
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / VARIANT_FILE).write_text(text, encoding="utf-8")


def load(path: str | Path, device: str = "cpu") -> PreTrainedModel:
    """The artifact's model in eval mode on `device`, in its stored precision, its runtime applied.

    `load(path)(input_ids=…, attention_mask=…).logits` gives the logits, shape (rows, classes). Raises
    `InputError` where `path` is not an artifact or names a compressor that is not installed, `Refusal` where
    a package that one needs is missing.
    """
    folder = Path(path)
    document = read_document(folder)
    parts = recorded_parts(folder, document)
    refuse_missing_packages(Variant(tuple(parts)))
    if engine_file(parts):
        model = skeleton(folder)
    else:
        model = load_model(str(folder), str(document["dtype"])).to(device).eval()
    for part in parts:
        model = part.runtime(model, folder, device)
    return model


def read_document(folder: Path) -> dict[str, Any]:
    """An artifact's `variant.json`. Raises `InputError` where it is missing or broken."""
    try:
        document = {"continues": {}} | read_json(folder / VARIANT_FILE)
    except InputError as error:
        raise InputError(f"{folder}: not an artifact: {error}") from None
    for key, kind in (("variant", str), ("dtype", str), ("parameters", dict), ("continues", dict)):
        if not isinstance(document.get(key), kind):
            found = quoted(document[key]) if key in document else "missing"
            raise InputError(
                f"{folder}: not an artifact: {key} of its {VARIANT_FILE} is {found}; make it again"
            )
    if document["dtype"] not in DTYPES:
        raise InputError(
            f"{folder}: dtype {quoted(document['dtype'])} of its {VARIANT_FILE} is none of "
            f"{', '.join(DTYPES)}; make it again"
        )
    return {key: document[key] for key in ("variant", "dtype", "parameters", "continues")}


def recorded_parts(folder: Path, document: dict[str, Any]) -> list[Compressor]:
    """What made an artifact, and the artifact that it goes on from, by its `document`.

    They are read from their fields: a spec that names a path reads the same only where that path exists.
    Raises `InputError` for a compressor that is not known here, and for fields that it does not take.
    """
    known, made = compressor_classes(), []
    for name, fields in (document["continues"] | document["parameters"]).items():
        if name not in known:
            raise InputError(
                f"{folder}: made with {quoted(name)}, which is not installed here; name its file by --plugin"
            )
        try:
            made.append(known[name](**fields))
        except TypeError as error:
            reason = in_one_line(error)
            raise InputError(
                f"{folder}: made with another version of its compressors ({reason}); make it again"
            ) from None
        check_fields(folder, made[-1])
    return sorted(made, key=lambda part: part.phase)


def check_fields(folder: Path, part: Compressor) -> None:
    """Raise `InputError` where a field that a file gave a value is of another type."""
    for name, wanted in get_type_hints(type(part)).items():
        value = getattr(part, name, None)
        if wanted in CONVERT and type(value) not in ((int, float) if wanted is float else (wanted,)):
            raise InputError(
                f"{folder}: {part.name}: {name} {quoted(value)} in its {VARIANT_FILE} is not "
                f"{CONVERT[wanted][1]}; make it again"
            )


def made_by(folder: Path) -> list[Compressor]:
    """What made an artifact, see `recorded_parts`; nothing for any other checkpoint."""
    if not (folder / VARIANT_FILE).exists():
        return []
    return recorded_parts(folder, read_document(folder))


def engine_file(parts: Sequence[Compressor]) -> str | None:
    """The file that an artifact made by `parts` is run from in place of its weights, if there is one."""
    return next((part.engine for part in parts if part.engine), None)


def skeleton(folder: Path) -> PreTrainedModel:
    """An artifact's model made of its configuration alone, without weights: all of it on the meta device."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with told_about(str(folder), "cannot be made of its configuration"):
        config = configuration(folder)
        set_class_names(config, class_names(config))
        with torch.device("meta"):
            return AutoModelForSequenceClassification.from_config(
                config, attn_implementation=None, trust_remote_code=False
            ).eval()


def load_model(path_or_id: str, dtype: str = "float32") -> PreTrainedModel:
    """A sequence classifier from a checkpoint, its weights as `dtype` (`auto`: as stored), in eval mode.

    Raises `InputError` for a checkpoint that lacks any of the weights, rather than make them up.
    """
    folder = hub.find(path_or_id)
    with told_about(path_or_id, "cannot be loaded as a classifier"):
        model, left_open = from_pretrained(folder, configuration(folder), dtype)
        if left_open:
            raise InputError(f"{path_or_id}: its weights lack {left_open[0]}: not a fine-tuned classifier")
        return model.eval()


def load_classifier(
    path_or_id: str,
    labels: tuple[str, ...],
    tokenizer: PreTrainedTokenizerBase,
    name_classes: NameClasses,
    notes: list[str],
) -> PreTrainedModel:
    """An encoder in float32 with a head for `labels`: the checkpoint's own where its classes are these.

    A head or pooler that is fresh, with the reason, goes to `notes`. Raises `InputError` where the weights
    lack any other part.
    """
    refuse_quantised(path_or_id)
    folder = hub.find(path_or_id)
    with told_about(path_or_id, "cannot be loaded as a classifier"):
        config = configuration(folder)
        if len(config.id2label) != len(labels):
            config.id2label = dict(enumerate(labels))
        model, left_open = from_pretrained(folder, config, "float32")
    head = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    lacks_head = any(name.split(".")[0] in head for name in left_open)
    encoder = [name for name in left_open if name.split(".")[0] not in head]
    if holes := [name for name in encoder if ".pooler." not in name]:
        raise InputError(f"{path_or_id}: its weights lack {holes[0]}: not a whole encoder")
    if encoder:
        notes.append(f"{path_or_id} has no pooler; a fresh one was put on and trained")
    no_head = f"{path_or_id} has no head for these classes"
    if reason := no_head if lacks_head else name_classes(path_or_id, model, tokenizer):
        notes.append(f"{reason}; a fresh head was put on and trained")
        set_class_names(model.config, labels)
        for name in head:
            renew(model.get_submodule(name), getattr(config, "initializer_range", 0.02))
    return model


def refuse_quantised(path_or_id: str) -> None:
    """Raise `InputError` for a checkpoint of quantised weights: they cannot be trained, nor be float32."""
    if read_config(path_or_id).get("quantization_config"):
        raise InputError(f"{path_or_id}: its weights are quantised; name the checkpoint it was made from")


def renew(head: nn.Module, deviation: float) -> None:
    """Fresh weights, as transformers draws them: it keeps another task's where only their number agrees."""
    from torch import nn

    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def configuration(folder: Path) -> PreTrainedConfig:
    """A checkpoint's configuration as transformers reads it. Raises `InputError` as `refuse_code` does."""
    from transformers import AutoConfig

    import compressors.pruned  # noqa: F401  (registers the pruned families)

    refuse_code(folder, read_json(folder / "config.json"))
    return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def from_pretrained(folder: Path, config: PreTrainedConfig, dtype: str) -> tuple[PreTrainedModel, list[str]]:
    """The model, and the names of the parameters that the checkpoint does not hold in their shape.

    Its attention is what transformers takes where nothing is asked for: scaled_dot_product_attention where
    the model has that, else eager. What a configuration asks for may be code from a hub.
    """
    from transformers import AutoModelForSequenceClassification

    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        attn_implementation=None,
        use_safetensors=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    set_class_names(model.config, class_names(model.config))
    for name in NAMES_CODE:
        vars(model.config).pop(name, None)
    return model, sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})


def class_names(config: PreTrainedConfig) -> list[str]:
    """The classes in the order of the logits, as text; a file's own `label2id` may be missing or stale."""
    return [str(config.id2label[i]) for i in range(len(config.id2label))]


def set_class_names(config: PreTrainedConfig, names: Sequence[str]) -> None:
    """Call the classes `names`, in the order of the logits."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}


def config_class_names(path_or_id: str) -> list[str]:
    """The classes as a checkpoint's `config.json` names them; `LABEL_0` and so on where it does not.

    So they are called too where `num_labels` is another number than has names: transformers goes by that.
    """
    config, file = read_config(path_or_id), f"{path_or_id}/config.json"
    names, number = config.get("id2label"), config.get("num_labels")
    if number is not None and (type(number) is not int or not 0 < number <= MOST_CLASSES):
        raise InputError(f"{file}: num_labels {quoted(number)} is no number of classes; save the model again")
    if not names:
        return [f"LABEL_{i}" for i in range(number or 2)]
    try:
        numbered = {int(key): name for key, name in names.items()}
    except (AttributeError, ValueError):
        numbered = {}
    if not numbered or sorted(numbered) != list(range(len(names))):
        raise InputError(f"{file}: id2label does not number the classes from 0; save the model again")
    if number not in (None, len(numbered)):
        return [f"LABEL_{i}" for i in range(number)]
    for name in numbered.values():
        if not isinstance(name, str | int | float):
            raise InputError(f"{file}: id2label: {quoted(name)} cannot be a class's name; rename it there")
    return [str(numbered[i]) for i in range(len(numbered))]


def load_tokenizer(path_or_id: str) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer. Raises `InputError` where it has none, or none that can pad."""
    from transformers import AutoTokenizer

    folder = hub.find(path_or_id)
    if needs_sentencepiece(folder):
        raise InputError(
            f"{path_or_id}: its tokenizer is a SentencePiece model; install sentencepiece and protobuf, or "
            "write tokenizer.json where they are: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        )
    with told_about(path_or_id, "no usable tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    for name in NAMES_CODE:
        tokenizer.init_kwargs.pop(name, None)
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise InputError(
            f"{path_or_id}: no usable tokenizer: its vocabulary is empty or missing; save its base model's "
            f"beside the weights: AutoTokenizer.from_pretrained(BASE).save_pretrained({str(folder)!r})"
        )
    if tokenizer.pad_token_id is None:
        raise InputError(f"{path_or_id}: no usable tokenizer: it has no padding token")
    return tokenizer


def needs_sentencepiece(folder: Path) -> bool:
    """Whether the tokenizer can only be read by libraries that are not installed."""
    from transformers.utils import is_protobuf_available, is_sentencepiece_available

    alone = any(folder.glob("*.model")) and not (folder / "tokenizer.json").exists()
    return alone and not (is_protobuf_available() and is_sentencepiece_available())


def read_config(path_or_id: str, name: str = "config.json") -> dict[str, Any]:
    """A checkpoint's `config.json`, or another such file. Raises `InputError` where it is not usable."""
    return read_json(hub.find(path_or_id) / name)


def check_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """Raise `InputError` where rows may hold more tokens, or others, than the model has embeddings for."""
    last, known = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if last >= known:
        raise InputError(
            f"{model.name_or_path}: its tokenizer numbers tokens up to {last:,} and its embeddings end at "
            f"{known - 1:,}, so they are not of one model; save the tokenizer it was trained with beside it"
        )
    longest = longest_row(model.config.to_dict(), tokenizer.model_max_length)
    if longest is not None and max_length > longest:
        name = model.name_or_path or "this model"
        raise InputError(f"--max-length {max_length}: {name} takes {longest} tokens at most")


def longest_row(config: Mapping[str, Any], tokenizer_limit: Any) -> int | None:
    """Tokens of the longest row that a model takes, by its configuration and tokenizer; None for any.

    RoBERTa and others count positions from after the padding token's number; the families in
    `ALL_POSITIONS` do not.
    """
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and family_of(config) not in ALL_POSITIONS:
        padding = config.get("pad_token_id")
        positions -= (padding if isinstance(padding, int) else USUAL_PADDING) + 1
    limits = [limit for limit in (positions, tokenizer_limit) if isinstance(limit, int) and limit > 0]
    return min(limits, default=None)


@contextmanager
def told_about(path_or_id: str, what: str) -> Iterator[None]:
    """Whatever transformers raises while it reads the user's files, as an `InputError` about them.

    It has no exception of its own for a damaged file: safetensors', huggingface_hub's and built-in ones
    all occur. The original stays as the cause. That memory does not suffice is not the files' doing.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"{path_or_id}: {what}: {in_one_line(error)}") from error
