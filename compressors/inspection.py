"""What a checkpoint's files say before it is loaded, and what is refused by that."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import InputError, in_one_line
from bench.visible import visible
from compressors import hub
from compressors.artifact import config_class_names, read_config
from compressors.families import CLASSIFIER, family_of, named_by_transformers, refuse_code
from compressors.formats import Tensor, quoted, read_json, read_weights

# Read as numbers alone, or not at all: a link to one brings no text of its reader's into a model.
NUMBERS = (".safetensors", *hub.PICKLES)
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
TEMPLATES = "additional_chat_templates"
# Left by earlier versions of transformers, on the machine that trained the model a file that is there still.
NEVER_OPENED = {"special_tokens_map_file"}
VOCABULARIES = ("vocab.txt", "vocab.json", "*.model", "tekken.json")
# Families, and classes of tokenizers, whose tokens are bytes or characters.
WITHOUT_VOCABULARY = ("canine", "perceiver", "ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
# Families whose tensors and configurations are named as BERT's, or nearly so.
LIKE_BERT = (
    *("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "albert", "mobilebert"),
    *("squeezebert", "mpnet", "deberta", "deberta-v2"),
)
SIZES = (
    *("hidden_size", "dim", "embedding_size", "num_hidden_layers", "n_layers", "num_attention_heads"),
    *("n_heads", "intermediate_size", "hidden_dim", "vocab_size", "max_position_embeddings"),
)
# Of these sizes the first that the configuration gives is that axis of the tensor whose name ends so.
AXES = (
    (("vocab_size",), "embeddings.word_embeddings.weight", 0),
    (("max_position_embeddings",), "embeddings.position_embeddings.weight", 0),
    (("type_vocab_size",), "embeddings.token_type_embeddings.weight", 0),
    (("embedding_size", "hidden_size", "dim"), "embeddings.word_embeddings.weight", 1),
    (("hidden_size",), "embeddings_project.weight", 0),
    (("hidden_size",), "embedding_hidden_mapping_in.weight", 0),
    (("hidden_size",), "embedding_transformation.weight", 0),
)
LAYER = re.compile(r"(?:^|\.)(?:encoder|transformer)\.layers?\.(\d{1,6})\.")
EPSILONS = ("eps", "epsilon")
HEADS = ("classifier.weight", "classifier.out_proj.weight")
# Where what a classifier learnt lies: embeddings, numbered layers, the pooler and the head. Elsewhere are
# masks, which are infinite on purpose, and the heads of other tasks, which nobody reads.
LEARNT = re.compile(r"(?:^|\.)(?:\w*embeddings?\w*|\d+|pooler|\w*class\w*|score)\.(?:.*\.)?(?:weight|bias)$")
# The marks of spelling from right to left, and of a file's byte order. Alone they reorder nothing.
MARKS = re.compile("[\u061c\u200e\u200f\ufeff]")
# A model has at most so many values for each byte of its weights: the narrowest in use take half a byte.
VALUES_A_BYTE = 4
# Of a number of values, however large a size the configuration gives.
MOST_TOLD = 10**30
# By which transformers reads another tokenizer than the one that was looked at.
OTHER_TOKENIZERS = "fast_tokenizer_files"


def check_checkpoint(path_or_id: str) -> None:
    """Raise `InputError` for a checkpoint that cannot be what it says, or that only its own code could load.

    It reads the configuration, the headers of the weights, their values for NaN, and the tokenizer's files.
    What only loading shows is seen by the step that loads it.
    """
    folder = hub.find(path_or_id)
    refuse_links_out(folder, read_with_it(folder))
    config = read_config(path_or_id)
    refuse_code(folder, config)
    tensors = read_weights(folder)
    check_sizes(folder, config, tensors)
    classes = config_class_names(path_or_id)
    if is_classifier(config, tensors):
        check_classes(folder, classes, tensors)
    check_values(folder, tensors)
    check_tokenizer(folder, config)


def read_with_it(folder: Path) -> list[Path]:
    """The files that a loader may take text from; what else lies in a project's folder is its own affair."""
    here = [file for file in folder.iterdir() if not file.is_dir() or file.name == TEMPLATES]
    return [file for file in (*here, *folder.glob(f"{TEMPLATES}/*")) if file.suffix not in NUMBERS]


