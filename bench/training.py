"""The one fine-tuning loop, whatever a variant combines: Hugging Face Trainer with the compressors' terms."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.optimizer import AcceleratedOptimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from bench.checkpoint import Checkpoint
from bench.distributed import average_gradients, rank, world_size
from bench.encoding import Encoded, collate
from bench.errors import BenchError
from bench.meters.findings import Findings
from bench.nouns.measurement import measured
from bench.statistics import median_interval
from compressors.contract import Compressor, Context

WARM_UP_SHARE = 0.1
WEIGHT_DECAY = 0.01
LOG_LINES = 50
KEPT_STEP_TIMES = 1_000

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Schedule:
    """What the loop needs besides model and rows. `autocast` is torch's name of a dtype, or None."""

    epochs: float
    learning_rate: float
    batch_size: int
    seed: int
    device: str
    autocast: str | None = None

    def steps(self, rows: int) -> int:
        """Number of optimizer steps over `rows` training rows."""
        return max(1, math.ceil(self.epochs * math.ceil(rows / self.batch_size)))


class TrainingFailed(BenchError):
    """The loss stopped being a number."""


def fine_tune(
    model: PreTrainedModel,
    rows: Sequence[Encoded],
    labels: Sequence[int],
    parts: Sequence[Compressor],
    context: Context,
    schedule: Schedule,
    scratch: Path,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> Findings:
    """Train `model` in place; the loss curve and the time of a step come back. Raises `TrainingFailed`.

    Where `checkpoint` finds the state of the same training, broken off, this goes on from there; on a CPU it
    ends with the weights that it would have had.

    Where several processes train together (`bench.distributed`), each calls this alike and ends with the same
    weights. They share each batch out, so steps, schedule and the rows of a step are those of one process,
    and so are the weights, up to rounding and dropout, whose draws differ. Two things are not: where the last
    batch of an epoch is smaller, it is filled up with the rows that the epoch began with; and a term of the
    loss that is no mean over rows, such as kd's over tokens, becomes the mean of the processes' own.
    """
    checkpoint, processes = checkpoint or Checkpoint(None), world_size()
    assert schedule.batch_size % processes == 0
    steps = schedule.steps(len(rows))
    context.total_steps = steps
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=schedule.batch_size // processes,
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(WARM_UP_SHARE * steps),
        weight_decay=WEIGHT_DECAY,
        bf16=schedule.autocast == "bfloat16",
        fp16=schedule.autocast == "float16",
        use_cpu=schedule.device == "cpu",
        seed=schedule.seed,
        dataloader_pin_memory=schedule.device != "cpu",
        remove_unused_columns=False,
        save_strategy="no",
        logging_steps=max(1, steps // LOG_LINES),
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
    )
    dataset = [
        {**row, "labels": label, "rows": number}
        for number, (row, label) in enumerate(zip(rows, labels, strict=True))
    ]
    clock = StepClock(schedule.device)
    callback = Moments(parts, context, progress, clock, checkpoint)
    trainer = VariantTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=Collator(context.tokenizer.pad_token_id),
        callbacks=[callback],
        parts=parts,
        context=context,
    )
    trainer.remove_callback(PrinterCallback)
    try:
        mean_loss = trainer.train(resume_from_checkpoint=checkpoint.find(scratch)).training_loss
    finally:
        checkpoint.forget()
    if not math.isfinite(mean_loss):
        raise TrainingFailed(f"the training loss became {mean_loss} within {steps} steps")
    model.eval()
    curve = [
        {"step": float(log["step"]), "loss": float(log["loss"])}
        for log in trainer.state.log_history
        if "loss" in log
    ]
    notes = [*checkpoint.notes]
    if processes > 1:
        notes.append(f"trained by {processes} processes, {schedule.batch_size // processes} rows each a step")
    return step_time(clock.times_s(), clock.source).add(Findings(training=curve, notes=notes))


