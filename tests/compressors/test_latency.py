"""Times of sub-layers: what is measured, and the table made of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressors.latency import LatencyTable, knots, measure_latency, probe, rising, usual_batch
from compressors.shapes import layer_shapes
from tests.compressors.tiny import FAMILIES, FFN, HEADS, logits, padded_batch, tiny

TIMES_S = st.lists(st.floats(-1, 1), min_size=1, max_size=6)


@given(times_s=TIMES_S)
def test_times_begin_at_nothing_and_never_fall(times_s: list[float]) -> None:
    table = rising(list(range(1, len(times_s) + 1)), np.array(times_s))
    values = list(table.values())
    assert list(table) == list(range(len(times_s) + 1))
    assert values[0] == 0
    assert values == sorted(values)


@given(times_s=TIMES_S)
def test_times_that_rise_already_are_kept(times_s: list[float]) -> None:
    measured = np.sort(np.abs(times_s))
    assert list(rising(list(range(1, len(measured) + 1)), measured).values())[1:] == pytest.approx(measured)


def test_between_measured_numbers_times_are_interpolated() -> None:
    table = LatencyTable(5.0, {0: 0.0, 1: 2.0, 4: 8.0}, {0: 0.0, 8: 4.0, 16: 4.0})
    assert table.attention_s(np.array([0, 1, 2, 4])).tolist() == [0, 2, 4, 8]
    assert table.ffn_s(12) == 4.0
    assert table.model_s([(2, 16), (0, 0)]) == 5.0 + 4.0 + 4.0


@pytest.mark.parametrize(
    ("smallest", "full", "expected"),
    [
        (1, 12, [1, 3, 6, 9, 12]),
        (1, 1, [1]),
        (1, 4, [1, 2, 3, 4]),
        (8, 1536, [8, 384, 768, 1152, 1536]),
        (8, 8, [8]),
        (100, 128, [100, 128]),
    ],
)
def test_the_ends_and_quarters_are_measured(smallest: int, full: int, expected: list[int]) -> None:
    assert knots(smallest, full) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_probe_has_its_shape_in_every_layer_and_shares_the_rest(family: str) -> None:
    model = tiny(family, layers=3)
    before = logits(model)
    for heads, width in ((0, 0), (1, 0), (0, 8), (HEADS, FFN)):
        made = probe(model, heads, width)
        assert set(layer_shapes(made)) == {(heads, width)}
        assert logits(made).shape == before.shape
        assert made.get_input_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(logits(model), before)


def test_a_measured_table_covers_every_shape() -> None:
    batch = {**padded_batch(), "labels": torch.zeros(5, dtype=torch.long)}
    table = measure_latency(tiny(), batch, multiple=8)
    assert table.rest_s > 0
    assert list(table.heads_s) == [0, 1, 2, 3, 4]
    assert list(table.widths_s) == [0, 8, 16, 32, 48, 64]
    every = table.ffn_s(np.arange(FFN + 1))
    assert (np.diff(every) >= 0).all()


def test_the_usual_batch_is_whole_and_of_median_length() -> None:
    shapes = [(4, 9), (4, 7), (4, 20), (3, 8)]
    batches = [
        {"input_ids": torch.zeros(shape, dtype=torch.long), "labels": torch.zeros(shape[0])}
        for shape in shapes
    ]
    assert usual_batch(batches) is batches[0]
