"""The variant grammar: what a user may write, and the one name that each variant has."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError
from compressors.bmp import BlockMovementPruning
from compressors.checkpoint import Load
from compressors.contract import Phase
from compressors.ft import FineTune
from compressors.kd import Distillation
from compressors.mp import MixedPrecision
from compressors.variant import Variant, check, parse_variant, split_variants

numbers = st.floats(min_value=1e-9, max_value=1e30, allow_nan=False)
paths = st.text(string.ascii_letters + string.digits + "/._-=:[]*अ", min_size=1)
prunings = st.builds(
    BlockMovementPruning,
    amount=st.floats(min_value=0.0, max_value=0.66, exclude_min=True),
    block=st.integers(1, 10**6),
    uniform=st.booleans(),
    multiple=st.integers(1, 4096),
    score_lr=numbers,
    regularization=numbers,
)
distillations = st.builds(
    Distillation,
    layers=st.sampled_from(["half", "all"]) | st.integers(1, 9999).map(str),
    temperature=numbers,
    soft_share=st.floats(0, 1),
)
loads = st.builds(Load, path=paths)
trained = st.tuples(prunings, distillations)
precisions = st.builds(MixedPrecision, dtype=st.sampled_from(["bfloat16", "float16"]))
valid_parts = st.one_of(
    st.just(()),
    st.tuples(prunings),
    st.tuples(distillations),
    st.tuples(st.builds(FineTune)),
    st.tuples(loads),
    trained,
)
variants = st.builds(
    lambda parts, precision: Variant(tuple(sorted((*parts, *precision), key=lambda part: part.phase))),
    valid_parts,
    st.just(()) | st.tuples(precisions),
)


@given(variants)
def test_every_valid_variant_is_read_back_from_its_name(variant: Variant) -> None:
    assert parse_variant(variant.name) == variant
    assert parse_variant(variant.name).name == variant.name


def test_a_plus_inside_a_path_that_exists_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "artifacts" / "bmp25+kd").mkdir(parents=True)
    (tmp_path / "kd_layers=4+mp").mkdir()
    monkeypatch.chdir(tmp_path)
    for spec, names in (
        ("load:artifacts/bmp25+kd", ["load"]),
        ("load:artifacts/bmp25+kd+mp", ["load", "mp"]),
        ("kd:student=artifacts/bmp25+kd+mp", ["kd", "mp"]),
        ("load:path=kd_layers=4+mp", ["load"]),
        ("load:path=kd_layers=4+mp+int8", ["load", "int8"]),
        ("load:elsewhere/bmp25+kd", ["load", "kd"]),
        ("bmp50+kd:student=artifacts+mp", ["kd", "bmp", "mp"]),
    ):
        assert [part.name for part in parse_variant(spec).parts] == names


@given(st.lists(variants, min_size=1, max_size=4))
def test_a_comma_list_of_names_splits_into_these_names(several: list[Variant]) -> None:
    names = [variant.name for variant in several]
    assert split_variants(",".join(names)) == names


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("dense", "dense"),
        ("bmp", "bmp25"),
        ("bmp25", "bmp25"),
        ("bmp07", "bmp7"),
        ("bmp28", "bmp28"),
        ("bmp:amount=0.25", "bmp25"),
        ("bmp:amount=0.4,block=16", "bmp40:block=16"),
        ("bmp:block=32,amount=0.4", "bmp40"),
        ("bmp12.5", "bmp12.5"),
        ("bmp:amount=0.125", "bmp12.5"),
        ("bmp33.3", "bmp33.3"),
        ("bmp:amount=1e-12", "bmp:amount=1e-12"),
        ("kd+bmp25", "bmp25+kd"),
        ("bmp25+kd", "bmp25+kd"),
        ("mp+kd+bmp75", "bmp75+kd+mp"),
        (" bmp25 + kd ", "bmp25+kd"),
        ("kd:layers=half", "kd"),
        ("kd:temperature=4,layers=3", "kd:layers=3,temperature=4.0"),
        ("kd:temperature=1e16", "kd:temperature=1e16"),
        ("bmp:uniform=true", "bmp25:uniform=true"),
        ("mp:dtype=bfloat16", "mp"),
        ("load:some/model", "load:some/model"),
        ("load:path=some/model", "load:some/model"),
        ("load:path=a=b", "load:path=a=b"),
        ("load:C:models", "load:C:models"),
    ],
)
def test_one_variant_has_one_name(spec: str, name: str) -> None:
    assert parse_variant(spec).name == name


def test_percent_is_a_share_of_the_techniques_number_field() -> None:
    assert parse_variant("bmp12.5").parts == (BlockMovementPruning(amount=0.125),)


def test_parts_act_in_the_order_of_their_phases_however_spelled() -> None:
    phases = [part.phase for part in parse_variant("mp+bmp25+kd").parts]
    assert phases == [Phase.ARCHITECTURE, Phase.MASKS, Phase.PRECISION]


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("bmp25,kd", ["bmp25", "kd"]),
        (" bmp25 , kd ", ["bmp25", "kd"]),
        ("bmp:amount=0.4,block=16,kd", ["bmp:amount=0.4,block=16", "kd"]),
        ("bmp25+kd:layers=all,temperature=3,mp", ["bmp25+kd:layers=all,temperature=3", "mp"]),
        ("bmp:amount=0.4, block=16+mp,dense", ["bmp:amount=0.4, block=16+mp", "dense"]),
        ("bmp25,,kd,", ["bmp25", "kd"]),
        ("load:a,load:b", ["load:a", "load:b"]),
        ("x:one=1,lr2=3,Two=4", ["x:one=1,lr2=3,Two=4"]),
        ("", []),
    ],
)
def test_commas_separate_variants_but_not_settings(text: str, specs: list[str]) -> None:
    assert split_variants(text) == specs


@pytest.mark.parametrize(
    ("spec", "part_of_the_error"),
    [
        ("bmpp25", "did you mean 'bmp'?"),
        ("bmp-25", "did you mean 'bmp'?"),
        ("quantise", "known: dense, ft, load, "),
        ("", "unknown variant ''"),
        ("+", "unknown variant ''"),
        ("25", "unknown variant '25'"),
        ("bmp25+", "unknown variant ''"),
        ("+bmp25", "unknown variant ''"),
        ("dense+mp", "joins nothing"),
        ("dense:x=1", "joins nothing"),
        ("kd50", "kd takes no number; write kd"),
        ("bmp:amuont=0.4", "no setting 'amuont': did you mean 'amount'?"),
        ("bmp:0.4", "bmp has no setting '0.4'"),
        ("bmp:amount=half", "amount=half is not a number"),
        ("bmp:amount=", "amount= is not a number"),
        ("bmp:amount=nan", "amount=nan is not a number"),
        ("kd:temperature=inf", "temperature=inf is not a number"),
        ("bmp:block=16.5", "block=16.5 is not a whole number"),
        ("bmp:uniform=yes", "uniform=yes is not true or false"),
        ("bmp25:amount=0.4", "amount is given twice"),
        ("bmp:amount=0.2,amount=0.3", "amount is given twice"),
        ("load:a,path=b", "path is given twice"),
        ("mp:dtype=a\nb", "holds control characters"),
        ("bmp" + "9" * 400, "unknown variant"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(spec: str, part_of_the_error: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_variant(spec)
    assert part_of_the_error in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("spec", "part_of_the_error"),
    [
        ("bmp0", "amount=0 must lie between 0 and 1"),
        ("bmp100", "amount=1 must lie between 0 and 1"),
        ("bmp250", "amount=2.5 must lie between 0 and 1"),
        ("bmp:amount=-0.1", "amount=-0.1 must lie between 0 and 1"),
        ("bmp:block=0", "block=0"),
        ("bmp:multiple=0", "multiple=0"),
        ("bmp:score_lr=0", "score_lr=0 must be above 0"),
        ("bmp:regularization=-1", "regularization=-1"),
        ("bmp75:uniform=true", "lower it or drop uniform"),
        ("kd:layers=0", "layers=0"),
        ("kd:layers=-1", "layers=-1"),
        ("kd:layers=2.5", "layers=2.5"),
        ("kd:layers=²", "layers=²"),
        ("kd:layers=" + "9" * 900, "is not a number above 0"),
        ("kd:layers=3,student=x", "not both"),
        ("kd:temperature=0", "temperature=0"),
        ("kd:soft_share=1.5", "soft_share=1.5"),
        ("load:", "write load:PATH_OR_ID"),
        ("load", "write load:PATH_OR_ID"),
        ("mp:dtype=int4", "dtype=int4 is unknown"),
        ("mp:dtype=float16", "needs a CUDA device"),
    ],
)
def test_unusable_settings_are_refused_before_anything_is_made(spec: str, part_of_the_error: str) -> None:
    variant = parse_variant(spec)
    with pytest.raises(InputError) as raised:
        check(variant, "cpu")
    assert part_of_the_error in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_float16_is_for_cuda() -> None:
    check(parse_variant("mp:dtype=float16"), "cuda")


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("ft+bmp25", ["ft", "bmp"]),
        ("bmp25+ft", ["ft", "bmp"]),
        ("kd+ft", ["ft", "kd"]),
        ("load:a+bmp25", ["load", "bmp"]),
        ("bmp25+load:a", ["load", "bmp"]),
        ("kd+load:a", ["load", "kd"]),
        ("load:a+ft", ["load", "ft"]),
    ],
)
def test_parts_that_cannot_work_together_are_both_named(spec: str, names: list[str]) -> None:
    with pytest.raises(InputError, match="do not combine") as raised:
        check(parse_variant(spec), "cpu")
    first, second = names
    assert f"{first} and {second} do not" in str(raised.value) or f"{second} and {first} do not" in str(
        raised.value
    )


@pytest.mark.parametrize("spec", ["bmp25+bmp50", "mp+mp", "kd+bmp25+kd", "load:a+load:b"])
def test_a_technique_named_twice_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match="named twice"):
        check(parse_variant(spec), "cpu")


@pytest.mark.parametrize("spec", ["ft+mp", "load:{}+mp", "bmp25+kd+mp", "bmp25:uniform=true+mp"])
def test_parts_that_do_work_together_are_let_through(spec: str, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    check(parse_variant(spec.format(tmp_path)), "cpu")


def test_what_a_variant_asks_of_its_making() -> None:
    assert not parse_variant("dense").trains
    assert not parse_variant("mp").trains
    assert not parse_variant("load:a").trains
    assert parse_variant("bmp25+mp").trains
    assert parse_variant("bmp25+mp").autocast == "bfloat16"
    assert parse_variant("bmp25").autocast is None
    assert parse_variant("bmp75+kd").removed_share == 0.75
    assert parse_variant("kd").removed_share == 0.0


grammar = st.lists(
    st.sampled_from(
        [
            *["bmp", "kd", "mp", "load", "ft", "dense", "amount", "block", "layers", "temperature", "path"],
            *[
                "+",
                ",",
                ":",
                "=",
                "25",
                "0",
                "100",
                ".",
                "-",
                "nan",
                "inf",
                "1e400",
                "all",
                "true",
                " ",
                "\n",
            ],
            *["*", "९", "\x00", "\u2028", "dtype", "uniform", "/"],
        ]
    ),
    max_size=12,
).map("".join)


@given(st.text() | grammar)
def test_any_text_is_a_variant_or_a_one_line_error(text: str) -> None:
    for spec in [text, *split_variants(text)]:
        outcome = read(spec)
        if isinstance(outcome, Variant):
            assert parse_variant(outcome.name) == outcome
        else:
            assert len(str(outcome).splitlines()) == 1


def read(spec: str) -> Variant | InputError:
    """The usable variant, or why there is none; anything else is a crash."""
    try:
        variant = parse_variant(spec)
        check(variant, "cpu")
    except InputError as error:
        return error
    return variant
