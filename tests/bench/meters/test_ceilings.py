"""What the device does at best: what is measured, what is left out, and what is read off between sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import profile

from bench.meters import ceilings
from bench.meters.ceilings import better, copy_rate, measure_ceilings, product, product_rate
from bench.nouns.profile import Ceilings, Copy

KIB = 2**10
FIXED = Ceilings(
    matmul={"float32": 1e11},
    copies=[Copy(size=64 * KIB, rate=8e10), Copy(size=KIB**2, rate=4e10), Copy(size=64 * KIB**2, rate=1e10)],
    call=1e-6,
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "COPY_SIZES", {"cpu": (64 * KIB, KIB**2)})
    monkeypatch.setattr(ceilings, "COPIED", {"cpu": KIB**2})
    monkeypatch.setattr(ceilings, "LEAST_REPEATED_S", 0.0)
    monkeypatch.setattr(ceilings, "LARGEST_SIDE", 128)


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is timed is run, and takes a second."""

    def second(calls: Sequence[Callable[[], object]], device: str) -> tuple[float, None]:
        for call in calls:
            call()
        return 1.0, None

    monkeypatch.setattr(ceilings, "time_block", second)


@pytest.mark.usefixtures("quick", "one_second")
def test_rates_are_of_what_was_done_a_second_and_a_call_is_one_of_many() -> None:
    found = measure_ceilings("cpu", ["bfloat16"])
    # 2 x 128 x 128 x 128 FLOPs; 1 MiB a block, in sixteen copies or in one, read and written.
    assert found.matmul == {"float32": 2 * 128**3, "bfloat16": 2 * 128**3}
    assert found.copies == [Copy(size=64 * KIB, rate=2 * KIB**2), Copy(size=KIB**2, rate=2 * KIB**2)]
    assert found.call == 1 / ceilings.CHAIN


@pytest.mark.usefixtures("one_second")
def test_a_call_is_a_single_operator() -> None:
    with profile() as profiler:
        ceilings.call_time_s("cpu")
    runs = 1 + ceilings.LEAST_REPEATS
    added = [event for event in profiler.events() or [] if event.name == "aten::add"]
    assert len(added) == runs * ceilings.CHAIN
    assert not any(event.cpu_children for event in added)


@pytest.mark.usefixtures("quick")
def test_a_type_without_products_is_left_out() -> None:
    assert product_rate("cpu", "uint16") is None
    assert measure_ceilings("cpu", ["uint16"]).matmul.keys() == {"float32"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
def test_a_product_has_the_shape_and_type_of_a_layers(dtype: str) -> None:
    answer = product("cpu", dtype, 24, 16, 40)()
    assert isinstance(answer, torch.Tensor)
    assert answer.shape == (24, 40)
    assert answer.dtype == (torch.int32 if dtype == "int8" else getattr(torch, dtype))


def test_the_better_of_two_is_the_best_of_each() -> None:
    other = Ceilings(
        matmul={"float32": 5e10},
        copies=[copy.model_copy(update={"rate": 2e10}) for copy in FIXED.copies],
        call=5e-7,
    )
    best = better(FIXED, other)
    assert best == better(other, FIXED)
    assert best.matmul == {"float32": 1e11}
    assert [copy.rate for copy in best.copies] == [8e10, 4e10, 2e10]
    assert best.call == 5e-7


def test_a_copy_of_a_size_moves_twice_as_much() -> None:
    assert copy_rate(FIXED, 2 * KIB**2) == pytest.approx(4e10)
    assert copy_rate(FIXED, 1) == 8e10
    assert copy_rate(FIXED, 1e12) == 1e10


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_more_bytes_are_never_moved_faster_where_larger_copies_are_not(one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert 1e10 <= copy_rate(FIXED, more) <= copy_rate(FIXED, less) <= 8e10
