"""Where one variant's time goes, in a process of its own."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.encoding import Batch
from bench.meters.ceilings import better, measure_ceilings
from bench.meters.feeds import Feed, headline
from bench.meters.findings import Findings
from bench.meters.profiler import Profiled, library_kernels, longest, portions, profiled
from bench.meters.rounds import time_block
from bench.meters.subject import Places, Subject, load_subject
from bench.meters.weights import unfriendly_widths, zero_share
from bench.meters.work import Work, count_work
from bench.nouns.measurement import measured
from bench.nouns.profile import Ceilings, Portion, Profile
from bench.nouns.run import DENSE
from bench.steps.common import prepare_process
from bench.steps.request import Request
from bench.tasks.stored import read_task
from bench.training import Progress
from bench.worker import TRACE
from compressors.artifact import ARTIFACT
from compressors.engines import Captured, Compiled
from compressors.modules import eager_of, runner_of

STAGES = 4
LEAST_BATCHES, MOST_BATCHES = 3, 20
# About a second of dense. By its work, not by the clock, so that all profiles of a run are of the same rows.
PROFILED_FLOPS = {"cpu": 1e11, "cuda": 1e13}
ROUNDS = 2
FEW_TOKENS, SMALLEST_RUNS = 4, 5
# Products of one row read their weights at about half the rate of the best copy, on a busy machine at less.
OVER_BOUND = 3.0
COUNTED = ("flops", "bytes", "bound", "flops_bound", "bytes_bound")
WHOLE = "{runner} runs the model as a whole, where torch sees no operators"
FUSED = "torch.compile fuses operators, and what is then read and written is not known"
NO_KERNELS = {
    "cpu": "neither oneDNN nor MKL, which can tell what they run, ran anything",
    "cuda": "torch's profiler saw no kernels: this machine does not let it use CUPTI",
}


def measure_profile(request: Request, folder: Path, progress: Progress) -> Findings:
    """Profile the artifact on batches of the headline scenario; a trace goes below `folder`."""
    prepare_process(request.device, request.seed)
    task = read_task(request.task)
    assert request.dense is not None
    assert request.artifact is not None
    findings = Findings()

    def load(name: str, folder: Path) -> Subject:
        return load_subject(name, folder / ARTIFACT, task.test, request.max_length, request.device)

    with findings.spending("profile"):
        progress("loading", 0, STAGES)
        variant = load(request.variant, request.artifact)
        dense = variant if request.variant == DENSE else load(DENSE, request.dense)
        feed = headline(variant, request.batch_size, dense)
        progress("counting", 1, STAGES)
        slices = chosen(dense, feed)
        dense_work = work_of(dense, taken(dense, feed, slices))
        work = dense_work if dense is variant else work_of(variant, taken(variant, feed, slices))
        del dense
        progress("profiling", 2, STAGES)
        profile = times_of(variant, feed, slices, work, dense_work, folder / TRACE)
        progress("weights", 3, STAGES)
        add_work(profile, variant, work, dense_work)
        add_weights(profile, variant)
    findings.profile = profile
    return findings.add(predicted(profile, request.variant))


def chosen(dense: Subject, feed: Feed) -> list[Places]:
    """Slices spread over the feed, of as many batches as are `PROFILED_FLOPS` of dense's, within limits.

    So all variants that make batches of rows alike are profiled on the same.
    """
    first = taken(dense, feed, feed.slices[:1])
    work = work_of(dense, first)
    flops = work.per_batch(lambda piece: piece.flops) if isinstance(work, Work) else math.inf
    batches = min(max(PROFILED_FLOPS[dense.device] / flops, LEAST_BATCHES), MOST_BATCHES)
    count = max(int(batches) // len(first), 1)
    return list(feed.slices[:: max(len(feed.slices) // count, 1)][:count])


def taken(subject: Subject, feed: Feed, slices: Sequence[Places]) -> list[Batch]:
    """The slices' batches, as the subject makes them, on the device."""
    return [subject.batch(rows, feed.width) for slice_ in slices for rows in feed.batches(subject, slice_)]


