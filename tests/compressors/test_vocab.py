"""Vocabulary trimming: covered text reads and is judged as before, any other can still be spelled."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AlbertTokenizer,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    CanineTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
    set_seed,
)

import compressors
from bench.encoding import encode
from bench.errors import InputError, Refusal
from bench.nouns.task import Example
from bench.steps.compress import prepare
from bench.training import Schedule, fine_tune
from compressors import artifact
from compressors.contract import Context
from compressors.kd import Distillation
from compressors.trimming import trim
from compressors.variant import Variant, check, parse_variant, spell
from compressors.vocab import VocabularyTrimming
from tests.compressors.tiny import EVERY_FAMILY, context_of, tiny

MARATHI = [
    "मुंबईत आज मुसळधार पाऊस पडला आणि रेल्वे सेवा विस्कळीत झाली",
    "पुण्यातील विद्यार्थ्यांनी विज्ञान प्रदर्शनात पहिला क्रमांक मिळवला",
    "शेतकऱ्यांना कर्जमाफीची घोषणा मुख्यमंत्र्यांनी केली",
    "भारतीय संघाने मालिका जिंकली, कर्णधाराचे कौतुक",
]
ENGLISH = [
    "Heavy rain in Mumbai today, trains were delayed and schools closed",
    "Students from Pune won the first prize at the science exhibition",
    "The chief minister announced a waiver of loans for farmers",
    "India won the series; the captain's batting was praised (again)",
]
ROWS = [MARATHI[0], MARATHI[1], ENGLISH[0], ENGLISH[1], ENGLISH[0].upper()]
"""What is trimmed to: half of what the tokenizers know."""
KNOWN = sorted({character for text in MARATHI + ENGLISH for character in text})
WORDS = sorted({word for text in ROWS for word in text.split()})


def learnt(model: Any, trainer: Any, before: Callable[[Tokenizer], None]) -> dict[str, Any]:
    """Vocabulary and merges that a library's trainer finds in the texts, each word often."""
    import json

    learner = Tokenizer(model)
    before(learner)
    learner.train_from_iterator((MARATHI + ENGLISH) * 5, trainer)
    found: dict[str, Any] = json.loads(learner.to_str())["model"]
    return found


def wordpiece() -> PreTrainedTokenizerBase:
    """As BERT's, but that it keeps the Marathi vowel signs; tokens that no row has precede special ones."""

    def before(learner: Tokenizer) -> None:
        learner.normalizer = normalizers.BertNormalizer(strip_accents=False)
        learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    special = ["[PAD]", "chief", "minister", "waiver", "loans", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    vocabulary = learnt(models.WordPiece(unk_token="[UNK]"), trainer, before)["vocab"]
    return BertTokenizer(vocab=vocabulary, strip_accents=False, model_max_length=64)


def byte_level() -> PreTrainedTokenizerBase:
    """As RoBERTa's."""

    def before(learner: Tokenizer) -> None:
        learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)

    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    found = learnt(models.BPE(), trainer, before)
    vocabulary = found["vocab"] | {"<mask>": len(found["vocab"])}
    merges: Any = [tuple(pair) for pair in found["merges"]]
    return RobertaTokenizer(vocab=vocabulary, merges=merges, model_max_length=64)


def pieces(special: list[str]) -> list[tuple[str, float]]:
    """A Unigram vocabulary: characters, and what words begin and end with, the longer the likelier."""
    texts = " ".join(MARATHI + ENGLISH)
    words = ["▁" + word for word in (texts + " " + texts.lower()).split()]
    parts = {part for word in words for part in (word[:3], word[:5], word, word[2:], word[4:]) if part}
    known = sorted(parts | {character for word in words for character in word})
    scores = {part: len(part) - 12 - i / 1000 for i, part in enumerate(known)}
    return [*((token, 0.0) for token in special), *scores.items()]


