"""A finished run as its user finds it: the document, the folder, the table, and what follows from them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from rich.cells import cell_len

from bench.nouns.measurement import METRICS
from bench.nouns.run import json_schema
from bench.statistics import SPEED_MARGIN, speed_verdict
from tests.bench.conftest import ASKED
from tests.commands import Finished, bench, write_rows


def test_the_document_is_valid_and_complete(finished: Finished) -> None:
    text = (finished.folder / "run.json").read_text()
    jsonschema.validate(json.loads(text), json_schema())
    run = finished.document
    assert run.status == "complete"
    assert [result.variant for result in run.results] == ["dense", "bmp50+kd", "mp"]
    assert {result.status for result in run.results} == {"ok"}


MAY_BE_NONE = {"pruned_fraction", "encoder_reduction", "truncated_share", "calibration_error"}


@pytest.mark.parametrize("variant", ["dense", "bmp50+kd", "mp"])
def test_every_metric_is_there_or_has_a_reason(finished: Finished, variant: str) -> None:
    result = finished.document.result(variant)
    assert result is not None
    assert set(METRICS) == result.metrics.keys() | result.unavailable.keys()
    assert not result.metrics.keys() & result.unavailable.keys()
    for name, measurement in result.metrics.items():
        assert measurement.unit == METRICS[name].unit
        assert measurement.value != 0 or name in MAY_BE_NONE, name


def test_pruning_and_distilling_did_what_they_say(finished: Finished) -> None:
    result = finished.document.result("bmp50+kd")
    assert result is not None
    assert result.metrics["pruned_fraction"].value == pytest.approx(0.5, abs=0.01)
    assert result.metrics["encoder_reduction"].value == pytest.approx(0.75, abs=0.01)
    assert len(result.layers) == 2
    assert result.training[0]["loss"] > result.training[-1]["loss"]
    dense, half = finished.document.result("dense"), finished.document.result("mp")
    assert dense is not None
    assert half is not None
    assert half.metrics["disk_size"].value == pytest.approx(dense.metrics["disk_size"].value / 2, rel=0.02)


def test_ratios_are_paired_and_keep_their_samples(finished: Finished) -> None:
    for variant in ("bmp50+kd", "mp"):
        result = finished.document.result(variant)
        assert result is not None
        speedup = result.metrics["speedup"]
        assert len(speedup.samples) == result.scenarios["batch 32"].rounds >= 10
        assert speedup.ci_low is not None
        assert speedup.ci_high is not None
        assert speedup.ci_low <= speedup.value <= speedup.ci_high
    dense = finished.document.result("dense")
    assert dense is not None
    assert dense.metrics["speedup"].value == 1
    assert dense.metrics["speedup"].samples == ()


def test_modelled_energy_is_marked(finished: Finished) -> None:
    result = finished.document.result("bmp50+kd")
    assert result is not None
    for name in (
        "compress_energy",
        "inference_energy_per_sample",
        "compress_co2",
        "inference_co2_per_sample",
    ):
        if name in result.unavailable:
            continue
        measurement = result.metrics[name]
        assert measurement.estimated == ("codecarbon" in measurement.source.split(" x ")[0])


def test_every_scenario_keeps_its_raw_rounds_and_a_verdict(finished: Finished) -> None:
    for result in finished.document.results:
        assert {"batch 32", "batch 1", "end to end", "tokenising"} == result.scenarios.keys()
        for name in ("batch 32", "batch 1", "end to end"):
            scenario = result.scenarios[name]
            assert scenario.raw is not None
            others = {"dense again"} if result.variant == "dense" else {"dense"}
            assert scenario.raw.times.keys() == others | {result.variant} == scenario.warm_up.keys()
            counts = {len(series.values) for series in scenario.raw.times.values()}
            assert counts == {len(scenario.raw.order)} == {len(scenario.raw.rows)}
            assert scenario.rounds == len(scenario.raw.order) - len(scenario.raw.discarded)
            if result.variant == "mp":
                assert scenario.verdicts.keys() == {"speedup"}, "it is dense in this precision itself"
            elif result.variant != "dense":
                assert scenario.verdicts.keys() == {"speedup", "speedup_same_precision"}
    fastest = finished.document.result("bmp50+kd")
    assert fastest is not None
    assert fastest.verdicts["speedup"] == speed_verdict(fastest.metrics["speedup"], SPEED_MARGIN)
    assert fastest.verdicts["speedup"].word != "slower"
    assert fastest.verdicts == fastest.scenarios["batch 32"].verdicts


def test_dense_beside_a_copy_of_itself_is_measured_and_counts_as_one(finished: Finished) -> None:
    dense = finished.document.result("dense")
    assert dense is not None
    beside_itself = dense.scenarios["batch 32"].metrics["speedup"]
    assert "dense again" in beside_itself.source
    assert len(beside_itself.samples) >= 10
    assert "definition" in dense.metrics["speedup"].source


def test_it_says_where_the_time_went(finished: Finished) -> None:
    run = finished.document
    assert run.wall_time
    assert run.import_time
    spent = sum(sum(result.spent.values()) for result in run.results)
    assert 0 < run.import_time.value < run.wall_time.value
    assert 0 < spent < run.wall_time.value - run.import_time.value
    assert {"training", "warm-up", "timing", "accuracy", "energy"} <= run.results[0].spent.keys()


def test_scenarios_are_measured_as_asked(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 400)
    asked = ("--padding", "sorted,fixed", "--shapes", "2x8", "--threads", "1", "--variants", "dense")
    done = bench("run", *ASKED, *asked, "--out", "scenarios", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [dense] = json.loads(done.stdout)["results"]
    shares = {name: scenario["metrics"].get("padding_share") for name, scenario in dense["scenarios"].items()}
    assert set(shares) == {
        *("batch 32", "batch 1", "end to end", "tokenising"),
        *("batch 32, fixed padding", "batch 32, sorted", "2x8", "batch 32, 1 thread"),
    }
    assert shares["2x8"]["value"] == 0
    assert shares["batch 32, sorted"]["value"] < shares["batch 32"]["value"]
    assert shares["batch 32, fixed padding"]["value"] > shares["batch 32"]["value"]
    assert dense["scenarios"]["batch 32, 1 thread"]["threads"] == 1


def test_each_seed_is_a_row_with_files_of_its_own(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 400)
    done = bench("run", *ASKED, "--variants", "mp", "--seeds", "2", "--out", "seeds", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [(row["variant"], row["seed"]) for row in results] == [
        ("dense", 0),
        ("dense", 1),
        ("mp", 0),
        ("mp", 1),
    ]
    folders = [tmp_path / "seeds" / row["artifact"] for row in results]
    weights = {(folder / "model.safetensors").read_bytes() for folder in folders}
    assert len(weights) == 4
    assert len(list((tmp_path / "seeds/predictions").iterdir())) == 4


def test_rows_seen_in_training_are_told_apart_unless_cleaned(tmp_path: Path) -> None:
    lines = write_rows(tmp_path / "rows.csv", 400).read_text().splitlines()
    (tmp_path / "train.csv").write_text("\n".join(lines[:300]))
    (tmp_path / "test.csv").write_text("\n".join([lines[0], *lines[250:400]]))
    data = ("--train", "train.csv", "--test", "test.csv")
    asked = (*data, "--quick", "--dense-epochs", "1", "--variants", "dense", "--json")
    dirty, clean = (
        json.loads(bench("run", *asked, *more, cwd=tmp_path).stdout)
        for more in (("--out", "dirty"), ("--deduplicate", "--out", "clean"))
    )
    assert dirty["task"]["audit"]["splits"]["test"]["in_train"] == 50
    assert clean["task"]["audit"]["removed"] == {"train: text in test": 50}
    assert clean["task"]["rows"]["test"] == dirty["task"]["rows"]["test"] == 150
    assert "accuracy_unseen" in dirty["results"][0]["metrics"]
    assert "accuracy_unseen" in clean["results"][0]["unavailable"]
    assert any("50 of 150 rows" in note for note in dirty["task"]["notes"])


RELOAD = """
import json, sys
from pathlib import Path
import compressors
from transformers import AutoTokenizer
folder, rows = map(Path, sys.argv[1:])
model, tokenizer = compressors.load(folder), AutoTokenizer.from_pretrained(folder)
texts = [json.loads(line)[0] for line in rows.read_text().splitlines()]
logits = [model(**tokenizer(text, return_tensors="pt")).logits for text in texts]
print(json.dumps([model.config.id2label[int(row.argmax())] for row in logits]))
"""


def test_an_artifact_reloads_in_a_fresh_process_to_the_same_predictions(finished: Finished) -> None:
    [rows] = (finished.cwd / ".bench/cache").glob("task-*/test.jsonl")
    arguments = [sys.executable, "-c", RELOAD, str(finished.folder / "artifacts/bmp50+kd"), str(rows)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    lines = (finished.folder / "predictions/bmp50+kd.jsonl").read_text().splitlines()
    predictions = [line for line in map(json.loads, lines) if line["split"] == "test"]
    assert json.loads(done.stdout) == [line["predicted"] for line in predictions]


def test_the_table_is_complete_when_piped(finished: Finished) -> None:
    shown = finished.process.stdout
    assert "\x1b" not in shown
    assert all(cell_len(line) <= 80 for line in shown.splitlines())
    for word in ("dense", "bmp50+kd", "mp", "↑", "↓", "713"):
        assert word in shown
    assert ("estimated" in shown) == ("~" in shown)


def test_progress_goes_to_stderr(finished: Finished) -> None:
    assert "[2/3] bmp50+kd" in finished.process.stderr
    assert "[2/3]" not in finished.process.stdout


def test_report_prints_the_same_again(finished: Finished) -> None:
    assert bench("report", finished.folder, cwd=finished.cwd).stdout == finished.process.stdout
    assert bench("report", finished.folder / "run.json", cwd=finished.cwd).stdout == finished.process.stdout


def test_report_as_json_is_the_document(finished: Finished) -> None:
    shown = bench("report", finished.folder, "--json", cwd=finished.cwd).stdout
    assert json.loads(shown) == json.loads((finished.folder / "run.json").read_text())


def test_the_folder_holds_report_and_predictions(finished: Finished) -> None:
    assert "| dense" in (finished.folder / "report.md").read_text()
    lines = (finished.folder / "predictions/mp.jsonl").read_text().splitlines()
    rows = finished.document.task.rows
    assert len(lines) == rows["test"] + rows["validation"]


def test_a_rerun_takes_over_what_is_done_and_says_so(finished: Finished) -> None:
    again = bench("run", *ASKED, "--variants", "bmp50+kd,mp", "--out", "again", "--json", cwd=finished.cwd)
    assert again.returncode == 0
    first, second = finished.document, json.loads(again.stdout)
    for before, after in zip(first.results, second["results"], strict=True):
        assert set(after["cached"]) >= {"timing", "footprint"}
        assert after["metrics"]["speedup"]["samples"] == list(before.metrics["speedup"].samples)


def test_keep_none_leaves_no_weights_behind(finished: Finished) -> None:
    shutil.copytree(finished.cwd / ".bench/cache", finished.cwd / "other")
    arguments = ("--variants", "mp", "--keep", "none", "--cache", "other", "--out", "bare")
    assert bench("run", *ASKED, *arguments, cwd=finished.cwd).returncode == 0
    document = json.loads((finished.cwd / "bare/run.json").read_text())
    assert {result["artifact"] for result in document["results"]} == {None}
    assert not list((finished.cwd / "bare").rglob("*.safetensors"))
    left = {file.parts[-3] for file in (finished.cwd / "other").rglob("model.safetensors")}
    assert len(left) == 1, "only bmp50+kd, which this run did not make"


def test_resume_keeps_what_is_ok_and_makes_what_is_missing(finished: Finished) -> None:
    broken = finished.cwd / "broken"
    shutil.copytree(finished.folder, broken)
    document = json.loads((broken / "run.json").read_text())
    document["status"] = "interrupted"
    lost = document["results"].pop()
    (broken / "run.json").write_text(json.dumps(document))
    elsewhere = finished.cwd / "elsewhere"
    elsewhere.mkdir()
    resumed = bench("run", "--resume", "../broken", "--json", cwd=elsewhere)
    assert resumed.returncode == 0, resumed.stderr
    after = json.loads(resumed.stdout)
    assert after["status"] == "complete"
    assert [result["variant"] for result in after["results"]] == ["dense", "bmp50+kd", "mp"]
    assert after["results"][-1]["metrics"]["accuracy"] == lost["metrics"]["accuracy"]


def test_resume_refuses_other_options(finished: Finished) -> None:
    refused = bench("run", "--resume", finished.folder, "--epochs", "2", cwd=finished.cwd)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--epochs" in refused.stderr


def test_resume_refuses_a_run_whose_data_changed(finished: Finished) -> None:
    changed = finished.cwd / "changed"
    shutil.copytree(finished.folder, changed)
    options = json.loads((changed / "options.json").read_text())
    options["train"] = str(write_rows(finished.cwd / "other.csv", 400, seed=1))
    (changed / "options.json").write_text(json.dumps(options))
    refused = bench("run", "--resume", changed, cwd=finished.cwd)
    assert refused.returncode == 2
    assert "its data changed since" in refused.stderr


def test_other_threads_take_over_neither_timings_nor_models(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = bench("run", *ASKED, "--variants", "dense", "--out", "one-thread", "--json", cwd=finished.cwd)
    [dense] = json.loads(done.stdout)["results"]
    assert dense["cached"] == [], "other threads sum in another order"


def test_an_artifact_is_measured_by_its_path(finished: Finished) -> None:
    path = finished.folder / "artifacts/bmp50+kd"
    asked = ("--variants", f"load:{path}", "--out", "loaded", "--json")
    done = bench("run", *ASKED, *asked, cwd=finished.cwd)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)["results"][1]
    original = finished.document.result("bmp50+kd")
    assert original is not None
    assert loaded["metrics"]["accuracy"]["value"] == original.metrics["accuracy"].value
    assert loaded["metrics"]["parameters"]["value"] == original.metrics["parameters"].value
    assert loaded["continues"] == ["bmp50", "kd"]