class StepClock:
    """Tells how long each optimizer step took, from the end of the one before; training never waits for it.

    On a GPU the ends are CUDA events, since the host runs ahead of the device: reading its clock without
    synchronising would tell how fast work is queued, and synchronising would slow what is timed.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._ends: list[Any] = []

    def step_ended(self) -> None:
        """Note that a step ended, or, on a GPU, that all its work is queued."""
        if self.device == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._ends.append(event)
        else:
            self._ends.append(time.perf_counter())

    def interrupted(self) -> None:
        """Note that something else came between two steps; the later one has no time then."""
        self._ends.append(None)

    @property
    def source(self) -> str:
        """What the times are read from."""
        return "CUDA events" if self.device == "cuda" else "perf_counter"

    def times_s(self) -> list[float]:
        """The time of each step but the first, which has no end before it and warms up, in s."""
        pairs = [
            (before, end)
            for before, end in zip(self._ends, self._ends[1:], strict=False)
            if before is not None and end is not None
        ]
        if self.device != "cuda":
            return [end - before for before, end in pairs]
        torch.cuda.synchronize()
        return [before.elapsed_time(end) / 1000 for before, end in pairs]


def step_time(times_s: Sequence[float], source: str) -> Findings:
    """The median time of a step, with the raw times; of more than `KEPT_STEP_TIMES` evenly spread ones."""
    if not times_s:
        reason = "no step followed another without a break, and the first is left out"
        return Findings(unavailable={"training_step_time": reason})
    kept = tuple(times_s[:: math.ceil(len(times_s) / KEPT_STEP_TIMES)])
    some = f"; {len(kept):,} of {len(times_s):,} samples kept" if len(kept) < len(times_s) else ""
    found = measured(
        "training_step_time",
        statistics.median(times_s),
        f"{source}, from one step's end to the next's, without the first step{some}",
        median_interval(times_s) if len(times_s) > 1 else None,
        kept,
    )
    return Findings(metrics={"training_step_time": found})


@dataclass(frozen=True)
class Collator:
    """Pads a training batch; labels and row numbers ride along."""

    pad_token: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        texts = [{key: row[key] for key in row if key not in ("labels", "rows")} for row in rows]
        numbers = {key: torch.tensor([row[key] for row in rows]) for key in ("labels", "rows")}
        return {**collate(texts, self.pad_token), **numbers}


class Moments(TrainerCallback):
    """Calls the compressors' `on_step`, keeps checkpoints and each step's end, stops at a broken loss."""

    def __init__(
        self,
        parts: Sequence[Compressor],
        context: Context,
        progress: Progress,
        clock: StepClock,
        checkpoint: Checkpoint,
    ) -> None:
        self.parts, self.context, self.progress = parts, context, progress
        self.clock, self.checkpoint = clock, checkpoint

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        optimizer: AcceleratedOptimizer,
        lr_scheduler: LRScheduler,
        **_: Any,
    ) -> None:
        if rank():
            torch.manual_seed(args.seed + rank())  # dropout of other rows is to be drawn anew
        self.checkpoint.begin(state, model, optimizer, lr_scheduler)

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        optimizer: AcceleratedOptimizer,
        lr_scheduler: LRScheduler,
        **_: Any,
    ) -> None:
        if self.checkpoint.between_steps(state, model, optimizer, lr_scheduler):
            self.clock.interrupted()
        optimizer.zero_grad()  # the Trainer clears the model's gradients, and a part may train others
        for part in self.parts:
            part.on_step(state.global_step, self.context)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.clock.step_ended()
        self.progress("training", state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingFailed(f"the training loss became {loss} at step {state.global_step}")


class VariantTrainer(Trainer):
    """Trainer whose loss and optimizer groups come from the variant's compressors."""

    def __init__(self, *, parts: Sequence[Compressor], context: Context, **settings: Any) -> None:
        self.parts, self.context = parts, context
        self.hidden_states = any(part.needs_hidden_states(context) for part in parts)
        self.cross_entropy = not any(part.replaces_cross_entropy for part in parts)
        super().__init__(**settings)
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        **_: Any,
    ) -> Any:
        texts = {key: tensor for key, tensor in inputs.items() if key not in ("labels", "rows")}
        outputs = model(**texts, output_hidden_states=self.hidden_states)
        assert self.model is not None  # `model` may be torch's wrapper, which no part has prepared
        terms = [part.loss(self.model, inputs, outputs, self.context) for part in self.parts]
        if self.cross_entropy:
            terms.append(F.cross_entropy(outputs.logits.float(), inputs["labels"]))
        loss = torch.stack([term for term in terms if term is not None]).sum()
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *given: Any, **more: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*given, **more)
        average_gradients(self.outside)  # torch averages the model's
        return loss

    def create_optimizer(self, *_: Any, **__: Any) -> torch.optim.Optimizer:
        assert self.model is not None
        special = [group for part in self.parts for group in part.parameter_groups(self.model)]
        taken = {id(parameter) for group in special for parameter in group["params"]}
        inside = {id(parameter) for parameter in self.model.parameters()}
        self.outside = [p for group in special for p in group["params"] if id(p) not in inside]
        others = [p for p in self.model.parameters() if p.requires_grad and id(p) not in taken]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
            *special,
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate)
        return self.optimizer
