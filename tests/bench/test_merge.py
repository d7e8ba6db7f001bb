"""Shards made one run: as if it had never been parted, and refused where it was not one sweep."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.errors import InputError
from bench.folder import RunFolder, read_run
from bench.lock import hold
from bench.merge import NOT_KEPT, Merged, in_order, merge, opened, remarks
from bench.nouns.run import Result, Run
from tests.bench.conftest import ASKED
from tests.commands import Finished, bench

WHOLE = ["dense", "bmp50+kd", "mp"]
Document = dict[str, Any]
Change = Callable[[Document], None]


@pytest.fixture(scope="session")
def shards(finished: Finished) -> list[Path]:
    """The sweep of `finished` in two, over its cache: the real command line, and nothing trained again."""
    for number in (1, 2):
        asked = (*ASKED, "--variants", "bmp50+kd,mp", "--shard", f"{number}/2", "--out", f"shard{number}")
        process = bench("run", *asked, cwd=finished.cwd)
        assert process.returncode == 0, process.stderr
    return [finished.cwd / "shard1", finished.cwd / "shard2"]


@pytest.fixture(scope="session")
def merged(finished: Finished, shards: list[Path]) -> tuple[Finished, subprocess.CompletedProcess[str]]:
    """The two as one, given in the wrong order; how it ended too."""
    process = bench("merge", "shard2", "shard1", "--out", "merged", cwd=finished.cwd)
    assert process.returncode == 0, process.stderr
    return Finished(finished.cwd, finished.cwd / "merged", process), process


Both = tuple[Finished, subprocess.CompletedProcess[str]]


def test_each_shard_has_dense_and_its_own(shards: list[Path]) -> None:
    runs = [read_run(shard) for shard in shards]
    assert [run.config.variants for run in runs] == [["dense", "bmp50+kd"], ["dense", "mp"]]
    assert [run.config.shard for run in runs] == [(1, 2), (2, 2)]
    assert [run.config.sweep for run in runs] == [WHOLE, WHOLE]


def test_merged_they_are_the_run_that_was_not_parted(finished: Finished, merged: Both) -> None:
    one, other = finished.document, merged[0].document
    assert other.status == "complete"
    assert other.config.variants == one.config.variants == WHOLE
    assert (other.config.shard, other.config.sweep) == (None, [])
    assert [row.variant for row in other.results] == WHOLE
    for before, after in zip(one.results, other.results, strict=True):
        for figure in ("accuracy", "speedup", "disk_size", "parameters", "compress_wall_time"):
            assert before.metrics.get(figure) == after.metrics.get(figure), (before.variant, figure)
        assert before.right == after.right
        assert before.accuracy_kept == after.accuracy_kept
        assert before.verdicts == after.verdicts
        assert before.recommended == after.recommended
        assert after.machine is None
    assert not [caution for caution in other.environment.warnings if caution.code == "several-machines"]


def test_its_folder_holds_what_a_run_leaves(finished: Finished, merged: Both) -> None:
    folder = merged[0].folder
    for row in merged[0].document.results:
        assert row.artifact is not None
        weights = [place / row.artifact / "model.safetensors" for place in (folder, finished.folder)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
        name = f"predictions/{row.variant}.jsonl"
        assert (folder / name).read_text() == (finished.folder / name).read_text()
    assert "bmp50+kd" in (folder / "report.md").read_text()
    assert "</html>" in (folder / "report.html").read_text()


def test_the_report_is_on_stdout_and_the_folder_on_stderr(merged: Both) -> None:
    assert "Speed and accuracy" in merged[1].stdout
    assert merged[1].stderr.splitlines()[-1] == "merged"


def test_other_commands_take_it_as_a_run(finished: Finished, merged: Both, tmp_path: Path) -> None:
    for arguments in (
        ("report", "merged", "--export-csv", tmp_path / "rows.csv"),
        ("compare", "first", "merged", "--fail-on", "accuracy:1pt"),
        ("export", "merged", "bmp50+kd", tmp_path / "exported"),
        ("study", "merged", "--out", tmp_path),
        ("baseline", "save", "merged", "parted"),
    ):
        process = bench(*arguments, cwd=finished.cwd)
        assert process.returncode == 0, (arguments, process.stderr)
    shutil.rmtree(finished.cwd / "baselines")


def test_a_merged_run_does_not_go_on(merged: Both) -> None:
    process = bench("run", "--resume", "merged", cwd=merged[0].cwd)
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert "was merged from others; go on with those by --resume, and merge them again" in process.stderr


def test_a_shard_that_is_missing_is_named_and_the_exit_code_tells(
    finished: Finished, shards: list[Path], tmp_path: Path
) -> None:
    process = bench("merge", "shard2", "--out", tmp_path / "half", "--json", cwd=finished.cwd)
    assert process.returncode == 1
    assert "shard 1/2 is missing" in process.stderr.splitlines()
    half = Run.model_validate_json(process.stdout)
    assert half.status == "interrupted"
    assert half.config.variants == WHOLE
    assert [row.variant for row in half.results] == ["dense", "mp"]
    assert not any(row.recommended for row in half.results)


def test_torch_is_not_imported(finished: Finished, shards: list[Path], tmp_path: Path) -> None:
    program = (
        "import sys; from bench.cli import main\n"
        f"sys.argv = ['bench', 'merge', 'shard1', 'shard2', '--out', {str(tmp_path / 'out')!r}]\n"
        "try:\n    main()\n"
        "finally:\n    print({'torch', 'transformers'} & sys.modules.keys(), file=sys.stderr)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=finished.cwd, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr.splitlines()[-1] == "set()"


def part_of(
    finished: Finished, place: Path, variants: Sequence[str], number: int = 0, change: Change | None = None
) -> Path:
    """A run folder with these variants of the finished run, a shard of three where it has a number."""
    shutil.copytree(finished.folder, place)
    document = json.loads((place / "run.json").read_text())
    document["config"] |= {"variants": list(variants)}
    if number:
        document["config"] |= {"shard": [number, 3], "sweep": WHOLE}
    document["results"] = [row for row in document["results"] if row["variant"] in variants]
    if change:
        change(document)
    (place / "run.json").write_text(json.dumps(document))
    return place


def merged_of(*places: Path) -> Merged:
    with ExitStack() as stack:
        return merge(
            in_order([stack.enter_context(opened(place)) for place in places]), "both", "bench merge"
        )


def refusal_of(*places: Path) -> str:
    with pytest.raises(InputError) as caught:
        merged_of(*places)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def row_of(run: Run, variant: str) -> Result:
    found = run.result(variant)
    assert found is not None
    return found


@pytest.fixture
def three(finished: Finished, tmp_path: Path) -> list[Path]:
    """Three shards of the finished run; the last has dense alone."""
    own = (["dense", "bmp50+kd"], ["dense", "mp"], ["dense"])
    return [part_of(finished, tmp_path / f"{i}", names, i) for i, names in enumerate(own, start=1)]


def change_document(place: Path, change: Change) -> None:
    document = json.loads((place / "run.json").read_text())
    change(document)
    (place / "run.json").write_text(json.dumps(document))


def test_what_was_parted_and_merged_is_what_it_was(finished: Finished, three: list[Path]) -> None:
    run = merged_of(*three).run
    assert run.results == finished.document.results
    assert run.fingerprints == finished.document.fingerprints
    assert run.environment == finished.document.environment


def test_the_wall_time_is_the_sum_and_says_so(finished: Finished, three: list[Path]) -> None:
    wall_time, one = merged_of(*three).run.wall_time, finished.document.wall_time
    assert wall_time
    assert one
    assert wall_time.value == pytest.approx(3 * one.value)
    assert "the sum over 3 runs" in wall_time.source


def test_it_began_when_the_first_did(finished: Finished, three: list[Path]) -> None:
    change_document(three[1], lambda document: document.update(started_at="2020-01-01T00:00:00Z"))
    assert merged_of(*three).run.started_at.year == 2020


def test_sweeps_of_other_variants_that_are_no_shards_are_merged_as_given(
    finished: Finished, tmp_path: Path
) -> None:
    places = [part_of(finished, tmp_path / name, ["dense", name]) for name in ("mp", "bmp50+kd")]
    made = merged_of(*places)
    assert made.run.status == "complete"
    assert [row.variant for row in made.run.results] == ["dense", "mp", "bmp50+kd"]
    assert remarks(made) == []


def best_alone(document: Document) -> None:
    """The shard's variant as if it were fast, answered as dense on many rows, and was recommended there."""
    row = document["results"][-1]
    ratio = 3.0 if row["variant"] == "mp" else 2.0
    row["metrics"]["speedup"] |= {"value": ratio, "ci_low": ratio - 0.1, "ci_high": ratio + 0.1}
    row["verdicts"]["speedup"] |= {"word": "faster", "ratio": ratio}
    for verdict in row["accuracy_kept"].values():
        verdict |= {"word": "kept", "difference": 0.0, "gained": 0, "lost": 0, "rows": 5000}
    row["recommended"] = True


