"""Where batches' time goes: portions that add up, a trace that can be read, kernels by their names."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import EventList, FunctionEvent

from bench.meters.profiler import (
    GRAPH,
    KINDS,
    MOST_PORTIONS,
    Profiled,
    Tally,
    covered,
    kernels_in,
    library_kernels,
    longest,
    portions,
    printed,
    profiled,
    take_apart,
)
from bench.meters.subject import Subject, load_subject
from bench.meters.work import count_work
from bench.nouns.profile import Portion
from tests.bench.meters.conftest import LAYERS, ROWS

BATCHES = 2
Seen = tuple[Profiled, Path]


@pytest.fixture(scope="module")
def subject(tiny: Path) -> Subject:
    return load_subject("dense", tiny, ROWS, 32, "cpu")


@pytest.fixture(scope="module")
def seen(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The tiny model on two batches."""
    batches = subject.batches(16)[:BATCHES]
    trace = tmp_path_factory.mktemp("profiled") / "trace.json.gz"
    operators = count_work(subject.model, batches).operators
    return profiled(subject, batches, operators, trace), trace


def total_s(tallies: dict[str, Tally]) -> float:
    return sum(tally.time_s for tally in tallies.values())


def test_all_of_the_operators_time_is_some_modules(seen: Seen) -> None:
    found, _ = seen
    assert found.modules.keys() == set(KINDS)
    assert all(tally.time_s > 0 for tally in found.modules.values())
    assert total_s(found.modules) == pytest.approx(total_s(found.operators))
    assert 0 < total_s(found.operators) <= found.wall_s
    assert found.device_s is None


def test_calls_are_those_of_operators_that_no_other_called(seen: Seen) -> None:
    found, _ = seen
    # A layer norm calls others, which are none of its module's calls.
    norms = 2 * LAYERS + 1
    assert found.modules["norms"].calls == found.operators["aten::layer_norm"].calls == BATCHES * norms
    # Six products a layer, pooler and head, each called by a linear layer.
    assert found.operators["aten::addmm"].calls == BATCHES * (6 * LAYERS + 2)
    assert found.operators["aten::linear"].calls == BATCHES * (6 * LAYERS + 2)


def test_what_a_counted_operator_calls_is_its_own(subject: Subject, tmp_path: Path) -> None:
    batches = subject.batches(16)[:1]
    alone = profiled(subject, batches, set(), tmp_path / "alone.json.gz")
    whole = profiled(subject, batches, {"aten::linear"}, tmp_path / "whole.json.gz")
    assert "aten::addmm" in alone.operators
    assert "aten::addmm" not in whole.operators
    assert sum(tally.calls for tally in alone.modules.values()) == sum(
        tally.calls for tally in whole.modules.values()
    )


def test_no_hook_is_left(subject: Subject, seen: Seen) -> None:
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in subject.model.modules())


def test_the_trace_names_operators_and_modules_and_no_path(seen: Seen) -> None:
    _, trace = seen
    with gzip.open(trace, "rt", encoding="utf-8") as file:
        text = file.read()
    names = {event.get("name") for event in json.loads(text)["traceEvents"]}
    assert {"aten::addmm", "attention: bert.encoder.layer.0.attention", "head: classifier"} <= names
    assert str(trace.parent) not in text
    assert str(Path.home()) not in text


def test_the_longest_portions_are_told_and_the_others_added_up() -> None:
    tallies = {f"operator {i}": Tally(time_s=float(i), calls=2) for i in range(20)}
    made = portions(tallies, batches=2)
    made[-1].flops = 5.0
    told = longest(made)
    assert [portion.time for portion in told[:MOST_PORTIONS]] == [i / 2 for i in range(19, 4, -1)]
    assert told[-1] == Portion(name="5 others", time=5.0, calls=5.0, flops=5.0)
    assert longest(made[:MOST_PORTIONS]) == made[:MOST_PORTIONS]


def test_what_libraries_print_is_read() -> None:
    said = """MKL_VERBOSE oneMKL 2024.0 Update 2 Product build 20240605 for Intel(R) 64 architecture
MKL_VERBOSE SGEMM(T,N,384,768,384,0x7f,0x7f,384,0x55,384,0x7f,0x55,384) 2.58ms CNR:OFF Dyn:1 NThr:1
MKL_VERBOSE SGEMM(T,N,24,24,32,0x7f,0x55,384,0x55,384,0x7f,0x55,24) 12.5us CNR:OFF Dyn:1 NThr:1
onednn_verbose,v1,info,oneDNN v3.7.1,cpu,runtime:OpenMP,nthr:1
onednn_verbose,v1,primitive,exec,cpu,matmul,brg:avx512_core_bf16,undef,src:bf16::blocked:ab,,,768x384:384x12,2.5
onednn_verbose,v1,primitive,exec,cpu,gemm_api,,undef,src_s8::blocked:ab:f0,,,768x384:384x384,2.25
onednn_verbose,v1,primitive,create:cache_miss,cpu,matmul,ref:any,undef,src:bf16::blocked:ab,,,8x8:8x8,1.5
"""
    found = kernels_in(said)
    assert {name: tally.calls for name, tally in found.items()} == {
        "SGEMM": 2,
        "matmul brg:avx512_core_bf16": 1,
        "gemm_api": 1,
    }
    assert found["SGEMM"].time_s == pytest.approx(2.5925e-3)
    assert found["gemm_api"].time_s == pytest.approx(2.25e-3)


