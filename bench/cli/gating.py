"""A gate around a run: prepared before anything is measured, asked again before it fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.shared import export_comparison, say, tell_github
from bench.errors import ComparisonError, ExitCode

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

    def doubtful(self, run: Run) -> list[Result]:
        """The results that fail by a measured figure, which another measurement may clear."""
        from bench.gate import KINDS

        suspects = {
            (change.variant, change.seed)
            for change in self.compare(run).failing
            if change.metric and KINDS[change.metric] in ("paired", "timed")
        }
        return [result for result in run.results if (result.variant, result.seed) in suspects]


def asked_of(fail_on: Sequence[str] | None, strict: bool | None, settings: Settings, relative: bool) -> Asked:
    """The rules of a gate: the command line's, and where it is silent the project's."""
    from bench.compare import Asked
    from bench.gate import read_thresholds

    thresholds = read_thresholds(settings.fail_on if fail_on is None else fail_on)
    return Asked(thresholds, settings.strict if strict is None else strict, relative)


def gate_of(options: Options, plan: Plan) -> Gate | None:
    """The gate of a run, where one is asked for: two artifacts' own, or over a baseline, which must be there.

    Raises `InputError` and `ComparisonError` for whatever would else only show when all has been measured.
    """
    from bench.compare import compare_artifacts
    from bench.gate import floors_of, refuse_below
    from bench.runner import begin
    from bench.settings import read_settings

    if options.baseline is None and not options.fail_on and not options.as_it_is:
        return None
    settings = read_settings(options.folder)
    asked = asked_of(options.fail_on, options.strict, settings, relative=False)
    run = begin(plan, "this run")
    if not options.as_it_is:
        return gate_over_baseline(options, settings, asked, run)
    refuse_below(asked.thresholds, floors_of([run.environment.noise_floor]))
    new = plan.variants[-1]
    labels = (plan.task.model or "", new.checkpoints[0])
    formats = tuple(options.exports)
    return Gate(lambda finished: compare_artifacts(finished, new.name, labels, asked), formats)


def gate_over_baseline(options: Options, settings: Settings, asked: Asked, run: Run) -> Gate | None:
    """The gate that a run like this must pass; None where a baseline is missing and may be."""
    from bench.compare import compare_runs, mismatches
    from bench.gate import floors_of, refuse_below

    name = options.baseline or settings.baseline
    found = find_baseline(name, run, settings, options.allow_missing_baseline)
    if found is None:
        return None
    label, baseline = found
    if reasons := mismatches(baseline, run):
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
        file = baselines.find(name, run.environment.machine_key, any_machine=any_machine)
    except ComparisonError as error:
        if not (settings.allow_missing_baseline if allow_missing is None else allow_missing):
            raise
        say(f"not gated: {error}")
        return None
    return called(file), read_run(file)


def called(place: Path) -> str:
    """What a run or a baseline is called: a baseline by its name, a run folder by its own."""
    return place.stem if place.suffix == ".json" and place.name != "run.json" else place.resolve().name


def settle(comparison: Comparison, files: Mapping[str, Path], github: bool, console: Console) -> ExitCode:
    """Print the comparison, write what was asked for, and say how the command ends."""
    from reports import console as layout
    from reports.comparison import comparison_report
    from reports.content import essentials

    layout.lay_out(essentials(comparison_report(comparison)), console, MORE)
    export_comparison(files, comparison)
    if github:
        from reports import github as page

        tell_github(page.summary(comparison), page.annotations(comparison))
    return EXIT_CODES[comparison.outcome]
