"""What `--variants` may say: presets, globs, specs, and techniques from the user's own files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from bench.errors import InputError
from compressors import registry
from compressors.presets import PRESETS, expand
from compressors.variant import Variant, parse_variant
from tests.compressors.tiny import context_of, tiny

SIXTEEN = [
    "dense",
    "bmp25",
    "bmp50",
    "bmp75",
    "kd",
    "bmp25+kd",
    "bmp50+kd",
    "bmp75+kd",
    "mp",
    "bmp25+mp",
    "bmp50+mp",
    "bmp75+mp",
    "kd+mp",
    "bmp25+kd+mp",
    "bmp50+kd+mp",
    "bmp75+kd+mp",
]


def names(text: str) -> list[str]:
    return [variant.name for variant in expand(text, "cpu")]


def test_all_is_the_studys_sixteen_with_dense_first() -> None:
    assert names("all") == SIXTEEN


def test_study_is_the_same_sixteen_with_students_of_full_depth() -> None:
    assert names("study") == [name.replace("kd", "kd:layers=all") for name in SIXTEEN]


def test_fast_trains_nothing() -> None:
    variants = expand("fast", "cpu")
    assert [variant.name for variant in variants] == ["dense", "mp"]
    assert not any(variant.trains for variant in variants)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mp", ["dense", "mp"]),
        ("mp,dense,mp", ["dense", "mp"]),
        ("kd+bmp25,bmp25+kd,bmp:amount=0.25+kd", ["dense", "bmp25+kd"]),
        ("bmp25*", ["dense", "bmp25", "bmp25+kd", "bmp25+mp", "bmp25+kd+mp"]),
        ("bmp[57]*+kd", ["dense", "bmp50+kd", "bmp75+kd"]),
        ("f?", ["dense", "ft"]),
        ("fast,bmp40:block=16,mp", ["dense", "mp", "bmp40:block=16"]),
        ("load:models/[1]*", ["dense", "load:models/[1]*"]),
        ("bmp:amount=0.4,block=16,kd:layers=1", ["dense", "bmp40:block=16", "kd:layers=1"]),
    ],
)
def test_a_list_expands_with_dense_first_and_each_variant_once(text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_all_and_its_globs_name_the_same_variants_once() -> None:
    assert names("all,*kd*,study") == [*SIXTEEN, *names("study")[4:8], *names("study")[12:]]


@pytest.mark.parametrize(
    ("text", "part_of_the_error"),
    [
        ("", "no variant named"),
        (" , ", "no variant named"),
        ("zz*", "'zz*' matches nothing"),
        ("studdy", "did you mean 'study'?"),
        ("al", "did you mean 'all'?"),
        ("denes", "did you mean 'dense'?"),
        ("bmp25,kd+xp", "unknown variant 'xp'"),
        ("bmp100", "amount=1 must lie"),
        ("ft+bmp25", "do not combine"),
        ("all+mp", "unknown variant 'all'"),
    ],
)
def test_what_cannot_be_expanded_is_named_in_one_line(text: str, part_of_the_error: str) -> None:
    with pytest.raises(InputError) as raised:
        expand(text, "cpu")
    assert part_of_the_error in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


PLUGIN = '''
"""Scales the classifier's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compressors import Compressor, Phase


@dataclass
class Scaled(Compressor):
    name: ClassVar[str] = "scaled8"
    phase: ClassVar[Phase] = Phase.PRECISION
    summary: ClassVar[str] = "scales the classifier"
    trains: ClassVar[bool] = False
    number: ClassVar[str | None] = "share"

    share: float = 0.5
    times: int = 1
    odd: list[int] | None = None

    def finish(self, model, context):
        for _ in range(self.times):
            model.classifier.weight.data.mul_(self.share)
        context.notes.append(f"scaled {self.times} times")
        return model
