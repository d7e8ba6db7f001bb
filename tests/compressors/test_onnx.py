"""ONNX Runtime: the same answers from a file of its own, without torch's weights in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

import compressors
from bench.errors import InputError, Refusal
from bench.meters.size import weights_size
from compressors import artifact
from compressors.onnx import FILE, INPUTS, OPSET
from compressors.pruned import PRUNABLE
from compressors.variant import check, parse_variant
from tests.compressors.tiny import EVERY_FAMILY, context_of, logits, padded_batch, randomised, tiny

Make = Callable[..., Path]
SIZES = [(5, 12), (1, 2), (1, 30), (7, 3)]


def with_shapes(family: str, heads: list[int], widths: list[int]) -> PreTrainedModel:
    """A pruned model with these heads and neurons by layer."""
    kind = PRUNABLE[family]
    settings = tiny(family).config.to_dict() | {"layer_heads": heads, "layer_ffn_widths": widths}
    del settings["model_type"]
    return randomised(kind.model_class(kind.config_class(**settings)))


@pytest.fixture(scope="module")
def made(tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes artifacts: exports take seconds."""

    def make(spec: str, model: PreTrainedModel, inputs: Sequence[str] = INPUTS[:2]) -> Path:
        folder, variant = tmp_path_factory.mktemp("onnx") / "artifact", parse_variant(spec)
        for part in variant.parts:
            model = part.prepare(model, context_of(model, tokenizer))
        gives = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]", model_input_names=list(inputs)
        )
        artifact.save(model, gives, variant, folder)
        for part in variant.parts:
            part.build(model, folder)
        return folder

    return make


@pytest.fixture(scope="module")
def whole(made: Make) -> Path:
    """A BERT in float32, only to be read."""
    return made("onnx", tiny(), list(INPUTS))


@pytest.fixture(scope="module")
def small(made: Make) -> Path:
    """The same in int8, only to be read."""
    return made("onnx:int8", tiny())