def unigram() -> PreTrainedTokenizerBase:
    """As XLM-R's: the unknown token's number is taken for granted by its class, the mask stands last."""
    vocabulary = [*pieces(["<s>", "<pad>", "</s>", "<unk>"]), ("<mask>", 0.0)]
    return XLMRobertaTokenizer(vocab=vocabulary, model_max_length=64)


def lowercasing_unigram() -> PreTrainedTokenizerBase:
    """As ALBERT's."""
    vocabulary = pieces(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"])
    return AlbertTokenizer(vocab=vocabulary, keep_accents=True, model_max_length=64)


def merges_of_characters() -> PreTrainedTokenizerBase:
    """As SentencePiece's BPE: no words, spaces are ▁, an unknown character becomes its bytes."""

    def before(learner: Tokenizer) -> None:
        learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])

    special = ["<pad>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    found = learnt(models.BPE(unk_token="<unk>"), trainer, before)
    merges = [tuple(pair) for pair in found["merges"]]
    tokenizer = Tokenizer(
        models.BPE(found["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    before(tokenizer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    end = ("<end>", len(found["vocab"]))
    tokenizer.add_special_tokens([end[0]])
    tokenizer.post_processor = processors.BertProcessing(end, ("<pad>", 0))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


def merges_with_word_ends() -> PreTrainedTokenizerBase:
    """BPE whose tokens say where a word ends."""

    def before(learner: Tokenizer) -> None:
        learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()

    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<unk>"],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    found = learnt(models.BPE(unk_token="<unk>"), trainer, before)
    merges = [tuple(pair) for pair in found["merges"]]
    tokenizer = Tokenizer(models.BPE(found["vocab"], merges, unk_token="<unk>", end_of_word_suffix="</w>"))
    before(tokenizer)
    tokenizer.decoder = decoders.BPEDecoder()
    end = ("<end>", len(found["vocab"]))
    tokenizer.add_special_tokens([end[0]])
    tokenizer.post_processor = processors.Sequence(
        [processors.TemplateProcessing(single="$A <end>", pair="$A <end> $B <end>", special_tokens=[end])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


KINDS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "wordpiece": wordpiece,
    "byte_level": byte_level,
    "unigram": unigram,
    "lowercasing_unigram": lowercasing_unigram,
    "merges_of_characters": merges_of_characters,
    "merges_with_word_ends": merges_with_word_ends,
}


@cache
def whole(kind: str) -> PreTrainedTokenizerBase:
    """A tokenizer of that kind, with a token that a user added."""
    tokenizer = KINDS[kind]()
    tokenizer.add_tokens([AddedToken("#news", normalized=False)])
    return tokenizer


def used_by(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> set[int]:
    return {number for text in texts for number in tokenizer(text, add_special_tokens=False)["input_ids"]}


@cache
def trimmed(kind: str) -> tuple[PreTrainedTokenizerBase, dict[int, int]]:
    return trim(whole(kind), used_by(whole(kind), ROWS))


every_kind = pytest.mark.parametrize("kind", KINDS)
texts = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join),
    st.text(st.sampled_from(KNOWN), max_size=30),
    st.lists(st.sampled_from([*(MARATHI + ENGLISH), "#news"]), max_size=2).map(" ".join),
)


# The tokenizer


@every_kind
def test_fewer_tokens_are_left_and_all_in_use_are(kind: str) -> None:
    before, (after, numbers) = whole(kind), trimmed(kind)
    assert len(after) < 0.9 * len(before)
    assert used_by(before, ROWS) <= numbers.keys()
    assert sorted(numbers.values()) == list(range(len(after)))
    assert {token: numbers[old] for token, old in before.get_vocab().items() if old in numbers} == (
        after.get_vocab()
    )


@every_kind
@pytest.mark.parametrize("row", range(len(ROWS)))
def test_rows_are_split_into_the_same_tokens(kind: str, row: int) -> None:
    before, (after, numbers) = whole(kind), trimmed(kind)
    other = ROWS[row - 1]
    assert [numbers[old] for old in before(ROWS[row])["input_ids"]] == after(ROWS[row])["input_ids"]
    assert [numbers[old] for old in before(ROWS[row], other)["input_ids"]] == (
        after(ROWS[row], other)["input_ids"]
    )


@every_kind
@settings(max_examples=50)
@given(text=texts)
def test_text_of_covered_tokens_is_split_as_before(kind: str, text: str) -> None:
    before, (after, numbers) = whole(kind), trimmed(kind)
    split = before(text)["input_ids"]
    assume(numbers.keys() >= set(split))
    assert after(text)["input_ids"] == [numbers[old] for old in split]


@every_kind
@settings(max_examples=50)
@given(text=st.one_of(texts, st.text(max_size=20)))
def test_what_could_be_read_can_still_be_read(kind: str, text: str) -> None:
    before, (after, _) = whole(kind), trimmed(kind)
    split, spelled = (tokenizer(text, add_special_tokens=False) for tokenizer in (before, after))
    if before.unk_token_id not in split["input_ids"]:
        assert after.unk_token_id not in spelled["input_ids"]
        assert after.decode(spelled["input_ids"]) == before.decode(split["input_ids"])


@every_kind
def test_characters_stay_in_each_of_their_forms(kind: str) -> None:
    before, (after, _) = whole(kind), trimmed(kind)
    forms = re.compile(r"(##|[▁Ġ])?.(</w>)?|<0x..>", re.DOTALL)
    characters = {token for token in before.get_vocab() if forms.fullmatch(token)}
    assert len(characters) > 70
    assert characters <= after.get_vocab().keys()


@every_kind
def test_special_and_added_tokens_keep_their_ways(kind: str) -> None:
    before, (after, numbers) = whole(kind), trimmed(kind)
    assert type(after) is type(before)
    assert after.special_tokens_map == before.special_tokens_map
    for name in before.special_tokens_map:
        old = getattr(before, f"{name}_id")
        assert getattr(after, f"{name}_id") == numbers[old]
        assert numbers[old] == old or old > 100
    assert after.tokenize("a #news b").count("#news") == 1
    assert (after.model_max_length, after.padding_side) == (before.model_max_length, before.padding_side)
    assert after.name_or_path == before.name_or_path


@every_kind
def test_it_reloads_as_it_is(kind: str, tmp_path: Path) -> None:
    after, _ = trimmed(kind)
    after.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert reloaded.get_vocab() == after.get_vocab()
    for text in (*MARATHI, *ENGLISH, "ж #news"):
        assert reloaded(text, MARATHI[0])["input_ids"] == after(text, MARATHI[0])["input_ids"]


@every_kind
def test_the_tokenizer_given_stays_as_it_was(kind: str) -> None:
    tokenizer = whole(kind)
    before = tokenizer.backend_tokenizer.to_str()
    trim(tokenizer, used_by(tokenizer, ROWS[:1]))
    assert tokenizer.backend_tokenizer.to_str() == before


def test_padding_and_truncation_that_a_tokenizer_holds_are_kept() -> None:
    tokenizer = KINDS["byte_level"]()
    tokenizer.add_special_tokens({"pad_token": "<blank>"})
    tokenizer(ROWS, padding=True, truncation=True, max_length=9)
    smaller, numbers = trim(tokenizer, set())
    pad = tokenizer.pad_token_id
    assert smaller.backend_tokenizer.padding["pad_id"] == numbers[pad] == smaller.pad_token_id < pad
    assert smaller.backend_tokenizer.truncation["max_length"] == 9


def test_a_word_whose_character_has_no_token_stays_whole() -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "a": 2, "##a": 3, "##b": 4, "ab": 5, "q##": 6, "aé": 7, "aab": 8}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    smaller, _ = trim(tokenizer, set())
    assert smaller.get_vocab().keys() == vocabulary.keys() - {"ab", "aab"}
    assert smaller.tokenize("aé") == ["aé"]


def test_the_price_of_an_unknown_character_stays() -> None:
    """It is set by the least likely token, here one that is not in use."""
    vocabulary = [("<unk>", 0.0), ("a", -5.0), ("x", -30.0), ("xa", -1.0), ("aé", -40.0), ("aa", -90.0)]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<unk>", unk_token="<unk>")
    assert tokenizer.tokenize("xaé") == ["x", "aé"]
    smaller, _ = trim(tokenizer, {2, 3, 4})
    assert smaller.tokenize("xaé") == ["x", "aé"]


def test_tokens_on_the_way_to_a_kept_one_stay() -> None:
    vocabulary = {token: i for i, token in enumerate(["<pad>", *"abcd", "ab", "cd", "bc", "abc", "abcd"])}
    merges = [("a", "b"), ("b", "c"), ("c", "d"), ("ab", "c"), ("ab", "cd"), ("a", "bc")]
    backend = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")
    smaller, _ = trim(tokenizer, {vocabulary["abcd"]})
    assert smaller.get_vocab().keys() == vocabulary.keys() - {"bc", "abc"}
    assert smaller.tokenize("abcd") == ["abcd"]
    assert smaller.tokenize("abc") == ["ab", "c"]


# The model


def context_for(model: PreTrainedModel, kind: str, rows: list[str] = ROWS, **settings: Any) -> Context:
    context = context_of(model, whole(kind), **settings)
    context.examples = [Example(text, i % 3) for i, text in enumerate(rows)]
    return context


def sized(family: str, kind: str, **settings: Any) -> PreTrainedModel:
    """A tiny model with more embeddings than the tokenizer has tokens, as many checkpoints have."""
    tokenizer = whole(kind)
    shape = {"vocab_size": len(tokenizer) + 5, "pad_token_id": tokenizer.pad_token_id}
    return tiny(family, max_position_embeddings=80, **(shape | settings))


def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str] = ROWS
) -> torch.Tensor:
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(**batch).logits
    return logits


def made(spec: str, model: PreTrainedModel, context: Context) -> PreTrainedModel:
    """The variant of `model` without its training."""
    variant = parse_variant(spec)
    model, _ = prepare(variant, model, context)
    for part in variant.parts:
        model = part.finish(model, context)
    return model


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        *((family, "wordpiece") for family in EVERY_FAMILY),
        ("roberta", "byte_level"),
        ("xlm-roberta", "unigram"),
        ("albert", "lowercasing_unigram"),
        ("bert", "merges_of_characters"),
    ],
)
def test_logits_of_rows_are_the_same_and_stock_transformers_reloads_it(
    family: str, kind: str, tmp_path: Path
) -> None:
    model, context = sized(family, kind), context_for(tiny(), kind)
    before = answers(model, whole(kind))
    smaller = made("vocab", model, context)
    assert smaller.config.vocab_size == len(context.tokenizer) < 0.9 * len(whole(kind))
    assert smaller.get_input_embeddings().weight.shape[0] == len(context.tokenizer)
    assert torch.equal(answers(smaller, context.tokenizer), before)
    artifact.save(smaller, context.tokenizer, parse_variant("vocab"), tmp_path)
    for reloaded in (
        AutoModelForSequenceClassification.from_pretrained(tmp_path),
        compressors.load(tmp_path),
    ):
        assert torch.equal(answers(reloaded, AutoTokenizer.from_pretrained(tmp_path)), before)


