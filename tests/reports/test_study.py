"""The study's table: reported beside reproduced, and a reason wherever a figure could not be reached."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.nouns.measurement import measured
from bench.nouns.run import Run
from bench.training_speedup import add_training_speedups
from reports import latex, markdown
from reports.parts import Report, Table
from reports.study import MODEL, ROWS, study_report
from tests.commands import bench
from tests.reports.test_markdown import hostile

MAHANEWS = {"train": 22_014, "validation": 2_750, "test": 2_761}
LIGHT = """
import sys
from typer.testing import CliRunner
from bench.cli import app
result = CliRunner().invoke(app, sys.argv[1:])
assert result.exit_code == 0, result.output
heavy = {"torch", "transformers", "accelerate"} & sys.modules.keys()
assert not heavy, heavy
"""


@pytest.fixture
def study(sixteen: Run) -> Run:
    """The study's own task with its own model, every row of it."""
    update = {"name": "mahanews-shc", "model": MODEL, "rows": MAHANEWS, "demonstration": False}
    return sixteen.model_copy(update={"task": sixteen.task.model_copy(update=update)})


def of_task(run: Run, **update: object) -> Run:
    return run.model_copy(update={"task": run.task.model_copy(update=update)})


def changed(run: Run, variant: str, **update: object) -> Run:
    results = [r.model_copy(update=update) if r.variant == variant else r for r in run.results]
    return run.model_copy(update={"results": results})


def quantity(run: Run, variant: str, name: str) -> tuple[str, ...]:
    """Reported, reproduced and interval, each with its remarks in words."""
    table = study_report(run).tables[0]
    [row] = [row for row in table.rows if row.label == variant and row.cells[0].startswith(name)]
    return tuple(in_words(cell, table) for cell in row.cells[1:])


def grid(run: Run) -> dict[str, dict[str, str]]:
    """The grid's cells by variant and column, with their remarks in words."""
    table = study_report(run).tables[1]
    heads = [header.text for header in table.headers]
    return {
        row.label: dict(zip(heads, (in_words(cell, table) for cell in row.cells), strict=True))
        for row in table.rows
    }


def in_words(cell: str, table: Table) -> str:
    """The cell with its number replaced by what stands beneath the table."""
    remarks = dict("".join(note).split(" ", 1) for note in table.notes)
    return re.sub(r"\(\d+\)$", lambda number: remarks[number[0]], cell)


def closing(run: Run) -> str:
    return "".join(study_report(run).closing)


def orientation(shown: Report) -> list[str]:
    return [fact.text for fact in shown.facts if fact.name == "For orientation"]


def test_markdown_and_latex(study: Run, golden: Callable[[str, str], None]) -> None:
    shown = study_report(study)
    golden("study.md", markdown.document(shown))
    golden("study.tex", latex.document(shown))


@pytest.mark.parametrize(
    ("task", "accuracy", "macro_f1"),
    [
        ("mahanews-shc", "91.163", "90.230"),
        ("mahanews-lpc", "86.731", "84.915"),
        ("mahanews-ldc", "94.706", "93.589"),
        ("mahanews-all", "86.731 to 94.706", "84.915 to 93.589"),
    ],
)
def test_each_task_has_its_published_figures(study: Run, task: str, accuracy: str, macro_f1: str) -> None:
    run = of_task(study, name=task)
    assert quantity(run, "dense", "Accuracy")[0].startswith(f"{accuracy} MahaBERT")
    assert quantity(run, "dense", "Macro-F1")[0].startswith(f"{macro_f1} MahaBERT")
    assert not orientation(study_report(run))


def test_dense_is_reproduced_with_its_intervals(study: Run) -> None:
    assert quantity(study, "dense", "Accuracy")[1:] == ("91.37", "90.76 to 91.95")
    assert quantity(study, "dense", "Macro-F1")[1:] == ("90.14", "89.27 to 90.94")


def test_both_meanings_of_computation_time_stand_beside_the_headline(study: Run) -> None:
    reported, reproduced, interval = quantity(study, "bmp25+kd", "Speedup")
    assert reported.startswith("2.56 the study's computation time is not defined")
    assert (reproduced, interval) == ("2.07", "2.05 to 2.12")
    reported, reproduced, interval = quantity(study, "bmp25+kd", "Training speedup")
    assert reported.startswith("2.56 the study's computation time is not defined")
    assert reproduced == "2.67"
    assert interval.startswith("– no interval: ")
    assert "not paired" in interval


def test_the_accuracy_change_has_its_word_and_bounds(study: Run) -> None:
    assert quantity(study, "bmp25+kd", "Δ") == (
        "unchanged",
        "−0.2, kept",
        "−0.8 to +0.4 one-sided 95 % bounds",
    )