def assert_same(loaded: PreTrainedModel, model: PreTrainedModel) -> None:
    """The same logits for any number of rows and tokens, to float32's rounding of the largest."""
    for rows, width in SIZES:
        batch = padded_batch(rows, width)
        expected = logits(model, batch)
        assert (logits(loaded, batch) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_logits_are_torchs_for_any_rows_and_tokens(whole: Path) -> None:
    assert_same(compressors.load(whole), tiny())


@pytest.mark.slow
@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_every_family_is_exported(made: Make, family: str) -> None:
    assert_same(compressors.load(made("onnx", tiny(family))), tiny(family))


@pytest.mark.parametrize(
    ("family", "heads", "widths"),
    [
        ("distilbert", [0, 3], [24, 0]),
        pytest.param("bert", [0, 3], [24, 0], marks=pytest.mark.slow),
        pytest.param("roberta", [0, 3], [24, 0], marks=pytest.mark.slow),
        pytest.param("xlm-roberta", [0, 3], [24, 0], marks=pytest.mark.slow),
        pytest.param("electra", [0, 3], [24, 0], marks=pytest.mark.slow),
        pytest.param("albert", [0], [24], marks=pytest.mark.slow),
        pytest.param("albert", [3], [0], marks=pytest.mark.slow),
    ],
)
def test_layers_without_heads_or_neurons_are_exported(
    made: Make, family: str, heads: list[int], widths: list[int]
) -> None:
    model = with_shapes(family, heads, widths)
    assert_same(compressors.load(made("onnx", model)), model)


def test_the_file_says_its_opset_inputs_and_output(whole: Path) -> None:
    model = onnx.load(whole / FILE, load_external_data=False)
    assert [(entry.domain, entry.version) for entry in model.opset_import if not entry.domain] == [
        ("", OPSET)
    ]
    assert [entry.name for entry in model.graph.input] == list(INPUTS)
    assert [entry.name for entry in model.graph.output] == ["logits"]


def test_token_types_count_and_are_zero_unless_given(whole: Path) -> None:
    loaded, batch = compressors.load(whole), padded_batch()
    plain = logits(loaded, batch)
    zeros, ones = (torch.full_like(batch["input_ids"], kind) for kind in (0, 1))
    assert torch.equal(logits(loaded, {**batch, "token_type_ids": zeros}), plain)
    typed = {**batch, "token_type_ids": ones}
    torch.testing.assert_close(logits(loaded, typed), logits(tiny(), typed), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(loaded, typed), plain, atol=1e-2)


def test_the_file_takes_what_the_tokenizer_gives(small: Path) -> None:
    loaded, batch = compressors.load(small), padded_batch()
    inputs = onnx.load(small / FILE, load_external_data=False).graph.input
    assert [entry.name for entry in inputs] == ["input_ids", "attention_mask"]
    with pytest.raises(TypeError, match="a tokenizer that gives no token_type_ids"):
        logits(loaded, {**batch, "token_type_ids": torch.zeros_like(batch["input_ids"])})


def test_it_holds_no_weights_of_torch(whole: Path) -> None:
    loaded = compressors.load(whole)
    assert list(loaded.parameters()) == []
    assert loaded.config.id2label == tiny().config.id2label
    assert loaded.dtype == torch.float32
    assert loaded.compile_time_s > 0


def test_int8_is_near_float32_and_its_weights_a_quarter(whole: Path, small: Path) -> None:
    dense, loaded = tiny(), compressors.load(small)
    expected, found = logits(dense), logits(loaded)
    assert not torch.allclose(found, expected, atol=1e-4)
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()
    kinds = {node.op_type for node in onnx.load(small / FILE, load_external_data=False).graph.node}
    assert "MatMulInteger" in kinds
    data = [(folder / f"{FILE}.data").stat().st_size for folder in (whole, small)]
    assert data[1] < 0.5 * data[0]


def test_the_size_on_disk_is_that_of_what_is_run(whole: Path) -> None:
    files = [whole / FILE, whole / f"{FILE}.data"]
    assert weights_size(whole) == sum(file.stat().st_size for file in files)


def test_without_its_file_it_is_exported_again_elsewhere(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns(f"{FILE}*"))
    before = sorted(folder.iterdir())
    loaded = compressors.load(folder)
    assert torch.equal(logits(loaded), logits(compressors.load(whole)))
    assert sorted(folder.iterdir()) == before


def test_there_is_a_session_for_each_number_of_threads(whole: Path) -> None:
    loaded, before = compressors.load(whole), torch.get_num_threads()
    expected, opened_s = logits(loaded), loaded.compile_time_s
    try:
        torch.set_num_threads(before + 1)
        torch.testing.assert_close(logits(loaded), expected)
        assert loaded.session().get_session_options().intra_op_num_threads == before + 1
        more_s = loaded.compile_time_s
        assert more_s > opened_s
    finally:
        torch.set_num_threads(before)
    logits(loaded)
    assert loaded.session().get_session_options().intra_op_num_threads == before
    assert loaded.compile_time_s == more_s


@pytest.mark.parametrize(("policy", "said"), [("passive", "0"), ("ACTIVE", "default"), ("", "default")])
def test_its_threads_wait_as_torchs_are_told_to(
    whole: Path, monkeypatch: pytest.MonkeyPatch, policy: str, said: str
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    options = compressors.load(whole).session().get_session_options()
    try:
        spinning = options.get_session_config_entry("session.intra_op.allow_spinning")
    except RuntimeError:  # it was not set
        spinning = "default"
    assert spinning == said


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("mp+onnx", "half precision"),
        ("int8+onnx", "write onnx:int8"),
        ("compile+onnx", "a model is run by one engine"),
        ("onnx:int4", "precision=int4 is unknown; use float32 or int8"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_made(spec: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        check(parse_variant(spec), "cpu")


def test_where_the_device_cannot_the_row_is_skipped(tokenizer: PreTrainedTokenizerBase) -> None:
    context = context_of(tiny(), tokenizer)
    context.device = "cuda"
    for spec, reason in [("onnx", "onnxruntime-gpu"), ("onnx:int8", "no int8 kernels for CUDA")]:
        with pytest.raises(Refusal, match=reason):
            parse_variant(spec).parts[0].prepare(tiny(), context)


def test_a_model_that_torch_cannot_export_is_refused(
    made: Make, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = type(tiny())

    def looks(self: PreTrainedModel, input_ids: torch.Tensor, **_: torch.Tensor) -> object:
        raise ValueError("depends on data") if input_ids.sum() > 3 else AssertionError

    monkeypatch.setattr(family, "forward", looks)
    with pytest.raises(Refusal, match="onnx: torch cannot export this bert model"):
        parse_variant("onnx").parts[0].build(tiny(), whole)
