"""Each rule on rows that show it and on rows that do not; what holds of all that is ever said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import diagnosis
from bench.diagnosis import RULES, Evidence, Finding
from bench.nouns.document import Series
from bench.nouns.measurement import Measurement, measured
from bench.nouns.profile import Ceilings, Copy, Diagnosis, Portion, Profile, Width
from bench.nouns.run import Result, ResultStatus, Rounds, Scenario
from bench.visible import visible

SORTED = "add sorted, which batches rows of like length, where two batches of rows wait"
UNPADDED = "add unpadded, which leaves padding out of the encoder, where the family allows"
CPU_CORES = 4
CEILINGS = Ceilings(matmul={"float32": 1e11}, copies=[Copy(size=2**20, rate=1e10)], call=1e-6)


def profile(**changes: Any) -> Profile:
    """Of a batch of 10 ms that is one product, as fast as the device can do it."""
    product = portion("aten::addmm", 0.01, flops_bound_s=0.01, bytes_bound_s=1e-4)
    usual: dict[str, Any] = {
        "batch_size": 32,
        "tokens": 512,
        "batches": 5,
        "dtype": "float32",
        "time": 0.01,
        "profiled_time": 0.01,
        "calls": 10,
        "launch_time": 1e-4,
        "flops": 1e9,
        "bytes": 1e6,
        "bound": 0.01,
        "dense_bound": 0.01,
        "ceilings": CEILINGS,
        "operators": [product],
        "zero_share": 0.0,
    }
    return Profile(**usual | changes)


def portion(name: str, time_s: float, flops_bound_s: float, bytes_bound_s: float) -> Portion:
    """An operator, or operators, at 1e11 FLOP/s and 1e10 B/s at best."""
    return Portion(
        name=name,
        time=time_s,
        calls=1,
        flops=flops_bound_s * 1e11,
        bytes=bytes_bound_s * 1e10,
        bound=max(flops_bound_s, bytes_bound_s),
        flops_bound=flops_bound_s,
        bytes_bound=bytes_bound_s,
    )


def on_gpu(idle_s: float = 0.006, calls: float = 3000) -> Profile:
    """A batch of 10 ms for some of which the GPU is idle."""
    return profile(device_time=0.01 - idle_s, launch_time=idle_s, calls=calls)


def scenario(
    padding: float = 0.0, machine: dict[str, list[float | None]] | None = None, **changes: Any
) -> Scenario:
    """Ten rounds of the headline, of 1 s in all, on a machine that was quiet unless told otherwise."""
    readings = {name: Series(unit="1", values=values) for name, values in (machine or {}).items()}
    share = Measurement(value=padding, unit="1", better="lower", source="count")
    usual: dict[str, Any] = {
        "batch_size": 32,
        "padding": "arrival order",
        "metrics": {"padding_share": share},
        "raw": Rounds(
            times={"dense": Series(unit="s", values=[0.2] * 10), "new": Series(unit="s", values=[0.1] * 10)},
            order=[[0, 1]] * 10,
            machine=readings,
        ),
    }
    return Scenario(**usual | changes)


def row(*parts: str, status: ResultStatus = "ok", **changes: Any) -> Result:
    """A measured variant, `new`, of these parts."""
    usual: dict[str, Any] = {"scenarios": {"batch 32": scenario()}}
    return Result(variant="new", parts=list(parts), seed=0, status=status, **usual | changes)


def findings(result: Result, device: str) -> list[Finding]:
    """What the rules find on a machine of so many cores."""
    return diagnosis.findings(result, device, CPU_CORES)


def diagnose(result: Result, device: str) -> list[Diagnosis]:
    """What the row is told on that machine."""
    return diagnosis.diagnose(result, device, CPU_CORES)


def only(result: Result, device: str = "cpu") -> Diagnosis:
    """The one diagnosis that there is."""
    (found,) = diagnose(result, device)
    return found


def operators(**times: float) -> list[Portion]:
    """Operators of torch's by their names without `aten::`, with their times in s."""
    return [Portion(name=f"aten::{name}", time=time_s, calls=1) for name, time_s in times.items()]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_nothing_is_said_of_a_perfect_profile(device: str) -> None:
    assert diagnose(row(profile=profile(device_time=0.01)), device) == []


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_nothing_is_said_of_a_row_without_figures(status: ResultStatus) -> None:
    assert diagnose(row(status=status, profile=profile(zero_share=0.9)), "cpu") == []


