"""Paired rounds, their end, percentiles and speed-ups, on subjects that record what they were given."""

from __future__ import annotations

import itertools
import time
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.encoding import Batch
from bench.meters.findings import Findings
from bench.meters.speed import (
    Rounds,
    add_percentiles,
    block_length,
    full_batches,
    look,
    measure_speed,
    paired_rounds,
    quantile_of,
    scenario,
    warm_up,
)
from bench.meters.subject import Subject
from bench.nouns.measurement import METRICS
from bench.protocol import PROTOCOLS, Protocol
from tests.bench.meters.conftest import ROWS, Open

FAST = replace(
    PROTOCOLS["quick"],
    min_rounds=10,
    max_rounds=20,
    min_time_s=0.0,
    max_time_s=2.0,
    warm_up_iterations=3,
    warm_up_min_s=0.0,
    warm_up_cap_s=0.1,
    requests=11,
    requests_cap_s=1.0,
    block_cpu_s=0.004,
)


class Recorder(Subject):
    """A subject that is slower by `delay_s` a batch and notes every batch in a list shared with others."""

    heard: list[tuple[str, int]]
    delay_s: float = 0.0

    def __call__(self, batch: Batch) -> torch.Tensor:
        self.heard.append((self.name, int(batch["input_ids"][0, 1]) * 1000 + batch["input_ids"].numel()))
        time.sleep(self.delay_s)
        return super().__call__(batch)


def recorder(subject: Subject, heard: list[tuple[str, int]], delay_s: float = 0.0) -> Recorder:
    made = Recorder(**{field.name: getattr(subject, field.name) for field in fields(Subject)})
    made.heard, made.delay_s = heard, delay_s
    return made


def feeds(*subjects: Subject, size: int = 4) -> dict[str, list[Batch]]:
    return {subject.name: full_batches(subject, size) for subject in subjects}


def test_each_round_gives_every_contender_the_same_slice_in_random_order(subject: Open) -> None:
    heard: list[tuple[str, int]] = []
    three = [recorder(subject(name), heard) for name in ("dense", "dense as bfloat16", "mp")]
    found = feeds(*three)
    protocol = replace(FAST, min_rounds=20)
    length = block_length(three, found, protocol)
    heard.clear()
    rounds = paired_rounds(three, found, protocol, seed=0)
    assert set(rounds.times_s) == {"dense", "dense as bfloat16", "mp"}
    assert all(len(times) == len(rounds.rows) == 20 for times in rounds.times_s.values())
    # The blocks' length is found anew from trial runs, which come first: five batches of each contender.
    played = heard[3 * min(5, len(found["mp"])) :]
    length = len(played) // (3 * 20)
    assert length * 3 * 20 == len(played)
    orders, slices = set(), set()
    for number in range(20):
        blocks = [played[(3 * number + i) * length :][:length] for i in range(3)]
        assert all(len({name for name, _ in block}) == 1 for block in blocks)
        inputs = [[batch for _, batch in block] for block in blocks]
        assert inputs[0] == inputs[1] == inputs[2]
        orders.add(tuple(block[0][0] for block in blocks))
        slices.add(tuple(inputs[0]))
    assert len(orders) > 3
    assert all(len(set(order)) == 3 for order in orders)
    assert len(slices) > 3


def test_a_block_is_long_enough_though_the_rows_are_few(subject: Open) -> None:
    tiny = subject("dense")
    found = feeds(tiny, size=25)
    assert len(found["dense"]) == 2
    protocol = replace(FAST, block_cpu_s=0.2)
    assert block_length([tiny], found, protocol) > 2
    rounds = paired_rounds([tiny], found, replace(protocol, min_rounds=2, max_rounds=2), seed=0)
    assert np.median(rounds.times_s["dense"]) > 0.03


def test_another_seed_draws_other_orders(subject: Open) -> None:
    def order(seed: int) -> list[str]:
        heard: list[tuple[str, int]] = []
        two = [recorder(subject(name), heard) for name in ("dense", "mp")]
        paired_rounds(two, feeds(*two, size=50), replace(FAST, block_cpu_s=1e-6), seed)
        return [name for name, _ in heard[2:]]

    assert order(0) == order(0)
    assert order(0) != order(1)


def rounds_of(anchor: list[float], variant: list[float]) -> Rounds:
    count = len(variant)
    return Rounds(
        {"dense": anchor, "mp": variant},
        {"dense": [], "mp": []},
        rows=[4] * count,
        tokens=[20] * count,
        padded=[25] * count,
    )