def test_the_best_of_all_is_recommended_and_no_longer_that_of_each_shard(
    finished: Finished, tmp_path: Path
) -> None:
    parts = [
        part_of(finished, tmp_path / "1", ["dense", "bmp50+kd"], 1, best_alone),
        part_of(finished, tmp_path / "2", ["dense", "mp"], 2, best_alone),
        part_of(finished, tmp_path / "3", ["dense"], 3),
    ]
    assert [row.variant for row in merged_of(*parts).run.results if row.recommended] == ["mp"]
    assert not any(row.recommended for row in merged_of(*parts[:2]).run.results), "a shard is missing"


def test_a_combination_and_its_parts_in_other_shards_are_set_beside_each_other(
    finished: Finished, tmp_path: Path
) -> None:
    def combined(document: Document) -> None:
        document["results"][-1]["parts"] = ["mp", "bmp50+kd"]

    whole = part_of(finished, tmp_path / "whole", ["dense", "bmp50+kd"], 1)
    alone = part_of(finished, tmp_path / "alone", ["dense", "mp"], 2)
    third = part_of(finished, tmp_path / "third", ["dense", "sorted"], 3)
    document = json.loads((alone / "run.json").read_text())
    together = json.loads(json.dumps(document["results"][-1]))
    together |= {"variant": "sorted", "parts": ["bmp50+kd", "mp"]}
    change_document(third, lambda found: found["results"].append(together))
    shutil.copy(alone / "predictions" / "mp.jsonl", third / "predictions" / "sorted.jsonl")
    for place in (whole, alone, third):
        change_document(place, lambda found: found["config"].update(sweep=[*WHOLE, "sorted"]))
    interplay = row_of(merged_of(whole, alone, third).run, "sorted").interplay
    assert interplay
    assert set(interplay.alone) == {"bmp50+kd", "mp"}
    change_document(third, lambda found: found["environment"].update(machine_key="abcdef"))
    assert row_of(merged_of(whole, alone, third).run, "sorted").interplay is None


