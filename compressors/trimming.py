"""A tokenizer with fewer tokens, which splits text made of the tokens that are left as it did before.

Works on the document that `tokenizer.json` holds, so the pieces that clean and cut the text stay untouched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.errors import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPELLING = ("WordPiece", "BPE", "Unigram")
WORD_START = "▁Ġ"
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def refuse_unknown(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `Refusal` for a tokenizer that is no document, or that cannot spell a word it does not know."""
    if not tokenizer.is_fast:
        raise Refusal("vocab: a tokenizer without tokenizer.json cannot be rewritten; save a fast one")
    kind = read_document(tokenizer)["model"]["type"]
    if kind not in SPELLING:
        raise Refusal(f"vocab: a {kind} tokenizer cannot spell the words that would be left out")


def read_document(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What `tokenizer.json` holds."""
    document: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return document


def trim(
    tokenizer: PreTrainedTokenizerBase, used: Iterable[int]
) -> tuple[PreTrainedTokenizerBase, dict[int, int]]:
    """A tokenizer of the `used` tokens and those it cannot do without; the new number of each by the old one.

    Numbers close up in their order; those of special tokens stay where they can. Raises `Refusal`.
    """
    refuse_unknown(tokenizer)
    document = read_document(tokenizer)
    model, vocabulary = document["model"], tokens_by_number(document["model"])
    special = special_numbers(document)
    kept = {vocabulary[old] for old in {*used, *special} if old in vocabulary}
    kept |= spelling_tokens(model, set(vocabulary.values()))
    if model["type"] == "BPE":
        kept |= merged_on_the_way(model, kept) & set(vocabulary.values())
    own = [old for old in sorted(vocabulary) if vocabulary[old] in kept]
    outside = sorted(special - set(vocabulary))  # the library numbers these after the model's own
    order = [*in_their_places(own, special), *outside]
    new_numbers = {old: new for new, old in enumerate(order)}
    renumber(document, new_numbers)
    return rebuilt(tokenizer, document), new_numbers


def tokens_by_number(model: dict[str, Any]) -> dict[int, str]:
    """The model's own tokens; added ones may stand outside."""
    if model["type"] == "Unigram":
        return {number: token for number, (token, _) in enumerate(model["vocab"])}
    return {number: token for token, number in model["vocab"].items()}


def special_numbers(document: dict[str, Any]) -> set[int]:
    """Numbers of the added tokens, of the unknown one, and of those put around a row or after it."""
    model = document["model"]
    numbers = {token["id"] for token in document["added_tokens"]}
    numbers |= {held[place] for held, place in held_numbers(document["post_processor"] or {})}
    if document["padding"]:
        numbers.add(document["padding"]["pad_id"])
    unknown = model["unk_id"] if model["type"] == "Unigram" else model["vocab"].get(model["unk_token"])
    return numbers if unknown is None else numbers | {unknown}


def held_numbers(processor: dict[str, Any]) -> Iterator[tuple[list[Any], int]]:
    """Where a post-processor holds tokens' numbers: a list, and the place in it."""
    for part in processor.get("processors", []):
        yield from held_numbers(part)
    for token in processor.get("special_tokens", {}).values():
        yield from ((token["ids"], place) for place in range(len(token["ids"])))
    for end in ("cls", "sep"):
        if end in processor:
            yield processor[end], 1


def spelling_tokens(model: dict[str, Any], vocabulary: set[str]) -> set[str]:
    """The tokens that no others can stand for: characters, and whatever holds one without a token of its own.

    A character counts in each form: at a word's start, inside, at its end. The least likely token sets the
    price of an unknown character in a Unigram model, so it stays too.
    """
    prefix = model.get("continuing_subword_prefix") or ""
    suffix = model.get("end_of_word_suffix") or ""
    kept = {token for token in vocabulary if len(token.lstrip(WORD_START)) < 2}
    for token in vocabulary:
        spelled = characters(token, prefix, suffix)
        if spelled == [token] or not vocabulary.issuperset(spelled):
            kept.add(token)
    if model.get("byte_fallback"):
        kept |= {token for token in vocabulary if BYTE.fullmatch(token)}
    if model["type"] == "Unigram":
        kept.add(min(model["vocab"], key=lambda entry: entry[1])[0])
    return kept


def characters(token: str, prefix: str, suffix: str) -> list[str]:
    """A token's characters as tokens: `play` and `##play` begin with `p` and `##p`, and go on with `##l`."""
    start = prefix if token.startswith(prefix) else ""
    end = suffix if token.endswith(suffix) else ""
    inside = token[len(start) : len(token) - len(end)]
    if not inside:
        return [token]
    spelled = [start + inside[0], *(prefix + character for character in inside[1:])]
    return [*spelled[:-1], spelled[-1] + end]


def merged_on_the_way(model: dict[str, Any], tokens: set[str]) -> set[str]:
    """Every token that merging passes through from the characters to one of `tokens`.

    A token is merged inside a word as it is alone, since no merge crosses the bounds of what it becomes.
    """
    prefix = model["continuing_subword_prefix"] or ""
    suffix = model["end_of_word_suffix"] or ""
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    passed = set()
    for token in tokens:
        parts = characters(token, prefix, suffix)
        while found := [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]:
            _, first = min(found)
            parts[first : first + 2] = [merged(parts[first], parts[first + 1], prefix)]
            passed.add(parts[first])
    return passed


def merged(left: str, right: str, prefix: str) -> str:
    """The token that a merge makes."""
    return left + right[len(prefix) :]


def in_their_places(own: list[int], special: set[int]) -> list[int]:
    """The ascending numbers `own`, but those of `special` tokens at their old places where there are such.

    Some tokenizer classes take the unknown token's number for granted, and some models count positions from
    that of the padding token.
    """
    staying = {old for old in own if old in special and old < len(own)}
    moving = (old for old in own if old not in staying)
    return [place if place in staying else next(moving) for place in range(len(own))]


def renumber(document: dict[str, Any], new_numbers: dict[int, int]) -> None:
    """Leave in `document` what `new_numbers` names, by its new number."""
    model, vocabulary = document["model"], tokens_by_number(document["model"])
    own = [old for old in new_numbers if old in vocabulary]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in own]
        model["unk_id"] = new_numbers.get(model["unk_id"])
    else:
        model["vocab"] = {vocabulary[old]: new_numbers[old] for old in own}
    if model["type"] == "BPE":
        prefix = model["continuing_subword_prefix"] or ""
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if model["vocab"].keys() >= {left, right, merged(left, right, prefix)}
        ]
    for token in document["added_tokens"]:
        token["id"] = new_numbers[token["id"]]
    for held, place in held_numbers(document["post_processor"] or {}):
        held[place] = new_numbers[held[place]]
    if document["padding"]:
        document["padding"]["pad_id"] = new_numbers[document["padding"]["pad_id"]]


def rebuilt(tokenizer: PreTrainedTokenizerBase, document: dict[str, Any]) -> PreTrainedTokenizerBase:
    """A tokenizer of the same class and settings, read from `document` as it will be read from an artifact.

    Raises `Refusal` where the class makes another one of it.
    """
    from tokenizers import Tokenizer

    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
        smaller: PreTrainedTokenizerBase = type(tokenizer).from_pretrained(folder, trust_remote_code=False)
    if smaller.get_vocab() != Tokenizer.from_str(json.dumps(document)).get_vocab():
        raise Refusal(f"vocab: a {type(tokenizer).__name__} does not keep to a smaller vocabulary")
    smaller.name_or_path = tokenizer.name_or_path
    return smaller
