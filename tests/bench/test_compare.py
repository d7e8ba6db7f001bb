"""Two runs beside each other: what must agree, what counts as a change, and what a gate makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.answers import packed
from bench.compare import Asked, compare_artifacts, compare_runs, lacking
from bench.gate import read_thresholds
from bench.nouns.comparison import Change, Comparison
from bench.nouns.environment import Caution, NoiseFloor
from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import DENSE, Result, Run, RunStatus
from tests.bench.meters.documents import run_of

ROWS = 400
LABELS = ("before", "after")

Metrics = dict[str, Measurement]


def ratio(value: float, half: float = 0.01) -> Measurement:
    return measured("speedup", value, "perf_counter, paired with dense", (value - half, value + half))


def timed(name: str, value: float, share: float = 0.01, **changes: Any) -> Measurement:
    ends = (value * (1 - share), value * (1 + share))
    return measured(name, value, "perf_counter", ends).model_copy(update=changes)


def row(variant: str = "bmp50", wrong: int = 40, metrics: Metrics | None = None) -> Result:
    """A measured row that has its first `wrong` test rows wrong."""
    right = packed([place >= wrong for place in range(ROWS)])
    share = measured("accuracy", 1 - wrong / ROWS, "predictions")
    found = {"accuracy": share, **(metrics or {})}
    return Result(variant=variant, seed=0, status="ok", right=right, metrics=found)


def row_of(variant: str = "bmp50", **metrics: Measurement) -> Result:
    """A row with these metrics."""
    return row(variant, metrics=metrics)


def run(*rows: Result, paired: float = 0.03, between: float = 0.1) -> Run:
    made = run_of(*rows)
    made.environment.noise_floor = NoiseFloor(paired=paired, between=between, source="60 trials")
    made.task.rows = {"train": 800, "validation": 100, "test": ROWS}
    return made


def asked(*thresholds: str, strict: bool = False, relative: bool = False) -> Asked:
    return Asked(read_thresholds(thresholds), strict, relative)


def compared(before: Run, after: Run, *thresholds: str, **how: bool) -> Comparison:
    return compare_runs(before, after, LABELS, asked(*thresholds, **how))


def the(changes: Sequence[Change], metric: str, variant: str = "bmp50") -> Change:
    (found,) = [change for change in changes if (change.metric, change.variant) == (metric, variant)]
    return found


@pytest.mark.parametrize(
    ("after", "word", "gate"),
    [
        (ratio(2.0), "same", "passes"),
        (ratio(2.3), "better", "passes"),
        (ratio(1.9), "worse", "inconclusive"),
        (ratio(1.85), "worse", "fails"),
        (ratio(1.94), "inconclusive", "passes"),
        (ratio(2.0, 0.2), "inconclusive", "inconclusive"),
        (ratio(1.6, 0.35), "inconclusive", "inconclusive"),
    ],
)
def test_a_gate_fails_only_where_the_whole_interval_lies_beyond(
    after: Measurement, word: str, gate: str
) -> None:
    found = compared(run(row_of(speedup=ratio(2.0))), run(row_of(speedup=after)), "speedup:5%")
    change = the(found.changes, "speedup")
    assert (change.word, change.gate) == (word, gate)
    assert change.low is not None
    assert change.high is not None
    assert change.low < after.value / 2.0 < change.high
    assert found.outcome == ("fails" if gate == "fails" else "passes")
    strict = compared(run(row_of(speedup=ratio(2.0))), run(row_of(speedup=after)), "speedup:5%", strict=True)
    assert strict.outcome == ("passes" if gate == "passes" else "fails")


def test_lower_is_better_for_sizes_and_latencies() -> None:
    before = row_of(disk_size=measured("disk_size", 100, "stat"), latency_p50=timed("latency_p50", 0.1))
    after = row_of(disk_size=measured("disk_size", 102, "stat"), latency_p50=timed("latency_p50", 0.05))
    found = compared(run(before), run(after), "disk_size:1%", "latency_p50:10%")
    size, latency = the(found.changes, "disk_size"), the(found.changes, "latency_p50")
    assert (size.word, size.gate, size.change, size.low, size.high) == ("worse", "fails", 1.02, 1.02, 1.02)
    assert (latency.word, latency.gate) == ("better", "passes")


def test_equal_counts_are_the_same_to_the_last_digit() -> None:
    counted = row_of(flops_per_sample=measured("flops_per_sample", 20_811_776.37, "count"))
    change = the(compared(run(counted), run(counted)).changes, "flops_per_sample")
    assert (change.word, change.change) == ("same", 1.0)


def test_accuracy_is_compared_row_by_row() -> None:
    """60 rows fewer are right of 400: beyond a point. One fewer is not told from none."""
    found = compared(run(row(wrong=40)), run(row(wrong=100)), "accuracy:1pt")
    change = the(found.changes, "accuracy")
    assert (change.word, change.gate, change.difference) == ("worse", "fails", True)
    assert change.change == pytest.approx(-0.15)
    near = the(compared(run(row(wrong=40)), run(row(wrong=41)), "accuracy:1pt").changes, "accuracy")
    assert (near.word, near.gate) == ("inconclusive", "inconclusive")
    shifted = row(wrong=40)
    shifted.right = packed([not 0 <= place - 200 < 40 for place in range(ROWS)])
    both = the(compared(run(row(wrong=40)), run(shifted), "accuracy:3pt").changes, "accuracy")
    assert both.change == 0
    assert both.gate == "inconclusive"


def test_modelled_energy_and_other_sources_are_never_judged() -> None:
    name = "inference_energy_per_sample"
    measured_j = timed(name, 1.0, source="NVML energy counter, GPU only, less idle")
    modelled = measured_j.model_copy(update={"estimated": True})
    other = measured_j.model_copy(update={"source": "RAPL, CPU packages, less idle"})
    for after, why in ((modelled, "estimated"), (other, "different sources")):
        found = compared(run(row(metrics={name: measured_j})), run(row(metrics={name: after})), f"{name}:20%")
        change = the(found.changes, name)
        assert (change.word, change.gate) == ("not comparable", "not comparable")
        assert why in change.reason
        assert found.outcome == "not comparable"
    better = timed(name, 0.5, source=measured_j.source)
    found = compared(run(row(metrics={name: measured_j})), run(row(metrics={name: better})), f"{name}:20%")
    assert the(found.changes, name).gate == "passes"


def test_absolute_times_of_a_disturbed_machine_are_not_compared_and_paired_ones_are() -> None:
    metrics = {"speedup": ratio(2.0), "throughput": timed("throughput", 100)}
    before, after = run(row(metrics=metrics)), run(row(metrics=metrics))
    after.environment.warnings = [
        Caution(code="load", text="others used 70 % of the CPU", remedy="stop them")
    ]
    found = compared(before, after, "speedup:5%", "throughput:20%")
    assert the(found.changes, "speedup").gate == "passes"
    disturbed = the(found.changes, "throughput")
    assert (disturbed.word, disturbed.gate) == ("not comparable", "not comparable")
    assert disturbed.reason.endswith("others used 70 % of the CPU")
    assert found.outcome == "not comparable"


def test_a_threshold_that_no_row_can_be_judged_by_does_not_pass() -> None:
    found = compared(run(row()), run(row()), "latency_p99:30%", "accuracy:5pt")
    assert [threshold.metric for threshold in found.unjudged] == ["latency_p99"]
    assert found.outcome == "not comparable"
    lost = compared(run(row_of(speedup=ratio(2.0))), run(row()), "speedup:5%")
    assert the(lost.changes, "speedup").gate == "not comparable"
    assert lost.outcome == "not comparable"


def test_figures_that_depend_on_the_batch_are_not_compared_with_those_of_another() -> None:
    memory, size = (measured(name, 4096.0, "count") for name in ("peak_memory_allocator", "disk_size"))
    one_row = timed("latency_b1_p50", 0.004)
    found = {
        "peak_memory_allocator": memory,
        "disk_size": size,
        "speedup": ratio(2.0),
        "latency_b1_p50": one_row,
    }
    whole, halved = row(metrics=found), row(metrics=found | {"speedup": ratio(3.0)})
    after = run(halved.model_copy(update={"batch_size": 16}))
    changes = compared(run(whole), after, "speedup:5%", "peak_memory_allocator:5%", "accuracy:1pt").changes
    for metric in ("speedup", "peak_memory_allocator"):
        assert (the(changes, metric).word, the(changes, metric).gate) == ("not comparable", "not comparable")
        assert "smaller batches" in the(changes, metric).reason
    assert the(changes, "accuracy").gate == "passes"
    assert [the(changes, metric).word for metric in ("disk_size", "latency_b1_p50")] == ["same", "same"]


def test_figures_of_a_row_that_was_measured_elsewhere_are_not_compared() -> None:
    size = measured("disk_size", 4096.0, "count")
    there = row_of(speedup=ratio(1.5), throughput=timed("throughput", 100), disk_size=size)
    elsewhere = there.model_copy(update={"machine": "abc"})
    changes = compared(run(there), run(elsewhere), "speedup:5%").changes
    for metric in ("speedup", "throughput"):
        assert the(changes, metric).word == "not comparable"
        assert "another machine" in the(changes, metric).reason
    assert the(changes, "speedup").gate == "not comparable"
    assert the(changes, "disk_size").word == "same"
    assert the(compared(run(elsewhere), run(elsewhere)).changes, "throughput").word == "same"


def test_which_gpu_was_used_changes_nothing() -> None:
    before, after = run(row()), run(row())
    for each, number in ((before, "0"), (after, "1")):
        variables = {**each.environment.variables, "CUDA_VISIBLE_DEVICES": number}
        each.environment = each.environment.model_copy(update={"variables": variables})
    assert compared(before, after).mismatches == []


def test_a_variant_that_fails_now_stops_the_gate_and_one_that_came_back_does_not() -> None:
    failed = Result(variant="bmp50", seed=0, status="failed", reason="out of memory")
    broken = compared(run(row()), run(failed))
    assert [(change.word, change.reason) for change in broken.changes] == [("newly failing", "out of memory")]
    assert broken.outcome == "fails"
    mended = compared(run(failed), run(row()))
    assert [change.word for change in mended.changes] == ["fixed"]
    assert mended.outcome == "passes"
    skipped = Result(variant="bmp50", seed=0, status="skipped", reason="no onnx")
    gone = compared(run(row(), row("mp")), run(skipped, row("mp")), "accuracy:5pt")
    assert gone.changes[0].gate == "not comparable"
    assert gone.outcome == "not comparable"


def test_a_variant_that_is_not_there_any_more_does_not_pass_a_gate() -> None:
    before, after = run(row(), row("mp")), run(row(), row("kd"))
    found = compared(before, after)
    assert found.unmatched == ["mp (seed 0): only in before", "kd (seed 0): only in after"]
    assert {change.variant for change in found.changes} == {"bmp50"}
    assert found.outcome == "passes"
    gated = compared(before, after, "accuracy:5pt")
    (gone,) = [change for change in gated.changes if change.variant == "mp"]
    assert (gone.word, gone.gate, gone.reason) == ("not comparable", "not comparable", "it is not in after")
    assert gated.outcome == "not comparable"


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_a_run_that_did_not_end_is_not_compared(status: RunStatus) -> None:
    whole, broken = run(row()), run(row())
    broken.status = status
    for before, after in ((whole, broken), (broken, whole)):
        found = compared(before, after, "accuracy:5pt")
        assert found.outcome == "not comparable"
        assert f"is {status}" in found.mismatches[0]


def test_a_variant_that_was_skipped_and_fails_now_fails_newly() -> None:
    skipped = Result(variant="bmp50", seed=0, status="skipped", reason="no onnx")
    failed = Result(variant="bmp50", seed=0, status="failed", reason="out of memory")
    assert compared(run(skipped), run(failed)).outcome == "fails"
    assert compared(run(failed), run(failed)).outcome == "passes"


def test_what_a_baseline_lacks_is_known_before_a_run() -> None:
    config = run(row(DENSE), row()).config
    thresholds = read_thresholds(["accuracy:1pt"])
    assert lacking(run(row(DENSE), row()), config, thresholds) == []
    assert lacking(run(row(DENSE), row("mp")), config, thresholds) == ["no variant but dense in common"]
    assert lacking(run(row(DENSE), row()), config, read_thresholds(["latency_p99:30%"])) == [
        "it has no latency_p99"
    ]
    assert lacking(run(row(DENSE), row(), row("mp")), config, thresholds) == [
        "it has mp (seed 0), not asked for here: add to --variants"
    ]
    old = row()
    old.right = None
    assert "older bench" in lacking(run(row(DENSE), old), config, thresholds)[0]


def test_a_few_bytes_are_no_change_and_a_gate_of_nought_stops_them() -> None:
    before = run(row_of(disk_size=measured("disk_size", 4_520_000, "stat")))
    after = run(row_of(disk_size=measured("disk_size", 4_520_008, "stat")))
    assert the(compared(before, after).changes, "disk_size").word == "same"
    gated = the(compared(before, after, "disk_size:0%").changes, "disk_size")
    assert gated.gate == "fails"
    assert "1.000002" in gated.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"environment.machine_key": "ffffffffffff"},
            "the machine: a CPU, 2 cores (0123456789ab), then",
        ),
        ({"environment.threads": 1}, "threads: 2, then 1"),
        ({"environment.variables": {"OMP_NUM_THREADS": "1"}}, "variables: {}, then {'OMP_NUM"),
        ({"environment.fp32_precision": "tf32"}, "fp32_precision: ieee, then tf32"),
        ({"config.budget": "standard"}, "the budget: quick, then standard"),
        ({"config.device": "cuda"}, "the device: cpu, then cuda"),
        ({"config.batch_size": 8}, "the batch size: 32, then 8"),
        ({"config.protocol_version": 99}, "the protocol: "),
        ({"config.epochs": 9.0}, "the variants' epochs: 1.0, then 9.0"),
        ({"fingerprints": {"rows": "1", "model": "0", "code": "0"}}, "the task's rows"),
        ({"fingerprints": {"rows": "0", "model": "1", "code": "0"}}, "the model that dense is made from"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_must_agree_and_does_not_is_named(change: dict[str, Any], said: str) -> None:
    before, after = run(row()), run(row())
    ((path, value),) = change.items()
    *holders, name = path.split(".")
    held: Any = after
    for holder in holders:
        held = getattr(held, holder)
    setattr(held, name, value)
    found = compared(before, after, "accuracy:5pt")
    assert len(found.mismatches) == 1
    assert found.mismatches[0].startswith(said)
    assert not found.changes
    assert found.outcome == "not comparable"


def test_another_plugin_of_the_same_name_is_no_longer_the_same_variant() -> None:
    before, after = run(row()), run(row())
    before.fingerprints["plugin clip.py"], after.fingerprints["plugin clip.py"] = "1", "2"
    assert compared(before, after).mismatches == ["plugin clip.py: what it holds is not the same"]
    del before.fingerprints["plugin clip.py"]
    assert not compared(before, after).mismatches


def test_software_may_differ_and_is_named() -> None:
    before, after = run(row()), run(row())
    before.environment.versions, after.environment.versions = (
        {"torch": "2.13"},
        {"torch": "2.14", "onnx": "1"},
    )
    before.environment.commit, after.environment.commit = "aaa", "bbb"
    after.fingerprints["code"] = "1"
    found = compared(before, after)
    assert not found.mismatches
    assert found.differences == [
        "onnx: absent, then 1",
        "torch: 2.13, then 2.14",
        "commit: aaa, then bbb",
        "bench itself: its code or its libraries changed",
    ]


def test_relative_figures_are_over_each_side_s_own_dense() -> None:
    """A machine twice as fast, on which the variant gains only half of what it gained."""
    name = "throughput"
    before = run(row_of(DENSE, throughput=timed(name, 100)), row_of(throughput=timed(name, 400)))
    after = run(row_of(DENSE, throughput=timed(name, 200)), row_of(throughput=timed(name, 400)))
    after.environment.machine_key = "ffffffffffff"
    assert compared(before, after).mismatches
    found = compared(before, after, f"{name}:20%", relative=True)
    change = the(found.changes, name)
    assert change.change == pytest.approx(0.5)
    assert (change.word, change.gate) == ("worse", "fails")
    assert any(text.startswith("the machine: ") for text in found.differences)
    assert not any(change.variant == DENSE and change.metric == name for change in found.changes)
    assert compared(before, before, f"{name}:20%", relative=True).outcome == "passes"
    lonely = run(row_of(throughput=timed(name, 400)))
    without = compared(lonely, lonely, f"{name}:20%", relative=True)
    assert without.outcome == "not comparable"


def test_two_artifacts_of_one_run_are_judged_by_their_own_rounds() -> None:
    exact = measured("speedup", 1.0, "definition: this is dense")
    one = run(row_of(DENSE, speedup=exact), row_of("load:new", speedup=ratio(0.9)))
    found = compare_artifacts(one, "load:new", ("base", "new"), asked("speedup:5%", "accuracy:5pt"))
    change = the(found.changes, "speedup", "load:new")
    assert change.low == pytest.approx(0.89)
    assert change.high == pytest.approx(0.91)
    assert change.gate == "fails"
    assert (found.before.label, found.after.label) == ("base", "new")


@given(st.floats(0.2, 5), st.floats(0.001, 0.3), st.floats(0.2, 5), st.floats(0.001, 0.3))
def test_a_change_and_its_reverse_are_mirror_images(
    one: float, one_half: float, other: float, other_half: float
) -> None:
    before, after = (
        run(row_of(speedup=measured("speedup", value, "trial", (value * (1 - half), value * (1 + half)))))
        for value, half in ((one, one_half), (other, other_half))
    )
    there = the(compared(before, after).changes, "speedup")
    back = the(compared(after, before).changes, "speedup")
    assert there.change == pytest.approx(1 / (back.change or 0))
    assert there.low == pytest.approx(1 / (back.high or 0))
    mirrored = {"better": "worse", "worse": "better"}
    assert there.word == mirrored.get(back.word, back.word)


@given(st.floats(0.5, 2), st.floats(0.001, 0.2), st.integers(3, 30), st.integers(3, 30))
def test_a_gate_that_allows_more_never_fails_where_a_stricter_one_passes(
    value: float, half: float, one: int, other: int
) -> None:
    less, more = sorted((one, other))
    order = ["passes", "inconclusive", "fails"]
    before = run(row_of(speedup=ratio(1.0)))
    after = run(row_of(speedup=measured("speedup", value, "t", (value * (1 - half), value * (1 + half)))))
    gates = [
        the(compared(before, after, f"speedup:{each}%").changes, "speedup").gate for each in (less, more)
    ]
    assert order.index(str(gates[1])) <= order.index(str(gates[0]))
