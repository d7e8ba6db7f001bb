"""`bench merge`: the runs of several machines as one."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.job import write_report
from bench.cli.options import (
    OUTPUT,
    ExportCsv,
    ExportHtml,
    ExportJson,
    ExportJunit,
    ExportLatex,
    ExportMarkdown,
    ExportPytestBenchmark,
    Out,
)
from bench.cli.shared import export_runs, named_exports, say, show
from bench.errors import ExitCode


def merge(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Run folders of the shards.")],
    out: Out = None,
    export_html: ExportHtml = None,
    export_markdown: ExportMarkdown = None,
    export_csv: ExportCsv = None,
    export_json: ExportJson = None,
    export_latex: ExportLatex = None,
    export_pytest_benchmark: ExportPytestBenchmark = None,
    export_junit: ExportJunit = None,
    json: Annotated[
        bool, typer.Option("--json", help="The run document on stdout.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Make one run of the shards of a sweep, as if one machine had made them all."""
    from bench import merge as merging
    from bench.folder import RunFolder
    from bench.outputs import Outputs

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
    with ExitStack() as open_parts:
        parts = merging.in_order([open_parts.enter_context(merging.opened(place)) for place in runs])
        folder = RunFolder.create(out, merging.copied_bytes(parts))
        open_parts.enter_context(folder.held("--out"))
        merged = merging.merge(parts, folder.path.name, shlex.join(["bench", *sys.argv[1:]]))
        merged.files_to(folder)
        folder.write(merged.run)
        write_report(folder, merged.run)
    for line in merging.remarks(merged):
        say(line)
    show(merged.run, json)
    export_runs(files, {folder.path.name: merged.run})
    say(str(folder.path))
    failed = any(row.status == "failed" for row in merged.run.results)
    raise typer.Exit(ExitCode.FAILED if failed or merged.run.status != "complete" else ExitCode.OK)
