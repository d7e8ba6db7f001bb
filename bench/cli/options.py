"""The options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DATA, TRAINING, OUTPUT, GATE = "Your model and data", "Training and measuring", "Output", "Gate"
SCALING = "Many machines"

TaskName = Annotated[str | None, typer.Option(help="A built-in task.", rich_help_panel=DATA)]
Train = Annotated[
    str | None,
    typer.Option(
        help="Training rows: CSV, TSV, JSONL or Parquet; or a data set, ORG/NAME/CONFIG@REVISION:SPLIT.",
        rich_help_panel=DATA,
    ),
]
Test = Annotated[str | None, typer.Option(help="Test rows.", rich_help_panel=DATA)]
TextColumn = Annotated[
    list[str] | None, typer.Option(help="Text column; several are joined.", rich_help_panel=DATA)
]
TextPairColumn = Annotated[str | None, typer.Option(help="Second text of a pair task.", rich_help_panel=DATA)]
LabelColumn = Annotated[str | None, typer.Option(help="Label column.", rich_help_panel=DATA)]
LimitTest = Annotated[
    int | None,
    typer.Option(help="At most so many test and validation rows, stratified.", rich_help_panel=DATA),
]
LabelMap = Annotated[
    str | None,
    typer.Option(
        help="The data's names of a checkpoint's classes: LABEL_0=Sports,LABEL_1=Arts.",
        rich_help_panel=DATA,
    ),
]
BatchSize = Annotated[
    int, typer.Option(help="Rows a batch, in training and measuring.", rich_help_panel=TRAINING)
]
MaxLength = Annotated[int | None, typer.Option(help="Tokens a row is cut to.", rich_help_panel=TRAINING)]
Seed = Annotated[int, typer.Option(help="Seed of data, training and measuring.", rich_help_panel=TRAINING)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=TRAINING)]
Quick = Annotated[
    bool, typer.Option("--quick", help="Short measuring; the demo's default.", rich_help_panel=TRAINING)
]
Standard = Annotated[
    bool,
    typer.Option(
        "--standard", help="Measuring as documented; your own data's default.", rich_help_panel=TRAINING
    ),
]
Thorough = Annotated[
    bool,
    typer.Option("--thorough", help="Longer still: three seeds, every scenario.", rich_help_panel=TRAINING),
]
Out = Annotated[
    Path | None, typer.Option(help="Run folder; default .bench/runs/<time>-<id>.", rich_help_panel=OUTPUT)
]
CacheFolder = Annotated[Path, typer.Option(help="Where finished steps are kept.", rich_help_panel=OUTPUT)]
Remeasure = Annotated[
    bool,
    typer.Option("--remeasure", help="Measure again what an earlier run measured.", rich_help_panel=OUTPUT),
]


def export_option(name: str, what: str) -> Any:
    """The option `--export-NAME FILE`."""
    option = typer.Option(f"--export-{name}", metavar="FILE", help=what, rich_help_panel=OUTPUT)
    return Annotated[Path | None, option]


ExportHtml = export_option("html", "The report as one page that opens offline.")
ExportMarkdown = export_option("markdown", "The report as Markdown.")
ExportCsv = export_option("csv", "Every figure, a line each.")
ExportJson = export_option("json", "The document.")
ExportLatex = export_option("latex", "The tables for LaTeX with booktabs.")
ExportPytestBenchmark = export_option("pytest-benchmark", "Rounds for pytest-benchmark compare.")
ExportJunit = export_option("junit", "A test case a variant, or a gated figure, as JUnit XML.")
ExportComment = export_option("comment", "The gate's outcome as a pull request's comment.")
FailOn = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC:AMOUNT",
        help="How much worse a metric may be: speedup:5%, accuracy:1pt, disk_size:1%. Repeatable.",
        rich_help_panel=GATE,
    ),
]
Strict = Annotated[
    bool | None,
    typer.Option("--strict/--no-strict", help="Fail where it cannot be told, too.", rich_help_panel=GATE),
]
AllowMissingBaseline = Annotated[
    bool | None,
    typer.Option(
        "--allow-missing-baseline/--no-allow-missing-baseline",
        help="Only say so where there is no baseline yet.",
        rich_help_panel=GATE,
    ),
]
Github = Annotated[
    bool,
    typer.Option("--github", help="Write GitHub's step summary and annotations.", rich_help_panel=OUTPUT),
]
Track = Annotated[
    str | None,
    typer.Option(metavar="TRACKER", help="Log the saved run there: mlflow.", rich_help_panel=OUTPUT),
]
