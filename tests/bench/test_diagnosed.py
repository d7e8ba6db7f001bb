"""Situations that keep a model from being faster, built for real on this CPU and named for what they are.

Each is marked enough to show on a busy machine; a wide model in large batches is the counterpart to all. What
takes a GPU, a quota or another guest of the host is in `test_diagnosis.py` alone, on figures made up for it.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch
from torch.utils.benchmark import Timer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from bench.diagnosis import OF_A_COPY, diagnose
from bench.environment import NATIVE_BF16, cores, read_cpu
from bench.meters.feeds import headline
from bench.meters.speed import measure_speed
from bench.meters.subject import load_subject
from bench.nouns.profile import Diagnosis, Profile
from bench.nouns.run import Result
from bench.nouns.task import Example, Task
from bench.protocol import PROTOCOLS
from bench.scratch import train_tokenizer
from bench.steps.profile import measure_profile
from bench.steps.request import Request
from bench.tasks.stored import write_task
from compressors import artifact, registry
from compressors.int8 import INT8_INSTRUCTIONS
from compressors.variant import parse_variant
from tests.bench.steps.conftest import silent
from tests.compressors.tiny import context_of

LABELS = ("money", "sport")
WORDS = ["bank", "goal", "train", "team", "price", "hotel", "new", "the", "today", "city"]
LONG = tuple(Example(" ".join(WORDS[i % k] for i in range(30)), k % 2) for k in range(1, 11)) * 7
SHORT = tuple(Example(word, place % 2) for place, word in enumerate(WORDS)) * 7
VOCABULARY = 256


def bert(layers: int = 2, hidden: int = 64, ffn: int = 256) -> PreTrainedModel:
    """A BERT with fresh weights."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 16,
        intermediate_size=ffn,
        max_position_embeddings=64,
        num_labels=len(LABELS),
    )
    return BertForSequenceClassification(config).eval()


def named(
    folder: Path,
    model: PreTrainedModel,
    variant: str = "ft",
    batch_size: int = 32,
    rows: tuple[Example, ...] = LONG,
) -> dict[str, Diagnosis]:
    """What the model is diagnosed with, as the artifact of `variant`, by the product's own profile."""
    return told(variant, profiled(folder, model, variant, batch_size, rows))


def told(variant: str, profile: Profile) -> dict[str, Diagnosis]:
    """The diagnoses by their codes."""
    parts = parse_variant(variant).spelled_parts
    result = Result(variant=variant, parts=parts, seed=0, status="ok", profile=profile)
    return {found.code: found for found in diagnose(result, "cpu", cores())}


def profiled(
    folder: Path,
    model: PreTrainedModel,
    variant: str = "ft",
    batch_size: int = 32,
    rows: tuple[Example, ...] = LONG,
) -> Profile:
    """The product's own profile of the model, as the artifact of `variant`."""
    (folder / "task").mkdir(parents=True)
    write_task(Task("tiny", "rows", LABELS, train=rows, validation=rows, test=rows), folder / "task")
    made = parse_variant(variant)
    artifact.save(model, train_tokenizer(rows, VOCABULARY), made, folder / artifact.ARTIFACT)
    request = Request(
        kind="profile",
        task=folder / "task",
        variant=variant,
        device="cpu",
        seed=0,
        epochs=1.0,
        learning_rate=1e-3,
        batch_size=batch_size,
        max_length=64,
        budget="quick",
        plugins=[],
        dense=folder,
        artifact=folder,
    )
    (folder / "profile").mkdir()
    profile = measure_profile(request, folder / "profile", silent).profile
    assert profile is not None
    return profile


def test_wide_layers_in_large_batches_do_what_they_should(tmp_path: Path) -> None:
    assert named(tmp_path, bert(hidden=256, ffn=1024)) == {}


def test_many_tiny_layers_at_batch_size_1_are_launch_bound(tmp_path: Path) -> None:
    found = named(tmp_path, bert(layers=8, hidden=16, ffn=32), batch_size=1)
    assert found.keys() == {"launch-bound"}
    assert "at batch size 1" in found["launch-bound"].text


def test_half_of_the_neurons_at_zero_are_masks(tmp_path: Path) -> None:
    model = bert(hidden=128, ffn=1024)
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.intermediate.dense.weight[512:] = 0
            layer.output.dense.weight[:, 512:] = 0
    found = named(tmp_path, model)
    # 2 x 128 x 512 of the 2 x 128 x 1024 + 4 x 128 x 128 weights of a layer.
    assert found["masks"].figure == 40


def test_seventeen_neurons_a_layer_are_an_unfriendly_width(tmp_path: Path) -> None:
    # Products this small last half a millisecond, and other processes come between.
    attempts = (
        named(tmp_path / attempt, bert(hidden=256, ffn=17)) for attempt in ("first", "second", "third")
    )
    texts = (found["unfriendly-widths"].text for found in attempts if "unfriendly-widths" in found)
    assert any("width 17" in text for text in texts)


