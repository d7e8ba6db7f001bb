"""What holds for a run as a whole, one line each."""

from __future__ import annotations

from bench.nouns.environment import NoiseFloor
from bench.nouns.run import DENSE, Run
from reports.environment import floor_source
from reports.numbers import BYTES, SECONDS, counted, percent, quantity
from reports.parts import Fact

DEMONSTRATION = "a small built-in task that shows the product; its figures say nothing about your model"
SOFTWARE = ("bench", "python", "torch", "transformers")


def facts(run: Run) -> tuple[Fact, ...]:
    """Everything a reader must know before the figures; what does not apply is left out."""
    task, config, environment = run.task, run.config, run.environment
    accelerators = [] if config.device == "cpu" else [device.name for device in environment.devices]
    threads = counted(environment.threads, "thread")
    seeds = ", ".join(str(seed) for seed in config.seeds)
    software, libraries = _versions(environment.versions)
    found = (
        Fact("Status", "" if run.status == "complete" else f"{run.status}: not every variant is here"),
        Fact("Demonstration", DEMONSTRATION if task.demonstration else ""),
        Fact("Rows", f"{split_rows(task.rows, config.deduplicate)}; {len(task.labels)} labels"),
        Fact("Dropped", ", ".join(f"{count:,} {why}" for why, count in task.dropped.items())),
        Fact("Cut", _cut(run)),
        Fact("Model", task.model or "trained from the task's own rows"),
        Fact("Device", ", ".join((config.device, *accelerators, environment.cpu_model, threads))),
        Fact("Machine", _machine(run), detail=True),
        Fact("Noise floor", _noise_floor(environment.noise_floor)),
        Fact("Software", software),
        Fact("Libraries", libraries, detail=True),
        Fact("Budget", f"{config.budget}, {'seeds' if len(config.seeds) > 1 else 'seed'} {seeds}"),
        Fact("Training", _training(run)),
        Fact("Run", _run(run)),
        Fact("Command", config.command),
    )
    return tuple(fact for fact in found if fact.text)


def split_rows(rows: dict[str, int], deduplicated: bool) -> str:
    """`20,000 train, 3,000 validation`."""
    counts = ", ".join(f"{count:,} {split}" for split, count in rows.items())
    return f"{counts} after --deduplicate" if deduplicated else counts


def _cut(run: Run) -> str:
    dense = run.result(DENSE)
    cut = dense.metrics.get("truncated_share") if dense else None
    if cut is None or cut.value == 0:
        return ""
    return f"{percent(cut.value)} of the test rows, at {run.config.max_length} tokens; see --max-length"


def _versions(versions: dict[str, str]) -> tuple[str, str]:
    """What a figure depends on most, and the rest."""
    main = [f"{name} {version}" for name, version in versions.items() if name in SOFTWARE]
    rest = [f"{name} {version}" for name, version in versions.items() if name not in SOFTWARE]
    return ", ".join(main), ", ".join(rest)


def _machine(run: Run) -> str:
    environment = run.environment
    virtual = ", virtualised" if environment.virtualised else ""
    memory = quantity(environment.memory, BYTES)
    return (
        f"{counted(environment.cpu_cores, 'core')}{virtual}, {memory} of memory, {environment.platform}, "
        f"fp32 precision {environment.fp32_precision}"
    )


def _noise_floor(floor: NoiseFloor | None) -> str:
    if floor is None:
        return ""
    return f"paired {percent(floor.paired)}, between runs {percent(floor.between)} ({floor_source(floor)})"


def _training(run: Run) -> str:
    config = run.config
    dense = counted(config.dense_epochs, "epoch") if config.dense_epochs else "used as it came"
    return (
        f"variants {counted(config.epochs, 'epoch')} at {config.learning_rate:g}, dense {dense}; "
        f"batch size {config.batch_size}, at most {config.max_length} tokens"
    )


def _run(run: Run) -> str:
    started = f"{run.id}, started {run.started_at:%Y-%m-%d %H:%M %Z}".rstrip()
    return f"{started}, took {quantity(run.wall_time.value, SECONDS)}" if run.wall_time else started