def test_nothing_is_said_of_a_row_without_evidence() -> None:
    assert diagnose(row(scenarios={}), "cpu") == []


def test_many_operators_for_a_short_batch_are_launch_bound() -> None:
    found = only(row(profile=profile(launch_time=0.006, calls=120, batch_size=1)))
    assert found.code == "launch-bound"
    assert (found.figure, found.unit) == (60, "%")
    assert "at batch size 1, about 60 % of a batch's 10 ms" in found.text
    assert "120 operators" in found.text
    assert "50 µs each" in found.text


@pytest.mark.parametrize(("launch_time", "is_named"), [(0.0031, True), (0.0029, False), (None, False)])
def test_only_a_large_part_of_a_batch_is_launch_bound(launch_time: float | None, is_named: bool) -> None:
    found = diagnose(row(profile=profile(launch_time=launch_time, calls=6000)), "cpu")
    assert bool(found) == is_named


def test_a_gpu_that_waits_for_short_kernels_is_launch_bound() -> None:
    found = only(row(profile=on_gpu()), "cuda")
    assert (found.code, found.figure) == ("launch-bound", 60)
    assert "graphs" in found.remedy


def test_a_gpu_is_known_to_wait_from_its_events_alone() -> None:
    overhead = Measurement(value=0.5, unit="1", better="lower", source="CUDA events")
    headline = scenario()
    headline.metrics["launch_overhead"] = overhead
    found = only(row(scenarios={"batch 32": headline}), "cuda")
    assert (found.code, found.figure) == ("launch-bound", 50)


def test_a_gpu_that_is_idle_is_not_said_to_spend_its_time_in_kernels() -> None:
    """Operators' times are a GPU's kernels': of a batch in which it is mostly idle they are a small part."""
    reading = portion("aten::addmm", 0.001, flops_bound_s=1e-5, bytes_bound_s=0.0008)
    mostly_idle = on_gpu(idle_s=0.009).model_copy(update={"operators": [reading], "bound": 0.001})
    assert only(row(profile=mostly_idle), "cuda").code == "launch-bound"
    busy = on_gpu(idle_s=0.001).model_copy(update={"operators": [reading], "bound": 0.001})
    (found,) = findings(row(profile=busy), "cuda")
    assert (found.diagnosis.code, found.diagnosis.figure) == ("memory-bound", 90)
    assert found.lost == pytest.approx(0.9)


def test_graphs_that_are_started_are_not_told_as_kernels() -> None:
    kernels = [Portion(name="gemm", time=0.003, calls=90), Portion(name="norm", time=0.001, calls=110)]
    replayed = on_gpu(calls=6).model_copy(update={"kernels": kernels})
    found = only(row("graphs", profile=replayed), "cuda")
    assert found.code == "launch-bound"
    assert "spent starting 6 graphs and kernels" in found.text


@pytest.mark.parametrize(
    ("parts", "advised", "never"),
    [
        ((), ["compile", "onnx"], ["graphs"]),
        (("bmp50", "mp"), ["compile"], ["onnx"]),
        (("int8",), ["compile"], ["onnx"]),
        (("compile",), ["--batch-size"], ["compile", "onnx"]),
        (("onnx:int8",), ["--batch-size"], ["compile", "onnx"]),
        (("unpadded",), ["compile or onnx in place of unpadded"], ["add compile"]),
    ],
)
def test_the_remedy_of_launching_is_one_that_the_variant_can_take(
    parts: tuple[str, ...], advised: list[str], never: list[str]
) -> None:
    remedy = only(row(*parts, profile=profile(launch_time=0.006))).remedy
    assert all(word in remedy for word in advised)
    assert not any(word in remedy for word in never)


@pytest.mark.parametrize(
    ("parts", "advised"),
    [
        ((), "add graphs"),
        (("compile",), "compile:reduce-overhead"),
        (("compile:reduce-overhead",), None),
        (("compile:max-autotune",), None),
        (("int8",), "add compile:reduce-overhead"),
        (("int8:weight-only",), "add graphs"),
        (("graphs",), None),
    ],
)
def test_on_a_gpu_kernels_are_launched_at_once_where_they_are_not_yet(
    parts: tuple[str, ...], advised: str | None
) -> None:
    remedy = only(row(*parts, profile=on_gpu()), "cuda").remedy
    assert (advised in remedy) if advised else remedy == "take a larger --batch-size"


