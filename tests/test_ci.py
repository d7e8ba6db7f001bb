"""What the guide to CI says of marks, exit codes, settings and options is what the product does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from bench.cli import app
from bench.errors import ExitCode
from bench.gate import read_thresholds
from bench.nouns.comparison import MARKS
from bench.settings import Settings, read_settings

GUIDE = (Path(__file__).parents[1] / "docs/ci.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(?: {4}|    - )(bench \w+ .*)$", GUIDE, flags=re.MULTILINE)


def first_column(head: str) -> list[str]:
    """The first cells of the table that is headed so, without the quotes of code."""
    table = re.search(rf"^\| {head} \|.*\n\|-.*\n((?:\|.*\n)+)", GUIDE, flags=re.MULTILINE)
    assert table
    return [row.split("|")[1].strip().strip("`") for row in table[1].splitlines()]


def test_every_mark_is_explained() -> None:
    assert set(first_column("mark")) == set(MARKS.values())


def test_every_exit_code_is_explained() -> None:
    assert [int(code) for code in first_column("exit code")] == [int(code) for code in ExitCode]


def test_the_settings_it_shows_are_all_there_are(tmp_path: Path) -> None:
    [table] = re.findall(r"```toml\n(.*?)```", GUIDE, flags=re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
    settings = read_settings(tmp_path)
    assert settings.model_fields_set == set(Settings.model_fields)
    assert [threshold.metric for threshold in read_thresholds(settings.fail_on)] == [
        "speedup",
        "accuracy",
        "disk_size",
    ]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_options_of_its_commands_exist(line: str) -> None:
    command, *options = re.findall(r"(?<=^bench )\w+|(?<=\s)--[\w-]+", line)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    known = {option for parameter in group.commands[command].params for option in parameter.opts}
    assert set(options) <= known
