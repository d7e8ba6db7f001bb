"""Makes and measures rows: a variant's steps, one by one, each in its own process and through the cache."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.answers import packed
from bench.cache import (
    MEASURED,
    Cache,
    Step,
    depends_on_machine,
    files_fingerprint,
    fingerprints,
    machine_of,
    remove,
    step_id,
)
from bench.calibration import speed_margin
from bench.diagnosis import diagnose
from bench.display import WAITING, Display
from bench.environment import gpus
from bench.errors import BenchError, InputError, MeasuringError, Refusal, writable
from bench.folder import RunFolder, file_name, row_name
from bench.foreign_code import plugins_of
from bench.lock import hold_devices
from bench.meters.carbon import Carbon, carbon_findings
from bench.meters.findings import Findings
from bench.meters.nvml import uuid_of
from bench.nouns.environment import Caution, Environment
from bench.nouns.measurement import SPEEDUPS, Measurement
from bench.nouns.run import DENSE, Failure, FailureKind, Result
from bench.nouns.task import Task
from bench.plan import Plan
from bench.recommend import read
from bench.statistics import pooled, speed_verdict
from bench.steps.request import Request, StepKind
from bench.storage import Storage
from bench.tasks.stored import write_task
from bench.training_speedup import STEP_TIME
from bench.watch import Watch
from bench.worker import LOG, PREDICTIONS, TRACE
from bench.workers import StepFailed, Workers, last_lines
from compressors import hub
from compressors.artifact import ARTIFACT
from compressors.contract import Compressor
from compressors.registry import running_plugins
from compressors.variant import Variant, refuse_missing_packages

BROKEN_OFF: tuple[FailureKind, ...] = ("timeout", "killed", "crashed")
COST = ("compress_wall_time", "compress_energy", "compress_energy_gross")
BESIDE_OTHERS = (
    "other rows may have been made on the machine at the same time; give a row as many CPUs as the largest "
    "node has (--row-cpus)"
)


@dataclass
class Workbench:
    """Makes and measures the variants of one plan, step by step, through the cache.

    On a node of a cluster `storage` is what the nodes share, and `made_on` the machine that the run's models
    count as made on, wherever they are: all go on from the same bytes. Other rows may be made on the node at
    the same time, and none while one is measured; those that share its CPUs are told by `beside_others`.
    """

    plan: Plan
    folder: RunFolder
    workers: Workers
    display: Display
    environment: Environment
    storage: Storage | None = None
    made_on: Environment | None = None
    beside_others: bool = False
    cautions: list[Caution] = field(default_factory=list)
    cache: Cache = field(init=False)
    _made_by: dict[str, Step] = field(default_factory=dict)
    _steps: dict[str, Step] = field(default_factory=dict)
    _failed: dict[str, BenchError] = field(default_factory=dict)
    _spent: dict[str, float] = field(default_factory=dict)
    _deadline: float | None = None
    _attempt: int = 0
    _row: str = ""

    def __post_init__(self) -> None:
        self.cache = Cache(self.plan.cache, self.storage)
        self._task_id = task_id(self.plan.task)
        self._task = self.cache.keep_task(self._task_id, partial(write_task, self.plan.task))
        self._watch = Watch(self.plan)

    def result(self, variant: Variant, seed: int, shown: str = "") -> Result:
        """The variant's row, whatever came of it; `shown` is what the display calls it.

        Raises `BenchError` if the variant is dense itself.
        """
        self._spent, self._row = {}, shown or self.name(variant.name, seed)
        limit_s = self.plan.timeout_s
        self._deadline = None if limit_s is None else time.monotonic() + limit_s
        try:
            refuse_missing_packages(variant)
            with running_plugins():
                return self._measured(variant, seed)
        except BenchError as error:
            if variant.name == DENSE:
                raise self._without_dense(error) from None
            return without_figures(variant.name, seed, error)

    def _without_dense(self, error: BenchError) -> BenchError:
        """What to raise where dense cannot be had: of two artifacts neither is worse then."""
        if self.plan.anchor == DENSE or isinstance(error, InputError):
            return error
        return MeasuringError(f"{self.plan.task.model}: {error}")

    def judged(self, result: Result, variant: Variant) -> Result:
        """The same row with the verdicts on its speed, and why it is not faster where it is not."""
        self.judge_speed(result)
        result.diagnoses = diagnose(result, self.plan.config.device, os.cpu_count() or 1)
        try:
            with running_plugins():
                explain_speed(result, variant, self.plan.config.device, self.environment.cpu_features)
        except BenchError as error:
            result.notes.append(f"why it is not faster could not be told: {error}")
        return result

    def measure_again(
        self, doubtful: Sequence[tuple[Result, Sequence[str]]], write: Callable[[], None]
    ) -> None:
        """Measure these results once more, whatever lies in the cache, for these metrics of theirs.

        A speed-up is then of the rounds of both measurements, so that neither a lucky nor a noisy one decides
        alone; any other figure is the second's, so that it fails a gate only by both.
        """
        self._attempt = 1
        variants = {variant.name: variant for variant in self.plan.variants}
        for number, (result, metrics) in enumerate(doubtful, start=1):
            row = f"{self.name(result.variant, result.seed)} once more"
            self.display.begin(row, number, len(doubtful))
            again = self.result(variants[result.variant], result.seed, row)
            what = ", ".join(metrics)
            if again.status == "ok" and again.batch_size == result.batch_size:
                found = [name for name in metrics if name in again.metrics]
                result.metrics |= {name: both(name, result, again) for name in found}
                result.notes.append(f"{what}: measured once more, since a gate failed; see docs/measuring.md")
            else:
                why = again.reason or "memory did not suffice for batches of the same size"
                result.notes.append(f"{what}: could not be measured once more: {why}")
            self.judged(result, variants[result.variant])
            write()
            self.display.end(row, result)

    def drop_models(self, kept: Sequence[Result]) -> None:
        """Remove every model from the cache that this session used and that is no kept result's."""
        names = [self.name(result.variant, result.seed) for result in kept]
        needed = {self._made_by[name].id for name in names if name in self._made_by}
        for step in self._steps.values():
            if step.kind in ("dense", "compress") and step.id not in needed:
                remove(step.folder)

    def model_of(self, result: Result) -> Step:
        """The step that made the model which a row's artifact is a copy of."""
        return self._made_by[self.name(result.variant, result.seed)]

    def name(self, variant: str, seed: int) -> str:
        """What a row's files are called: by the variant, and the seed where there are several."""
        return row_name(variant, seed, self.plan.config.seeds)

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
        size, timing, footprint = self._figures(variant, seed, dense, made, equal)
        findings = collect(variant, made, trained, teacher, timing, footprint)
        drop_foreign_costs(findings, [made, trained, teacher], self.environment.machine_key)
        if self.beside_others:
            leave_out_costs(findings, BESIDE_OTHERS)
        profile = self._profile(variant, seed, size, dense, made, findings)
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
            continues=variant.continued.spelled_parts,
            seed=seed,
            status="ok",
            batch_size=size,
            artifact=self.folder.add_artifact(name, made.folder / ARTIFACT),
            cached=cached_kinds(teacher, trained, made, timing, footprint, profile),
            **{key: value for key, value in findings if key in Result.model_fields},
        )
        predictions = self.folder.add_predictions(name, timing.folder / PREDICTIONS)
        result.right = packed([outcome.is_right for outcome in read(predictions)["test"]])
        return result

    def _figures(
        self, variant: Variant, seed: int, dense: Step, made: Step, equal: Step | None
    ) -> tuple[int | None, Step, Step]:
        """The steps that measure, and their batch size where it had to be halved for want of memory."""

        def measure(size: int | None) -> tuple[int | None, Step, Step]:
            timing = self._step("timing", variant.name, seed, size, dense=dense, artifact=made, equal=equal)
            return size, timing, self._step("footprint", variant.name, seed, size, artifact=made)

        asked = self.plan.config.batch_size
        try:
            return measure(None)
        except StepFailed as error:
            if error.kind != "out of memory" or asked == 1:
                raise
        return measure(asked // 2)

    def _profile(
        self, variant: Variant, seed: int, size: int | None, dense: Step, made: Step, findings: Findings
    ) -> Step | None:
        """The step that profiles, where that was asked for; a row has its figures without it, too."""
        if not self.plan.config.profile:
            findings.unavailable["predicted_speedup"] = "not profiled; add --profile"
            return None
        if self._attempt:  # what a gate doubts is timed once more; the profile of its row stays the first one
            findings.unavailable["predicted_speedup"] = "profiled when it was measured first"
            return None
        try:
            step = self._step("profile", variant.name, seed, size, dense=dense, artifact=made)
        except BenchError as error:
            findings.unavailable["predicted_speedup"] = f"it could not be profiled: {error}"
            return None
        findings.add(step.findings.model_copy(deep=True))
        if findings.profile:
            findings.profile.trace = self.folder.add_trace(self.name(variant.name, seed), step.folder / TRACE)
        return step

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

    def _step(
        self, kind: StepKind, variant: str, seed: int, batch_size: int | None = None, **parents: Step | None
    ) -> Step:
        """The step done earlier in this run, from the cache, or done now; `parents` are what it reads."""
        config = self.plan.config
        measuring = kind in MEASURED
        read = {name: step for name, step in parents.items() if step}
        request = Request(
            kind=kind,
            task=self._task,
            variant=variant,
            device=config.device,
            seed=seed,
            epochs=config.dense_epochs if kind == "dense" else config.epochs,
            learning_rate=config.dense_learning_rate if kind == "dense" else config.learning_rate,
            batch_size=batch_size or config.batch_size,
            max_length=config.max_length,
            budget=config.budget,
            paddings=config.paddings,
            shapes=config.shapes,
            thread_counts=config.thread_counts,
            attempt=self._attempt if measuring else 0,
            train_processes=config.train_processes,
            machine=self.environment.machine_key,
            plugins=plugins_of(variant, self.plan.plugins),
            snapshots=hub.snapshots(),
            **{name: step.folder for name, step in read.items()},
        )
        ids = {"task": self._task_id, **{name: step.id for name, step in read.items()}}
        if measuring:
            ids |= {name: files_fingerprint(step.folder / ARTIFACT) for name, step in read.items()}
        elsewhere = None if depends_on_machine(kind, variant) else self.made_on
        ids["machine"] = machine_of(kind, variant, elsewhere or self.environment)
        name = step_id(request, ids)
        if name in self._failed:
            raise self._failed[name]
        if name in self._steps:
            return self._steps[name]
        anew = measuring and (self.plan.remeasure or self._attempt > 0)
        step = (None if anew else self.cache.find(kind, name)) or self._do(kind, name, request)
        if not measuring:
            self._steps[name] = step
        return step

    def _do(self, kind: StepKind, name: str, request: Request) -> Step:
        """Run the step in a worker; a failed one leaves its log in the run folder, nothing in the cache.

        It is not tried again in this run, however many variants need it, unless it was one variant's time
        that ran out. A training that did not come to its end by itself leaves its state, to go on from.
        """
        self._refuse_changes(request)
        checkpoint = self.cache.checkpoint(name)
        work = self.cache.begin(name, request.model_copy(update={"checkpoint": checkpoint}))
        try:
            with self._device(kind, request.variant):
                self._work(request, work)
                self._refuse_changes(request)
            step = self.cache.keep(kind, name, work)
            shutil.rmtree(checkpoint, ignore_errors=True)
            for activity, seconds in step.findings.spent.items():
                self._spent[activity] = self._spent.get(activity, 0.0) + seconds
            return step
        except StepFailed as error:
            halved = request.batch_size != self.plan.config.batch_size
            size = f"-batch{request.batch_size}" if halved else ""
            log = self.folder.add_log(f"{self.name(request.variant, request.seed)}-{kind}{size}", work / LOG)
            failed = StepFailed(f"{kind}: {error} (log: {log})", error.kind, error.log, kind)
            if error.kind != "timeout":
                self._failed[name] = failed
            if error.kind not in BROKEN_OFF:
                shutil.rmtree(checkpoint, ignore_errors=True)
            raise failed from None
        except Refusal as error:
            self._failed[name] = error
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _work(self, request: Request, work: Path) -> None:
        """Have a worker do the step in `work`. Raises `StepFailed`, also for a file of one variant alone."""
        left_s = None if self._deadline is None else self._deadline - time.monotonic()
        try:
            self.workers.run(work, partial(self.display.stage, self._row), left_s)
        except InputError as error:
            if request.kind == "dense" or request.variant == DENSE:
                raise
            raise StepFailed(str(error), "error", last_lines(work / LOG)) from None

    def _refuse_changes(self, request: Request) -> None:
        """Raise `StepFailed` where what the step reads is no longer what it is to be kept under."""
        if changed := self._watch.changed(request):
            raise StepFailed(f"{changed} changed while the run worked; start the run anew", step=request.kind)

    @contextmanager
    def _device(self, kind: StepKind, variant: str) -> Iterator[None]:
        """The right to use the device, alone where times are measured. Waiting is not the variant's time."""
        is_alone = depends_on_machine(kind, variant)
        if not is_alone and self.storage is None:
            yield
            return
        started = time.monotonic()
        with hold_devices(
            device_names(self.plan.config.device, self.plan.config.train_processes),
            is_alone,
            lambda: self.display.stage(self._row, WAITING, 0, 1),
        ) as doubt:
            if doubt:
                remedy = "start nothing else on the machine, or set TMPDIR to a file system that has locks"
                self.cautions.append(Caution(code="no-locks", text=doubt, remedy=remedy))
            if self._deadline is not None:
                self._deadline += time.monotonic() - started
            yield


def task_id(task: Task) -> str:
    """What a task's folder is called in the cache: by its rows and its model."""
    known = fingerprints(task)
    return f"task-{known['rows']}-{known['model'][:16]}"


def device_names(device: str, processes: int) -> set[str]:
    """What the devices in use are called on their machine: `cpu`, or the UUID of each process's GPU."""
    if device == "cpu":
        return {device}
    return {file_name(uuid_of(gpu) or gpu) for gpu in gpus()[:processes]} or {device}


def without_figures(variant: str, seed: int, error: BenchError) -> Result:
    """The row of a variant that could not be made or measured: skipped where it was refused, else failed."""
    if isinstance(error, Refusal):
        return Result(variant=variant, seed=seed, status="skipped", reason=str(error))
    known = error if isinstance(error, StepFailed) else StepFailed(str(error))
    failure = Failure(kind=known.kind, step=known.step, log=list(known.log))
    return Result(variant=variant, seed=seed, status="failed", reason=str(error), failure=failure)


def both(name: str, first: Result, second: Result) -> Measurement:
    """What two measurements of a metric that a gate doubted come to."""
    one, other = first.metrics[name], second.metrics[name]
    return pooled(one, other) if name in SPEEDUPS and one.samples and other.samples else other


def explain_speed(result: Result, variant: Variant, device: str, cpu_features: Sequence[str]) -> None:
    """Note why the variant's parts can fail to be faster, where the verdict is not that they are.

    A note of an earlier session, whose verdict was another, is taken out.
    """
    reasons = [reason_of(part, variant.parts, device, cpu_features) for part in variant.parts]
    verdict = result.verdicts.get("speedup")
    result.notes = [note for note in result.notes if note not in reasons]
    if verdict is not None and verdict.word in ("same", "slower", "inconclusive"):
        result.notes += [reason for reason in reasons if reason]


def reason_of(
    part: Compressor, parts: Sequence[Compressor], device: str, cpu_features: Sequence[str]
) -> str | None:
    """Why a part can fail to be faster, as it says. Raises `InputError` for an answer that is no text."""
    reason = part.why_not_faster(parts, device, cpu_features)
    if reason is not None and not isinstance(reason, str):
        raise InputError(f"{part.name}: why_not_faster gave {type(reason).__name__}; give a text or None")
    return reason and writable(reason)


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
        findings.notes.append("compressing took dense's logits too, which all its students share")
    return findings


def drop_foreign_costs(findings: Findings, steps: Sequence[Step | None], here: str) -> None:
    """Leave out what making the variant cost where another machine had a part in it: it is not this one's."""
    if {step.findings.made_on for step in steps if step} - {None, here}:
        leave_out_costs(findings, "it was made on another machine of the cluster")


def leave_out_costs(findings: Findings, reason: str) -> None:
    """Give a reason in place of what making cost."""
    for name in (*COST, STEP_TIME):
        if findings.metrics.pop(name, None):
            findings.unavailable[name] = reason


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
