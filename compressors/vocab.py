"""Vocabulary trimming: embeddings of the tokens in use alone, and a tokenizer that knows no others.

Source: Abdaoui et al., "Load What You Need: Smaller Versions of Multilingual BERT", SustaiNLP 2020, who keep
the tokens of some languages; here those of the task's own rows are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.errors import InputError, Refusal
from bench.nouns.task import Example
from compressors import hub
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXTS_AT_ONCE = 1_000


@dataclass
class VocabularyTrimming(Compressor):
    """Keeps special tokens, those of the training rows and of `corpus`, and what spells any other word.

    `corpus` is a text file in UTF-8, one text a line. On text made of the tokens kept, logits are those of
    before; other words are split finer, so such rows grow longer. It acts after training, which sees no other
    tokens: the weights are those that trimming first would have given, and whatever brought the model brought
    its tokenizer with it.
    """

    name: ClassVar[str] = "vocab"
    phase: ClassVar[Phase] = Phase.ARCHITECTURE
    summary: ClassVar[str] = "embeddings of the tokens in use alone; any text can still be spelled"
    argument: ClassVar[str | None] = "corpus"
    trains: ClassVar[bool] = False

    corpus: str = ""

    def validate(self, device: str) -> None:
        for _ in self._lines():
            pass

    @property
    def files(self) -> tuple[Path, ...]:
        return (Path(self.corpus),) if self.corpus else ()

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.trimming import refuse_unknown

        refuse_unknown(context.tokenizer)
        if not context.examples and not self.corpus:
            raise Refusal("vocab: no training rows say which tokens are in use; name a text file: vocab:FILE")
        return model

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.trimming import trim

        before = embedded_share(model)
        seen = tokens_of(self._texts(context), context.tokenizer)
        smaller, new_numbers = trim(context.tokenizer, seen.union(named_tokens(model).values()))
        shrink(model, new_numbers)
        source = f"{len(context.examples):,} training rows" + (f" and {self.corpus}" if self.corpus else "")
        context.notes.append(
            f"vocab: {len(new_numbers):,} of {len(context.tokenizer):,} tokens stay, {len(seen):,} of them "
            f"in {source}; embeddings were {before:.0%} of the model, and are {embedded_share(model):.0%}"
        )
        context.tokenizer = smaller
        return model

    def _texts(self, context: Context) -> Iterator[str]:
        for row in context.examples:
            yield from texts_of(row)
        yield from self._lines()

    def _lines(self) -> Iterator[str]:
        """The corpus, line by line. Raises `InputError` where it cannot be read."""
        if not self.corpus:
            return
        place = hub.place_of(Path(self.corpus))
        try:
            if place.exists() and not (place.is_file() or place.is_dir()):  # a pipe or a device may never end
                raise InputError(f"vocab: corpus={self.corpus} is no plain file; name one")
            with place.open(encoding="utf-8") as lines:
                yield from (line.rstrip("\n") for line in lines)
        except (OSError, UnicodeDecodeError) as error:
            reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
            raise InputError(f"vocab: corpus={self.corpus} cannot be read ({reason})") from None


def texts_of(row: Example) -> Iterator[str]:
    """The texts of a row."""
    yield row.text
    if row.pair is not None:
        yield row.pair


def tokens_of(texts: Iterator[str], tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The numbers of all tokens that occur in whole texts."""
    seen: set[int] = set()
    while some := list(islice(texts, TEXTS_AT_ONCE)):
        rows = tokenizer(some, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        seen.update(*rows)
    return seen


def named_tokens(model: PreTrainedModel) -> dict[str, int]:
    """The tokens that the model's configuration names: `pad_token_id` and the like."""
    settings = model.config.to_dict().items()
    return {name: held for name, held in settings if name.endswith("_token_id") and isinstance(held, int)}


def embedded_share(model: PreTrainedModel) -> float:
    """Share of the parameters that are embeddings of tokens."""
    return float(model.get_input_embeddings().weight.numel() / model.num_parameters())


def shrink(model: PreTrainedModel, new_numbers: dict[int, int]) -> None:
    """Leave the embeddings of the tokens in `new_numbers`, in their new order. Raises `Refusal`."""
    import torch

    named = named_tokens(model)
    padding = named.get("pad_token_id", 0)
    if counts_from_padding(model) and new_numbers.get(padding) != padding:
        raise Refusal(
            f"vocab: positions count from the padding token's number, {padding}, which would change"
        )
    embeddings = model.get_input_embeddings().weight
    with torch.no_grad():
        embeddings[: len(new_numbers)] = embeddings[list(new_numbers)]
    model.resize_token_embeddings(len(new_numbers))
    for name, number in named.items():
        setattr(model.config, name, new_numbers.get(number))


def counts_from_padding(model: PreTrainedModel) -> bool:
    """Whether its positions start after the padding token's number, as RoBERTa's do."""
    from torch import nn

    return any(
        isinstance(module, nn.Embedding) and "position" in name and module.padding_idx is not None
        for name, module in model.named_modules()
    )
