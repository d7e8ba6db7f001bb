"""Variants, numbers and places that cannot be used: named in one line, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.inputs.refused import carried_out, listing, refused

SPECS: dict[str, tuple[str, str]] = {
    "nothing": ("", "no variant named"),
    "only commas": (",, ,", "no variant named"),
    "an unknown technique": ("bmpp25", "did you mean 'bmp'?"),
    "an unknown preset": ("modrn", "did you mean 'modern'?"),
    "a glob of nothing": ("zz*", "'zz*' matches nothing"),
    "half a bracket": ("[a", "'[a' matches nothing"),
    "above 100 %": ("bmp200", "amount=2 must lie between 0 and 1"),
    "0 %": ("bmp0", "amount=0 must lie between 0 and 1"),
    "below 0 %": ("bmp-5", "unknown variant 'bmp-5'"),
    "no ASCII digits": ("bmp２५", "unknown variant 'bmp２५'"),
    "an exponent": ("bmp1e2", "unknown variant 'bmp1e2'"),
    "not a number": ("bmp:amount=nan", "amount=nan is not a number"),
    "infinity": ("bmp:amount=inf", "amount=inf is not a number"),
    "an overflow": ("bmp:amount=1e400", "amount=1e400 is not a number"),
    "no value": ("bmp:amount=", "amount= is not a number"),
    "no field": ("bmp:=1", "bmp has no setting ''"),
    "an unknown field": ("bmp25:amuont=1", "did you mean 'amount'?"),
    "number and field": ("bmp25:amount=0.5", "amount is given twice"),
    "a field twice": ("bmp:amount=0.5,amount=0.4", "amount is given twice"),
    "a technique twice": ("mp+mp", "mp is named twice"),
    "a pair that does not combine": ("bmp25+fisher25", "bmp and fisher do not combine"),
    "dense and more": ("dense+mp", "joins nothing"),
    "an empty part": ("bmp25+", "unknown variant ''"),
    "blocks of nothing": ("bmp50:block=0", "block=0"),
    "half a block": ("bmp50:block=1.5", "block=1.5 is not a whole number"),
    "a flag as number": ("bmp50:block=true", "block=true is not a whole number"),
    "a number as flag": ("bmp50:uniform=1", "uniform=1 is not true or false"),
    "a path as dtype": ("mp:dtype=../../x", "dtype=../../x is unknown"),
    "no layers": ("kd:layers=0", "layers=0"),
    "fewer than no layers": ("kd:layers=-1", "layers=-1"),
    "cold distillation": ("kd:temperature=0", "temperature=0.0 must be above 0"),
    "a path": ("../../x", "unknown variant '../../x'"),
    "quotes": ("'mp'", "did you mean 'mp'?"),
    "a line break": ("mp\nmp", "holds control characters"),
    "a terminal's command": ("load:\x1b[2J", "holds control characters"),
    "text that runs backwards": ("load:\u202egnp.exe", "holds control characters"),
    "no checkpoint": ("load:", "write load:PATH_OR_ID"),
    "a checkpoint that is not there": ("load:./nowhere", "./nowhere: no such model directory"),
    "5,000 parts": ("+".join(["mp"] * 5_000), "it has 14,999 characters"),
    "100,000 characters": ("mp:dtype=" + "x" * 100_000, "it has 100,009 characters"),
    "a glob of 10,000 stars": ("?*" * 5_000, "it has 10,000 characters"),
}


@pytest.mark.parametrize(("spec", "reason"), SPECS.values(), ids=SPECS)
def test_variants_that_cannot_be_made(tmp_path: Path, spec: str, reason: str) -> None:
    line = refused(tmp_path, "run", "--dry-run", "--variants", spec)
    assert reason in line
    assert len(line) < 1_000


NUMBERS: dict[str, tuple[str, ...]] = {
    "--batch-size": ("0", "-3", "1000000000000"),
    "--max-length": ("0", "3", "1000000000"),
    "--seed": ("-1", "4294967296"),
    "--seeds": ("0", "-1", "1000000000"),
    "--epochs": ("0.0", "-1.0", "nan", "inf", "1e+308"),
    "--dense-epochs": ("0.0", "nan", "inf"),
    "--lr": ("0.0", "-1.0", "nan", "inf", "1e+30"),
    "--limit": ("0", "-1"),
    "--limit-test": ("0", "-1"),
    "--shapes": ("", "0x1", "1x", "-1x8", "１x２", "1x999999", "999999x8"),
    "--threads": ("", "0", "-1", "１", "9999"),
    "--padding": ("", "both"),
    "--country": ("XX", "../.."),
    "--device": ("cuda:7", "tpu"),
    "--keep": ("some",),
    "--task": ("", "../demo"),
    "--label-map": ("a", "=x"),
    "--fail-on": (
        "speedup",
        "speedup:",
        "speedup:-5%",
        "speedup:nan%",
        "speedup:1e9%",
        "speedup:5pt",
        "x:5%",
    ),
    "--save-baseline": ("", "../x", ".x", "a/b", "x.json", "a" * 300),
    "--plugin": ("nowhere.py", "a" * 300 + ".py"),
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in NUMBERS.items() for value in values]
)
def test_values_that_no_option_takes(tmp_path: Path, option: str, value: str) -> None:
    more = ("--baseline", "x") if option == "--fail-on" else ()
    line = refused(tmp_path, "run", "--dry-run", "--variants", "mp", option, value, *more)
    assert value in line
    assert len(line) < 1_000


def test_more_seeds_than_there_are(tmp_path: Path) -> None:
    asked = ("run", "--dry-run", "--variants", "mp", "--seed", "4294967295", "--seeds", "2")
    assert "--seed 4294967295" in refused(tmp_path, *asked)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--quick", "--thorough"), "choose one"),
        (("--strict",), "add --baseline NAME"),
        (("--export-comment", "comment.md"), "add --baseline NAME"),
        (("--fail-on", "speedup:5%", "--fail-on", "speedup:6%", "--baseline", "x"), "stands twice"),
        (("--export-csv", "x", "--export-json", "./x"), "is the file of --export-csv too"),
    ],
)
def test_options_that_contradict_each_other(tmp_path: Path, flags: tuple[str, ...], reason: str) -> None:
    assert reason in refused(tmp_path, "run", "--dry-run", "--variants", "mp", *flags)


def file(folder: Path) -> str:
    (folder / "file").write_text("kept")
    return "file"


def link_to_itself(folder: Path) -> str:
    (folder / "loop").symlink_to("loop")
    return "loop"


def below_such_a_link(folder: Path) -> str:
    return f"{link_to_itself(folder)}/x"


def long_name(folder: Path) -> str:
    return "a" * 300


def deep_path(folder: Path) -> str:
    return "a/" * 3_000 + "a"


def kernel_file(folder: Path) -> str:
    return "/proc/nothing"


def device(folder: Path) -> str:
    return "/dev/null"


Place = Callable[[Path], str]
PLACES: dict[str, tuple[Place, ...]] = {
    "--out": (file, link_to_itself, below_such_a_link, long_name, deep_path, kernel_file, device),
    "--export-csv": (below_such_a_link, long_name, deep_path, kernel_file, device),
    "--plugin": (file, link_to_itself, long_name, device),
    "--baseline": (file,),
    "--resume": (file, link_to_itself, long_name, device),
}


@pytest.mark.parametrize(
    ("option", "place"), [(option, place) for option, places in PLACES.items() for place in places]
)
def test_places_that_cannot_be_used(tmp_path: Path, option: str, place: Place) -> None:
    name = place(tmp_path)
    asked = () if option == "--resume" else ("--variants", "mp", "--limit", "24", "--limit-test", "24")
    line = refused(tmp_path, "run", *asked, option, name)
    assert name in line


@pytest.mark.parametrize("place", [file, link_to_itself, below_such_a_link, kernel_file, device])
def test_a_cache_that_cannot_be_made_leaves_no_run(tmp_path: Path, place: Place) -> None:
    name = place(tmp_path)
    before = listing(tmp_path)
    asked = ("--variants", "mp", "--limit", "24", "--limit-test", "24", "--out", "run", "--cache", name)
    code, out, err = carried_out(tmp_path, "run", *asked)
    assert code == 2
    assert not out
    assert "bench: --cache " in err.splitlines()[-1]
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "lowercase letters"),
        ("../x", "lowercase letters"),
        ("Name", "lowercase letters"),
        ("ｎame", "lowercase letters"),
        ("a" * 300, "lowercase letters"),
        ("class", "keyword of Python"),
        ("kd", "--variants knows this word"),
        ("bmp25", "means bmp at 25 %"),
    ],
)
def test_names_that_no_compressor_can_have(tmp_path: Path, name: str, reason: str) -> None:
    assert reason in refused(tmp_path, "new-compressor", name)


@pytest.mark.parametrize("place", [file, link_to_itself, long_name, kernel_file])
def test_places_that_no_compressor_can_be_put_in(tmp_path: Path, place: Place) -> None:
    name = place(tmp_path)
    assert f"--out {name}" in refused(tmp_path, "new-compressor", "mine", "--out", name)


@pytest.mark.parametrize("trials", ["0", "-5", "59"])
def test_too_few_trials(tmp_path: Path, trials: str) -> None:
    assert f"--trials {trials}" in refused(tmp_path, "calibrate", "--trials", trials)
