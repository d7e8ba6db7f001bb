"""After how many texts the energy spent on compressing is repaid by the energy saved on each of them."""

from __future__ import annotations

import math

from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import DENSE, Result, Run
from bench.statistics import Interval

BREAK_EVEN = "break_even"
SPENT, PER_TEXT = "compress_energy", "inference_energy_per_sample"
MODELLED = "energy is modelled here, and a break-even count of modelled joules would be time in disguise"


def add_break_even(run: Run) -> None:
    """Put `break_even` into every measured row, or the reason why there is none; done twice it is the same.

    A row is compared with dense at its seed. What was taken over from an earlier run has its original cost.
    """
    dense = {row.seed: row for row in run.results if row.variant == DENSE and row.status == "ok"}
    for result in run.results:
        if result.status != "ok":
            continue
        result.metrics.pop(BREAK_EVEN, None)
        result.unavailable.pop(BREAK_EVEN, None)
        found = break_even(result, dense.get(result.seed))
        if isinstance(found, Measurement):
            result.metrics[BREAK_EVEN] = found
        else:
            result.unavailable[BREAK_EVEN] = found


def break_even(result: Result, dense: Result | None) -> Measurement | str:
    """The count from the variant's energies and dense's, or why they give none."""
    if result.variant == DENSE:
        return "dense is what the others are made from"
    if dense is None:
        return "dense was not measured at this seed"
    for row, name in ((result, SPENT), (result, PER_TEXT), (dense, PER_TEXT)):
        if name not in row.metrics:
            whose = f"dense's {name}" if row is dense else name
            return f"{whose} is missing: {row.unavailable.get(name, 'it was not measured')}"
    if result.machine != dense.machine:
        return "its energy was measured on another machine than dense's"
    if result.batch_size != dense.batch_size:
        return "its energy is of smaller batches than dense's, since memory did not suffice"
    spent, own, before = result.metrics[SPENT], result.metrics[PER_TEXT], dense.metrics[PER_TEXT]
    if spent.estimated or own.estimated or before.estimated:
        return MODELLED
    sources = dict.fromkeys((spent.source, own.source, before.source))
    if len(sources) > 1:
        return f"the energies come from different sources: {'; '.join(sources)}"
    if own.ci_low is None or before.ci_low is None:
        return "the energy of a text has no interval"
    return texts_to_repay(spent, before, own)


def texts_to_repay(spent: Measurement, before: Measurement, own: Measurement) -> Measurement | str:
    """The energy spent over what a text saves, `before` less `own`, in texts, or why it is not repaid.

    Compressing is one reading without an interval, so the count's is that of the saving, inverted: it ends
    only where the whole interval of the saving lies above zero, and there is no count elsewhere. The energies
    are net of idle and from one source; where that is off by a factor, the count is still right.
    """
    saved_j, (low_j, high_j) = difference(before, own)
    if high_j <= 0:
        more = f"{-saved_j:.3g} J a text, 95 % {-high_j:.3g} to {-low_j:.3g} J"
        return f"it uses more energy than dense, so it is never repaid: {more}"
    if low_j <= 0:
        saved = f"{saved_j:.3g} J a text, 95 % {low_j:.3g} to {high_j:.3g} J"
        return f"the energy saved is not shown to be above zero: {saved}"
    texts, interval = spent.value / saved_j, (spent.value / high_j, spent.value / low_j)
    return measured(BREAK_EVEN, texts, f"compressing over what a text saves, {spent.source}", interval)


def difference(one: Measurement, other: Measurement) -> tuple[float, Interval]:
    """`one` less `other`, measured independently, and its 95 % interval from their own intervals.

    By the method of variance estimates recovery (Zou and Donner, Statistics in Medicine, 2008).
    """
    assert one.ci_low is not None
    assert one.ci_high is not None
    assert other.ci_low is not None
    assert other.ci_high is not None
    value = one.value - other.value
    below = math.hypot(one.value - one.ci_low, other.ci_high - other.value)
    above = math.hypot(one.ci_high - one.value, other.value - other.ci_low)
    return value, (value - below, value + above)
