"""The run: its rows, as an executor makes and measures them, put into one document."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.cache import Cache, fingerprints
from bench.calibration import noise_floor
from bench.conclusions import add_conclusions
from bench.display import Display
from bench.environment import fingerprint, precision_cautions
from bench.executors import Doubtful, Executor, Row
from bench.executors.local import Local
from bench.folder import RunFolder, row_name
from bench.meters.machine import round_cautions, spinning_cautions
from bench.nouns.environment import Caution
from bench.nouns.measurement import Measurement
from bench.nouns.run import DENSE, Result, Run
from bench.plan import Plan
from bench.recommend import flaw_of, judge_accuracy, training_cautions
from bench.tasks.stored import summary
from bench.workbench import Workbench
from bench.workers import Workers

# Told anew by the rows that there are.
OF_ROWS = ("further-training", "smaller-batch")


def begin(plan: Plan, name: str) -> Run:
    """The plan's run document, on this machine and without results."""
    environment = fingerprint()
    environment.noise_floor = noise_floor(environment, plan.config.device, plan.config.budget)
    return Run(
        id=name,
        started_at=datetime.now(UTC),
        status="running",
        environment=environment,
        task=summary(plan.task),
        config=plan.config,
        fingerprints=fingerprints(
            plan.task, plan.checkpoints, plan.plugins, plan.files, [variant.name for variant in plan.variants]
        ),
        checkpoints=plan.checkpoints,
    )


def run_plan(
    plan: Plan,
    folder: RunFolder,
    display: Display,
    earlier: Run | None = None,
    doubtful: Doubtful | None = None,
) -> Run:
    """Do what the plan says; `run.json` is rewritten after every variant, so an end at any time loses one.

    `earlier` is the same run, broken off: its results stand until they are made again, which `ok` ones are
    not. `doubtful` says at the end which metrics of which results are to be measured once more. Raises
    `BenchError` where dense itself cannot be made. A `KeyboardInterrupt` passes through, the document left
    complete up to there.
    """
    cache = Cache(plan.cache)
    with cache.held(lambda: display.say(f"waiting for {cache.root}, which is being cleared")) as share:
        if share.doubt:
            display.say(share.doubt)
        earlier = without_lost(earlier, folder, display) if earlier else None
        run = begin(plan, folder.path.name)
        executor = executor_of(plan, folder, display, run, earlier)
        sweep(run, plan, folder, display, executor, earlier, doubtful)
        if plan.config.keep != "all":
            kept = [result for result in run.results if plan.config.keep == "best" and result.recommended]
            drop_artifacts(folder, run, [result for result in run.results if result not in kept])
            if share.is_alone():
                executor.drop_models(kept)
            else:
                display.say(
                    f"models stay in {cache.root}, since another run works there; see bench cache clear"
                )
            folder.write(run)
    return run


def executor_of(plan: Plan, folder: RunFolder, display: Display, run: Run, earlier: Run | None) -> Executor:
    """What makes the rows: this machine, or the nodes of a cluster."""
    if plan.cluster is None:
        return Local(Workbench(plan, folder, Workers(), display, run.environment))
    from bench.executors.on_ray import OnRay

    return OnRay(plan, plan.cluster, folder, display, run, earlier)


def sweep(
    run: Run,
    plan: Plan,
    folder: RunFolder,
    display: Display,
    executor: Executor,
    earlier: Run | None,
    doubtful: Doubtful | None,
) -> None:
    """Make and measure every row of the plan, those of `earlier` that are `ok` excepted."""
    run.started_at = earlier.started_at if earlier else run.started_at
    rows = rows_of(plan)
    found = {(result.variant, result.seed): result for result in earlier.results} if earlier else {}
    run.results, run.environment = list(found.values()), executor.environment
    before_s, started = time_of(earlier, "wall_time"), time.perf_counter()
    seen_before = seen(earlier.environment.warnings) if earlier else []

    def write() -> None:
        run.wall_time = plain_time(before_s + time.perf_counter() - started)
        run.import_time = plain_time(executor.import_time_s + time_of(earlier, "import_time"))
        run.environment.warnings = cautions(run, plan, [*seen_before, *executor.cautions])
        folder.write(run)

    def note(row: Row, result: Result) -> None:
        found[row.place] = result
        run.results = in_order(found, rows)
        run.environment = executor.environment
        write()
        display.end(row.name, result)

    write()
    try:
        with executor:
            done = [row for row in rows if row.place in found and found[row.place].status == "ok"]
            for row in done:
                display.begin(row.name, row.number, len(rows))
                note(row, executor.judged(found[row.place], row.variant))
            for row, result in executor.rows([row for row in rows if row not in done], len(rows)):
                judge_answers(result, run, folder)
                note(row, result)
            if doubtful:
                executor.measure_again(doubtful(run), write)
        run.status = "complete"
    except BaseException:
        run.status = "interrupted"
        raise
    finally:
        if folder.path.is_dir():  # else writing says that it was removed
            add_conclusions(run, lambda result: predictions_of(result, run, folder))
        write()


