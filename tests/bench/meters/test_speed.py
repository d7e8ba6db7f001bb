"""Speed-ups, rates, percentiles, loading and tokenising, of a tiny real model."""

from __future__ import annotations

import time
from dataclasses import fields, replace

import pytest
import torch

from bench.encoding import Batch
from bench.meters.feeds import headline, shaped, threaded, usual
from bench.meters.findings import Findings
from bench.meters.rounds import Ending
from bench.meters.speed import (
    REQUESTS_NEEDED,
    add_percentiles,
    measure_feed,
    measure_latency,
    measure_loading,
    measure_speed,
    measure_tokenising,
    scenario,
)
from bench.meters.subject import Subject
from bench.nouns.document import Series
from bench.nouns.measurement import METRICS, SPEEDUPS
from bench.nouns.run import Rounds, Scenario
from tests.bench.meters.conftest import Open
from tests.bench.meters.test_rounds import FAST, STANDARD, rounds_of

QUICK = replace(FAST, requests=11, requests_cap_s=1.0, min_rounds=6, max_rounds=6)


class Slowed(Subject):
    """A subject that takes `delay_s` longer a batch."""

    delay_s: float = 0.0

    def __call__(self, batch: Batch) -> torch.Tensor:
        time.sleep(self.delay_s)
        return super().__call__(batch)


def slowed(subject: Subject, delay_s: float) -> Slowed:
    made = Slowed(**{field.name: getattr(subject, field.name) for field in fields(Subject)})
    made.delay_s = delay_s
    return made


def over(anchor: Subject) -> dict[str, Subject]:
    return dict.fromkeys(SPEEDUPS, anchor)


def scenario_of(subject: Subject, rounds: Rounds, *anchors: str) -> Scenario:
    over = {"speedup": anchors[0], "speedup_same_precision": anchors[-1]}
    return scenario(headline(subject, 4), rounds, Ending(True, "enough"), {}, over)


def test_a_scenario_is_rates_over_all_rounds_and_medians_of_ratios(subject: Open) -> None:
    found = scenario_of(subject("mp"), rounds_of([0.02, 0.04, 0.03], [0.01, 0.02, 0.01]), "dense")
    value = {name: metric.value for name, metric in found.metrics.items()}
    assert value["throughput"] == pytest.approx(3 * 4 / 0.04)
    assert value["tokens_per_second"] == pytest.approx(3 * 20 / 0.04)
    assert value["padding_share"] == pytest.approx(0.2)
    assert 2.0 <= value["speedup"] <= 3.0
    assert value["speedup_same_precision"] == value["speedup"]
    assert found.metrics["speedup"].samples == pytest.approx((2.0, 2.0, 3.0))
    assert "launch_overhead" not in value
    assert found.rounds == 3
    assert found.raw
    assert found.raw.times["mp"].values == [0.01, 0.02, 0.01]


def test_same_precision_is_over_the_last_anchor_speedup_over_the_first(subject: Open) -> None:
    rounds = rounds_of([0.04] * 6, [0.01] * 6)
    cast = Series(unit="s", values=[0.03] * 6)
    rounds.times = {"dense": rounds.times["dense"], "dense as bfloat16": cast, "mp": rounds.times["mp"]}
    found = scenario_of(subject("mp"), rounds, "dense", "dense as bfloat16").metrics
    assert found["speedup"].value == pytest.approx(4.0)
    assert found["speedup_same_precision"].value == pytest.approx(3.0)
    assert "dense as bfloat16" in found["speedup_same_precision"].source


def test_the_launch_overhead_is_what_the_device_did_not_work(subject: Open) -> None:
    rounds = rounds_of([0.02] * 3, [0.01] * 3)
    rounds.device_times["mp"] = Series(unit="s", values=[0.008, 0.009, 0.008])
    found = scenario_of(subject("mp"), rounds, "dense").metrics
    assert found["launch_overhead"].value == pytest.approx(0.2)


def test_rounds_discarded_are_kept_raw_and_in_no_figure(subject: Open) -> None:
    rounds = rounds_of([0.02] * 8 + [0.5], [0.01] * 9)
    rounds.discarded = {8: "hardware slowdown"}
    found = scenario_of(subject("mp"), rounds, "dense")
    assert found.metrics["speedup"].value == pytest.approx(2.0)
    assert found.rounds == 8
    assert found.throttled
    assert found.raw
    assert len(found.raw.order) == 9


def test_where_no_round_counts_there_is_a_reason_and_no_figure(subject: Open) -> None:
    rounds = rounds_of([0.02] * 9, [0.01] * 9)
    rounds.discarded = dict.fromkeys(range(9), "hardware slowdown")
    found = scenario_of(subject("mp"), rounds, "dense")
    assert found.metrics == {}
    assert found.throttled
    assert found.rounds == 0


