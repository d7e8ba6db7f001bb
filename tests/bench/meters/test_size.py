"""What is counted: parameters, weights on disk, and FLOPs against a count by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from bench.meters.size import flops_of, measure_size, weights_size
from bench.meters.subject import Subject
from compressors import artifact
from compressors.artifact import skeleton
from compressors.variant import Variant
from tests.bench.meters.conftest import FFN, HIDDEN, LABELS, LAYERS, Open
from tests.compressors.tiny import EVERY_FAMILY
from tests.compressors.tiny import tiny as tiny_of

ENCODER = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * FFN)


def flops_by_hand(length: int) -> int:
    """2 x multiply-adds: projections and feed-forward per token, scores and their sums, pooler, head."""
    attention = LAYERS * 2 * length * length * HIDDEN
    head = HIDDEN * HIDDEN + HIDDEN * len(LABELS)
    return 2 * (length * ENCODER + attention + head)


def saved(subject: Subject, model: PreTrainedModel, folder: Path) -> Subject:
    """The subject with another model in an artifact of its own."""
    artifact.save(model, subject.tokenizer, Variant(), folder)
    return replace(subject, folder=folder, model=model)


@pytest.mark.parametrize("length", [1, 7, 32])
def test_flops_are_those_counted_by_hand(tiny: Path, length: int) -> None:
    assert flops_of(skeleton(tiny), length) == flops_by_hand(length)


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_flops_without_weights_are_those_of_the_model_at_work(
    subject: Open, tmp_path: Path, family: str
) -> None:
    model = tiny_of(family)
    made = saved(subject("dense"), model, tmp_path)
    tokens = torch.ones(1, 9, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    assert flops_of(skeleton(made.folder), 9) == counter.get_total_flops()


def test_flops_do_not_depend_on_the_precision(subject: Open, tiny: Path, tmp_path: Path) -> None:
    half = saved(subject("mp"), subject("dense").model.to(torch.bfloat16), tmp_path)
    assert flops_of(skeleton(half.folder), 9) == flops_of(skeleton(tiny), 9)


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


def test_a_shallower_variant_is_smaller_by_its_share(subject: Open, tmp_path: Path) -> None:
    dense, model = subject("dense"), subject("kd").model
    model.bert.encoder.layer = model.bert.encoder.layer[:1]
    model.config.num_hidden_layers = 1
    found = measure_size(dense, saved(dense, model, tmp_path))
    assert found.metrics["encoder_reduction"].value == pytest.approx(0.5)
    assert len(found.layers) == 1


def test_an_unknown_family_has_a_reason_and_the_rest(subject: Open, tmp_path: Path) -> None:
    other = saved(subject("dense"), tiny_of("squeezebert"), tmp_path)
    found = measure_size(other, other)
    assert found.unavailable.keys() == {"encoder_parameters", "encoder_reduction"}
    assert found.layers == []
    assert found.metrics["parameters"].value > 0


def test_a_known_encoder_is_counted_beside_an_unknown_dense(subject: Open, tmp_path: Path) -> None:
    dense, variant = saved(subject("dense"), tiny_of("squeezebert"), tmp_path), subject("kd")
    found = measure_size(dense, variant)
    assert found.metrics["encoder_parameters"].value == ENCODER
    assert found.unavailable == {"encoder_reduction": "the encoder of a squeezebert model is not known"}


def test_what_runs_the_model_makes_no_difference(subject: Open) -> None:
    dense = subject("dense")
    run_otherwise = replace(dense, model=torch.nn.Identity())
    assert measure_size(dense, run_otherwise).metrics == measure_size(dense, dense).metrics
