"""The conformance suite passes what can be trusted, and says what cannot and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from bench.errors import InputError, Refusal
from compressors import Compressor, registry
from compressors.mp import MixedPrecision
from compressors.registry import compressor_classes
from compressors.testing import check, toy
from compressors.variant import parse_variant
from tests.compressors import broken

# What cannot be asked for by its name alone, or takes minutes.
SPELLED: dict[str, Any] = {
    "load": "load:ARTIFACT",
    "fisher": "fisher50",
    "compile": pytest.param("compile", marks=pytest.mark.slow),
}
# What these say without their hardware; whatever else refuses, or for another reason, has failed.
LACKING = {"graphs": "needs a CUDA device", "fp8": "needs a GPU of compute capability"}
SPECS = [*(SPELLED.get(name, name) for name in compressor_classes()), "bmp50:uniform=true"]

BROKEN: list[tuple[Compressor, str]] = [
    (broken.ListSetting(), r"spelling: layers is of type tuple\[int, ...\], which no spec can spell"),
    (broken.Texts(words="c+d"), r"spelling: its spec texts:words=c\+d cannot be read back"),
    (broken.Texts(words="c,others=d"), "reads back as texts:words=c,others=d; keep commas"),
    (broken.ChangesSetting(), r"spelling: asked for {'strength': 0.5}, .* records {'strength': 1.0}"),
    (
        broken.DefaultDtype(),
        "dense untouched: torch's default dtype went from .*32 to .*64",
    ),
    (broken.NoGradients(), "dense untouched: torch's recording of gradients went from True to False"),
    (broken.PatchesClass(), "dense untouched: a dense model loaded before gives other logits after"),
    (broken.WritesIntoDense(), "dense untouched: the files of dense changed"),
    (
        broken.RenamesClasses(),
        r"labels: the classes are called \['LABEL_0', 'LABEL_1', .*\], the data",
    ),
    (broken.OneSidedNames(), "labels: label2id is .*, which is not id2label's inverse"),
    (broken.NamesOfRuntime(), "labels: the classes are .* in the artifact and .* with its runtime"),
    (
        broken.ReordersNames(),
        r"labels: \d+ of 96 predictions are dense's by name, \d+ with",
    ),
    (broken.LeavesTrainMode(), "eval mode: classifier of the reloaded model is in training mode"),
    (broken.NotANumber(), r"eval mode: .* logits of shape \(96, 3\), 96 of them not finite"),
    (broken.Noisy(), "eval mode: the same rows asked twice give logits .* apart"),
    (broken.ElsewhereOnDevice(), r"device: asked for cpu, .* tensors on \['cpu', 'meta'\]"),
    (
        broken.MixedDtypes(),
        r"dtype: the weights were saved as \['float16', 'float32'\], loaded as float32",
    ),
    (broken.CastsInMemory(), r"dtype: saved as float32, the reloaded model has weights of \['bfloat16'\]"),
    (broken.IgnoresMask(), "neighbours: rows alone and in batches give logits .* apart"),
    (broken.StateInClass(), "reload: in another process the artifact gives logits (49|50).* apart"),
    (
        broken.HookIsLost(),
        "reload: the model that `finish` gave and the one in the artifact .* (49|50).* apart",
    ),
    (broken.class_in_function()(), r"reload: .*broken\.py defines no in_function at its top level"),
    (broken.Unseeded(), r"seed: made twice .* 1 of \d+ weights differ, such as \['classifier.weight'\]"),
]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered here is so for one test alone."""
    monkeypatch.setattr(registry, "_classes", dict(compressor_classes()))


@pytest.mark.parametrize("spec", SPECS)
def test_our_own_keep_their_promises(spec: str) -> None:
    [part] = parse_variant(spec.replace("ARTIFACT", f"{toy('cpu').dense}/artifact")).parts
    try:
        check(part)
    except Refusal as reason:
        if part.name not in LACKING or LACKING[part.name] not in str(reason):
            raise
        pytest.skip(str(reason))


def test_scales_of_whole_batches_are_allowed_for_where_said() -> None:
    """ONNX Runtime's int8 takes one scale of a batch's inputs: 0.4 % of the largest logit here."""
    [part] = parse_variant("onnx:int8").parts
    check(part, neighbours=0.05)


class Undecorated(broken.Broken):
    name: ClassVar[str] = "undecorated"
    strength: float = 0.5


@dataclass
class NoDefault(broken.Broken):
    strength: float

    name: ClassVar[str] = "no_default"


@pytest.mark.parametrize(
    ("compressor", "sentence"),
    [(Undecorated(), "is no dataclass; put @dataclass"), (NoDefault(0.5), "strength has no default")],
    ids=["undecorated", "no default"],
)
def test_a_class_that_no_variant_can_have_is_named(compressor: Compressor, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check(compressor)


@pytest.mark.parametrize(("compressor", "sentence"), BROKEN, ids=lambda value: getattr(value, "name", ""))
def test_a_broken_promise_is_one_sentence(compressor: Compressor, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence) as raised:
        check(compressor)
    [line] = str(raised.value).splitlines()
    assert "; " in line, "what to do comes after what was seen"


@pytest.mark.parametrize(
    ("compressor", "reason"),
    [
        (broken.Refuses(), "refuses: not with a BERT"),
        (broken.LacksPackage(), r"needs an_engine_that_is_nowhere.*pip install '.*\[engines\]'"),
    ],
)
def test_a_refusal_comes_through_as_it_is(compressor: Compressor, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        check(compressor)


def test_unusable_settings_are_told_before_anything_is_made() -> None:
    with pytest.raises(InputError, match="dtype=float8 is unknown"):
        check(MixedPrecision(dtype="float8"))


def test_a_name_that_is_taken_is_told() -> None:
    class Second(broken.Broken):
        name = "mp"

    with pytest.raises(InputError, match="'mp' exists already"):
        check(Second())