@pytest.mark.parametrize("brought", ["unpadded", "sorted"])
def test_what_an_artifact_brings_is_not_advised_again(brought: str) -> None:
    padded = {"batch 32": scenario(padding=0.35)}
    found = diagnose(row("load:earlier", continues=["bmp50", brought], scenarios=padded), "cpu")
    assert [each.code for each in found] == ([] if brought == "unpadded" else ["padding"])
    assert not any("add sorted" in each.remedy for each in found if brought == "sorted")


def test_an_engine_that_an_artifact_brings_is_not_advised_again() -> None:
    compiled = {"compile_time": measured("compile_time", 3.0, "perf_counter")}
    remedy = only(row("load:earlier", metrics=compiled, profile=profile(launch_time=0.006))).remedy
    assert "compile" not in remedy


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ({"steal": [0.1] * 10}, "10 % of the CPU time went to other guests"),
        ({"throttled": [2.5] * 10}, "the CPU quota kept 2.5 cores halted on average"),
    ],
)
def test_a_gpu_that_waits_for_a_cpu_held_back_is_starved(
    machine: dict[str, list[float | None]], said: str
) -> None:
    starved = row(profile=on_gpu(), scenarios={"batch 32": scenario(machine=machine)})
    found = only(starved, "cuda")
    assert (found.code, found.figure) == ("starved-gpu", 60)
    assert said in found.text


@pytest.mark.parametrize("others", [0.0, 0.5])
def test_gaps_longer_than_a_launch_starve_a_gpu(others: float) -> None:
    beside = scenario(machine={"others": [others] * 10})
    found = only(row(profile=on_gpu(calls=100), scenarios={"batch 32": beside}), "cuda")
    assert found.code == "starved-gpu"
    assert "60 µs" in found.text
    assert "1 µs" in found.text
    assert ("50 % of the CPU was used by other processes" in found.text) == bool(others)


@pytest.mark.parametrize("machine", [{"throttled": [0.1] * 10}, {"steal": [0.04] * 10}])
def test_a_cpu_held_back_a_little_is_not_why_a_gpu_waits_for_long(
    machine: dict[str, list[float | None]],
) -> None:
    """A tenth of a core that was halted cannot explain a GPU that is idle for most of the time."""
    slightly = row(profile=on_gpu(), scenarios={"batch 32": scenario(machine=machine)})
    assert only(slightly, "cuda").code == "launch-bound"


def test_that_others_use_other_cores_starves_no_gpu() -> None:
    beside = scenario(machine={"others": [0.5] * 10})
    assert only(row(profile=on_gpu(), scenarios={"batch 32": beside}), "cuda").code == "launch-bound"


def test_zeros_in_matrices_are_masks() -> None:
    left = {"encoder_reduction": measured("encoder_reduction", 0.0, "count")}
    found = only(row("load:masked", metrics=left, profile=profile(zero_share=0.5)))
    assert (found.code, found.figure) == ("masks", 50)
    assert "0 % of dense's weights were really removed" in found.text
    assert diagnose(row("int8", profile=profile(zero_share=0.03)), "cpu") == []


@pytest.mark.parametrize(
    ("parts", "remedy"),
    [(("bmp50",), "multiple=16"), (("kd",), "multiples of 16"), (("fisher:speedup=2",), "multiple=16")],
)
def test_a_width_that_costs_more_a_column_is_named(parts: tuple[str, ...], remedy: str) -> None:
    widths = [
        Width(what="feed-forward", width=769, friendly=784, cost=1.05),
        Width(what="feed-forward", width=33, friendly=48, cost=1.42),
    ]
    found = only(row(*parts, profile=profile(widths=widths)))
    assert (found.code, found.figure, found.unit) == ("unfriendly-widths", 1.42, "times")
    assert "width 33" in found.text
    assert remedy in found.remedy
    assert diagnose(row(profile=profile(widths=widths[:1])), "cpu") == []


