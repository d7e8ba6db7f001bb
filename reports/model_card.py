"""The model card of an exported folder: what it is, how it is loaded, and what was measured of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from bench.nouns.run import DENSE, Result, Run
from reports.facts import facts
from reports.json import inert
from reports.markdown import escaped, inline, section_lines, table_lines
from reports.parts import Header, Line, Name, Row, Table, plain
from reports.public import Public
from reports.sections import sections
from reports.sentence import gains
from reports.tables import tables

TEMPLATE = "model_card.md.jinja"
LEFT_OUT = ("Model", "Command")
SCORES = {"accuracy": ("accuracy", "Accuracy"), "macro_f1": ("f1", "Macro-F1")}


@dataclass(frozen=True)
class Exported:
    """What a card must know of the folder besides its run.

    `place` is what the card's example loads: the folder's name, or its id on a hub. `parts` are the
    variant's compressors, None where a plugin's cannot be told. `class_file` is what it needs beside
    transformers, `dtype` torch's name.
    """

    place: str
    parts: Sequence[Any] | None
    classes: Sequence[str]
    class_file: str | None
    dtype: str


class Markup(str):
    """Text that is Markdown already."""

    __slots__ = ()


def render(run: Run, result: Result, folder: Exported) -> str:
    """The card of `result`, one row of `run`, as Markdown with YAML in front; it says no local paths."""
    public, origins = Public(run), _origins(run, folder.parts)
    run, result = public(run), public(result)
    environment = Environment(  # noqa: S701  (what it writes is Markdown, and `_literal` escapes for that)
        finalize=_literal,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.from_string(files("reports").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    seeds = [row for row in run.results if row.variant == result.variant and row.status == "ok"]
    one_seed = run.model_copy(update={"results": [row for row in run.results if row.seed == result.seed]})
    rows = [result, *(row for row in one_seed.results if row.variant == DENSE != result.variant)]
    return template.render(
        run=run,
        folder=folder,
        front_matter=Markup(_front_matter(run, result, folder, origins or {})),
        variant=_code(result.variant),
        dense=result.variant == DENSE,
        base=public(_base(origins)),
        techniques=list(_techniques(folder.parts or (), public)),
        runtime=[
            (_code(part.name), part.engine) for part in folder.parts or () if part.phase.name == "RUNTIME"
        ],
        sorting=[_code(part.name) for part in folder.parts or () if part.sorts_rows],
        onnx=next((part.engine for part in folder.parts or () if part.name == "onnx"), None),
        packages=sorted({name for part in folder.parts or () if part.quantises for name in part.packages}),
        place=Markup(inert(json.dumps(folder.place, ensure_ascii=False))),
        gains=_inline(gains([result])) if _is_compared(result) else "",
        over_seeds=_inline(gains(seeds)) if all(map(_is_compared, seeds)) else "",
        seed=result.seed,
        seen=_seen(run, result),
        came_trained=run.config.dense_epochs == 0 or any(part.origins for part in folder.parts or ()),
        teacher=public(_named(_teachers(run, folder.parts or ()))),
        facts=[fact for fact in facts(run) if fact.name not in LEFT_OUT],
        tables=[
            _lines(table_lines(_transposed(table)))
            for table in tables(one_seed, rows)
            if not table.detail and table.topic == "figures"
        ],
        sections=[_lines(section_lines(section)) for section in sections(one_seed, rows)],
    )


def announcement(folder: str, class_file: str | None) -> str:
    """One line for who exported `folder`: where it lies and how it is loaded."""
    if class_file is None:
        return f"{folder}: transformers loads it; README.md is its model card"
    module = class_file.removesuffix(".py")
    return (
        f"{folder}: transformers loads it with the {class_file} in it, by trust_remote_code=True or after "
        f"import {module}; README.md is its model card"
    )


def _origins(run: Run, parts: Sequence[Any] | None) -> dict[str, str | None] | None:
    """The checkpoints that the weights come from, as they were named, each with its id if a hub has it.

    None where a plugin took part. Where a compressor brings one's weights, as `load` and `kd:student` do,
    nothing of the task's model is left.
    """
    if parts is None:
        return None
    brought = [name for part in parts for name in part.origins]
    return _hub_ids(run, brought or ([run.task.model] if run.task.model else []))


def _teachers(run: Run, parts: Sequence[Any]) -> dict[str, str | None]:
    """The checkpoints that the model learnt from without having their weights; named as `_origins`."""
    return _hub_ids(run, [name for part in parts for name in part.checkpoints if name not in part.origins])


def _hub_ids(run: Run, names: Sequence[str]) -> dict[str, str | None]:
    """Each checkpoint with its id on a hub, None where it is a folder."""
    return {name: name.partition("@")[0] if run.checkpoints.get(name) else None for name in names}


def _front_matter(run: Run, result: Result, folder: Exported, origins: dict[str, str | None]) -> str:
    """The metadata that a hub reads, as YAML."""
    data = plain(run.task.name)
    scores = [
        EvalResult(
            task_type="text-classification",
            dataset_type=data,
            dataset_name=data,
            dataset_split="test",
            metric_type=kind,
            metric_name=title,
            metric_value=result.metrics[name].value,
        )
        for name, (kind, title) in SCORES.items()
        if name in result.metrics
    ]
    card = ModelCardData(
        base_model=[hub_id for hub_id in origins.values() if hub_id] or None,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["model-compression", *(part.name for part in folder.parts or ())],
        metrics=[score.metric_type for score in scores] or None,
        model_name=plain(f"{run.task.name} {result.variant}"),
        eval_results=scores or None,
    )
    return card.to_yaml(line_break="\n")


def _techniques(parts: Sequence[Any], public: Public) -> Iterator[tuple[Markup, str]]:
    """Each compressor's name, and its summary with every setting."""
    for part in parts:
        fields = public(dataclasses.asdict(part)).items()
        settings = ", ".join(f"{name}={value}" for name, value in fields if value != "")
        yield _code(part.name), f"{part.summary} ({settings})" if settings else part.summary


