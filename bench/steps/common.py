"""What several steps do alike."""

from __future__ import annotations

import functools
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from bench.encoding import Batch, collate, encode
from bench.errors import InputError
from bench.meters.findings import Findings
from bench.nouns.task import Example, Task
from bench.steps.request import Request
from bench.tasks.split import limit
from bench.tasks.stored import read_task
from bench.training import Progress
from compressors.variant import parse_variant

MakingStep = Callable[[Request, Path, Progress], Findings]

# What torch warns of where it is asked for deterministic algorithms, and has none or takes another.
NOT_DETERMINISTIC = re.compile(
    r"(.+?) (?:does not have a deterministic implementation|defaults to a non-deterministic algorithm)"
    r"|.*is not deterministic because it uses (CuBLAS)",
    re.DOTALL,
)
# cuBLAS repeats itself with this workspace alone (its documentation, "Results reproducibility").
CUBLAS_WORKSPACE = ":4096:8"


def prepare_process(device: str, seed: int) -> None:
    """Seed everything, and pin float32 arithmetic to float32 (no TF32) for training and timing alike.

    Raises `InputError` for CUDA that torch cannot use.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch cannot use this machine's GPU; use --device cpu")
    set_seed(seed)
    torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]


def repeatable(step: MakingStep) -> MakingStep:
    """A step whose outcome follows from the seed, on CUDA as far as torch can; what cannot is noted.

    For what makes models, not for what is timed: algorithms that repeat themselves may be slower.
    """

    @functools.wraps(step)
    def run(request: Request, folder: Path, progress: Progress) -> Findings:
        with deterministic(request.device) as operations:
            findings = step(request, folder, progress)
        if operations:
            findings.notes.append(
                f"not deterministic on this GPU: {', '.join(sorted(operations))}; "
                "the same seed may give slightly other weights"
            )
        return findings

    return run


@contextmanager
def deterministic(device: str) -> Iterator[set[str]]:
    """Have torch repeat itself meanwhile; the names of operations that cannot come in as they are met.

    A CPU's operations repeat themselves unasked. CUDA must not have started yet, since cuBLAS reads the
    environment then.
    """
    operations: set[str] = set()
    were = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, *where: Any, **more: Any) -> None:
            if found := NOT_DETERMINISTIC.match(str(message)):
                operations.add(found[1] or found[2])
            else:
                show(message, *where, **more)

        warnings.showwarning = note
        warnings.filterwarnings("default", NOT_DETERMINISTIC.pattern, UserWarning)
        if device == "cuda":
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace or CUBLAS_WORKSPACE
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.backends.cudnn.deterministic = True
        try:
            yield operations
        finally:
            if device == "cuda":
                torch.use_deterministic_algorithms(were[0])
                torch.backends.cudnn.deterministic = were[1]
                if workspace is None:
                    del os.environ["CUBLAS_WORKSPACE_CONFIG"]


def trains(request: Request) -> bool:
    """Whether the step that is asked for trains a model: not where it is made of what is trained already."""
    if request.kind == "dense":
        return read_task(request.task).fine_tune
    return request.kind == "compress" and not request.trained and parse_variant(request.variant).trains


def label_numbers(model: PreTrainedModel, labels: Sequence[str], rows: Sequence[Example]) -> list[int]:
    """Each row's label as the model numbers its classes, which need not be the task's order."""
    order = [int(model.config.label2id[label]) for label in labels]
    return [order[row.label] for row in rows]


@dataclass(frozen=True)
class Batches:
    """A compressor's `Context.batches`: the task's training rows."""

    task: Task
    request: Request

    def __call__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int | None = None
    ) -> Iterator[Batch]:
        request, rows = self.request, self.task.train
        if count is not None:
            rows = limit(rows, max(count, len(self.task.labels)), request.seed)
        encoded = encode(tokenizer, rows, request.max_length)
        numbers = label_numbers(model, self.task.labels, rows)
        for start in range(0, len(rows), request.batch_size):
            end = start + request.batch_size
            batch = collate(encoded[start:end], tokenizer.pad_token_id)
            batch["labels"] = torch.tensor(numbers[start:end])
            yield {key: tensor.to(request.device) for key, tensor in batch.items()}
