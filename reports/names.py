"""What a run's rows are called, and the order in which they stand."""

from __future__ import annotations

from collections.abc import Iterable

from bench.nouns.run import DENSE, Result, Run
from reports.parts import Line, Name

BEST = "★"
CACHED = "(c)"


def ordered(run: Run) -> list[Result]:
    """The run's results, dense first, else in their own order."""
    return sorted(run.results, key=lambda result: result.variant != DENSE)


def by_variant(results: Iterable[Result]) -> list[list[Result]]:
    """The results of each variant, which differ by seed, in the order in which the variants come."""
    seeds: dict[str, list[Result]] = {}
    for result in results:
        seeds.setdefault(result.variant, []).append(result)
    return list(seeds.values())


def label(run: Run, result: Result) -> str:
    """A row's name: the variant, its seed where there are several, a batch size of its own, and its marks."""
    marks = (
        (BEST, result.recommended),
        (result.variant, True),
        (f"(seed {result.seed})", several_seeds(run)),
        (f"(batch {result.batch_size})", result.batch_size is not None),
        (CACHED, bool(result.cached)),
        (result.status, result.status != "ok"),
    )
    return " ".join(text for text, applies in marks if applies)


def named(run: Run, result: Result) -> Line:
    """A result's name inside a line, with its seed where there are several."""
    name = Name(result.variant)
    return (name, f" (seed {result.seed})") if several_seeds(run) else (name,)


def several_seeds(run: Run) -> bool:
    """Whether the run's results are of more than one seed."""
    return len({result.seed for result in run.results}) > 1
