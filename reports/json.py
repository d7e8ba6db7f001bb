"""Documents as JSON that can be printed, too: what would act on a terminal is spelled as JSON has it."""

from __future__ import annotations

import re

from bench.nouns.document import Document
from bench.nouns.run import Run
from bench.visible import ACTIVE


def document(*runs: Run) -> str:
    """The document of a single run; of several a JSON array, in their order."""
    texts = [text_of(run) for run in runs]
    return texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "\n]"


def text_of(document: Document) -> str:
    """Any document; it is read back exactly."""
    return inert(document.model_dump_json(indent=2))


def inert(text: str) -> str:
    """JSON with what would act on a terminal as `\\u009b`; the line breaks between its parts stay."""
    return re.sub(rf"(?!\n){ACTIVE.pattern}", lambda found: f"\\u{ord(found[0]):04x}", text)
