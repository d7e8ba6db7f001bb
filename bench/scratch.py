"""The model for a user who has none: a small BERT and a WordPiece tokenizer, trained from scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.nouns.task import Example

if TYPE_CHECKING:
    from transformers import BertForSequenceClassification, PreTrainedTokenizerFast

VOCABULARY = 4_000
LAYERS, HIDDEN, HEADS, FFN = 4, 128, 4, 512
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_tokenizer(rows: Sequence[Example], max_length: int) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of the rows' texts. Accents stay: in Indic scripts they are vowels."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    texts = [normalizer.normalize_str(text) for row in rows for text in (row.text, row.pair) if text]
    words = (word for text in texts for word, _ in pre_tokenizer.pre_tokenize_str(text))
    tokenizer = Tokenizer(models.WordPiece(word_pieces(Counter(words)), unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", SPECIAL.index("[SEP]")), ("[CLS]", SPECIAL.index("[CLS]"))
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def word_pieces(words: Counter[str]) -> dict[str, int]:
    """A WordPiece vocabulary of the words: the special tokens first, then pieces in the order of learning.

    The library numbers the pieces it starts from in an order that changes from process to process, and
    breaks ties by these numbers. Naming every starting piece beforehand makes the vocabulary, and so the
    whole run, a function of the rows.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    characters = sorted({character for word in words for character in word})
    starting = [*characters, *(f"##{character}" for character in characters)]
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=[*SPECIAL, *starting], show_progress=False
    )
    learner.train_from_iterator(words.elements(), trainer)
    vocabulary: dict[str, int] = learner.get_vocab()
    return vocabulary


def small_bert(labels: Sequence[str], vocabulary: int, max_length: int) -> BertForSequenceClassification:
    """A BERT of 4 layers, 128 wide, with fresh weights and a head for `labels`."""
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=FFN,
            max_position_embeddings=max(64, max_length),
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
        )
    )
