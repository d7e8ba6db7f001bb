"""The break-even count in the cost table: with its interval where there is one, with the reason elsewhere."""

from __future__ import annotations

import pytest

from bench.break_even import add_break_even
from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import Run
from reports import markdown

NOTE = "break-even: so many texts repay"


@pytest.fixture
def metered(run: Run) -> Run:
    """The run with its energies measured, those of a row within 2 %, and counted."""

    def by_counter(name: str, old: Measurement) -> Measurement:
        interval = (0.98 * old.value, 1.02 * old.value) if name.startswith("inference") else None
        return measured(name, old.value, "RAPL", interval)

    for result in run.results:
        result.metrics |= {
            name: by_counter(name, old)
            for name, old in result.metrics.items()
            if name.startswith(("compress_energy", "inference_energy"))
        }
    add_break_even(run)
    return run


def cost_table(run: Run) -> str:
    """The cost table in Markdown, with its notes."""
    text = markdown.render(run)
    return text[text.index("Cost, CO2 for") :].split("\n## ")[0]


def test_the_count_and_the_energy_of_a_row_stand_with_their_intervals(metered: Run) -> None:
    shown = cost_table(metered)
    assert "Break-even, texts ↓" in shown
    assert NOTE in shown
    assert "48.3 ± 1.0 mJ" in shown


def test_where_nothing_can_be_counted_the_reason_is_listed(metered: Run) -> None:
    text = markdown.render(metered)
    slower = text[text.index("Not available") :]
    assert "never repaid" in slower


def test_modelled_energy_has_no_column_but_a_reason(sixteen: Run) -> None:
    add_break_even(sixteen)
    text = markdown.render(sixteen)
    assert "Break-even" not in text
    assert NOTE not in text
    assert "time in disguise" in text
