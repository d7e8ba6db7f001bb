"""Time: paired rounds of the anchors and the variant on the same rows, and requests one by one."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from bench.encoding import Batch
from bench.meters.findings import Findings
from bench.meters.subject import Subject, synchronise
from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import Scenario
from bench.protocol import Protocol
from bench.statistics import median_interval, quantile_interval, ratio

STEADY = 0.02
REQUESTS_NEEDED = {0.50: 11, 0.95: 130}
SOURCE = "perf_counter"


@dataclass
class Rounds:
    """Wall time of each contender's block per round, in seconds, and the rows and tokens it held."""

    times_s: dict[str, list[float]]
    device_times_s: dict[str, list[float]]
    rows: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    padded: list[int] = field(default_factory=list)
    converged: bool = False
    stopped: str = ""


def measure_speed(
    anchors: Sequence[Subject], variant: Subject, batch_size: int, protocol: Protocol, seed: int
) -> Findings:
    """Throughput, latencies and speed-ups. `anchors` are dense, and dense in the variant's precision.

    Without anchors the variant is dense itself, whose speed-ups are 1 by definition.
    """
    findings = Findings()
    for size in sorted({1, batch_size}, reverse=True):
        contenders = [*anchors, variant]
        feeds = {subject.name: full_batches(subject, size) for subject in contenders}
        for subject in contenders:
            warm_up(subject, feeds[subject.name], protocol)
        rounds = paired_rounds(contenders, feeds, protocol, seed)
        findings.scenarios[f"batch {size}"] = scenario(rounds, anchors, variant, size)
        latencies = time_requests(variant, feeds[variant.name], protocol)
        add_percentiles(findings, latencies, "latency_b1" if size == 1 else "latency", protocol)
        if size == batch_size == 1:
            add_percentiles(findings, latencies, "latency", protocol)
    headline = findings.scenarios[f"batch {batch_size}"].metrics
    for name in ("throughput", "speedup", "speedup_same_precision"):
        findings.metrics[name] = headline[name]
    return findings


def full_batches(subject: Subject, size: int) -> list[Batch]:
    """The test rows in batches of `size`, without a last partial one unless it is the only one."""
    whole = len(subject.rows) // size * size
    return subject.batches(size, subject.rows[:whole] if whole else None)


def warm_up(subject: Subject, feed: Sequence[Batch], protocol: Protocol) -> None:
    """Run until the times of the last ten batches are steady: their halves' medians differ by under 2 %."""
    times_s: list[float] = []
    started = time.perf_counter()
    for batch in itertools.cycle(feed):
        times_s.append(time_block(subject, [batch])[0])
        spent = time.perf_counter() - started
        earlier, later = statistics.median(times_s[-10:-5] or [0.0]), statistics.median(times_s[-5:])
        steady = abs(later - earlier) < STEADY * later
        enough = len(times_s) >= protocol.warm_up_iterations and spent >= protocol.warm_up_min_s
        if (enough and steady) or spent >= protocol.warm_up_cap_s:
            return


def time_block(subject: Subject, block: Sequence[Batch]) -> tuple[float, float | None]:
    """(wall time, device time by CUDA events or None) of running the batches, synchronised at both ends."""
    on_cuda = subject.device == "cuda"
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if on_cuda else []
    synchronise(subject.device)
    started = time.perf_counter()
    if on_cuda:
        events[0].record()
    for batch in block:
        subject(batch)
    if on_cuda:
        events[1].record()
    synchronise(subject.device)
    wall_s = time.perf_counter() - started
    return wall_s, events[0].elapsed_time(events[1]) / 1000 if on_cuda else None


def paired_rounds(
    contenders: Sequence[Subject], feeds: dict[str, list[Batch]], protocol: Protocol, seed: int
) -> Rounds:
    """Rounds in which every contender runs the same slice of rows, in an order drawn anew each time.

    Stops by the width of the intervals, never by what they say; see `Protocol`.
    """
    rng = random.Random(seed)  # noqa: S311
    variant = contenders[-1]
    length = block_length(contenders, feeds, protocol)
    rounds = Rounds({s.name: [] for s in contenders}, {s.name: [] for s in contenders})
    started = time.perf_counter()
    while not rounds.stopped:
        first = rng.randrange(len(feeds[variant.name]))
        for subject in rng.sample(contenders, len(contenders)):
            wall_s, device_s = time_block(subject, slice_of(feeds[subject.name], first, length))
            rounds.times_s[subject.name].append(wall_s)
            if device_s is not None:
                rounds.device_times_s[subject.name].append(device_s)
        block = slice_of(feeds[variant.name], first, length)
        rounds.rows.append(sum(len(batch["input_ids"]) for batch in block))
        rounds.tokens.append(sum(int(batch["attention_mask"].sum()) for batch in block))
        rounds.padded.append(sum(batch["input_ids"].numel() for batch in block))
        look(rounds, contenders, protocol, time.perf_counter() - started)
    return rounds


def slice_of(feed: Sequence[Batch], first: int, length: int) -> list[Batch]:
    """`length` batches from the `first` on; past the last the feed begins again."""
    return [feed[(first + i) % len(feed)] for i in range(length)]


