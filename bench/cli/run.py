"""`bench run`: from options to a plan, and from a plan to a job."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.gating import gate_of
from bench.cli.job import Job, carry_out, check_outputs, check_tracker
from bench.cli.options import (
    DATA,
    GATE,
    OUTPUT,
    SCALING,
    TRAINING,
    AllowMissingBaseline,
    BatchSize,
    CacheFolder,
    Device,
    ExportComment,
    ExportCsv,
    ExportHtml,
    ExportJson,
    ExportJunit,
    ExportLatex,
    ExportMarkdown,
    ExportPytestBenchmark,
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
    Track,
    Train,
)
from bench.cli.resume import resume_run
from bench.cli.shared import choose_budget, named_exports, say, terminal
from bench.errors import InputError

if TYPE_CHECKING:
    from bench.options import Options


def run(
    context: typer.Context,
    variants: Annotated[
        str | None,
        typer.Option(help="Presets, globs and specs: all, 'bmp*+kd', bmp:amount=0.4+kd; see bench list."),
    ] = None,
    attribute: Annotated[
        bool,
        typer.Option("--attribute", help="For a+b+c also its parts and pairs: what each of them gives."),
    ] = False,
    task: TaskName = None,
    model: Annotated[
        str | None, typer.Option(help="Checkpoint folder or hub id.", rich_help_panel=DATA)
    ] = None,
    train: Train = None,
    test: Test = None,
    validation: Annotated[
        str | None, typer.Option(help="Validation rows; else a part of --train.", rich_help_panel=DATA)
    ] = None,
    test_split: Annotated[
        float | None,
        typer.Option(help="Share of --train to test on, instead of --test.", rich_help_panel=DATA),
    ] = None,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    label_column: LabelColumn = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many training rows, stratified.", rich_help_panel=DATA)
    ] = None,
    limit_test: LimitTest = None,
    deduplicate: Annotated[
        bool,
        typer.Option(
            "--deduplicate",
            help="Drop repeated rows, conflicting texts, and training rows that are tested on.",
            rich_help_panel=DATA,
        ),
    ] = False,
    no_finetune: Annotated[
        bool, typer.Option("--no-finetune", help="Take --model as fine-tuned already.", rich_help_panel=DATA)
    ] = False,
    label_map: LabelMap = None,
    epochs: Annotated[
        float | None, typer.Option(help="Epochs of each variant's training.", rich_help_panel=TRAINING)
    ] = None,
    dense_epochs: Annotated[
        float | None, typer.Option(help="Epochs of dense's own fine-tuning.", rich_help_panel=TRAINING)
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", rich_help_panel=TRAINING)] = None,
    batch_size: BatchSize = 32,
    max_length: MaxLength = None,
    seed: Seed = 0,
    seeds: Annotated[
        int | None, typer.Option(help="Train and measure with so many seeds.", rich_help_panel=TRAINING)
    ] = None,
    device: Device = "auto",
    quick: Quick = False,
    standard: Standard = False,
    thorough: Thorough = False,
    train_processes: Annotated[
        int,
        typer.Option(help="Train each variant with so many processes, a GPU each.", rich_help_panel=TRAINING),
    ] = 1,
    padding: Annotated[
        str | None,
        typer.Option(help="Measure these too: fixed, sorted or both.", rich_help_panel=TRAINING),
    ] = None,
    shapes: Annotated[
        str | None,
        typer.Option(help="Measure these too, ROWSxTOKENS: 1x32,8x128.", rich_help_panel=TRAINING),
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(help="Measure with these numbers of CPU threads too: 1,2.", rich_help_panel=TRAINING),
    ] = None,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Tell where each variant's time goes too.", rich_help_panel=TRAINING),
    ] = False,
    country: Annotated[
        str, typer.Option(help="ISO code of the grid that CO2 is reckoned with.", rich_help_panel=TRAINING)
    ] = "IND",
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="Python file that defines a compressor; it is run.", rich_help_panel=TRAINING),
    ] = None,
    out: Out = None,
    keep: Annotated[
        str, typer.Option(help="Artifacts to keep: all, best or none.", rich_help_panel=OUTPUT)
    ] = "all",
    cache: CacheFolder = Path(".bench/cache"),
    remeasure: Remeasure = False,
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Longest that a variant may take: 90s, 30m, 2h. It has failed then.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            metavar="ray[:ADDRESS]",
            help="Make each variant on a node of a Ray cluster.",
            rich_help_panel=SCALING,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where the nodes share artifacts: s3://…, /mnt/….", rich_help_panel=SCALING
        ),
    ] = None,
    row_cpus: Annotated[
        int | None,
        typer.Option(help="CPUs of a node for each variant; default all.", rich_help_panel=SCALING),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Only this part of the variants; see bench merge.", rich_help_panel=SCALING
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the run in this folder, as it was asked.", rich_help_panel=OUTPUT),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Compare with this baseline, or run.", rich_help_panel=GATE),
    ] = None,
    fail_on: FailOn = None,
    strict: Strict = None,
    allow_missing_baseline: AllowMissingBaseline = None,
    save_baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Keep the run as a baseline, if it passes.", rich_help_panel=GATE),
    ] = None,
    export_html: ExportHtml = None,
    export_markdown: ExportMarkdown = None,
    export_csv: ExportCsv = None,
    export_json: ExportJson = None,
    export_latex: ExportLatex = None,
    export_pytest_benchmark: ExportPytestBenchmark = None,
    export_junit: ExportJunit = None,
    export_comment: ExportComment = None,
    github: Github = False,
    track: Track = None,
    json: Annotated[
        bool, typer.Option("--json", help="The run document on stdout.", rich_help_panel=OUTPUT)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and stop.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Compress and measure variants of a classifier, and print what each gains and costs."""
    from bench.options import (
        Options,
        read_duration_s,
        read_label_map,
        read_paddings,
        read_shapes,
        read_thread_counts,
    )
    from bench.shards import read_shard

    timeout_s = read_duration_s("--timeout", timeout)
    if resume is not None:
        resume_run(context, resume, json, timeout_s)
        return

    budget = choose_budget({"quick": quick, "standard": standard, "thorough": thorough})
    options = Options(
        variants=variants,
        attribute=attribute,
        task=task,
        model=model,
        train=train,
        test=test,
        validation=validation,
        test_split=test_split,
        text_columns=tuple(text_column or ()),
        text_pair_column=text_pair_column,
        label_column=label_column,
        deduplicate=deduplicate,
        no_finetune=no_finetune,
        label_map=read_label_map(label_map),
        epochs=epochs,
        dense_epochs=dense_epochs,
        learning_rate=lr,
        batch_size=batch_size,
        max_length=max_length,
        seed=seed,
        seeds=seeds,
        paddings=read_paddings(padding),
        shapes=read_shapes(shapes),
        thread_counts=read_thread_counts(threads),
        profile=profile,
        profile_of=context.obj,
        executor=executor,
        storage=storage,
        row_cpus=row_cpus,
        shard=read_shard(shard),
        train_processes=train_processes,
        country=country,
        limit=limit,
        limit_test=limit_test,
        device=device,
        budget=budget,
        keep=choose_keep(keep),
        plugins=tuple(plugin or ()),
        out=out,
        cache=cache,
        remeasure=remeasure,
        timeout_s=timeout_s,
        baseline=baseline,
        fail_on=None if fail_on is None else tuple(fail_on),
        strict=strict,
        allow_missing_baseline=allow_missing_baseline,
        save_baseline=save_baseline,
        exports=named_exports(
            html=export_html,
            markdown=export_markdown,
            csv=export_csv,
            json=export_json,
            latex=export_latex,
            pytest_benchmark=export_pytest_benchmark,
            junit=export_junit,
            comment=export_comment,
        ),
        github=github,
        track=track,
        command=shlex.join(["bench", *sys.argv[1:]]),
    )
    start_run(options, dry_run, json)