def test_the_numbers_in_the_configuration_name_the_same_tokens() -> None:
    before = whole("unigram")
    settings = {
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "mask_token_id": before.mask_token_id,
    }
    model, context = (
        sized("xlm-roberta", "unigram", **settings, sep_token_id=10_000),
        context_for(tiny(), "unigram"),
    )
    config = made("vocab", model, context).config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 2, 1)
    assert config.mask_token_id == context.tokenizer.mask_token_id < before.mask_token_id
    assert config.sep_token_id is None, "no token ever had that number"


def test_a_padding_token_behind_the_vocabulary_moves_up(tmp_path: Path) -> None:
    tokenizer = KINDS["byte_level"]()
    tokenizer.add_special_tokens({"pad_token": "<blank>"})
    shape = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 80,
    }
    model, context = tiny("bert", **shape), context_for(tiny(), "byte_level")
    context.tokenizer = tokenizer
    before = answers(model, tokenizer)
    smaller = made("vocab", model, context)
    assert smaller.config.pad_token_id == context.tokenizer.pad_token_id == len(context.tokenizer) - 1
    assert torch.equal(answers(smaller, context.tokenizer), before)
    artifact.save(smaller, context.tokenizer, parse_variant("vocab"), tmp_path)
    assert torch.equal(answers(compressors.load(tmp_path), context.tokenizer), before)
    counting = tiny("roberta", **(shape | {"max_position_embeddings": 900}))
    context.tokenizer = tokenizer
    with pytest.raises(
        Refusal, match=f"padding token's number, {tokenizer.pad_token_id}, which would change"
    ):
        made("vocab", counting, context)


