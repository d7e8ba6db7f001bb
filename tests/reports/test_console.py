"""The console: the golden print at 80 columns, and nothing lost, cut or interpreted at any width."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Literal

import pytest
from rich.cells import cell_len
from rich.console import Console

from bench.nouns.run import Run
from reports import console
from reports.content import essentials, report

UGLY = "bmp:amount=0.4,block=16+kd:layers=2"


def printed(run: Run, width: int = 80, terminal: bool = False) -> str:
    out = io.StringIO()
    colours: Literal["truecolor", "auto"] = "truecolor" if terminal else "auto"
    console.render(run, Console(file=out, width=width, force_terminal=terminal, color_system=colours))
    return out.getvalue()


def renamed(run: Run, old: str, new: str) -> Run:
    results = [r.model_copy(update={"variant": new}) if r.variant == old else r for r in run.results]
    return run.model_copy(update={"results": results})


def test_console_at_80_columns(run: Run, golden: Callable[[str, str], None]) -> None:
    golden("console-80.txt", printed(run))


def test_the_study_s_sixteen_at_80_columns(sixteen: Run, golden: Callable[[str, str], None]) -> None:
    out = printed(sixteen)
    golden("console-80-sixteen.txt", out)
    assert "continued" not in out
    speed = out[out.index("Speed and accuracy") : out.index("Δ pts: accuracy")].splitlines()
    assert len(speed) == 4 + 16 + len(["best"])


def test_two_seeds_and_rows_seen_in_training_at_80_columns(
    seeded: Run, golden: Callable[[str, str], None]
) -> None:
    golden("console-80-seeds.txt", printed(seeded))


def test_a_group_of_columns_stays_together_where_a_table_is_cut(seeded: Run) -> None:
    speed, _, rest = printed(seeded).partition("\nSpeed and accuracy (quick budget), continued\n")
    assert "kept?" in speed[speed.index("\nSpeed and accuracy") :]
    assert "Speedup" not in speed[speed.index("\nSpeed and accuracy") :]
    heads = rest[: rest.index("dense (seed 1)")]
    assert "Speedup" in heads
    assert "Faster?" in heads


@pytest.mark.parametrize("terminal", [False, True])
def test_no_line_ends_in_spaces(sixteen: Run, terminal: bool) -> None:
    out = re.sub(r"\x1b\[[0-9;]*m", "", printed(sixteen, terminal=terminal))
    assert not re.search(r" $", out, flags=re.M)


def test_the_recommended_row_is_marked_without_its_name_growing_wider(sixteen: Run) -> None:
    lines = printed(sixteen).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("★"))
    assert lines[start].startswith("★ bmp25+kd+mp  ")
    assert lines[start + 1] == "  best"


def test_details_are_left_to_the_report_which_is_named(run: Run) -> None:
    out = printed(run)
    assert not re.search("Scenario|Stopped before|2 layers lost all|numpy", out)
    assert out.count("report.md") == 1


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200])
def test_every_line_fits_and_every_cell_is_whole(run: Run, width: int) -> None:
    out = printed(run, width)
    lines = out.splitlines()
    assert max(map(cell_len, lines)) <= width
    assert "…" not in out
    for table in essentials(report(run)).tables:
        for row in table.rows:
            for cell in row.cells:
                assert any(re.search(rf"(?:^|\s){re.escape(cell)}(?:\s|$)", line) for line in lines), cell


@pytest.mark.parametrize("name", [UGLY, "x" * 61, "load:/models/a very long path/to a checkpoint"])
def test_a_long_name_is_folded_and_not_cut(run: Run, name: str) -> None:
    out = printed(renamed(run, UGLY, name))
    assert max(map(cell_len, out.splitlines())) <= 80
    speed = out[out.index("Speed and accuracy") : out.index("onnx+int8")]
    first_column = "".join(line[: console.LABEL_WIDTH].replace(" ", "") for line in speed.splitlines())
    assert name.replace(" ", "") in first_column


def test_a_long_name_is_broken_after_its_separators(run: Run) -> None:
    seeds = [*run.results, *(result.model_copy(update={"seed": 2}) for result in run.results)]
    lines = [
        line[: console.LABEL_WIDTH].rstrip()
        for line in printed(run.model_copy(update={"results": seeds})).splitlines()
    ]
    start = lines.index("bmp:amount=0.4,")
    assert lines[start + 1 : start + 4] == ["block=16+", "kd:layers=2", "(seed 1)"]


def test_tables_are_split_only_where_they_must_be(run: Run) -> None:
    assert "continued" not in printed(run, 80)
    assert "continued" in printed(run, 60)


def test_markup_and_escape_codes_in_names_and_reasons_are_literal(run: Run) -> None:
    results = [
        r.model_copy(update={"reason": "[red]x[/] \x1b[31mred\nnext [/nope]"}) if r.status == "failed" else r
        for r in run.results
    ]
    out = printed(renamed(run.model_copy(update={"results": results}), "mp", "[bold]mp[/]"))
    assert "[red]x[/] \\x1b[31mred next [/nope]" in out
    assert "[bold]mp[/]" in out
    assert "\x1b" not in out


def test_a_pipe_gets_no_escape_codes_and_a_terminal_the_same_words(run: Run) -> None:
    piped, coloured = printed(run), printed(run, terminal=True)
    assert "\x1b" not in piped
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == piped


def test_no_color_is_honoured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    green = re.compile(r"\x1b\[[0-9;]*32m")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert green.search(printed(run, terminal=True))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not green.search(printed(run, terminal=True))


def test_wide_characters_count_by_their_cells(run: Run) -> None:
    out = printed(renamed(run, UGLY, "load:圧縮されたモデルの長い名前"))
    assert max(map(cell_len, out.splitlines())) <= 80


def test_each_warning_stands_on_its_own_line_before_the_conclusion(run: Run) -> None:
    out = printed(run, 140)
    after = out[out.index("\nWarnings") :].splitlines()
    assert after[2:4] == [f"- {w.text}; {w.remedy}" for w in run.environment.warnings]
    assert after[-1].startswith("`bmp25+kd+mp` is 3.10 ± 0.13 times faster than `dense`")


def test_a_run_with_no_results_prints(run: Run) -> None:
    out = printed(run.model_copy(update={"results": []}))
    assert out.rstrip().endswith("no compressed variant was measured.")


def test_a_run_in_which_a_variant_s_speed_is_missing_prints_whole(slowed: Run) -> None:
    out = printed(slowed)
    assert "throughput, speedup, speedup same precision (mp)" in re.sub(r"\s+", " ", out)
    assert max(map(cell_len, out.splitlines())) <= 80
