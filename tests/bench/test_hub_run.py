"""A whole run of a published task: everything from a hub, and then again without it."""

from __future__ import annotations

from pathlib import Path

from bench.folder import read_run
from bench.nouns.task import Example
from bench.scratch import train_tokenizer
from bench.tasks.mahanews import MODEL
from tests.compressors.tiny import tiny
from tests.hub.asking import User
from tests.hub.mahanews import TOPICS, write_corpora
from tests.hub.server import commit, serve

ASKED = (
    *("-m", "bench", "run", "--task", "mahanews-ldc", "--variants", "mp", "--quick"),
    *("--limit", "48", "--limit-test", "48", "--max-length", "32"),
)


def test_a_published_task_runs_from_the_hub_and_then_without_it(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    write_corpora(root, "LDC")
    tokenizer = train_tokenizer([Example("बातमी LDC train validation test 0123456789", 0)], 512)
    model = tiny("bert", labels=TOPICS, vocab_size=len(tokenizer), max_position_embeddings=512)
    model.save_pretrained(root / "models" / MODEL)
    tokenizer.save_pretrained(root / "models" / MODEL)
    name = commit(root / "models" / MODEL)
    with serve(root) as hub:
        user = User(tmp_path / "home", hub)
        first = user.run(*ASKED, "--out", "first", cwd=tmp_path)
        assert first.returncode == 0, first.stderr
        assert f"{MODEL}: commit {name} of {hub.endpoint}" in first.stderr
        asked = len(hub.asked)
    user.settings["HF_HUB_OFFLINE"] = "1"
    second = user.run(*ASKED, "--out", "second", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert len(hub.asked) == asked

    made, again = read_run(tmp_path / "first"), read_run(tmp_path / "second")
    assert (made.task.name, made.task.model, made.task.labels) == ("mahanews-ldc", MODEL, list(TOPICS))
    assert made.task.rows == {"train": 48, "validation": 48, "test": 48}
    assert [(result.variant, result.status) for result in made.results] == [("dense", "ok"), ("mp", "ok")]
    assert again.fingerprints == made.fingerprints
    assert all({"timing", "footprint"} <= set(result.cached) for result in again.results)
