"""From what was asked to what will be done: task, variants and numbers, checked before anything is made."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from bench.environment import cores, gpus
from bench.errors import InputError, did_you_mean
from bench.executors.cluster import Cluster, find_cluster
from bench.meters.carbon import carbon_of
from bench.meters.nvml import devices
from bench.nouns.run import DENSE, Budget, Config, Padding, Shape
from bench.nouns.task import Task
from bench.options import Options
from bench.protocol import PROTOCOL_VERSION
from bench.shards import notes_on, share
from bench.tasks.built_in import TASKS, BuiltIn
from bench.tasks.files import FileOptions, load_files
from compressors import hub
from compressors.artifact import config_class_names, longest_row, read_config, refuse_quantised
from compressors.checkpoint import Load
from compressors.inspection import check_checkpoint
from compressors.presets import expand
from compressors.registry import add_plugins, running_plugins
from compressors.variant import Variant, check_continued

DEMO = "demo"
ACCURACY_MARGIN = 0.01
LEARNING_RATE = 3e-5
SCRATCH_DENSE_LEARNING_RATE, SCRATCH_LEARNING_RATE = 1e-3, 3e-4
SCRATCH_ROWS_SEEN = 16_000
MAX_LENGTH = 128
TOKENIZER_CONFIG = "tokenizer_config.json"
DEMO_EPOCHS = 0.5
THOROUGH_SEEDS = 3
# Beyond these a number is a slip of the finger, and would end in a full memory or disk.
MOST_EPOCHS, MOST_LEARNING_RATE, MOST_SEEDS = 10_000, 10, 1_000
MOST_ROWS, MOST_TOKENS = 65_536, 2**20
EPOCHS: dict[Budget, float] = {"quick": 1.0, "standard": 3.0, "thorough": 5.0}


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, defaults filled in.

    `checkpoints` are the task's and those that variants read, with the commit of one that came from a hub.
    `anchor` says what the others are measured against: the dense model in float32, or `load:` an artifact,
    run as it was made.
    """

    task: Task
    variants: tuple[Variant, ...]
    config: Config
    plugins: tuple[Path, ...]
    cache: Path
    checkpoints: dict[str, str | None]
    remeasure: bool
    anchor: str = DENSE
    timeout_s: float | None = None
    cluster: Cluster | None = None

    @property
    def files(self) -> list[Path]:
        """Files that variants read besides checkpoints."""
        named = (file for variant in self.variants for part in variant.parts for file in part.files)
        return list(dict.fromkeys(named))


@running_plugins()
def make_plan(options: Options) -> Plan:
    """The plan for `options`. Raises `InputError` for whatever cannot be used.

    Writes nothing but the caches of hub and data, where something is downloaded.
    """
    check_numbers(options)
    add_plugins(options.plugins)
    cluster = find_cluster(options)
    device = choose_device(options.device, cluster)
    check_processes(options, device, cluster)
    built_in = choose_built_in(options)
    asked = ("fast" if options.model else "all") if options.variants is None else options.variants
    sweep = expand(asked, device, options.attribute)
    variants = share(sweep, options.shard)
    task = load_task(options, built_in)
    checkpoints = fetch_checkpoints(task, variants)
    for name in trained_from(options, task, variants):
        refuse_quantised(name)
    for variant in variants:
        check_continued(variant)
    sources = [f"{name}: {hub.said_commit(commit)}" for name, commit in checkpoints.items() if commit]
    task = replace(
        task, label_map=options.label_map, notes=(*sources, *notes_on(variants, options.shard), *task.notes)
    )
    check_label_map(task, list(checkpoints))
    if not task.train and any(variant.trains for variant in variants):
        trained = next(variant.name for variant in variants if variant.trains)
        raise InputError(f"{trained} is trained, and there are no training rows; add --train FILE")
    longest = default_length(task, built_in.max_length if built_in else MAX_LENGTH)
    config = fill_in(options, task, variants, device, longest, cluster)
    config.sweep = [variant.name for variant in sweep] if options.shard else []
    plugins = tuple(plugin.resolve() for plugin in options.plugins)
    # Path.resolve raises for a circle of links.
    cache = Path(os.path.realpath(options.cache))
    anchor = Variant((Load(task.model or ""),)).name if options.as_it_is else DENSE
    return Plan(
        task,
        tuple(variants),
        config,
        plugins,
        cache,
        checkpoints,
        options.remeasure,
        anchor,
        options.timeout_s,
        cluster,
    )


