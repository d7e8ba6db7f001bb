"""The dense model: fine-tuned first, or as it came, saved in float32 as the artifact all else starts from."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.checkpoint import Checkpoint
from bench.distributed import rank
from bench.encoding import encode
from bench.errors import InputError
from bench.meters.findings import Findings
from bench.nouns.task import Task
from bench.scratch import small_bert, train_tokenizer
from bench.steps.classes import Naming
from bench.steps.common import Batches, label_numbers, prepare_process, repeatable
from bench.steps.request import Request
from bench.tasks.stored import read_task
from bench.training import Progress, Schedule, fine_tune
from compressors import artifact
from compressors.contract import Context, NameClasses
from compressors.variant import parse_variant


@repeatable
def make_dense(request: Request, folder: Path, progress: Progress) -> Findings:
    """Build or load the model, fine-tune it where asked, save it below `folder`.

    Where another artifact stands for dense, as `load:`, it is taken in its own precision and run as it was
    made. Of several processes that fine-tune together the first alone saves.
    """
    prepare_process(request.device, request.seed)
    task = read_task(request.task)
    variant = parse_variant(request.variant)
    findings = Findings()
    naming = Naming(task, request, findings.notes)
    dtype = "auto" if variant.parts else "float32"
    model, tokenizer = starting_point(task, request.max_length, naming, findings.notes, dtype)
    artifact.check_fit(model, tokenizer, request.max_length)
    started = time.perf_counter()
    if task.fine_tune:
        context = Context(
            device=request.device,
            seed=request.seed,
            labels=task.labels,
            tokenizer=tokenizer,
            load_dense=lambda: model,
            dense_logits=no_logits,
            name_classes=naming,
            examples=task.train,
            batches=Batches(task, request),
            max_length=request.max_length,
            batch_size=request.batch_size,
        )
        schedule = Schedule(
            request.epochs, request.learning_rate, request.batch_size, request.seed, request.device
        )
        rows = encode(tokenizer, task.train, request.max_length)
        numbers = label_numbers(model, task.labels, task.train)
        checkpoint = Checkpoint(request.checkpoint)
        with findings.spending("training"):
            findings.add(fine_tune(model, rows, numbers, [], context, schedule, folder, progress, checkpoint))
        if rank():
            return findings
        wall_time_s = checkpoint.trained_before_s + time.perf_counter() - started
        plural = "" if request.epochs == 1 else "s"
        findings.notes.append(f"fine-tuned for {request.epochs:g} epoch{plural} in {wall_time_s:.0f} s")
    else:
        findings.unavailable["training_step_time"] = "dense was used as it came"
    artifact.save(model, tokenizer, variant, folder / artifact.ARTIFACT)
    for part in (made for loaded in variant.parts for made in loaded.continues):
        part.build(model, folder / artifact.ARTIFACT)
    return findings


def no_logits() -> torch.Tensor:
    """The dense model has no teacher."""
    raise AssertionError("dense is not distilled")


def starting_point(
    task: Task, max_length: int, naming: NameClasses, notes: list[str], dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer before fine-tuning; what is new about them goes to `notes`.

    Raises `InputError` where the checkpoint does not fit.
    """
    if task.model is None:
        tokenizer = train_tokenizer(task.train, max_length)
        return small_bert(task.labels, len(tokenizer), max_length), tokenizer
    tokenizer = artifact.load_tokenizer(task.model)
    if task.fine_tune:
        return artifact.load_classifier(task.model, task.labels, tokenizer, naming, notes), tokenizer
    if dtype != "auto":
        artifact.refuse_quantised(task.model)
    model = artifact.load_model(task.model, dtype)
    if reason := naming(task.model, model, tokenizer):
        raise InputError(reason)
    return model, tokenizer
