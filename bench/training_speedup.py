"""How much faster a variant's training is than training without compression."""

from __future__ import annotations

from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import DENSE, Result, Run

CONTROL = "ft"
STEP_TIME, SPEEDUP = "training_step_time", "training_speedup"


def add_training_speedups(run: Run) -> None:
    """Put `training_speedup` into every measured row, or the reason why there is none.

    It compares a step of ft's training at the same seed, or where there is none of dense's own fine-tuning,
    with one of the variant's. They were timed one after the other, so the ratio has no interval, and no
    verdict rests on it.
    """
    for result in run.results:
        if result.status != "ok":
            continue
        result.metrics.pop(SPEEDUP, None)
        result.unavailable.pop(SPEEDUP, None)
        found = training_speedup(result, reference(run, result.seed), CONTROL in run.config.variants)
        if isinstance(found, Measurement):
            result.metrics[SPEEDUP] = found
        else:
            result.unavailable[SPEEDUP] = found


def reference(run: Run, seed: int) -> Result | None:
    """The row whose training has nothing compressed, ft before dense; None where none was timed."""
    timed = {row.variant: row for row in run.results if row.seed == seed and STEP_TIME in row.metrics}
    return timed.get(CONTROL) or timed.get(DENSE)


def training_speedup(result: Result, control: Result | None, control_asked: bool) -> Measurement | str:
    """The ratio of the medians, 1 for the control itself, or why there is none.

    `control_asked` says that ft is among the run's variants: it failed then, or its turn has not come.
    """
    if STEP_TIME not in result.metrics:
        return result.unavailable.get(STEP_TIME, "its training was not timed")
    if control is None:
        remedy = f"{CONTROL} failed or did not run yet" if control_asked else f"add {CONTROL} to --variants"
        return f"no training without compression was timed to compare with; {remedy}"
    if result is control:
        return measured(SPEEDUP, 1.0, "definition")
    if result.variant == DENSE:
        return f"the variants' training is compared with {control.variant}'s"
    if result.machine != control.machine:
        return f"{control.variant}'s training was timed on another machine"
    value = control.metrics[STEP_TIME].value / result.metrics[STEP_TIME].value
    source = (
        f"median step of {control.variant}'s training over the variant's, one after the other, not paired"
    )
    return measured(SPEEDUP, value, source)
