"""The run: per variant compress, reload, measure, append the result; every step in its own process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.answers import packed
from bench.break_even import add_break_even
from bench.cache import Cache, Step, depends_on_machine, files_fingerprint, fingerprints, remove, step_id
from bench.calibration import noise_floor, speed_margin
from bench.display import Display
from bench.environment import fingerprint, is_shared, precision_cautions
from bench.errors import BenchError, InputError, MeasuringError, Refusal
from bench.folder import RunFolder
from bench.interplay import add_interplay
from bench.meters.carbon import Carbon, carbon_findings
from bench.meters.findings import Findings
from bench.meters.machine import round_cautions, spinning_cautions, start_cautions
from bench.nouns.environment import Caution, Environment
from bench.nouns.measurement import SPEEDUPS, Measurement
from bench.nouns.run import DENSE, Result, ResultStatus, Run
from bench.plan import Plan
from bench.recommend import judge_accuracy, read, recommend, training_cautions
from bench.statistics import pooled, speed_verdict
from bench.steps.request import Request, StepKind
from bench.tasks.stored import summary, write_task
from bench.training_speedup import add_training_speedups
from bench.worker import LOG, PREDICTIONS
from bench.workers import StepFailed, Workers
from compressors import hub
from compressors.artifact import ARTIFACT
from compressors.variant import Variant, refuse_missing_packages

Doubtful = Callable[[Run], Sequence[tuple[Result, Sequence[str]]]]
MEASURING: tuple[StepKind, ...] = ("timing", "footprint")
COST = ("compress_wall_time", "compress_energy", "compress_energy_gross")


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
        fingerprints=fingerprints(plan.task, plan.checkpoints, plan.plugins, plan.files),
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

    `earlier` is the same run, broken off: its `ok` results stay. `doubtful` says at the end which metrics of
    which results are to be measured once more. Raises `BenchError` where dense itself cannot be made. A
    `KeyboardInterrupt` passes through, the document left complete up to there.
    """
    run = begin(plan, folder.path.name)
    environment = run.environment
    run.started_at = earlier.started_at if earlier else run.started_at
    done = {(row.variant, row.seed): row for row in earlier.results if row.status == "ok"} if earlier else {}
    rows = [(variant, seed) for variant in plan.variants for seed in plan.config.seeds]
    started = time.perf_counter()
    at_start = start_cautions(environment, plan.config.device)
    folder.write(run)
    workers = Workers()
    bench = Workbench(plan, folder, workers, display, environment)
    try:
        with workers:
            run.import_time = plain_time(workers.import_time_s + time_of(earlier, "import_time"))
            for number, (variant, seed) in enumerate(rows, start=1):
                display.begin(variant.name, number, len(rows))
                result = done.get((variant.name, seed)) or bench.result(variant, seed)
                run.results.append(bench.judged(result, variant))
                folder.write(run)
                display.end(result)
            if doubtful:
                bench.measure_again(run, doubtful(run))
        run.status = "complete"
    except BaseException:
        run.status = "interrupted"
        raise
    finally:
        run.wall_time = plain_time(time.perf_counter() - started + time_of(earlier, "wall_time"))
        add_training_speedups(run)
        add_interplay(run, bench.predictions)
        add_break_even(run)
        if run.status == "complete":
            recommend(run)
        seen_before = earlier.environment.warnings if earlier else []
        environment.warnings = cautions(run, plan, [*seen_before, *at_start, *bench.cautions])
        folder.write(run)
    if plan.config.keep != "all":
        kept = [result for result in run.results if plan.config.keep == "best" and result.recommended]
        bench.drop_artifacts([result for result in run.results if result not in kept], kept)
    folder.write(run)
    return run


def cautions(run: Run, plan: Plan, noticed: list[Caution]) -> list[Caution]:
    """Everything that makes the figures less sure, the first of each code; `noticed` in any session."""
    environment = run.environment
    dtypes = {variant.autocast for variant in plan.variants}
    scenarios = [scenario for result in run.results for scenario in result.scenarios.values()]
    machines = [scenario.raw.machine for scenario in scenarios if scenario.raw]
    found = [
        *precision_cautions(environment, plan.config.device, dtypes),
        *training_cautions(run),
        *spinning_cautions(environment.openmp_spin, is_shared()),
        *round_cautions(machines, environment.cpu_quota),
        *noticed,
    ]
    once = {caution.code: caution for caution in reversed(found)}
    return list(reversed(once.values()))


