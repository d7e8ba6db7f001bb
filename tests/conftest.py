"""What tests of several packages share: tiny real transformers, a tokenizer, a toy task."""

from __future__ import annotations

import pytest
from hypothesis import settings
from transformers import PreTrainedTokenizerBase

from tests.compressors.tiny import TOY_ROWS, toy_tokenizer

# Shared machines stall: how long an example takes says nothing about the code. The same examples every time,
# so that a change is judged by what it does, not by what was drawn today.
settings.register_profile("patient", deadline=None, derandomize=True)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """A WordPiece tokenizer of the toy task's words."""
    return toy_tokenizer([text for text, _ in TOY_ROWS])
