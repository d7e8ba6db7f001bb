"""The real command on checkpoints as people have them: numbered classes, another order, half precision."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.encoding import collate, encode
from bench.folder import read_run
from bench.nouns.task import Example
from bench.scratch import small_bert, train_tokenizer
from compressors.artifact import set_class_names
from tests.commands import Finished, bench, write_rows

TOPICS = ("money", "sport")
STEPS, LEARNING_RATE = 25, 2e-3
ASKED = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--device", "cpu")


def learnt(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A small BERT that has learnt the two topics, with its tokenizer."""
    torch.manual_seed(0)
    with file.open() as lines:
        rows = [Example(row["text"], TOPICS.index(row["label"])) for row in csv.DictReader(lines)]
    tokenizer = train_tokenizer(rows, 64)
    model = small_bert(TOPICS, len(tokenizer), 64).train()
    batch = collate(encode(tokenizer, rows, None), tokenizer.pad_token_id)
    labels = torch.tensor([row.label for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(**batch).logits, labels).backward()
        optimizer.step()
    return model.eval(), tokenizer


def save(folder: Path, made: tuple[PreTrainedModel, PreTrainedTokenizerBase], names: Sequence[str]) -> None:
    """A checkpoint whose classes are called `names`, in the order of the model's."""
    model, tokenizer = made
    set_class_names(model.config, names)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Dense as it came with numbered classes, distilled, and beside it itself in half precision."""
    cwd = tmp_path_factory.mktemp("own")
    model, tokenizer = learnt(write_rows(cwd / "rows.csv", 300))
    for parameter in model.classifier.parameters():
        parameter.data = parameter.data.flip(0)
    save(cwd / "numbered", (model, tokenizer), ("LABEL_0", "LABEL_1"))
    save(cwd / "half", (model.to(torch.bfloat16), tokenizer), ("sport", "money"))
    asked = ("--model", "numbered", "--no-finetune", "--variants", "kd,load:half")
    process = bench("run", *ASKED, *asked, "--out", "run", cwd=cwd)
    assert process.returncode == 0, process.stderr
    return Finished(cwd, cwd / "run", process)


def test_the_matching_is_shown(measured: Finished) -> None:
    said = "numbered: its classes were matched to the data's by"
    dense = measured.document.result("dense")
    assert dense is not None
    [note] = dense.notes
    assert note.startswith(said)
    assert note.endswith("LABEL_0 is sport, LABEL_1 is money")
    assert f"dense: {said}" in " ".join(measured.process.stdout.split())
    report = (measured.folder / "report.md").read_text().replace("\\", "")
    assert f"dense: {note}" in report


def test_predictions_bear_the_datas_names_whatever_the_order(measured: Finished) -> None:
    for name in ("dense", "kd", "load:half"):
        result = measured.document.result(name)
        assert result is not None
        assert result.status == "ok", result.reason
        assert result.metrics["accuracy"].value > 0.9
    folder = measured.folder / "predictions"
    predicted = {
        file.name: [json.loads(line) for line in file.read_text().splitlines()]
        for file in sorted(folder.rglob("*.jsonl"))
    }
    assert len(predicted) == 3
    for rows in predicted.values():
        assert {row["predicted"] for row in rows} == set(TOPICS)


def test_a_loaded_checkpoint_is_measured_in_its_own_precision(measured: Finished) -> None:
    dense, half = measured.document.result("dense"), measured.document.result("load:half")
    assert dense is not None
    assert half is not None
    assert dense.metrics["disk_size"].value > 1.9 * half.metrics["disk_size"].value
    assert half.metrics["parameters"].value == dense.metrics["parameters"].value
    raw = [scenario.raw for scenario in half.scenarios.values() if scenario.raw]
    beside_dense = [rounds.times for rounds in raw if "dense" in rounds.times]
    assert beside_dense
    assert all("dense as bfloat16" in times for times in beside_dense)
    assert half.metrics["speedup_same_precision"].value != half.metrics["speedup"].value
    assert {result.loads_with for result in measured.document.results} == {"transformers"}


def test_a_checkpoint_that_changed_is_measured_again_and_its_run_not_resumed(measured: Finished) -> None:
    config = measured.cwd / "half" / "config.json"
    before = config.read_text()
    names = {"id2label": {"0": "money", "1": "sport"}, "label2id": {"money": 0, "sport": 1}}
    config.write_text(json.dumps(json.loads(before) | names))
    refused = bench("run", "--resume", measured.folder, cwd=measured.cwd)
    assert refused.returncode == 2
    assert "the checkpoint half changed since" in refused.stderr
    asked = ("--model", "numbered", "--no-finetune", "--variants", "load:half", "--out", "misnamed")
    done = bench("run", *ASKED, *asked, cwd=measured.cwd)
    config.write_text(before)
    assert done.returncode == 0, done.stderr
    misnamed = read_run(measured.cwd / "misnamed").result("load:half")
    assert misnamed is not None
    assert misnamed.metrics["accuracy"].value < 0.1


def test_what_was_loaded_can_be_loaded_again_after_the_original_is_gone(measured: Finished) -> None:
    import compressors

    (measured.cwd / "half").rename(measured.cwd / "elsewhere")
    artifact = measured.document.result("load:half")
    assert artifact is not None
    assert artifact.artifact is not None
    loaded = compressors.load(measured.folder / artifact.artifact)
    assert loaded.dtype == torch.bfloat16
    assert loaded.config.id2label == {0: "sport", 1: "money"}


def test_a_map_that_fits_no_checkpoint_is_refused_before_anything_is_made(measured: Finished) -> None:
    asked = ("--model", "numbered", "--no-finetune", "--label-map", "LABEL_0=sport,LABEL_7=money")
    done = bench("run", *ASKED, *asked, "--out", "refused", cwd=measured.cwd)
    assert done.returncode == 2
    assert done.stderr == "bench: --label-map LABEL_7: no class of numbered; known: LABEL_0, LABEL_1\n"
    assert not (measured.cwd / "refused").exists()


def test_classes_that_nothing_tells_apart_are_refused_with_a_map_to_copy(measured: Finished) -> None:
    _, tokenizer = learnt(measured.cwd / "rows.csv")
    torch.manual_seed(1)
    fresh = small_bert(TOPICS, len(tokenizer), 64)
    save(measured.cwd / "fresh", (fresh, tokenizer), ("LABEL_0", "LABEL_1"))
    asked = ("--model", "fresh", "--no-finetune", "--variants", "mp", "--out", "refused")
    done = bench("run", *ASKED, *asked, cwd=measured.cwd)
    assert done.returncode == 2, done.stderr
    assert "cannot be told by" in done.stderr
    assert "--label-map LABEL_0=" in done.stderr
    assert not (measured.cwd / "refused").exists()
