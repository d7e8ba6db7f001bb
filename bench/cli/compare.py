"""Commands that say whether something became worse: `compare`, `gate`, and the baselines they rest on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.gating import asked_of, called, find_baseline, settle
from bench.cli.options import (
    GATE,
    AllowMissingBaseline,
    BatchSize,
    CacheFolder,
    Device,
    ExportComment,
    ExportJson,
    ExportJunit,
    ExportLatex,
    ExportMarkdown,
    FailOn,
    Github,
    LabelColumn,
    LabelMap,
    LimitTest,
    MaxLength,
    Out,
    Quick,
    Remeasure,
    Seed,
    Standard,
    Strict,
    TaskName,
    Test,
    TextColumn,
    TextPairColumn,
    Thorough,
    Train,
)
from bench.cli.run import start_run
from bench.cli.shared import check_github, choose_budget, named_exports, say, show, terminal
from bench.errors import InputError


def compare(
    run: Annotated[Path, typer.Argument(help="Run folder or run.json.")],
    baseline: Annotated[
        str | None,
        typer.Argument(metavar="NAME|FILE", help="Of RUN's machine, or a run; default the only one."),
    ] = None,
    relative: Annotated[
        bool,
        typer.Option("--relative", help="Over each side's own dense, across machines.", rich_help_panel=GATE),
    ] = False,
    fail_on: FailOn = None,
    strict: Strict = None,
    allow_missing_baseline: AllowMissingBaseline = None,
    github: Github = False,
    export_markdown: ExportMarkdown = None,
    export_json: ExportJson = None,
    export_latex: ExportLatex = None,
    export_junit: ExportJunit = None,
    export_comment: ExportComment = None,
) -> None:
    """Set a run beside a baseline: what became better or worse, and whether a gate lets it pass."""
    from bench.compare import compare_runs
    from bench.folder import read_run
    from bench.gate import floors_of, refuse_below
    from bench.outputs import Outputs
    from bench.settings import read_settings

    files = named_exports(
        markdown=export_markdown,
        json=export_json,
        latex=export_latex,
        junit=export_junit,
        comment=export_comment,
    )
    Outputs(files).check()
    check_github(github)
    settings = read_settings(Path.cwd())
    asked = asked_of(fail_on, strict, settings, relative)
    after = read_run(run)
    name = settings.baseline if baseline is None else baseline
    found = find_baseline(name, after, settings, allow_missing_baseline, relative)
    if found is None:
        return
    label, before = found
    refuse_below(asked.thresholds, floors_of([each.environment.noise_floor for each in (before, after)]))
    comparison = compare_runs(before, after, (label, called(run)), asked)
    raise typer.Exit(settle(comparison, files, github, terminal()))


def gate(
    base: Annotated[str, typer.Argument(help="The artifact or checkpoint that is good: a folder or hub id.")],
    new: Annotated[str, typer.Argument(help="The one to be judged.")],
    test: Test = None,
    train: Train = None,
    task: TaskName = None,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    label_column: LabelColumn = None,
    label_map: LabelMap = None,
    limit_test: LimitTest = None,
    fail_on: FailOn = None,
    strict: Strict = None,
    quick: Quick = False,
    standard: Standard = False,
    thorough: Thorough = False,
    batch_size: BatchSize = 32,
    max_length: MaxLength = None,
    device: Device = "auto",
    seed: Seed = 0,
    out: Out = None,
    cache: CacheFolder = Path(".bench/cache"),
    remeasure: Remeasure = False,
    github: Github = False,
    export_markdown: ExportMarkdown = None,
    export_json: ExportJson = None,
    export_latex: ExportLatex = None,
    export_junit: ExportJunit = None,
    export_comment: ExportComment = None,
) -> None:
    """Measure two artifacts against each other, in turns in one run, and fail where the new one is worse."""
    from bench.options import Options, read_label_map
    from compressors.checkpoint import Load
    from compressors.variant import Variant

    if test is None and task is None:
        raise InputError("gate: speed depends on the rows, and accuracy needs labels; add --test FILE")
    if "," in new:
        raise InputError(f"{new}: a comma parts variants, so it cannot be in a path; name a link to it")
    options = Options(
        variants=Variant((Load(new),)).name,
        as_it_is=True,
        model=base,
        no_finetune=True,
        task=task,
        train=train,
        test=test,
        text_columns=tuple(text_column or ()),
        text_pair_column=text_pair_column,
        label_column=label_column,
        label_map=read_label_map(label_map),
        limit_test=limit_test,
        batch_size=batch_size,
        max_length=max_length,
        seed=seed,
        device=device,
        budget=choose_budget({"quick": quick, "standard": standard, "thorough": thorough}) or "standard",
        out=out,
        cache=cache,
        remeasure=remeasure,
        fail_on=None if fail_on is None else tuple(fail_on),
        strict=strict,
        github=github,
        exports=named_exports(
            markdown=export_markdown,
            json=export_json,
            latex=export_latex,
            junit=export_junit,
            comment=export_comment,
        ),
        command=shlex.join(["bench", *sys.argv[1:]]),
    )
    start_run(options, dry_run=False, as_json=False)


baseline = typer.Typer(help="Keep runs under a name, to compare later ones with.", no_args_is_help=True)


@baseline.command()
def save(
    run: Annotated[Path, typer.Argument(help="Run folder or run.json.")],
    name: Annotated[str, typer.Argument(help="What to call it.")],
) -> None:
    """Keep a run in baselines/, by its machine; one of that name is replaced."""
    from bench import baselines
    from bench.folder import read_run
    from bench.settings import read_settings

    say(str(baselines.save(read_run(run), name, read_settings(Path.cwd()).baselines)))


@baseline.command(name="list")
def list_() -> None:
    """Show the baselines that are kept, by machine and name."""
    from bench import baselines
    from bench.environment import fingerprint
    from bench.folder import read_run
    from bench.settings import read_settings
    from reports.baselines import render

    found = {}
    for each in baselines.kept(read_settings(Path.cwd()).baselines):
        try:
            found[each.machine, each.name] = read_run(each.file)
        except InputError as error:
            say(f"left out: {error}")
    render(found, fingerprint().machine_key, terminal())


@baseline.command(name="show")
def show_(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Of this machine, or the only one.")],
    json: Annotated[bool, typer.Option("--json", help="The run document on stdout.")] = False,
) -> None:
    """Print a baseline's tables."""
    from bench import baselines
    from bench.environment import fingerprint
    from bench.folder import read_run
    from bench.settings import read_settings

    root = read_settings(Path.cwd()).baselines
    show(read_run(baselines.find(name, fingerprint().machine_key, root, any_machine=True)), json)


@baseline.command()
def rm(
    name: Annotated[str, typer.Argument(help="Of this machine, or the only one.")],
    machine: Annotated[str | None, typer.Option(metavar="KEY", help="Of which machine.")] = None,
) -> None:
    """Delete a baseline."""
    from bench import baselines
    from bench.environment import fingerprint
    from bench.settings import read_settings

    root = read_settings(Path.cwd()).baselines
    say(f"deleted {baselines.remove(name, fingerprint().machine_key, machine, root)}")