def test_pairs_and_the_corpus_count_as_well(tmp_path: Path) -> None:
    corpus = tmp_path / "more.txt"
    corpus.write_text("\n".join([MARATHI[2], "", MARATHI[3]]) + "\n", encoding="utf-8")
    context = context_for(tiny(), "unigram")
    context.examples = [Example(MARATHI[0], 0, ENGLISH[0]), Example(MARATHI[1], 1, ENGLISH[1])]
    made(f"vocab:{corpus}", sized("xlm-roberta", "unigram"), context)
    for text in (ENGLISH[0], ENGLISH[1], *MARATHI):
        assert context.tokenizer.tokenize(text) == whole("unigram").tokenize(text)
    uncovered = [
        text for text in ENGLISH[2:] if context.tokenizer.tokenize(text) != whole("unigram").tokenize(text)
    ]
    assert uncovered == ENGLISH[2:]
    assert f"2 training rows and {corpus}" in context.notes[0]


def test_the_note_says_what_it_gave() -> None:
    model, context = sized("bert", "wordpiece"), context_for(tiny(), "wordpiece")
    width, rows = model.get_input_embeddings().weight.shape[1], len(whole("wordpiece")) + 5
    others = model.num_parameters() - rows * width
    made("vocab", model, context)
    left, seen = len(context.tokenizer), len(used_by(whole("wordpiece"), ROWS))
    assert context.notes == [
        f"vocab: {left} of {len(whole('wordpiece'))} tokens stay, {seen} of them in 5 training rows; "
        f"embeddings were {rows * width / (others + rows * width):.0%} of the model, "
        f"and are {left * width / (others + left * width):.0%}"
    ]


