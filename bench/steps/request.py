"""What a step is told, as one JSON document, and what it gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.nouns.run import Budget, Padding, Shape

StepKind = Literal["dense", "teacher", "compress", "timing", "footprint", "profile"]


class Request(BaseModel):
    """Inputs of a step. Folders are absolute paths; epochs and rates are those of this step's training.

    `dense`, `teacher`, `trained`, `artifact` and `equal` are folders of the steps whose outcome this one
    reads: `trained` is the variant without the parts that act on the finished model alone, `equal` is dense
    in the variant's precision and run by its engine. `attempt` counts measurements of the same: each orders
    its rounds anew. `snapshots` are those of checkpoints from a hub, by id. `checkpoint` is the folder in
    which a training leaves its state, and finds that of one of the same inputs that was broken off. `machine`
    is the key of the one that the step is done on.
    `train_processes` is how many train together where the step trains, each on a GPU of its own.
    """

    model_config = ConfigDict(extra="forbid")

    kind: StepKind
    task: Path
    variant: str
    device: str
    seed: int
    epochs: float
    learning_rate: float
    batch_size: int
    max_length: int
    budget: Budget
    paddings: list[Padding] = Field(default_factory=list)
    shapes: list[Shape] = Field(default_factory=list)
    thread_counts: list[int] = Field(default_factory=list)
    attempt: int = 0
    plugins: list[Path]
    snapshots: dict[str, Path] = Field(default_factory=dict)
    dense: Path | None = None
    teacher: Path | None = None
    trained: Path | None = None
    artifact: Path | None = None
    equal: Path | None = None
    checkpoint: Path | None = None
    machine: str | None = None
    train_processes: int = 1
