"""Checkpoints as people have them: dense and `load:` made of real folders, and read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

import compressors
from bench.errors import InputError
from bench.meters.findings import Findings
from bench.meters.size import measure_size
from bench.meters.subject import load_subject
from bench.nouns.task import Task
from bench.plan import fetch_checkpoints
from bench.steps.compress import make_variant
from bench.steps.dense import make_dense
from bench.steps.teacher import make_teacher, read_logits
from compressors import registry
from compressors.artifact import ARTIFACT, class_names, load_model, save
from compressors.variant import parse_variant
from tests.bench.steps.checkpoints import (
    TEST,
    TRAIN,
    WEIGHTS,
    change_weights,
    checkpoint,
    request,
    tokenizer_of_task,
    toy_task,
)
from tests.bench.steps.conftest import silent
from tests.compressors.tiny import FAMILIES, FFN, LABELS, VOCABULARY, logits, tiny

pytestmark = pytest.mark.usefixtures("metered")

NUMBERED = ("LABEL_0", "LABEL_1", "LABEL_2")
LAST_FIRST = (2, 0, 1)
POOLED = {"bert", "albert", "mobilebert"}


def dense(folder: Path, task: Task, **changes: Any) -> Findings:
    """Make dense of the task; its artifact lies in `folder / "dense"`."""
    return make_dense(request(folder / "asked", task, **changes), folder / "dense", silent)


def variant(folder: Path, name: str, task: Task, **changes: Any) -> Findings:
    """Make the variant of a dense model that was made before, with its teacher where it needs one."""
    asked = request(folder / "variant-asked", task, **({"dense": folder / "dense"} | changes))
    if parse_variant(name).needs_teacher:
        (folder / "teacher").mkdir()
        make_teacher(asked.model_copy(update={"kind": "teacher"}), folder / "teacher", silent)
        asked = asked.model_copy(update={"teacher": folder / "teacher"})
    asked = asked.model_copy(update={"kind": "compress", "variant": name})
    return make_variant(asked, folder / "variant", silent)


def accuracy(artifact: Path) -> float:
    """Share of the test rows that the artifact gives the right name."""
    subject = load_subject("it", artifact, TEST, 32, "cpu")
    names = [subject.label_names[i] for i in subject.classify(TEST, len(TEST))]
    return sum(name == LABELS[row.label] for name, row in zip(names, TEST, strict=True)) / len(TEST)


def refused(folder: Path, task: Task) -> str:
    """The one line with which dense is refused."""
    with pytest.raises(InputError) as raised:
        dense(folder, task)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def config_of(artifact: Path) -> dict[str, Any]:
    """Its `config.json`."""
    return dict(json.loads((artifact / "config.json").read_text()))


# Classes


def test_dense_as_it_came_takes_the_datas_names(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", NUMBERED, LAST_FIRST)
    found = dense(tmp_path, toy_task(model=str(model), fine_tune=False))
    assert "LABEL_0 is blue, LABEL_1 is red, LABEL_2 is green" in found.notes[0]
    assert list(config_of(tmp_path / "dense" / ARTIFACT)["id2label"].values()) == ["blue", "red", "green"]
    assert accuracy(tmp_path / "dense" / ARTIFACT) > 0.9


def test_dense_as_it_came_takes_the_names_of_the_map(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", NUMBERED, LAST_FIRST)
    label_map = {"LABEL_0": "blue", "LABEL_1": "red", "LABEL_2": "green"}
    found = dense(tmp_path, toy_task(model=str(model), fine_tune=False, train=(), label_map=label_map))
    assert not found.notes
    assert accuracy(tmp_path / "dense" / ARTIFACT) > 0.9


def test_dense_as_it_came_is_refused_where_nothing_tells_its_classes(tmp_path: Path) -> None:
    model = str(checkpoint(tmp_path / "model", NUMBERED))
    asked = refused(tmp_path, toy_task(model=model, fine_tune=False, train=()))
    assert asked.startswith(
        f"{model}: its classes are LABEL_0, LABEL_1, LABEL_2, the data's red, green, blue"
    )
    assert "--label-map LABEL_0=NAME,LABEL_1=NAME,LABEL_2=NAME" in asked


def test_a_head_that_is_matched_goes_on_from_what_it_knows(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", NUMBERED, LAST_FIRST)
    found = dense(tmp_path, toy_task(model=str(model)), learning_rate=1e-6)
    assert "LABEL_0 is blue" in found.notes[0]
    assert not [note for note in found.notes if "fresh" in note]
    assert accuracy(tmp_path / "dense" / ARTIFACT) > 0.9


def test_a_head_that_is_not_matched_is_replaced_and_the_map_proposed(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", ("a", "b", "c"), LAST_FIRST)
    found = dense(tmp_path, toy_task(model=str(model)), learning_rate=1e-6)
    assert "--label-map a=blue,b=red,c=green" in found.notes[0]
    assert found.notes[0].endswith("; a fresh head was put on and trained")
    head = load_file(tmp_path / "dense" / ARTIFACT / WEIGHTS)["classifier.weight"]
    assert head.std() < 0.05
    assert list(config_of(tmp_path / "dense" / ARTIFACT)["id2label"].values()) == list(LABELS)


@pytest.mark.parametrize("name", ["load:{0}/other", "kd:student={0}/other"])
def test_another_checkpoint_keeps_its_own_order_of_the_classes(tmp_path: Path, name: str) -> None:
    model = checkpoint(tmp_path / "model", LABELS)
    checkpoint(tmp_path / "other", ("blue", "red", "green"), LAST_FIRST)
    task = toy_task(model=str(model), fine_tune=False)
    dense(tmp_path, task)
    found = variant(tmp_path, name.format(tmp_path), task, learning_rate=1e-6)
    assert not [note for note in found.notes if "fresh" in note]
    assert list(config_of(tmp_path / "variant" / ARTIFACT)["id2label"].values()) == ["blue", "red", "green"]
    assert accuracy(tmp_path / "variant" / ARTIFACT) > 0.9


def test_the_order_of_dense_is_that_of_its_teaching_too(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", NUMBERED, LAST_FIRST)
    task = toy_task(model=str(model), fine_tune=False)
    dense(tmp_path, task)
    found = variant(tmp_path, "kd:layers=all", task, learning_rate=1e-6)
    rows = read_logits(tmp_path / "teacher").argmax(-1).tolist()
    assert [("blue", "red", "green")[i] for i in rows[:20]] == [LABELS[row.label] for row in TRAIN[:20]]
    assert accuracy(tmp_path / "variant" / ARTIFACT) > 0.9
    assert found.training[0]["loss"] < 0.2


def test_numbered_classes_of_a_loaded_checkpoint_are_matched(tmp_path: Path) -> None:
    task = toy_task(model=str(checkpoint(tmp_path / "model")), fine_tune=False)
    dense(tmp_path, task)
    found = variant(tmp_path, f"load:{checkpoint(tmp_path / 'other', NUMBERED, LAST_FIRST)}", task)
    assert "LABEL_0 is blue" in found.notes[0]
    assert accuracy(tmp_path / "variant" / ARTIFACT) > 0.9


# What a checkpoint lacks


def headless(family: str, kind: str, folder: Path) -> PreTrainedModel:
    """A checkpoint without a classifier: as the bare encoder, or with a language model's head."""
    whole = tiny(family)
    whole.save_pretrained(folder)
    made = {"encoder": AutoModel, "language model": AutoModelForMaskedLM}[kind].from_pretrained(folder)
    made.save_pretrained(folder)
    config = config_of(folder)
    del config["id2label"], config["label2id"]
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer_of_task().save_pretrained(folder)
    return whole


