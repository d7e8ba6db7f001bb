"""Run documents as JSON: one as it stands in `run.json`, several as an array of these."""

from __future__ import annotations

from bench.nouns.run import Run


def document(*runs: Run) -> str:
    """The document of a single run; of several a JSON array, in their order."""
    texts = [run.model_dump_json(indent=2) for run in runs]
    return texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "\n]"
