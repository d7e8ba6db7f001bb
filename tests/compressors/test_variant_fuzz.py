"""The variant grammar under random spelling: a variant with one name, or one line that refuses it."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError
from compressors.presets import expand
from compressors.variant import Variant, parse_variant, split_variants

SPECS = (
    "bmp25",
    "bmp:amount=0.4,block=16",
    "bmp50:uniform=true",
    "kd:layers=all,temperature=4.0",
    "mp:dtype=bfloat16",
    "load:runs/a=b/bmp25",
    "onnx:int8",
    "int8",
    "fisher50",
    "sorted",
    "ft",
    "vocab",
    "compile",
)
near_valid = st.lists(st.sampled_from(SPECS), min_size=1, max_size=4).map("+".join)
inserted = st.text(string.punctuation + string.digits + "abx \t\n\0\x1b\u202e२²é", max_size=3)


@st.composite
def misspelled(draw: st.DrawFn) -> str:
    """A spec with a piece of it replaced, removed, or something put in."""
    spec = draw(near_valid)
    start = draw(st.integers(0, len(spec)))
    end = draw(st.integers(start, min(len(spec), start + 3)))
    return spec[:start] + draw(inserted) + spec[end:]


def read(spec: str) -> Variant | None:
    """The variant, or None where it is refused in one line."""
    try:
        return parse_variant(spec)
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal
    return None


@given(misspelled() | st.text(max_size=40))
def test_what_is_read_has_one_name(text: str) -> None:
    for spec in [text, *split_variants(text)]:
        variant = read(spec)
        if variant is not None:
            assert parse_variant(variant.name) == variant
            assert parse_variant(variant.name).name == variant.name


@given(st.permutations(["bmp25", "kd", "mp", "sorted", "compile"]), st.integers(1, 5))
def test_the_order_across_phases_does_not_count(parts: list[str], count: int) -> None:
    some = parts[:count]
    assert parse_variant("+".join(some)) == parse_variant("+".join(sorted(some)))


@given(st.lists(misspelled() | st.sampled_from(["all", "*", "bmp*", ""]), max_size=3).map(",".join))
def test_a_list_gives_each_variant_once_and_dense_first(text: str) -> None:
    refusal = ""
    try:
        names = [variant.name for variant in expand(text, "cpu")]
    except InputError as error:
        names, refusal = ["dense"], str(error)
    assert "\n" not in refusal
    assert names[0] == "dense"
    assert len(set(names)) == len(names)