def work_of(subject: Subject, batches: Sequence[Batch]) -> Work | str:
    """The work of these batches, or why it cannot be counted."""
    model = eager_of(subject.model)
    if model is None:
        return WHOLE.format(runner=runner_of(subject.model))
    if isinstance(subject.model, Captured):
        batches = [subject.model.padded(batch) for batch in batches]
    work = count_work(model, batches)
    if work.unknown:
        return f"the FLOPs of {', '.join(sorted(work.unknown))} are not known"
    return work


def times_of(
    subject: Subject,
    feed: Feed,
    slices: Sequence[Places],
    work: Work | str,
    dense_work: Work | str,
    trace: Path,
) -> Profile:
    """Where the time of these slices goes, and the ceilings: the best of before, between and after.

    Of the work it is only known here which operators it consists of, and in which precisions.
    """
    batches = taken(subject, feed, slices)
    on_cpu, counted = subject.device == "cpu", [each for each in (work, dense_work) if isinstance(each, Work)]
    small = [smallest(subject)] if on_cpu and is_eager(subject) and isinstance(work, Work) else []
    small_work = count_work(subject.model, small) if small else None
    recompile_s, new_shape = recompiled(subject, feed, batches)
    dtypes = {dtype_of(subject), *(dtype for each in counted for dtype in each.dtypes)}
    operators = work.operators if isinstance(work, Work) else set()
    ceilings, seen, times_s, small_times_s = in_turns(subject, batches, small, dtypes, operators, trace)
    time_s = sum(times_s) / len(batches)
    device_s = None if seen.device_s is None else seen.device_s / len(batches)
    launch_s = None if device_s is None else max(time_s - device_s, 0.0)
    if small_work and (small_bound_s := small_work.bound(ceilings)) is not None:
        launch_s = launch_time_s(time_s, min(small_times_s), small_bound_s)
    return Profile(
        batch_size=min(feed.batch_size, len(slices[0])),
        tokens=sum(batch["input_ids"].numel() for batch in batches) / len(batches),
        batches=len(batches),
        dtype=work.dtypes[0] if isinstance(work, Work) else None,
        time=time_s,
        profiled_time=seen.wall_s / len(batches),
        device_time=device_s,
        calls=calls_of(subject, seen, work, len(batches)),
        launch_time=launch_s,
        ceilings=ceilings,
        modules=portions(seen.modules, len(batches)),
        operators=[] if eager_of(subject.model) is None else portions(seen.operators, len(batches)),
        kernels=longest(portions(seen.kernels, len(batches))),
        recompile_time=recompile_s,
        new_shape=new_shape,
        unavailable=unseen(subject, seen, work),
        trace=TRACE,
    )


def in_turns(
    subject: Subject,
    batches: Sequence[Batch],
    small: Sequence[Batch],
    dtypes: set[str],
    operators: set[str],
    trace: Path,
) -> tuple[Ceilings, Profiled, list[float], list[float]]:
    """The best ceilings, what the profiler saw, and medians of wall times in s: of `batches`, and of `small`.

    The times are of blocks that make up all batches. On a CPU each batch is one, so that a stall spoils no
    other's; a GPU is given all without waiting.
    """
    device = subject.device
    blocks = [batches] if device == "cuda" else [[batch] for batch in batches]
    timed = [*blocks, *([small] * SMALLEST_RUNS if small else [])]
    ceilings = measure_ceilings(device, dtypes)
    rounds = [block_times_s(subject, timed) for _ in range(ROUNDS)]
    ceilings = better(ceilings, measure_ceilings(device, dtypes))
    seen = profiled(subject, batches, operators, trace)
    if device == "cpu":
        seen.kernels = library_kernels(partial(subject.run, batches))
    rounds += [block_times_s(subject, timed) for _ in range(ROUNDS)]
    ceilings = better(ceilings, measure_ceilings(device, dtypes))
    medians_s = [statistics.median(times_s) for times_s in zip(*rounds, strict=True)]
    return ceilings, seen, medians_s[: len(blocks)], medians_s[len(blocks) :]