def elsewhere(document: Document) -> None:
    document["environment"] |= {"machine_key": "abcdef", "cpu_model": "Another CPU", "cpu_cores": 64}


def test_rows_of_another_machine_say_so_and_keep_what_was_concluded_there(
    finished: Finished, tmp_path: Path
) -> None:
    def costly(document: Document) -> None:
        elsewhere(document)
        row = document["results"][-1]
        row["unavailable"]["break_even"] = row["unavailable"]["training_speedup"] = "said there"
        row["metrics"].pop("break_even", None)
        row["metrics"].pop("training_speedup", None)

    places = [
        part_of(finished, tmp_path / "1", ["dense", "bmp50+kd"], 1),
        part_of(finished, tmp_path / "2", ["dense", "mp"], 2, costly),
        part_of(finished, tmp_path / "3", ["dense"], 3, elsewhere),
    ]
    run = merged_of(*places).run
    assert [row.machine for row in run.results] == [None, None, "abcdef"]
    assert run.environment.machine_key == finished.document.environment.machine_key
    assert row_of(run, "mp").unavailable["break_even"] == "said there"
    assert row_of(run, "mp").unavailable["training_speedup"] == "said there"
    cautions = {caution.code: caution for caution in run.environment.warnings}
    assert "shard 2/3 (dense, mp): the machine: " in cautions["several-machines"].text
    assert "Another CPU, 64 cores (abcdef)" in cautions["several-machines"].text


def test_times_and_energies_of_two_machines_of_one_kind_are_not_set_against_each_other(
    finished: Finished, tmp_path: Path
) -> None:
    """Each shard had a host of its own: its key tells the kind alone."""

    def slower(document: Document) -> None:
        for row in document["results"]:
            row["metrics"]["training_step_time"]["value"] *= 10

    places = [
        part_of(finished, tmp_path / "1", ["dense", "mp"], 1),
        part_of(finished, tmp_path / "2", ["dense", "bmp50+kd"], 2, slower),
        part_of(finished, tmp_path / "3", ["dense"], 3),
    ]
    before = row_of(finished.document, "bmp50+kd").metrics["training_speedup"]
    assert row_of(merged_of(*places).run, "bmp50+kd").metrics["training_speedup"] == before