def block_length(contenders: Sequence[Subject], feeds: dict[str, list[Batch]], protocol: Protocol) -> int:
    """How many batches the fastest contender needs to fill a block."""
    fastest = min(
        statistics.median(time_block(subject, [batch])[0] for batch in feeds[subject.name][:5])
        for subject in contenders
    )
    return int(protocol.block_s(contenders[0].device) / fastest) + 1


def look(rounds: Rounds, contenders: Sequence[Subject], protocol: Protocol, spent_s: float) -> None:
    """Decide, at every `look_every`-th round and at the limits, whether to stop, and why."""
    count = len(rounds.rows)
    enough = count >= protocol.min_rounds
    at_limit = count >= protocol.max_rounds or (enough and spent_s >= protocol.max_time_s)
    due = enough and count % protocol.look_every == 0 and spent_s >= protocol.min_time_s
    if not at_limit and not due:
        return
    target = protocol.half_width(contenders[0].device)
    widest = max(relative_half_widths(rounds, contenders))
    if widest <= target:
        rounds.converged = True
        rounds.stopped = f"interval within ±{target:.1%} after {count} rounds"
    elif at_limit:
        rounds.stopped = f"gave up after {count} rounds and {spent_s:.0f} s, interval within ±{widest:.1%}"


def relative_half_widths(rounds: Rounds, contenders: Sequence[Subject]) -> list[float]:
    """Half-widths of the speed-ups' intervals, or of the time's where there is nothing to compare with."""
    *anchors, variant = contenders
    own = rounds.times_s[variant.name]
    widths = []
    for anchor in anchors:
        value, (low, high), _ = ratio(rounds.times_s[anchor.name], own)
        widths.append((high - low) / 2 / value)
    if not anchors:
        low, high = median_interval(own)
        widths.append((high - low) / 2 / statistics.median(own))
    return widths


def scenario(rounds: Rounds, anchors: Sequence[Subject], variant: Subject, size: int) -> Scenario:
    """The scenario's metrics, from its rounds."""
    own = rounds.times_s[variant.name]
    per_second = [rows / wall_s for rows, wall_s in zip(rounds.rows, own, strict=True)]
    tokens = [count / wall_s for count, wall_s in zip(rounds.tokens, own, strict=True)]
    metrics = {
        "throughput": measured(
            "throughput",
            statistics.median(per_second),
            SOURCE,
            median_interval(per_second),
            tuple(per_second),
        ),
        "tokens_per_second": plain(statistics.median(tokens), "tokens/s", "higher", SOURCE),
        "padding_share": plain(1 - sum(rounds.tokens) / sum(rounds.padded), "1", "lower", "count"),
    }
    names = ("speedup", "speedup_same_precision")
    if not anchors:
        metrics |= {name: measured(name, 1.0, "definition: this is dense") for name in names}
    for name, anchor in zip(names, (anchors[0], anchors[-1]) if anchors else (), strict=False):
        value, interval, samples = ratio(rounds.times_s[anchor.name], own)
        metrics[name] = measured(name, value, f"{SOURCE}, paired with {anchor.name}", interval, samples)
    if rounds.device_times_s[variant.name]:
        gaps = [1 - d / w for d, w in zip(rounds.device_times_s[variant.name], own, strict=True)]
        metrics["launch_overhead"] = plain(max(0.0, statistics.median(gaps)), "1", "lower", "CUDA events")
    return Scenario(
        batch_size=size,
        padding="longest of the batch, arrival order",
        rounds=len(own),
        converged=rounds.converged,
        stopped=rounds.stopped,
        metrics=metrics,
    )


def plain(value: float, unit: str, better: str, source: str) -> Measurement:
    """A quantity of one scenario that is not in the catalogue."""
    return Measurement.model_validate({"value": value, "unit": unit, "better": better, "source": source})


def time_requests(subject: Subject, feed: Sequence[Batch], protocol: Protocol) -> list[float]:
    """Seconds of single batches, one request at a time, as many as the protocol wants and affords."""
    times_s: list[float] = []
    started = time.perf_counter()
    for batch in itertools.islice(itertools.cycle(feed), protocol.requests):
        times_s.append(time_block(subject, [batch])[0])
        if time.perf_counter() - started > protocol.requests_cap_s:
            break
    return times_s


def add_percentiles(findings: Findings, times_s: Sequence[float], prefix: str, protocol: Protocol) -> None:
    """The percentiles that enough requests were timed for; the others are absent, with the reason."""
    for quantile, needed in REQUESTS_NEEDED.items():
        name = f"{prefix}_p{quantile * 100:.0f}"
        if len(times_s) < needed:
            findings.unavailable[name] = (
                f"needs {needed} requests, {len(times_s)} fitted into {protocol.requests_cap_s:.0f} s"
            )
            continue
        value = quantile_of(times_s, quantile)
        interval = quantile_interval(times_s, quantile)
        findings.metrics[name] = measured(name, value, f"{SOURCE}, per request", interval, tuple(times_s))


def quantile_of(values: Sequence[float], quantile: float) -> float:
    """A sample quantile, linearly interpolated."""
    ordered = sorted(values)
    place = quantile * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
