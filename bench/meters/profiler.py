"""Where batches' time goes by module, operator and kernel: torch's profiler, and what CPU libraries tell."""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import PreTrainedModel

from bench.encoding import Batch
from bench.meters.rounds import time_block
from bench.meters.subject import Subject
from bench.nouns.profile import ModuleKind, Portion
from compressors.modules import eager_of, watched

PASSES = 2
MOST_PORTIONS = 15
KINDS: tuple[ModuleKind, ...] = get_args(ModuleKind)
BETWEEN = ": "
# Calls of CUDA's runtime and driver that give the device something to do.
LAUNCHES = re.compile(r"cu(da)?(Launch\w*|GraphLaunch|MemcpyAsync|MemsetAsync|Memcpy|Memset)")
OPERATOR = "::"
# Code that torch.compile made of several operators is run by what is named so, and a hash.
COMPILED, FUSED = re.compile("## Call CompiledFxGraph "), "fused operators (torch.compile)"
GRAPH = "no operator (a CUDA graph)"
# oneDNN: …onednn_verbose,v1,primitive,exec,cpu,matmul,brg:avx512_core,…,time in ms
ONEDNN = re.compile(r"onednn_verbose,(?:v1,)?(?:[\d.]+,)?primitive,exec,\w+,(\w+),([^,]*),.*,([\d.e+-]+)$")
MKL = re.compile(r"MKL_VERBOSE (\w+)\(.*\) ([\d.]+)(ns|us|ms|s) ")
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass
class Tally:
    """Seconds and calls that add up."""

    time_s: float = 0.0
    calls: int = 0

    def add(self, time_s: float, calls: int = 1) -> None:
        """Some more."""
        self.time_s += time_s
        self.calls += calls


@dataclass
class Profiled:
    """What the profiler saw: times in s, of all batches together; `calls` launched something on a GPU."""

    wall_s: float
    device_s: float | None = None
    calls: int = 0
    modules: dict[str, Tally] = field(default_factory=dict)
    operators: dict[str, Tally] = field(default_factory=dict)
    kernels: dict[str, Tally] = field(default_factory=dict)


def profiled(subject: Subject, batches: Sequence[Batch], counted: set[str], trace: Path) -> Profiled:
    """Profile the subject on these batches, and leave the trace: the fastest pass of `PASSES`.

    `counted` are operators whose work is known: what one of them calls belongs to it. There are no modules
    where an engine runs the model: hooks on these would have it compiled again.
    """
    activities = [ProfilerActivity.CPU]
    if subject.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    is_eager = eager_of(subject.model) is subject.model
    passes = []
    for _ in range(PASSES):
        with profile(activities=activities) as profiler, ranges(subject.model) if is_eager else nullcontext():
            wall_s, _ = time_block([partial(subject.run, batches)], subject.device)
        passes.append((wall_s, profiler))
    wall_s, profiler = min(passes, key=lambda one: one[0])
    export(profiler, trace)
    seen = Profiled(wall_s)
    if is_eager:
        seen.modules = {kind: Tally() for kind in KINDS}
    take_apart(profiler.events() or [], seen, counted, on_cuda=subject.device == "cuda")
    return seen


@contextmanager
def ranges(model: PreTrainedModel) -> Iterator[None]:
    """Meanwhile, a range in the trace for each module of a kind of its own: `attention: bert.….attention`."""
    running: list[Any] = []

    def enter(path: str, kind: ModuleKind) -> None:
        running.append(record_function(f"{kind}{BETWEEN}{path}"))
        running[-1].__enter__()

    def leave() -> None:
        running.pop().__exit__(None, None, None)

    with watched(model, enter, leave):
        yield


def kind_of_range(event: FunctionEvent) -> str | None:
    """The kind of module whose range an event is; None for an operator."""
    kind = event.name.partition(BETWEEN)[0]
    return kind if event.is_user_annotation and kind in KINDS else None


def take_apart(events: Iterable[FunctionEvent], seen: Profiled, counted: set[str], on_cuda: bool) -> None:
    """Put every operator's own time where it belongs: to its module's kind, and to an operator.

    On CUDA that is the time of the kernels that it launched, on a CPU its time without those it called.
    """
    busy: list[tuple[float, float]] = []
    for event in events:
        if event.device_type != DeviceType.CPU:
            if not event.is_user_annotation:
                busy.append((event.time_range.start, event.time_range.end))
                seen.kernels.setdefault(event.name, Tally()).add(event.time_range.elapsed_us() / 1e6)
        elif on_cuda and not event.kernels and OPERATOR not in event.name:
            seen.calls += bool(LAUNCHES.match(event.name))
        elif not event.is_async and not kind_of_range(event):
            book(event, seen, counted, on_cuda)
    if busy:
        seen.device_s = covered(busy) / 1e6
        launched_s = sum(tally.time_s for tally in seen.operators.values())
        unclaimed_s = sum(tally.time_s for tally in seen.kernels.values()) - launched_s
        if unclaimed_s > 0.01 * launched_s:
            seen.operators[GRAPH] = Tally(unclaimed_s)
    elif on_cuda:
        # That nothing was seen of the device is not to be told as no time and no calls.
        seen.modules, seen.operators, seen.calls = {}, {}, 0