def test_the_same_machine_set_up_otherwise_is_a_caution(finished: Finished, tmp_path: Path) -> None:
    def other_threads(document: Document) -> None:
        document["environment"]["threads"] += 1

    places = [
        part_of(finished, tmp_path / "1", ["dense", "bmp50+kd"], 1),
        part_of(finished, tmp_path / "2", ["dense", "mp"], 2, other_threads),
    ]
    run = merged_of(*places).run
    assert [row.machine for row in run.results] == [None, None, None]
    (caution,) = [each for each in run.environment.warnings if each.code == "several-machines"]
    assert "shard 2/3 (dense, mp): threads: " in caution.text


def test_libraries_of_two_versions_are_a_caution_and_one_that_is_not_there_none(
    finished: Finished, tmp_path: Path
) -> None:
    def with_versions(document: Document, versions: dict[str, str]) -> None:
        document["environment"]["versions"] |= versions

    places = [
        part_of(finished, tmp_path / str(number), names, number, partial(with_versions, versions=versions))
        for number, names, versions in (
            (1, ["dense", "bmp50+kd"], {"torchao": "absent", "onnx": "1.20.0"}),
            (2, ["dense", "mp"], {"torchao": "0.17.0", "onnx": "absent"}),
            (3, ["dense"], {"torchao": "0.18.0", "onnx": "absent"}),
        )
    ]
    run = merged_of(*places).run
    (caution,) = [each for each in run.environment.warnings if each.code == "several-machines"]
    named = "shard 3/3 (dense): the version of torchao: 0.18.0, and 0.17.0 in shard 2/3"
    assert caution.text.endswith(f"set up as that of shard 1/3: {named}")


def test_another_dense_is_told_of_with_the_rows_it_differs_in(finished: Finished, tmp_path: Path) -> None:
    def three_rows_otherwise(document: Document) -> None:
        dense = document["results"][0]
        dense["right"] = f"{int(dense['right'][0], 16) ^ 0b1011:x}{dense['right'][1:]}"

    places = [
        part_of(finished, tmp_path / "1", ["dense", "bmp50+kd"], 1),
        part_of(finished, tmp_path / "2", ["dense", "mp"], 2, three_rows_otherwise),
        part_of(finished, tmp_path / "3", ["dense"], 3),
    ]
    made = merged_of(*places)
    rows = made.run.task.rows["test"]
    (note,) = [note for note in row_of(made.run, "dense").notes if "another one" in note]
    assert f"shard 2/3 made another one (seed 0): 3 of {rows} test rows" in note
    assert remarks(made) == [f"dense: {note}"]
    assert row_of(made.run, "dense").right == row_of(finished.document, "dense").right
    assert row_of(made.run, "mp").accuracy_kept == row_of(finished.document, "mp").accuracy_kept


def test_a_shard_that_was_interrupted_is_taken_and_named(finished: Finished, three: list[Path]) -> None:
    def broken_off(document: Document) -> None:
        document["status"] = "interrupted"
        document["results"] = document["results"][:1]

    change_document(three[1], broken_off)
    made = merged_of(*three)
    assert made.run.status == "interrupted"
    (line,) = remarks(made)
    assert line.startswith("shard 2/3 was interrupted (without mp); go on with bench run --resume ")


def test_cautions_are_those_of_all_each_once(finished: Finished, three: list[Path]) -> None:
    steal = {"code": "steal", "text": "seen by the second: times are high", "remedy": "wait"}
    quota = {"code": "quota", "text": "seen by the third", "remedy": "wait"}
    stale = {"code": "further-training", "text": "of a shard alone", "remedy": "wait"}
    second, third = [steal, stale], [{**steal, "text": "seen by the third: times are high"}, quota]
    change_document(three[0], lambda found: found["environment"].update(warnings=[]))
    change_document(three[1], lambda found: found["environment"].update(warnings=second))
    change_document(three[2], lambda found: found["environment"].update(warnings=third))
    texts = [caution.text for caution in merged_of(*three).run.environment.warnings]
    assert "shard 2/3: seen by the second; shard 3/3: seen by the third: times are high" in texts
    assert texts.count("seen by the third") == 1
    assert "of a shard alone" not in texts