def test_rows_of_many_lengths_give_the_rate_of_them_all(subject: Open) -> None:
    """Nine short blocks and a long one: the median block would say 400 rows a second."""
    rounds = rounds_of([0.02] * 10, [0.01] * 9 + [0.31])
    found = scenario_of(subject("mp"), rounds, "dense")
    assert found.metrics["throughput"].value == pytest.approx(40 / 0.4)


@pytest.mark.usefixtures("asleep")
def test_a_slower_subject_is_measured_as_slower_in_every_scenario(subject: Open) -> None:
    dense, variant = slowed(subject("dense"), 0.02), slowed(subject("mp"), 0.005)
    found = measure_speed(over(dense), variant, usual(variant, 25), FAST, seed=0)
    assert list(found.scenarios) == ["batch 25", "batch 1", "end to end"]
    for each in found.scenarios.values():
        speedup = each.metrics["speedup"]
        assert [speedup.ci_low, speedup.value, speedup.ci_high] == pytest.approx([4] * 3)
        assert each.warm_up.keys() == {"dense", "mp"}
    assert found.metrics["throughput"].value == pytest.approx(25 / 0.005)
    assert found.metrics["speedup"] == found.scenarios["batch 25"].metrics["speedup"]
    assert found.spent.keys() == {"warm-up", "timing"}


def test_the_number_of_threads_holds_for_its_scenario_alone(subject: Open) -> None:
    seen: list[int] = []

    class Counting(Subject):
        def __call__(self, batch: Batch) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return super().__call__(batch)

    tiny = subject("mp")
    counting = Counting(**{field.name: getattr(tiny, field.name) for field in fields(Subject)})
    before = torch.get_num_threads()
    other = 1 if before > 1 else 2
    found = measure_speed(over(subject("dense")), counting, [threaded(tiny, 8, other)], QUICK, seed=0)
    assert set(seen) == {other}
    assert torch.get_num_threads() == before
    assert next(iter(found.scenarios.values())).threads == other


def test_every_latency_is_there_or_has_a_reason(subject: Open) -> None:
    found = measure_latency(subject("dense"), 8, replace(QUICK, requests_cap_s=600.0))
    assert found.metrics.keys() | found.unavailable.keys() == {m for m in METRICS if m.startswith("latency")}
    assert found.metrics.keys() == {"latency_p50", "latency_b1_p50"}


@pytest.mark.parametrize("count", [10, 11, 63, 64, 129, 130, 661, 662, 6635, 6636])
def test_percentiles_need_their_number_of_requests(count: int) -> None:
    findings = Findings()
    protocol = replace(STANDARD, requests=6636)
    add_percentiles(findings, [0.01 + i / 1e5 for i in range(count)], "latency", protocol)
    enough = {f"latency_{name}" for name, needed in REQUESTS_NEEDED.items() if count >= needed}
    assert findings.metrics.keys() == enough
    assert findings.unavailable.keys() == {f"latency_{name}" for name in REQUESTS_NEEDED} - enough
    assert all(f"{count} fitted" in reason for reason in findings.unavailable.values())
    for name in enough:
        metric = findings.metrics[name]
        assert len(metric.samples) == (count if name == "latency_p50" else 0)
        assert metric.ci_low is not None
        assert metric.ci_high is not None
        assert metric.ci_low <= metric.value <= metric.ci_high


def test_a_percentile_beyond_the_budget_says_so() -> None:
    findings = Findings()
    add_percentiles(findings, [0.01] * 130, "latency", replace(STANDARD, requests=130))
    assert findings.unavailable["latency_p99"] == "needs 662 requests, this budget times 130"


def test_loading_is_timed_again_and_again_the_first_call_once(subject: Open) -> None:
    late = slowed(subject("mp"), 0.2)
    found = measure_loading(late, 8, replace(FAST, loads=3))
    load = found.metrics["load_time"]
    assert len(load.samples) == 3
    assert 0 < min(load.samples) <= load.value <= max(load.samples)
    assert found.metrics["first_call_time"].value > 0.2
    assert found.metrics["first_call_time"].samples == ()


class Compiling(torch.nn.Module):
    """Runs a model, and says that each call took this long to compile."""

    def __init__(self, subject: Subject, seconds: list[float]) -> None:
        super().__init__()
        self.model, self.seconds = subject.model, seconds
        self.config, self.compile_time_s = subject.model.config, 0.0

    def forward(self, **batch: torch.Tensor) -> object:
        self.compile_time_s += self.seconds.pop(0) if self.seconds else 0.0
        return self.model(**batch)


