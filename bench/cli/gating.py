"""A gate around a run: prepared before anything is measured, asked again before it fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.shared import export_comparison, say, tell_github
from bench.errors import ComparisonError, ExitCode, InputError, NoBaselineYet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

    from bench.compare import Asked
    from bench.nouns.comparison import Comparison
    from bench.nouns.run import Result, Run
    from bench.options import Options
    from bench.plan import Plan
    from bench.settings import Settings

MORE = "More with --export-markdown FILE: every figure, reasons, software"
EXIT_CODES = {
    "passes": ExitCode.OK,
    "fails": ExitCode.FAILED,
    "not comparable": ExitCode.CANNOT_TELL,
}


@dataclass(frozen=True)
class Gate:
    """How a finished run is compared with what it is gated by; `formats` are exported of the comparison."""

    compare: Callable[[Run], Comparison]
    formats: tuple[str, ...] = ("junit", "comment")

    def doubtful(self, run: Run) -> list[tuple[Result, list[str]]]:
        """The results that fail by timed figures, and these: another measurement may clear them."""
        from bench.gate import KINDS

        failing: dict[tuple[str, int], list[str]] = {}
        for change in self.compare(run.model_copy(update={"status": "complete"})).failing:
            if change.metric and KINDS[change.metric] in ("paired", "timed"):
                failing.setdefault((change.variant, change.seed), []).append(change.metric)
        rows = {(result.variant, result.seed): result for result in run.results}
        return [(rows[key], metrics) for key, metrics in failing.items()]


def asked_of(fail_on: Sequence[str] | None, strict: bool | None, settings: Settings, relative: bool) -> Asked:
    """The rules of a gate: the command line's, and where it is silent the project's."""
    from bench.compare import Asked
    from bench.gate import read_thresholds

    thresholds = read_thresholds(settings.fail_on if fail_on is None else fail_on)
    return Asked(thresholds, settings.strict if strict is None else strict, relative)


def is_gated(options: Options) -> bool:
    """Whether a run is to be gated: asked for with each run, since most are made to explore."""
    return options.as_it_is or options.baseline is not None or bool(options.fail_on)


def gate_of(options: Options, plan: Plan) -> Gate | None:
    """The gate of a run, where one is asked for: two artifacts' own, or over a baseline, which must be there.

    Raises `InputError` and `ComparisonError` for whatever would else only show when all has been measured.
    """
    from bench.compare import compare_artifacts
    from bench.gate import floors_of, refuse_below
    from bench.runner import begin
    from bench.settings import read_settings

    if not is_gated(options):
        if options.strict is not None or options.allow_missing_baseline is not None:
            raise InputError("--strict and --allow-missing-baseline are of a gate; add --baseline NAME")
        return None
    settings = read_settings(options.folder)
    asked = asked_of(options.fail_on, options.strict, settings, relative=False)
    run = begin(plan, "this run")
    if not options.as_it_is:
        return gate_over_baseline(options, settings, asked, run)
    if not asked.thresholds:
        raise InputError(
            "gate: nothing to hold it to; add --fail-on speedup:5% --fail-on accuracy:1pt, or [tool.bench]"
        )
    refuse_below(asked.thresholds, floors_of([run.environment.noise_floor]))
    new = plan.variants[-1]
    labels = (plan.task.model or "", new.checkpoints[0])
    formats = tuple(options.exports)
    return Gate(lambda finished: compare_artifacts(finished, new.name, labels, asked), formats)


def gate_over_baseline(options: Options, settings: Settings, asked: Asked, run: Run) -> Gate | None:
    """The gate that a run like this must pass; None where a baseline is missing and may be."""
    from bench.compare import compare_runs, incomplete, lacking, mismatches
    from bench.gate import floors_of, refuse_below

    name = settings.baseline if options.baseline is None else options.baseline
    found = find_baseline(name, run, settings, options.allow_missing_baseline)
    if found is None:
        return None
    label, baseline = found
    reasons = [*incomplete(baseline, label), *mismatches(baseline, run)]
    if asked.thresholds and not reasons:
        reasons = lacking(baseline, run.config, asked.thresholds)
    if reasons:
        raise ComparisonError(f"{label}: cannot be compared with this run: {'; '.join(reasons)}")
    refuse_below(asked.thresholds, floors_of([baseline.environment.noise_floor, run.environment.noise_floor]))
    return Gate(lambda finished: compare_runs(baseline, finished, (label, "this run"), asked))


def find_baseline(
    name: str | None, run: Run, settings: Settings, allow_missing: bool | None, any_machine: bool = False
) -> tuple[str, Run] | None:
    """What the baseline of this run's machine is called, and its document; None where it may be missing.

    Raises `ComparisonError` where it is missing and must not be.
    """
    from bench import baselines
    from bench.folder import read_run

    try:
        file = baselines.find(name, run.environment.machine_key, settings.baselines, any_machine)
    except NoBaselineYet as error:
        if not (settings.allow_missing_baseline if allow_missing is None else allow_missing):
            raise
        say(f"not gated: {error}")
        return None
    return called(file), read_run(file)


def called(place: Path) -> str:
    """What a run or a baseline is called: a run by its folder, a baseline by its name."""
    if place.name == "run.json" or place.is_dir():
        return (place if place.is_dir() else place.parent).resolve().name
    return place.stem


def settle(comparison: Comparison, files: Mapping[str, Path], github: bool, console: Console) -> ExitCode:
    """Print the comparison, write what was asked for, and say how the command ends."""
    from reports import console as layout
    from reports.comparison import comparison_report
    from reports.content import essentials

    shown = essentials(comparison_report(comparison))
    if not github:
        layout.lay_out(shown, console, MORE)
    else:
        import secrets

        from reports import github as page

        token = secrets.token_hex(8)
        console.file.write(f"{page.stop(token)}\n")
        layout.lay_out(shown, console, MORE)
        console.file.write(f"{page.resume(token)}\n")
        tell_github(page.summary(comparison), page.annotations(comparison), console)
    export_comparison(files, comparison)
    return EXIT_CODES[comparison.outcome]
