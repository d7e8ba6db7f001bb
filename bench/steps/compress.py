"""One variant made, from dense or from what is trained already: prepare, fine-tune, finish, save."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bench.checkpoint import Checkpoint
from bench.distributed import rank, world_size
from bench.encoding import encode
from bench.meters.energy import EnergyWindow
from bench.meters.findings import Findings
from bench.nouns.measurement import measured
from bench.steps.classes import Naming
from bench.steps.common import Batches, label_numbers, prepare_process, repeatable
from bench.steps.request import Request
from bench.steps.teacher import read_logits
from bench.tasks.stored import read_task
from bench.training import Progress, Schedule, fine_tune
from compressors import artifact
from compressors.contract import Context, Phase
from compressors.shapes import encoder_weights
from compressors.variant import Variant, parse_variant, refuse_missing_packages

SEVERAL = "several processes trained it, and energy is read for the work of one alone"
BROKEN_OFF = "training was broken off and went on, and what the earlier part of it took was not kept"


@repeatable
def make_variant(request: Request, folder: Path, progress: Progress) -> Findings:
    """Save the variant's artifact below `folder`; its wall time, energy and pruned share come back.

    Where it starts from what is trained already, time and energy are those of the rest. Where a training goes
    on that was broken off, the time is that of all its parts, and the energy is not known; nor is it where
    several processes train together, of which the first alone finishes and saves.
    """
    prepare_process(request.device, request.seed)
    task = read_task(request.task)
    variant = parse_variant(request.variant)
    refuse_missing_packages(variant)
    assert request.dense is not None
    dense, teacher = request.dense / artifact.ARTIFACT, request.teacher
    start = (request.trained or request.dense) / artifact.ARTIFACT
    todo = variant.without(variant.trained) if request.trained else variant
    findings = Findings()
    energy = None if world_size() > 1 else EnergyWindow(request.device)
    findings.spent["energy"] = energy.idle_time_s if energy else 0.0
    started = time.perf_counter()

    def dense_model() -> PreTrainedModel:
        return artifact.load_model(str(dense))

    def dense_logits() -> torch.Tensor:
        assert teacher is not None
        return read_logits(teacher)

    context = Context(
        device=request.device,
        seed=request.seed,
        labels=task.labels,
        tokenizer=artifact.load_tokenizer(str(start)),
        load_dense=dense_model,
        dense_logits=dense_logits,
        name_classes=Naming(task, request, findings.notes),
        examples=task.train,
        batches=Batches(task, request),
        max_length=request.max_length,
        batch_size=request.batch_size,
        removed_share=variant.removed_share,
    )
    model, weights_before = prepare(todo, artifact.load_model(str(start), "auto"), context)
    artifact.check_fit(model, context.tokenizer, request.max_length)
    checkpoint = Checkpoint(request.checkpoint, todo.parts)
    if todo.trains:
        schedule = Schedule(
            request.epochs,
            request.learning_rate,
            request.batch_size,
            request.seed,
            request.device,
            variant.autocast,
        )
        rows = encode(context.tokenizer, task.train, request.max_length)
        numbers = label_numbers(model, task.labels, task.train)
        with findings.spending("training"):
            findings.add(
                fine_tune(model, rows, numbers, todo.parts, context, schedule, folder, progress, checkpoint)
            )
        if rank():
            return findings
    elif not request.trained:
        findings.unavailable["training_step_time"] = "nothing is trained"
    progress("saving", 0, 1)
    for part in todo.parts:
        model = part.finish(model, context)
    artifact.save(model, context.tokenizer, variant, folder / artifact.ARTIFACT)
    earlier = [made for part in variant.parts for made in part.continues]
    for part in (*variant.parts, *earlier):
        part.build(model, folder / artifact.ARTIFACT)
    wall_time_s = time.perf_counter() - started
    drawn = energy.close("compress_energy") if energy else without_energy(SEVERAL)
    findings.add(drawn if checkpoint.went_on_from is None else without_energy(BROKEN_OFF))
    findings.metrics["compress_wall_time"] = measured(
        "compress_wall_time", checkpoint.trained_before_s + wall_time_s, "perf_counter"
    )
    findings.spent["compressing"] = wall_time_s - findings.spent.get("training", 0.0)
    findings.notes += context.notes
    return findings if request.trained else findings.add(pruned_fraction(model, weights_before))


def without_energy(reason: str) -> Findings:
    """That the energy of compressing is not known."""
    return Findings(unavailable=dict.fromkeys(("compress_energy", "compress_energy_gross"), reason))


def prepare(variant: Variant, model: PreTrainedModel, context: Context) -> tuple[PreTrainedModel, int | None]:
    """The model to train, and its encoder weights once the architecture stands and before any mask."""
    for part in variant.parts:
        if part.phase == Phase.ARCHITECTURE:
            model = part.prepare(model, context)
    weights = encoder_weights(model)
    for part in variant.parts:
        if part.phase != Phase.ARCHITECTURE:
            model = part.prepare(model, context)
    return model, weights


def pruned_fraction(model: PreTrainedModel, weights_before: int | None) -> Findings:
    """Share of the encoder weights that left after the architecture stood."""
    weights = encoder_weights(model)
    if weights is None or weights_before is None:
        reason = f"the encoder of a {model.config.model_type} model is not known"
        return Findings(unavailable={"pruned_fraction": reason})
    share = 1 - weights / weights_before
    return Findings(metrics={"pruned_fraction": measured("pruned_fraction", share, "count")})
