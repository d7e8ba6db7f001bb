"""The one sentence a run ends with: what the recommended variant gains, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.nouns.measurement import Measurement
from bench.nouns.run import DENSE, Result, Run
from bench.nouns.verdict import AccuracyVerdict
from reports.names import by_variant
from reports.numbers import Interval, percent, signed, span, spread
from reports.parts import Line, Name


def closing(run: Run) -> Line:
    """The conclusion of `run`, never more than its intervals and verdicts support."""
    best = [result for result in run.results if result.recommended]
    if best:
        return gains([result for result in run.results if result.variant == best[0].variant])
    return ("No variant is recommended: ", *_why_none(run))


def verdict_of(result: Result) -> AccuracyVerdict | None:
    """The accuracy verdict to report: that on the test rows, else the first there is."""
    return result.accuracy_kept.get("test") or next(iter(result.accuracy_kept.values()), None)


def points(verdict: AccuracyVerdict) -> str:
    """The difference over dense in percentage points."""
    return signed(100 * verdict.difference)


def interval_of(measurement: Measurement) -> Interval | None:
    """The measurement's interval, or None where it has none."""
    if measurement.ci_low is None or measurement.ci_high is None:
        return None
    return measurement.ci_low, measurement.ci_high


def gains(seeds: list[Result]) -> Line:
    """What a variant gains over dense and costs in accuracy, over its seeds."""
    seeds = [result for result in seeds if result.status == "ok"] or seeds
    name = Name(seeds[0].variant)
    over = f" over {len(seeds)} seeds" if len(seeds) > 1 else ""
    speedups = _metric(seeds, "speedup")
    if not speedups:
        return (name, f" is recommended{over}; its speed against ", Name(DENSE), " was not measured.")
    amount, word = _pace(speedups)
    same = _metric(seeds, "speedup_same_precision")
    return (
        name,
        f" is {amount} {word} ",
        Name(DENSE),
        _same_precision(same, word),
        _accuracy(seeds),
        over + ".",
    )


def _metric(seeds: list[Result], name: str) -> list[Measurement]:
    return [result.metrics[name] for result in seeds if name in result.metrics]


def _pace(ratios: list[Measurement]) -> tuple[str, str]:
    """How many times, and whether that is faster, slower or neither on the evidence of the intervals."""
    intervals = [interval_of(ratio) or (ratio.value, ratio.value) for ratio in ratios]
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    if low > 1:
        return _amount([ratio.value for ratio in ratios], intervals), "times faster than"
    if low > 0 and high < 1:
        inverse = [(1 / high, 1 / low) for low, high in intervals]
        return _amount([1 / ratio.value for ratio in ratios], inverse), "times slower than"
    return _amount([ratio.value for ratio in ratios], intervals), "times as fast as"


def _amount(values: list[float], intervals: list[Interval]) -> str:
    return spread(values[0], intervals[0]) if len(values) == 1 else span(values, spread)


def _same_precision(ratios: list[Measurement], word: str) -> str:
    if not ratios:
        return ""
    amount, own_word = _pace(ratios)
    comparison = "" if own_word == word else f" {own_word.rpartition(' ')[0]}"
    return f" ({amount}{comparison} at the same precision)"


def _accuracy(seeds: list[Result]) -> str:
    verdicts = [verdict for verdict in map(verdict_of, seeds) if verdict]
    if not verdicts:
        return "; its accuracy was not judged"
    spoken = span([100 * verdict.difference for verdict in verdicts], signed)
    doubts = [verdict.word for verdict in verdicts if verdict.word != "kept"]
    doubt = f" (accuracy {_list(doubts)})" if doubts else ""
    return f" at {spoken} points of accuracy{doubt}"


def _why_none(run: Run) -> Line:
    if run.status != "complete":
        return (f"the run is not complete ({run.status}).",)
    compressed = by_variant(result for result in run.results if result.variant != DENSE)
    measured = [seeds for seeds in compressed if any(result.status == "ok" for result in seeds)]
    faster = [seeds for seeds in measured if any(result.is_faster for result in seeds)]
    promising = [seeds for seeds in faster if any(result.is_candidate() for result in seeds)]
    candidates = [seeds for seeds in promising if all(result.is_candidate() for result in seeds)]
    if not measured:
        return ("no compressed variant was measured.",)
    if not faster:
        return _none_faster(measured)
    if not promising:
        return _none_chosen(faster)
    return _not_confirmed(_fastest(candidates)) if candidates else _not_every_seed(_fastest(promising))