def choose_keep(word: str) -> Any:
    """`--keep`'s value, checked."""
    if word not in ("all", "best", "none"):
        raise InputError(f"--keep {word}: use all, best or none")
    return word


def start_run(options: Options, dry_run: bool, as_json: bool) -> None:
    """Plan, and then print the plan or carry it out."""
    from bench.cache import Cache
    from bench.estimate import estimate
    from bench.folder import RunFolder
    from bench.plan import make_plan

    check_outputs(options)
    plan = make_plan(options)
    if options.profile_of is not None and len(plan.variants) > 2:
        raise InputError(
            f"profile {options.profile_of}: names {len(plan.variants) - 1} variants; name one, "
            "or use bench run --profile"
        )
    gate = gate_of(options, plan)
    expected = estimate(plan)
    if dry_run and as_json:
        raise InputError("--json prints a run, and --dry-run makes none; drop one of them")
    if dry_run:
        from bench.tasks.stored import summary
        from reports.plan import render

        trained = list(dict.fromkeys(v.trained.name for v in plan.variants if v.trains))
        render(
            summary(plan.task),
            plan.config,
            trained,
            expected.time_s,
            expected.disk_bytes,
            terminal(),
        )
        return
    check_tracker(options.track)
    Cache(plan.cache).check(expected.disk_bytes)
    folder = RunFolder.create(options.out, expected.disk_bytes)
    with folder.held("--out") as held:
        if held.doubt:
            say(held.doubt)
        folder.begin(options)
        carry_out(Job(options, plan, folder, gate, is_fresh=True), as_json)
