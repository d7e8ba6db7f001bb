"""A checkpoint or earlier artifact, measured beside the others as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.errors import InputError
from compressors import hub
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

    @property
    def checkpoints(self) -> tuple[str, ...]:
        return (self.path,)

    def refuses(self, other: Compressor) -> str | None:
        return (
            f"load measures a checkpoint as it is, and {other.name} would train it" if other.trains else None
        )

    @property
    def continues(self) -> Sequence[Compressor]:
        from compressors.artifact import made_by

        return made_by(hub.find(self.path))

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.artifact import load_model, load_tokenizer

        context.tokenizer = load_tokenizer(self.path)
        loaded = load_model(self.path, "auto")
        if reason := context.name_classes(self.path, loaded, context.tokenizer):
            raise InputError(reason)
        return loaded
