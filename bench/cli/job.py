"""What becomes of a plan: the run, its reports, its gate, and all that was asked to be written or sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from bench.cli.gating import Gate, settle
from bench.cli.shared import check_github, export_runs, page, say, show, tell_github, terminal
from bench.errors import ExitCode, InputError

if TYPE_CHECKING:
    from bench.folder import RunFolder
    from bench.nouns.run import Result, Run
    from bench.options import Options
    from bench.plan import Plan


@dataclass(frozen=True)
class Job:
    """A run that can begin: what was asked, what is to be done, where, and what it is gated by."""

    options: Options
    plan: Plan
    folder: RunFolder
    gate: Gate | None


def carry_out(job: Job, as_json: bool, earlier: Run | None = None) -> None:
    """Run the plan, write the report, print it; an interruption prints what there is and exits 130.

    Bad input that only shows when dense is made takes the run folder back.
    """
    from bench.display import open_display
    from bench.runner import run_plan

    for note in job.plan.task.notes:
        say(note)
    doubtful = job.gate.doubtful if job.gate else nothing
    interrupted = False
    try:
        with open_display(terminal(stderr=True)) as display:
            result = run_plan(job.plan, job.folder, display, earlier, doubtful)
    except InputError:
        if earlier is None:
            job.folder.discard()
        raise
    except KeyboardInterrupt:
        result, interrupted = job.folder.read(), True
    write_report(job.folder, result)
    code = ExitCode.INTERRUPTED if interrupted else ExitCode.OK
    if any(row.status == "failed" for row in result.results) and not interrupted:
        code = ExitCode.FAILED
    if not job.options.as_it_is or interrupted:
        show(result, as_json)
    if not interrupted:
        code = hand_out(job, result, as_json) or code
    say(str(job.folder.path))
    raise typer.Exit(code)


def nothing(run: Run) -> tuple[Result, ...]:
    """Without a gate no result is doubtful."""
    return ()


def hand_out(job: Job, result: Run, as_json: bool) -> ExitCode:
    """Gate the complete run, write and send what was asked for; how the gate ends."""
    options, code = job.options, ExitCode.OK
    of_gate = job.gate.formats if job.gate else ()
    files = {name: file for name, file in options.exports.items() if name not in of_gate}
    export_runs(files, {job.folder.path.name: result})
    if job.gate:
        gated = {name: file for name, file in options.exports.items() if name in of_gate}
        code = settle(job.gate.compare(result), gated, options.github, terminal(stderr=as_json))
    elif options.github:
        from reports import github

        tell_github(github.summary_of_run(result), [])
    if options.save_baseline is not None:
        keep_baseline(options.save_baseline, result, code)
    if options.track is not None:
        from bench import trackers

        say(trackers.track(options.track, result, job.folder.path))
    return code


def keep_baseline(name: str, result: Run, code: ExitCode) -> None:
    """Keep the run under the name, unless its gate stopped it."""
    from bench import baselines

    if code == ExitCode.OK:
        say(f"kept as the baseline {baselines.save(result, name)}")
    else:
        say(f"not kept as the baseline {name}, since the gate did not pass")


def write_report(folder: RunFolder, result: Run) -> None:
    """Write `report.md` and `report.html` into the run folder."""
    from bench.folder import PAGE, REPORT, write_atomically
    from reports import markdown

    write_atomically(folder.path / REPORT, markdown.render(result))
    write_atomically(folder.path / PAGE, page({folder.path.name: result}))


def check_outputs(options: Options) -> None:
    """Raise `InputError` for a file, a name or a place that could not be written to after measuring."""
    from bench import baselines
    from bench.outputs import Outputs

    gated = options.baseline is not None or options.fail_on or options.as_it_is
    if "comment" in options.exports and not gated:
        raise InputError("--export-comment: is of a gate; add --baseline NAME, or drop it")
    Outputs(options.exports).check()
    check_github(options.github)
    if options.save_baseline is not None:
        baselines.check_name(options.save_baseline)
    if options.track is not None:
        from bench import trackers

        trackers.check(options.track)
