"""Knowledge distillation: a student learns from the logits of dense, or of another teacher.

Sources: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, for the softened targets;
Sun et al., "Patient Knowledge Distillation for BERT Model Compression", EMNLP 2019, for matching hidden
states layer by layer; Xia, Zhong and Chen, "Structured Pruning Learns Compact and Accurate Models", ACL
2022, section 3.2, for matching each of the teacher's layers to the nearest of a pruned student's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import InputError, Refusal
from compressors.contract import Compressor, Context, Phase
from compressors.layers import LAYER_COUNT, evenly_spaced, layer_count, with_layers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAVY_PRUNING = 0.5
MATCHES = ("auto", "fixed", "dynamic", "none")
TEACHING_LAYERS = 4


@dataclass
class Distillation(Compressor):
    """A student trained on 0.9 T² KL(teacher, student) + 0.1 cross-entropy, T = `temperature`.

    The student is the dense model's evenly spaced `layers` (a number, `half` or `all`), or the checkpoint
    `student`; the teacher is dense, or the checkpoint `teacher`. `match` adds the mean squared error between
    hidden states: `fixed` of each student layer and the one it was taken from, `dynamic` of four teacher
    layers and the student layers nearest to them. `auto` is `fixed` where the variant removes half of the
    encoder or more, else `none`.
    """

    name: ClassVar[str] = "kd"
    phase: ClassVar[Phase] = Phase.ARCHITECTURE
    summary: ClassVar[str] = "a student, half as deep unless set, learns from dense's logits"
    replaces_cross_entropy: ClassVar[bool] = True

    layers: str = "half"
    student: str = ""
    teacher: str = ""
    match: str = "auto"
    temperature: float = 2.0
    soft_share: float = 0.9

    def validate(self, device: str) -> None:
        if self.layers not in ("half", "all") and not LAYER_COUNT.fullmatch(self.layers):
            raise InputError(f"kd: layers={self.layers} is not a number above 0, half or all")
        if self.student and self.layers != "half":
            raise InputError("kd: give layers or student, not both: a checkpoint brings its own depth")
        if self.match not in MATCHES:
            raise InputError(f"kd: match={self.match} is none of {', '.join(MATCHES)}")
        if self.match == "fixed" and self.checkpoints:
            raise InputError(
                "kd: match=fixed needs a student of dense's own layers that dense teaches; "
                "with student or teacher write match=dynamic or none"
            )
        if self.temperature <= 0:
            raise InputError(f"kd: temperature={self.temperature} must be above 0")
        if not 0 <= self.soft_share <= 1:
            raise InputError(f"kd: soft_share={self.soft_share} must lie in 0..1")

    @property
    def checkpoints(self) -> tuple[str, ...]:
        return tuple(path for path in (self.student, self.teacher) if path)

    @property
    def origins(self) -> tuple[str, ...]:
        return (self.student,) if self.student else ()

    @property
    def needs_teacher(self) -> bool:
        return not self.teacher

    def layers_left(self, depth: int) -> int:
        return min(depth, layer_count(self.layers, depth))

    def needs_hidden_states(self, context: Context) -> bool:
        if self.match == "auto":
            return context.removed_share >= HEAVY_PRUNING and not self.checkpoints
        return self.match != "none"

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        teacher, tokenizer = self._foreign_teacher(context) if self.teacher else (model, context.tokenizer)
        student = self._foreign_student(context) if self.student else self._layers_of(model)
        classes = same_classes(student, teacher)
        if self.match == "dynamic":
            self._prepare_transform(student, teacher, tokenizer, context)
        logits = training_logits(teacher, tokenizer, context) if self.teacher else context.dense_logits()
        self._logits = logits[:, classes].to(context.device)
        if self.needs_hidden_states(context):
            self._teacher = teacher.to(context.device).eval()
        elif self.match == "auto" and context.removed_share >= HEAVY_PRUNING:
            context.notes.append("kd: the hidden states of another checkpoint match no layer of dense")
        return student

    def _layers_of(self, model: PreTrainedModel) -> PreTrainedModel:
        """The student of dense's own layers."""
        depth = model.config.num_hidden_layers
        count = layer_count(self.layers, depth)
        if count > depth:
            raise Refusal(f"kd: layers={self.layers} is more than the {depth} layers of dense")
        self._taught_by = evenly_spaced(count, depth)
        return with_layers(model, self._taught_by)

    def _foreign_student(self, context: Context) -> PreTrainedModel:
        from compressors.artifact import load_classifier, load_tokenizer

        context.tokenizer = load_tokenizer(self.student)
        return load_classifier(
            self.student, context.labels, context.tokenizer, context.name_classes, context.notes
        )

    def _foreign_teacher(self, context: Context) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The checkpoint `teacher`, its classes named. Raises `InputError` where it does not fit."""
        from compressors.artifact import check_fit, load_model, load_tokenizer

        teacher, tokenizer = load_model(self.teacher), load_tokenizer(self.teacher)
        check_fit(teacher, tokenizer, context.max_length)
        if reason := context.name_classes(self.teacher, teacher, tokenizer):
            raise InputError(reason)
        context.notes.append(f"kd: {self.teacher} taught, not dense; its answers are part of the wall time")
        return teacher.to(context.device), tokenizer

    def _prepare_transform(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        teacher_tokenizer: PreTrainedTokenizerBase,
        context: Context,
    ) -> None:
        """Choose the teacher's layers, and make the matrix that takes the student's states to their space."""
        import torch

        if not same_tokens(teacher_tokenizer, context.tokenizer, context):
            raise Refusal(
                "kd: match=dynamic compares hidden states token by token, and this student's tokens are not "
                "its teacher's; write match=none"
            )
        depth, student_depth = teacher.config.num_hidden_layers, student.config.num_hidden_layers
        self._taught_by = evenly_spaced(min(TEACHING_LAYERS, depth, student_depth), depth)
        sizes = student.config.hidden_size, teacher.config.hidden_size
        self._transform = torch.eye(*sizes, device=context.device, requires_grad=True)

    def parameter_groups(self, model: PreTrainedModel) -> list[dict[str, Any]]:
        return [{"params": [self._transform], "weight_decay": 0.0}] if self.match == "dynamic" else []

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
        self, batch: dict[str, torch.Tensor], hidden_states: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """Mean over matched layers of the squared error on real tokens; index 0 is the embeddings."""
        import torch

        inputs = {key: value for key, value in batch.items() if key not in ("rows", "labels")}
        with torch.no_grad():
            taught = self._teacher(**inputs, output_hidden_states=True).hidden_states
        real = batch["attention_mask"].bool()
        teacher = [taught[layer + 1][real].float() for layer in self._taught_by]
        student = [states[real].float() for states in hidden_states[1:]]
        if self.match == "dynamic":
            return dynamic_match(teacher, [(states @ self._transform).float() for states in student])
        pairs = zip(teacher, student, strict=True)
        return torch.stack([(own - told).pow(2).mean() for told, own in pairs]).mean()


def dynamic_match(teacher: Sequence[torch.Tensor], student: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over the teacher's layers of the squared error to the student layer each is matched with.

    Of all matches in which none goes back to a lower student layer than the one before, the error is the
    least; gradients flow to the matched layers alone. Where the nearest layers are in order, they are it.
    """
    import torch

    errors = [torch.stack([(own - told).pow(2).mean() for own in student]) for told in teacher]
    least = errors[0]  # [j]: the least sum of errors so far whose last match is student layer j
    for row in errors[1:]:
        least = row + least.cummin(dim=0).values
    return least.min() / len(errors)


def training_logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: Context
) -> torch.Tensor:
    """The model's float32 logits on all training rows, shape (rows, classes)."""
    import torch

    found = []
    with torch.no_grad():
        for batch in context.batches(model, tokenizer):
            del batch["labels"]
            found.append(model(**batch).logits.float())
    return torch.cat(found)


def same_classes(student: PreTrainedModel, teacher: PreTrainedModel) -> list[int]:
    """The teacher's numbers of the student's classes. Raises `InputError` where it lacks one."""
    from compressors.artifact import class_names

    wanted, known = class_names(student.config), class_names(teacher.config)
    if missing := [name for name in wanted if name not in known]:
        raise InputError(f"kd: the teacher has no class {missing[0]!r}, which the student has; take another")
    return [known.index(name) for name in wanted]


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase, context: Context) -> bool:
    """Whether two tokenizers cut the training rows into the same tokens."""
    texts = [row.text for row in context.examples]
    limit: dict[str, Any] = {"truncation": True, "max_length": context.max_length}
    return one is other or bool(one(texts, **limit)["input_ids"] == other(texts, **limit)["input_ids"])