@pytest.mark.parametrize("kind", ["encoder", "language model"])
@pytest.mark.parametrize("family", [*FAMILIES, "mobilebert"])
def test_a_checkpoint_without_a_head_gets_one_and_says_what_is_fresh(
    tmp_path: Path, family: str, kind: str
) -> None:
    whole = headless(family, kind, tmp_path / "model")
    task = toy_task(model=str(tmp_path / "model"))
    found = dense(tmp_path, task, learning_rate=1e-9)
    made = load_model(str(tmp_path / "dense" / ARTIFACT))
    assert class_names(made.config) == list(LABELS)
    fresh = [note for note in found.notes if "fresh" in note]
    lacks_pooler = kind == "language model" and family in POOLED
    assert fresh[-1].endswith("model has no head for these classes; a fresh head was put on and trained")
    assert [note for note in fresh if "pooler" in note] == fresh[:-1]
    assert len(fresh) == 1 + lacks_pooler
    theirs = whole.base_model.state_dict()
    for name, weight in made.base_model.state_dict().items():
        if not (lacks_pooler and name.startswith("pooler.")):
            torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=0)
    used_as_it_is = refused(tmp_path / "again", toy_task(model=str(tmp_path / "model"), fine_tune=False))
    assert "not a fine-tuned classifier" in used_as_it_is