def _base(origins: dict[str, str | None] | None) -> str:
    """What the weights come from."""
    if origins is None:
        return "not told here, since a technique is a plugin's"
    if not origins:
        return "no checkpoint; trained on the task's own rows"
    return _named(origins)


def _named(checkpoints: dict[str, str | None]) -> str:
    """Ids on a hub, else checkpoints by name."""
    return " and ".join(hub_id or f"the checkpoint {name}" for name, hub_id in checkpoints.items())


def _is_compared(result: Result) -> bool:
    return result.variant != DENSE and "speedup" in result.metrics


def _seen(run: Run, result: Result) -> str:
    """What is known of test rows that were trained on."""
    audit = run.task.audit.splits.get("test")
    if audit is None:
        return "not known"
    if audit.in_train == 0:
        return "no test row's text stands in the training file"
    found = f"the texts of {audit.in_train:,} of {audit.rows:,} test rows stand in the training file"
    if run.config.deduplicate:
        return f"{found}; the training rows with these were removed"
    unseen = "the figures of unseen rows leave them out" if "accuracy_unseen" in result.metrics else ""
    return f"{found}; {unseen or 'accuracy on others may be lower'}"


def _transposed(table: Table) -> Table:
    """The table with its rows as columns: a card compares few variants in much."""
    headers = tuple(Header(row.label) for row in table.rows)
    cells = zip(*(row.cells for row in table.rows), strict=True)
    rows = tuple(Row(header.text, values) for header, values in zip(table.headers, cells, strict=True))
    return replace(table, headers=headers, rows=rows, first="Measured")


def _literal(value: object) -> str:
    """What an expression of the template writes: Markdown as it is, all other text escaped."""
    return value if isinstance(value, Markup) else escaped(str(value))


def _code(name: str) -> Markup:
    return _inline((Name(name),))


def _inline(line: Line) -> Markup:
    return Markup(inline(line))


def _lines(lines: Iterator[str]) -> Markup:
    return Markup("\n".join(lines).strip("\n"))
