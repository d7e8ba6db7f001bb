"""What a compressor is: one technique, in one file, taking part in the moments of a variant's making.

A plugin author subclasses `Compressor` as a dataclass, whose fields are its configuration, and overrides
the moments it needs. Technique files import torch inside their methods, so that listing them is cheap.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from bench.nouns.task import Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NameClasses = Callable[[str, "PreTrainedModel", "PreTrainedTokenizerBase"], str | None]


class Phase(enum.IntEnum):
    """When a compressor acts; a variant's compressors are sorted by it, whatever their spelling order.

    From `MASKS` on, a variant has one compressor of each at most.
    """

    ARCHITECTURE = 0
    MASKS = 1
    PRECISION = 2
    RUNTIME = 3
    BATCHING = 4


class TrainingBatches(Protocol):
    """Gives training rows to techniques that look at data outside the training loop."""

    def __call__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int | None = None
    ) -> Iterator[dict[str, torch.Tensor]]:
        """`count` training rows, classes in proportion (None: all), tokenised and padded, on the device.

        They come in batches of the task's size, always the same ones in their order, with `labels` as
        `model` numbers its classes.
        """
        ...


@dataclass
class Context:
    """What a compressor may know of the variant it is part of.

    `removed_share` is the largest share of encoder weights any part of the variant removes.
    `load_dense()` gives a fresh dense model in eval mode; `dense_logits()` its float32 logits on the
    training rows, shape (rows, classes), computed once for all variants. `name_classes(path_or_id, model,
    tokenizer)` gives another checkpoint's classes the names in `labels`; where it cannot it returns why.
    `examples` are the training rows, `batches` gives them as a model takes them; rows are cut to `max_length`
    tokens, and variants are judged by their speed on batches of `batch_size`. `tokenizer` may be replaced in
    `prepare` and `finish`. `notes` are sentences for the user.
    """

    device: str
    seed: int
    labels: tuple[str, ...]
    tokenizer: PreTrainedTokenizerBase
    load_dense: Callable[[], PreTrainedModel]
    dense_logits: Callable[[], torch.Tensor]
    name_classes: NameClasses
    examples: Sequence[Example]
    batches: TrainingBatches
    max_length: int
    batch_size: int
    removed_share: float = 0.0
    total_steps: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class Compressor:
    """Base of all techniques. Every moment is a no-op unless overridden.

    `number` names the field that digits after the name set, in percent (`bmp25`); `argument` the field
    that a bare value after the colon sets (`load:PATH`). `trains` asks for fine-tuning;
    `replaces_cross_entropy` says that `loss` is all there is. `packages` are modules that it imports and that
    come with the extra `extra`; where one is missing its rows are skipped. `quantises` says that it leaves
    weights which are no plain floating-point tensors; `sorts_rows` that rows are run in order of length.
    `engine` names the file that `build` leaves and `runtime` runs in place of the weights, which it gets none
    of. One instance serves one variant, so a technique may keep its state on itself between moments.
    """

    name: ClassVar[str]
    phase: ClassVar[Phase]
    summary: ClassVar[str]
    number: ClassVar[str | None] = None
    argument: ClassVar[str | None] = None
    trains: ClassVar[bool] = True
    replaces_cross_entropy: ClassVar[bool] = False
    extra: ClassVar[str | None] = None
    packages: ClassVar[tuple[str, ...]] = ()
    quantises: ClassVar[bool] = False
    sorts_rows: ClassVar[bool] = False
    engine: ClassVar[str | None] = None

    def validate(self, device: str) -> None:
        """Raise `InputError` where a field's value cannot be used (on `device`: cpu or cuda)."""

    def refuses(self, other: Compressor) -> str | None:
        """Why this technique cannot be combined with `other`, or None."""
        return None

    @property
    def removes(self) -> float:
        """Share of the encoder's weights this technique removes."""
        return 0.0

    def layers_left(self, depth: int) -> int:
        """How many of `depth` encoder layers it leaves."""
        return depth

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Other checkpoints it reads, folders or hub ids; a hub's are here before anything is made."""
        return ()

    @property
    def origins(self) -> tuple[str, ...]:
        """Those of `checkpoints` whose weights go into the model, in place of dense's; a teacher's do not."""
        return self.checkpoints

    @property
    def needs_teacher(self) -> bool:
        """Whether it reads `Context.dense_logits`."""
        return False

    @property
    def measures_device(self) -> bool:
        """Whether times measured on this machine decide what it makes."""
        return False

    @property
    def files(self) -> tuple[Path, ...]:
        """Files it reads besides checkpoints; what they hold is part of what a step is known by."""
        return ()

    @property
    def continues(self) -> Sequence[Compressor]:
        """What made the earlier artifact that it goes on from: their `runtime` applies to the new one too."""
        return ()

    @property
    def autocast(self) -> str | None:
        """The dtype to train in under autocast, by torch's name, or None."""
        return None

    def needs_hidden_states(self, context: Context) -> bool:
        """Whether `loss` reads the hidden states of the model's outputs."""
        return False

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        """Before training: the model to train, e.g. a student or one with masks. Raises `Refusal`."""
        return model

    def loss(
        self, model: PreTrainedModel, batch: dict[str, torch.Tensor], outputs: Any, context: Context
    ) -> torch.Tensor | None:
        """A term to add to the loss, a scalar; `batch["rows"]` holds the training rows' numbers."""
        return None

    def parameter_groups(self, model: PreTrainedModel) -> list[dict[str, Any]]:
        """Optimizer groups for parameters that want their own learning rate."""
        return []

    def on_step(self, step: int, context: Context) -> None:
        """Called before each training step, 0 first."""

    def training_state(self) -> dict[str, torch.Tensor]:
        """What training has changed on the instance, other than what the model and the optimizer hold.

        Asked between two steps and kept on disk, so that a training that is broken off goes on from there.
        """
        return {}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `training_state` gave, on the CPU; called after `prepare`, the weights put back."""

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        """After training: the model to save, physically smaller, quantised or cast."""
        return model

    def build(self, model: PreTrainedModel, folder: Path) -> None:
        """After saving: put an engine's files, derived from the saved model, into the artifact's `folder`."""

    def runtime(self, model: PreTrainedModel, folder: Path, device: str) -> PreTrainedModel:
        """How the model reloaded from `folder` is run: compiled, or by another engine; called as it was.

        A technique with an `engine` gets the model without weights, see `artifact.skeleton`.
        """
        return model

    def why_not_faster(
        self, parts: Sequence[Compressor], device: str, cpu_features: Sequence[str]
    ) -> str | None:
        """Why a variant of these `parts` can fail to be faster on `device`; said where it was not."""
        return None