def book(event: FunctionEvent, seen: Profiled, counted: set[str], on_cuda: bool) -> None:
    """Book one operator's own time; it is a call of its module's kind where no other operator called it."""
    if on_cuda:
        own_s = sum(kernel.duration for kernel in event.kernels) / 1e6
    else:
        own_s = max(event.self_cpu_time_total, 0.0) / 1e6
    within = [event, *ancestors(event)]
    owner = next((each for each in reversed(within) if each.name in counted), event)
    name = FUSED if COMPILED.match(owner.name) else owner.name
    seen.operators.setdefault(name, Tally()).add(own_s, int(owner is event))
    if seen.modules:
        is_outermost = [OPERATOR in each.name for each in within] == [True] + [False] * (len(within) - 1)
        kind = next(filter(None, map(kind_of_range, within)), "other")
        seen.modules[kind].add(own_s, int(is_outermost))


def ancestors(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """What an event was called by, the innermost first."""
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """How much of the line the intervals cover together."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total


def export(profiler: profile, trace: Path) -> None:
    """Write the trace, gzipped, without what torch adds of this machine: the file's own path among it."""
    with tempfile.TemporaryDirectory(dir=trace.parent) as folder:
        whole = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(whole))
        events = json.loads(whole.read_text(encoding="utf-8", errors="replace"))["traceEvents"]
    with gzip.open(trace, "wt", encoding="utf-8") as file:
        json.dump({"traceEvents": events}, file)


def portions(tallies: Mapping[str, Tally], batches: int) -> list[Portion]:
    """Times and calls a batch, the longest first."""
    made = [
        Portion(name=name, time=tally.time_s / batches, calls=tally.calls / batches)
        for name, tally in tallies.items()
    ]
    return sorted(made, key=lambda portion: -portion.time)


def longest(made: Sequence[Portion]) -> list[Portion]:
    """The longest portions, and all others as one more: known work among them is added up."""
    first, others = list(made[:MOST_PORTIONS]), made[MOST_PORTIONS:]
    if not others:
        return first

    def total(of: Callable[[Portion], float | None]) -> float | None:
        known = [value for value in map(of, others) if value is not None]
        return sum(known) if known else None

    rest = Portion(
        name=f"{len(others)} others",
        time=sum(each.time for each in others),
        calls=sum(each.calls for each in others),
        flops=total(lambda each: each.flops),
        bytes=total(lambda each: each.bytes),
        bound=total(lambda each: each.bound),
        flops_bound=total(lambda each: each.flops_bound),
        bytes_bound=total(lambda each: each.bytes_bound),
    )
    return [*first, rest]


def library_kernels(run: Callable[[], object]) -> dict[str, Tally]:
    """What oneDNN and MKL say that they computed while `run` ran, by primitive or routine and implementation.

    They print it, so that nothing else may print meanwhile, and printing takes time: the times are theirs. Of
    what several threads call at once the times are added up.
    """
    with ExitStack() as libraries:
        if torch.backends.mkldnn.is_available():
            libraries.enter_context(torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON))
        if torch.backends.mkl.is_available():
            libraries.enter_context(torch.backends.mkl.verbose(torch.backends.mkl.VERBOSE_ON))
        return kernels_in(printed(run))


def kernels_in(said: str) -> dict[str, Tally]:
    """The primitives of oneDNN and routines of MKL in what they print."""
    found: dict[str, Tally] = {}
    for line in said.splitlines():
        if match := ONEDNN.search(line):
            found.setdefault(f"{match[1]} {match[2]}".strip(), Tally()).add(float(match[3]) / 1e3)
        elif match := MKL.match(line):
            found.setdefault(match[1], Tally()).add(float(match[2]) * SECONDS[match[3]])
    return found


def printed(run: Callable[[], object]) -> str:
    """What goes to the process's standard output while `run` runs, from C as well."""
    c = ctypes.CDLL(None)
    sys.stdout.flush()
    c.fflush(None)
    standard, kept = 1, os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), standard)
        try:
            run()
        finally:
            sys.stdout.flush()
            c.fflush(None)
            os.dup2(kept, standard)
            os.close(kept)
        file.seek(0)
        return file.read().decode(errors="replace")
