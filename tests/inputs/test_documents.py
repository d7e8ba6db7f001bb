"""Run documents, baselines and settings that cannot be used: one line, exit 2, nothing written or deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.inputs.refused import carried_out, listing, refused

MACHINE = "dc52a33a7e70"
VALID = next(Path("baselines").resolve().glob(f"{MACHINE}/*-standard.json"))
TEXT = VALID.read_text()


def with_value(value: Any, *path: str | int) -> str:
    """The valid document with something else at a place."""
    document = json.loads(TEXT)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return json.dumps(document)


def with_row_twice() -> str:
    document = json.loads(TEXT)
    document["results"].append(document["results"][0])
    return json.dumps(document)


def with_schema(version: str) -> str:
    return TEXT.replace('"schema_version": 3', f'"schema_version": {version}', 1)


METRIC = ("results", 1, "metrics", "speedup")
DOCUMENTS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "EOF while parsing"),
    "half of it": (TEXT[: len(TEXT) // 2], "EOF while parsing"),
    "all but the last brace": (TEXT.rstrip()[:-1], "EOF while parsing"),
    "no JSON": ("run:\n  id: 1\n", "expected"),
    "bytes": (bytes(range(256)), "expected value"),
    "UTF-16": (TEXT.encode("utf-16"), "expected value"),
    "a list": ("[]", "should be an object"),
    "null": ("null", "should be an object"),
    "an empty object": ("{}", "Field required"),
    "JSON of something else": ('{"name": "x", "version": "1.0"}', "Field required"),
    "100,000 brackets": ("[" * 100_000, "recursion limit"),
    "100,000 objects": ('{"a":' * 100_000, "recursion limit"),
    "not a number": (TEXT.replace('"value": ', '"value": NaN, "v": ', 1), "finite number"),
    "an infinite number": (TEXT.replace('"value": ', '"value": 1e999, "v": ', 1), "finite number"),
    "a number as text": (with_value("1.5", *METRIC, "value"), "should be a valid number"),
    "an unknown key": (with_value(1, "colour"), "colour: Extra inputs"),
    "a key of 100,000 characters": (with_value(1, "x" * 100_000), "Extra inputs"),
    "a newer schema": (with_schema("4"), "written by a newer bench (schema version 4"),
    "a much newer schema": (with_schema("9" * 40), "written by a newer bench (schema version 99999999"),
    "a schema beyond all numbers": (with_schema("9" * 5_000), "number out of range"),
    "an older schema": (with_schema("2"), "written by an older bench"),
    "a schema as text": (with_schema('"3"'), "schema_version: Input should be 3"),
    "a schema as truth": (with_schema("true"), "schema_version: Input should be 3"),
    "a variant twice": (with_row_twice(), "dense at seed 0 stands twice"),
    "an artifact elsewhere": (with_value("../../etc", "results", 0, "artifact"), "lies outside"),
    "an artifact at the root": (with_value("/etc", "results", 0, "artifact"), "lies outside"),
    "a machine elsewhere": (with_value("../x", "environment", "machine_key"), "machine_key"),
    "an interval turned round": (with_value(99.0, *METRIC, "ci_low"), "is no interval"),
    "half an interval": (with_value(None, *METRIC, "ci_low"), "is no interval"),
    "fewer than no rows": (with_value(-1, "task", "rows", "test"), "greater than or equal to 0"),
    "no test rows": (with_value({"train": 5}, "task", "rows"), "there are no test rows"),
    "no seed": (with_value(-1, "results", 0, "seed"), "greater than or equal to 0"),
    "memory beyond all machines": (with_value(10**400, "environment", "memory"), "less than"),
    "yesterday": (with_value("yesterday", "started_at"), "valid datetime"),
}
Command = Callable[[str], tuple[str, ...]]
COMMANDS: dict[str, Command] = {
    "report": lambda run: ("report", run, "--export-html", "report.html"),
    "compare": lambda run: ("compare", run, str(VALID)),
    "compare with it": lambda run: ("compare", str(VALID), f"{run}/run.json"),
    "study": lambda run: ("study", run, "--out", "study"),
    "baseline save": lambda run: ("baseline", "save", run, "kept"),
    "export": lambda run: ("export", run, "dense", "exported"),
}


@pytest.mark.parametrize(("content", "reason"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_that_is_no_run(tmp_path: Path, content: str | bytes, reason: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refused(tmp_path, *COMMANDS["report"]("run"))
    assert line.startswith("bench: run/run.json: ")
    assert reason in line
    assert len(line) < 500


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_command_takes_a_broken_run(tmp_path: Path, command: Command) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(with_row_twice())
    assert "run/run.json: " in refused(tmp_path, *command("run"))


def not_there(folder: Path) -> str:
    return "nowhere"


def empty_folder(folder: Path) -> str:
    (folder / "empty").mkdir()
    return "empty"


def long_name(folder: Path) -> str:
    return "a" * 300


def link_to_itself(folder: Path) -> str:
    (folder / "loop").symlink_to("loop")
    return "loop"


def endless(folder: Path) -> str:
    (folder / "run").mkdir()
    (folder / "run" / "run.json").symlink_to("/dev/zero")
    return "run"


def folder_as_document(folder: Path) -> str:
    (folder / "run" / "run.json").mkdir(parents=True)
    return "run"


def enormous(folder: Path) -> str:
    (folder / "run").mkdir()
    with (folder / "run" / "run.json").open("wb") as file:
        file.truncate(2**33)  # a hole, which takes no room
    return "run"


@pytest.mark.parametrize(
    "place",
    [not_there, empty_folder, long_name, link_to_itself, endless, folder_as_document, enormous],
)
@pytest.mark.parametrize("command", ["report", "compare", "study", "baseline save", "export"])
def test_a_place_without_a_run(tmp_path: Path, place: Callable[[Path], str], command: str) -> None:
    name = place(tmp_path)
    assert name in refused(tmp_path, *COMMANDS[command](name))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with a run, a good baseline among bad ones, and documents that lie outside of them."""
    machine = tmp_path / "baselines" / MACHINE
    for folder in (machine, tmp_path / "run", tmp_path / "outside"):
        folder.mkdir(parents=True)
        shutil.copy(VALID, folder / ("run.json" if folder.name == "run" else "good.json"))
    (tmp_path / "baselines" / "linked").symlink_to("../outside")
    (machine / "newer.json").write_text(with_schema("4"))
    (machine / "broken.json").write_text("{")
    (machine / "folder.json").mkdir()
    (machine / "other.json").symlink_to("../../pyproject.toml")
    (tmp_path / "pyproject.toml").write_text("")
    return tmp_path


