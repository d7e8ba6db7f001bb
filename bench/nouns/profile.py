"""Where a batch's time goes, what the device could do at best, and what keeps a variant from being faster."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bench.nouns.document import Count, Document

ModuleKind = Literal["embeddings", "attention", "feed-forward", "norms", "head", "other"]
DiagnosisCode = Literal[
    "throttled",
    "emulated-precision",
    "fallback-kernels",
    "recompiles",
    "masks",
    "launch-bound",
    "starved-gpu",
    "padding",
    "unfriendly-widths",
    "memory-bound",
]


def inside(path: str) -> str:
    """The path. Raises `ValueError` where it leads out of the folder that it is relative to."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{path} lies outside of the run's folder")
    return path


class Copy(Document):
    """How fast so many bytes are copied: `rate` in B/s, what is read and what is written counted both."""

    size: Count
    rate: float = Field(gt=0)


class Ceilings(Document):
    """What this device does at best, measured beside the profile.

    `matmul` is by dtype (`float32`), in FLOP/s, of one large square product; `copies` by size, the smallest
    first, since caches are faster than memory; `call` the s that a bare operator takes that has nothing to
    do: in a model each takes longer, for the Python around it.
    """

    matmul: dict[str, float]
    copies: list[Copy] = Field(min_length=1)
    call: float = Field(ge=0)


class Portion(Document):
    """A part of a batch, figures a batch: `time` in s, `calls`, and the `flops` and `bytes` that it takes.

    These are None where they cannot be counted. `bound` is the s that the ceilings allow for them at best,
    the longer of both for each operator; `flops_bound` and `bytes_bound` are for all FLOPs alone, and for all
    bytes alone. Among `calls` of operators are those that only look at a tensor.
    """

    name: str
    time: float = Field(ge=0)
    calls: float = Field(ge=0)
    flops: float | None = None
    bytes: float | None = None
    bound: float | None = None
    flops_bound: float | None = None
    bytes_bound: float | None = None


class Width(Document):
    """A width of a layer that is no multiple of what the device's kernels take at a time.

    `cost` is the time a column of a product of this width takes, over that at `friendly`, the next multiple;
    `share` how many of the layers of its kind have it.
    """

    what: str
    width: Count
    friendly: Count
    cost: float
    share: float = 1.0


class Profile(Document):
    """Where the time of one batch of the headline scenario goes. Times in s, a batch.

    `tokens` are a batch's, padding included; `dtype` is what most of its FLOPs are done in. `time` is without
    the profiler, `profiled_time` with it; shares are of the sum of the portions' times.
    `modules` are named by `ModuleKind`, `operators` by torch's name, `kernels` as the device's library calls
    them. `device_time` is what a GPU was busy, None on a CPU. `calls` are operators that move anything, or
    kernels on a GPU, a batch. `launch_time` is what starting them takes beyond what they do: on a GPU the
    time in which it is idle, on a CPU an estimate. `bound` is the time that the ceilings allow at best,
    `dense_bound` the same of dense on these rows; `flops_bound` and `bytes_bound` are as a portion's.
    `zero_share` is the share of exact zeros among the matrices' weights. `recompile_time` is what compiling
    took once the shapes at hand had been seen, with `new_shape` for one more that had not.
    `unavailable` says by field why it is empty. `trace` is a file of Chrome's trace format, relative to the
    run folder.
    """

    batch_size: Count
    tokens: float
    batches: Count
    dtype: str | None = None
    time: float = Field(gt=0)
    profiled_time: float = Field(gt=0)
    device_time: float | None = None
    calls: float | None = None
    launch_time: float | None = None
    flops: float | None = None
    bytes: float | None = None
    bound: float | None = None
    flops_bound: float | None = None
    bytes_bound: float | None = None
    dense_bound: float | None = None
    ceilings: Ceilings
    modules: list[Portion] = Field(default_factory=list)
    operators: list[Portion] = Field(default_factory=list)
    kernels: list[Portion] = Field(default_factory=list)
    widths: list[Width] = Field(default_factory=list)
    zero_share: float | None = None
    recompile_time: float | None = None
    new_shape: bool = False
    unavailable: dict[str, str] = Field(default_factory=dict)
    trace: Annotated[str, AfterValidator(inside)] | None = None


class Diagnosis(Document):
    """One thing that keeps a variant from being faster: `figure`, in `unit`, is what shows it."""

    code: DiagnosisCode
    text: str
    figure: float
    unit: str
    remedy: str