def without_prefix(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's weights named as in a checkpoint of the encoder alone."""
    return {
        name.removeprefix("bert."): weight for name, weight in weights.items() if name.startswith("bert.")
    }


def with_prefix(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's weights named as in a classifier."""
    return {name: weight for name, weight in weights.items() if name.startswith("bert.")}


@pytest.mark.parametrize("rename", [without_prefix, with_prefix])
def test_the_encoders_weights_are_found_with_and_without_their_prefix(tmp_path: Path, rename: Any) -> None:
    model = checkpoint(tmp_path / "model")
    theirs = load_file(model / WEIGHTS)
    change_weights(model, rename)
    found = dense(tmp_path, toy_task(model=str(model)), learning_rate=1e-9)
    assert len([note for note in found.notes if "fresh" in note]) == 1
    made = load_file(tmp_path / "dense" / ARTIFACT / WEIGHTS)
    for name in with_prefix(theirs):
        torch.testing.assert_close(made[name], theirs[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("inner", ["", "0_Transformer"])
def test_a_sentence_encoder_gets_a_head(tmp_path: Path, inner: str) -> None:
    model = tmp_path / "model"
    (model / "1_Pooling").mkdir(parents=True)
    (model / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    modules = [{"idx": 0, "name": "0", "path": inner}, {"idx": 1, "name": "1", "path": "1_Pooling"}]
    (model / "modules.json").write_text(json.dumps(modules))
    headless("bert", "encoder", model / inner)
    found = dense(tmp_path, toy_task(model=str(model)))
    assert [note for note in found.notes if "fresh" in note] == [
        f"{model} has no head for these classes; a fresh head was put on and trained"
    ]
    assert accuracy(tmp_path / "dense" / ARTIFACT) >= 0.2


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model")
    tiny(layers=1, vocab_size=20).save_pretrained(model)
    for task in (toy_task(model=str(model)), toy_task(model=str(model), fine_tune=False)):
        error = refused(tmp_path / str(task.fine_tune), task)
        assert f"{model}: its tokenizer numbers tokens up to" in error
        assert "embeddings end at 19" in error


def test_a_tokenizer_of_another_model_is_refused_where_it_is_loaded(tmp_path: Path) -> None:
    task = toy_task(model=str(checkpoint(tmp_path / "model")), fine_tune=False)
    dense(tmp_path, task)
    other = checkpoint(tmp_path / "other", NUMBERED)
    tiny(layers=1, labels=LABELS, vocab_size=20).save_pretrained(other)
    with pytest.raises(InputError, match="embeddings end at 19"):
        variant(tmp_path, f"load:{other}", task)


def test_a_vocabulary_in_one_text_file_is_enough(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model")
    vocabulary = tokenizer_of_task().get_vocab()
    for file in model.glob("tokenizer*"):
        file.unlink()
    (model / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
    dense(tmp_path, toy_task(model=str(model), fine_tune=False))
    assert accuracy(tmp_path / "dense" / ARTIFACT) > 0.9


# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fine_tune", [True, False])
def test_dense_is_float32_and_a_loaded_checkpoint_as_stored(
    tmp_path: Path, dtype: torch.dtype, fine_tune: bool
) -> None:
    model = checkpoint(tmp_path / "model", dtype=dtype)
    task = toy_task(model=str(model), fine_tune=fine_tune)
    dense(tmp_path, task, learning_rate=1e-6)
    variant(tmp_path, f"load:{model}", task)
    for made, expected in (("dense", torch.float32), ("variant", dtype)):
        artifact = tmp_path / made / ARTIFACT
        assert {weight.dtype for weight in load_file(artifact / WEIGHTS).values()} == {expected}
        assert config_of(artifact)["dtype"] == str(expected).removeprefix("torch.")
        assert compressors.load(artifact).dtype == expected
        stock = AutoModelForSequenceClassification.from_pretrained(artifact, dtype="auto")
        assert stock.dtype == expected
        assert accuracy(artifact) > 0.9


# What is loaded beside ours


@pytest.fixture
def dense_task(tmp_path: Path) -> Task:
    """The toy task, its dense model made."""
    task = toy_task(model=str(checkpoint(tmp_path / "model")), fine_tune=False)
    dense(tmp_path, task)
    return task


def pruned(folder: Path) -> PreTrainedModel:
    """An artifact of ours whose layers differ in heads and width."""
    tight = tiny(seed=4).config.to_dict() | {"layer_heads": [1, 0], "layer_ffn_widths": [FFN // 2, 8]}
    from compressors.pruned import PRUNABLE

    family = PRUNABLE["bert"]
    tight.pop("model_type")
    model = family.model_class(family.config_class.from_dict(tight)).eval()
    save(model, tokenizer_of_task(), parse_variant("bmp50+kd"), folder)
    return model


def other_family(folder: Path) -> PreTrainedModel:
    """A stock DistilBERT, which takes no token types, beside a tokenizer of BERT's that gives them."""
    model = tiny("distilbert", labels=("blue", "red", "green"))
    model.save_pretrained(folder)
    vocabulary = tokenizer_of_task().get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
    return model


@pytest.mark.parametrize(("make", "loads_with"), [(pruned, "pruned.py"), (other_family, "transformers")])
def test_whatever_is_loaded_is_what_is_measured(
    tmp_path: Path, dense_task: Task, make: Any, loads_with: str
) -> None:
    model = make(tmp_path / "other")
    variant(tmp_path, f"load:{tmp_path / 'other'}", dense_task)
    made = compressors.load(tmp_path / "variant" / ARTIFACT)
    assert torch.equal(logits(made), logits(model))
    subjects = [
        load_subject(name, tmp_path / name / ARTIFACT, TEST, 32, "cpu") for name in ("dense", "variant")
    ]
    found = measure_size(*subjects)
    assert found.loads_with == loads_with
    assert found.metrics["parameters"].value == sum(p.numel() for p in model.parameters())
    assert measure_size(subjects[0], subjects[0]).loads_with == "transformers"


PLUGIN = """
from dataclasses import dataclass
from compressors.contract import Compressor, Phase

@dataclass
class Scale(Compressor):
    name, phase, summary, trains = "scale", Phase.RUNTIME, "multiplies the logits", False
    by: float = 2.0

    def runtime(self, model, folder, device):
        def scaled(module, inputs, outputs):
            outputs.logits = outputs.logits * self.by
            return outputs
        model.register_forward_hook(scaled)
        return model
"""


@pytest.fixture
def scale(tmp_path: Path) -> Iterator[None]:
    """A technique that is nothing but runtime."""
    classes, plugins = dict(registry.compressor_classes()), set(registry._plugins)
    (tmp_path / "scale.py").write_text(PLUGIN)
    registry.add_plugins([tmp_path / "scale.py"])
    yield
    registry._classes.clear()
    registry._classes.update(classes)
    registry._plugins.clear()
    registry._plugins.update(plugins)


@pytest.mark.usefixtures("scale")
def test_an_artifact_that_is_loaded_brings_its_runtime(tmp_path: Path, dense_task: Task) -> None:
    first, answers = tmp_path / "a+b", logits(tiny())
    save(tiny(), tokenizer_of_task(), parse_variant("scale:by=3"), first)
    torch.testing.assert_close(logits(compressors.load(first)), 3 * answers)
    variant(tmp_path, f"load:{first}", dense_task)
    second = (tmp_path / "variant" / ARTIFACT).rename(tmp_path / "second")
    first.rename(tmp_path / "elsewhere")
    torch.testing.assert_close(logits(compressors.load(second)), 3 * answers)
    variant(tmp_path / "again", f"load:{second}+mp", dense_task, dense=tmp_path / "dense")
    third = compressors.load(tmp_path / "again" / "variant" / ARTIFACT)
    assert third.dtype == torch.bfloat16
    torch.testing.assert_close(logits(third).float(), 3 * answers, atol=0.3, rtol=0.1)


@pytest.mark.parametrize("name", ["load:{0}", "kd:student={0}"])
def test_a_pickle_is_refused_before_anything_is_made(tmp_path: Path, dense_task: Task, name: str) -> None:
    folder = checkpoint(tmp_path / "model")
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"is a pickle.*save_pretrained"):
        fetch_checkpoints(dense_task, [parse_variant(name.format(folder))])


def test_a_quantised_checkpoint_without_its_library_is_refused_in_one_line(
    tmp_path: Path, dense_task: Task
) -> None:
    folder = checkpoint(tmp_path / "other")
    settings = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config_of(folder) | {"quantization_config": settings}))
    with pytest.raises(InputError) as raised:
        variant(tmp_path, f"load:{folder}", dense_task)
    assert "bitsandbytes" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_the_toy_vocabulary_fits_the_tiny_models() -> None:
    assert len(tokenizer_of_task()) <= VOCABULARY
