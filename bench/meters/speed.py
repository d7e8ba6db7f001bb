"""Time: every scenario in paired rounds, single requests for the percentiles, loading and tokenising."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

import compressors
from bench.encoding import encode
from bench.errors import is_out_of_memory
from bench.meters.feeds import Feed, arrival
from bench.meters.findings import Findings
from bench.meters.machine import MOST_DISCARDED, cautions
from bench.meters.rounds import (
    LEAST_ROUNDS,
    Call,
    Contender,
    Ending,
    kept,
    paired_rounds,
    synchronise,
    time_block,
    times_of,
    warm_up,
)
from bench.meters.subject import Subject
from bench.nouns.measurement import SPEEDUPS, Measurement, measured
from bench.nouns.run import Rounds, Scenario, WarmUp
from bench.protocol import Protocol
from bench.statistics import quantile_interval, rate, ratio

REQUESTS_NEEDED = {"p50": 11, "p90": 64, "p95": 130, "p99": 662, "p99.9": 6_636}
HEADLINE = ("throughput", *SPEEDUPS)
SOURCE = "perf_counter"
SOURCE_OF_REQUESTS = f"{SOURCE}, per request; samples with the median"


def measure_speed(
    anchors: Mapping[str, Subject], variant: Subject, feeds: Sequence[Feed], protocol: Protocol, seed: int
) -> Findings:
    """Throughput and speed-ups by feed; the first feed's are the headline.

    `anchors` says by the speed-up's name what it is over.
    """
    findings = Findings()
    for feed in feeds:
        with threads(feed.threads):
            findings.add(measure_if_it_fits(anchors, variant, feed, protocol, seed))
    first = findings.scenarios[feeds[0].name]
    for name in HEADLINE:
        if name in first.metrics:
            findings.metrics[name] = first.metrics[name]
        elif name in (*anchors, "throughput"):
            findings.unavailable[name] = first.stopped
        else:
            findings.unavailable[name] = f"{variant.name} is dense in this precision, run this way"
    return findings


def measure_if_it_fits(
    anchors: Mapping[str, Subject], variant: Subject, feed: Feed, protocol: Protocol, seed: int
) -> Findings:
    """A scenario; of a shape that memory does not suffice for that alone, since no batch size mends it."""
    try:
        return measure_feed(anchors, variant, feed, protocol, seed)
    except (RuntimeError, MemoryError) as error:
        if not (feed.filled and is_out_of_memory(error)):
            raise
    reason = f"{feed.name} does not fit into memory; ask for a smaller one by --shapes"
    size, padding = feed.batch_size, feed.padding
    lost = Scenario(batch_size=size, padding=padding, converged=False, stopped=reason, metrics={})
    return Findings(scenarios={feed.name: lost})


def measure_feed(
    anchors: Mapping[str, Subject], variant: Subject, feed: Feed, protocol: Protocol, seed: int
) -> Findings:
    """One scenario: warm-up, then paired rounds of the variant and its anchors, each of these once."""
    findings = Findings()
    subjects = {subject.name: subject for subject in (*anchors.values(), variant)}
    slices, device = feed.contents(variant), variant.device

    def compile_time_s(subject: Subject) -> float:
        return subject.compile_time_s or 0.0

    contenders = [
        Contender(name, feed.calls(subject), partial(compile_time_s, subject))
        for name, subject in subjects.items()
    ]
    with findings.spending("warm-up"):
        warm_ups = {each.name: warm_up(each, slices, device, protocol) for each in contenders}
    before_s = {name: compile_time_s(subject) for name, subject in subjects.items()}
    with findings.spending("timing"):
        rounds, ending = paired_rounds(contenders, slices, device, protocol, seed)
    for name, subject in subjects.items():
        if (compiling_s := compile_time_s(subject) - before_s[name]) > 0:
            compiling = "compiling" if subject is variant else f"{name}'s compiling"
            findings.notes.append(
                f"{feed.name}: {compiling_s:.1f} s of {compiling} fell into the timed rounds, "
                "so it is less sure"
            )
    names = {speedup: anchor.name for speedup, anchor in anchors.items()}
    findings.scenarios[feed.name] = scenario(feed, rounds, ending, warm_ups, names)
    findings.cautions = cautions(rounds.machine, rounds.discarded)
    return findings


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many CPU threads for torch meanwhile; as before where None."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def scenario(
    feed: Feed, rounds: Rounds, ending: Ending, warm_ups: dict[str, WarmUp], anchors: Mapping[str, str]
) -> Scenario:
    """The scenario's metrics, from the rounds that count; none where hardly a round does."""
    counted = len(rounds.order) - len(rounds.discarded)
    return Scenario(
        batch_size=min(feed.batch_size, len(feed.slices[0])),
        padding=feed.padding,
        threads=feed.threads,
        rounds=counted,
        converged=ending.converged,
        throttled=len(rounds.discarded) > MOST_DISCARDED * len(rounds.order),
        stopped=ending.reason,
        metrics=scenario_metrics(rounds, anchors) if counted >= LEAST_ROUNDS else {},
        warm_up=warm_ups,
        raw=rounds,
    )


