"""Time: every scenario in paired rounds, single requests for the percentiles, loading and tokenising."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

import compressors
from bench.encoding import encode
from bench.meters.feeds import Feed, headline
from bench.meters.findings import Findings
from bench.meters.machine import cautions
from bench.meters.rounds import (
    Call,
    Contender,
    Ending,
    Slice,
    kept,
    paired_rounds,
    synchronise,
    time_block,
    times_of,
    warm_up,
)
from bench.meters.subject import Subject
from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import Rounds, Scenario, WarmUp
from bench.protocol import Protocol
from bench.statistics import median_interval, quantile_interval, ratio

REQUESTS_NEEDED = {"p50": 11, "p90": 64, "p95": 130, "p99": 662, "p99.9": 6_636}
SPEEDUPS = ("speedup", "speedup_same_precision")
HEADLINE = ("throughput", *SPEEDUPS)
SOURCE = "perf_counter"


def measure_speed(
    anchors: Sequence[Subject], variant: Subject, feeds: Sequence[Feed], protocol: Protocol, seed: int
) -> Findings:
    """Throughput and speed-ups by feed; the first feed's are the headline.

    `anchors` are dense, and dense in the variant's precision where that is another one.
    """
    findings = Findings()
    for feed in feeds:
        with threads(feed.threads):
            findings.add(measure_feed([*anchors, variant], feed, protocol, seed))
    for name in HEADLINE:
        findings.metrics[name] = findings.scenarios[feeds[0].name].metrics[name]
    return findings


def measure_feed(subjects: Sequence[Subject], feed: Feed, protocol: Protocol, seed: int) -> Findings:
    """One scenario: warm-up, then paired rounds."""
    findings = Findings()
    *anchors, variant = subjects
    slices, device = feed.contents(variant), variant.device
    contenders = [Contender(subject.name, feed.calls(subject)) for subject in subjects]
    with findings.spending("warm-up"):
        warm_ups = {each.name: warm_up(each, slices, device, protocol) for each in contenders}
    with findings.spending("timing"):
        rounds, ending = paired_rounds(contenders, slices, device, protocol, seed)
    findings.scenarios[feed.name] = scenario(feed, rounds, ending, warm_ups, [a.name for a in anchors])
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
    feed: Feed, rounds: Rounds, ending: Ending, warm_ups: dict[str, WarmUp], anchors: Sequence[str]
) -> Scenario:
    """The scenario's metrics, from the rounds that count."""
    *_, name = rounds.times
    own = times_of(rounds, name)
    rows, tokens = kept(rounds, rounds.rows), kept(rounds, rounds.tokens)
    per_second = [count / wall_s for count, wall_s in zip(rows, own, strict=True)]
    metrics = {
        "throughput": measured(
            "throughput",
            statistics.median(per_second),
            SOURCE,
            median_interval(per_second),
            tuple(per_second),
        ),
        "tokens_per_second": plain(
            statistics.median(count / wall_s for count, wall_s in zip(tokens, own, strict=True)),
            "tokens/s",
            "higher",
        ),
        "padding_share": plain(
            1 - sum(tokens) / sum(kept(rounds, rounds.padded_tokens)), "1", "lower", "count"
        ),
    }
    for speedup, anchor in zip(SPEEDUPS, (anchors[0], anchors[-1]), strict=True):
        value, interval, samples = ratio(times_of(rounds, anchor), own)
        metrics[speedup] = measured(speedup, value, f"{SOURCE}, paired with {anchor}", interval, samples)
    if name in rounds.device_times:
        gaps = [1 - d / w for d, w in zip(kept(rounds, rounds.device_times[name].values), own, strict=True)]
        metrics["launch_overhead"] = plain(max(0.0, statistics.median(gaps)), "1", "lower", "CUDA events")
    return Scenario(
        batch_size=feed.batch_size,
        padding=feed.padding,
        threads=feed.threads,
        rounds=len(own),
        converged=ending.converged,
        throttled=10 * len(rounds.discarded) > len(rounds.order),
        stopped=ending.reason,
        metrics=metrics,
        warm_up=warm_ups,
        raw=rounds,
    )


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
        calls = headline(variant, size).calls(variant)
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
    """The percentiles that enough requests were timed for; the others are absent, with the reason."""
    for word, needed in REQUESTS_NEEDED.items():
        name, quantile = f"{prefix}_{word}", float(word.removeprefix("p")) / 100
        if len(times_s) >= needed:
            value, interval = quantile_of(times_s, quantile), quantile_interval(times_s, quantile)
            findings.metrics[name] = measured(name, value, f"{SOURCE}, per request", interval, tuple(times_s))
        elif needed > protocol.requests:
            findings.unavailable[name] = f"needs {needed:,} requests, this budget times {protocol.requests:,}"
        else:
            limit = f"{len(times_s)} fitted into {protocol.requests_cap_s:.0f} s"
            findings.unavailable[name] = f"needs {needed} requests, {limit}"


def quantile_of(values: Sequence[float], quantile: float) -> float:
    """A sample quantile, linearly interpolated."""
    ordered = sorted(values)
    place = quantile * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def measure_loading(variant: Subject, batch_size: int, protocol: Protocol) -> Findings:
    """Loading the artifact anew, and its first batch, whatever that compiles; weights in the page cache."""
    findings = Findings()
    batch = variant.batch(variant.rows[:batch_size])
    loads_s, calls_s = [], []
    with findings.spending("loading"):
        for _ in range(protocol.loads):
            started = time.perf_counter()
            model = compressors.load(variant.folder, variant.device)
            synchronise(variant.device)
            loads_s.append(time.perf_counter() - started)
            with torch.inference_mode():
                calls_s.append(time_block([partial(model, **batch)], variant.device)[0])
    for name, times_s in (("load_time", loads_s), ("first_call_time", calls_s)):
        median_s = statistics.median(times_s)
        findings.metrics[name] = measured(name, median_s, SOURCE, samples=tuple(times_s))
    return findings


def measure_tokenising(variant: Subject, batch_size: int, protocol: Protocol, seed: int) -> Findings:
    """Texts tokenised a second, a batch at a time; in no other scenario but end to end."""
    findings = Findings()
    feed = headline(variant, batch_size)
    texts = [[variant.examples[place] for place in slice_] for slice_ in feed.slices]
    calls = [partial(encode, variant.tokenizer, batch, variant.max_length) for batch in texts]
    slices = [Slice(len(batch), 0, 0) for batch in texts]
    with findings.spending("tokenising"):
        rounds, ending = paired_rounds([Contender("tokenising", calls)], slices, "cpu", protocol, seed)
    rates = [n / s for n, s in zip(rounds.rows, times_of(rounds, "tokenising"), strict=True)]
    rate = plain(statistics.median(rates), "samples/s", "higher", SOURCE, interval=median_interval(rates))
    findings.scenarios["tokenising"] = Scenario(
        batch_size=batch_size,
        padding="none",
        rounds=len(rates),
        converged=ending.converged,
        stopped=ending.reason,
        metrics={"tokenising_rate": rate},
        raw=rounds,
    )
    return findings
