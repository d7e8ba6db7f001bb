"""Artifacts: what is saved comes back, and what cannot be trusted is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, BertModel, PreTrainedModel, PreTrainedTokenizerBase

import compressors
from bench.errors import InputError
from compressors import artifact
from compressors.variant import parse_variant
from tests.compressors.tiny import LABELS, context_of, logits, tiny

WEIGHTS = "model.safetensors"


@pytest.fixture
def saved(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """An artifact of a tiny BERT, as `bench` leaves it."""
    folder = tmp_path / "artifact"
    artifact.save(tiny(), tokenizer, parse_variant("dense"), folder)
    return folder


def change_json(file: Path, **changes: object) -> None:
    """Set keys of a JSON object in a file; None takes a key out."""
    document = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def refused(action: Callable[[], object]) -> str:
    """The one line with which `action` is refused."""
    with pytest.raises(InputError) as raised:
        action()
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def load_classifier(
    folder: Path, labels: tuple[str, ...] = LABELS, notes: list[str] | None = None
) -> PreTrainedModel:
    """The checkpoint as dense is fine-tuned from it, its head kept where its classes are called `labels`."""

    def same_names(path_or_id: str, model: PreTrainedModel, tokenizer: object) -> str | None:
        fits = set(labels) == set(artifact.class_names(model.config))
        return None if fits else f"{path_or_id}: other classes"

    tokenizer = artifact.load_tokenizer(str(folder))
    said = [] if notes is None else notes
    return artifact.load_classifier(str(folder), labels, tokenizer, same_names, said)


def test_a_saved_model_comes_back_as_it_was(saved: Path) -> None:
    model = compressors.load(saved)
    assert not model.training
    assert model.dtype == torch.float32
    assert torch.equal(logits(model), logits(tiny()))
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.label2id == {label: i for i, label in enumerate(LABELS)}


def test_an_artifact_holds_no_pickle_and_names_its_variant(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    artifact.save(tiny(), tokenizer, parse_variant("kd:temperature=3+bmp40:block=16"), tmp_path)
    files = {file.name for file in tmp_path.iterdir()}
    assert {WEIGHTS, "config.json", "tokenizer.json", "variant.json"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl", ".pth"))]
    document = json.loads((tmp_path / "variant.json").read_text())
    assert document["variant"] == "bmp40:block=16+kd:temperature=3.0"
    assert document["dtype"] == "float32"
    assert document["parameters"]["bmp"]["amount"] == 0.4
    assert document["parameters"]["bmp"]["multiple"] == 8
    assert document["parameters"]["kd"]["temperature"] == 3.0


def test_the_tokenizer_comes_back(saved: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    text = "the old rose near a frog"
    assert artifact.load_tokenizer(str(saved))(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_class_names_outside_ascii_survive(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    names = ("खेळ", "राजकारण", "a b")
    artifact.save(tiny(labels=names), tokenizer, parse_variant("dense"), tmp_path)
    assert compressors.load(tmp_path).config.id2label == dict(enumerate(names))


@pytest.mark.parametrize("stale", [None, {"x": 0}, {"red": 2, "green": 1, "blue": 0}])
def test_class_numbers_follow_from_the_class_names(saved: Path, stale: dict[str, int] | None) -> None:
    change_json(saved / "config.json", label2id=stale)
    assert compressors.load(saved).config.label2id == {label: i for i, label in enumerate(LABELS)}


def test_class_names_that_are_numbers_become_text(saved: Path) -> None:
    change_json(saved / "config.json", id2label={"0": 7, "1": 8, "2": 9}, label2id=None)
    model = compressors.load(saved)
    assert model.config.id2label == {0: "7", 1: "8", 2: "9"}
    assert model.config.label2id == {"7": 0, "8": 1, "9": 2}


def test_dense_is_float32_whatever_the_checkpoint_holds(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    artifact.save(tiny().to(torch.bfloat16), tokenizer, parse_variant("dense"), tmp_path)
    assert artifact.load_model(str(tmp_path)).dtype == torch.float32
    assert load_classifier(tmp_path).dtype == torch.float32
    assert artifact.load_model(str(tmp_path), "auto").dtype == torch.bfloat16


def cut_short(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def garble(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"no weights")


def empty(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def drop_head(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.pop("classifier.weight"))


def drop_layer(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.pop("bert.encoder.layer.1.output.dense.weight"))


def other_shape(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.update({"classifier.weight": torch.zeros(3, 8)}))


def other_config(folder: Path) -> None:
    change_json(folder / "config.json", hidden_size=64)


def wrong_type(folder: Path) -> None:
    change_json(folder / "config.json", hidden_size="wide")


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_family(folder: Path) -> None:
    change_json(folder / "config.json", model_type="nonesuch")


def unknown_dtype(folder: Path) -> None:
    change_json(folder / "variant.json", dtype="float7")


def unknown_technique(folder: Path) -> None:
    change_json(folder / "variant.json", parameters={"squeeze": {}})


def unknown_setting(folder: Path) -> None:
    change_json(folder / "variant.json", parameters={"mp": {"width": 2}})


def list_document(folder: Path) -> None:
    (folder / "variant.json").write_text("[]")


def empty_document(folder: Path) -> None:
    (folder / "variant.json").write_text("{}")


def not_utf8(folder: Path) -> None:
    (folder / "variant.json").write_bytes(b"\xff\xfe{")


def an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other"}')


def no_document(folder: Path) -> None:
    (folder / "variant.json").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


@pytest.mark.parametrize(
    ("damage", "part_of_the_error"),
    [
        (cut_short, "cannot be loaded"),
        (garble, "cannot be loaded"),
        (empty, "cannot be loaded"),
        (drop_head, "lack classifier.weight"),
        (drop_layer, "lack bert.encoder.layer.1.output.dense.weight"),
        (other_shape, "lack classifier.weight"),
        (other_config, "its weights lack"),
        (wrong_type, "hidden_size"),
        (broken_config, "config.json: not JSON"),
        (unknown_family, "does not know it"),
        (an_adapter, "an adapter of another model"),
        (unknown_dtype, "float7"),
        (unknown_technique, "made with 'squeeze', which is not installed"),
        (unknown_setting, "another version"),
        (list_document, "not an artifact"),
        (empty_document, "not an artifact"),
        (not_utf8, "not an artifact"),
        (no_document, "not an artifact"),
        (no_config, "it has no config.json"),
        (no_weights, "no safetensors weights"),
    ],
)
def test_a_damaged_artifact_is_refused_rather_than_completed(
    saved: Path, damage: Callable[[Path], None], part_of_the_error: str
) -> None:
    damage(saved)
    assert part_of_the_error in refused(lambda: compressors.load(saved))


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("asked", ["someone/kernel", "flash_attention_2", "eager", {"": "someone/kernel"}, 3])
def test_the_attention_that_a_configuration_asks_for_has_no_effect(
    saved: Path, tmp_path: Path, key: str, asked: object
) -> None:
    change_json(saved / "config.json", **{key: asked})
    for model in (compressors.load(saved), artifact.load_model(str(saved)), load_classifier(saved)):
        assert model.config._attn_implementation == tiny().config._attn_implementation
        assert torch.equal(logits(model), logits(tiny()))
    assert artifact.skeleton(saved).config._attn_implementation == tiny().config._attn_implementation
    artifact.load_model(str(saved)).save_pretrained(tmp_path / "again")
    assert "kernel" not in (tmp_path / "again" / "config.json").read_text()


def test_what_names_code_does_not_outlive_loading(saved: Path, tmp_path: Path) -> None:
    code = {
        "auto_map": {"AutoConfig": "modeling_evil.Evil"},
        "custom_pipelines": {"x": {"impl": "evil.Evil"}},
    }
    change_json(saved / "config.json", **code)
    change_json(saved / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    model, tokenizer = artifact.load_model(str(saved)), artifact.load_tokenizer(str(saved))
    artifact.save(model, tokenizer, parse_variant("dense"), tmp_path / "again")
    for file in (tmp_path / "again").glob("*.json"):
        assert "vil" not in file.read_text(), file


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    assert "not an artifact" in refused(lambda: compressors.load(tmp_path))
    assert "not an artifact" in refused(lambda: compressors.load(tmp_path / "none"))


def test_a_pickled_checkpoint_is_refused_with_the_way_to_convert_it(saved: Path) -> None:
    torch.save(load_file(saved / WEIGHTS), saved / "pytorch_model.bin")
    (saved / WEIGHTS).unlink()
    for loader in (
        lambda: compressors.load(saved),
        lambda: artifact.load_model(str(saved)),
        lambda: artifact.load_tokenizer(str(saved)),
    ):
        error = refused(loader)
        assert "pytorch_model.bin is a pickle" in error
        assert "save_pretrained" in error


@pytest.mark.parametrize("path", ["/no/such/folder", "./no", "../no", "~/no", "a/b/c", "a" * 300])
def test_a_path_that_is_not_there_is_refused_without_asking_a_hub(path: str) -> None:
    assert "no such model directory" in refused(lambda: artifact.load_model(path))


def test_a_checkpoint_without_tokenizer_is_refused(saved: Path) -> None:
    (saved / "tokenizer.json").write_text("{")
    assert "no usable tokenizer" in refused(lambda: artifact.load_tokenizer(str(saved)))
    for file in saved.glob("tokenizer*"):
        file.unlink()
    error = refused(lambda: artifact.load_tokenizer(str(saved)))
    assert f"AutoTokenizer.from_pretrained(BASE).save_pretrained('{saved}')" in error


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_tokenizer_that_needs_sentencepiece_is_refused_with_the_way_to_convert_it(saved: Path) -> None:
    for file in saved.glob("tokenizer*"):
        file.unlink()
    (saved / "spiece.model").write_bytes(b"pieces")
    error = refused(lambda: artifact.load_tokenizer(str(saved)))
    assert "install sentencepiece and protobuf" in error


def test_a_tokenizer_that_cannot_pad_is_refused(saved: Path) -> None:
    change_json(saved / "tokenizer_config.json", pad_token=None)
    assert "no padding token" in refused(lambda: artifact.load_tokenizer(str(saved)))


def test_a_head_is_kept_where_the_names_agree_in_any_order(saved: Path) -> None:
    notes: list[str] = []
    model = load_classifier(saved, ("blue", "red", "green"), notes)
    assert not notes
    assert model.config.id2label == dict(enumerate(LABELS))
    assert torch.equal(model.classifier.weight, tiny().classifier.weight)


@pytest.mark.parametrize("labels", [("a", "b", "c"), ("a", "b"), ("a", "b", "c", "d", "e")])
def test_a_head_for_other_classes_is_fresh(saved: Path, labels: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    notes: list[str] = []
    model = load_classifier(saved, labels, notes)
    [note] = notes
    assert note.endswith("; a fresh head was put on and trained")
    assert model.config.label2id == {label: i for i, label in enumerate(labels)}
    assert model.classifier.weight.shape == (len(labels), 32)
    assert 0.01 < model.classifier.weight.std() < 0.04
    assert model.classifier.bias.eq(0).all()
    word_embeddings = model.get_input_embeddings().weight
    assert torch.equal(word_embeddings, tiny().get_input_embeddings().weight)


def test_a_bare_encoder_can_be_fine_tuned_but_not_used_as_it_is(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    BertModel(tiny().config, add_pooling_layer=False).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    notes: list[str] = []
    model = load_classifier(tmp_path, LABELS, notes)
    assert notes == [
        f"{tmp_path} has no pooler; a fresh one was put on and trained",
        f"{tmp_path} has no head for these classes; a fresh head was put on and trained",
    ]
    assert logits(model).shape == (5, 3)
    assert "not a fine-tuned classifier" in refused(lambda: artifact.load_model(str(tmp_path)))


def test_an_encoder_with_a_hole_is_not_fine_tuned_either(saved: Path) -> None:
    drop_layer(saved)
    error = refused(lambda: load_classifier(saved))
    assert "lack bert.encoder.layer.1.output.dense.weight: not a whole encoder" in error


def test_load_brings_a_checkpoint_with_its_precision_and_tokenizer(
    saved: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    other = tmp_path / "other"
    model = tiny(layers=1, labels=("blue", "red", "green"), seed=5).to(torch.bfloat16)
    artifact.save(model, tokenizer, parse_variant("mp"), other)
    context = context_of(tiny(), tokenizer)
    loaded = parse_variant(f"load:{other}").parts[0].prepare(tiny(), context)
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(logits(loaded), logits(model))
    assert context.tokenizer is not tokenizer


def test_load_refuses_a_checkpoint_whose_classes_cannot_be_named(
    saved: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    change_json(saved / "config.json", id2label={"0": "x", "1": "y", "2": "z"}, label2id=None)
    part = parse_variant(f"load:{saved}").parts[0]
    error = refused(lambda: part.prepare(tiny(), context_of(tiny(), tokenizer)))
    assert error == f"{saved}: its classes are ['x', 'y', 'z']"


def test_a_configs_classes_are_those_that_transformers_finds(saved: Path) -> None:
    assert artifact.config_class_names(str(saved)) == list(LABELS)
    change_json(saved / "config.json", id2label=None, label2id=None)
    assert artifact.config_class_names(str(saved)) == artifact.class_names(AutoConfig.from_pretrained(saved))
    change_json(saved / "config.json", id2label={str(i): i + 5 for i in (10, *range(10))})
    assert artifact.config_class_names(str(saved)) == [str(i + 5) for i in range(11)]
    change_json(saved / "config.json", num_labels=4)
    assert artifact.config_class_names(str(saved)) == [f"LABEL_{i}" for i in range(4)]
    assert artifact.config_class_names(str(saved)) == artifact.class_names(AutoConfig.from_pretrained(saved))


@pytest.mark.parametrize("names", [["a", "b"], {"first": "a"}, 3])
def test_a_config_that_does_not_number_its_classes_is_refused(saved: Path, names: object) -> None:
    change_json(saved / "config.json", id2label=names)
    assert "does not number the classes" in refused(lambda: artifact.config_class_names(str(saved)))