# Together with others


@pytest.mark.parametrize("spec", ["bmp50+vocab", "kd+vocab", "vocab+kd", "bmp50+vocab+kd+mp", "vocab+mp"])
def test_with_others_rows_get_the_logits_they_get_without(spec: str, tmp_path: Path) -> None:
    logits = {}
    for made_of in (spec, spec.replace("vocab+", "").replace("+vocab", "")):
        variant = parse_variant(made_of)
        teacher = torch.zeros(len(ROWS), 3)
        context = context_for(
            tiny(),
            "wordpiece",
            removed_share=variant.removed_share,
            total_steps=10,
            dense_logits=lambda teacher=teacher: teacher,
        )
        context.load_dense = lambda: sized("bert", "wordpiece", layers=4)
        model = made(made_of, context.load_dense(), context)
        artifact.save(model, context.tokenizer, variant, tmp_path / made_of)
        reloaded = compressors.load(tmp_path / made_of)
        logits[made_of] = answers(reloaded, AutoTokenizer.from_pretrained(tmp_path / made_of))
    own, other = logits.values()
    assert torch.equal(own, other)


@pytest.mark.parametrize("order", [("kd", "vocab"), ("vocab", "kd")])
def test_training_is_that_of_the_variant_without_it(order: tuple[str, str], tmp_path: Path) -> None:
    """Distillation with hidden states, whose teacher reads the student's batches."""
    schedule = Schedule(epochs=2, learning_rate=1e-3, batch_size=2, seed=0, device="cpu")
    trained = []
    for names in (order, ("kd",)):
        dense = sized("bert", "wordpiece", layers=4)
        context = context_for(dense, "wordpiece", removed_share=0.5, dense_logits=lambda: torch.eye(5, 3))
        variant = parse_variant("+".join(names))
        model, _ = prepare(variant, sized("bert", "wordpiece", layers=4), context)
        rows = encode(context.tokenizer, context.examples, 64)
        labels = [row.label for row in context.examples]
        set_seed(0)
        fine_tune(model, rows, labels, variant.parts, context, schedule, tmp_path, lambda *_: None)
        for part in variant.parts:
            model = part.finish(model, context)
        trained.append(answers(model, context.tokenizer))
    torch.testing.assert_close(*trained, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "spec", ["vocab+load:{}", "load:{}+vocab", "vocab+kd:student={}", "kd:student={}+vocab"]
)
def test_a_checkpoint_is_trimmed_with_its_own_tokenizer(spec: str, tmp_path: Path) -> None:
    other = sized("roberta", "byte_level")
    before = answers(other, whole("byte_level"))
    artifact.save(other, whole("byte_level"), Variant(), tmp_path)
    dense = sized("bert", "wordpiece")
    context = context_for(dense, "wordpiece", dense_logits=lambda: torch.zeros(5, 3))
    model = made(spec.format(tmp_path), dense, context)
    assert isinstance(context.tokenizer, RobertaTokenizer)
    assert model.config.vocab_size == len(context.tokenizer) < len(whole("byte_level"))
    assert torch.equal(answers(model, context.tokenizer), before)


