"""Break-even counts: what is repaid by what, how sure that is, and when nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.break_even import MODELLED, add_break_even
from bench.meters import energy
from bench.meters.energy import Energy, EnergyWindow
from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import Result
from tests.bench.meters.clockwork import Tape
from tests.bench.meters.documents import run_of

SOURCE = "RAPL, CPU packages, less idle"
PER_TEXT = "inference_energy_per_sample"
Spread = tuple[float, float]
"""A value, and how far its interval reaches to either side."""


def per_text(joules: Spread, source: str = SOURCE) -> Measurement:
    value, reach = joules
    return measured(PER_TEXT, value, source, (value - reach, value + reach))


def compressing(joules: float, source: str = SOURCE) -> Measurement:
    return measured("compress_energy", joules, source)


def row(variant: str, seed: int = 0, **metrics: Measurement) -> Result:
    return Result(variant=variant, seed=seed, status="ok", metrics=metrics)


def dense(joules: Spread = (3.0, 0.3), seed: int = 0) -> Result:
    return row("dense", seed, inference_energy_per_sample=per_text(joules))


def bmp50(spent_j: float = 1000.0, joules: Spread = (1.0, 0.4), seed: int = 0) -> Result:
    metrics = {"compress_energy": compressing(spent_j), PER_TEXT: per_text(joules)}
    return row("bmp50", seed, **metrics)


def found(*rows: Result) -> Measurement | str:
    """What the last row then says."""
    add_break_even(run_of(*rows))
    return rows[-1].metrics.get("break_even") or rows[-1].unavailable["break_even"]


def counted(*rows: Result) -> tuple[float, float, float]:
    """The last row's count, between the ends of its interval."""
    count = found(*rows)
    assert isinstance(count, Measurement)
    assert count.ci_low is not None
    assert count.ci_high is not None
    assert not count.estimated
    return count.ci_low, count.value, count.ci_high


def test_it_is_what_compressing_took_over_what_a_text_saves() -> None:
    low, texts, high = counted(dense(), bmp50())
    assert texts == 500
    assert (low, high) == pytest.approx((1000 / 2.5, 1000 / 1.5)), "0.3 and 0.4 make 0.5 either way"


lopsided = st.tuples(st.floats(2.0, 4.0), st.floats(0.01, 0.4), st.floats(0.01, 0.4))
energies = st.tuples(st.floats(1.0, 1e7), lopsided, lopsided)


def pair(
    spent_j: float, before: tuple[float, ...], own: tuple[float, ...], factor: float = 1.0
) -> list[Result]:
    """Dense and a variant that takes a third of its own figure, by a sensor that is off by a factor."""
    made = [
        measured(PER_TEXT, factor * value, SOURCE, (factor * (value - down), factor * (value + up)))
        for value, down, up in (before, tuple(part / 3 for part in own))
    ]
    spent = compressing(factor * spent_j)
    return [
        row("dense", inference_energy_per_sample=made[0]),
        row("bmp50", inference_energy_per_sample=made[1], compress_energy=spent),
    ]


@given(energies, st.floats(0.01, 100), st.floats(1, 10))
def test_what_holds_for_every_count(
    joules: tuple[float, tuple[float, ...], tuple[float, ...]], factor: float, more: float
) -> None:
    spent_j, before, own = joules
    low, texts, high = counted(*pair(spent_j, before, own))
    assert 0 < low < texts < high
    assert counted(*pair(spent_j, before, own, factor)) == pytest.approx((low, texts, high))
    assert counted(*pair(more * spent_j, before, own)) == pytest.approx(
        (more * low, more * texts, more * high)
    )
    surer = (before[0], before[1] / 2, before[2] / 2)
    assert low < counted(*pair(spent_j, surer, own))[0]
    assert counted(*pair(spent_j, surer, own))[2] < high


