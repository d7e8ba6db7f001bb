"""The one sentence a run ends with: what the recommended variant gains, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.nouns.measurement import Measurement
from bench.nouns.run import DENSE, Result, Run
from bench.nouns.verdict import AccuracyVerdict
from reports.numbers import Interval, percent, signed, span, spread
from reports.parts import Line, Name


def closing(run: Run) -> Line:
    """The conclusion of `run`, never more than its intervals and verdicts support."""
    best = [result for result in run.results if result.recommended]
    if best:
        return _recommendation([result for result in run.results if result.variant == best[0].variant])
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


def _recommendation(seeds: list[Result]) -> Line:
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
    compressed = [r for r in run.results if r.variant != DENSE and r.status == "ok"]
    if run.status != "complete":
        return (f"the run is not complete ({run.status}).",)
    if not compressed:
        return ("no compressed variant was measured.",)
    faster = [result for result in compressed if result.is_faster]
    if not faster:
        return _none_faster(compressed)
    candidates = [result for result in faster if result.is_candidate]
    if candidates:
        return _none_confirmed(candidates)
    verdicts = [verdict for result in faster if (verdict := result.choosing_verdict)]
    return _none_kept(verdicts) if verdicts else ("accuracy was not judged against ", Name(DENSE), ".")


def _none_faster(compressed: list[Result]) -> Line:
    timed = [result for result in compressed if "speedup" in result.metrics]
    if not timed:
        return ("no speed-up was measured.",)
    fastest = max(timed, key=lambda result: result.metrics["speedup"].value)
    amount, word = _pace([fastest.metrics["speedup"]])
    verdict = fastest.verdicts.get("speedup")
    beyond = f" beyond the margin of {percent(verdict.margin)}" if verdict else ""
    return (
        f"none is faster{beyond}; the fastest, ",
        Name(fastest.variant),
        f", is {amount} {word} ",
        Name(DENSE),
        ".",
    )


def _none_confirmed(candidates: list[Result]) -> Line:
    fastest = max(candidates, key=lambda result: result.metrics["speedup"].value)
    verdict = verdict_of(fastest)
    assert verdict is not None
    doubt: str = "not over all variants tried" if verdict.word == "kept" else verdict.word
    if verdict.rows_needed:
        doubt += f"; {verdict.rows_needed:,} rows would be enough to tell"
    amount, word = _pace([fastest.metrics["speedup"]])
    return (
        Name(fastest.variant),
        f" is {amount} {word} ",
        Name(DENSE),
        f" and loses little on the validation rows, but the test rows do not confirm it ({doubt}).",
    )


def _none_kept(verdicts: list[AccuracyVerdict]) -> Line:
    margin = spread(100 * verdicts[0].margin)
    needed = [verdict.rows_needed for verdict in verdicts if verdict.rows_needed]
    if needed and all(verdict.word == "underpowered" for verdict in verdicts):
        rows = max(verdict.rows for verdict in verdicts)
        return (
            f"{rows:,} rows are too few to tell whether accuracy is kept within {margin} points; "
            f"it takes {max(needed):,}.",
        )
    enough = f"; {max(needed):,} rows would be enough to tell" if needed else ""
    words = _list([verdict.word for verdict in verdicts])
    return (
        f"none of the faster ones was shown to keep accuracy within {margin} points of ",
        Name(DENSE),
        f" ({words}){enough}.",
    )


def _list(words: Sequence[str]) -> str:
    """`lost` alone, or counted: `3 lost, 1 underpowered`."""
    counts = Counter(words)
    if len(words) == 1:
        return words[0]
    return ", ".join(f"{count} {word}" for word, count in counts.items())