# What cannot be done


def test_other_tokenizers_are_refused_before_training(tokenizer: PreTrainedTokenizerBase) -> None:
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "word": 2}, unk_token="<unk>"))
    for other, reason in (
        (PreTrainedTokenizerFast(tokenizer_object=words), "a WordLevel tokenizer cannot spell"),
        (CanineTokenizer(), "a tokenizer without tokenizer.json"),
    ):
        with pytest.raises(Refusal, match=reason):
            VocabularyTrimming().prepare(tiny(), context_of(tiny(), other))
    VocabularyTrimming().prepare(tiny(), context_of(tiny(), tokenizer))


def test_a_class_that_insists_on_its_own_tokens_is_refused() -> None:
    own = KINDS["wordpiece"]().get_vocab()

    class Insisting(BertTokenizer):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**(settings | {"vocab": own}))

    tokenizer = Insisting()
    with pytest.raises(Refusal, match="a Insisting does not keep to a smaller vocabulary"):
        trim(tokenizer, set())


def test_without_rows_and_corpus_nothing_says_what_is_in_use(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    context = context_of(tiny(), tokenizer)
    context.examples = []
    with pytest.raises(Refusal, match="no training rows say which tokens are in use; name a text file"):
        VocabularyTrimming().prepare(tiny(), context)
    VocabularyTrimming(str(tmp_path / "named")).prepare(tiny(), context)


def test_a_corpus_that_cannot_be_read_is_said_when_planning(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("fiancé".encode("latin-1"))
    for path, reason in (
        (tmp_path / "none.txt", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "latin.txt", "not UTF-8"),
    ):
        with pytest.raises(
            InputError, match=rf"vocab: corpus={re.escape(str(path))} cannot be read \({reason}"
        ):
            check(parse_variant(f"vocab:{path}"), "cpu")


def test_a_corpus_without_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path / "pipe.txt", Path("/dev/zero")):
        with pytest.raises(InputError, match="is no plain file; name one"):
            check(parse_variant(f"vocab:{path}"), "cpu")


def test_a_bare_value_is_the_corpus(tmp_path: Path) -> None:
    variant = parse_variant("kd+vocab:texts.txt")
    assert variant.parts[1] == VocabularyTrimming("texts.txt")
    assert variant.parts[1].files == (Path("texts.txt"),)
    assert spell(variant.parts[1]) == "vocab:texts.txt"
    assert VocabularyTrimming().files == Distillation().files == ()