def refuse_links_out(folder: Path, files: Iterable[Path]) -> None:
    """Raise `InputError` for a file of the folder that is a link out of it.

    Through one, whoever made the folder would have any file of its reader copied into what is published. The
    snapshots of a hub's cache are links to that cache's blobs.
    """
    root = folder.resolve()
    for file in sorted(path for path in files if path.is_symlink()):
        try:
            target = file.resolve()
        except (OSError, RuntimeError):  # a circle of links
            target = Path("/")
        caches = (above.parent for above in target.parents if above.name == "blobs")
        of_hub = any(root.is_relative_to(cache / "snapshots") for cache in caches)
        if not of_hub and not target.is_relative_to(root):
            raise InputError(f"{file}: a link that leads out of the folder; put the file itself there")


def refuse_files_named(folder: Path, file: Path) -> None:
    """Raise `InputError` where any text of a tokenizer's settings names a file that is not in its folder.

    A tokenizer takes many of its settings for files to read its vocabulary from, which is then published as
    links out would be. What is left of the machine that it was saved on names nothing here.
    """
    settings = read_json(file) if file.exists() else {}
    found: list[object] = [value for name, value in settings.items() if name not in NEVER_OPENED]
    while found:
        value = found.pop()
        if isinstance(value, dict | list):
            found += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str) and names_file(value) and not is_inside(Path(value), folder):
            raise InputError(f"{file}: names a file of this machine, {quoted(value)}; take it out")


def names_file(text: str) -> bool:
    """Whether a file, or what can be read like one, has this name."""
    try:
        return Path(text).exists() and not Path(text).is_dir()
    except OSError:  # most texts are too long for a name
        return False


def is_inside(place: Path, folder: Path) -> bool:
    """Whether a file lies in a folder, links followed."""
    return place.resolve().is_relative_to(folder.resolve())