def test_several_seeds_keep_their_files_apart(finished: Finished, tmp_path: Path) -> None:
    places = []
    for number, names in enumerate((["dense", "bmp50+kd"], ["dense", "mp"], ["dense"]), start=1):
        place = part_of(finished, tmp_path / str(number), names, number)
        document = json.loads((place / "run.json").read_text())
        document["config"]["seeds"] = [0, 1]
        rows = document["results"]
        document["results"] = [{**row, "seed": seed} for row in rows for seed in (0, 1)]
        (place / "run.json").write_text(json.dumps(document))
        for name in names:
            for seed in (0, 1):
                text = f"{name} {seed}"
                predictions = place / "predictions" / f"{name}.jsonl"
                own = predictions.with_name(f"{name}.seed{seed}.jsonl")
                own.write_text(" " * seed + predictions.read_text())
                artifact = place / "artifacts" / f"{name}.seed{seed}"
                artifact.mkdir()
                (artifact / "config.json").write_text(text)
        places.append(place)
    made = merged_of(*places)
    folder = RunFolder.create(tmp_path / "out", 0)
    made.files_to(folder)
    assert [(row.variant, row.seed) for row in made.run.results] == [(n, s) for n in WHOLE for s in (0, 1)]
    for row in made.run.results:
        text = f"{row.variant} {row.seed}"
        assert row.artifact == f"artifacts/{row.variant}.seed{row.seed}"
        assert (folder.path / row.artifact / "config.json").read_text() == text
        name = f"{row.variant}.seed{row.seed}"
        before = finished.folder / "predictions" / f"{row.variant}.jsonl"
        assert folder.predictions(name).read_text() == " " * row.seed + before.read_text()


def test_logs_and_traces_come_along_and_what_is_not_there_is_not_named(
    finished: Finished, three: list[Path], tmp_path: Path
) -> None:
    for place in three[:2]:
        (place / "logs").mkdir()
        (place / "logs" / "int8-compress.txt").write_text(f"log of {place.name}")
    shutil.rmtree(three[1] / "artifacts" / "mp")
    folder = RunFolder.create(tmp_path / "out", 0)
    made = merged_of(*three)
    made.files_to(folder)
    assert (folder.path / "logs/shard-1/int8-compress.txt").read_text() == "log of 1"
    assert (folder.path / "logs/shard-2/int8-compress.txt").read_text() == "log of 2"
    assert row_of(made.run, "mp").artifact is None
    assert any("its artifact was not in" in note for note in row_of(made.run, "mp").notes)
    assert not any("was not in" in note for note in row_of(made.run, "bmp50+kd").notes)
    assert row_of(made.run, "bmp50+kd").artifact == "artifacts/bmp50+kd"
    # Broken off before its document was written, a merge is done again.
    made.files_to(folder)


def test_keep_best_keeps_the_best_of_all(finished: Finished, tmp_path: Path) -> None:
    def best(document: Document) -> None:
        best_alone(document)
        document["config"]["keep"] = "best"

    parts = [
        part_of(finished, tmp_path / str(number), ["dense", name], 0, best)
        for number, name in enumerate(["bmp50+kd", "mp"])
    ]
    run = merged_of(*parts).run
    assert {row.variant: row.artifact for row in run.results} == {
        "dense": None,
        "bmp50+kd": None,
        "mp": "artifacts/mp",
    }
    assert NOT_KEPT not in row_of(run, "mp").notes


def test_the_best_of_all_says_where_its_shard_kept_another_model(finished: Finished, tmp_path: Path) -> None:
    def second_best(document: Document) -> None:
        best_alone(document)
        document["config"]["keep"] = "best"
        document["results"][-1]["artifact"] = None

    run = merged_of(part_of(finished, tmp_path / "1", ["dense", "mp"], 0, second_best)).run
    assert row_of(run, "mp").recommended
    assert NOT_KEPT in row_of(run, "mp").notes


