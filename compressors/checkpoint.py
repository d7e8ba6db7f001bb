"""A checkpoint or earlier artifact, measured beside the others as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.errors import InputError
from compressors.artifact import check_checkpoint
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Load(Compressor):
    """Replaces the dense model by the one at `path` (a folder or hub id), with its own tokenizer."""

    name: ClassVar[str] = "load"
    phase: ClassVar[Phase] = Phase.ARCHITECTURE
    summary: ClassVar[str] = "any checkpoint or artifact, measured as it is"
    argument: ClassVar[str | None] = "path"
    trains: ClassVar[bool] = False

    path: str = ""

    def validate(self, device: str) -> None:
        if not self.path:
            raise InputError("load: no checkpoint named; write load:PATH_OR_ID")
        check_checkpoint(self.path)

    def refuses(self, other: Compressor) -> str | None:
        return (
            f"load measures a checkpoint as it is, and {other.name} would train it" if other.trains else None
        )

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.artifact import load_model, load_tokenizer

        context.tokenizer = load_tokenizer(self.path)
        loaded = load_model(self.path, "auto")
        names = {str(name) for name in loaded.config.id2label.values()}
        if not set(context.labels) <= names:
            raise InputError(
                f"load:{self.path}: its classes {sorted(names)[:5]} lack one of the task's "
                f"{sorted(context.labels)[:5]}; load a checkpoint fine-tuned on the same label names"
            )
        return loaded
