"""The tasks that bring their own data, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from bench.errors import InputError
from bench.nouns.task import Example, Task
from bench.tasks.demo import demo_task
from bench.tasks.files import FileOptions
from bench.tasks.mahanews import DOCUMENTS, HEADLINES, MODEL, PARAGRAPHS, mahanews_task
from bench.tasks.split import limit


@dataclass(frozen=True)
class BuiltIn:
    """A task by name.

    `max_length` is how many tokens its rows are cut to where nothing else is asked. `model`, a hub id, is
    used as it came; without one a small BERT is trained from scratch. `takes` names the options on model and
    data that it takes.
    """

    summary: str
    load: Callable[[FileOptions], Task]
    max_length: int
    model: str | None = None
    takes: frozenset[str] = frozenset()


def load_demo(options: FileOptions) -> Task:
    """The demonstration with as many rows as asked for, of a small BERT or of the model named."""
    task = replace(demo_task(options.seed), model=options.model, fine_tune=options.fine_tune)
    if options.limit:
        task = replace(task, train=limited(task, task.train, "--limit", options.limit, options.seed))
    if options.limit_test:
        test = limited(task, task.test, "--limit-test", options.limit_test, options.seed)
        validation = limited(task, task.validation, "--limit-test", options.limit_test, options.seed)
        task = replace(task, test=test, validation=validation)
    return task


def limited(task: Task, rows: tuple[Example, ...], option: str, most: int, seed: int) -> tuple[Example, ...]:
    """A stratified part of the rows. Raises `InputError` below one row a class."""
    if most < len(task.labels):
        raise InputError(
            f"{option} {most}: the task has {len(task.labels)} classes; use at least one row each"
        )
    return limit(rows, most, seed)


def mahanews(name: str, summary: str, max_length: int, *corpora: str) -> BuiltIn:
    """The published splits of some of MahaNews' corpora, and the model that was fine-tuned on all of them."""
    takes = frozenset({"--model", "--no-finetune", "--deduplicate"})
    return BuiltIn(summary, partial(mahanews_task, name, corpora), max_length, MODEL, takes)


TASKS = {
    "demo": BuiltIn(
        "generated Marathi headlines, twelve topics, a small BERT trained from scratch; no network",
        load_demo,
        max_length=64,
        takes=frozenset({"--model", "--no-finetune"}),
    ),
    "mahanews-shc": mahanews(
        "mahanews-shc",
        "MahaNews' headlines in Marathi, twelve topics, and the MahaBERT fine-tuned on them",
        128,
        HEADLINES,
    ),
    "mahanews-lpc": mahanews("mahanews-lpc", "the same for its paragraphs", 256, PARAGRAPHS),
    "mahanews-ldc": mahanews("mahanews-ldc", "the same for its documents", 512, DOCUMENTS),
    "mahanews-all": mahanews("mahanews-all", "the three pooled", 512, HEADLINES, PARAGRAPHS, DOCUMENTS),
}