def check_sizes(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise `InputError` where the configuration's sizes are not those of the weights.

    Families that are not like BERT may only not be described as much larger than their weights.
    """
    file = folder / "config.json"
    for name, value in config.items():
        if name.endswith(EPSILONS) and isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{file}: {name} is {value}; give it the number that the model was trained with")
    padding = config.get("pad_token_id")
    if padding is not None and type(padding) is not int:
        raise InputError(f"{file}: pad_token_id {quoted(padding)} is no token's number; save the model again")
    if family_of(config) in LIKE_BERT:
        for name in SIZES:
            if config.get(name) is not None and not is_size(config[name]):
                raise InputError(f"{file}: {name} {quoted(config[name])} is no size; save the model again")
        for names, ending, axis in AXES:
            for tensor in (name for name in tensors if name.endswith(ending)):
                compare_size(file, config, names, tensors[tensor].size(axis), tensor)
        if layers := [int(found[1]) for name in tensors if (found := LAYER.search(name))]:
            compare_size(file, config, ("num_hidden_layers", "n_layers"), max(layers) + 1, "its last layer")
        hidden = size_of(config, "hidden_size", "dim")
        heads = size_of(config, "num_attention_heads", "n_heads")
        if heads and hidden % heads:
            raise InputError(
                f"{file}: num_attention_heads {heads} does not divide hidden_size {hidden}; put it right"
            )
    claimed = min(least_values(config), MOST_TOLD)
    held = sum(tensor.end - tensor.start for tensor in tensors.values())
    if claimed > VALUES_A_BYTE * held:
        raise InputError(
            f"{file}: describes a model of at least {claimed:.1e} values, and its weights are {held:,} "
            "bytes; save the two together"
        )


def compare_size(
    file: Path, config: Mapping[str, Any], names: tuple[str, ...], found: int, where: str
) -> None:
    """Raise `InputError` where the first of these sizes that `config` gives is another than the weights'."""
    name = next((name for name in names if config.get(name) is not None), None)
    if name and config[name] != found:
        raise InputError(
            f"{file}: {name} {quoted(config[name])}, and by {quoted(where)} of its weights it is {found}; "
            "save the two together"
        )


def least_values(config: Mapping[str, Any]) -> int:
    """How many values a transformer of these sizes has at least: embeddings, and a square matrix a layer."""
    hidden = size_of(config, "hidden_size", "dim", "d_model", "n_embd")
    width = size_of(config, "embedding_size") or hidden
    ffn = size_of(config, "intermediate_size", "hidden_dim")
    # ALBERT's layers share what their groups hold. Positions need no values: many families compute theirs.
    layers = size_of(config, "num_hidden_groups", "num_hidden_layers", "n_layers", "num_layers", "n_layer")
    return size_of(config, "vocab_size") * width + layers * hidden * max(hidden, ffn, 1) + layers


def is_size(value: object) -> bool:
    """Whether it is a whole number above 0."""
    return type(value) is int and value > 0


def size_of(config: Mapping[str, Any], *names: str) -> int:
    """The first of these that is a size; 0 where none is."""
    return next((config[name] for name in names if is_size(config.get(name))), 0)


def is_classifier(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Whether its head gives classes, by what it says it is, else by its weights; any other is replaced."""
    named = config.get("architectures")
    return CLASSIFIER in str(named) if named else any(head in tensors for head in HEADS)


def check_classes(folder: Path, names: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
    """Raise `InputError` where the classes' names cannot be shown or told apart, or are not the head's."""
    file = folder / "config.json"
    for name, times in Counter(names).items():
        spelled = MARKS.sub("", name)
        if visible(spelled) != spelled or not spelled.strip():
            raise InputError(f"{file}: id2label: {quoted(name)} cannot be a class's name; rename it there")
        if times > 1:
            raise InputError(f"{file}: id2label calls {times} classes {quoted(name)}; rename them there")
    for head in (tensors[name] for name in HEADS if name in tensors):
        if head.size(0) != len(names):
            raise InputError(
                f"{file}: id2label and num_labels give {len(names)} classes, and the head of its weights has "
                f"{head.size(0)}; save the two together"
            )


def check_values(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise `InputError` where a weight is no number: such a model answers NaN whatever it is asked."""
    for name, tensor in tensors.items():
        if LEARNT.search(name) and not tensor.is_finite:
            raise InputError(f"{folder}: its weights hold NaN or infinity in {quoted(name)}; train it again")


def check_tokenizer(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise `InputError` where the tokenizer is missing, broken, or has more tokens than the model."""
    from tokenizers import Tokenizer

    again = (
        f"save its base model's there: AutoTokenizer.from_pretrained(BASE).save_pretrained({str(folder)!r})"
    )
    for name in (TOKENIZER_CONFIG, SPECIAL_TOKENS):
        refuse_files_named(folder, folder / name)
    settings = read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).exists() else {}
    if settings.get(OTHER_TOKENIZERS) not in (None, [TOKENIZER]):
        raise InputError(
            f"{folder / TOKENIZER_CONFIG}: {OTHER_TOKENIZERS} names other files in place of {TOKENIZER}; "
            "take it out"
        )
    own = "auto_map" in settings and not (folder / TOKENIZER).exists()
    if own and str(settings.get("tokenizer_class")) not in named_by_transformers("tokenization_auto.py"):
        raise InputError(
            f"{folder / TOKENIZER_CONFIG}: only custom code makes this tokenizer (auto_map), and no code "
            f"of a checkpoint is run; write {TOKENIZER} where you trust it"
        )
    if not (folder / TOKENIZER).exists():
        found = [file for pattern in VOCABULARIES for file in folder.glob(pattern) if file.is_file()]
        names = (settings.get("tokenizer_class"), config.get("tokenizer_class"), config["model_type"])
        needs_one = not any(name in WITHOUT_VOCABULARY for name in names)
        if needs_one and not any(file.stat().st_size for file in found):
            what = f"{found[0].name} is empty" if found else "there is none"
            raise InputError(f"{folder}: no usable tokenizer: {what}; {again}")
        return
    read_json(folder / TOKENIZER)
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the library has no type of its own
        raise InputError(
            f"{folder / TOKENIZER}: no usable tokenizer ({in_one_line(error)}); {again}"
        ) from None
    numbers, special = tokenizer.get_vocab(), tokenizer.get_added_tokens_decoder().values()
    if numbers.keys() <= {token.content for token in special if token.special}:
        raise InputError(f"{folder / TOKENIZER}: no usable tokenizer: its vocabulary is empty; {again}")
    last, known_tokens = max(numbers.values()), size_of(config, "vocab_size")
    if known_tokens and last >= known_tokens:
        raise InputError(
            f"{folder / TOKENIZER}: numbers tokens up to {last:,}, and the model's vocab_size is "
            f"{known_tokens:,}, so they are not of one model; {again}"
        )