def without_lost(earlier: Run, folder: RunFolder, display: Display) -> Run:
    """The run without the results whose predictions were lost or cut: they are to be made again.

    So are those that stand beside a dense that is: what was told of them is by its answers and its speed.
    """
    made = [result for result in earlier.results if result.status == "ok"]
    flaws = {
        (result.variant, result.seed): flaw
        for result in made
        if (flaw := flaw_of(predictions_of(result, earlier, folder), earlier.task.rows))
    }
    for result in made:
        if (DENSE, result.seed) in flaws:
            flaws.setdefault((result.variant, result.seed), f"{DENSE} is")
    for (variant, _), flaw in flaws.items():
        display.say(f"{variant} is made again: {flaw}")
    kept = [result for result in earlier.results if (result.variant, result.seed) not in flaws]
    return earlier.model_copy(update={"results": kept})


def rows_of(plan: Plan) -> list[Row]:
    """All rows of the plan, in its order."""
    seeds = plan.config.seeds
    places = [(variant, seed) for variant in plan.variants for seed in seeds]
    return [
        Row(variant, seed, number, row_name(variant.name, seed, seeds))
        for number, (variant, seed) in enumerate(places, start=1)
    ]


def judge_answers(result: Result, run: Run, folder: RunFolder) -> None:
    """Put the verdict on the accuracy that was kept into a row, whose predictions and dense's are there."""
    if result.status == "ok" and result.variant != DENSE:
        dense = folder.predictions(row_name(DENSE, result.seed, run.config.seeds))
        own = predictions_of(result, run, folder)
        result.accuracy_kept = judge_accuracy(dense, own, run.config.accuracy_margin)


def predictions_of(result: Result, run: Run, folder: RunFolder) -> Path:
    """Where a row's predictions lie."""
    return folder.predictions(row_name(result.variant, result.seed, run.config.seeds))


def drop_artifacts(folder: RunFolder, run: Run, dropped: Sequence[Result]) -> None:
    """Remove the artifacts of `dropped` from the run folder."""
    for result in dropped:
        name = row_name(result.variant, result.seed, run.config.seeds)
        shutil.rmtree(folder.artifact(name), ignore_errors=True)
        result.artifact = None


def in_order(found: Mapping[tuple[str, int], Result], rows: Sequence[Row]) -> list[Result]:
    """The results that there are, in the order of the plan's rows."""
    return [found[row.place] for row in rows if row.place in found]


def cautions(run: Run, plan: Plan, noticed: list[Caution]) -> list[Caution]:
    """Everything that makes the figures less sure, the first of each code; `noticed` in any session."""
    environment = run.environment
    dtypes = {variant.autocast for variant in plan.variants}
    scenarios = [scenario for result in run.results for scenario in result.scenarios.values()]
    machines = [scenario.raw.machine for scenario in scenarios if scenario.raw]
    found = [
        *precision_cautions(environment, plan.config.device, dtypes),
        *training_cautions(run),
        *batch_cautions(run),
        *machine_cautions(run),
        *spinning_cautions(
            environment.openmp_spin, environment.virtualised or environment.cpu_quota is not None
        ),
        *round_cautions(machines, environment.cpu_quota),
        *noticed,
    ]
    once = {caution.code: caution for caution in reversed(found)}
    return list(reversed(once.values()))


def seen(earlier: list[Caution]) -> list[Caution]:
    """What an earlier session noticed, or another run, without what only its rows told."""
    return [caution for caution in earlier if caution.code not in OF_ROWS]


def batch_cautions(run: Run) -> list[Caution]:
    """That rows were measured with smaller batches than the others, for want of memory."""
    halved = {row.variant: row.batch_size for row in run.results if row.batch_size is not None}
    if not halved:
        return []
    said = ", ".join(f"{variant} {size} rows at a time" for variant, size in halved.items())
    text = (
        f"measured with smaller batches, since {run.config.batch_size} rows did not fit into memory: {said}"
    )
    remedy = "each speed-up is over dense at that size; for figures of one size use a smaller --batch-size"
    return [Caution(code="smaller-batch", text=text, remedy=remedy)]


def machine_cautions(run: Run) -> list[Caution]:
    """That rows were measured on another machine than dense was."""
    elsewhere = [row.variant for row in run.results if row.machine is not None]
    if not elsewhere:
        return []
    text = f"measured on another machine than dense was first: {', '.join(dict.fromkeys(elsewhere))}"
    remedy = "each speed-up is over dense on the row's own machine; compare no absolute times or energies"
    return [Caution(code="several-machines", text=text, remedy=remedy)]


def time_of(earlier: Run | None, name: str) -> float:
    """A time of the earlier sessions, in s."""
    measurement: Measurement | None = getattr(earlier, name, None)
    return measurement.value if measurement else 0.0


def plain_time(seconds: float) -> Measurement:
    """A wall time of the run as a whole."""
    return Measurement(value=seconds, unit="s", better="lower", source="perf_counter")