STANDARD = PROTOCOLS["standard"]
NOISE = np.random.default_rng(0).lognormal(0, 0.5, 400).tolist()


@pytest.mark.parametrize(
    ("count", "noisy", "spent_s", "stopped", "converged"),
    [
        (19, False, 1000.0, "", False),
        (20, False, 9.9, "", False),
        (20, False, 10.0, "interval within ±1.7% after 20 rounds", True),
        (25, False, 11.0, "", False),
        (30, True, 11.0, "", False),
        (31, True, 120.0, "gave up after 31 rounds and 120 s", False),
        (200, True, 60.0, "gave up after 200 rounds and 60 s", False),
        # Blocks of 20 ms fill 200 rounds before the least time is over: the width still decides.
        (200, False, 8.0, "interval within ±1.7% after 200 rounds", True),
    ],
)
def test_measuring_ends_by_width_and_limits(
    subject: Open, count: int, noisy: bool, spent_s: float, stopped: str, converged: bool
) -> None:
    rounds = rounds_of([0.02 * (NOISE[i] if noisy else 1.0) for i in range(count)], [0.01] * count)
    look(rounds, [subject("dense"), subject("mp")], STANDARD, spent_s)
    assert rounds.stopped.startswith(stopped)
    assert bool(rounds.stopped) == bool(stopped)
    assert rounds.converged == converged


def test_what_the_rounds_say_never_ends_them(subject: Open) -> None:
    """A ratio of 2 and one of 1 with the same noise stop, or go on, alike."""
    for count in (20, 50, 100):
        noise = NOISE[:count]
        ends = []
        for factor in (1.0, 2.0):
            rounds = rounds_of([factor * x for x in noise], [1.0] * count)
            look(rounds, [subject("dense"), subject("mp")], STANDARD, 20.0)
            ends.append(rounds.stopped)
        assert ends[0] == ends[1]


def test_a_scenario_is_medians_of_rates_and_of_ratios(subject: Open) -> None:
    dense, variant = subject("dense"), subject("mp")
    rounds = rounds_of([0.02, 0.04, 0.03], [0.01, 0.02, 0.01])
    found = scenario(rounds, [dense], variant, 4)
    value = {name: metric.value for name, metric in found.metrics.items()}
    assert value["throughput"] == pytest.approx(400)
    assert value["tokens_per_second"] == pytest.approx(2000)
    assert value["padding_share"] == pytest.approx(0.2)
    assert value["speedup"] == pytest.approx(2.0)
    assert value["speedup_same_precision"] == value["speedup"]
    assert found.metrics["speedup"].samples == pytest.approx((2.0, 2.0, 3.0))
    assert "launch_overhead" not in value
    assert found.rounds == 3


def test_same_precision_is_over_the_last_anchor_speedup_over_the_first(subject: Open) -> None:
    dense, cast, variant = subject("dense"), subject("dense as bfloat16"), subject("mp")
    rounds = rounds_of([0.04] * 5, [0.01] * 5)
    rounds.times_s["dense as bfloat16"] = [0.03] * 5
    found = scenario(rounds, [dense, cast], variant, 4).metrics
    assert found["speedup"].value == pytest.approx(4.0)
    assert found["speedup_same_precision"].value == pytest.approx(3.0)
    assert "dense as bfloat16" in found["speedup_same_precision"].source


def test_the_launch_overhead_is_what_the_device_did_not_work(subject: Open) -> None:
    rounds = rounds_of([0.02] * 3, [0.01] * 3)
    rounds.device_times_s["mp"] = [0.008, 0.009, 0.008]
    found = scenario(rounds, [subject("dense")], subject("mp"), 4).metrics
    assert found["launch_overhead"].value == pytest.approx(0.2)


def test_a_slower_subject_is_measured_as_slower(subject: Open) -> None:
    heard: list[tuple[str, int]] = []
    dense, variant = recorder(subject("dense"), heard, 0.02), recorder(subject("mp"), heard, 0.005)
    found = measure_speed([dense], variant, 25, replace(FAST, block_cpu_s=1e-6), seed=0)
    speedup = found.metrics["speedup"]
    assert speedup.ci_low is not None
    assert speedup.ci_high is not None
    assert 1.3 < speedup.ci_low <= speedup.value <= speedup.ci_high < 5
    assert found.metrics["throughput"].value < 25 / 0.005
    assert found.metrics["latency_b1_p50"].value > 0.005


SPEED = {name for name in METRICS if name.startswith(("throughput", "latency", "speedup"))}