def test_what_the_first_batch_takes_to_compile_is_told_apart(subject: Open) -> None:
    eager = subject("mp")
    compiled = replace(eager, model=Compiling(eager, [0.05, 0.3]))
    found = measure_loading(compiled, 8, replace(FAST, loads=1))
    assert found.metrics["compile_time"].value == 0.05
    assert "compile_time" not in found.unavailable
    assert (
        measure_loading(eager, 8, replace(FAST, loads=1)).unavailable["compile_time"] == "nothing is compiled"
    )


def test_compiling_within_timed_rounds_is_said(subject: Open) -> None:
    dense, eager = subject("dense"), subject("mp")
    feed = headline(dense, 8)
    early = replace(eager, model=Compiling(eager, [0.5]))
    assert measure_feed(over(dense), early, feed, QUICK, seed=0).notes == []
    late = replace(eager, model=Compiling(eager, [1e-9] * 10_000))
    [note] = measure_feed(over(dense), late, feed, QUICK, seed=0).notes
    assert note.startswith("batch 8: ")
    assert "s of compiling fell into the timed rounds" in note
    compiling = replace(dense, model=Compiling(dense, [1e-9] * 10_000))
    [note] = measure_feed(over(compiling), eager, feed, QUICK, seed=0).notes
    assert "s of dense's compiling fell into the timed rounds" in note


class Small(torch.nn.Module):
    """Runs a model on batches of few rows."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.model, self.config = subject.model, subject.model.config

    def forward(self, **batch: torch.Tensor) -> object:
        if len(batch["input_ids"]) > 8:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return self.model(**batch)


def test_a_shape_that_does_not_fit_costs_its_own_scenario_alone(subject: Open) -> None:
    tiny = subject("dense")
    small = replace(tiny, model=Small(tiny))
    feeds = [headline(tiny, 8), shaped(tiny, (16, 12)), shaped(tiny, (4, 12))]
    found = measure_speed(over(tiny.again()), small, feeds, FAST, seed=0)
    assert found.metrics["throughput"] == found.scenarios["batch 8"].metrics["throughput"]
    large = found.scenarios["16x12"]
    assert (large.metrics, large.raw, large.converged, large.batch_size) == ({}, None, False, 16)
    assert large.stopped == "16x12 does not fit into memory; ask for a smaller one by --shapes"
    assert found.scenarios["4x12"].metrics["throughput"].value > 0
    with pytest.raises(RuntimeError, match="can't allocate"):
        measure_speed(over(tiny.again()), small, [headline(tiny, 16)], FAST, seed=0)


def test_tokenising_has_a_rate_of_its_own(subject: Open) -> None:
    found = measure_tokenising(subject("mp"), 8, QUICK, seed=0).scenarios["tokenising"]
    rate = found.metrics["tokenising_rate"]
    assert rate.unit == "samples/s"
    assert rate.ci_low is not None
    assert rate.ci_low <= rate.value
    assert found.rounds == 6
    assert not found.verdicts


def test_a_model_against_itself_is_no_faster(subject: Open) -> None:
    dense = subject("dense")
    protocol = replace(FAST, min_rounds=30, max_rounds=30, max_time_s=20.0)
    ratios = (  # two neighbours at once leave a block whole slices of time or none
        measure_feed(over(dense.again()), dense, headline(dense, 8), protocol, seed=seed)
        .scenarios["batch 8"]
        .metrics["speedup"]
        .value
        for seed in range(3)
    )
    assert any(ratio == pytest.approx(1, abs=0.25) for ratio in ratios)


def test_a_scenario_of_rows_that_wait_has_the_batch_size_and_its_own_padding(
    subject: Open, sorting: Subject
) -> None:
    dense, feed = subject("dense"), headline(sorting, 4)
    found = measure_feed(over(dense), sorting, feed, QUICK, seed=0).scenarios["batch 4"]
    assert found.batch_size == 4
    assert found.padding == (
        "longest of the batch, 32 rows at a time sorted by length; dense in arrival order"
    )
    assert found.raw is not None
    assert all(rows % 32 == 0 for rows in found.raw.rows)
    [arrived], [own] = feed.contents(dense), feed.contents(sorting)
    assert found.metrics["padding_share"].value == pytest.approx(1 - own.tokens / own.padded_tokens)
    assert own.padded_tokens < arrived.padded_tokens


def test_a_cast_copy_has_the_other_precision_and_leaves_the_first_alone(subject: Open) -> None:
    dense = subject("dense")
    cast = dense.again(torch.bfloat16)
    assert (dense.model.dtype, cast.model.dtype) == (torch.float32, torch.bfloat16)
    assert cast.name == "dense as bfloat16"