def test_libraries_say_what_they_ran() -> None:
    if not torch.backends.mkl.is_available():
        pytest.skip("this build of torch has no MKL")
    one, other = torch.ones(64, 64), torch.ones(64, 64)
    found = library_kernels(lambda: torch.mm(one, other))
    assert found["SGEMM"].calls == 1
    assert found["SGEMM"].time_s > 0
    assert library_kernels(lambda: None) == {}


def test_what_is_printed_meanwhile_is_kept_and_nothing_after(capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(lambda: os.write(1, b"from below\n")) == "from below\n"
    os.write(1, b"afterwards\n")
    assert capfd.readouterr().out == "afterwards\n"


def test_what_raises_while_it_is_listened_to_leaves_the_output_as_it_was(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        printed(fail)
    os.write(1, b"afterwards\n")
    assert capfd.readouterr().out == "afterwards\n"


times = st.integers(0, 60)


@given(st.lists(st.tuples(times, times).map(lambda pair: (min(pair), max(pair)))))
def test_what_intervals_cover_together_is_counted_once(intervals: Sequence[tuple[int, int]]) -> None:
    places = {place for start, end in intervals for place in range(start, end)}
    assert covered(intervals) == len(places)


def cpu_event(number: int, name: str, start: int, end: int, is_range: bool = False) -> FunctionEvent:
    return FunctionEvent(number, name, 1, start, end, use_device="cuda", is_user_annotation=is_range)


def gpu_event(number: int, name: str, start: int, end: int, is_range: bool = False) -> FunctionEvent:
    kind = DeviceType.CUDA
    return FunctionEvent(number, name, 7, start, end, device_type=kind, is_user_annotation=is_range)


def test_on_a_gpu_time_is_that_of_the_kernels() -> None:
    """Events as torch gives them on CUDA: an operator has the kernels that it launched."""
    attention = cpu_event(1, "attention: bert.encoder.layer.0.attention", 0, 50, is_range=True)
    linear, product = cpu_event(2, "aten::linear", 1, 30), cpu_event(3, "aten::addmm", 2, 20)
    launch = cpu_event(4, "cudaLaunchKernel", 3, 6)
    replay, flush = cpu_event(5, "cudaGraphLaunch", 60, 62), cpu_event(9, "Buffer Flush", 63, 64)
    product.append_kernel("gemm", 0, 40)
    events = EventList([attention, linear, product, launch, replay, flush], use_device="cuda")
    events._build_tree()
    on_gpu = [
        gpu_event(6, "gemm", 10, 50),
        gpu_event(7, "attention: bert.encoder.layer.0.attention", 10, 50, is_range=True),
        gpu_event(8, "of a graph", 40, 70),
    ]
    found = Profiled(wall_s=1e-4, modules={kind: Tally() for kind in KINDS})
    take_apart([*events, *on_gpu], found, {"aten::addmm"}, on_cuda=True)
    assert found.calls == 2
    assert found.device_s == pytest.approx(60e-6)
    assert found.operators["aten::addmm"] == Tally(40e-6, 1)
    assert found.operators["aten::linear"].time_s == 0
    assert "Buffer Flush" not in found.operators
    assert found.operators[GRAPH].time_s == pytest.approx(30e-6)
    assert found.modules["attention"].time_s == pytest.approx(40e-6)
    assert found.kernels == {"gemm": Tally(40e-6, 1), "of a graph": Tally(30e-6, 1)}


def test_where_no_kernel_is_seen_nothing_of_a_gpu_is_told() -> None:
    """Without CUPTI torch tells the operators' times on the CPU alone."""
    events = EventList([cpu_event(1, "aten::linear", 0, 30), cpu_event(2, "cudaLaunchKernel", 3, 6)])
    events._build_tree()
    found = Profiled(wall_s=1e-4, modules={kind: Tally() for kind in KINDS})
    take_apart(events, found, set(), on_cuda=True)
    assert found == Profiled(wall_s=1e-4)
