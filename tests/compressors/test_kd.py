"""Distillation: the loss as written down, which layers the student takes, and a student of another make."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    FlaubertConfig,
    FlaubertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import compressors
from bench.errors import BenchError, InputError, Refusal
from bench.nouns.task import Example
from bench.scratch import train_tokenizer
from compressors import artifact
from compressors.contract import Context
from compressors.kd import Distillation, take_layers
from compressors.shapes import layer_stack
from compressors.variant import parse_variant
from tests.compressors.tiny import (
    EVERY_FAMILY,
    LABELS,
    context_of,
    logits,
    padded_batch,
    tiny,
)

TEACHER = torch.tensor(
    [[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [-2.0, 0.1, 0.4], [1.0, 1.0, 1.0], [0.3, 0.2, 4.0]]
)


def distilled(
    tokenizer: PreTrainedTokenizerBase, dense: PreTrainedModel, removed_share: float = 0.0, **fields: object
) -> tuple[Distillation, PreTrainedModel, Context]:
    """The compressor after `prepare`, its student, and what it was told."""
    part = Distillation(**fields)  # type: ignore[arg-type]
    context = context_of(dense, tokenizer, removed_share, dense_logits=lambda: TEACHER)
    return part, part.prepare(dense, context), context


def batch_of(rows: list[int]) -> dict[str, torch.Tensor]:
    """A training batch of the rows with these numbers."""
    texts = padded_batch(rows=len(rows))
    return {**texts, "labels": torch.tensor([row % 3 for row in rows]), "rows": torch.tensor(rows)}


def answer(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> object:
    texts = {key: batch[key] for key in ("input_ids", "attention_mask")}
    return model.eval()(**texts, output_hidden_states=True)


def by_hand(
    student: torch.Tensor, rows: list[int], teacher: torch.Tensor, temperature: float, soft_share: float
) -> float:
    """The same loss in plain Python: each row's KL and cross-entropy, their means, the mixture."""
    soft = hard = 0.0
    for row, own in zip(rows, student.tolist(), strict=True):
        taught = softmax([value / temperature for value in teacher[row].tolist()])
        said = softmax([value / temperature for value in own])
        soft += sum(p * (math.log(p) - math.log(q)) for p, q in zip(taught, said, strict=True))
        hard += -math.log(softmax(own)[row % 3])
    return (soft_share * temperature**2 * soft + (1 - soft_share) * hard) / len(rows)


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize(
    ("temperature", "soft_share"), [(2.0, 0.9), (1.0, 0.9), (4.0, 0.5), (2.0, 1.0), (2.0, 0.0)]
)
def test_the_loss_is_the_mixture_of_soft_and_hard_targets(
    tokenizer: PreTrainedTokenizerBase, temperature: float, soft_share: float
) -> None:
    part, student, context = distilled(tokenizer, tiny(), temperature=temperature, soft_share=soft_share)
    rows = [3, 0, 4, 1]
    batch = batch_of(rows)
    outputs = answer(student, batch)
    expected = by_hand(outputs.logits, rows, TEACHER, temperature, soft_share)  # type: ignore[attr-defined]
    assert part.loss(student, batch, outputs, context).item() == pytest.approx(expected, rel=1e-5)


def test_the_mixture_is_nine_to_one_at_temperature_two() -> None:
    assert (Distillation().temperature, Distillation().soft_share) == (2.0, 0.9)
    assert Distillation.replaces_cross_entropy
    assert Distillation.needs_teacher


@pytest.mark.parametrize(
    ("family", "share", "matched"),
    [
        ("bert", 0.0, False),
        ("bert", 0.25, False),
        ("bert", 0.49, False),
        ("bert", 0.75, True),
        *((family, 0.5, True) for family in EVERY_FAMILY),
    ],
)
def test_hidden_states_are_matched_from_half_pruning_on(
    tokenizer: PreTrainedTokenizerBase, family: str, share: float, matched: bool
) -> None:
    dense = tiny(family, layers=4)
    part, student, context = distilled(tokenizer, dense, share)
    assert part.needs_hidden_states(context) == matched
    rows = [0, 1, 2]
    batch = batch_of(rows)
    outputs = answer(student, batch)
    expected = by_hand(outputs.logits, rows, TEACHER, 2.0, 0.9)  # type: ignore[attr-defined]
    if matched:
        own, taught = outputs.hidden_states, answer(tiny(family, layers=4), batch).hidden_states  # type: ignore[attr-defined]
        real = batch["attention_mask"].bool()
        errors = [(own[1] - taught[2])[real].pow(2).mean(), (own[2] - taught[4])[real].pow(2).mean()]
        expected += (sum(errors) / 2).item()
    assert part.loss(student, batch, outputs, context).item() == pytest.approx(expected, rel=1e-4)


