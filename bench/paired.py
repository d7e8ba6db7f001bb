"""Two models as they are, one measured against the other: by the engine of a run, without a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.calibration import noise_floor, speed_margin
from bench.environment import fingerprint
from bench.errors import InputError, did_you_mean
from bench.nouns.measurement import Measurement
from bench.nouns.run import Budget, Scenario
from bench.nouns.task import Example, Task
from bench.nouns.verdict import AccuracyVerdict, SpeedVerdict
from bench.plan import choose_device
from bench.protocol import PROTOCOLS
from bench.tasks.files import FileOptions, load_files
from bench.workers import call_apart, start_server
from compressors import hub

ANCHOR, VARIANT = "anchor", "variant"
LEAST_TOKENS = 4


@dataclass(frozen=True)
class PairedRequest:
    """What a worker is told: folders of both models, and rows to judge them by as the task's test rows.

    A task without `labels` is of bare texts. Speed-ups within `margin` of 1 count as none.
    """

    variant: Path
    over: Path
    task: Task
    batch_size: int
    max_length: int
    budget: Budget
    device: str
    margin: float


@dataclass(frozen=True)
class PairedResult:
    """What was measured of a variant over another model.

    `scenario` holds the raw rounds, its contenders called `anchor` and `variant`. `accuracy` is None where
    the rows have no labels. `notes` are sentences on what was guessed, and on what disturbed the measuring.
    """

    speedup: Measurement
    verdict: SpeedVerdict
    throughput: Measurement
    accuracy: AccuracyVerdict | None
    scenario: Scenario = field(repr=False)
    notes: tuple[str, ...]


def measure_paired(
    variant: str | Path,
    over: str | Path,
    rows: str | Path | Sequence[str],
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    batch_size: int = 32,
    max_length: int = 128,
    budget: Budget = "quick",
    device: str = "auto",
) -> PairedResult:
    """Measure `variant` over `over`, each an artifact or a checkpoint, in a worker process.

    `rows` is a file or data set as `--test` takes it, its columns guessed where they are not named, or the
    bare texts. Raises `BenchError` where something cannot be used or measured.
    """
    check(batch_size, max_length, budget)
    task = read_rows(rows, text_column, label_column)
    chosen = choose_device(device)
    request = PairedRequest(
        variant=hub.fetch(str(variant)).absolute(),
        over=hub.fetch(str(over)).absolute(),
        task=task,
        batch_size=batch_size,
        max_length=max_length,
        budget=budget,
        device=chosen,
        margin=speed_margin(noise_floor(fingerprint(), chosen, budget)),
    )
    result = call_apart(start_server(), measure_here, request)
    return replace(result, notes=(*task.notes, *result.notes))


def check(batch_size: int, max_length: int, budget: str) -> None:
    """Raise `InputError` for a setting that nothing can be measured with."""
    if budget not in PROTOCOLS:
        raise InputError(f"budget={budget!r}: {did_you_mean(budget, list(PROTOCOLS))}")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: must be above 0")
    if max_length < LEAST_TOKENS:
        raise InputError(f"max_length={max_length}: must be at least {LEAST_TOKENS}, two tokens are special")


def read_rows(rows: str | Path | Sequence[str], text_column: str | None, label_column: str | None) -> Task:
    """The rows as a task's test rows; without labels where they are bare texts."""
    if isinstance(rows, str | Path):
        text_columns = (text_column,) if text_column else ()
        return load_files(
            FileOptions(
                train=None,
                test=rows,
                text_columns=text_columns,
                label_column=label_column,
                fine_tune=False,
            )
        )
    if not rows:
        raise InputError("rows: no texts; give the rows that the models are to classify")
    examples = tuple(Example(text, label=0) for text in rows)
    return Task("texts", f"{len(examples):,} texts.", labels=(), train=(), validation=(), test=examples)


def measure_here(request: PairedRequest) -> PairedResult:
    """The measurement, in a worker: torch is imported there already."""
    from bench.steps.paired import measure

    return measure(request)