REFUSED: dict[str, tuple[Change, str]] = {
    "rows": (
        lambda found: found["fingerprints"].update(rows="0" * 16),
        "the hash of the rows: 000000000000, and",
    ),
    "code": (
        lambda found: found["fingerprints"].update(code="0" * 64),
        "the hash of the code: 000000000000, and",
    ),
    "budget": (
        lambda found: found["config"].update(budget="standard"),
        "the budget: standard, and quick in",
    ),
    "seeds": (lambda found: found["config"].update(seeds=[0, 1]), "the seeds: [0, 1], and [0] in"),
    "count": (lambda found: found["config"].update(shard=[2, 4]), "the number of shards: 4, and 3 in"),
    "no shard": (lambda found: found["config"].update(shard=None), "the number of shards: 3, and none in"),
    "sweep": (
        lambda found: found["config"].update(sweep=[*WHOLE, "int8"]),
        "the whole sweep's int8: there, and missing in",
    ),
    "running": (lambda found: found.update(status="running"), "end it with bench run --resume"),
    "same shard": (lambda found: found["config"].update(shard=[1, 3]), "is shard 1/3, as "),
    "a variant twice": (
        lambda found: found["config"].update(variants=["dense", "bmp50+kd"]),
        "has bmp50+kd, as ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_of_one_sweep_is_refused_in_one_line(case: str, three: list[Path]) -> None:
    change, expected = REFUSED[case]
    change_document(three[1], change)
    assert expected in refusal_of(*three)


def test_shards_may_be_of_machines_with_other_numbers_of_cores(three: list[Path]) -> None:
    change_document(three[1], lambda found: found["config"].update(thread_counts=[1, 2]))
    assert "the thread counts: [1, 2], and []" in refusal_of(*three)
    for place in three:
        change_document(place, lambda found: found["config"].update(budget="thorough"))
    assert merged_of(*three).run.status == "complete"


def test_a_checkpoint_that_one_shard_alone_reads_is_no_contradiction(three: list[Path]) -> None:
    change_document(three[0], lambda found: found["fingerprints"].update({"checkpoint a": "1"}))
    change_document(three[1], lambda found: found["fingerprints"].update({"checkpoint b": "2"}))
    known = merged_of(*three).run.fingerprints
    assert (known["checkpoint a"], known["checkpoint b"]) == ("1", "2")
    change_document(three[2], lambda found: found["fingerprints"].update({"checkpoint b": "3"}))
    assert "the hash of the checkpoint b: 3, and 2" in refusal_of(*three)


def test_a_folder_in_which_a_run_works_is_refused(three: list[Path]) -> None:
    with hold(three[1] / ".lock", "--out"):
        assert "is working there; wait until it has ended" in refusal_of(*three)


def test_a_folder_without_its_predictions_is_refused(three: list[Path]) -> None:
    (three[1] / "predictions" / "mp.jsonl").unlink()
    assert "mp.jsonl: cannot be read (" in refusal_of(*three)


def test_predictions_that_were_cut_are_refused(three: list[Path]) -> None:
    place = three[1] / "predictions" / "mp.jsonl"
    lines = place.read_text().splitlines(keepends=True)
    place.write_text("".join(lines[:-1]))
    assert re.search(
        r"mp\.jsonl: answers \d+ of \d+ test rows; copy the whole run folder again$", refusal_of(*three)
    )
    place.write_text("".join(lines)[:-9])
    assert "mp.jsonl: cannot be read (" in refusal_of(*three)


def test_a_link_out_of_a_shard_is_refused(three: list[Path], tmp_path: Path) -> None:
    """Its target would become a file of the merged run's, which may be published."""
    (tmp_path / "secret").write_text("of the reader's")
    (three[1] / "artifacts" / "mp" / "chat_template.jinja").symlink_to(tmp_path / "secret")
    assert "chat_template.jinja: a link that leads out of the folder" in refusal_of(*three)


def test_a_document_alone_is_refused(three: list[Path]) -> None:
    assert "is not a folder" in refusal_of(three[0] / "run.json", three[1])
    assert "cannot be read (File name too long)" in refusal_of(three[0], Path("a" * 300))


def test_where_a_run_lies_no_other_is_merged(finished: Finished, three: list[Path]) -> None:
    process = bench("merge", *three, "--out", three[0], cwd=finished.cwd)
    assert process.returncode == 2
    assert "holds a run already" in process.stderr


def test_a_failed_row_makes_the_exit_code_that_of_a_run(
    finished: Finished, three: list[Path], tmp_path: Path
) -> None:
    def fail(document: Document) -> None:
        row = document["results"][-1]
        document["results"][-1] = {**row, "status": "failed", "reason": "out of luck", "artifact": None}

    change_document(three[1], fail)
    process = bench("merge", *three, "--out", tmp_path / "out", cwd=finished.cwd)
    assert process.returncode == 1, process.stderr
    assert read_run(tmp_path / "out").status == "complete"
