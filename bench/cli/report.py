"""What is made of a saved run: its tables, the study beside it, a deployable folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.job import check_tracker
from bench.cli.options import (
    ExportCsv,
    ExportHtml,
    ExportJson,
    ExportJunit,
    ExportLatex,
    ExportMarkdown,
    ExportPytestBenchmark,
    Github,
    Track,
)
from bench.cli.shared import check_github, export_runs, named_exports, say, show, tell_github, terminal
from bench.errors import InputError


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]…", help="Run folders or documents; default the latest run."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The run document on stdout.")] = False,
    export_html: ExportHtml = None,
    export_markdown: ExportMarkdown = None,
    export_csv: ExportCsv = None,
    export_json: ExportJson = None,
    export_latex: ExportLatex = None,
    export_pytest_benchmark: ExportPytestBenchmark = None,
    export_junit: ExportJunit = None,
    github: Github = False,
    track: Track = None,
) -> None:
    """Print a run's tables again, or those of several runs side by side."""
    from bench.folder import latest_run, read_run
    from bench.outputs import Outputs
    from reports import console, side_by_side
    from reports import github as summaries
    from reports.content import essentials

    files = named_exports(
        html=export_html,
        markdown=export_markdown,
        csv=export_csv,
        json=export_json,
        latex=export_latex,
        pytest_benchmark=export_pytest_benchmark,
        junit=export_junit,
    )
    Outputs(files).check()
    check_github(github)
    if github and runs and len(runs) > 1:
        raise InputError(
            f"--github: a summary is of one run, and here are {len(runs)}; use --export-markdown"
        )
    check_tracker(track)
    places = runs or [latest_run()]
    found = {name: read_run(place) for name, place in zip(side_by_side.called(places), places, strict=True)}
    export_runs(files, found)
    if len(found) == 1:
        show(next(iter(found.values())), json)
    elif json:
        raise InputError(f"--json prints one run, and here are {len(found)}; use --export-json FILE")
    else:
        shown = essentials(side_by_side.report(found))
        console.lay_out(shown, terminal(), "More with --export-markdown FILE")
    for place, run in zip(places, found.values(), strict=True):
        if github:
            tell_github(summaries.summary_of_run(run), [], terminal(stderr=json))
        if track is not None:
            from bench import trackers

            say(trackers.track(track, run, place if place.is_dir() else None))


def study(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder or run.json; default the latest run.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for study.md and study.tex; default the run's.")
    ] = None,
) -> None:
    """Set a run beside the study's figures, as a table, in Markdown and in LaTeX."""
    from bench.folder import latest_run, read_run, write_documents
    from reports import console, latex, markdown
    from reports.study import study_report

    place = run or latest_run()
    content = study_report(read_run(place))
    folder = out or (place if place.is_dir() else place.parent)
    write_documents(folder, {"study.md": markdown.document(content), "study.tex": latex.document(content)})
    console.lay_out(content, terminal(), f"The same in study.md and study.tex of {folder}")


def export(
    run: Annotated[Path, typer.Argument(help="Run folder or run.json.")],
    variant: Annotated[str, typer.Argument(help="A variant of the run, as its table names it.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
    seed: Annotated[
        int | None, typer.Option(help="Which seed's weights, where the run has several; default the first.")
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Upload to this hub repository, made if absent.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private; the hub's default is public.")
    ] = False,
) -> None:
    """Make a deployable folder of a variant, with a model card; optionally upload it."""
    from bench import export as exporting
    from bench.folder import read_run
    from reports import model_card
    from reports.public import Public

    if private and push is None:
        raise InputError("--private: says how --push makes a repository; give both")
    if push is not None:
        exporting.check_push(push)
    exporting.check_place(folder)
    document = read_run(run)
    result, place = exporting.choose(document, run if run.is_dir() else run.parent, variant, seed)
    artifact = exporting.Artifact.read(place)
    exported = model_card.Exported(
        place=push or folder.resolve().name,
        parts=artifact.parts,
        classes=artifact.classes,
        class_file=artifact.class_file,
        dtype=artifact.dtype,
    )
    card = model_card.render(document, result, exported)
    exporting.write(artifact, Public(document)(artifact.document), card, folder)
    written = model_card.announcement(str(folder), artifact.class_file)
    terminal().print(written, markup=False, highlight=False, soft_wrap=True)
    if push is not None:
        address = exporting.push(folder, push, private)
        terminal().print(address, markup=False, highlight=False, soft_wrap=True)
