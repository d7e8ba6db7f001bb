"""The run: per variant compress, reload, measure, append the result; every step in its own process."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench.cache import Cache, Step, model_fingerprint, remove, step_id, weights_fingerprint
from bench.display import Display
from bench.environment import MachineWatch, fingerprint, precision_warnings
from bench.errors import BenchError, Refusal
from bench.folder import RunFolder
from bench.meters.carbon import Carbon, carbon_findings
from bench.meters.findings import Findings
from bench.nouns.run import DENSE, Result, ResultStatus, Run
from bench.plan import Plan
from bench.recommend import judge_accuracy, recommend, training_warnings
from bench.steps.request import Request, StepKind
from bench.tasks.stored import fingerprint as task_fingerprint
from bench.tasks.stored import summary, write_task
from bench.worker import LOG, PREDICTIONS
from bench.workers import StepFailed, Workers
from compressors.artifact import ARTIFACT
from compressors.variant import Variant

COST = ("compress_wall_time", "compress_energy")


def run_plan(plan: Plan, folder: RunFolder, display: Display, earlier: Run | None = None) -> Run:
    """Do what the plan says; `run.json` is rewritten after every variant, so an end at any time loses one.

    `earlier` is the same run, broken off: its `ok` results stay. Raises `BenchError` where dense itself
    cannot be made. A `KeyboardInterrupt` passes through, the document left complete up to there.
    """
    run = Run(
        id=folder.path.name,
        started_at=earlier.started_at if earlier else datetime.now(UTC),
        status="running",
        environment=fingerprint(),
        task=summary(plan.task),
        config=plan.config,
    )
    done = {result.variant: result for result in earlier.results if result.status == "ok"} if earlier else {}
    watch = MachineWatch()
    folder.write(run)
    try:
        with Workers() as workers:
            bench = Workbench(plan, folder, workers, display, run.environment.measuring_key)
            for number, variant in enumerate(plan.variants, start=1):
                display.begin(variant.name, number, len(plan.variants))
                result = done.get(variant.name) or bench.result(variant)
                run.results.append(result)
                folder.write(run)
                display.end(result)
        run.status = "complete"
    except BaseException:
        run.status = "interrupted"
        raise
    finally:
        dtypes = {variant.autocast for variant in plan.variants}
        precision = precision_warnings(run.environment, plan.config.device, dtypes)
        run.environment.warnings = [*precision, *training_warnings(run), *watch.warnings()]
        if run.status == "complete":
            recommend(run)
        folder.write(run)
    for result in run.results:
        if plan.config.keep == "none" or (plan.config.keep == "best" and not result.recommended):
            bench.drop_artifact(result)
    folder.write(run)
    return run


@dataclass
class Workbench:
    """Makes and measures the variants of one plan, step by step, through the cache."""

    plan: Plan
    folder: RunFolder
    workers: Workers
    display: Display
    measuring_key: str
    cache: Cache = field(init=False)
    _made_by: dict[str, Step] = field(default_factory=dict)
    _steps: dict[str, Step] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache = Cache(self.plan.cache)
        rows, model = task_fingerprint(self.plan.task), model_fingerprint(self.plan.task.model)
        self._task_id = f"task-{rows}-{model[:16]}"
        self._task = self.cache.root / self._task_id
        if not self._task.exists():
            fresh = self.cache.fresh_folder(self._task_id)
            write_task(self.plan.task, fresh)
            self.cache.take(fresh, self._task)

    def result(self, variant: Variant) -> Result:
        """The variant's row, whatever came of it. Raises `BenchError` if the variant is dense itself."""
        seed = self.plan.config.seeds[0]
        try:
            return self._measured(variant, seed)
        except BenchError as error:
            if variant.name == DENSE:
                raise
            status: ResultStatus = "skipped" if isinstance(error, Refusal) else "failed"
            return Result(variant=variant.name, seed=seed, status=status, reason=str(error))

    def drop_artifact(self, result: Result) -> None:
        """Remove the result's artifact from the run folder, and its making from the cache."""
        shutil.rmtree(self.folder.artifact(result.variant), ignore_errors=True)
        result.artifact = None
        if result.variant in self._made_by:
            remove(self._made_by[result.variant].folder)

    def _measured(self, variant: Variant, seed: int) -> Result:
        """Make the variant, measure it, and put everything that was found into its row."""
        dense = self._step("dense", DENSE, seed)
        teacher = self._step("teacher", DENSE, seed, dense=dense) if variant.needs_teacher else None
        made = dense
        if variant.name != DENSE:
            made = self._step("compress", variant.name, seed, dense=dense, teacher=teacher)
        self._made_by[variant.name] = made
        timing = self._step("timing", variant.name, seed, dense=dense, artifact=made)
        footprint = self._step("footprint", variant.name, seed, artifact=made)
        findings = collect(variant, made, teacher, timing, footprint)
        config = self.plan.config
        carbon = Carbon(config.carbon_intensity, config.pue, config.carbon_source)
        findings.add(carbon_findings(findings.metrics, findings.unavailable, carbon))
        result = Result(
            variant=variant.name,
            seed=seed,
            status="ok",
            artifact=self.folder.add_artifact(variant.name, made.folder / ARTIFACT),
            cached=[step.kind for step in (teacher, made, timing, footprint) if step and step.cached],
            **dict(findings),
        )
        predictions = self.folder.add_predictions(variant.name, timing.folder / PREDICTIONS)
        if variant.name != DENSE:
            dense_predictions = self.folder.predictions(DENSE)
            result.accuracy_kept = judge_accuracy(dense_predictions, predictions, config.accuracy_margin)
        return result

    def _step(self, kind: StepKind, variant: str, seed: int, **parents: Step | None) -> Step:
        """The step done earlier in this run, from the cache, or done now; `parents` are what it reads."""
        config = self.plan.config
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
            plugins=list(self.plan.plugins),
            **{name: step.folder for name, step in read.items()},
        )
        measuring = kind in ("timing", "footprint")
        ids = {"task": self._task_id, **{name: step.id for name, step in read.items()}}
        if measuring:
            ids |= {name: weights_fingerprint(step.folder / ARTIFACT) for name, step in read.items()}
            ids["machine"] = self.measuring_key
        name = step_id(request, ids)
        if name not in self._steps:
            found = None if measuring and self.plan.remeasure else self.cache.find(kind, name)
            self._steps[name] = found or self._do(kind, name, request)
        return self._steps[name]

    def _do(self, kind: StepKind, name: str, request: Request) -> Step:
        """Run the step in a worker; a failed one leaves its log in the run folder, nothing in the cache."""
        work = self.cache.begin(name, request)
        try:
            self.workers.run(work, self.display.stage)
            return self.cache.keep(kind, name, work)
        except StepFailed as error:
            log = self.folder.add_log(f"{request.variant}-{kind}", work / LOG)
            raise StepFailed(f"{kind}: {error} (log: {log})") from None
        finally:
            shutil.rmtree(work, ignore_errors=True)


def collect(variant: Variant, made: Step, teacher: Step | None, *measured: Step) -> Findings:
    """Everything found about a variant; the teacher's cost is part of what it depends on."""
    findings = made.findings.model_copy(deep=True)
    for step in measured:
        findings.add(step.findings.model_copy(deep=True))
    if variant.name == DENSE:
        findings.unavailable |= dict.fromkeys(COST, "dense is what the others are made from")
        findings.unavailable["pruned_fraction"] = "dense is not pruned"
    if teacher:
        for name in COST:
            add_shared_cost(findings, name, teacher.findings)
        findings.notes.append("compressing costs include dense's logits, computed once for all students")
    return findings


def add_shared_cost(findings: Findings, name: str, shared: Findings) -> None:
    """Add the teacher's part of a cost; where it is missing or had otherwise, the sum is unavailable."""
    own, more = findings.metrics.pop(name, None), shared.metrics.get(name)
    if own and more and own.source == more.source:
        findings.metrics[name] = own.model_copy(update={"value": own.value + more.value})
    elif name not in findings.unavailable:
        reason = shared.unavailable.get(name, "its parts come from different sources")
        findings.unavailable[name] = f"dense's logits: {reason}"