@pytest.mark.parametrize("batch_size", [1, 8, 100])
def test_every_metric_of_speed_is_there_or_has_a_reason(subject: Open, batch_size: int) -> None:
    dense = subject("dense")
    anchors = [dense, dense.cast(torch.bfloat16)]
    protocol = replace(FAST, min_rounds=3, max_rounds=3)
    found = measure_speed(anchors, anchors[1].cast(torch.bfloat16), batch_size, protocol, seed=0)
    assert found.metrics.keys() | found.unavailable.keys() == SPEED
    assert not found.metrics.keys() & found.unavailable.keys()
    assert found.scenarios.keys() == {"batch 1", f"batch {batch_size}"}
    headline = found.scenarios[f"batch {batch_size}"]
    assert found.metrics["speedup"] == headline.metrics["speedup"]
    assert headline.rounds == 3
    assert headline.stopped
    assert 0 <= headline.metrics["padding_share"].value < 1
    assert found.scenarios["batch 1"].metrics["padding_share"].value == 0


def test_dense_over_itself_is_one_by_definition(subject: Open) -> None:
    found = measure_speed([], subject("dense"), 8, FAST, seed=0)
    for metrics in (found.metrics, found.scenarios["batch 1"].metrics):
        for name in ("speedup", "speedup_same_precision"):
            assert metrics[name].value == 1.0
            assert metrics[name].samples == ()
            assert "definition" in metrics[name].source
    assert found.metrics["throughput"].value > 0


def test_a_model_against_itself_is_no_faster(subject: Open) -> None:
    protocol = replace(FAST, min_rounds=30, max_rounds=30, max_time_s=20.0)
    found = measure_speed([subject("dense")], subject("mp"), 8, protocol, seed=0)
    assert found.metrics["speedup"].value == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize(
    ("count", "measured"), [(10, set()), (11, {"p50"}), (129, {"p50"}), (130, {"p50", "p95"})]
)
def test_percentiles_need_their_number_of_requests(count: int, measured: set[str]) -> None:
    findings = Findings()
    add_percentiles(findings, [0.01 + i / 1e5 for i in range(count)], "latency", STANDARD)
    assert findings.metrics.keys() == {f"latency_{name}" for name in measured}
    assert findings.unavailable.keys() == {f"latency_{name}" for name in {"p50", "p95"} - measured}
    assert all(f"{count} fitted" in reason for reason in findings.unavailable.values())
    for name in measured:
        metric = findings.metrics[f"latency_{name}"]
        assert len(metric.samples) == count
        assert metric.ci_low is not None
        assert metric.ci_high is not None
        assert metric.ci_low <= metric.value <= metric.ci_high


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.95, 1.0])
def test_a_quantile_is_numpys(quantile: float) -> None:
    for count in (1, 2, 7, 130):
        assert quantile_of(NOISE[:count], quantile) == pytest.approx(np.quantile(NOISE[:count], quantile))


@pytest.mark.parametrize(("size", "batches"), [(1, 50), (8, 6), (25, 2), (50, 1), (60, 1)])
def test_a_last_partial_batch_is_timed_only_where_it_is_the_only_one(
    subject: Open, size: int, batches: int
) -> None:
    found = full_batches(subject("dense"), size)
    assert len(found) == batches
    assert {len(batch["input_ids"]) for batch in found} == {min(size, len(ROWS))}


@pytest.mark.parametrize(
    ("changes", "least", "most"),
    [
        ({"warm_up_iterations": 40, "warm_up_cap_s": 60.0}, 40, 10_000),
        ({"warm_up_min_s": 60.0, "warm_up_cap_s": 0.0}, 1, 1),
    ],
)
def test_warming_up_is_long_enough_and_ends(subject: Open, changes: Any, least: int, most: int) -> None:
    heard: list[tuple[str, int]] = []
    tiny = recorder(subject("dense"), heard)
    protocol: Protocol = replace(FAST, **changes)
    warm_up(tiny, full_batches(tiny, 8), protocol)
    assert least <= len(heard) <= most


def test_the_protocols_have_what_the_percentiles_need() -> None:
    for protocol in PROTOCOLS.values():
        assert protocol.requests >= 130
        assert protocol.min_rounds <= protocol.max_rounds
        assert protocol.min_time_s <= protocol.max_time_s
    quick, standard, thorough = (PROTOCOLS[name] for name in ("quick", "standard", "thorough"))
    for less, more in itertools.pairwise((quick, standard, thorough)):
        assert less.max_rounds < more.max_rounds
        assert less.energy_window_s < more.energy_window_s
