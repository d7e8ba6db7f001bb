"""Distillation: the loss as written down, hidden states matched, students and teachers of another make."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase, set_seed

import compressors
from bench.encoding import encode
from bench.errors import BenchError, InputError, Refusal
from bench.meters.findings import Findings
from bench.nouns.task import Example
from bench.scratch import train_tokenizer
from bench.steps.common import label_numbers
from bench.training import Schedule, fine_tune
from compressors import artifact
from compressors.contract import Compressor, Context
from compressors.kd import Distillation, dynamic_match, training_logits
from compressors.variant import check, parse_variant
from tests.compressors.tiny import (
    EVERY_FAMILY,
    HIDDEN,
    LABELS,
    TOY_ROWS,
    context_of,
    logits,
    padded_batch,
    tiny,
    toy_batches,
    toy_tokenizer,
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
    assert Distillation().needs_teacher


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


def test_a_student_of_full_depth_starts_as_dense(tokenizer: PreTrainedTokenizerBase) -> None:
    dense = tiny(layers=3)
    _, student, _ = distilled(tokenizer, dense, layers="all")
    assert student is not dense
    assert torch.equal(logits(student), logits(dense))


def test_more_layers_than_dense_has_are_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(Refusal, match="layers=3 is more than the 2 layers of dense"):
        distilled(tokenizer, tiny(layers=2), layers="3")


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


# Hidden states matched by choice


@pytest.mark.parametrize(("share", "meant"), [(0.25, "none"), (0.75, "fixed")])
def test_auto_is_fixed_for_heavy_pruning_and_else_none(
    tokenizer: PreTrainedTokenizerBase, share: float, meant: str
) -> None:
    losses = []
    for match in ("auto", meant, "fixed" if meant == "none" else "none"):
        part, student, context = distilled(tokenizer, tiny(layers=4), share, match=match)
        batch = batch_of([0, 1, 2])
        losses.append(part.loss(student, batch, answer(student, batch), context).item())
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def states(*values: float) -> list[torch.Tensor]:
    """One layer's hidden states per value: two tokens that say the same."""
    return [torch.full((2, 3), value, requires_grad=True) for value in values]


@pytest.mark.parametrize(
    ("teacher", "student", "matched"),
    [
        ((0.0, 5.0, 9.0), (1.0, 2.0, 5.5, 8.0), (0, 2, 3)),
        ((0.0, 5.0), (3.0, -0.5, 4.0), (1, 2)),
        ((0.0, 2.0), (0.5,), (0, 0)),
        ((3.0, 3.0, 8.0), (3.0, 7.0), (0, 0, 1)),
        ((0.0, 10.0), (9.0, 0.0), (0, 0)),  # the nearest layers, 1 and 0, would go back
        ((0.0, 10.0, 5.0), (4.0, 11.0, 0.0), (0, 1, 2)),
    ],
)
def test_each_teacher_layer_is_matched_with_the_nearest_layer_that_does_not_go_back(
    teacher: tuple[float, ...], student: tuple[float, ...], matched: tuple[int, ...]
) -> None:
    own = states(*student)
    error = dynamic_match(states(*teacher), own)
    expected = sum((student[j] - told) ** 2 for told, j in zip(teacher, matched, strict=True)) / len(teacher)
    assert error.item() == pytest.approx(expected)
    error.backward()
    pulled = {j for j, layer in enumerate(own) if layer.grad is not None and layer.grad.any()}
    exact = {j for told, j in zip(teacher, matched, strict=True) if student[j] != told}
    assert pulled == exact, "gradients flow to the matched layers alone"


layers_of_values = st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=5)