def test_the_widths_of_few_layers_cost_little() -> None:
    """Of a batch's time, by the share of the layers that have them."""
    modules = [Portion(name=name, time=s, calls=1) for name, s in (("feed-forward", 6.0), ("attention", 4.0))]
    widths = [
        Width(what="feed-forward", width=33, friendly=48, cost=2.0, share=1 / 12),
        Width(what="feed-forward", width=35, friendly=48, cost=1.25, share=3 / 12),
    ]
    (found,) = findings(row("bmp50", profile=profile(widths=widths, modules=modules)), "cpu")
    assert found.diagnosis.figure == 2.0
    assert found.lost == pytest.approx(0.6 * (0.5 / 12 + 0.2 * 3 / 12))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kernels": [Portion(name="matmul ref:any", time=0.006, calls=1)]}, "reference kernels"),
        ({"operators": operators(addmm=0.5, _to_copy=0.5)}, "casting"),
        ({"operators": operators(addmm=0.5, bmm=0.3, _softmax=0.2)}, "attention"),
        ({"operators": operators(_int_mm=0.5, mul=0.3, round=0.2)}, "quantising"),
    ],
)
def test_slow_paths_are_known_by_their_names(changes: dict[str, Any], said: str) -> None:
    found = only(row(profile=profile(**changes)))
    assert found.code == "fallback-kernels"
    # Of 10 ms where kernels tell it, of all operators' time where they do.
    assert found.figure == (60 if "kernels" in changes else 50)
    assert said in found.text


@pytest.mark.parametrize(
    "changes",
    [
        {"kernels": [Portion(name="matmul brg:avx512_core", time=0.01, calls=1)]},
        {"kernels": [Portion(name="matmul ref:any", time=0.001, calls=1)]},
        {"operators": operators(addmm=0.9, copy_=0.1)},
        {"operators": operators(addmm=0.5, bmm=0.5)},
        {"operators": operators(addmm=0.5, mul=0.3, round=0.2)},
    ],
    ids=["fast kernel", "short kernel", "few copies", "no softmax", "nothing quantised"],
)
def test_other_names_are_no_slow_paths(changes: dict[str, Any]) -> None:
    assert diagnose(row(profile=profile(**changes)), "cpu") == []


def test_compiling_anew_is_named() -> None:
    found = only(row("compile", profile=profile(recompile_time=12.34)))
    assert (found.code, found.figure, found.unit) == ("recompiles", 12.3, "s")
    assert found.remedy == "pad rows to few lengths"
    assert "anew when all shapes had been run" in found.text
    fed = only(row("compile", profile=profile(recompile_time=12.34, new_shape=True)))
    assert "anew for a shape that had not been run yet" in fed.text
    assert diagnose(row("compile", profile=profile(recompile_time=0.0)), "cpu") == []


def test_compiling_within_the_timed_rounds_is_named_without_a_profile() -> None:
    note = "{}: 1.0 s of compiling fell into the timed rounds, so it is less sure"
    (found,) = findings(row("graphs", notes=[note.format("batch 32")]), "cuda")
    assert found.diagnosis.code == "recompiles"
    assert found.lost == pytest.approx(1 / 2)
    assert "graphs:" in found.diagnosis.remedy
    assert findings(row("graphs", notes=[note.format("batch 1")]), "cuda") == []
    anchors = note.format("batch 32").replace("compiling", "dense as graphs's compiling")
    assert findings(row("graphs", notes=[anchors]), "cuda") == []


@pytest.mark.parametrize(
    ("parts", "remedy"),
    [
        ((), f"{SORTED}; {UNPADDED}"),
        (("sorted",), UNPADDED),
        (("onnx",), SORTED),
        (("onnx", "sorted"), "take a smaller --batch-size"),
    ],
)
def test_padding_is_named_with_what_is_left_to_do(parts: tuple[str, ...], remedy: str) -> None:
    found = only(row(*parts, scenarios={"batch 32": scenario(padding=0.5)}))
    assert (found.code, found.figure, found.remedy) == ("padding", 50, remedy)
    assert "about 2 times as fast" in found.text


def test_padding_is_nothing_to_what_runs_without_it() -> None:
    assert diagnose(row("unpadded", scenarios={"batch 32": scenario(padding=0.5)}), "cpu") == []
    assert diagnose(row(scenarios={"batch 32": scenario(padding=0.1)}), "cpu") == []


@pytest.mark.parametrize(("rate", "figure"), [(4e10, 0.4), (1.05e11, 1.05), (1.2e11, None)])
def test_a_precision_no_faster_than_float32_is_emulated(rate: float, figure: float | None) -> None:
    ceilings = CEILINGS.model_copy(update={"matmul": {"float32": 1e11, "bfloat16": rate}})
    found = diagnose(row("mp", profile=profile(dtype="bfloat16", ceilings=ceilings)), "cpu")
    named = [("emulated-precision", figure)] if figure else []
    assert [(each.code, each.figure) for each in found] == named


