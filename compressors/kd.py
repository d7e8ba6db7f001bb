"""Knowledge distillation: a student of fewer layers learns from the dense model's logits.

Sources: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, for the softened targets;
Sun et al., "Patient Knowledge Distillation for BERT Model Compression", EMNLP 2019, for matching hidden
states layer by layer.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import InputError, Refusal
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

HEAVY_PRUNING = 0.5
LAYER_COUNT = re.compile(r"[1-9][0-9]{0,3}")


@dataclass
class Distillation(Compressor):
    """A student trained on 0.9 T² KL(teacher, student) + 0.1 cross-entropy, T = `temperature`.

    The student is the dense model's evenly spaced `layers` (a number, `half` or `all`), or the checkpoint
    `student`. Where the variant removes half of the encoder or more, the mean squared error between
    matched hidden states is added.
    """

    name: ClassVar[str] = "kd"
    phase: ClassVar[Phase] = Phase.ARCHITECTURE
    summary: ClassVar[str] = "a student, half as deep unless set, learns from dense's logits"
    replaces_cross_entropy: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = True

    layers: str = "half"
    student: str = ""
    temperature: float = 2.0
    soft_share: float = 0.9

    def validate(self, device: str) -> None:
        if self.layers not in ("half", "all") and not LAYER_COUNT.fullmatch(self.layers):
            raise InputError(f"kd: layers={self.layers} is not a number above 0, half or all")
        if self.student and self.layers != "half":
            raise InputError("kd: give layers or student, not both: a checkpoint brings its own depth")
        if self.temperature <= 0:
            raise InputError(f"kd: temperature={self.temperature} must be above 0")
        if not 0 <= self.soft_share <= 1:
            raise InputError(f"kd: soft_share={self.soft_share} must lie in 0..1")

    @property
    def checkpoints(self) -> tuple[str, ...]:
        return (self.student,) if self.student else ()

    def needs_hidden_states(self, context: Context) -> bool:
        return context.removed_share >= HEAVY_PRUNING and not self.student

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        logits = context.dense_logits().to(context.device)
        if self.student:
            student = self._foreign_student(context)
            names = student.config.id2label
            self._logits = logits[:, [model.config.label2id[names[i]] for i in range(len(names))]]
            if context.removed_share >= HEAVY_PRUNING:
                context.notes.append("kd: the hidden states of another checkpoint match no layer of dense")
            return student
        self._logits = logits
        student, self._taught_by = take_layers(model, self.layers)
        if self.needs_hidden_states(context):
            self._teacher = context.load_dense().to(context.device).eval()
        return student

    def _foreign_student(self, context: Context) -> PreTrainedModel:
        from compressors.artifact import load_classifier, load_tokenizer

        context.tokenizer = load_tokenizer(self.student)
        return load_classifier(
            self.student, context.labels, context.tokenizer, context.name_classes, context.notes
        )

    def loss(
        self, model: PreTrainedModel, batch: dict[str, torch.Tensor], outputs: Any, context: Context
    ) -> torch.Tensor:
        import torch.nn.functional as F

        logits = outputs.logits.float()
        soft_targets = F.softmax(self._logits[batch["rows"]] / self.temperature, dim=-1)
        soft = F.kl_div(F.log_softmax(logits / self.temperature, dim=-1), soft_targets, reduction="batchmean")
        hard = F.cross_entropy(logits, batch["labels"])
        total = self.soft_share * self.temperature**2 * soft + (1 - self.soft_share) * hard
        if self.needs_hidden_states(context):
            total = total + self._hidden_state_error(batch, outputs.hidden_states)
        return total

    def _hidden_state_error(
        self, batch: dict[str, torch.Tensor], student: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """Mean over matched layers of the squared error on real tokens; index 0 is the embeddings."""
        import torch

        inputs = {key: value for key, value in batch.items() if key not in ("rows", "labels")}
        with torch.no_grad():
            teacher = self._teacher(**inputs, output_hidden_states=True).hidden_states
        real = batch["attention_mask"].bool()
        errors = [
            (student[i + 1].float() - teacher[taught_by + 1].float())[real].pow(2).mean()
            for i, taught_by in enumerate(self._taught_by)
        ]
        return torch.stack(errors).mean()


def take_layers(model: PreTrainedModel, layers: str) -> tuple[PreTrainedModel, list[int]]:
    """A copy of `model` with `layers` of its encoder layers, evenly spaced, and which ones they were.

    Where one layer is run again and again (ALBERT), the copy runs it fewer times.
    """
    from compressors.shapes import shares_layers

    depth = model.config.num_hidden_layers
    wanted = {"half": max(1, depth // 2), "all": depth}.get(layers) or int(layers)
    if wanted > depth:
        raise Refusal(f"kd: layers={layers} is more than the {depth} layers of dense")
    taken = [(i + 1) * depth // wanted - 1 for i in range(wanted)]
    student = copy.deepcopy(model)
    if not shares_layers(student):
        keep_layers(student, taken)
    student.config.num_hidden_layers = wanted
    return student, taken


def keep_layers(model: PreTrainedModel, taken: Sequence[int]) -> None:
    """Leave of the model's list of layers, and of their shapes in its configuration, those `taken`."""
    from torch import nn

    from compressors.shapes import layer_stack

    owner, attribute = layer_stack(model)
    stack = getattr(owner, attribute)
    setattr(owner, attribute, nn.ModuleList(stack[i] for i in taken))
    for shapes in ("layer_heads", "layer_ffn_widths"):
        if hasattr(model.config, shapes):
            setattr(model.config, shapes, [getattr(model.config, shapes)[i] for i in taken])
