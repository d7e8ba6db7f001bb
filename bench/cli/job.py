"""What becomes of a plan: the run, its reports, its gate, and all that was asked to be written or sent."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.cli.gating import Gate, is_gated, settle
from bench.cli.shared import check_github, export_runs, page, say, show, tell_github, terminal
from bench.errors import BenchError, ExitCode, InputError, Terminated

if TYPE_CHECKING:
    from bench.folder import RunFolder
    from bench.nouns.run import Run
    from bench.options import Options
    from bench.plan import Plan


COMMENT = "comment"
GRAVEST_FIRST = (ExitCode.FAILED, ExitCode.CANNOT_TELL, ExitCode.USAGE, ExitCode.OK)


@dataclass(frozen=True)
class Job:
    """A run that can begin: what was asked, what is to be done, where, and what it is gated by.

    The folder is ours alone. One that `is_fresh` is taken back where the run cannot begin.
    """

    options: Options
    plan: Plan
    folder: RunFolder
    gate: Gate | None
    is_fresh: bool = False


def carry_out(job: Job, as_json: bool, earlier: Run | None = None) -> None:
    """Run the plan, write the report, print it; an interruption prints what there is and exits 130.

    Bad input that only shows when dense is made takes the run folder back.
    """
    from bench.display import open_display
    from bench.runner import run_plan

    for note in job.plan.task.notes:
        say(note)
    try:
        with open_display(terminal(stderr=True)) as display:
            result = run_plan(job.plan, job.folder, display, earlier, job.gate.doubtful if job.gate else None)
    except InputError:
        if job.is_fresh and not (job.folder.has_run and job.folder.read().results):
            job.folder.discard()
        raise
    except KeyboardInterrupt as interruption:
        if job.folder.has_run:
            tell_of_end(job, as_json)
            code = ExitCode.TERMINATED if isinstance(interruption, Terminated) else ExitCode.INTERRUPTED
            raise typer.Exit(code) from None
        if job.is_fresh:
            job.folder.discard()
        raise
    write_report(job.folder, result)
    show_outcome(job, result, as_json)
    code = hand_out(job, result, as_json)
    say(str(job.folder.path))
    raise typer.Exit(code)


def tell_of_end(job: Job, as_json: bool) -> None:
    """Write and print the report of what is done; the terminal may be what ended the run, and gone."""
    result = job.folder.read()
    write_report(job.folder, result)
    with suppress(OSError):
        show_outcome(job, result, as_json)
        say(str(job.folder.path))


def show_outcome(job: Job, result: Run, as_json: bool) -> None:
    """Print what was asked for: the run, or one variant's profile; what a gate compares it prints itself."""
    if job.options.profile_of is not None and not as_json:
        from reports import console
        from reports.profile import profile_report

        variant = job.plan.variants[-1].name
        console.lay_out(profile_report(result, variant), terminal(), console.MORE)
    elif not job.options.as_it_is:
        show(result, as_json)


def hand_out(job: Job, result: Run, as_json: bool) -> ExitCode:
    """Gate the complete run, write and send what was asked for; how the command ends."""
    options, codes = job.options, {ExitCode.OK}
    if any(row.status == "failed" for row in result.results):
        codes.add(ExitCode.FAILED)
    if options.profile_of is not None and result.results[-1].profile is None:
        codes.add(ExitCode.FAILED)
    of_gate = job.gate.formats if job.gate else (COMMENT,)
    gated = {name: file for name, file in options.exports.items() if name in of_gate}
    files = {name: file for name, file in options.exports.items() if name not in of_gate}
    console = terminal(stderr=as_json)
    if job.gate:
        codes.add(settle(job.gate.compare(result), gated, options.github, console))
    elif options.github:
        from reports import github

        tell_github(github.summary_of_run(result), [], console)
    export_runs(files, {job.folder.path.name: result})
    if gated and not job.gate:
        say(f"{gated[COMMENT]} is not written: there is no baseline to compare with yet")
    if options.save_baseline is not None:
        keep_baseline(options.save_baseline, result, passed=codes == {ExitCode.OK})
    if options.track is not None:
        codes.add(log_to(options.track, result, job.folder))
    return next(code for code in GRAVEST_FIRST if code in codes)


def log_to(tracker: str, result: Run, folder: RunFolder) -> ExitCode:
    """Log the saved run; a tracker that fails is told of, and does not hide what a gate found."""
    from bench import trackers

    try:
        say(trackers.track(tracker, result, folder.path))
    except BenchError as error:
        say(f"bench: {error}")
        return error.exit_code
    return ExitCode.OK


def keep_baseline(name: str, result: Run, passed: bool) -> None:
    """Keep the run under the name, unless a variant failed or its gate stopped it."""
    from bench import baselines
    from bench.settings import read_settings

    if passed:
        say(f"kept as the baseline {baselines.save(result, name, read_settings(Path.cwd()).baselines)}")
    else:
        say(f"not kept as the baseline {name}: the run did not pass")


def write_report(folder: RunFolder, result: Run) -> None:
    """Write `report.md` and `report.html` into the run folder."""
    from bench.folder import PAGE, REPORT, write_atomically
    from reports import markdown

    write_atomically(folder.path / REPORT, markdown.render(result))
    write_atomically(folder.path / PAGE, page({folder.path.name: result}, in_folder=True))


def check_outputs(options: Options) -> None:
    """Raise `InputError` for a file, a name or a place that could not be written to after measuring."""
    from bench import baselines
    from bench.outputs import Outputs

    if COMMENT in options.exports and not is_gated(options):
        raise InputError("--export-comment: is of a gate; add --baseline NAME, or drop it")
    if options.shard and (is_gated(options) or options.save_baseline is not None):
        raise InputError(
            "--shard: a gate and a baseline are of a whole sweep; bench merge the shards, then use "
            "bench compare and bench baseline save"
        )
    Outputs(options.exports).check()
    check_github(options.github)
    if options.save_baseline is not None:
        baselines.check_name(options.save_baseline)


def check_tracker(name: str | None) -> None:
    """Raise `InputError` for a tracker that is unknown, not installed or not there."""
    if name is not None:
        from bench import trackers

        trackers.check(name)
