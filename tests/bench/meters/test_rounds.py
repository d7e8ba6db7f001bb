"""Paired rounds, their end and the warm-up, on contenders that note what they did."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.meters.rounds import (
    Contender,
    Ending,
    Slice,
    block_length,
    deal,
    ending,
    is_steady,
    kept,
    paired_rounds,
    times_of,
    warm_up,
)
from bench.nouns.document import Series
from bench.nouns.run import Rounds
from bench.protocol import PROTOCOLS

FAST = replace(
    PROTOCOLS["quick"],
    min_rounds=10,
    max_rounds=20,
    min_time_s=0.0,
    max_time_s=5.0,
    warm_up_calls=3,
    warm_up_min_s=0.0,
    warm_up_window_s=0.005,
    warm_up_cap_s=0.1,
    block_cpu_s=0.004,
)
STANDARD = PROTOCOLS["standard"]
SLICES = [Slice(4, 20 + i, 28 if i % 2 else 24) for i in range(10)]
NOISE = np.random.default_rng(0).lognormal(0, 0.5, 400).tolist()
Heard = list[tuple[str, int]]


def sleeper(name: str, heard: Heard, seconds: float = 0.001) -> Contender:
    """Notes which slice it was given, and sleeps."""

    def call(number: int) -> None:
        heard.append((name, number))
        time.sleep(seconds)

    return Contender(name, [partial(call, number) for number in range(len(SLICES))])


def rounds_of(anchor: list[float], variant: list[float]) -> Rounds:
    count = len(variant)
    return Rounds(
        times={"dense": Series(unit="s", values=[*anchor]), "mp": Series(unit="s", values=[*variant])},
        order=[[0, 1]] * count,
        rows=[4] * count,
        tokens=[20] * count,
        padded_tokens=[25] * count,
    )


def test_each_round_gives_every_contender_the_same_slice_in_random_order() -> None:
    heard: Heard = []
    three = [sleeper(name, heard) for name in ("dense", "dense as bfloat16", "mp")]
    rounds, ended = paired_rounds(three, SLICES, "cpu", replace(FAST, min_rounds=20), seed=0)
    assert list(rounds.times) == ["dense", "dense as bfloat16", "mp"]
    assert all(len(series.values) == len(rounds.rows) == 20 for series in rounds.times.values())
    assert ended.reason
    # The block's length is found from trial calls, which come first: five of each contender.
    played = heard[3 * 5 :]
    length = rounds.rows[0] // SLICES[0].rows
    assert len(played) == 3 * 20 * length
    for number, order in enumerate(rounds.order):
        blocks = [played[(3 * number + i) * length :][:length] for i in range(3)]
        assert [block[0][0] for block in blocks] == [three[place].name for place in order]
        slices = [[each for _, each in block] for block in blocks]
        assert slices[0] == slices[1] == slices[2]
        assert rounds.tokens[number] == sum(SLICES[i].tokens for i in slices[0])
        assert rounds.padded_tokens[number] == sum(SLICES[i].padded_tokens for i in slices[0])
    assert len({tuple(order) for order in rounds.order}) > 3
    assert all(sorted(order) == [0, 1, 2] for order in rounds.order)


def test_another_seed_draws_other_orders() -> None:
    def orders(seed: int) -> list[list[int]]:
        two = [sleeper(name, []) for name in ("dense", "mp")]
        rounds, _ = paired_rounds(two, SLICES, "cpu", replace(FAST, block_cpu_s=1e-6), seed)
        return rounds.order[: FAST.min_rounds]

    assert orders(0) == orders(0)
    assert orders(0) != orders(1)


@pytest.mark.usefixtures("asleep")
def test_a_block_is_long_enough_though_the_slices_are_few() -> None:
    tiny = sleeper("dense", [], seconds=0.003)
    few = Contender("dense", tiny.calls[:2])
    protocol = replace(FAST, block_cpu_s=0.02, min_rounds=2, max_rounds=2)
    assert block_length([few], "cpu", protocol) == 7
    rounds, _ = paired_rounds([few], SLICES[:2], "cpu", protocol, seed=0)
    assert times_of(rounds, "dense") == pytest.approx([0.021] * 2)


def test_the_machine_is_read_in_every_round() -> None:
    two = [sleeper(name, []) for name in ("dense", "mp")]
    rounds, _ = paired_rounds(two, SLICES, "cpu", FAST, seed=0)
    assert rounds.machine
    assert all(len(series.values) == len(rounds.order) for series in rounds.machine.values())


@pytest.mark.parametrize(
    ("count", "noisy", "spent_s", "reason", "converged"),
    [
        (19, False, 1000.0, None, False),
        (20, False, 9.9, None, False),
        (20, False, 10.0, "interval within ±1.7% after 20 rounds", True),
        (25, False, 11.0, None, False),
        (30, True, 11.0, None, False),
        (31, True, 120.0, "gave up after 31 rounds and 120 s", False),
        (200, True, 60.0, "gave up after 200 rounds and 60 s", False),
        # Blocks of 20 ms fill 200 rounds before the least time is over: the width still decides.
        (200, False, 8.0, "interval within ±1.7% after 200 rounds", True),
    ],
)
def test_measuring_ends_by_width_and_limits(
    count: int, noisy: bool, spent_s: float, reason: str | None, converged: bool
) -> None:
    rounds = rounds_of([0.02 * (NOISE[i] if noisy else 1.0) for i in range(count)], [0.01] * count)
    ended = ending(rounds, "cpu", STANDARD, spent_s)
    if reason is None:
        assert ended is None
    else:
        assert ended
        assert ended.reason.startswith(reason)
        assert ended.converged == converged


@given(st.floats(0.05, 20), st.integers(20, 200), st.floats(0, 200), st.integers(0, 2**16))
def test_what_the_rounds_say_never_ends_them(factor: float, count: int, spent_s: float, seed: int) -> None:
    """The same noise stops, or goes on, alike, whatever the ratio."""
    noise = np.random.default_rng(seed).lognormal(0, 0.05, count)
    ends = [
        ending(rounds_of((scale * noise).tolist(), [1.0] * count), "cpu", STANDARD, spent_s)
        for scale in (1.0, factor)
    ]
    assert (ends[0] is None) == (ends[1] is None)
    if ends[0] and ends[1]:
        assert ends[0].converged == ends[1].converged


def throttled_rounds(count: int, slow: int) -> Rounds:
    """Every `slow`-th round at half the clock."""
    rounds = rounds_of([0.02] * count, [0.01] * count)
    clocks = [0.7e9 if i % slow == 0 else 1.9e9 for i in range(count)]
    rounds.machine["sm_clock"] = Series(unit="Hz", values=[*clocks])
    return rounds


def test_a_throttled_round_counts_for_nothing() -> None:
    rounds = throttled_rounds(30, slow=5)
    rounds.times["mp"].values[0] = 99.0
    ended = ending(rounds, "cuda", STANDARD, 10.0)
    assert ended
    assert set(rounds.discarded) == set(range(0, 30, 5))
    assert len(times_of(rounds, "mp")) == 24
    assert 99.0 not in times_of(rounds, "mp")
    assert kept(rounds, rounds.rows) == [4.0] * 24


def test_discarded_rounds_are_made_up_for_but_not_for_ever() -> None:
    assert ending(throttled_rounds(20, slow=5), "cuda", STANDARD, 10.0) is None
    given_up = throttled_rounds(200, slow=2)
    minimum = replace(STANDARD, min_rounds=150)
    ended = ending(given_up, "cuda", minimum, 10.0)
    assert ended
    assert len(given_up.discarded) == 100


def test_a_gpu_slowed_down_in_every_round_is_given_up_without_figures() -> None:
    rounds = rounds_of([0.02] * 200, [0.01] * 200)
    slowed = float(pynvml.nvmlClocksEventReasonHwSlowdown)
    rounds.machine["clock_events"] = Series(unit="bitmask", values=[slowed] * 200)
    assert ending(rounds, "cuda", STANDARD, 10.0) == Ending(
        False, "gave up after 200 rounds, 200 of them discarded"
    )


@given(st.integers(1, 20), st.integers(0, 2**16))
def test_slices_are_dealt_equally_often(count: int, seed: int) -> None:
    dealt = list(itertools.islice(deal(count, random.Random(seed)), 3 * count))
    assert sorted(dealt) == sorted([*range(count)] * 3)
    assert sorted(dealt[:count]) == [*range(count)]


@pytest.mark.usefixtures("asleep")
def test_warming_up_does_every_shape_once_and_then_one_block_again_and_again() -> None:
    heard: Heard = []
    done = warm_up(sleeper("dense", heard), SLICES, "cpu", replace(FAST, warm_up_calls=40, warm_up_cap_s=5))
    calls = [number for _, number in heard]
    assert calls[:2] == [0, 1]
    assert set(calls[7:]) <= set(range(5))
    assert done.calls == len(calls) - 5
    assert done.calls >= 40


@pytest.mark.usefixtures("asleep")
def test_compiling_takes_nothing_of_the_time_to_warm_up() -> None:
    heard: Heard = []
    dense = sleeper("dense", heard)
    compiled_s = 0.0

    def compile_first() -> None:
        nonlocal compiled_s
        if not heard:
            time.sleep(0.2)
            compiled_s += 0.2
        dense.calls[0]()

    contender = Contender("dense", [compile_first, *dense.calls[1:]], lambda: compiled_s)
    done = warm_up(contender, SLICES, "cpu", replace(FAST, warm_up_cap_s=0.1))
    assert [number for _, number in heard][:2] == [0, 1]
    assert done.wall_time == pytest.approx(0.001 * len(heard))
    assert done.wall_time < 0.1
    assert done.steady


def test_warming_up_ends_at_the_cap_and_says_that_it_was_not_steady() -> None:
    heard: Heard = []
    done = warm_up(
        sleeper("dense", heard), SLICES, "cpu", replace(FAST, warm_up_min_s=60.0, warm_up_cap_s=0.0)
    )
    assert done.steady is False
    assert done.calls < 10


@pytest.mark.parametrize(
    ("times_s", "steady"),
    [
        ([1.0] * 6, True),
        ([1.1, 1.1, 1.1, 1.0, 1.0, 1.0], False),
        ([1.01, 1.01, 1.01, 1.0, 1.0, 1.0], True),
        # One stall in either window is the machine's doing, not the model's.
        ([1.0, 1.0, 9.0, 1.0, 1.0, 1.0], True),
        ([1.0] * 5, False),
        ([1.0], False),
    ],
)
@pytest.mark.parametrize("window_s", [3.0, 0.1], ids=["three blocks long", "shorter than a block"])
def test_steady_is_as_before(times_s: list[float], steady: bool, window_s: float) -> None:
    ended_s = [*itertools.accumulate([1.0] * len(times_s))]
    assert is_steady(times_s, ended_s, window_s) == steady


def test_the_protocols_agree_with_themselves() -> None:
    for protocol in PROTOCOLS.values():
        assert protocol.requests >= 130
        assert protocol.min_rounds <= protocol.max_rounds
        assert protocol.min_time_s <= protocol.max_time_s
        assert 2 * protocol.warm_up_window_s <= protocol.warm_up_min_s <= protocol.warm_up_cap_s
    for less, more in itertools.pairwise(PROTOCOLS[name] for name in ("quick", "standard", "thorough")):
        assert less.max_rounds < more.max_rounds
        assert less.energy_window_s < more.energy_window_s
        assert less.requests < more.requests