def test_operators_that_move_bytes_as_fast_as_copies_are_memory_bound() -> None:
    reading = portion("aten::addmm", 0.008, flops_bound_s=1e-4, bytes_bound_s=0.006)
    counted = portion("aten::mm", 0.002, flops_bound_s=0.002, bytes_bound_s=1e-6)
    found = only(row(profile=profile(operators=[reading, counted], bound=0.008)))
    assert (found.code, found.figure) == ("memory-bound", 80)
    assert "7.5 GB/s" in found.text
    assert "most in aten::addmm: " in found.text
    assert "75 % of what copies reach" in found.text


def test_the_sum_of_the_others_is_no_operator_to_wait_in() -> None:
    rest = portion("12 others", 0.006, flops_bound_s=1e-4, bytes_bound_s=0.005)
    reading = portion("aten::addmm", 0.004, flops_bound_s=1e-4, bytes_bound_s=0.003)
    assert "most in aten::addmm: " in only(row(profile=profile(operators=[rest, reading], bound=0.008))).text


def test_operators_far_below_the_rate_of_copies_wait_for_something_else() -> None:
    tiny = portion("aten::addmm", 0.01, flops_bound_s=1e-8, bytes_bound_s=1e-5)
    assert diagnose(row(profile=profile(operators=[tiny], bound=1e-5)), "cpu") == []


def test_an_operator_whose_flops_take_longer_does_not_wait_for_memory() -> None:
    """At the ceiling of its own precision, which can be below that of most of the model's FLOPs."""
    slow = portion("aten::addmm", 0.01, flops_bound_s=0.008, bytes_bound_s=0.006)
    assert diagnose(row(profile=profile(operators=[slow], bound=0.008)), "cpu") == []


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ({"steal": [0.1, 0.0]}, "other guests of this host took 5 % of the CPU time"),
        ({"throttled": [4.2, None]}, "the CPU quota kept 4.2 cores halted on average"),
        ({"throttled": [0.1], "steal": [0.4]}, "other guests of this host took 40 %"),
        ({"throttled": [1.0], "steal": [0.4]}, "the CPU quota kept 1 cores halted"),
    ],
)
def test_a_cpu_held_back_is_throttled(machine: dict[str, list[float | None]], said: str) -> None:
    found = only(row(scenarios={"batch 32": scenario(machine=machine)}))
    assert found.code == "throttled"
    assert said in found.text
    assert "OMP_WAIT_POLICY=PASSIVE" in found.remedy


def test_a_clock_held_down_is_throttled() -> None:
    cap = float(pynvml.nvmlClocksEventReasonSwPowerCap)
    clocks: list[float | None] = [1.98e9, *[0.99e9] * 9]
    capped = scenario(machine={"clock_events": [0.0, *[cap] * 9], "sm_clock": clocks})
    (found,) = findings(row(scenarios={"batch 32": capped}), "cuda")
    assert (found.diagnosis.code, found.diagnosis.figure) == ("throttled", 90)
    assert "to a median of 990 MHz, by its power cap" in found.diagnosis.text
    assert found.lost == pytest.approx(0.45)


def test_the_clock_is_that_of_the_rounds_in_which_it_was_held_down() -> None:
    cap = float(pynvml.nvmlClocksEventReasonSwPowerCap)
    clocks: list[float | None] = [*[0.99e9] * 2, *[1.98e9] * 8]
    capped = scenario(machine={"clock_events": [*[cap] * 2, *[0.0] * 8], "sm_clock": clocks})
    (found,) = findings(row(scenarios={"batch 32": capped}), "cuda")
    assert "in 20 % of the rounds, to a median of 990 MHz" in found.diagnosis.text
    assert found.lost == pytest.approx(0.1)


def test_rounds_left_out_for_heat_are_throttled() -> None:
    headline = scenario(throttled=True)
    assert headline.raw
    headline.raw.discarded = {0: "hardware thermal slowdown", 3: "hardware thermal slowdown"}
    found = only(row(scenarios={"batch 32": headline}), "cuda")
    assert (found.code, found.figure) == ("throttled", 20)
    assert "by hardware thermal slowdown" in found.text


def test_a_low_clock_of_unknown_cause_is_not_blamed_on_heat() -> None:
    headline = scenario(throttled=True)
    assert headline.raw
    headline.raw.discarded = dict.fromkeys((0, 3), "SM clock 700 MHz, under 75% of the rounds' median")
    assert only(row(scenarios={"batch 32": headline}), "cuda").text.endswith("in 20 % of the rounds")


