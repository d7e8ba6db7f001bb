"""The marks that stand in tables, each explained once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.columns import ESTIMATED, UNCONVERGED
from reports.names import BEST, CACHED
from reports.parts import Table

INTERVAL = "±"
LEGEND = {
    INTERVAL: "± reaches to the further end of the 95 % interval, rounded up",
    ESTIMATED: "~ estimated: a modelled value, not a measured one; no verdict rests on it",
    UNCONVERGED: "* not converged: the interval was still too wide when measuring stopped",
    CACHED: "(c) taken over from an earlier run; its costs are the original ones",
    BEST: "★ best: recommended; chosen on validation rows, if any; judged on test rows",
}


def with_legend(tables: Sequence[Table]) -> tuple[Table, ...]:
    """The tables, each mark explained beneath the first that uses it."""
    explained: set[str] = set()
    with_legend = []
    for table in tables:
        new = [mark for mark in LEGEND if mark in _marks(table) - explained]
        explained.update(new)
        with_legend.append(replace(table, notes=(*table.notes, *((LEGEND[mark],) for mark in new))))
    return tuple(with_legend)


def _marks(table: Table) -> set[str]:
    cells = [cell for row in table.rows for cell in row.cells]
    used = {
        INTERVAL: any(" ± " in cell for cell in cells),
        ESTIMATED: any(cell.startswith(ESTIMATED) for cell in cells),
        UNCONVERGED: any(cell.endswith(UNCONVERGED) for cell in cells),
        CACHED: any(row.cached for row in table.rows),
        BEST: any(row.best for row in table.rows),
    }
    return {mark for mark, applies in used.items() if applies}
