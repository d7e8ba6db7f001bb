"""Two runs beside each other: what must agree, what has changed beyond noise, and what a gate makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.answers import changed
from bench.gate import KINDS, Floors, floors_of
from bench.nouns.comparison import Change, ChangeWord, Comparison, GateWord, Side, Threshold
from bench.nouns.environment import ABSENT, Device, Environment, WarningCode
from bench.nouns.measurement import METRICS, SPEEDUPS, Measurement
from bench.nouns.run import DENSE, Config, Result, Run
from bench.statistics import SPEED_MARGIN, Interval, beside, difference_bounds, quotient
from bench.statistics import Side as Place

ENERGY = "inference_energy_per_sample"
WORDS: dict[Place, ChangeWord] = {
    "above": "better",
    "below": "worse",
    "within": "same",
    "partly": "inconclusive",
}
MIRRORED: dict[Place, Place] = {"above": "below", "below": "above"}
# A byte more in a file's header is not worth a word.
SIZE_MARGIN = 0.001
DISTURBANCES: tuple[WarningCode, ...] = (
    "load",
    "steal",
    "throttling",
    "spinning",
    "busy-gpu",
    "gpu-throttling",
)
SETTINGS = ("threads", "affinity", "governor", "variables", "fp32_precision")
WHICH_GPU = "CUDA_VISIBLE_DEVICES"
PROTOCOL = {
    "protocol_version": "the protocol",
    "device": "the device",
    "budget": "the budget",
    "batch_size": "the batch size",
    "max_length": "the greatest length",
}
MAKING = {
    "epochs": "the variants' epochs",
    "dense_epochs": "dense's epochs",
    "learning_rate": "the variants' learning rate",
    "dense_learning_rate": "dense's learning rate",
    "train_processes": "the processes that train",
}
OF_THE_MODEL = ("disk_size", "parameters", "encoder_parameters", "flops_per_sample")
OF_ONE_ROW = "latency_b1_"


@dataclass(frozen=True)
class Asked:
    """How to compare: the thresholds of the gate, whether it is strict, and whether machines may differ."""

    thresholds: Sequence[Threshold] = ()
    strict: bool = False
    relative: bool = False


@dataclass(frozen=True)
class Rules:
    """What all rows are judged by.

    `test_rows` is how many rows accuracy is of; `disturbed` what kept a machine from its usual speed, if
    anything did: absolute times of it are no measure of the software then.
    """

    thresholds: Sequence[Threshold]
    floors: Floors
    accuracy_margin: float
    test_rows: int
    disturbed: str | None
    relative: bool

    def margin(self, metric: str) -> float:
        """How far from no change a metric must lie to count: beyond the usual margin and the noise."""
        if KINDS[metric] == "points":
            return self.accuracy_margin
        return SIZE_MARGIN if KINDS[metric] == "exact" else max(SPEED_MARGIN, self.floors.of(metric))


@dataclass(frozen=True)
class Uncomparable:
    """Why two figures do not belong together."""

    reason: str


@dataclass(frozen=True)
class Shift:
    """A figure after over before, or less before where the metric is one in points, with its interval."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Pair:
    """A row of either side, and the dense rows that they are over where figures are to be relative."""

    before: Result
    after: Result
    dense: tuple[Result, Result] | None = None


def compare_runs(before: Run, after: Run, labels: tuple[str, str], asked: Asked) -> Comparison:
    """Every variant that both runs have, metric by metric; nothing where the runs do not belong together."""
    comparison = Comparison(
        before=side(before, labels[0]),
        after=side(after, labels[1]),
        relative=asked.relative,
        strict=asked.strict,
        thresholds=list(asked.thresholds),
        mismatches=[
            *incomplete(before, labels[0]),
            *incomplete(after, labels[1]),
            *mismatches(before, after, asked.relative),
        ],
        differences=differences(before, after, asked.relative),
        notes=[
            f"{label}: {caution.text}"
            for label, run in zip(labels, (before, after), strict=True)
            for caution in run.environment.warnings
        ],
    )
    if comparison.mismatches:
        return comparison
    rules = rules_of(asked, before, after)
    earlier, later = rows_of(before), rows_of(after)
    comparison.unmatched = [
        f"{variant} (seed {seed}): only in {label}"
        for label, own, other in ((labels[0], earlier, later), (labels[1], later, earlier))
        for variant, seed in own
        if (variant, seed) not in other
    ]
    for key, row in earlier.items():
        if key not in later:
            comparison.changes += lost(row, labels[1], rules)
            continue
        dense = [rows[DENSE, key[1]] for rows in (earlier, later) if (DENSE, key[1]) in rows]
        over = (dense[0], dense[-1]) if asked.relative and len(dense) == 2 else None
        comparison.changes += changes_of(Pair(row, later[key], over), rules)
    return comparison


