"""What a model has to do: FLOPs and bytes by the formulas, and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.attention.varlen  # defines its operator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import PreTrainedModel

from bench.meters.size import flops_of
from bench.meters.work import FORMULAS, Work, count_work
from bench.nouns.profile import Ceilings
from compressors.pruned import PRUNABLE
from tests.bench.meters.test_ceilings import FIXED
from tests.compressors.tiny import EVERY_FAMILY, VOCABULARY, padded_batch, randomised, tiny

FLOAT = 4
side = st.integers(1, 40)


class Does(nn.Module):
    """Runs a function of tensors, as a model would."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor, **named: torch.Tensor) -> Any:
        return self.function(*args, **named)


def work_of(function: Callable[..., Any], *tensors: torch.Tensor) -> Work:
    """The work of a function of these tensors, called a, b, …"""
    return count_work(Does(function), [dict(zip("abc", tensors, strict=False))])


def flops(work: Work) -> float:
    return work.per_batch(lambda piece: piece.flops)


def moved(work: Work) -> float:
    return work.per_batch(lambda piece: piece.bytes)


def tokens(rows: int, length: int) -> dict[str, torch.Tensor]:
    """Rows without padding."""
    numbers = torch.randint(5, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": numbers, "attention_mask": torch.ones_like(numbers)}


@settings(max_examples=20, deadline=None)
@given(side, side, side)
def test_a_linear_layers_work_is_its_formulas(rows: int, inner: int, columns: int) -> None:
    layer = nn.Linear(inner, columns)
    work = work_of(lambda a: layer(a), torch.ones(rows, inner))
    assert flops(work) == 2 * rows * inner * columns
    assert moved(work) == FLOAT * (rows * inner + inner * columns + columns + rows * columns)
    assert work.dtypes == ["float32"]
    assert work.bound(FIXED) >= flops(work) / FIXED.matmul["float32"]  # type: ignore[operator]


def test_what_only_looks_at_the_same_bytes_moves_none() -> None:
    def look(a: torch.Tensor) -> torch.Tensor:
        return a.view(6, 4).t()[1:].expand(3, 3, 6)

    assert moved(work_of(look, torch.ones(4, 6))) == 0
    assert moved(work_of(lambda a: torch.empty_like(a), torch.ones(4, 6))) == 0


def test_what_changes_in_place_is_read_and_written() -> None:
    assert moved(work_of(lambda a: a.add_(1), torch.ones(10))) == 2 * 10 * FLOAT


def test_an_expanded_tensor_is_read_once() -> None:
    work = work_of(lambda a, b: a + b, torch.ones(8, 16), torch.ones(16).expand(8, 16))
    assert moved(work) == FLOAT * (8 * 16 + 16 + 8 * 16)


def test_of_a_table_only_what_is_looked_up_is_read() -> None:
    table, places = torch.ones(10_000, 8), torch.tensor([3, 5])
    work = work_of(lambda a, b: nn.functional.embedding(a, b), places, table)
    assert moved(work) == 2 * 8 + 2 * (2 * 8 * FLOAT)


def test_a_product_that_no_formula_is_known_of_is_told() -> None:
    with torch.library._scoped_library("bench_tests", "FRAGMENT") as library:
        library.define("odd_matmul(Tensor a, Tensor b) -> Tensor")
        library.impl("odd_matmul", lambda a, b: torch.zeros(len(a), b.shape[1]), "CPU")
        work = work_of(torch.ops.bench_tests.odd_matmul, torch.ones(2, 3), torch.ones(3, 4))
    assert work.unknown == {"bench_tests::odd_matmul"}


@pytest.mark.parametrize("family", ["bert", "distilbert", "albert"])
def test_one_rows_flops_are_those_of_the_table(family: str) -> None:
    work = count_work(tiny(family), [tokens(1, 12)])
    assert flops(work) == flops_of(tiny(family).to("meta"), 12)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 8), st.integers(2, 20))
def test_twice_the_rows_are_twice_the_flops(rows: int, length: int) -> None:
    model = tiny()
    once, twice = (count_work(model, [tokens(count, length)]) for count in (rows, 2 * rows))
    assert flops(twice) == 2 * flops(once)
    assert moved(once) < moved(twice) < 2 * moved(once)
    assert 0 < once.bound(FIXED) < twice.bound(FIXED)  # type: ignore[operator]


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_every_kind_of_module_has_its_work(family: str) -> None:
    parts = count_work(tiny(family), [padded_batch()]).parts(lambda piece: piece.kind)
    assert parts.keys() == {"embeddings", "attention", "feed-forward", "norms", "head", "other"}
    for kind in ("attention", "feed-forward", "head"):
        assert flops(parts[kind]) > 0
    for kind in ("norms", "other"):
        assert flops(parts[kind]) == 0
    assert moved(parts["norms"]) > 0
    assert moved(parts["embeddings"]) > 0
    assert moved(parts["other"]) < 0.2 * sum(map(moved, parts.values()))


@pytest.mark.parametrize("family", sorted(PRUNABLE))
def test_pruned_layers_work_is_less_and_of_the_same_kinds(family: str) -> None:
    whole = count_work(tiny(family), [padded_batch()]).parts(lambda piece: piece.kind)
    less = count_work(pruned(family, [1, 0], [16, 8]), [padded_batch()]).parts(lambda piece: piece.kind)
    assert less.keys() == whole.keys()
    for kind in ("attention", "feed-forward"):
        assert 0 < flops(less[kind]) < flops(whole[kind])
    assert flops(less["head"]) == flops(whole["head"])