def _fastest(variants: list[list[Result]]) -> list[Result]:
    """The seeds of the variant that is fastest where it is slowest."""
    return max(variants, key=lambda seeds: min(ratio.value for ratio in _metric(seeds, "speedup")))


def _none_faster(variants: list[list[Result]]) -> Line:
    timed = [seeds for seeds in variants if _metric(seeds, "speedup")]
    if not timed:
        return ("no speed-up was measured.",)
    fastest = _fastest(timed)
    amount, word = _pace(_metric(fastest, "speedup"))
    margins = [result.verdicts["speedup"].margin for result in fastest if "speedup" in result.verdicts]
    beyond = f" beyond the margin of {percent(max(margins))}" if margins else ""
    return (
        f"none was shown to be faster{beyond}; the fastest, ",
        Name(fastest[0].variant),
        f", is {amount} {word} ",
        Name(DENSE),
        ".",
    )


def _none_chosen(faster: list[list[Result]]) -> Line:
    """None of those faster lost little enough on the validation rows to be a candidate."""
    judged = [[r for r in seeds if r.is_faster and "validation" in r.accuracy_kept] for seeds in faster]
    verdicts = [_worst(seeds, "validation").accuracy_kept["validation"] for seeds in judged if seeds]
    if not verdicts:
        return ("accuracy was not judged against ", Name(DENSE), ".")
    margin = spread(100 * verdicts[0].margin)
    needed = [verdict.rows_needed for verdict in verdicts if verdict.rows_needed]
    if needed and all(verdict.word == "underpowered" for verdict in verdicts):
        rows = max(verdict.rows for verdict in verdicts)
        return (
            f"{rows:,} validation rows are too few to tell whether accuracy is kept within {margin} points; "
            f"it takes {max(needed):,}.",
        )
    enough = f"; {max(needed):,} rows would be enough to tell" if needed else ""
    words = _list([verdict.word for verdict in verdicts])
    return (
        f"every faster variant loses {margin} points of accuracy or more on the validation rows "
        f"({words}){enough}.",
    )


def _not_every_seed(seeds: list[Result]) -> Line:
    """What keeps a variant from being a candidate that is one with some of its seeds."""
    slow = [result for result in seeds if result.status == "ok" and not result.is_faster]
    unmeasured = [result for result in seeds if result.status != "ok"]
    lossy = [result for result in seeds if result.is_faster and not result.is_candidate()]
    margin = spread(100 * next(verdict.margin for verdict in map(verdict_of, seeds) if verdict))
    faults = (
        ("not shown to be", slow),
        ("not measured", unmeasured),
        (f"at least {margin} points less accurate on the validation rows", lossy),
    )
    return (
        Name(seeds[0].variant),
        " is faster than ",
        Name(DENSE),
        f" with {_seeds([result for result in seeds if result.is_faster])}, but ",
        " and ".join(f"{fault} with {_seeds(own)}" for fault, own in faults if own),
        ".",
    )


def _not_confirmed(seeds: list[Result]) -> Line:
    """Why a candidate, the fastest, is not recommended: the test rows judge."""
    worst = _worst(seeds, "test")
    verdict = worst.accuracy_kept["test"]
    doubt: str = verdict.word
    if verdict.word == "kept":
        doubt = "kept only before Holm's adjustment over all candidates"
    elif len(seeds) > 1:
        doubt += f" with {_seeds([worst])}"
    if verdict.rows_needed:
        doubt += f"; {verdict.rows_needed:,} rows would be enough to tell"
    amount, word = _pace(_metric(seeds, "speedup"))
    chosen = " and loses little on the validation rows" if "validation" in worst.accuracy_kept else ""
    return (
        Name(seeds[0].variant),
        f" is {amount} {word} ",
        Name(DENSE),
        f"{chosen}, but the test rows do not confirm that it keeps accuracy ({doubt}).",
    )


def _worst(seeds: list[Result], split: str) -> Result:
    """The seed whose accuracy on `split` is furthest from kept: it counts for the variant."""
    return max(seeds, key=lambda result: result.accuracy_kept[split].p_value)


def _seeds(results: list[Result]) -> str:
    """`seed 2`, `seeds 0 and 1`, `seeds 0, 1 and 3`."""
    *first, last = [str(result.seed) for result in results]
    return f"seeds {', '.join(first)} and {last}" if first else f"seed {last}"


def _list(words: Sequence[str]) -> str:
    """`lost` alone, or counted: `3 lost, 1 underpowered`."""
    counts = Counter(words)
    if len(words) == 1:
        return words[0]
    return ", ".join(f"{count} {word}" for word, count in counts.items())