@pytest.mark.parametrize(
    ("idle_w", "dense_j", "own_j", "least", "most"),
    [(0.0, 1.5, 0.0, 0.935, 0.965), (0.75, 0.0, 0.0, 0.94, 0.985), (0.5, 1.0, 1.0, 0.95, 0.99)],
)
def test_the_interval_holds_the_truth_at_least_19_times_in_20(
    monkeypatch: pytest.MonkeyPatch, idle_w: float, dense_j: float, own_j: float, least: float, most: float
) -> None:
    """Of 20 J a text saved, by sections as the energy window reads them, with such noise in each of them.

    Just so often where one noise is all there is; more often where several are put together.
    """
    rng = np.random.default_rng(11)

    def window(joules: float, noise_j: float) -> Measurement:
        idle = [Energy(2.0 * watts, 2.0) for watts in rng.normal(5.0, idle_w, 5)]
        work = [Energy(2.0 * 5.0 + own, 2.0) for own in rng.normal(joules, noise_j, 5)]
        monkeypatch.setattr(energy, "open_energy_meter", lambda device: Tape([*idle, *work]))
        opened = EnergyWindow("cpu", idle_s=0.0)
        for _ in range(4):
            opened.lap(1)
        return opened.close(PER_TEXT).metrics[PER_TEXT]

    held = []
    for _ in range(1000):
        before, own = window(35.0, dense_j), window(15.0, own_j)
        spent = compressing(1000.0, own.source)
        variant = row("bmp50", inference_energy_per_sample=own, compress_energy=spent)
        low, _, high = counted(row("dense", inference_energy_per_sample=before), variant)
        held.append(low <= 1000 / 20 <= high)
    assert least <= np.mean(held) <= most


@pytest.mark.parametrize(
    ("joules", "reason"),
    [
        ((2.9, 0.4), "the energy saved is not shown to be above zero: 0.1 J a text, 95 % -0.4 to 0.6 J"),
        ((3.1, 0.4), "the energy saved is not shown to be above zero: -0.1 J a text, 95 % -0.6 to 0.4 J"),
        ((5.0, 0.4), "it uses more energy than dense, so it is never repaid: 2 J a text, 95 % 1.5 to 2.5 J"),
    ],
)
def test_what_is_not_shown_to_save_is_never_said_to_be_repaid(joules: Spread, reason: str) -> None:
    said = found(dense(), bmp50(joules=joules))
    assert isinstance(said, str)
    assert said.startswith(reason)


@pytest.mark.parametrize("name", ["compress_energy", PER_TEXT, "dense"])
def test_modelled_joules_are_never_counted(name: str) -> None:
    before, own = dense(), bmp50()
    changed, metric = (before, PER_TEXT) if name == "dense" else (own, name)
    changed.metrics[metric] = changed.metrics[metric].model_copy(update={"estimated": True})
    assert found(before, own) == MODELLED


def test_energies_of_different_sources_are_not_put_together() -> None:
    own = bmp50()
    own.metrics["compress_energy"] = compressing(1000.0, "NVML energy counter, GPU only, less idle")
    said = found(dense(), own)
    assert said == (
        "the energies come from different sources: NVML energy counter, GPU only, less idle; "
        "RAPL, CPU packages, less idle"
    )


def test_joules_of_two_machines_are_not_put_together() -> None:
    elsewhere = bmp50().model_copy(update={"machine": "abc"})
    assert found(dense(), elsewhere) == "its energy was measured on another machine than dense's"


def test_what_is_missing_is_named_with_its_reason() -> None:
    own = bmp50()
    del own.metrics["compress_energy"]
    own.unavailable["compress_energy"] = "the work took 2.0 s"
    assert found(dense(), own) == "compress_energy is missing: the work took 2.0 s"
    unread = row("dense")
    assert found(unread, bmp50()) == f"dense's {PER_TEXT} is missing: it was not measured"
    assert found(dense(seed=1), bmp50()) == "dense was not measured at this seed"
    single = bmp50()
    single.metrics[PER_TEXT] = measured(PER_TEXT, 1.0, SOURCE)
    assert found(dense(), single) == "the energy of a text has no interval"


def test_each_seed_is_compared_with_its_own_dense() -> None:
    rows = [dense(seed=0), dense((2.0, 0.3), seed=1), bmp50(seed=0), bmp50(seed=1)]
    add_break_even(run_of(*rows))
    assert [rows[2].metrics["break_even"].value, rows[3].metrics["break_even"].value] == [500, 1000]
    assert all("break_even" in rows[i].unavailable for i in (0, 1))


def test_done_again_it_is_the_same_and_follows_what_was_measured_anew() -> None:
    run = run_of(dense(), bmp50(), Result(variant="kd", seed=0, status="failed", reason="memory"))
    add_break_even(run)
    once = run.model_dump_json()
    add_break_even(run)
    assert run.model_dump_json() == once
    assert "break_even" not in run.results[2].unavailable
    run.results[1].metrics[PER_TEXT] = per_text((5.0, 0.1))
    add_break_even(run)
    assert "break_even" not in run.results[1].metrics
    assert "never repaid" in run.results[1].unavailable["break_even"]


def test_what_was_taken_over_counts_its_original_cost() -> None:
    cached = bmp50()
    cached.cached = ["compress"]
    assert counted(dense(), cached) == counted(dense(), bmp50())
