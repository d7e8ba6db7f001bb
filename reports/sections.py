"""The lists beneath the tables: what failed, what is doubtful and why, and what the user is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bench.nouns.run import DENSE, Result, Run, Scenario
from bench.nouns.verdict import ClassChange
from reports.attribution import interference
from reports.columns import SHOWN
from reports.environment import said
from reports.names import named
from reports.numbers import SECONDS, p_value, quantity, signed
from reports.parts import Line, Section
from reports.profile import not_profiled, why_not_faster
from reports.sentence import verdict_of

SIGNIFICANT = 0.05
SHOWN_OF_MANY = 3
BY_CLASS = "Accuracy by class (exact McNemar tests, Holm-adjusted over the classes)"


def sections(run: Run, results: list[Result]) -> tuple[Section, ...]:
    """Every section in which there is anything."""
    found = (
        Section("Failed or skipped", tuple(_left_out(run, results))),
        Section("Last lines that were logged", tuple(_logged(run, results)), detail=True),
        Section("Classes that lost accuracy", tuple(_lost_classes(run, results))),
        Section("Throttled", tuple(_discarded(run, results, throttled=True))),
        Section("Accuracy not shown to be kept", tuple(_accuracy_reasons(run, results)), detail=True),
        Section("Why not faster", tuple(why_not_faster(run, results))),
        Section("Why not faster, further reasons", tuple(why_not_faster(run, results, True)), detail=True),
        Section("Where parts interfere", tuple(interference(run, results)), detail=True),
        Section("Speed verdicts", tuple(_speed_reasons(run, results)), detail=True),
        Section(BY_CLASS, tuple(_classes(run, results)), detail=True),
        Section("Stopped before converging", tuple(_stopped(run, results)), detail=True),
        Section("Not steady after warming up", tuple(_unsteady(run, results)), detail=True),
        Section("Discarded rounds", tuple(_discarded(run, results, throttled=False)), detail=True),
        Section("Not available", tuple(_unavailable(run, results, detail=False))),
        Section("Details not available", tuple(_unavailable(run, results, detail=True)), detail=True),
        Section("Not available in profiles", tuple(not_profiled(run, results)), detail=True),
        Section("Notes", tuple((note,) for note in [*run.task.notes, *_notes_on_dense(results)])),
        Section("Notes on single variants", tuple(_own_notes(run, results)), detail=True),
        Section("Warnings", tuple((said(caution),) for caution in run.environment.warnings)),
    )
    return tuple(section for section in found if section.lines)


def _left_out(run: Run, results: list[Result]) -> Iterator[Line]:
    for result in results:
        if result.status != "ok":
            yield (*named(run, result), f" {result.status}: {result.reason or 'no reason was recorded'}")


def _logged(run: Run, results: list[Result]) -> Iterator[Line]:
    for result in results:
        if result.failure and result.failure.log:
            yield (*named(run, result), f", {result.failure.step}: {' | '.join(result.failure.log)}")


def _accuracy_reasons(run: Run, results: list[Result]) -> Iterator[Line]:
    for result in results:
        verdict = verdict_of(result)
        if verdict and verdict.word != "kept":
            yield (*named(run, result), f" {verdict.word}: {verdict.reason}")


def _speed_reasons(run: Run, results: list[Result]) -> Iterator[Line]:
    for result in results:
        for metric, verdict in result.verdicts.items():
            of_what = metric.removeprefix("speedup").strip("_").replace("_", " ")
            word = f"{verdict.word} ({of_what})" if of_what else verdict.word
            yield (*named(run, result), f" {word}: {verdict.reason}")


def _changed_classes(result: Result) -> list[ClassChange]:
    """The classes whose accuracy changed significantly, the worst first."""
    verdict = verdict_of(result)
    changes = [change for change in verdict.classes if change.rows] if verdict else []
    return sorted((change for change in changes if change.p_value < SIGNIFICANT), key=_class_points)


def _class_points(change: ClassChange) -> float:
    return 100 * (change.gained - change.lost) / change.rows


def _lost_classes(run: Run, results: list[Result]) -> Iterator[Line]:
    for result in results:
        lost = [change for change in _changed_classes(result) if change.lost > change.gained]
        if lost:
            said = [f"{change.label} {signed(_class_points(change))}" for change in lost]
            yield (*named(run, result), f": {_first(said)} points")


def _classes(run: Run, results: list[Result]) -> Iterator[Line]:
    """For each variant the classes that changed significantly; the worst ones where none did."""
    for result in results:
        verdict = verdict_of(result)
        if verdict is None or not verdict.classes:
            continue
        if changed := _changed_classes(result):
            yield (*named(run, result), f": {'; '.join(map(_class_change, changed))}")
        else:
            worst = sorted((change for change in verdict.classes if change.rows), key=_class_points)
            worst_said = "; ".join(map(_class_change, worst[:SHOWN_OF_MANY]))
            yield (*named(run, result), f": no class changed significantly; at worst {worst_said}")


def _class_change(change: ClassChange) -> str:
    counts = f"{change.lost:,} lost and {change.gained:,} gained of {change.rows:,} rows"
    return f"{change.label} {signed(_class_points(change))} points ({counts}, p {p_value(change.p_value)})"


def _first(texts: list[str]) -> str:
    """The first few, and how many more there are."""
    more = len(texts) - SHOWN_OF_MANY
    return ", ".join(texts[:SHOWN_OF_MANY]) + (f" and {more} more" if more > 0 else "")


def _stopped(run: Run, results: list[Result]) -> Iterator[Line]:
    for result, name, scenario in _scenarios(results):
        if scenario.converged is False:
            why = scenario.stopped or "no reason was recorded"
            yield (*named(run, result), f", scenario {name}: {why}")


def _unsteady(run: Run, results: list[Result]) -> Iterator[Line]:
    for result in results:
        unsteady = [
            f"scenario {name}, {contender} after {quantity(warm_up.wall_time, SECONDS)}"
            for name, scenario in result.scenarios.items()
            for contender, warm_up in scenario.warm_up.items()
            if not warm_up.steady
        ]
        if unsteady:
            yield (*named(run, result), f": {'; '.join(unsteady)}")


def _discarded(run: Run, results: list[Result], throttled: bool) -> Iterator[Line]:
    """The scenarios that lost rounds, so many that they count as throttled or not."""
    for result, name, scenario in _scenarios(results):
        if scenario.raw and scenario.raw.discarded and scenario.throttled == throttled:
            reasons = Counter(scenario.raw.discarded.values()).most_common()
            why = _first([f"{reason} ({count})" for reason, count in reasons])
            lost, all_rounds = len(scenario.raw.discarded), len(scenario.raw.order)
            yield (
                *named(run, result),
                f", scenario {name}: {lost} of {all_rounds} rounds are left out: {why}",
            )


def _scenarios(results: list[Result]) -> Iterator[tuple[Result, str, Scenario]]:
    for result in results:
        for name, scenario in result.scenarios.items():
            yield result, name, scenario


def _unavailable(run: Run, results: list[Result], detail: bool) -> Iterator[Line]:
    """One line for each reason: the metrics it cost, and which variants lack them."""
    lacking: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        for metric, reason in result.unavailable.items():
            if (metric in SHOWN and SHOWN[metric].detail) == detail:
                lacking.setdefault(reason, {}).setdefault(metric, []).append(result)
    for reason, metrics in lacking.items():
        groups: dict[str, list[str]] = {}
        for metric, lackers in metrics.items():
            groups.setdefault(_who(run, results, lackers), []).append(metric.replace("_", " "))
        what = "; ".join(f"{', '.join(names)} ({who})" for who, names in groups.items())
        yield (f"{what}: {reason}",)


def _who(run: Run, results: list[Result], some: list[Result]) -> str:
    if some == [result for result in results if result.status == "ok"]:
        return "all variants"
    return ", ".join("".join(named(run, result)) for result in some)


def _notes_on_dense(results: list[Result]) -> Iterator[str]:
    """Each once over the seeds: what is said of dense holds for all that is made from it."""
    yield from dict.fromkeys(
        f"{DENSE}: {note}" for result in results if result.variant == DENSE for note in result.notes
    )


def _own_notes(run: Run, results: list[Result]) -> Iterator[Line]:
    for result in results:
        if result.variant != DENSE:
            yield from ((*named(run, result), f": {note}") for note in result.notes)