def check_numbers(options: Options) -> None:
    """Raise `InputError` for a number no run can use."""
    numbers: dict[str, tuple[float | None, float]] = {
        "--epochs": (options.epochs, MOST_EPOCHS),
        "--dense-epochs": (options.dense_epochs, MOST_EPOCHS),
        "--lr": (options.learning_rate, MOST_LEARNING_RATE),
        "--batch-size": (options.batch_size, MOST_ROWS),
        "--train-processes": (options.train_processes, options.batch_size),
        "--max-length": (options.max_length, MOST_TOKENS),
        "--limit": (options.limit, math.inf),
        "--limit-test": (options.limit_test, math.inf),
        "--seeds": (options.seeds, MOST_SEEDS),
    }
    for name, (value, most) in numbers.items():
        if value is not None and not 0 < value <= most:
            raise InputError(
                f"{name} {value}: must be above 0" + f" and at most {most}" * math.isfinite(most)
            )
    seeds = choose_seeds(options)
    if not 0 <= seeds[0] <= seeds[-1] < 2**32:
        raise InputError(f"--seed {options.seed}: seeds must lie in 0..4294967295")
    if options.max_length is not None and options.max_length < 4:
        raise InputError(f"--max-length {options.max_length}: must be at least 4, two tokens are special")


def choose_device(asked: str, cluster: Cluster | None = None) -> str:
    """`cpu` or `cuda`, by what the cluster has where rows are made on one that is there already.

    Raises `InputError` for CUDA without a GPU or an NVIDIA driver, or with a torch for CPUs.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {asked}: {did_you_mean(asked, ['auto', 'cpu', 'cuda'])}")
    missing = None
    if cluster is not None and cluster.address is not None:
        missing = None if cluster.most_gpus else "no node of the cluster has a GPU"
    elif not devices():
        missing = "no NVIDIA device or driver found"
    elif version("torch").endswith("+cpu"):
        missing = f"torch {version('torch')} is a build for CPUs"
    if asked == "cuda" and missing:
        raise InputError(f"--device cuda: {missing}; use --device cpu")
    return "cpu" if asked == "cpu" or missing else "cuda"


def check_processes(options: Options, device: str, cluster: Cluster | None = None) -> None:
    """Raise `InputError` unless the processes that train can share a batch out, and have a GPU each."""
    count, rows = options.train_processes, options.batch_size
    if rows % count:
        raise InputError(
            f"--train-processes {count}: batches of {rows} rows cannot be shared out evenly; "
            f"use a --batch-size that {count} divides, such as {rows - rows % count}"
        )
    most = len(gpus()) if cluster is None else cluster.most_gpus
    if device == "cuda" and count > most:
        raise InputError(
            f"--train-processes {count}: each needs a GPU, and there are {most}; "
            "lower it, or see CUDA_VISIBLE_DEVICES"
        )


def choose_built_in(options: Options) -> BuiltIn | None:
    """The task asked for by name, the demonstration where nothing is named, None for the user's own data."""
    if options.task is not None and options.task not in TASKS:
        raise InputError(f"--task {options.task}: {did_you_mean(options.task, list(TASKS))}")
    own = options.train is not None or options.test is not None or options.model is not None
    return None if own and options.task is None else TASKS[options.task or DEMO]


def load_task(options: Options, built_in: BuiltIn | None) -> Task:
    """The built-in task, or the user's own from files."""
    if built_in is not None:
        refuse_other_data(options, built_in)
    elif options.train is None and options.test is None:
        raise InputError("--model: its accuracy needs data; add --train FILE and --test FILE")
    elif options.no_finetune and options.model is None:
        raise InputError("--no-finetune needs a fine-tuned checkpoint; add --model PATH_OR_ID")
    model = options.model or (built_in.model if built_in else None)
    as_it_came = options.no_finetune or model != options.model
    if options.dense_epochs and as_it_came:
        raise InputError("--dense-epochs: dense is the model as it came and is not trained; drop it")
    load = built_in.load if built_in else load_files
    return load(
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
            model=model,
            fine_tune=not as_it_came,
        )
    )


def refuse_other_data(options: Options, built_in: BuiltIn) -> None:
    """Raise `InputError` for an option on model or data that the built-in task does not take."""
    given = {
        "--model": options.model,
        "--train": options.train,
        "--test": options.test,
        "--no-finetune": options.no_finetune,
        "--deduplicate": options.deduplicate,
        "--validation": options.validation,
        "--test-split": options.test_split,
        "--text-column": options.text_columns,
        "--text-pair-column": options.text_pair_column,
        "--label-column": options.label_column,
    }
    for name, value in given.items():
        if value and name not in built_in.takes:
            if options.task:
                raise InputError(f"{name}: --task {options.task} brings its own; drop one of them")
            raise InputError(f"{name} is about your own data; add --train FILE, or drop it")


def fetch_checkpoints(task: Task, variants: list[Variant]) -> dict[str, str | None]:
    """The task's checkpoint and those that variants read, all of them here now; with a hub's commit."""
    named = [name for variant in variants for name in variant.checkpoints]
    for name in (checkpoints := dict.fromkeys([task.model, *named] if task.model else named)):
        hub.fetch(name)
        check_checkpoint(name)
    return {name: hub.commit_of(name) for name in checkpoints}