def scenario_metrics(rounds: Rounds, anchors: Mapping[str, str]) -> dict[str, Measurement]:
    """Rates of the last contender, padding, and its speed-ups over the contenders that `anchors` names."""
    *_, name = rounds.times
    own = times_of(rounds, name)
    rows, tokens = kept(rounds, rounds.rows), kept(rounds, rounds.tokens)
    padded_tokens = kept(rounds, rounds.padded_tokens)
    throughput, interval = rate(rows, own)
    per_round = tuple(count / wall_s for count, wall_s in zip(rows, own, strict=True))
    metrics = {
        "throughput": measured("throughput", throughput, SOURCE, interval, per_round),
        "tokens_per_second": plain(rate(tokens, own)[0], "tokens/s", "higher"),
        "padding_share": plain(1 - sum(tokens) / sum(padded_tokens), "1", "lower", "count"),
    }
    for speedup, anchor in anchors.items():
        value, interval, samples = ratio(times_of(rounds, anchor), own)
        metrics[speedup] = measured(speedup, value, f"{SOURCE}, paired with {anchor}", interval, samples)
    if name in rounds.device_times:
        gaps = [1 - d / w for d, w in zip(kept(rounds, rounds.device_times[name].values), own, strict=True)]
        metrics["launch_overhead"] = plain(max(0.0, statistics.median(gaps)), "1", "lower", "CUDA events")
    return metrics


def plain(
    value: float,
    unit: str,
    better: str,
    source: str = SOURCE,
    interval: tuple[float, float] | None = None,
) -> Measurement:
    """A quantity of one scenario that is not in the catalogue."""
    low, high = interval or (None, None)
    return Measurement.model_validate(
        {"value": value, "unit": unit, "better": better, "source": source, "ci_low": low, "ci_high": high}
    )


def measure_latency(variant: Subject, batch_size: int, protocol: Protocol) -> Findings:
    """Percentiles of single requests, of one row and of a batch, in a pass of their own."""
    findings = Findings()
    for prefix, size in (("latency_b1", 1), ("latency", batch_size)):
        calls = arrival(variant, size).calls(variant)
        with findings.spending("requests"):
            times_s = time_requests(calls, variant.device, protocol)
        add_percentiles(findings, times_s, prefix, protocol)
    return findings


def time_requests(calls: Sequence[Call], device: str, protocol: Protocol) -> list[float]:
    """Seconds of single calls, one request at a time, as many as the protocol wants and affords."""
    times_s: list[float] = []
    started = time.perf_counter()
    for call in itertools.islice(itertools.cycle(calls), protocol.requests):
        times_s.append(time_block([call], device)[0])
        if time.perf_counter() - started > protocol.requests_cap_s:
            break
    return times_s


def add_percentiles(findings: Findings, times_s: Sequence[float], prefix: str, protocol: Protocol) -> None:
    """The percentiles that enough requests were timed for; the others are absent, with the reason.

    The requests' times are kept once, with the median.
    """
    for word, needed in REQUESTS_NEEDED.items():
        name, quantile = f"{prefix}_{word}", float(word.removeprefix("p")) / 100
        if len(times_s) >= needed:
            value, interval = float(np.quantile(times_s, quantile)), quantile_interval(times_s, quantile)
            samples = tuple(times_s) if word == "p50" else ()
            findings.metrics[name] = measured(name, value, SOURCE_OF_REQUESTS, interval, samples)
        elif needed > protocol.requests:
            findings.unavailable[name] = f"needs {needed:,} requests, this budget times {protocol.requests:,}"
        else:
            limit = f"{len(times_s)} fitted into {protocol.requests_cap_s:.0f} s"
            findings.unavailable[name] = f"needs {needed} requests, {limit}"


def measure_loading(variant: Subject, batch_size: int, protocol: Protocol) -> Findings:
    """The first batch of this process, whatever it sets up or compiles, then loading again and again.

    To be called before any model has run in the process. Weights are in the page cache.
    """
    findings, loads_s = Findings(), []
    with findings.spending("loading"):
        batch = variant.batch(variant.rows[:batch_size])
        first_s, _ = time_block([partial(variant, batch)], variant.device)
        compile_time_s = variant.compile_time_s
        for _ in range(protocol.loads):
            started = time.perf_counter()
            compressors.load(variant.folder, variant.device)
            synchronise(variant.device)
            loads_s.append(time.perf_counter() - started)
    median_s = statistics.median(loads_s)
    findings.metrics["first_call_time"] = measured("first_call_time", first_s, f"{SOURCE}, once")
    findings.metrics["load_time"] = measured("load_time", median_s, SOURCE, samples=tuple(loads_s))
    if compile_time_s is None:
        findings.unavailable["compile_time"] = "nothing is compiled"
    else:
        findings.metrics["compile_time"] = measured("compile_time", compile_time_s, f"{SOURCE}, once")
    return findings


def measure_tokenising(variant: Subject, batch_size: int, protocol: Protocol, seed: int) -> Findings:
    """Texts tokenised a second, a batch at a time; in no other scenario but end to end."""
    findings = Findings()
    feed = arrival(variant, batch_size)
    texts = [[variant.examples[place] for place in slice_] for slice_ in feed.slices]
    calls = [partial(encode, variant.tokenizer, batch, variant.max_length) for batch in texts]
    contender, slices = Contender("tokenising", calls), feed.contents(variant)
    with findings.spending("warm-up"):
        warmed = warm_up(contender, slices, "cpu", protocol)
    with findings.spending("tokenising"):
        rounds, ending = paired_rounds([contender], slices, "cpu", protocol, seed)
    value, interval = rate(rounds.rows, times_of(rounds, "tokenising"))
    findings.scenarios["tokenising"] = Scenario(
        batch_size=len(feed.slices[0]),
        padding="none",
        rounds=len(rounds.order),
        converged=ending.converged,
        stopped=ending.reason,
        metrics={"tokenising_rate": plain(value, "samples/s", "higher", interval=interval)},
        warm_up={"tokenising": warmed},
        raw=rounds,
    )
    return findings