def test_hidden_states_of_padding_are_not_matched(tokenizer: PreTrainedTokenizerBase) -> None:
    part, student, context = distilled(tokenizer, tiny(layers=4), 0.5)
    batch = batch_of([0, 1, 2])
    outputs = answer(student, batch)
    before = part.loss(student, batch, outputs, context)
    for states in outputs.hidden_states:  # type: ignore[attr-defined]
        states.data[~batch["attention_mask"].bool()] += 100
    assert part.loss(student, batch, outputs, context).item() == pytest.approx(before.item())


def test_the_teacher_is_dense_in_eval_mode_and_is_not_trained(tokenizer: PreTrainedTokenizerBase) -> None:
    dense = tiny(layers=4, hidden_dropout_prob=0.5)
    part, student, context = distilled(tokenizer, dense.train(), 0.5)
    student.train()
    batch = batch_of([0, 1])
    assert not part._teacher.training
    outputs = answer(student, batch)
    part.loss(student, batch, outputs, context).backward()
    assert all(parameter.grad is None for parameter in part._teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.bert.encoder.parameters())


@pytest.mark.parametrize(
    ("depth", "layers", "taken"),
    [
        (12, "half", [1, 3, 5, 7, 9, 11]),
        (4, "half", [1, 3]),
        (5, "half", [1, 4]),
        (1, "half", [0]),
        (12, "all", list(range(12))),
        (12, "3", [3, 7, 11]),
        (12, "4", [2, 5, 8, 11]),
        (12, "12", list(range(12))),
        (12, "1", [11]),
        (12, "7", [0, 2, 4, 5, 7, 9, 11]),
    ],
)
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_layers_are_taken_evenly(depth: int, layers: str, taken: list[int], family: str) -> None:
    dense = tiny(family, layers=depth)
    student, which = take_layers(dense, layers)
    assert which == taken
    assert student.config.num_hidden_layers == len(taken)
    assert dense.config.num_hidden_layers == depth
    encoder, whole = student.base_model.encoder.layer, dense.base_model.encoder.layer
    assert len(encoder) == len(taken)
    for layer, number in zip(encoder, taken, strict=True):
        weight = layer.attention.self.query.weight
        assert torch.equal(weight, whole[number].attention.self.query.weight)
        assert weight.data_ptr() != whole[number].attention.self.query.weight.data_ptr()


def test_a_student_of_full_depth_starts_as_dense(tokenizer: PreTrainedTokenizerBase) -> None:
    dense = tiny(layers=3)
    _, student, _ = distilled(tokenizer, dense, layers="all")
    assert student is not dense
    assert torch.equal(logits(student), logits(dense))


def test_more_layers_than_dense_has_are_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(Refusal, match="layers=3 is more than the 2 layers of dense"):
        distilled(tokenizer, tiny(layers=2), layers="3")


@pytest.mark.parametrize("family", sorted({*EVERY_FAMILY} - {"albert"}))
def test_layers_are_taken_whatever_the_family_calls_them(family: str) -> None:
    dense = tiny(family, layers=4)
    student, taken = take_layers(dense, "half")
    assert taken == [1, 3]
    whole, left = (getattr(*layer_stack(model)) for model in (dense, student))
    assert len(left) == 2
    for layer, number in zip(left, taken, strict=True):
        own, dense_own = layer.state_dict(), whole[number].state_dict()
        assert all(torch.equal(own[name], dense_own[name]) for name in dense_own)


def test_a_layer_that_is_shared_is_run_fewer_times() -> None:
    dense = tiny("albert", layers=4)
    student, taken = take_layers(dense, "half")
    assert taken == [1, 3]
    batch = padded_batch()
    states, dense_states = (answer(model, batch).hidden_states for model in (student, dense))  # type: ignore[attr-defined]
    assert len(states) == 3
    assert all(torch.equal(own, same) for own, same in zip(states, dense_states, strict=False))
    assert dense.config.num_hidden_layers == 4


@pytest.mark.parametrize("settings", [{"inner_group_num": 2}, {"num_hidden_groups": 2}])
def test_several_shared_layers_are_not_taken_apart(settings: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="albert model of several shared layers"):
        take_layers(tiny("albert", layers=2, **settings), "half")