@given(layers_of_values, layers_of_values)
def test_no_other_match_in_order_has_a_smaller_error(teacher: list[float], student: list[float]) -> None:
    in_order = itertools.combinations_with_replacement(range(len(student)), len(teacher))
    errors = [
        sum((student[j] - told) ** 2 for told, j in zip(teacher, match, strict=True)) for match in in_order
    ]
    found = dynamic_match(states(*teacher), states(*student)).item()
    assert found == pytest.approx(min(errors) / len(teacher), rel=1e-5)


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_a_student_of_full_depth_starts_at_no_distance(
    tokenizer: PreTrainedTokenizerBase, family: str
) -> None:
    dense = tiny(family, layers=3)
    part, student, context = distilled(tokenizer, dense, layers="all", match="dynamic", soft_share=1.0)
    assert part.needs_hidden_states(context)
    batch = batch_of([0, 1, 2])
    outputs = answer(student, batch)
    expected = by_hand(outputs.logits, [0, 1, 2], TEACHER, 2.0, 1.0)  # type: ignore[attr-defined]
    assert part.loss(student, batch, outputs, context).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_a_shallower_student_is_matched_and_the_transformation_learns(
    tokenizer: PreTrainedTokenizerBase, family: str
) -> None:
    part, student, context = distilled(tokenizer, tiny(family, layers=4), layers="3", match="dynamic")
    batch = batch_of([0, 2, 4])
    [group] = part.parameter_groups(student)
    [transform] = group["params"]
    assert torch.equal(transform, torch.eye(HIDDEN))
    part.loss(student, batch, answer(student, batch), context).backward()
    assert transform.grad.any()
    assert all(parameter.grad is None for parameter in part._teacher.parameters())
    assert id(transform) not in map(id, student.parameters())


def test_four_layers_of_a_deep_teacher_are_matched(tokenizer: PreTrainedTokenizerBase) -> None:
    part, _, _ = distilled(tokenizer, tiny(layers=12), layers="all", match="dynamic")
    assert part._taught_by == [2, 5, 8, 11]


SCHEDULE = Schedule(epochs=4, learning_rate=3e-3, batch_size=8, seed=0, device="cpu")
EXAMPLES = [Example(text, LABELS.index(label)) for text, label in TOY_ROWS]


def trained(
    student: PreTrainedModel,
    context: Context,
    folder: Path,
    *parts: Compressor,
    labels: Sequence[int] = (),
    schedule: Schedule = SCHEDULE,
) -> Findings:
    """What the real loop tells of training `student` on the toy task."""
    set_seed(0)
    rows = encode(context.tokenizer, EXAMPLES, 32)
    numbers = labels or label_numbers(student, LABELS, EXAMPLES)
    return fine_tune(student, rows, numbers, parts, context, schedule, folder, lambda *_: None)


def dense_with_logits(tokenizer: PreTrainedTokenizerBase) -> tuple[PreTrainedModel, Context]:
    """A dense model that has learnt nothing, and a context that knows its answers on every row."""
    dense = tiny(layers=4)
    context = context_of(dense, tokenizer)
    found = training_logits(dense, tokenizer, context)
    context.dense_logits = lambda: found
    return dense, context


