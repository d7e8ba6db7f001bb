"""The tokenizer trained from scratch is a function of the rows, in any process."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.nouns.task import Example
from bench.scratch import SPECIAL, train_tokenizer

PROGRAM = """
from bench.nouns.task import Example
from bench.scratch import train_tokenizer
words = [a + b + c for a in "कखगघच" for b in "ाीूेो" for c in ("टा", "डी", "णे", "ता")]
rows = [Example(" ".join(words[i::7]), 0) for i in range(7)]
print(sorted(train_tokenizer(rows, 32).get_vocab().items()))
"""


def vocabulary_in_a_process(hash_seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout


def test_every_process_learns_the_same_pieces() -> None:
    assert len({vocabulary_in_a_process(seed) for seed in (1, 2, 3)}) == 1


def test_vowel_signs_stay_and_nothing_seen_is_unknown() -> None:
    text = "पुण्यात मेट्रो सुरू, नागरिक आनंदी!"
    tokenizer = train_tokenizer([Example(text, 0, "दुसरा मजकूर")], 32)
    numbers = tokenizer(text, "दुसरा")["input_ids"]
    assert tokenizer.unk_token_id not in numbers
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).startswith(
        "पुण्यात मेट्रो सुरू"
    )
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL] == [0, 1, 2, 3, 4]


def test_what_looks_like_a_piece_is_not_special() -> None:
    tokenizer = train_tokenizer([Example("ab ba", 0)], 32)
    assert tokenizer.decode(tokenizer("ab")["input_ids"], skip_special_tokens=True) == "ab"
    assert set(tokenizer.all_special_tokens) == set(SPECIAL)
