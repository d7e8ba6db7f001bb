"""What the parts of a combination give together, beside what each gives alone; where they interfere."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bench.nouns.run import Result, Run
from bench.nouns.verdict import Interplay
from reports import numbers
from reports.names import label, named
from reports.parts import ABSENT, Header, Line, Row, Table

TITLE = "What parts give together"
HEADERS = (
    Header("Alone", numeric=False, detail=True),
    Header("Product of parts"),
    Header("Together ↑"),
    Header("Over the product ↑"),
    Header("They", numeric=False),
    Header("Δ pts beyond sum ↑"),
    Header("95 % of that", detail=True),
)
NOTES = (
    ("product of parts: of their speedups over dense, each alone; together: the combination's",),
    ("interfere: it is less than the product, beyond the margin; reinforce: more",),
    ("Δ pts beyond sum: its change of accuracy less the sum of its parts' changes",),
)


def attribution_table(run: Run, results: list[Result]) -> Table:
    """One row for each combination whose parts were measured alone in the same run."""
    rows = (
        Row(
            label(run, result),
            _cells(result, result.interplay),
            best=result.recommended,
            cached=bool(result.cached),
        )
        for result in results
        if result.interplay
    )
    return Table(TITLE, HEADERS, tuple(rows), NOTES).filled()


def _cells(result: Result, found: Interplay) -> tuple[str, ...]:
    """The cells of one combination, in the order of the headers."""
    product = math.prod(found.alone.values())
    points = [100 * value for value in (found.points, found.points_low, found.points_high)]
    return (
        " × ".join(numbers.spread(value) for value in found.alone.values()),
        numbers.spread(product),
        numbers.spread(result.metrics["speedup"].value) if "speedup" in result.metrics else ABSENT,
        numbers.spread(found.ratio, (found.low, found.high)),
        found.word,
        numbers.signed(points[0]),
        f"{numbers.signed(points[1])} to {numbers.signed(points[2])}",
    )


def interference(run: Run, results: list[Result]) -> Iterator[Line]:
    """For each combination that gives less than its parts promise: by how much, and which pairs do."""
    known = {(result.variant, result.seed): result for result in results if result.interplay}
    for result in known.values():
        assert result.interplay
        if result.interplay.word != "interfere":
            continue
        smaller = [
            other
            for other in known.values()
            if other.seed == result.seed and set(other.parts) < set(result.parts)
        ]
        pairs = "".join(
            f"; {other.variant} {numbers.spread(other.interplay.ratio)} ({other.interplay.word})"
            for other in smaller
            if other.interplay
        )
        share = numbers.spread(result.interplay.ratio)
        yield (*named(run, result), f" gives {share} of the product: {result.interplay.reason}{pairs}")
