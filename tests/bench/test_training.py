"""The fine-tuning loop on a toy task: it learns, repeats itself, and stops where the loss breaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import (
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from bench.encoding import encode
from bench.meters.findings import Findings
from bench.nouns.task import Example
from bench.steps.common import label_numbers
from bench.training import (
    KEPT_STEP_TIMES,
    Collator,
    Schedule,
    TrainingFailed,
    VariantTrainer,
    fine_tune,
    step_time,
)
from compressors.bmp import BlockMovementPruning
from compressors.contract import Compressor, Context, Phase
from compressors.ft import FineTune
from compressors.kd import Distillation
from compressors.shapes import encoder_weights
from tests.compressors.tiny import LABELS, context_of, tiny, toy_rows

SCHEDULE = Schedule(epochs=8, learning_rate=5e-3, batch_size=8, seed=0, device="cpu")
EXAMPLES = [Example(text, LABELS.index(label)) for text, label in toy_rows(96)]


def fresh(labels: Sequence[str] = LABELS) -> PreTrainedModel:
    """An untrained BERT, the same at each call."""
    config = tiny(labels=labels, initializer_range=0.1).config
    torch.manual_seed(3)
    return BertForSequenceClassification(config)


@dataclass
class Trained:
    """A model after the loop, and what the loop told."""

    model: PreTrainedModel
    found: Findings
    told: list[tuple[str, int, int]]
    context: Context

    @property
    def curve(self) -> list[dict[str, float]]:
        """The loss curve."""
        return self.found.training

    def accuracy(self, tokenizer: PreTrainedTokenizerBase) -> float:
        """Share of new rows whose class the model names correctly."""
        names = self.model.config.id2label
        rows = toy_rows(60, seed=9)
        hits = 0
        for text, label in rows:
            with torch.no_grad():
                best = int(self.model(**tokenizer(text, return_tensors="pt")).logits.argmax())
            hits += names[best] == label
        return hits / len(rows)


def train(
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *parts: Compressor,
    model: PreTrainedModel | None = None,
    schedule: Schedule = SCHEDULE,
    labels: Sequence[int] | None = None,
) -> Trained:
    """Run the loop on the toy task."""
    model = model if model is not None else fresh()
    context = context_of(model, tokenizer)
    told: list[tuple[str, int, int]] = []
    set_seed(schedule.seed)
    found = fine_tune(
        model,
        encode(tokenizer, EXAMPLES, 32),
        label_numbers(model, LABELS, EXAMPLES) if labels is None else labels,
        parts,
        context,
        schedule,
        folder,
        lambda *words: told.append(words),
    )
    return Trained(model, found, told, context)


def test_a_toy_task_is_learnt(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    trained = train(tokenizer, tmp_path)
    assert trained.curve[0]["loss"] == pytest.approx(math.log(3), abs=0.2)
    assert trained.curve[-1]["loss"] < 0.3
    assert trained.accuracy(tokenizer) > 0.9
    assert not trained.model.training


def test_the_curve_and_the_progress_cover_every_step(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    trained = train(tokenizer, tmp_path, FineTune(), schedule=replace(SCHEDULE, epochs=2))
    assert trained.told == [("training", step, 24) for step in range(1, 25)]
    assert [point["step"] for point in trained.curve] == [float(step) for step in range(1, 25)]
    assert trained.context.total_steps == 24


def test_nothing_is_left_on_disk_but_what_was_asked_for(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    train(tokenizer, tmp_path, schedule=replace(SCHEDULE, epochs=1))
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(
    ("epochs", "rows", "batch_size", "steps"),
    [(1, 96, 16, 6), (1, 97, 16, 7), (2.5, 96, 16, 15), (0.01, 10, 16, 1), (3, 1, 16, 3)],
)
def test_steps_follow_from_epochs_rows_and_batch(
    epochs: float, rows: int, batch_size: int, steps: int
) -> None:
    assert replace(SCHEDULE, epochs=epochs, batch_size=batch_size).steps(rows) == steps


def test_the_same_seed_gives_the_same_weights(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    short = replace(SCHEDULE, epochs=2)
    once, again, other = (
        train(
            tokenizer,
            tmp_path,
            part,
            model=part.prepare(fresh(), context_of(fresh(), tokenizer)),
            schedule=it,
        )
        for part, it in (
            (BlockMovementPruning(), short),
            (BlockMovementPruning(), short),
            (BlockMovementPruning(), replace(short, seed=1)),
        )
    )
    assert once.curve == again.curve
    pairs = zip(once.model.state_dict().items(), again.model.state_dict().items(), strict=True)
    assert all(name == same and torch.equal(a, b) for (name, a), (same, b) in pairs)
    assert once.curve != other.curve


def test_labels_follow_the_models_own_order(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    model = fresh(labels=("blue", "red", "green"))
    numbers = label_numbers(model, LABELS, EXAMPLES)
    assert numbers == [{0: 1, 1: 2, 2: 0}[row.label] for row in EXAMPLES]
    assert train(tokenizer, tmp_path, model=model).accuracy(tokenizer) > 0.9


def test_labels_in_the_wrong_order_are_learnt_wrong(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = fresh(labels=("blue", "red", "green"))
    trained = train(tokenizer, tmp_path, model=model, labels=[row.label for row in EXAMPLES])
    assert trained.accuracy(tokenizer) < 0.1


def test_bfloat16_autocast_trains_float32_weights(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    computed_in: list[torch.dtype] = []
    model = fresh()
    model.classifier.register_forward_hook(lambda _, __, output: computed_in.append(output.dtype))
    trained = train(tokenizer, tmp_path, model=model, schedule=replace(SCHEDULE, autocast="bfloat16"))
    assert set(computed_in) == {torch.bfloat16}
    assert {parameter.dtype for parameter in trained.model.parameters()} == {torch.float32}
    assert trained.accuracy(tokenizer) > 0.9


def test_without_autocast_everything_is_float32(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    computed_in: list[torch.dtype] = []
    model = fresh()
    model.classifier.register_forward_hook(lambda _, __, output: computed_in.append(output.dtype))
    train(tokenizer, tmp_path, model=model, schedule=replace(SCHEDULE, epochs=1))
    assert set(computed_in) == {torch.float32}


@dataclass
class Probe(Compressor):
    """Notes what the loop does, and adds `term` to the loss from step `start` on."""

    name: ClassVar[str] = "probe"
    phase: ClassVar[Phase] = Phase.MASKS
    summary: ClassVar[str] = "for tests"

    term: float = 0.0
    start: int = 0
    steps: list[int] = field(default_factory=list)
    batches: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def on_step(self, step: int, context: Context) -> None:
        assert context.total_steps > 0
        self.steps.append(step)

    def loss(
        self, model: PreTrainedModel, batch: dict[str, torch.Tensor], outputs: Any, context: Context
    ) -> torch.Tensor | None:
        self.batches.append(batch)
        return torch.tensor(self.term) if self.steps[-1] >= self.start else None


@dataclass
class Replacing(Probe):
    """A term that stands instead of the cross-entropy."""

    replaces_cross_entropy: ClassVar[bool] = True

    def loss(
        self, model: PreTrainedModel, batch: dict[str, torch.Tensor], outputs: Any, context: Context
    ) -> torch.Tensor:
        return self.term + 0.0 * outputs.logits.sum()


def test_each_step_is_announced_once_before_it_is_taken(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    probe = Probe()
    train(tokenizer, tmp_path, probe, schedule=replace(SCHEDULE, epochs=2))
    assert probe.steps == list(range(24))
    assert len(probe.batches) == 24


def test_batches_bring_labels_and_the_numbers_of_their_rows(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    probe = Probe()
    train(tokenizer, tmp_path, probe, schedule=replace(SCHEDULE, epochs=1))
    encoded = encode(tokenizer, EXAMPLES, 32)
    seen = []
    for batch in probe.batches:
        for i, number in enumerate(batch["rows"].tolist()):
            seen.append(number)
            assert batch["labels"][i] == EXAMPLES[number].label
            length = int(batch["attention_mask"][i].sum())
            assert batch["input_ids"][i, :length].tolist() == encoded[number]["input_ids"]
    assert sorted(seen) == list(range(len(EXAMPLES)))
    assert seen != sorted(seen)


def test_terms_add_to_the_cross_entropy(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    short = replace(SCHEDULE, epochs=1)
    plain = train(tokenizer, tmp_path, schedule=short)
    added = train(tokenizer, tmp_path, Probe(term=2.0), Probe(term=3.0), schedule=short)
    for with_term, without in zip(added.curve, plain.curve, strict=True):
        assert with_term["loss"] == pytest.approx(without["loss"] + 5.0, abs=1e-3)


def test_a_term_that_replaces_the_cross_entropy_stands_alone(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    trained = train(tokenizer, tmp_path, Replacing(term=4.0), schedule=replace(SCHEDULE, epochs=1))
    assert {point["loss"] for point in trained.curve} == {4.0}


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("start", [0, 7])
def test_a_broken_loss_ends_the_training(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, broken: float, start: int
) -> None:
    probe = Probe(term=broken, start=start)
    with pytest.raises(TrainingFailed, match=f"loss became {broken} at step {start + 1}") as raised:
        train(tokenizer, tmp_path, probe)
    assert len(str(raised.value).splitlines()) == 1
    assert probe.steps[-1] == start


def test_a_loss_that_breaks_in_the_last_step_is_noticed(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    schedule = replace(SCHEDULE, batch_size=4, epochs=101 / 24)
    assert schedule.steps(len(EXAMPLES)) == 101
    with pytest.raises(TrainingFailed, match="became nan"):
        train(tokenizer, tmp_path, Probe(term=math.nan, start=100), schedule=schedule)


def test_scores_have_their_own_rate_and_biases_no_decay(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model = fresh()
    context = context_of(model, tokenizer, total_steps=10)
    part = BlockMovementPruning(score_lr=0.05)
    part.prepare(model, context)
    trainer = VariantTrainer(
        model=model,
        args=TrainingArguments(output_dir=str(tmp_path), learning_rate=1e-4, use_cpu=True, report_to="none"),
        parts=[part],
        context=context,
    )
    decayed, plain, scores = trainer.create_optimizer().param_groups
    assert (decayed["lr"], plain["lr"], scores["lr"]) == (1e-4, 1e-4, 0.05)
    assert (decayed["weight_decay"], plain["weight_decay"], scores["weight_decay"]) == (0.01, 0.0, 0.0)
    assert {id(p) for p in scores["params"]} == {id(s) for layer in part._layers for s in layer.scores()}
    assert all(parameter.ndim == 1 for parameter in plain["params"])
    grouped = [id(p) for group in (decayed, plain, scores) for p in group["params"]]
    assert sorted(grouped) == sorted({id(parameter) for parameter in model.parameters()})


@dataclass
class Outside(Compressor):
    """Trains a number outside the model, whose gradient is 1 in every step."""

    name: ClassVar[str] = "outside"
    phase: ClassVar[Phase] = Phase.ARCHITECTURE
    summary: ClassVar[str] = "a number of its own"

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        self.own = torch.zeros(1, requires_grad=True)
        self.gradients: list[float] = []
        self.own.register_post_accumulate_grad_hook(self._note)
        return model

    def _note(self, own: torch.Tensor) -> None:
        assert own.grad is not None
        self.gradients.append(float(own.grad))

    def parameter_groups(self, model: PreTrainedModel) -> list[dict[str, Any]]:
        return [{"params": [self.own]}]

    def loss(
        self, model: PreTrainedModel, batch: dict[str, torch.Tensor], outputs: Any, context: Context
    ) -> torch.Tensor:
        return self.own.sum()


def test_gradients_of_parameters_outside_the_model_are_cleared_too(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    part, model = Outside(), fresh()
    part.prepare(model, context_of(model, tokenizer))
    train(tokenizer, tmp_path, part, model=model, schedule=replace(SCHEDULE, epochs=0.5))
    assert part.gradients == [1.0] * 6


def test_pruning_while_training_keeps_the_task_and_hits_the_budget(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    dense = train(tokenizer, tmp_path)
    assert dense.accuracy(tokenizer) > 0.9
    part = BlockMovementPruning(amount=0.5, block=8, multiple=1, score_lr=0.05)
    before = encoder_weights(dense.model)
    assert before is not None
    part.prepare(dense.model, dense.context)
    trained = train(tokenizer, tmp_path, part, model=dense.model)
    trained.model = part.finish(trained.model, trained.context)
    after = encoder_weights(trained.model)
    assert after is not None
    assert 1 - after / before == pytest.approx(0.5, abs=0.01)
    assert trained.accuracy(tokenizer) > 0.9


def test_a_student_learns_from_the_teachers_logits_alone(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    teacher = 6.0 * torch.nn.functional.one_hot(torch.tensor([row.label for row in EXAMPLES]), 3).float()
    part = Distillation(soft_share=1.0)
    context = context_of(fresh(), tokenizer, dense_logits=lambda: teacher)
    student = part.prepare(fresh(), context)
    nonsense = [0] * len(EXAMPLES)
    trained = train(
        tokenizer, tmp_path, part, model=student, labels=nonsense, schedule=replace(SCHEDULE, epochs=12)
    )
    assert trained.accuracy(tokenizer) > 0.9


@dataclass
class Sleeps(Probe):
    """Takes the given time in every step, and its own in the first, by a clock that shows nothing else."""

    first_s: float = 0.0
    each_s: float = 0.0
    now_s: float = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def on_step(self, step: int, context: Context) -> None:
        self.now_s += self.each_s if step else self.first_s
        super().on_step(step, context)


def test_the_time_of_a_step_is_the_median_of_all_but_the_first(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Sleeps(first_s=2.0, each_s=0.1)
    monkeypatch.setattr("bench.training.time", part)
    trained = train(tokenizer, tmp_path, part, schedule=replace(SCHEDULE, epochs=1))
    found = trained.found.metrics["training_step_time"]
    assert len(part.steps) == 12
    assert found.samples == pytest.approx([0.1] * 11)
    assert (found.ci_low, found.value, found.ci_high) == pytest.approx((0.1, 0.1, 0.1))


def test_the_only_step_is_the_first_and_has_no_time(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    trained = train(tokenizer, tmp_path, schedule=replace(SCHEDULE, epochs=0.01))
    assert trained.found.metrics == {}
    assert "the first is left out" in trained.found.unavailable["training_step_time"]


def test_two_steps_give_one_time_and_no_interval(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    trained = train(tokenizer, tmp_path, schedule=replace(SCHEDULE, epochs=2 / 12))
    found = trained.found.metrics["training_step_time"]
    assert (found.samples, found.ci_low, found.ci_high) == ((found.value,), None, None)


def test_of_many_times_evenly_spread_ones_are_kept() -> None:
    times_s = [1.0] * 3_500 + [3.0] * 3_499
    found = step_time(times_s, "perf_counter").metrics["training_step_time"]
    assert found.value == 1.0
    assert 0.9 * KEPT_STEP_TIMES <= len(found.samples) <= KEPT_STEP_TIMES
    assert found.samples.count(1.0) == pytest.approx(found.samples.count(3.0), abs=1)
    assert f"{len(found.samples):,} of 6,999" in found.source


def test_a_collated_batch_is_padded_with_the_tokenizers_token() -> None:
    rows: list[dict[str, Any]] = [
        {"input_ids": [2, 9, 3], "attention_mask": [1, 1, 1], "labels": 1, "rows": 7},
        {"input_ids": [2, 3], "attention_mask": [1, 1], "labels": 0, "rows": 4},
    ]
    batch = Collator(pad_token=5)(rows)
    assert batch["input_ids"].tolist() == [[2, 9, 3], [2, 3, 5]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert batch["rows"].tolist() == [7, 4]