def time_of(earlier: Run | None, name: str) -> float:
    """A time of the earlier sessions, in s."""
    measurement: Measurement | None = getattr(earlier, name, None)
    return measurement.value if measurement else 0.0


def plain_time(seconds: float) -> Measurement:
    """A wall time of the run as a whole."""
    return Measurement(value=seconds, unit="s", better="lower", source="perf_counter")


@dataclass
class Workbench:
    """Makes and measures the variants of one plan, step by step, through the cache."""

    plan: Plan
    folder: RunFolder
    workers: Workers
    display: Display
    environment: Environment
    cautions: list[Caution] = field(default_factory=list)
    cache: Cache = field(init=False)
    _made_by: dict[str, Step] = field(default_factory=dict)
    _steps: dict[str, Step] = field(default_factory=dict)
    _failed: dict[str, BenchError] = field(default_factory=dict)
    _spent: dict[str, float] = field(default_factory=dict)
    _attempt: int = 0

    def __post_init__(self) -> None:
        self.cache = Cache(self.plan.cache)
        known = fingerprints(self.plan.task)
        self._task_id = f"task-{known['rows']}-{known['model'][:16]}"
        self._task = self.cache.root / self._task_id
        if not self._task.exists():
            fresh = self.cache.fresh_folder(self._task_id)
            write_task(self.plan.task, fresh)
            self.cache.take(fresh, self._task)

    def result(self, variant: Variant, seed: int) -> Result:
        """The variant's row, whatever came of it. Raises `BenchError` if the variant is dense itself."""
        self._spent = {}
        try:
            refuse_missing_packages(variant)
            return self._measured(variant, seed)
        except BenchError as error:
            if variant.name == DENSE:
                raise self._without_dense(error) from None
            status: ResultStatus = "skipped" if isinstance(error, Refusal) else "failed"
            return Result(variant=variant.name, seed=seed, status=status, reason=str(error))

    def _without_dense(self, error: BenchError) -> BenchError:
        """What to raise where dense cannot be had: of two artifacts neither is worse then."""
        if self.plan.anchor == DENSE or isinstance(error, InputError):
            return error
        return MeasuringError(f"{self.plan.task.model}: {error}")

    def judged(self, result: Result, variant: Variant) -> Result:
        """The same row with the verdicts on its speed, and why it is not faster where it is not."""
        self.judge_speed(result)
        explain_speed(result, variant, self.plan.config.device, self.environment.cpu_features)
        return result

    def measure_again(self, run: Run, doubtful: Sequence[tuple[Result, Sequence[str]]]) -> None:
        """Measure these results once more, whatever lies in the cache, for these metrics of theirs.

        A speed-up is then of the rounds of both measurements, so that neither a lucky nor a noisy one decides
        alone; any other figure is the second's, so that it fails a gate only by both.
        """
        self._attempt = 1
        variants = {variant.name: variant for variant in self.plan.variants}
        for number, (result, metrics) in enumerate(doubtful, start=1):
            self.display.begin(f"{result.variant} once more", number, len(doubtful))
            again = self.result(variants[result.variant], result.seed)
            what = ", ".join(metrics)
            if again.status == "ok":
                found = [name for name in metrics if name in again.metrics]
                result.metrics |= {name: both(name, result, again) for name in found}
                result.notes.append(f"{what}: measured once more, since a gate failed; see docs/measuring.md")
            else:
                result.notes.append(f"{what}: could not be measured once more: {again.reason}")
            self.judged(result, variants[result.variant])
            self.folder.write(run)
            self.display.end(result)

    def drop_artifacts(self, dropped: Sequence[Result], kept: Sequence[Result]) -> None:
        """Remove artifacts from the run folder, and from the cache every model that no kept one is."""
        for result in dropped:
            shutil.rmtree(self.folder.artifact(self.name(result.variant, result.seed)), ignore_errors=True)
            result.artifact = None
        names = [self.name(result.variant, result.seed) for result in kept]
        needed = {self._made_by[name].id for name in names if name in self._made_by}
        for step in self._steps.values():
            if step.kind in ("dense", "compress") and step.id not in needed:
                remove(step.folder)

    def predictions(self, result: Result) -> Path:
        """Where a result's predictions lie."""
        return self.folder.predictions(self.name(result.variant, result.seed))

    def name(self, variant: str, seed: int) -> str:
        """What a row's files are called: by the variant, and the seed where there are several."""
        return variant if len(self.plan.config.seeds) == 1 else f"{variant}.seed{seed}"

    def _measured(self, variant: Variant, seed: int) -> Result:
        """Make the variant, measure it, and put everything that was found into its row."""
        dense = self._step("dense", self.plan.anchor, seed)
        teacher = self._step("teacher", DENSE, seed, dense=dense) if variant.needs_teacher else None
        equal, no_equal = self._equal(variant, seed, dense)
        trained, made = None, dense
        if variant.trained.parts and variant.trained.name != variant.name:
            trained = self._step("compress", variant.trained.name, seed, dense=dense, teacher=teacher)
            made = self._step("compress", variant.name, seed, dense=dense, trained=trained)
        elif variant.name != DENSE:
            made = self._step("compress", variant.name, seed, dense=dense, teacher=teacher)
        name = self.name(variant.name, seed)
        self._made_by[name] = made
        timing = self._step("timing", variant.name, seed, dense=dense, artifact=made, equal=equal)
        footprint = self._step("footprint", variant.name, seed, artifact=made)
        findings = collect(variant, made, trained, teacher, timing, footprint)
        if no_equal:
            findings.unavailable["speedup_same_precision"] = no_equal
        config = self.plan.config
        carbon = Carbon(config.carbon_intensity, config.pue, config.carbon_source)
        findings.add(carbon_findings(findings.metrics, findings.unavailable, carbon))
        findings.spent = self._spent
        self._notice(findings)
        result = Result(
            variant=variant.name,
            parts=variant.spelled_parts,
            seed=seed,
            status="ok",
            artifact=self.folder.add_artifact(name, made.folder / ARTIFACT),
            cached=cached_kinds(teacher, trained, made, timing, footprint),
            **{key: value for key, value in findings if key in Result.model_fields},
        )
        predictions = self.folder.add_predictions(name, timing.folder / PREDICTIONS)
        result.right = packed([outcome.is_right for outcome in read(predictions)["test"]])
        if variant.name != DENSE:
            dense_predictions = self.folder.predictions(self.name(DENSE, seed))
            result.accuracy_kept = judge_accuracy(dense_predictions, predictions, config.accuracy_margin)
        return result

    def _equal(self, variant: Variant, seed: int, dense: Step) -> tuple[Step | None, str | None]:
        """Dense in the variant's precision and engine where that is another model; or why there is none.

        It comes before any training: what cannot be made of dense cannot be made of a variant either, unless
        that brings a model of its own.
        """
        setting = variant.setting
        if not setting.parts or setting.name == variant.name or self.plan.anchor != DENSE:
            return None, None
        try:
            return self._step("compress", setting.name, seed, dense=dense), None
        except BenchError as error:
            if not variant.checkpoints:
                raise
            return None, f"dense cannot be made and run as this variant is: {error}"

    def judge_speed(self, result: Result) -> None:
        """Put verdicts on the speed-ups, beyond the usual margin or this machine's floor if that is wider."""
        if result.variant == DENSE or result.status != "ok":
            return
        margin = speed_margin(self.environment.noise_floor)
        result.verdicts = {
            name: speed_verdict(result.metrics.get(name), margin, result.unavailable.get(name))
            for name in SPEEDUPS
        }
        for scenario in result.scenarios.values():
            scenario.verdicts = {
                name: speed_verdict(scenario.metrics[name], margin)
                for name in SPEEDUPS
                if name in scenario.metrics
            }

    def _notice(self, findings: Findings) -> None:
        """Keep what disturbed the steps, for the run as a whole."""
        self.cautions += findings.cautions
        if findings.openmp_spin is not None:
            self.environment.openmp_spin = max(findings.openmp_spin, self.environment.openmp_spin or 0.0)

    def _step(self, kind: StepKind, variant: str, seed: int, **parents: Step | None) -> Step:
        """The step done earlier in this run, from the cache, or done now; `parents` are what it reads."""
        config = self.plan.config
        measuring = kind in MEASURING
        read = {name: step for name, step in parents.items() if step}
        request = Request(
            kind=kind,
            task=self._task,
            variant=variant,
            device=config.device,
            seed=seed,
            epochs=config.dense_epochs if kind == "dense" else config.epochs,
            learning_rate=config.dense_learning_rate if kind == "dense" else config.learning_rate,
            batch_size=config.batch_size,
            max_length=config.max_length,
            budget=config.budget,
            paddings=config.paddings,
            shapes=config.shapes,
            thread_counts=config.thread_counts,
            attempt=self._attempt if measuring else 0,
            plugins=list(self.plan.plugins),
            snapshots=hub.snapshots(),
            **{name: step.folder for name, step in read.items()},
        )
        ids = {"task": self._task_id, **{name: step.id for name, step in read.items()}}
        if measuring:
            ids |= {name: files_fingerprint(step.folder / ARTIFACT) for name, step in read.items()}
        if depends_on_machine(kind, variant):
            ids["machine"] = self.environment.measuring_key
        name = step_id(request, ids)
        if name in self._failed:
            raise self._failed[name]
        if name not in self._steps:
            anew = measuring and (self.plan.remeasure or self._attempt > 0)
            found = None if anew else self.cache.find(kind, name)
            self._steps[name] = found or self._do(kind, name, request)
        return self._steps[name]

    def _do(self, kind: StepKind, name: str, request: Request) -> Step:
        """Run the step in a worker; a failed one leaves its log in the run folder, nothing in the cache.

        It is not tried again in this run, however many variants need it.
        """
        work = self.cache.begin(name, request)
        try:
            self.workers.run(work, self.display.stage)
            step = self.cache.keep(kind, name, work)
            for activity, seconds in step.findings.spent.items():
                self._spent[activity] = self._spent.get(activity, 0.0) + seconds
            return step
        except StepFailed as error:
            log = self.folder.add_log(f"{request.variant}-{kind}", work / LOG)
            self._failed[name] = StepFailed(f"{kind}: {error} (log: {log})")
            raise self._failed[name] from None
        except Refusal as error:
            self._failed[name] = error
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)