def is_eager(subject: Subject) -> bool:
    """Whether torch runs the model operator by operator, as the work is counted."""
    return eager_of(subject.model) is subject.model


def smallest(subject: Subject) -> Batch:
    """One row of the fewest tokens, `FEW_TOKENS` at most: all operators, and hardly anything to compute.

    The last token stays the last, since some families classify by it.
    """
    row = min(subject.rows, key=lambda row: len(row["input_ids"]))
    return subject.batch([{name: [*ids[:-1][: FEW_TOKENS - 1], ids[-1]] for name, ids in row.items()}])


def launch_time_s(time_s: float, smallest_s: float, smallest_bound_s: float) -> float:
    """What starting a batch's operators takes on a CPU: what the smallest batch takes beyond its own work.

    Estimated, in s, rather too low: its work is taken to last `OVER_BOUND` times what the ceilings allow.
    """
    return min(max(smallest_s - OVER_BOUND * smallest_bound_s, 0.0), time_s)


def calls_of(subject: Subject, seen: Profiled, work: Work | str, batches: int) -> float | None:
    """Kernels a batch on a GPU, operators that move anything on a CPU; None where they are not seen."""
    if subject.device == "cuda":
        return None if eager_of(subject.model) is None or seen.device_s is None else seen.calls / batches
    return work.calls if is_eager(subject) and isinstance(work, Work) else None


def dtype_of(subject: Subject) -> str:
    """The precision of the weights that are not quantised; the work's can be another."""
    return str(subject.model.dtype).removeprefix("torch.")


def unseen(subject: Subject, seen: Profiled, work: Work | str) -> dict[str, str]:
    """Why fields of a profile stay empty that were to be measured."""
    reasons, runner = {}, runner_of(subject.model)
    if not is_eager(subject):
        reasons["modules"] = f"{runner} runs the model, not its modules"
    if eager_of(subject.model) is None:
        reasons["operators"] = reasons["calls"] = WHOLE.format(runner=runner)
    if isinstance(work, str):
        reasons["dtype"] = work
    if subject.device == "cpu" and not is_eager(subject):
        reasons |= dict.fromkeys(("calls", "launch_time"), f"{runner} runs the model, not single operators")
    elif subject.device == "cpu" and isinstance(work, str):
        reasons |= dict.fromkeys(("calls", "launch_time"), work)
    if not seen.kernels:
        reasons["kernels"] = NO_KERNELS[subject.device]
    if subject.device == "cuda" and seen.device_s is None:
        blind = ("device_time", "launch_time", "calls", "modules", "operators")
        reasons |= dict.fromkeys(blind, NO_KERNELS["cuda"])
    if subject.compile_time_s is None:
        reasons["recompile_time"] = "nothing is compiled"
    return reasons


def block_times_s(subject: Subject, blocks: Sequence[Sequence[Batch]]) -> list[float]:
    """Wall times in s of blocks of batches, synchronised."""
    return [time_block([partial(subject.run, block)], subject.device)[0] for block in blocks]