def test_layers_in_lists_that_belong_together_are_not_taken_apart() -> None:
    settings = FlaubertConfig(vocab_size=20, emb_dim=8, n_layers=2, n_heads=2)
    with pytest.raises(Refusal, match="a flaubert model has no one list of 2 layers"):
        take_layers(FlaubertForSequenceClassification(settings), "half")


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_a_student_reloads(tokenizer: PreTrainedTokenizerBase, tmp_path: Path, family: str) -> None:
    _, student, _ = distilled(tokenizer, tiny(family, layers=4))
    assert student.config.num_hidden_layers == 2
    artifact.save(student, tokenizer, parse_variant("kd"), tmp_path)
    assert torch.equal(logits(compressors.load(tmp_path)), logits(student))


def test_a_pruned_dense_model_can_be_distilled(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    variant = parse_variant("bmp40")
    dense = tiny(layers=4)
    context = context_of(dense, tokenizer)
    masked = variant.parts[0].prepare(dense, context)
    with torch.no_grad():
        for i, layer in enumerate(variant.parts[0]._layers):  # type: ignore[attr-defined]
            layer.neurons.scores.fill_(-i)
    pruned = variant.parts[0].finish(masked, context)
    assert len(set(pruned.config.layer_ffn_widths)) > 1
    _, student, _ = distilled(tokenizer, pruned)
    artifact.save(student, tokenizer, parse_variant("kd"), tmp_path)
    assert torch.equal(logits(compressors.load(tmp_path)), logits(student))


# A student of another make


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A checkpoint of another family, with its own tokenizer and its own order of the classes."""
    folder = tmp_path / "foreign"
    own = train_tokenizer([Example("entirely other words", 0)], 16)
    artifact.save(tiny("roberta", labels=("blue", "red", "green")), own, parse_variant("dense"), folder)
    return folder


def test_a_foreign_student_is_taught_in_its_own_order_of_classes(
    tokenizer: PreTrainedTokenizerBase, foreign: Path
) -> None:
    part, student, context = distilled(tokenizer, tiny(), student=str(foreign))
    assert student.config.model_type == "roberta"
    assert list(student.config.id2label.values()) == ["blue", "red", "green"]
    assert context.tokenizer.get_vocab() != tokenizer.get_vocab()
    rows = [0, 2, 4]
    batch = batch_of(rows)
    outputs = answer(student, batch)
    in_its_order = TEACHER[:, [2, 0, 1]]
    expected = by_hand(outputs.logits, rows, in_its_order, 2.0, 0.9)  # type: ignore[attr-defined]
    assert part.loss(student, batch, outputs, context).item() == pytest.approx(expected, rel=1e-5)


def test_a_foreign_student_with_other_classes_gets_a_head_in_the_tasks_order(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    artifact.save(tiny(labels=("x", "y")), tokenizer, parse_variant("dense"), tmp_path)
    part, student, _ = distilled(tokenizer, tiny(labels=("green", "blue", "red")), student=str(tmp_path))
    assert tuple(student.config.id2label.values()) == LABELS
    assert torch.equal(part._logits, TEACHER[:, [2, 0, 1]])


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_a_student_may_be_of_any_family(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, family: str
) -> None:
    artifact.save(tiny(family), tokenizer, parse_variant("dense"), tmp_path)
    part, student, context = distilled(tokenizer, tiny(), student=str(tmp_path))
    assert student.config.model_type == family
    batch = batch_of([0, 2, 4])
    part.loss(student, batch, answer(student, batch), context).backward()
    encoder = student.base_model.transformer if family == "distilbert" else student.base_model.encoder
    gradients = [parameter.grad for parameter in encoder.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_a_foreign_student_says_that_its_hidden_states_are_not_matched(
    tokenizer: PreTrainedTokenizerBase, foreign: Path
) -> None:
    part, _, context = distilled(tokenizer, tiny(), 0.75, student=str(foreign))
    assert not part.needs_hidden_states(context)
    assert context.notes == ["kd: the hidden states of another checkpoint match no layer of dense"]
    _, _, lightly = distilled(tokenizer, tiny(), 0.25, student=str(foreign))
    assert lightly.notes == []


@pytest.mark.parametrize("student", ["/no/such/model", "./nothing"])
def test_a_student_that_is_not_there_is_refused(tokenizer: PreTrainedTokenizerBase, student: str) -> None:
    with pytest.raises(InputError, match="no such model directory") as raised:
        distilled(tokenizer, tiny(), student=student)
    assert isinstance(raised.value, BenchError)