def trained_from(options: Options, task: Task, variants: list[Variant]) -> list[str]:
    """The checkpoints whose weights are trained or become float32: dense's, and students'."""
    parts = [part for variant in variants for part in variant.parts if part.trains]
    students = [name for part in parts for name in part.origins]
    return students if task.model is None or options.as_it_is else [task.model, *students]


def check_label_map(task: Task, checkpoints: list[str]) -> None:
    """Raise `InputError` unless the map names each class of a checkpoint and uses each of the data's names.

    That no class and no name stands twice was seen when it was read.
    """
    if not task.label_map:
        return
    if not checkpoints:
        raise InputError("--label-map names a checkpoint's classes; add --model PATH_OR_ID, or drop it")
    for label in task.labels:
        if label not in task.label_map.values():
            raise InputError(f"--label-map gives no class the name {label!r}, which the data has")
    if any(set(config_class_names(name)) == task.label_map.keys() for name in checkpoints):
        return
    classes = config_class_names(checkpoints[0])
    for name in task.label_map:
        if name not in classes:
            raise InputError(f"--label-map {name}: no class of {checkpoints[0]}; known: {', '.join(classes)}")
    missing = next(name for name in classes if name not in task.label_map)
    raise InputError(f"--label-map leaves out {missing!r}, a class of {checkpoints[0]}")


def fill_in(
    options: Options, task: Task, variants: list[Variant], device: str, longest: int, cluster: Cluster | None
) -> Config:
    """Every number of the run, those not asked for by the defaults in `docs/measuring.md`."""
    budget = options.budget or ("quick" if task.demonstration else "standard")
    epochs = options.epochs or (DEMO_EPOCHS if task.demonstration else EPOCHS[budget])
    from_scratch = task.model is None
    dense_epochs = options.dense_epochs or (scratch_epochs(len(task.train)) if from_scratch else epochs)
    rate = options.learning_rate or (SCRATCH_LEARNING_RATE if from_scratch else LEARNING_RATE)
    dense_rate = options.learning_rate or (SCRATCH_DENSE_LEARNING_RATE if from_scratch else LEARNING_RATE)
    carbon = carbon_of(options.country)
    length = options.max_length or longest
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
        thread_counts=choose_thread_counts(
            options, device, thorough, cores() if cluster is None else cluster.row_cpus(device)
        ),
        deduplicate=options.deduplicate,
        epochs=epochs,
        dense_epochs=dense_epochs if task.fine_tune else 0.0,
        learning_rate=rate,
        dense_learning_rate=dense_rate,
        batch_size=options.batch_size,
        train_processes=options.train_processes,
        max_length=length,
        country=options.country.upper(),
        carbon_intensity=carbon.intensity,
        carbon_source=carbon.source,
        pue=carbon.pue,
        accuracy_margin=ACCURACY_MARGIN,
        keep=options.keep,
        profile=options.profile,
        shard=options.shard,
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
        if rows > MOST_ROWS:
            raise InputError(f"--shapes {rows}x{tokens}: batches have at most {MOST_ROWS} rows")
        if tokens > longest:
            raise InputError(f"--shapes {rows}x{tokens}: rows are cut to {longest} tokens; see --max-length")
    return list(options.shapes)


def choose_thread_counts(options: Options, device: str, thorough: bool, most: int) -> list[int]:
    """The numbers of threads to measure with besides the run's own; on a GPU they say nothing.

    With `--thorough` the powers of two below the cores, `most`. Raises `InputError` for more than there are.
    """
    if options.thread_counts is None:
        return [2**i for i in range(10) if 2**i < most] if thorough and device == "cpu" else []
    if device != "cpu":
        raise InputError("--threads: the work is done on the GPU; drop it, or use --device cpu")
    for count in options.thread_counts:
        if count > most:
            raise InputError(f"--threads {count}: a row may use {most} cores")
    return list(options.thread_counts)


def default_length(task: Task, most: int) -> int:
    """Tokens a row is cut to: `most`, or as many as the checkpoint takes."""
    if task.model is None:
        return most
    has_limit = (hub.find(task.model) / TOKENIZER_CONFIG).exists()
    limit = read_config(task.model, TOKENIZER_CONFIG).get("model_max_length") if has_limit else None
    return min(most, longest_row(read_config(task.model), limit) or most)


def scratch_epochs(rows: int) -> float:
    """Epochs after which a model without pretraining has seen enough rows, between 2 and 10."""
    return min(10.0, max(2.0, math.ceil(2 * SCRATCH_ROWS_SEEN / rows) / 2))
