"""The run: per variant compress, reload, measure, append the result; every step in its own process."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.cache import Cache, Step, model_fingerprint, step_id
from bench.display import Display
from bench.environment import MachineWatch, fingerprint
from bench.errors import BenchError, Refusal
from bench.folder import RunFolder
from bench.meters.carbon import Carbon, carbon_findings
from bench.meters.findings import Findings
from bench.nouns.run import DENSE, Result, Run
from bench.plan import Plan
from bench.recommend import judge_accuracy, recommend
from bench.steps.request import Request, StepKind
from bench.tasks.stored import fingerprint as task_fingerprint
from bench.tasks.stored import summary, write_task
from bench.workers import Workers
from compressors.variant import Variant

PREDICTIONS = "predictions.jsonl"
COST = ("compress_wall_time", "compress_energy")


def run_plan(plan: Plan, folder: RunFolder, display: Display, earlier: Run | None = None) -> Run:
    """Do what the plan says; `run.json` is rewritten after every variant, so an end at any time loses one.

    `earlier` is the same run, broken off: its `ok` results stay. Raises `InputError` where dense itself
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
    try:
        with Workers() as workers:
            bench = Workbench(plan, folder, workers, display)
            for number, variant in enumerate(plan.variants, start=1):
                display.begin(variant.name, number, len(plan.variants))
                result = done.get(variant.name) or bench.result(variant)
                run.results.append(result)
                folder.write(run)
                display.end(result)
        run.status = "complete"
    except KeyboardInterrupt:
        run.status = "interrupted"
        raise
    finally:
        run.environment.warnings = watch.warnings()
        recommend(run)
        folder.write(run)
    keep_artifacts(run, folder)
    folder.write(run)
    return run


def keep_artifacts(run: Run, folder: RunFolder) -> None:
    """Remove from the run folder the artifacts that `--keep` does not name."""
    for result in run.results:
        kept = run.config.keep == "all" or (run.config.keep == "best" and result.recommended)
        if not kept and result.artifact:
            shutil.rmtree(folder.path / result.artifact)
            result.artifact = None


@dataclass
class Workbench:
    """Makes and measures variants of one plan, step by step, through the cache."""

    plan: Plan
    folder: RunFolder
    workers: Workers
    display: Display
    cache: Cache = field(init=False)
    _task: Path | None = None
    _task_id: str = ""

    def __post_init__(self) -> None:
        self.cache = Cache(self.plan.cache)
        self._task_id = (
            f"task-{task_fingerprint(self.plan.task)}-{model_fingerprint(self.plan.task.model)[:16]}"
        )

    def result(self, variant: Variant) -> Result:
        """The variant's row, whatever came of it."""
        seed = self.plan.config.seeds[0]
        try:
            return self._measured(variant, seed)
        except Refusal as error:
            return Result(variant=variant.name, seed=seed, status="skipped", reason=str(error))
        except BenchError as error:
            if variant.name == DENSE:
                raise
            return Result(variant=variant.name, seed=seed, status="failed", reason=str(error))

    def _measured(self, variant: Variant, seed: int) -> Result:
        """Make the variant, measure it, and put everything that was found into its row."""
        dense = self._dense(seed)
        distilled = any(part.needs_teacher for part in variant.parts)
        teacher = self._teacher(dense, seed) if distilled else None
        made = self._made(variant, seed, dense, teacher)
        parents = {"dense": dense.id, "artifact": made.id, "machine": fingerprint().machine_key}
        places = {"dense": dense.folder / "artifact", "artifact": made.folder / "artifact"}
        timing = self._step("timing", variant.name, seed, parents, places)
        footprint = self._step("footprint", variant.name, seed, parents, places)
        steps = [made, timing, footprint]
        findings = collect(variant, made, teacher, timing, footprint)
        carbon = Carbon(
            self.plan.config.carbon_intensity, self.plan.config.pue, self.plan.config.carbon_source
        )
        findings.add(carbon_findings(findings.metrics, findings.unavailable, carbon))
        predictions = self.folder.predictions(variant.name)
        predictions.parent.mkdir(exist_ok=True)
        shutil.copyfile(timing.folder / PREDICTIONS, predictions)
        result = Result(
            variant=variant.name,
            seed=seed,
            status="ok",
            artifact=self.folder.add_artifact(variant.name, made.folder / "artifact"),
            cached=[step.id.split("-")[0] for step in steps if step.cached],
            **dict(findings),
        )
        if variant.name != DENSE:
            dense_rows = self.folder.predictions(DENSE)
            result.accuracy_kept = judge_accuracy(dense_rows, predictions, self.plan.config.accuracy_margin)
        return result

    def _dense(self, seed: int) -> Step:
        return self._step("dense", DENSE, seed, {}, {})

    def _teacher(self, dense: Step, seed: int) -> Step:
        return self._step("teacher", DENSE, seed, {"dense": dense.id}, {"dense": dense.folder / "artifact"})

    def _made(self, variant: Variant, seed: int, dense: Step, teacher: Step | None) -> Step:
        if variant.name == DENSE:
            return dense
        parents, places = {"dense": dense.id}, {"dense": dense.folder / "artifact"}
        if teacher:
            parents["teacher"], places["teacher"] = teacher.id, teacher.folder
        return self._step("compress", variant.name, seed, parents, places)

    def _step(
        self, kind: StepKind, variant: str, seed: int, parents: dict[str, str], places: dict[str, Path]
    ) -> Step:
        """The step from the cache, or done now."""
        config = self.plan.config
        is_dense = kind == "dense"
        request = Request(
            kind=kind,
            task=self._task_folder(),
            variant=variant,
            device=config.device,
            seed=seed,
            epochs=config.dense_epochs if is_dense else config.epochs,
            learning_rate=config.dense_learning_rate if is_dense else config.learning_rate,
            batch_size=config.batch_size,
            max_length=config.max_length,
            budget=config.budget,
            plugins=list(self.plan.plugins),
            **places,
        )
        name = step_id(request, {"task": self._task_id, **parents})
        measuring = kind in ("timing", "footprint")
        found = None if measuring and self.plan.remeasure else self.cache.find(name)
        if found:
            return found
        work = self.cache.begin(name, request)
        self.workers.run(work, self.display.stage)
        return self.cache.keep(name, work)

    def _task_folder(self) -> Path:
        """The task's rows on disk, written once."""
        if self._task is None:
            self._task = self.cache.root / self._task_id
            if not (self._task / "task.json").exists():
                fresh = self.cache.root / f"{self._task_id}.new"
                shutil.rmtree(fresh, ignore_errors=True)
                fresh.mkdir(parents=True)
                write_task(self.plan.task, fresh)
                fresh.rename(self._task)
        return self._task


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
            if name in findings.metrics and name in teacher.findings.metrics:
                own, shared = findings.metrics[name], teacher.findings.metrics[name]
                findings.metrics[name] = own.model_copy(update={"value": own.value + shared.value})
        findings.notes.append("compressing costs include dense's logits, computed once for all students")
    return findings
