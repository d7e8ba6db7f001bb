"""From what was asked to what will be done: task, variants and numbers, checked before anything is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from bench.environment import cores
from bench.errors import InputError, did_you_mean
from bench.meters.carbon import carbon_of
from bench.meters.nvml import devices
from bench.nouns.run import Budget, Config, Padding, Shape
from bench.nouns.task import Example, Task
from bench.options import Options
from bench.protocol import PROTOCOL_VERSION
from bench.tasks.demo import demo_task
from bench.tasks.files import FileOptions, load_files
from bench.tasks.split import limit
from compressors.artifact import read_config
from compressors.presets import expand
from compressors.registry import add_plugins
from compressors.variant import Variant

TASKS = {"demo": "generated Marathi headlines, twelve topics, a small BERT trained from scratch; no network"}
ACCURACY_MARGIN = 0.01
LEARNING_RATE = 3e-5
SCRATCH_DENSE_LEARNING_RATE, SCRATCH_LEARNING_RATE = 1e-3, 3e-4
SCRATCH_ROWS_SEEN = 16_000
MAX_LENGTH, DEMO_MAX_LENGTH = 128, 64
POSITIONS_FOR_PADDING = 2
DEMO_EPOCHS = 0.5
THOROUGH_SEEDS = 3
EPOCHS: dict[Budget, float] = {"quick": 1.0, "standard": 3.0, "thorough": 5.0}


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, defaults filled in."""

    task: Task
    variants: tuple[Variant, ...]
    config: Config
    plugins: tuple[Path, ...]
    cache: Path
    remeasure: bool


def make_plan(options: Options) -> Plan:
    """The plan for `options`. Raises `InputError` for whatever cannot be used; writes nothing."""
    check_numbers(options)
    add_plugins(options.plugins)
    device = choose_device(options.device)
    own_files = options.train is not None or options.test is not None or options.model is not None
    variants = expand(options.variants or ("fast" if options.model else "all"), device)
    task = load_task(options, own_files)
    if not task.train and any(variant.trains for variant in variants):
        trained = next(variant.name for variant in variants if variant.trains)
        raise InputError(
            f"--variants: {trained} is trained, and there are no training rows; add --train FILE"
        )
    config = fill_in(options, task, variants, device)
    plugins = tuple(plugin.resolve() for plugin in options.plugins)
    return Plan(task, tuple(variants), config, plugins, options.cache.resolve(), options.remeasure)


def check_numbers(options: Options) -> None:
    """Raise `InputError` for a number no run can use."""
    positive = {
        "--epochs": options.epochs,
        "--dense-epochs": options.dense_epochs,
        "--lr": options.learning_rate,
        "--batch-size": options.batch_size,
        "--max-length": options.max_length,
        "--limit": options.limit,
        "--limit-test": options.limit_test,
        "--seeds": options.seeds,
    }
    for name, value in positive.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} {value}: must be above 0")
    seeds = choose_seeds(options)
    if not 0 <= seeds[0] <= seeds[-1] < 2**32:
        raise InputError(f"--seed {options.seed}: seeds must lie in 0..4294967295")
    if options.dense_epochs and options.no_finetune:
        raise InputError("--dense-epochs: dense is not trained with --no-finetune; drop one of them")
    if options.max_length is not None and options.max_length < 4:
        raise InputError(f"--max-length {options.max_length}: must be at least 4, two tokens are special")


def choose_device(asked: str) -> str:
    """`cpu` or `cuda`. Raises `InputError` for CUDA without an NVIDIA driver or with a torch for CPUs."""
    if asked not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {asked}: {did_you_mean(asked, ['auto', 'cpu', 'cuda'])}")
    missing = None
    if not devices():
        missing = "no NVIDIA device or driver found"
    elif version("torch").endswith("+cpu"):
        missing = f"torch {version('torch')} is a build for CPUs"
    if asked == "cuda" and missing:
        raise InputError(f"--device cuda: {missing}; use --device cpu")
    return "cpu" if asked == "cpu" or missing else "cuda"


def load_task(options: Options, own_files: bool) -> Task:
    """The built-in task, or the user's own from files."""
    if options.task is not None and options.task not in TASKS:
        raise InputError(f"--task {options.task}: {did_you_mean(options.task, list(TASKS))}")
    if not own_files:
        refuse_own_data_options(options)
        task = demo_task(options.seed)
        if options.limit:
            task = replace(task, train=limited(task, task.train, "--limit", options.limit, options.seed))
        if options.limit_test:
            test = limited(task, task.test, "--limit-test", options.limit_test, options.seed)
            validation = limited(task, task.validation, "--limit-test", options.limit_test, options.seed)
            task = replace(task, test=test, validation=validation)
        return task
    if options.task is not None:
        raise InputError(
            f"--task {options.task} brings its own model and data; drop --model, --train and --test"
        )
    if options.train is None and options.test is None:
        raise InputError("--model: its accuracy needs data; add --train FILE and --test FILE")
    if options.no_finetune and options.model is None:
        raise InputError("--no-finetune needs a fine-tuned checkpoint; add --model PATH_OR_ID")
    if options.model is not None:
        from compressors.artifact import check_checkpoint

        check_checkpoint(options.model)
    return load_files(
        FileOptions(
            train=options.train,
            test=options.test,
            validation=options.validation,
            test_split=options.test_split,
            text_columns=options.text_columns,
            text_pair_column=options.text_pair_column,
            label_column=options.label_column,
            limit=options.limit,
            limit_test=options.limit_test,
            deduplicate=options.deduplicate,
            seed=options.seed,
            model=options.model,
            fine_tune=not options.no_finetune,
        )
    )