@pytest.mark.parametrize("task", ROWS)
def test_fewer_rows_than_published_are_said_beside_the_accuracy(study: Run, task: str) -> None:
    rows = ROWS[task]
    assert quantity(of_task(study, name=task, rows=rows), "dense", "Accuracy")[1] == "91.37"
    limited = of_task(study, name=task, rows=rows | {"test": 500})
    lacking = f"with 500 of the {rows['test']:,} published test rows"
    assert quantity(limited, "dense", "Accuracy")[1] == f"91.37 {lacking}"
    assert quantity(limited, "bmp25+kd", "Δ")[1] == f"−0.2, kept {lacking}"
    assert quantity(limited, "bmp25+kd", "Speedup")[1] == "2.07"
    assert (lacking,) in study_report(limited).tables[1].notes


def test_another_task_or_model_is_said_above_the_table(study: Run, run: Run) -> None:
    [both] = orientation(study_report(run))
    assert "the model is one trained from the task's own rows" in both
    assert "the data are ag-news, not MahaNews" in both
    [model] = orientation(study_report(of_task(study, model="someone/else")))
    assert "someone/else" in model
    assert "data" not in model
    assert not orientation(study_report(of_task(study, model=f"{MODEL}@main")))
    assert quantity(run, "dense", "Accuracy")[0].startswith("86.731 to 94.706 ")


def test_the_grid_names_all_sixteen_and_what_the_run_lacks(study: Run) -> None:
    shown = grid(study)
    assert len(shown) == 16
    assert shown["bmp25"]["Reported speedup"] == "– not reported, or not at hand"
    assert shown["bmp25+kd"]["Reported speedup"].startswith("2.56 ")
    assert shown["bmp75+kd"]["Speedup over dense ↑"] == "3.60 ± 0.09"
    assert shown["bmp75+kd"]["Energy per row ↓"] == "~13.4 mJ"
    assert shown["bmp75+kd"]["Allocator peak ↓"] == "– peak memory allocator: no CUDA device was used"
    assert shown["mp"]["Training speedup ↑"] == "– training speedup: nothing is trained"
    fewer = study.model_copy(update={"results": study.results[:3]})
    assert list(grid(fewer))[4:7] == ["kd:layers=all", "bmp25+kd:layers=all", "bmp50+kd:layers=all"]
    absent = grid(fewer)["bmp75"]
    assert len(grid(fewer)) == 16
    assert {cell for head, cell in absent.items() if head != "Reported speedup"} == {
        "– not in this run; name it with --variants"
    }


def test_failed_skipped_and_interrupted_variants_say_so(study: Run) -> None:
    run = changed(study, "bmp25+kd", status="failed", reason="out of memory", metrics={}, accuracy_kept={})
    assert quantity(run, "bmp25+kd failed", "Speedup")[1:] == ("– failed: out of memory",) * 2
    assert quantity(run, "bmp25+kd failed", "Δ")[1:] == ("– failed: out of memory",) * 2
    assert grid(run)["bmp25+kd failed"]["Host peak ↓"] == "– failed: out of memory"
    assert "failed: out of memory" in closing(run)
    broken_off = study.model_copy(update={"status": "interrupted", "results": []})
    reason = "– not in this run, which is not complete (interrupted)"
    assert quantity(broken_off, "dense", "Accuracy")[1] == reason
    assert quantity(broken_off, "bmp25+kd:layers=all", "Speedup")[1] == reason


def test_an_interrupted_run_has_the_training_times_that_it_has(study: Run) -> None:
    run = study.model_copy(update={"status": "interrupted", "results": study.results[:6]}, deep=True)
    add_training_speedups(run)
    shown = grid(run)
    assert shown["dense"]["Training speedup ↑"] == "1.00"
    assert shown["bmp25+kd"]["Training speedup ↑"] == grid(study)["bmp25+kd"]["Training speedup ↑"]
    assert shown["mp"]["Training speedup ↑"] == "– not in this run, which is not complete (interrupted)"
    del run.results[0].metrics["training_step_time"]
    add_training_speedups(run)
    assert "no training without compression" in grid(run)["bmp25+kd"]["Training speedup ↑"]


def test_a_path_that_looks_like_a_student_is_none(study: Run) -> None:
    loaded = study.results[1].model_copy(update={"variant": "load:runs/x/bmp25+kd"})
    names = list(grid(study.model_copy(update={"results": [study.results[0], loaded]})))
    assert "bmp25+kd:layers=all" in names
    assert "bmp25+kd" not in names
    assert len(names) == 17