def both(name: str, first: Result, second: Result) -> Measurement:
    """What two measurements of a metric that a gate doubted come to."""
    one, other = first.metrics[name], second.metrics[name]
    return pooled(one, other) if name in SPEEDUPS and one.samples and other.samples else other


def explain_speed(result: Result, variant: Variant, device: str, cpu_features: Sequence[str]) -> None:
    """Note why the variant's parts can fail to be faster, where the verdict is not that they are.

    A note of an earlier session, whose verdict was another, is taken out.
    """
    reasons = [part.why_not_faster(variant.parts, device, cpu_features) for part in variant.parts]
    verdict = result.verdicts.get("speedup")
    result.notes = [note for note in result.notes if note not in reasons]
    if verdict is not None and verdict.word in ("same", "slower", "inconclusive"):
        result.notes += [reason for reason in reasons if reason]


def cached_kinds(*steps: Step | None) -> list[str]:
    """The kinds of those steps that were taken over from an earlier run, each once."""
    return list(dict.fromkeys(step.kind for step in steps if step and step.cached))


def collect(
    variant: Variant, made: Step, trained: Step | None, teacher: Step | None, *measured: Step
) -> Findings:
    """Everything found about a variant; costs of what it shares with others are part of its own."""
    findings = made.findings.model_copy(deep=True)
    if trained:
        take_over(findings, trained.findings)
        findings.notes.append(f"compressing took the training of {variant.trained.name}, done once for all")
    for step in measured:
        findings.add(step.findings.model_copy(deep=True))
    if variant.name == DENSE:
        findings.unavailable |= dict.fromkeys(COST, "dense is what the others are made from")
        findings.unavailable["pruned_fraction"] = "dense is not pruned"
    if teacher:
        for name in COST:
            add_shared_cost(findings, name, teacher.findings)
        findings.notes.append("compressing took dense's logits too, computed once for all students")
    return findings


def take_over(findings: Findings, trained: Findings) -> None:
    """Put what was found while training into the findings of a variant that goes on from there."""
    for name in COST:
        add_shared_cost(findings, name, trained)
        if name not in findings.metrics and name in trained.metrics:
            findings.metrics[name] = trained.metrics[name]
            reason = findings.unavailable.pop(name, "it was not measured")
            findings.notes.append(
                f"{name.replace('_', ' ')} is that of training alone; of the rest: {reason}"
            )
    rest = trained.model_copy(deep=True)
    rest.metrics = {name: found for name, found in rest.metrics.items() if name not in COST}
    rest.unavailable = {name: why for name, why in rest.unavailable.items() if name not in findings.metrics}
    findings.add(rest)


def add_shared_cost(findings: Findings, name: str, shared: Findings) -> None:
    """Add the part of a cost that others share; a note where there is none of the same source."""
    own, more = findings.metrics.get(name), shared.metrics.get(name)
    if own and more and own.source == more.source:
        findings.metrics[name] = own.model_copy(update={"value": own.value + more.value})
    elif own:
        reason = shared.unavailable.get(name, "they come from another source")
        findings.notes.append(f"{name.replace('_', ' ')} is without that of what it shares: {reason}")