def pruned(family: str, heads: Sequence[int], widths: Sequence[int]) -> PreTrainedModel:
    """A tiny model of layers of these shapes; ALBERT has one layer that is run again and again."""
    layers = 1 if family == "albert" else len(heads)
    config = tiny(family, layers=len(heads)).config.to_dict()
    del config["model_type"]
    kinds = PRUNABLE[family]
    shapes = {"layer_heads": list(heads[:layers]), "layer_ffn_widths": list(widths[:layers])}
    return randomised(kinds.model_class(kinds.config_class(**config, **shapes)))


def test_half_the_layers_are_predicted_to_take_half_the_time() -> None:
    whole, half = (count_work(tiny(layers=layers), [padded_batch(8, 32)]) for layers in (12, 6))
    ratio = whole.bound(FIXED) / half.bound(FIXED)  # type: ignore[operator]
    assert 1.8 < ratio < 2


def test_the_bound_is_by_products_or_by_bytes_whichever_takes_longer() -> None:
    work = work_of(lambda a, b: a @ b, torch.ones(64, 64), torch.ones(64, 64))
    slow = Ceilings(matmul={"float32": 1.0}, copies=FIXED.copies, call=0)
    assert work.bound(slow) == pytest.approx(2 * 64**3)
    fast = Ceilings(matmul={"float32": 1e30}, copies=FIXED.copies, call=0)
    assert work.bound(fast) == pytest.approx(3 * 64 * 64 * FLOAT / 8e10)


def test_half_precision_is_counted_as_such_and_has_no_bound_without_a_ceiling() -> None:
    work = count_work(tiny().bfloat16(), [padded_batch()])
    assert work.dtypes[0] == "bfloat16"
    assert work.bound(FIXED) is None


def test_flops_and_bytes_have_bounds_of_their_own_and_the_bound_is_between() -> None:
    work = count_work(tiny(), [padded_batch()])
    assert work.flops_bound(FIXED) == pytest.approx(flops(work) / FIXED.matmul["float32"])
    assert 0.999 * moved(work) / 8e10 <= work.bytes_bound(FIXED) <= moved(work) / 1e10
    parts = work.flops_bound(FIXED) or 0, work.bytes_bound(FIXED)
    assert max(parts) <= (work.bound(FIXED) or 0) <= sum(parts)


def test_each_precisions_flops_are_held_against_their_own_ceiling() -> None:
    def both(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ a + b @ b

    ceilings = FIXED.model_copy(update={"matmul": {"float32": 1e9, "bfloat16": 4e9}})
    work = work_of(both, torch.ones(8, 8), torch.ones(8, 8, dtype=torch.bfloat16))
    assert work.flops_bound(ceilings) == pytest.approx(2 * 8**3 / 1e9 + 2 * 8**3 / 4e9)


def test_calls_are_operators_that_move_anything() -> None:
    def few(a: torch.Tensor) -> torch.Tensor:
        return torch.relu(a.view(6, 4).t().contiguous() + 1)[1:]

    assert work_of(few, torch.ones(4, 6)).calls == 3


def test_attention_over_rows_of_different_length_is_each_rows_own() -> None:
    """On a GPU `unpadded` runs it by one kernel, which a CPU lacks."""
    schema = torch.ops.torch_attn._varlen_attn.default._schema
    names = [argument.name for argument in schema.arguments]
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    query = torch.ones(7, 2, 16)
    ends = torch.tensor([0, 3, 7], dtype=torch.int32)
    counted = FORMULAS[schema.name](query, query, query, ends, ends, 4, 4, False, None, out_val=None)
    alone = 0
    for length in (3, 4):
        row = torch.ones(1, 2, length, 16)
        alone += int(flops(work_of(lambda a: nn.functional.scaled_dot_product_attention(a, a, a), row)))
    assert counted == alone == sum(2 * 2 * 2 * length**2 * 16 for length in (3, 4))


def test_parts_add_up_to_the_whole() -> None:
    work = count_work(tiny(), [padded_batch(), padded_batch(3)])
    for by in (lambda piece: piece.kind, lambda piece: piece.operator, lambda piece: piece.dtype):
        parts = work.parts(by).values()
        assert sum(map(flops, parts)) == pytest.approx(flops(work))
        assert sum(part.bound(FIXED) for part in parts) == pytest.approx(work.bound(FIXED))  # type: ignore[misc]


def test_a_product_that_gives_another_type_is_seen() -> None:
    """As torchao's int8 layers on CUDA ask for it."""
    from torch._higher_order_ops.out_dtype import out_dtype

    a, b = torch.ones(3, 4, dtype=torch.int8), torch.ones(4, 5, dtype=torch.int8)
    work = work_of(lambda a, b: out_dtype(torch.ops.aten.mm.default, torch.int32, a, b), a, b)
    assert flops(work) == 2 * 3 * 4 * 5
    assert work.unknown == set()


def test_quantised_layers_products_are_seen_in_int8() -> None:
    quantisation = pytest.importorskip("torchao.quantization")
    model, plain = tiny(), tiny()
    kind = quantisation.Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    quantisation.quantize_(model.base_model, kind)
    work = count_work(model, [padded_batch()])
    assert work.unknown == set()
    assert work.dtypes[0] == "int8"
    assert flops(work) == flops(count_work(plain, [padded_batch()]))