def incomplete(run: Run, label: str) -> list[str]:
    """That a run did not end, as a list of one: what it lacks could be what became worse."""
    return [] if run.status == "complete" else [f"{label} is {run.status}, not every variant is in it"]


def lacking(before: Run, config: Config, thresholds: Sequence[Threshold]) -> list[str]:
    """Why a gate of these thresholds by a baseline cannot judge all of a run of this configuration."""
    wanted = {(variant, seed) for variant in config.variants for seed in config.seeds}
    measured = [row for row in before.results if row.status == "ok"]
    shared = [row for row in measured if (row.variant, row.seed) in wanted]
    if all(row.variant == DENSE for row in shared) and set(config.variants) != {DENSE}:
        return ["no variant but dense in common"]
    beyond = [f"{row.variant} (seed {row.seed})" for row in measured if row not in shared]
    found = [f"it has {', '.join(beyond)}, not asked for here: add to --variants"] if beyond else []
    found += [
        f"it has no {threshold.metric}"
        for threshold in thresholds
        if not any(threshold.metric in row.metrics for row in shared)
    ]
    if any(threshold.points for threshold in thresholds) and any(row.right is None for row in shared):
        found.append("it is of an older bench, and does not say which rows were right")
    return found


def lost(row: Result, label: str, rules: Rules) -> list[Change]:
    """A gate cannot say of a variant that it is no worse where it is not there any more."""
    if row.status != "ok" or not rules.thresholds:
        return []
    return [
        Change(
            variant=row.variant,
            seed=row.seed,
            metric=None,
            word="not comparable",
            gate="not comparable",
            reason=f"it is not in {label}",
        )
    ]


def compare_artifacts(run: Run, variant: str, labels: tuple[str, str], asked: Asked) -> Comparison:
    """`variant` against dense, which are two artifacts of one run; see `compare_runs`."""
    comparison = Comparison(
        before=side(run, labels[0]),
        after=side(run, labels[1]),
        strict=asked.strict,
        thresholds=list(asked.thresholds),
        notes=[caution.text for caution in run.environment.warnings],
    )
    rules, rows = rules_of(asked, run), rows_of(run)
    for seed in run.config.seeds:
        comparison.changes += changes_of(Pair(rows[DENSE, seed], rows[variant, seed]), rules)
    return comparison


def rules_of(asked: Asked, *runs: Run) -> Rules:
    """The rules for a comparison that rests on these runs, whose tasks are the same."""
    floors = floors_of(run.environment.noise_floor for run in runs)
    cautions = [caution for run in runs for caution in run.environment.warnings]
    disturbed = next((caution.text for caution in cautions if caution.code in DISTURBANCES), None)
    config, rows = runs[-1].config, runs[-1].task.rows
    return Rules(asked.thresholds, floors, config.accuracy_margin, rows["test"], disturbed, asked.relative)


def side(run: Run, label: str) -> Side:
    """What is said of a run in a comparison."""
    return Side(
        label=label,
        run=run.id,
        started_at=run.started_at,
        machine_key=run.environment.machine_key,
        commit=run.environment.commit,
        versions=run.environment.versions,
    )


def rows_of(run: Run) -> dict[tuple[str, int], Result]:
    """The rows by variant and seed."""
    return {(result.variant, result.seed): result for result in run.results}


def mismatches(before: Run, after: Run, relative: bool = False) -> list[str]:
    """What must agree and does not: hardware and its settings, the task, the protocol, how variants are made.

    Where figures are `relative`, machines may differ.
    """
    found = [] if relative else list(machine_differences(before.environment, after.environment))
    for name, what in (("rows", "the task's rows"), ("model", "the model that dense is made from")):
        if before.fingerprints.get(name) != after.fingerprints.get(name):
            found.append(f"{what}: not the same")
    for name, what in (PROTOCOL | MAKING).items():
        found += differing(what, getattr(before.config, name), getattr(after.config, name))
    named = before.fingerprints.keys() & after.fingerprints.keys() - {"rows", "model", "code"}
    found += [
        f"{name}: what it holds is not the same"
        for name in sorted(named)
        if before.fingerprints[name] != after.fingerprints[name]
    ]
    return found


def machine_differences(before: Environment, after: Environment) -> Iterator[str]:
    """In what the machines, or the settings that timings depend on, are not alike."""
    if before.machine_key != after.machine_key:
        named = [f"{each.cpu_model}, {each.cpu_cores} cores ({each.machine_key})" for each in (before, after)]
        yield f"the machine: {named[0]}, then {named[1]}"
    else:
        yield from differing("devices", *(list(map(as_set_up, each.devices)) for each in (before, after)))
    for name in SETTINGS:
        yield from differing(name, *(setting(name, each) for each in (before, after)))