def recompiled(subject: Subject, feed: Feed, batches: Sequence[Batch]) -> tuple[float | None, bool]:
    """How long is compiled for shapes that were all seen before, in s, and whether for another one, too.

    torch.compile, which is to take any shape, is given one that it has not seen, where there is one and it
    records no CUDA graphs, of which each shape has its own. None where nothing is compiled. Afterwards
    nothing is left to compile for these batches.
    """
    subject.run(batches)
    before_s = subject.compile_time_s
    if before_s is None:
        return None, False
    subject.run(batches)
    new: list[Batch] = []
    if isinstance(subject.model, Compiled) and not subject.model.records:
        shapes = {batch["input_ids"].shape for batch in batches}
        all_batches = (batch for slice_ in feed.slices for batch in taken(subject, feed, [slice_]))
        others = (batch for batch in all_batches if batch["input_ids"].shape not in shapes)
        new = list(itertools.islice(others, 1))
    subject.run(new)
    assert subject.compile_time_s is not None
    return subject.compile_time_s - before_s, bool(new)


def add_work(profile: Profile, subject: Subject, work: Work | str, dense_work: Work | str) -> None:
    """Set what was counted, and the least time that the ceilings allow for it, beside the times."""
    profile.dense_bound = dense_work.bound(profile.ceilings) if isinstance(dense_work, Work) else None
    if isinstance(work, Work):
        fill(profile, work, profile.ceilings)
        if is_eager(subject):  # an engine's operators are others than those that were counted
            fill_each(profile.modules, work.parts(lambda piece: piece.kind), profile.ceilings)
            fill_each(profile.operators, work.parts(lambda piece: piece.operator), profile.ceilings)
        if profile.bound is None:
            missing = ", ".join(sorted({*work.dtypes} - profile.ceilings.matmul.keys()))
            reason = f"no product in {missing} could be timed on this device"
            profile.unavailable |= dict.fromkeys(("bound", "flops_bound"), reason)
            if profile.launch_time is None:
                profile.unavailable.setdefault("launch_time", reason)
        if isinstance(subject.model, Compiled):
            profile.bytes = profile.bytes_bound = profile.bound = None
            profile.unavailable |= dict.fromkeys(("bytes", "bytes_bound", "bound"), FUSED)
    else:
        profile.unavailable |= dict.fromkeys(COUNTED, work)
    profile.operators = longest(profile.operators)


def fill_each(places: Sequence[Portion], parts: Mapping[str, Work], ceilings: Ceilings) -> None:
    """Each part's figures, put into the portion of its name."""
    for portion in places:
        if portion.name in parts:
            fill(portion, parts[portion.name], ceilings)


def fill(place: Profile | Portion, work: Work, ceilings: Ceilings) -> None:
    """The work's figures, put where they belong."""
    place.flops = work.per_batch(lambda piece: piece.flops)
    place.bytes = work.per_batch(lambda piece: piece.bytes)
    place.bound = work.bound(ceilings)
    place.flops_bound = work.flops_bound(ceilings)
    place.bytes_bound = work.bytes_bound(ceilings)


def add_weights(profile: Profile, subject: Subject) -> None:
    """Set what the weights say: zeros, and widths that kernels do not take well."""
    if profile.dtype is None:
        profile.unavailable["widths"] = profile.unavailable["dtype"]
    else:
        tokens = round(profile.tokens)
        profile.widths, refused = unfriendly_widths(subject.folder, tokens, profile.dtype, subject.device)
        if refused:
            widths = ", ".join(map(str, refused))
            profile.unavailable["widths"] = f"torch has no product in {profile.dtype} of width {widths}"
    profile.zero_share = zero_share(subject.folder)
    if profile.zero_share is None:
        profile.unavailable["zero_share"] = "the encoder's weights are not saved as plain matrices"


def predicted(profile: Profile, variant: str) -> Findings:
    """The speed-up that the ceilings allow: the least time of dense's work over that of the variant's."""
    findings, name = Findings(), "predicted_speedup"
    if variant == DENSE:
        findings.unavailable[name] = "this is dense"
    elif profile.dense_bound and profile.bound:
        source = "FLOPs and bytes, at the ceilings of this device"
        findings.metrics[name] = measured(name, profile.dense_bound / profile.bound, source, estimated=True)
    else:
        findings.unavailable[name] = profile.unavailable.get("bound", "dense's work cannot be counted")
    return findings