NAMES = ("", ".", "..", ".x", "-x", "a/b", "../x", "/etc/x", "a\\b", "a b", "ａ", "a\n", "x.json", "a" * 300)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_baseline_can_have(kept: Path, name: str) -> None:
    assert "not a baseline's name" in refused(kept, "baseline", "save", "run", "--", name)
    assert "no such baseline" in refused(kept, "baseline", "rm", "--", name)


@pytest.mark.parametrize(
    "machine", ["..", "../../outside", "../outside", "linked", "", f"../baselines/{MACHINE}"]
)
def test_nothing_outside_of_the_baselines_is_deleted(kept: Path, machine: str) -> None:
    line = refused(kept, "baseline", "rm", "good", "--machine", machine)
    assert f"no such baseline of the machine {machine}" in line


def test_a_machine_s_folder_that_is_a_link_does_not_pass_for_one_without_baselines(tmp_path: Path) -> None:
    for folder in ("outside", "run", "baselines"):
        (tmp_path / folder).mkdir()
    shutil.copy(VALID, tmp_path / "outside" / "good.json")
    shutil.copy(VALID, tmp_path / "run" / "run.json")
    (tmp_path / "baselines" / MACHINE).symlink_to("../outside")
    assert "is a link" in refused(tmp_path, "compare", "run", "good", "--allow-missing-baseline")
    assert "is a link" in refused(tmp_path, "baseline", "save", "run", "other")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("newer", "written by a newer bench"), ("broken", "EOF while parsing"), ("other", "EOF while parsing")],
)
def test_a_baseline_that_cannot_be_read(kept: Path, name: str, reason: str) -> None:
    for command in (("compare", "run", name), ("baseline", "show", name)):
        line = refused(kept, *command)
        assert f"{name}.json" in line
        assert reason in line


def test_a_broken_baseline_hides_no_good_one(kept: Path) -> None:
    before = listing(kept)
    code, out, err = carried_out(kept, "baseline", "list")
    assert code == 0
    assert "good" in out
    assert [line.split(":")[0] for line in err.splitlines()] == ["left out"] * 3
    assert listing(kept) == before


def test_a_missing_baseline_cannot_be_compared_with(kept: Path) -> None:
    for name in ("nowhere", "../outside/nowhere", "a" * 300):
        code, _, err = carried_out(kept, "compare", "run", name)
        assert code == 3
        assert len(err.splitlines()) == 1
        assert name in err


SETTINGS: dict[str, tuple[str | bytes, str]] = {
    "no TOML": ("[tool.bench", "cannot be read (Expected ']'"),
    "no UTF-8": (b"\xff", "cannot be read ('utf-8' codec"),
    "too deep": ("x = " + "[" * 100_000, "recursion"),
    "an unknown key": ('[tool.bench]\nbasline = "x"', "basline: did you mean 'baseline'?"),
    "an underscore": ("[tool.bench]\nfail_on = []", "fail_on: did you mean 'fail-on'?"),
    "a number for a name": ("[tool.bench]\nbaseline = 5", "baseline: Input should be a valid string"),
    "a text for a list": ('[tool.bench]\nfail-on = "speedup:5%"', "fail-on: Input should be a valid list"),
    "a text for truth": ('[tool.bench]\nstrict = "yes"', "strict: Input should be a valid boolean"),
    "no table": ("[tool]\nbench = 5", "valid dictionary"),
    "an unknown metric": ('[tool.bench]\nfail-on = ["speed:5%"]', "--fail-on speed:5%: did you mean"),
    "a metric twice": ('[tool.bench]\nfail-on = ["speedup:6%", "speedup:7%"]', "stands twice"),
}


@pytest.mark.parametrize(("content", "reason"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_be_used(kept: Path, content: str | bytes, reason: str) -> None:
    content = content if isinstance(content, bytes) else content.encode()
    (kept / "pyproject.toml").write_bytes(content)
    assert reason in refused(kept, "compare", "run", "good")