def test_neither_file_says_where_something_lies(study: Run, tmp_path: Path) -> None:
    model, other = str(tmp_path / "my model"), str(tmp_path / "runs" / "bmp25")
    broken = {"status": "failed", "reason": f"{model}: broken (log: {tmp_path}/log)", "metrics": {}}
    run = changed(of_task(study, model=model), "bmp50", **broken)
    loaded = study.results[1].model_copy(update={"variant": f"load:{other}"})
    config = run.config.model_copy(update={"command": f"bench run --model '{model}'"})
    checkpoints = {model: None, other: None}
    update = {"config": config, "checkpoints": checkpoints, "results": [*run.results, loaded]}
    (tmp_path / "run.json").write_text(run.model_copy(update=update).model_dump_json())
    done = bench("study", "run.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ((tmp_path / name).read_text() for name in ("study.md", "study.tex")):
        assert tmp_path.name not in text
        assert str(tmp_path.parent) not in text
        assert "my model: broken (log: log)" in text
        assert "load:bmp25" in text


def test_students_of_either_depth_are_shown(study: Run) -> None:
    full = [
        result.model_copy(update={"variant": result.variant.replace("kd", "kd:layers=all")})
        for result in study.results
    ]
    renamed = study.model_copy(update={"results": full})
    assert {row.label for row in study_report(renamed).tables[0].rows} == {"dense", "bmp25+kd:layers=all"}
    assert [name.replace("kd:layers=all", "kd") for name in grid(renamed)] == list(grid(study))
    both = study.model_copy(update={"results": [*study.results, *(r for r in full if "kd" in r.variant)]})
    headlines = {row.label for row in study_report(both).tables[0].rows}
    assert headlines == {"dense", "bmp25+kd", "bmp25+kd:layers=all"}
    assert len(grid(both)) == 24
    assert closing(both).count("2.07 times as fast") == 2


def test_seeds_are_rows_of_their_own(seeded: Run) -> None:
    names = [row.label for row in study_report(seeded).tables[0].rows]
    assert names[:4] == ["dense (seed 1)"] * 2 + ["dense (seed 2)"] * 2
    assert "mp (seed 2)" in grid(seeded)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((2.56, 2.80), "at least the reported 2.56; accuracy kept"),
        ((2.40, 2.55), "below the reported 2.56"),
        ((2.40, 2.70), "which leaves the reported 2.56 open"),
    ],
)
def test_the_last_sentence_says_what_the_interval_supports(
    study: Run, interval: tuple[float, float], said: str
) -> None:
    result = study.result("bmp25+kd")
    assert result
    speedup = measured("speedup", sum(interval) / 2, "paired rounds", interval)
    assert said in closing(changed(study, "bmp25+kd", metrics=result.metrics | {"speedup": speedup}))


def test_the_last_sentence_is_of_all_seeds(study: Run) -> None:
    result = study.result("bmp25+kd")
    assert result
    ratios = [measured("speedup", low + 0.1, "paired rounds", (low, low + 0.2)) for low in (2.6, 2.4)]
    seeds = [
        result.model_copy(update={"seed": seed, "metrics": result.metrics | {"speedup": speedup}})
        for seed, speedup in enumerate(ratios)
    ]
    said = closing(study.model_copy(update={"results": seeds}))
    assert "2.50 to 2.70 times" in said
    assert "(2.40 to 2.80) over 2 of 2 seeds, which leaves" in said


@pytest.mark.parametrize("text", ["a|b", "\\input{x}", "*strong*", "100 % & more", "two\nlines"])
def test_text_from_outside_changes_no_table(run: Run, text: str) -> None:
    shown, harmless = (study_report(hostile(run, word)) for word in (text, "h" * len(text)))
    for render in (markdown.document, latex.document):
        assert render(shown).count("\n") == render(harmless).count("\n")


def test_every_cell_has_a_figure_or_a_reason(run: Run, study: Run, seeded: Run, slowed: Run) -> None:
    for shown in (run, study, seeded, slowed):
        for table in study_report(shown).tables:
            remarks = {"".join(note).split(" ")[0] for note in table.notes}
            numbers = {cell[2:] for row in table.rows for cell in row.cells if cell.startswith("–")}
            assert all(number and number in remarks for number in numbers)


def test_the_command_writes_both_files_into_the_runs_folder(study: Run, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/run.json").write_text(study.model_dump_json())
    done = bench("study", "saved", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "saved/study.md").read_text() == markdown.document(study_report(study))
    assert (tmp_path / "saved/study.tex").read_text() == latex.document(study_report(study))
    assert "Reported and reproduced" in done.stdout
    assert "study.tex of saved" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_the_command_writes_elsewhere_and_needs_no_torch(study: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(study.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, "study", "run.json", "--out", "deep/er"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "deep/er").iterdir()) == ["study.md", "study.tex"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["deep", "run.json"]


@pytest.mark.parametrize("out", ["run.json", "run.json/below", "/proc/none"])
def test_a_place_that_cannot_be_written_is_one_line_and_exit_2(study: Run, out: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(study.model_dump_json())
    done = bench("study", "run.json", "--out", out, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"bench: --out {out}: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