def setting(name: str, environment: Environment) -> Any:
    """One of `SETTINGS`. Which GPU is in use changes nothing, and older documents name it by its number."""
    found = getattr(environment, name)
    if name == "variables":
        return {variable: value for variable, value in found.items() if variable != WHICH_GPU}
    return found


def as_set_up(device: Device) -> str:
    """A device with its settings that timings depend on; its driver is software."""
    settings = {name: value for name, value in device if name not in ("name", "uuid", "driver")}
    return f"{device.name} {settings}"


def differing(what: str, before: Any, after: Any) -> list[str]:
    """That something is no longer what it was, as a list of one; an empty one where it is."""
    return [] if before == after else [f"{what}: {before}, then {after}"]


def differences(before: Run, after: Run, relative: bool) -> list[str]:
    """What may differ, and is what a gate is for: the software; machines too where figures are relative."""
    found = list(machine_differences(before.environment, after.environment)) if relative else []
    earlier, later = before.environment.versions, after.environment.versions
    for library in sorted(earlier.keys() | later.keys()):
        found += differing(library, earlier.get(library, ABSENT), later.get(library, ABSENT))
    found += differing("commit", before.environment.commit, after.environment.commit)
    if before.fingerprints.get("code") != after.fingerprints.get("code"):
        found.append("bench itself: its code or its libraries changed")
    return found


def changes_of(pair: Pair, rules: Rules) -> Iterator[Change]:
    """A row's changes, in the order of `KINDS`: of what both sides have, and of what is gated."""
    before, after = pair.before, pair.after
    if (before.status, after.status) != ("ok", "ok"):
        yield change_of_status(before, after, gated=bool(rules.thresholds))
        return
    gates = {threshold.metric: threshold for threshold in rules.thresholds}
    for metric in KINDS:
        if after.variant == DENSE and over_dense(metric, rules):
            continue
        sides = sum(metric in row.metrics for row in (before, after))
        if sides == 2 or (sides and metric in gates):
            yield judged(pair, metric, gates.get(metric), rules)


def over_dense(metric: str, rules: Rules) -> bool:
    """Whether the metric is one over dense, and so says nothing of dense itself."""
    return metric in SPEEDUPS or (rules.relative and KINDS[metric] == "timed")


def change_of_status(before: Result, after: Result, gated: bool) -> Change:
    """The one change of a variant that is not measured on both sides; a gate cannot judge one it lost."""
    reason = (after if after.status != "ok" else before).reason or "no reason was recorded"
    change = Change(variant=after.variant, seed=after.seed, metric=None, word="not comparable", reason=reason)
    if after.status == "failed" and before.status != "failed":
        return change.model_copy(update={"word": "newly failing"})
    if (before.status, after.status) == ("failed", "ok"):
        return change.model_copy(update={"word": "fixed"})
    gate = "not comparable" if gated and before.status == "ok" else None
    return change.model_copy(
        update={"gate": gate, "reason": f"{before.status}, then {after.status}: {reason}"}
    )


def judged(pair: Pair, metric: str, threshold: Threshold | None, rules: Rules) -> Change:
    """One metric's change: beyond the margin it is better or worse; the gate judges by its threshold."""
    before, after = (row.metrics.get(metric) for row in (pair.before, pair.after))
    points, margin = KINDS[metric] == "points", rules.margin(metric)
    change = Change(
        variant=pair.after.variant,
        seed=pair.after.seed,
        metric=metric,
        unit=METRICS[metric].unit,
        word="not comparable",
        before=before.value if before else None,
        after=after.value if after else None,
        difference=points,
        threshold=threshold,
        gate="not comparable" if threshold else None,
        reason="",
    )
    shift = points_shift(pair, rules.test_rows) if points else ratio_shift(pair, metric, rules)
    if isinstance(shift, Uncomparable):
        return change.model_copy(update={"reason": shift.reason})
    low, high = shift.interval
    found: dict[str, object] = {"change": shift.value, "low": low, "high": high, "margin": margin}
    limits = (-margin, margin) if points else (1 / (1 + margin), 1 + margin)
    place, found["reason"] = beside(shift.interval, limits, writer(metric))
    if METRICS[metric].better == "lower":
        place = MIRRORED.get(place, place)
    found["word"] = WORDS[place]
    if threshold:
        found["gate"], found["reason"] = gate_word(metric, shift, threshold)
    return change.model_copy(update=found)