def reach_of_few_rows() -> float:
    """How fast three rows times such weights read them, over how fast a copy moves bytes at its best."""
    rows, weights = torch.randn(3, 512), torch.randn(16384, 512)
    target = torch.empty_like(weights)
    product = Timer(
        "rows @ weights.T", globals={"rows": rows, "weights": weights}, num_threads=torch.get_num_threads()
    )
    copy = Timer(
        "target.copy_(weights)",
        globals={"target": target, "weights": weights},
        num_threads=torch.get_num_threads(),
    )
    turns = [(product.timeit(5).mean, copy.timeit(5).mean) for _ in range(11)]
    product_s, copy_s = (list(times) for times in zip(*turns, strict=True))
    return min(copy_s) / (2 * statistics.median(product_s))


def test_weights_far_larger_than_a_batch_are_memory_bound(tmp_path: Path) -> None:
    # Their rate is set beside that of copies, and other processes slow memory down at any moment.
    attempts = (
        named(tmp_path / attempt, bert(layers=1, hidden=512, ffn=16384), batch_size=1, rows=SHORT)
        for attempt in ("first", "second", "third", "fourth", "fifth")
    )
    found = next((found for found in attempts if found.keys() == {"memory-bound"}), None)
    if found is None and (reached := reach_of_few_rows()) < 1.5 * OF_A_COPY:
        pytest.skip(f"products of few rows read weights at {reached:.0%} of the rate of copies on this CPU")
    assert found
    assert "aten::addmm" in found["memory-bound"].text
    assert "a larger --batch-size" in found["memory-bound"].remedy


def test_a_precision_that_this_cpu_has_no_instructions_for_is_emulated(tmp_path: Path) -> None:
    _, features = read_cpu()
    if NATIVE_BF16 & features:
        pytest.skip("this CPU computes in bfloat16")
    found = named(tmp_path, bert(hidden=256).to(torch.bfloat16), "mp")
    assert "bfloat16" in found["emulated-precision"].text


def test_narrow_layers_in_int8_spend_their_time_on_quantising(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    (int8,) = parse_variant("int8").parts
    model = bert(hidden=128, ffn=512)
    made = int8.finish(model, context_of(model, train_tokenizer(LONG, VOCABULARY)))
    found = named(tmp_path, made, "int8")
    if INT8_INSTRUCTIONS.intersection(read_cpu()[1]):
        assert "quantising" in found["fallback-kernels"].text
    else:  # the products themselves take what time there is
        assert "products in int8" in found["emulated-precision"].text


STATIC = """
import torch
from compressors.contract import Compressor, Phase
from compressors.engines import Compiled


class Static(Compressor):
    name, phase, summary, trains = "static", Phase.RUNTIME, "compiled for each shape by itself", False

    def runtime(self, model, folder, device):
        compiled = Compiled(model, "default")
        # Dynamo alone: what it traces is not built, which would take a minute for nothing.
        compiled.model = torch.compile(model, backend="eager", dynamic=False)
        compiled.records = RECORDS
        return compiled
"""


@pytest.mark.parametrize("records", [False, True])
def test_shapes_that_are_compiled_one_by_one_are_recompiles_where_none_is_recorded_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: bool
) -> None:
    monkeypatch.setattr(registry, "_classes", dict(registry.compressor_classes()))
    monkeypatch.setattr(registry, "_plugins", set())
    (tmp_path / "static.py").write_text(STATIC.replace("RECORDS", str(records)))
    registry.add_plugins([tmp_path / "static.py"])
    rows = SHORT[:40] + LONG[:2]
    found = named(tmp_path / "static", bert(layers=1), "static", 2, rows)
    assert ("recompiles" in found) == (not records)
    if not records:
        assert "for a shape that had not been run yet" in found["recompiles"].text


@pytest.mark.parametrize(("variant", "is_named"), [("ft", True), ("sorted", False)])
def test_rows_of_very_different_length_are_padding_until_they_are_sorted(
    variant: str, is_named: bool, tmp_path: Path
) -> None:
    rows = tuple(row for pair in zip(SHORT, LONG, strict=True) for row in pair)
    made = parse_variant(variant)
    artifact.save(bert(), train_tokenizer(rows, VOCABULARY), made, tmp_path)
    subject = load_subject(variant, tmp_path, rows, 64, "cpu")
    anchors = {"speedup": subject.again()}
    found = measure_speed(anchors, subject, [headline(subject, 8)], PROTOCOLS["quick"], seed=0)
    result = Result(variant=variant, parts=made.spelled_parts, seed=0, status="ok", scenarios=found.scenarios)
    assert ("padding" in {each.code for each in diagnose(result, "cpu", cores())}) == is_named