'''


@pytest.fixture
def known_before() -> Iterator[set[str]]:
    """The techniques there were; those that a test adds go again."""
    classes, plugins = dict(registry.compressor_classes()), set(registry._plugins)
    yield set(classes)
    registry._classes.clear()
    registry._classes.update(classes)
    registry._plugins.clear()
    registry._plugins.update(plugins)


def plugin(folder: Path, text: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.usefixtures("known_before")
def test_a_technique_from_a_file_is_parsed_spelled_and_applied(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    registry.add_plugins([plugin(tmp_path, PLUGIN)])
    assert names("scaled8,scaled825:times=2+bmp50") == ["dense", "scaled850", "bmp50+scaled825:times=2"]
    variant = parse_variant("scaled825:times=2")
    model = tiny()
    before = model.classifier.weight.detach().clone()
    context = context_of(model, tokenizer)
    finished = variant.parts[0].finish(model, context)
    torch.testing.assert_close(finished.classifier.weight, before / 16)
    assert context.notes == ["scaled 2 times"]


@pytest.mark.usefixtures("known_before")
def test_a_plugins_odd_settings_are_refused_when_they_are_used(tmp_path: Path) -> None:
    registry.add_plugins([plugin(tmp_path, PLUGIN)])
    with pytest.raises(InputError, match="odd cannot be set"):
        parse_variant("scaled8:odd=1")


@pytest.mark.usefixtures("known_before")
def test_the_same_file_twice_is_one_plugin(tmp_path: Path) -> None:
    file = plugin(tmp_path, PLUGIN)
    registry.add_plugins([file, file])
    registry.add_plugins([file])
    assert "scaled8" in registry.compressor_classes()


@pytest.mark.usefixtures("known_before")
def test_two_files_of_one_name_are_two_plugins(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = plugin(tmp_path / "other", PLUGIN.replace("scaled8", "shrunk"))
    registry.add_plugins([plugin(tmp_path, PLUGIN), other])
    assert {"scaled8", "shrunk"} <= set(registry.compressor_classes())


@pytest.mark.parametrize(
    ("text", "part_of_the_error"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module_here\n", "ModuleNotFoundError: No module named"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines"),
        ("x = 1\n", "defines no Compressor"),
        ("from compressors.bmp import BlockMovementPruning\n", "defines no Compressor"),
        (PLUGIN.replace('"scaled8"', '"bmp"'), "'bmp' exists already"),
        (PLUGIN.replace('"scaled8"', '"dense"'), "'dense' exists already"),
        (PLUGIN.replace('"scaled8"', '"all"'), "'all' exists already"),
        (PLUGIN.replace('"scaled8"', '"My-Name"'), "'My-Name' is not 1 to 40 lowercase letters"),
        (PLUGIN.replace('    name: ClassVar[str] = "scaled8"\n', ""), "declares no name"),
        (
            PLUGIN + PLUGIN[PLUGIN.index("@dataclass") :].replace("Scaled", "Other"),
            "'scaled8' exists already",
        ),
    ],
)
def test_an_unusable_plugin_is_named_in_one_line_and_leaves_nothing(
    tmp_path: Path, known_before: set[str], text: str, part_of_the_error: str
) -> None:
    file = plugin(tmp_path, text)
    with pytest.raises(InputError) as raised:
        registry.add_plugins([file])
    assert part_of_the_error in str(raised.value)
    assert str(file) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert set(registry.compressor_classes()) == known_before


@pytest.mark.parametrize("name", ["missing.py", "notes.txt", "."])
@pytest.mark.usefixtures("known_before")
def test_what_is_no_python_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="not a Python file"):
        registry.add_plugins([tmp_path / name])


def test_our_own_techniques_are_all_there() -> None:
    assert list(registry.compressor_classes()) == [
        *("ft", "load", "layers", "vocab", "kd"),
        *("bmp", "magnitude", "random", "fisher"),
        *("mp", "int8", "fp8"),
        *("compile", "graphs", "onnx", "unpadded", "sorted"),
    ]
    assert all(kind.summary for kind in registry.compressor_classes().values())
    assert Variant().name == "dense"


def test_attribution_adds_what_each_combination_is_made_of_the_smallest_first() -> None:
    found = [variant.name for variant in expand("bmp25+kd+mp", "cpu", attribute=True)]
    assert found == [
        "dense",
        *("kd", "bmp25", "mp"),
        *("bmp25+kd", "kd+mp", "bmp25+mp"),
        "bmp25+kd+mp",
    ]
    assert [v.name for v in expand("bmp25+kd,mp", "cpu", attribute=True)] == [
        *("dense", "kd", "bmp25", "bmp25+kd", "mp")
    ]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("mp+mp:dtype=bfloat16", "mp is named twice"),
        ("bmp25+bmp50", "bmp is named twice"),
    ],
)
def test_a_technique_twice_is_refused_by_name(spec: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        expand(spec, "cpu")


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_variant_of_a_preset_can_be_asked_for(preset: str, device: str) -> None:
    assert [variant.name for variant in expand(preset, device)] == PRESETS[preset][1]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("bmp50+fisher25", "bmp and fisher do not combine: each decides by itself which heads"),
        ("int8+mp", "do not combine: weights have one precision"),
        ("onnx+compile", "do not combine: a model is run by one engine"),
        ("kd+layers", "write kd:layers=N"),
        ("int8+onnx", "write onnx:int8"),
        ("ft+kd", "kd is trained anyway"),
    ],
)
def test_what_cannot_work_together_is_refused_by_both_names_with_the_reason(spec: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as raised:
        expand(spec, "cpu")
    for name in re.findall(r"[a-z]+", spec.replace("8", "")):
        assert name in str(raised.value)