def test_training_brings_hidden_states_nearer_with_the_transformation_than_without(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    dense, context = dense_with_logits(tokenizer)
    part = Distillation(match="dynamic")
    student = part.prepare(dense, context)
    batch = next(toy_batches(student, tokenizer))

    def error() -> float:
        return part._hidden_state_error(batch, answer(student, batch).hidden_states).item()  # type: ignore[attr-defined]

    before = error()
    trained(student, context, tmp_path, part)
    after = error()
    assert after < 0.8 * before
    part._transform = torch.eye(HIDDEN)
    assert after < error()


def test_pruning_with_dynamic_matching_leaves_an_artifact_without_the_transformation(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    dense, context = dense_with_logits(tokenizer)
    variant = parse_variant("bmp50:block=8,multiple=1+kd:layers=all,match=dynamic")
    context.removed_share = variant.removed_share
    model = dense
    for part in variant.parts:
        model = part.prepare(model, context)
    curve = trained(model, context, tmp_path / "scratch", *variant.parts).training
    assert all(math.isfinite(point["loss"]) for point in curve)
    for part in variant.parts:
        model = part.finish(model, context)
    artifact.save(model, tokenizer, variant, tmp_path)
    assert {name.partition(".")[0] for name in model.state_dict()} == {"bert", "classifier"}
    assert torch.equal(logits(compressors.load(tmp_path)), logits(model))


def test_hidden_states_of_another_width_are_matched_where_the_tokens_are_the_same(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    narrow = tiny("electra", layers=3, hidden_size=HIDDEN // 2, embedding_size=8)
    artifact.save(narrow, tokenizer, parse_variant("dense"), tmp_path)
    part, student, context = distilled(tokenizer, tiny(), student=str(tmp_path), match="dynamic")
    assert part._transform.shape == (HIDDEN // 2, HIDDEN)
    batch = batch_of([0, 2, 4])
    part.loss(student, batch, answer(student, batch), context).backward()
    assert part._transform.grad is not None
    assert part._transform.grad.any()


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_hidden_states_of_other_tokens_are_not_compared(
    tokenizer: PreTrainedTokenizerBase, teacher: Path, role: str
) -> None:
    with pytest.raises(Refusal, match="tokens are not its teacher's; write match=none"):
        distilled(tokenizer, tiny(), 0.0, match="dynamic", **{role: str(teacher)})


@pytest.mark.parametrize(
    ("spec", "part_of_the_error"),
    [
        ("kd:match=nearest", "match=nearest is none of auto, fixed, dynamic, none"),
        ("kd:match=fixed,student=x", "with student or teacher write match=dynamic or none"),
        ("kd:match=fixed,teacher=x", "with student or teacher write match=dynamic or none"),
    ],
)
def test_unusable_recipes_are_refused(spec: str, part_of_the_error: str) -> None:
    with pytest.raises(InputError, match=part_of_the_error) as raised:
        check(parse_variant(spec), "cpu")
    assert len(str(raised.value).splitlines()) == 1


# Another teacher


TEACHERS_CLASSES = ("blue", "red", "green")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa that has learnt the toy task, with its own tokenizer and its own order of the classes."""
    folder = tmp_path_factory.mktemp("teacher")
    own = toy_tokenizer(["zebra quagga", *(text for text, _ in TOY_ROWS)])
    model = tiny("roberta", labels=TEACHERS_CLASSES, max_position_embeddings=64, seed=5).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(15):
        for batch in toy_batches(model, own):
            optimizer.zero_grad()
            F.cross_entropy(model(**batch).logits, batch["labels"]).backward()
            optimizer.step()
    artifact.save(model.eval(), own, parse_variant("dense"), folder)
    return folder


def teachers_answers(folder: Path) -> list[str]:
    """What the teacher calls each training row, one at a time."""
    model, own = artifact.load_model(str(folder)), artifact.load_tokenizer(str(folder))
    return [named(model, own, text) for text, _ in TOY_ROWS]


def named(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    best = int(logits(model, dict(tokenizer(text, return_tensors="pt"))).argmax())
    return str(model.config.id2label[best])


def test_another_teacher_is_asked_in_its_own_tokens_and_classes(
    tokenizer: PreTrainedTokenizerBase, teacher: Path
) -> None:
    assert artifact.load_tokenizer(str(teacher)).get_vocab() != tokenizer.get_vocab()
    part, student, context = distilled(tokenizer, tiny(), teacher=str(teacher))
    assert not part.needs_teacher
    assert part.checkpoints == (str(teacher),)
    assert list(student.config.id2label.values()) == list(LABELS)
    taught = [LABELS[i] for i in part._logits.argmax(-1)]
    assert taught == teachers_answers(teacher)
    assert any(f"kd: {teacher} taught, not dense" in note for note in context.notes)
    assert context.tokenizer is tokenizer


def test_dense_is_not_asked_where_another_teaches(tokenizer: PreTrainedTokenizerBase, teacher: Path) -> None:
    variant = parse_variant(f"kd:teacher={teacher}")
    assert not variant.needs_teacher
    assert parse_variant("bmp25+kd").needs_teacher
    variant.parts[0].prepare(tiny(), context_of(tiny(), tokenizer))


def test_a_student_comes_to_agree_with_another_teacher(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, teacher: Path
) -> None:
    part = Distillation(teacher=str(teacher), soft_share=1.0)
    torch.manual_seed(3)
    dense = BertForSequenceClassification(tiny(initializer_range=0.1).config)
    context = context_of(dense, tokenizer)
    student = part.prepare(dense, context)

    def agreement() -> float:
        own = training_logits(student, tokenizer, context).argmax(-1)
        return own.eq(part._logits.argmax(-1)).float().mean().item()

    before = agreement()
    nonsense = [0] * len(EXAMPLES)
    schedule = replace(SCHEDULE, epochs=12, learning_rate=5e-3)
    curve = trained(student, context, tmp_path, part, labels=nonsense, schedule=schedule).training
    assert curve[-1]["loss"] < curve[0]["loss"] / 2
    assert before < 0.6
    assert agreement() > 0.9


def test_a_foreign_student_may_have_a_foreign_teacher(
    tokenizer: PreTrainedTokenizerBase, foreign: Path, teacher: Path
) -> None:
    part, student, _ = distilled(tokenizer, tiny(), student=str(foreign), teacher=str(teacher))
    assert list(student.config.id2label.values()) == ["blue", "red", "green"]
    assert part.checkpoints == (str(foreign), str(teacher))
    assert [TEACHERS_CLASSES[i] for i in part._logits.argmax(-1)] == teachers_answers(teacher)


def test_another_teacher_of_the_same_tokens_can_be_matched(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    wide = tiny("bert", layers=3, hidden_size=2 * HIDDEN)
    artifact.save(wide, tokenizer, parse_variant("dense"), tmp_path)
    part, student, context = distilled(tokenizer, tiny(), teacher=str(tmp_path), match="dynamic")
    assert part._transform.shape == (HIDDEN, 2 * HIDDEN)
    batch = batch_of([0, 2, 4])
    assert part.loss(student, batch, answer(student, batch), context).isfinite()


def test_heavy_pruning_says_that_another_teachers_hidden_states_are_not_matched(
    tokenizer: PreTrainedTokenizerBase, teacher: Path
) -> None:
    part, _, context = distilled(tokenizer, tiny(), 0.75, teacher=str(teacher))
    assert not part.needs_hidden_states(context)
    assert "kd: the hidden states of another checkpoint match no layer of dense" in context.notes


def test_a_teacher_of_other_classes_is_refused(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    artifact.save(tiny(labels=("x", "y", "z")), tokenizer, parse_variant("dense"), tmp_path)
    with pytest.raises(InputError, match=r"its classes are \['x', 'y', 'z'\]"):
        distilled(tokenizer, tiny(), teacher=str(tmp_path))


def test_a_class_that_only_dense_has_is_refused(tokenizer: PreTrainedTokenizerBase, teacher: Path) -> None:
    with pytest.raises(InputError, match="the teacher has no class 'mauve', which the student has"):
        distilled(tokenizer, tiny(labels=(*LABELS, "mauve")), teacher=str(teacher))


def test_a_teacher_without_a_head_is_refused(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tiny().bert.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="not a fine-tuned classifier"):
        distilled(tokenizer, tiny(), teacher=str(tmp_path))


def test_a_teacher_of_too_few_positions_is_refused(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    artifact.save(tiny(max_position_embeddings=16), tokenizer, parse_variant("dense"), tmp_path)
    with pytest.raises(InputError, match=r"--max-length 40: .* takes 16 tokens at most"):
        distilled(tokenizer, tiny(), teacher=str(tmp_path))


def test_a_plus_inside_a_teachers_path_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "bmp25+kd").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for spec in ("kd:teacher=runs/bmp25+kd", "kd:match=none,teacher=runs/bmp25+kd"):
        variant = parse_variant(f"bmp:amount=0.3+{spec}+mp")
        assert [part.name for part in variant.parts] == ["kd", "bmp", "mp"]
        assert variant.parts[0].checkpoints == ("runs/bmp25+kd",)