def gate_word(metric: str, shift: Shift, threshold: Threshold) -> tuple[GateWord, str]:
    """What a gate says of a change: it fails only where the whole interval lies beyond the threshold."""
    low, high = shift.interval
    sign = 1 if METRICS[metric].better == "higher" else -1
    limit = (0.0 if threshold.points else 1.0) - sign * threshold.amount
    write = writer(metric)
    worst, best = (low, high) if sign > 0 else (high, low)
    shown = f"{write(low)} to {write(high)}"
    if sign * best < sign * limit:
        return "fails", f"the whole interval, {shown}, lies beyond {write(limit)}"
    if sign * worst >= sign * limit:
        return "passes", f"the whole interval, {shown}, lies on the right side of {write(limit)}"
    return "inconclusive", f"the interval, {shown}, lies across {write(limit)}"


def writer(metric: str) -> Callable[[float], str]:
    """How a metric's changes are written: counts with so many digits that a change shows."""
    if KINDS[metric] == "points":
        return write_points
    return "{:.6f}".format if KINDS[metric] == "exact" else "{:.3f}".format


def write_points(share: float) -> str:
    """A difference of shares, in percentage points."""
    return f"{100 * share:+.2f} points"


def points_shift(pair: Pair, rows: int) -> Shift | Uncomparable:
    """The change of accuracy on the same test rows, with one-sided 95 % bounds by Tango's score test."""
    before, after = pair.before.right, pair.after.right
    if before is None or after is None:
        return Uncomparable("a run of an older bench does not say which rows were right")
    gained, lost = changed(before, after) if len(before) == len(after) else (rows, rows)
    if gained + lost > rows:
        return Uncomparable("they were not judged on the same rows")
    return Shift((gained - lost) / rows, difference_bounds(gained, lost, rows))


def ratio_shift(pair: Pair, metric: str, rules: Rules) -> Shift | Uncomparable:
    """The metric after over before; where relative, an absolute one over that of its own dense."""
    rows = [pair.before, pair.after]
    if depends_on_batches(metric) and pair.before.batch_size != pair.after.batch_size:
        return Uncomparable("one side was measured with smaller batches, since memory did not suffice")
    if unlike := machines_apart(pair, metric, rules):
        return Uncomparable(unlike)
    if rules.disturbed and KINDS[metric] == "timed":
        return Uncomparable(f"absolute figures of a disturbed machine: {rules.disturbed}")
    if rules.relative and KINDS[metric] == "timed":
        if pair.dense is None:
            return Uncomparable("a side has no dense to be relative to")
        rows += pair.dense
    for row in rows:
        if metric not in row.metrics:
            return Uncomparable(row.unavailable.get(metric, "it was not measured"))
    before, after, *dense = found = [row.metrics[metric] for row in rows]
    if (reason := why_uncomparable(found, metric)) is not None:
        return Uncomparable(reason)
    return Shift(*quotient([after, *dense[:1]], [before, *dense[1:]]))


def machines_apart(pair: Pair, metric: str, rules: Rules) -> str | None:
    """Why a sweep over several machines has no figures of one machine here; None where it has."""
    if KINDS[metric] not in ("paired", "timed"):
        return None
    if not rules.relative:
        alike = pair.before.machine == pair.after.machine
        return None if alike else "the row was measured on another machine"
    both = zip((pair.before, pair.after), pair.dense or (), strict=False)
    if KINDS[metric] == "timed" and any(row.machine != dense.machine for row, dense in both):
        return "a side's dense was measured on another machine than its row"
    return None


def depends_on_batches(metric: str) -> bool:
    """Whether a figure is another with smaller batches."""
    return metric not in OF_THE_MODEL and not metric.startswith(OF_ONE_ROW)


def why_uncomparable(found: Sequence[Measurement], metric: str) -> str | None:
    """Why these figures cannot be set in relation, or None."""
    if any(each.estimated for each in found):
        return "it is estimated: modelled values are time in disguise"
    if metric == ENERGY and len({each.source for each in found}) > 1:
        return f"it comes from different sources: {found[0].source}; {found[1].source}"
    exact = [KINDS[metric] == "exact" or each.source.startswith("definition") for each in found]
    if not all(is_exact or has_interval(each) for each, is_exact in zip(found, exact, strict=True)):
        return "it has no interval"
    if any(min(each.value, each.value if each.ci_low is None else each.ci_low) <= 0 for each in found):
        return "it, or its interval, reaches zero"
    return None


def has_interval(measurement: Measurement) -> bool:
    """Whether it says how sure it is."""
    return measurement.ci_low is not None and measurement.ci_high is not None
