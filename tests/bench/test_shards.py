"""Sharing out a sweep: every variant is made once, nothing is trained twice, and no shard has much more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError
from bench.options import Options
from bench.plan import Plan, make_plan
from bench.shards import cost, notes_on, read_shard, share, together
from compressors.presets import expand
from compressors.variant import Variant
from tests.commands import write_rows

PRUNINGS = ["", *(f"bmp{percent}" for percent in range(10, 90, 10))]
WORDS = [
    "+".join(part for part in (pruning, *rest) if part)
    for pruning in PRUNINGS
    for rest in (("kd",), ("kd", "int8"), ("mp",), ("int8",), ("sorted",), ("",))
]
SWEEPS = st.lists(st.sampled_from([word for word in WORDS if word]), min_size=1, max_size=30).map(
    lambda words: expand(",".join(words), "cpu")
)
COUNTS = st.integers(1, 12)


def names(variants: list[Variant]) -> list[str]:
    return [variant.name for variant in variants]


@given(SWEEPS, COUNTS)
def test_the_shards_are_the_whole_sweep_and_share_dense_alone(sweep: list[Variant], count: int) -> None:
    shards = [names(share(sweep, (number, count))) for number in range(1, count + 1)]
    assert {shard[0] for shard in shards} == {"dense"}
    assert sorted(name for shard in shards for name in shard[1:]) == sorted(names(sweep)[1:])


@given(SWEEPS, COUNTS)
def test_a_shard_keeps_the_order_of_the_sweep(sweep: list[Variant], count: int) -> None:
    place = {name: at for at, name in enumerate(names(sweep))}
    for number in range(1, count + 1):
        own = [place[name] for name in names(share(sweep, (number, count)))]
        assert own == sorted(own)


@given(SWEEPS, COUNTS)
def test_no_training_is_in_two_shards(sweep: list[Variant], count: int) -> None:
    trained_in: dict[str, set[int]] = {}
    for number in range(1, count + 1):
        for variant in share(sweep, (number, count)):
            if variant.trains:
                trained_in.setdefault(variant.trained.name, set()).add(number)
    assert all(len(numbers) == 1 for numbers in trained_in.values())


@given(SWEEPS, COUNTS)
def test_no_two_shards_differ_by_more_than_the_dearest_group(sweep: list[Variant], count: int) -> None:
    groups = together(sweep)
    loads = [
        sum(cost(group) for group in together(share(sweep, (number, count))))
        for number in range(1, count + 1)
    ]
    assert max(loads) - min(loads) <= max(map(cost, groups), default=0)
    if len(groups) >= count:
        assert min(loads) > 0, "there is something for each"


def test_the_sixteen_of_the_study_are_shared_out_evenly() -> None:
    sixteen = expand("all", "cpu")
    assert [len(share(sixteen, (number, 5))) - 1 for number in range(1, 6)] == [3] * 5


def test_without_a_shard_a_run_has_all_variants() -> None:
    sweep = expand("modern", "cpu")
    assert share(sweep, None) == sweep
    assert notes_on(sweep, None) == []


def test_a_shard_beyond_the_groups_has_dense_alone_and_says_so() -> None:
    sweep = expand("bmp50,bmp50+int8", "cpu")
    assert names(share(sweep, (1, 2))) == ["dense", "bmp50", "bmp50+int8"]
    alone = share(sweep, (2, 2))
    assert names(alone) == ["dense"]
    assert notes_on(alone, (2, 2)) == ["shard 2/2 has dense alone: there is no more to share out"]
    assert notes_on(share(sweep, (1, 2)), (1, 2)) == []


@given(st.integers(1, 9999), st.integers(1, 9999))
def test_a_shard_is_read_as_it_is_written(number: int, count: int) -> None:
    if number <= count:
        assert read_shard(f"{number}/{count}") == (number, count)
    else:
        with pytest.raises(InputError):
            read_shard(f"{number}/{count}")


@pytest.mark.parametrize(
    "text", ["", "2", "0/4", "5/4", "1/0", "-1/2", "1/2/3", "a/b", "1.0/2", "١/٢", "1/99999"]
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"^--shard .*: write I/N with I from 1 to N, such as 2/4$"):
        read_shard(text)


def test_no_shard_is_none() -> None:
    assert read_shard(None) is None


def test_a_plan_has_the_shards_variants_and_names_the_whole_sweep(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.csv", 60)

    def planned(number: int) -> Plan:
        asked = Options(train=str(rows), test_split=0.3, variants="mp,int8", device="cpu", shard=(number, 3))
        return make_plan(asked)

    plans = [planned(number) for number in (1, 2, 3)]
    assert [plan.config.variants for plan in plans] == [["dense", "mp"], ["dense", "int8"], ["dense"]]
    assert {tuple(plan.config.sweep) for plan in plans} == {("dense", "mp", "int8")}
    assert [[note for note in plan.task.notes if "has dense alone" in note] for plan in plans[:2]] == [[], []]
    assert "shard 3/3 has dense alone: there is no more to share out" in plans[2].task.notes
    assert make_plan(Options(train=str(rows), test_split=0.3, variants="mp", device="cpu")).config.sweep == []
