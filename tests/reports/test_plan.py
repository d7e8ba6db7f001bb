"""`bench run --dry-run`: what would be run, whole at 80 columns and taken literally."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from bench.nouns.run import Run
from reports import plan

TRAINED = ["bmp25", "bmp25+kd+mp", "load:[red]/a/path"]


def printed(run: Run, time_s: float = 3120, width: int = 80, **config: object) -> str:
    out = io.StringIO()
    changed = run.config.model_copy(update={"variants": ["dense", "mp", *TRAINED], **config})
    task = run.task.model_copy(update={"notes": ["[bold]one[/] note", "another \x1b[31mnote"]})
    plan.render(task, changed, TRAINED, time_s, 42_300_000, Console(file=out, width=width))
    return out.getvalue()


def test_the_plan_at_80_columns(run: Run) -> None:
    assert printed(run).splitlines() == [
        "Plan",
        "task       English news, four topics",
        "rows       20,000 train, 3,000 validation, 7,597 test",
        "variants   3 trained: bmp25, bmp25+kd+mp, load:[red]/a/path",
        "           2 not trained further: dense, mp",
        "training   dense 1 epoch, each trained variant 3 epochs; learning rate 3e-05,",
        "           batch size 32, at most 128 tokens",
        "measuring  quick budget on cpu, seed 1",
        "           besides batch 1 and arrival order: 1 thread",
        "estimate   about 52 min and 42.3 MB on disk, if nothing is cached",
        "notes      - [bold]one[/] note",
        "           - another \\x1b[31mnote",
    ]


def test_a_dense_model_that_is_not_trained_is_said_to_be_used_as_it_came(run: Run) -> None:
    assert "dense used as it came," in printed(run, dense_epochs=0)


def test_every_scenario_that_is_asked_for_is_named(run: Run) -> None:
    out = printed(run, paddings=["fixed", "sorted"], shapes=[(1, 32), (8, 128)], thread_counts=[1, 4])
    assert "besides batch 1 and arrival order: fixed padding, sorted padding" in out
    assert "1x32, 8x128, 1 thread, 4 threads" in " ".join(out.split())


def test_nothing_is_besides_what_is_always_measured(run: Run) -> None:
    assert "besides" not in printed(run, thread_counts=[])


def test_seeds_and_deduplicated_rows_are_said(run: Run) -> None:
    out = printed(run, seeds=[3, 4, 5], deduplicate=True)
    assert "quick budget on cpu, seeds 3, 4, 5\n" in out
    assert "7,597 test after --deduplicate\n" in out
    assert "--deduplicate" not in printed(run)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(12, "about 12 s"), (95, "about 2 min"), (5400, "about 1.5 h")]
)
def test_times_are_rough(run: Run, seconds: float, shown: str) -> None:
    assert shown in printed(run, seconds)


def test_it_fits_any_terminal(run: Run) -> None:
    for width in (40, 60, 100):
        assert max(map(cell_len, printed(run, width=width).splitlines())) <= width