shares = st.floats(0, 1)
times_s = st.floats(1e-7, 10)
counts = st.just(0.0) | st.floats(0.1, 1e12)  # a batch, of several
NAMES = ["aten::addmm", "aten::bmm", "aten::_softmax", "aten::copy_", "aten::_int_mm", "3 others"]
KERNELS = ["sgemm", "matmul ref:any", "ref\n\x1b[31m", "void ref<float, 4>()" * 9]
WIDTHS = ["feed-forward", "attention heads"]
PARTS = ["bmp50", "int8", "mp", "compile", "graphs", "onnx", "unpadded", "sorted", "load:<b>x</b>"]


@st.composite
def rows(draw: st.DrawFn) -> Result:
    """Any measured row, however unlikely."""
    figures: dict[str, Any] = {"time": times_s, "calls": counts, "flops": counts, "bytes": counts}
    figures |= dict.fromkeys(("bound", "flops_bound", "bytes_bound"), st.none() | times_s)
    portions = st.builds(Portion, name=st.sampled_from(NAMES), **figures)
    kernels = st.builds(Portion, name=st.sampled_from(KERNELS), time=times_s, calls=counts)
    widths = st.builds(Width, what=st.sampled_from(WIDTHS), cost=st.floats(0.5, 9))
    drawn = profile(
        time=draw(times_s),
        device_time=draw(st.none() | times_s),
        calls=draw(counts),
        launch_time=draw(st.none() | times_s),
        bound=draw(st.none() | times_s),
        dtype=draw(st.sampled_from(["float32", "bfloat16", "int8", None])),
        operators=draw(st.lists(portions, max_size=4)),
        kernels=draw(st.lists(kernels, max_size=3)),
        widths=draw(st.lists(widths, max_size=2)),
        zero_share=draw(st.none() | shares),
        recompile_time=draw(st.none() | times_s),
        ceilings=Ceilings(
            matmul={"float32": draw(st.floats(1, 1e15)), "bfloat16": draw(st.floats(1, 1e15))},
            copies=CEILINGS.copies,
            call=draw(st.floats(0, 1e-3)),
        ),
    )
    readings = {name: [draw(st.none() | shares)] * 10 for name in ("steal", "throttled", "others")}
    return row(
        *draw(st.lists(st.sampled_from(PARTS), unique=True, max_size=3)),
        profile=draw(st.none() | st.just(drawn)),
        scenarios={"batch 32": scenario(padding=draw(shares), machine=readings)},
    )


@given(rows(), st.sampled_from(["cpu", "cuda"]))
def test_whatever_is_said_is_one_plain_line_with_its_figure_and_a_remedy(result: Result, device: str) -> None:
    for found in diagnose(result, device):
        assert f"{found.figure:g} {found.unit}" in found.text
        assert found.remedy
        for text in (found.text, found.remedy):
            assert visible(text) == text
            assert text == text.strip()
            assert "<b>" not in text


@given(rows(), st.sampled_from(["cpu", "cuda"]))
def test_the_gravest_comes_first_and_each_is_said_once(result: Result, device: str) -> None:
    found = findings(result, device)
    assert all(0 <= each.lost <= 1 for each in found)
    assert [each.lost for each in found] == sorted((each.lost for each in found), reverse=True)
    codes = [each.diagnosis.code for each in found]
    assert len(set(codes)) == len(codes)
    assert not {"launch-bound", "starved-gpu"} <= set(codes)


@given(rows())
def test_what_a_gpu_alone_can_have_is_not_said_of_a_cpu(result: Result) -> None:
    said = diagnose(result, "cpu")
    assert "starved-gpu" not in {each.code for each in said}
    assert not any("graphs" in each.remedy for each in said if "graphs" not in result.parts)


@given(rows(), st.sampled_from(["cpu", "cuda"]))
def test_a_variant_is_not_told_to_take_what_it_has(result: Result, device: str) -> None:
    remedies = "; ".join(each.remedy for each in diagnose(result, device))
    assert not any(f"add {part}" in remedies for part in result.parts)


def test_every_code_has_a_rule() -> None:
    found = {rule.__name__.replace("_", "-") for rule in RULES}
    assert found == set(Diagnosis.model_json_schema()["properties"]["code"]["enum"])
    assert all(rule(Evidence(row(), "cpu", CPU_CORES)) is None for rule in RULES)


def test_the_page_explains_every_code() -> None:
    page = (Path(__file__).parents[2] / "docs/profiling.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", page, flags=re.MULTILINE))
    assert explained == {rule.__name__.replace("_", "-") for rule in RULES}
