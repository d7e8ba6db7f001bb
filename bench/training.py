"""The one fine-tuning loop, whatever a variant combines: Hugging Face Trainer with the compressors' terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from bench.encoding import Encoded, collate
from bench.errors import BenchError
from compressors.contract import Compressor, Context

WARM_UP_SHARE = 0.1
WEIGHT_DECAY = 0.01
LOG_LINES = 50

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
) -> list[dict[str, float]]:
    """Train `model` in place; returns the loss curve, a list of {step, loss}. Raises `TrainingFailed`."""
    steps = schedule.steps(len(rows))
    context.total_steps = steps
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=schedule.batch_size,
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
    callback = Moments(parts, context, progress)
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
    mean_loss = trainer.train().training_loss
    if not math.isfinite(mean_loss):
        raise TrainingFailed(f"the training loss became {mean_loss} within {steps} steps")
    model.eval()
    return callback.curve


@dataclass(frozen=True)
class Collator:
    """Pads a training batch; labels and row numbers ride along."""

    pad_token: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        texts = [{key: row[key] for key in row if key not in ("labels", "rows")} for row in rows]
        numbers = {key: torch.tensor([row[key] for row in rows]) for key in ("labels", "rows")}
        return {**collate(texts, self.pad_token), **numbers}


class Moments(TrainerCallback):
    """Calls the compressors' `on_step`, keeps the loss curve, tells the progress, stops at a broken loss."""

    def __init__(self, parts: Sequence[Compressor], context: Context, progress: Progress) -> None:
        self.parts, self.context, self.progress = parts, context, progress
        self.curve: list[dict[str, float]] = []

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        for part in self.parts:
            part.on_step(state.global_step, self.context)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
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
        self.curve.append({"step": float(state.global_step), "loss": loss})


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
        terms = [part.loss(model, inputs, outputs, self.context) for part in self.parts]
        if self.cross_entropy:
            terms.append(F.cross_entropy(outputs.logits.float(), inputs["labels"]))
        loss = torch.stack([term for term in terms if term is not None]).sum()
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, *_: Any, **__: Any) -> torch.optim.Optimizer:
        assert self.model is not None
        special = [group for part in self.parts for group in part.parameter_groups(self.model)]
        taken = {id(parameter) for group in special for parameter in group["params"]}
        others = [p for p in self.model.parameters() if p.requires_grad and id(p) not in taken]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
            *special,
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate)
        return self.optimizer