def refuse_own_data_options(options: Options) -> None:
    """Raise `InputError` for an option about the user's own data where a built-in task brings its own."""
    given = {
        "--no-finetune": options.no_finetune,
        "--deduplicate": options.deduplicate,
        "--validation": options.validation,
        "--test-split": options.test_split,
        "--text-column": options.text_columns,
        "--text-pair-column": options.text_pair_column,
        "--label-column": options.label_column,
    }
    for name, value in given.items():
        if value:
            raise InputError(f"{name} is about your own data; add --train FILE, or drop it")


def limited(task: Task, rows: tuple[Example, ...], option: str, most: int, seed: int) -> tuple[Example, ...]:
    """A stratified part of the rows. Raises `InputError` below one row a class."""
    if most < len(task.labels):
        raise InputError(
            f"{option} {most}: the task has {len(task.labels)} classes; use at least one row each"
        )
    return limit(list(rows), most, seed)


def fill_in(options: Options, task: Task, variants: list[Variant], device: str) -> Config:
    """Every number of the run, those not asked for by the defaults in `docs/measuring.md`."""
    budget = options.budget or ("quick" if task.demonstration else "standard")
    epochs = options.epochs or (DEMO_EPOCHS if task.demonstration else EPOCHS[budget])
    from_scratch = task.model is None
    dense_epochs = options.dense_epochs or (scratch_epochs(len(task.train)) if from_scratch else epochs)
    rate = options.learning_rate or (SCRATCH_LEARNING_RATE if from_scratch else LEARNING_RATE)
    dense_rate = options.learning_rate or (SCRATCH_DENSE_LEARNING_RATE if from_scratch else LEARNING_RATE)
    carbon = carbon_of(options.country)
    length = options.max_length or default_length(task)
    thorough = budget == "thorough"
    return Config(
        command=options.command,
        protocol_version=PROTOCOL_VERSION,
        variants=[variant.name for variant in variants],
        device=device,
        budget=budget,
        seeds=choose_seeds(options),
        paddings=choose_paddings(options, thorough),
        shapes=choose_shapes(options, length),
        thread_counts=choose_thread_counts(options, device, thorough),
        deduplicate=options.deduplicate,
        epochs=epochs,
        dense_epochs=dense_epochs if task.fine_tune else 0.0,
        learning_rate=rate,
        dense_learning_rate=dense_rate,
        batch_size=options.batch_size,
        max_length=length,
        country=options.country.upper(),
        carbon_intensity=carbon.intensity,
        carbon_source=carbon.source,
        pue=carbon.pue,
        accuracy_margin=ACCURACY_MARGIN,
        keep=options.keep,
    )


def choose_seeds(options: Options) -> list[int]:
    """`--seed` and those after it: one, or three with `--thorough`, unless `--seeds` says otherwise."""
    count = options.seeds or (THOROUGH_SEEDS if options.budget == "thorough" else 1)
    return [options.seed + i for i in range(count)]


def choose_paddings(options: Options, thorough: bool) -> list[Padding]:
    """The ways to pad besides arrival order: all of them with `--thorough`, else those asked for."""
    if options.paddings is not None:
        return list(options.paddings)
    return list(get_args(Padding)) if thorough else []


def choose_shapes(options: Options, longest: int) -> list[Shape]:
    """The shapes asked for. Raises `InputError` for more tokens than rows are cut to."""
    for rows, tokens in options.shapes:
        if tokens > longest:
            raise InputError(f"--shapes {rows}x{tokens}: rows are cut to {longest} tokens; see --max-length")
    return list(options.shapes)


def choose_thread_counts(options: Options, device: str, thorough: bool) -> list[int]:
    """The numbers of threads to measure with besides the run's own; on a GPU they say nothing.

    With `--thorough` the powers of two below the cores. Raises `InputError` for more than there are.
    """
    if options.thread_counts is None:
        return [2**i for i in range(10) if 2**i < cores()] if thorough and device == "cpu" else []
    if device != "cpu":
        raise InputError("--threads: the work is done on the GPU; drop it, or use --device cpu")
    for count in options.thread_counts:
        if count > cores():
            raise InputError(f"--threads {count}: this process may use {cores()} cores")
    return list(options.thread_counts)


def default_length(task: Task) -> int:
    """Tokens a row is cut to: less for the demo's headlines, and no more than a local checkpoint takes."""
    if task.demonstration:
        return DEMO_MAX_LENGTH
    positions = read_config(task.model).get("max_position_embeddings") if task.model else None
    if not isinstance(positions, int) or positions <= POSITIONS_FOR_PADDING:
        return MAX_LENGTH
    return min(MAX_LENGTH, positions - POSITIONS_FOR_PADDING)


def scratch_epochs(rows: int) -> float:
    """Epochs after which a model without pretraining has seen enough rows, between 2 and 10."""
    return min(10.0, max(2.0, math.ceil(2 * SCRATCH_ROWS_SEEN / rows) / 2))
