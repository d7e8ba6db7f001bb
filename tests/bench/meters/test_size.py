"""What is counted: parameters, weights on disk, and FLOPs against a count by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.meters.size import flops_of, measure_size, weights_size
from tests.bench.meters.conftest import FFN, HIDDEN, LABELS, LAYERS, Open

ENCODER = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * FFN)


def flops_by_hand(length: int) -> int:
    """2 x multiply-adds: projections and feed-forward per token, scores and their sums, pooler, head."""
    attention = LAYERS * 2 * length * length * HIDDEN
    head = HIDDEN * HIDDEN + HIDDEN * len(LABELS)
    return 2 * (length * ENCODER + attention + head)


@pytest.mark.parametrize("length", [1, 7, 32])
def test_flops_are_those_counted_by_hand(subject: Open, length: int) -> None:
    assert flops_of(subject("dense"), length) == flops_by_hand(length)


def test_flops_do_not_depend_on_the_precision(subject: Open) -> None:
    dense = subject("dense")
    assert flops_of(dense.again(torch.bfloat16), 9) == flops_of(dense, 9)


def test_sizes_of_dense_over_itself(subject: Open, tiny: Path) -> None:
    dense = subject("dense")
    found = measure_size(dense, dense)
    value = {name: metric.value for name, metric in found.metrics.items()}
    vocabulary = dense.model.config.vocab_size
    embeddings = (vocabulary + 64 + 2) * HIDDEN + 2 * HIDDEN
    biases_and_norms = LAYERS * (4 * HIDDEN + FFN + HIDDEN + 4 * HIDDEN)
    head = HIDDEN * HIDDEN + HIDDEN + HIDDEN * len(LABELS) + len(LABELS)
    assert value["encoder_parameters"] == ENCODER
    assert value["parameters"] == embeddings + ENCODER + biases_and_norms + head
    assert value["encoder_reduction"] == 0
    assert value["disk_size"] == (tiny / "model.safetensors").stat().st_size == weights_size(tiny)
    assert value["disk_size"] == pytest.approx(4 * value["parameters"], rel=0.1)
    lengths = [len(row["input_ids"]) for row in dense.rows]
    assert value["flops_per_sample"] == flops_by_hand(round(sum(lengths) / len(lengths)))
    assert [(layer.heads, layer.ffn_width) for layer in found.layers] == [(2, FFN)] * LAYERS


def test_a_shallower_variant_is_smaller_by_its_share(subject: Open) -> None:
    dense, variant = subject("dense"), subject("kd")
    variant.model.bert.encoder.layer = variant.model.bert.encoder.layer[:1]
    found = measure_size(dense, variant)
    assert found.metrics["encoder_reduction"].value == pytest.approx(0.5)
    assert len(found.layers) == 1


def test_an_unknown_family_has_a_reason_and_the_rest(subject: Open) -> None:
    dense = subject("dense")
    dense.model.config.model_type = "another"
    found = measure_size(dense, dense)
    assert found.unavailable.keys() == {"encoder_parameters", "encoder_reduction"}
    assert found.layers == []
    assert found.metrics["parameters"].value > 0


def test_a_known_encoder_is_counted_beside_an_unknown_dense(subject: Open) -> None:
    dense, variant = subject("dense"), subject("kd")
    dense.model.config.model_type = "unheard-of"
    found = measure_size(dense, variant)
    assert found.metrics["encoder_parameters"].value == ENCODER
    assert found.unavailable == {"encoder_reduction": "the encoder of a unheard-of model is not known"}
