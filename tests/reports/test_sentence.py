"""The closing sentence: it claims what verdicts and intervals support, or says why it claims nothing."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.nouns.measurement import measured
from bench.nouns.run import Result, Run
from bench.nouns.verdict import AccuracyVerdict, AccuracyWord, SpeedVerdict, SpeedWord
from bench.recommend import recommend
from reports.sentence import closing

Ratio = tuple[float, float | None, float | None]


def said(run: Run, *results: Result) -> str:
    return "".join(closing(run.model_copy(update={"results": list(results)})))


def result(
    name: str,
    word: AccuracyWord = "kept",
    speedup: Ratio | None = (3.104, 2.98, 3.22),
    same: Ratio | None = None,
    difference: float = -0.0021,
    rows_needed: int | None = None,
    p_value: float = 0.03,
    validation: bool = True,
    **changes: object,
) -> Result:
    """A variant's result, on the validation rows, where there are any, as on the test rows."""
    verdict = AccuracyVerdict(
        word=word,
        difference=difference,
        low=difference - 0.006,
        high=difference + 0.006,
        margin=0.01,
        p_value=p_value,
        rows=1000,
        rows_needed=rows_needed,
        gained=10,
        lost=12,
        mcnemar_p_value=0.8,
        bootstrap_low=difference - 0.007,
        bootstrap_high=difference + 0.007,
        flip_rate=0.03,
        reason="",
    )
    metrics, verdicts = {}, {}
    for metric, ratio in (("speedup", speedup), ("speedup_same_precision", same)):
        if ratio:
            value, low, high = ratio
            interval = (low, high) if low is not None and high is not None else None
            metrics[metric] = measured(metric, value, "test", interval)
            pace: SpeedWord = "faster" if interval and interval[0] > 1.05 else "inconclusive"
            verdicts[metric] = SpeedVerdict(word=pace, ratio=value, margin=0.05, reason="")
    return Result(
        variant=name,
        seed=1,
        status="ok",
        metrics=metrics,
        accuracy_kept={"validation": verdict, "test": verdict} if validation else {"test": verdict},
        verdicts=verdicts,
    ).model_copy(update=changes)


def lost(name: str) -> Result:
    return result(name, "lost", difference=-0.03)


def unclear(name: str, rows_needed: int) -> Result:
    return result(name, "underpowered", difference=-0.011, rows_needed=rows_needed)


@pytest.mark.parametrize(
    ("speedup", "same", "expected"),
    [
        (
            (3.104, 2.98, 3.22),
            None,
            "best is 3.10 ± 0.13 times faster than dense at −0.2 points of accuracy.",
        ),
        (
            (3.1, 3.05, 3.6),
            None,
            "best is 3.1 ± 0.5 times faster than dense at −0.2 points of accuracy.",
        ),
        ((3.1, None, None), None, "best is 3.10 times faster than dense at −0.2 points of accuracy."),
        (
            (3.104, 2.98, 3.22),
            (2.21, 2.14, 2.28),
            "best is 3.10 ± 0.13 times faster than dense (2.21 ± 0.07 at the same precision) "
            "at −0.2 points of accuracy.",
        ),
        (
            (3.104, 2.98, 3.22),
            (1.01, 0.98, 1.04),
            "best is 3.10 ± 0.13 times faster than dense (1.01 ± 0.03 times as fast at the same precision) "
            "at −0.2 points of accuracy.",
        ),
        ((0.5, 0.49, 0.51), None, "best is 2.00 ± 0.05 times slower than dense at −0.2 points of accuracy."),
        (
            (1.01, 0.98, 1.04),
            None,
            "best is 1.01 ± 0.03 times as fast as dense at −0.2 points of accuracy.",
        ),
        (None, None, "best is recommended; its speed against dense was not measured."),
    ],
)
def test_the_recommended_variant(run: Run, speedup: Ratio | None, same: Ratio | None, expected: str) -> None:
    assert said(run, result("best", speedup=speedup, same=same, recommended=True)) == expected


def test_a_recommended_variant_that_lost_on_test_is_not_sold(run: Run) -> None:
    best = result("best", "inconclusive", recommended=True)
    assert said(run, best).endswith("at −0.2 points of accuracy (accuracy inconclusive).")


def test_several_seeds_give_the_span_of_their_values(run: Run) -> None:
    one = result("best", speedup=(3.0, 2.9, 3.1), recommended=True)
    two = result("best", speedup=(3.2, 3.1, 3.3), difference=0.003, seed=2)
    assert said(run, one, result("other", speedup=(9.0, 8.0, 10.0)), two) == (
        "best is 3.00 to 3.20 times faster than dense at −0.2 to +0.3 points of accuracy over 2 seeds."
    )


def test_seeds_that_disagree_on_faster_claim_neither(run: Run) -> None:
    one = result("best", speedup=(1.2, 1.1, 1.3), recommended=True)
    two = result("best", speedup=(0.9, 0.8, 1.0), seed=2)
    assert "0.900 to 1.20 times as fast as dense" in said(run, one, two)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], "no compressed variant was measured."),
        ([result("dense")], "no compressed variant was measured."),
        ([result("mp", status="failed")], "no compressed variant was measured."),
        (
            [result("mp", speedup=(0.98, 0.95, 1.01)), result("kd", speedup=(0.5, 0.49, 0.51))],
            "none was shown to be faster beyond the margin of 5 %; "
            "the fastest, mp, is 0.98 ± 0.03 times as fast as dense.",
        ),
        (
            [result("mp", "underpowered", rows_needed=4100)],
            "mp is 3.10 ± 0.13 times faster than dense and loses little on the validation rows, "
            "but the test rows do not confirm that it keeps accuracy "
            "(underpowered; 4,100 rows would be enough to tell).",
        ),
        (
            [result("mp", "lost", difference=-0.03, validation=False)],
            "mp is 3.10 ± 0.13 times faster than dense, "
            "but the test rows do not confirm that it keeps accuracy (lost).",
        ),
        (
            [result("mp"), lost("kd")],
            "mp is 3.10 ± 0.13 times faster than dense and loses little on the validation rows, "
            "but the test rows do not confirm that it keeps accuracy "
            "(kept only before Holm's adjustment over all candidates).",
        ),
        (
            [result("mp", speedup=None)],
            "no speed-up was measured.",
        ),
        (
            [lost("mp"), lost("kd"), result("bmp", "inconclusive", difference=-0.012)],
            "every faster variant loses 1.00 points of accuracy or more on the validation rows "
            "(2 lost, 1 inconclusive).",
        ),
        (
            [unclear("mp", 3092), unclear("kd", 4100)],
            "1,000 validation rows are too few to tell whether accuracy is kept within 1.00 points; "
            "it takes 4,100.",
        ),
        (
            [unclear("mp", 3092), lost("kd")],
            "every faster variant loses 1.00 points of accuracy or more on the validation rows "
            "(1 underpowered, 1 lost); "
            "3,092 rows would be enough to tell.",
        ),
    ],
)
def test_why_nothing_is_recommended(run: Run, results: list[Result], expected: str) -> None:
    assert said(run, *results) == f"No variant is recommended: {expected}"


def test_a_margin_that_nobody_judged_by_is_not_named(run: Run) -> None:
    assert said(run, result("mp", verdicts={})).startswith(
        "No variant is recommended: none was shown to be faster; the fastest, mp,"
    )


def test_seeds_that_disagree_on_accuracy_say_so(run: Run) -> None:
    one = result("best", recommended=True)
    two = result("best", "inconclusive", recommended=True, seed=2)
    assert said(run, one, two).endswith("points of accuracy (accuracy inconclusive) over 2 seeds.")


SLOW = (0.98, 0.95, 1.01)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (
            [result("mp"), result("mp", seed=2), result("mp", speedup=SLOW, seed=3)],
            "mp is faster than dense with seeds 1 and 2, but not shown to be with seed 3.",
        ),
        (
            [result("mp"), result("mp", "lost", difference=-0.03, seed=2)],
            "mp is faster than dense with seeds 1 and 2, "
            "but at least 1.00 points less accurate on the validation rows with seed 2.",
        ),
        (
            [result("mp"), Result(variant="mp", seed=2, status="failed", reason="no memory")],
            "mp is faster than dense with seed 1, but not measured with seed 2.",
        ),
        (
            [result("mp"), result("mp", speedup=SLOW, seed=2), result("mp", status="failed", seed=3)],
            "mp is faster than dense with seed 1, "
            "but not shown to be with seed 2 and not measured with seed 3.",
        ),
        (
            [result("mp"), result("mp", "inconclusive", p_value=0.2, difference=-0.006, seed=2)],
            "mp is 3.10 times faster than dense and loses little on the validation rows, "
            "but the test rows do not confirm that it keeps accuracy (inconclusive with seed 2).",
        ),
        (
            [result("mp", speedup=SLOW), result("mp", speedup=(1.01, 0.99, 1.03), seed=2)],
            "none was shown to be faster beyond the margin of 5 %; "
            "the fastest, mp, is 0.980 to 1.01 times as fast as dense.",
        ),
        (
            [lost("mp"), result("mp", speedup=SLOW, seed=2), lost("kd"), lost("kd")],
            "every faster variant loses 1.00 points of accuracy or more on the validation rows (2 lost).",
        ),
    ],
)
def test_a_variant_must_hold_with_every_seed(run: Run, results: list[Result], expected: str) -> None:
    assert said(run, *results) == f"No variant is recommended: {expected}"


def test_the_fastest_is_fastest_where_it_is_slowest(run: Run) -> None:
    steady = [result("kd", p_value=0.2, seed=seed, speedup=(2.0, 1.9, 2.1)) for seed in (1, 2)]
    mixed = [
        result("mp", p_value=0.2, speedup=(9.0, 8.0, 10.0)),
        result("mp", speedup=(1.2, 1.1, 1.3), seed=2),
    ]
    assert said(run, *mixed, *steady).startswith("No variant is recommended: kd is 2.00 times faster")


def test_a_variant_whose_speed_could_not_be_measured_is_passed_over(slowed: Run) -> None:
    dense, mp = slowed.result("dense"), slowed.result("mp")
    assert dense
    assert mp
    assert said(slowed, dense, mp) == "No variant is recommended: no speed-up was measured."
    slow = result("kd", speedup=SLOW)
    assert "the fastest, kd, is 0.98 ± 0.03" in said(slowed, dense, mp, slow)
    second = result("mp", seed=2)
    assert said(slowed, mp, second).endswith(
        "mp is faster than dense with seed 2, but not shown to be with seed 1."
    )


OUTCOMES = {
    "holds": result("mp", p_value=0.001),
    "kept before Holm": result("mp", p_value=0.04),
    "unclear on test": result("mp", "inconclusive", p_value=0.2),
    "loses on validation": result("mp", "lost", difference=-0.03, p_value=0.9),
    "without validation": result("mp", "lost", difference=-0.03, p_value=0.9, validation=False),
    "slow": result("mp", speedup=SLOW, p_value=0.001),
    "not timed": result("mp", speedup=None, p_value=0.001),
    "failed": Result(variant="mp", seed=1, status="failed", reason="no memory"),
}


@given(
    st.dictionaries(
        st.sampled_from(["mp", "kd", "bmp50"]), st.tuples(*[st.sampled_from(sorted(OUTCOMES))] * 2)
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_sentence_agrees_with_what_was_recommended(run: Run, drawn: dict[str, tuple[str, str]]) -> None:
    results = [
        OUTCOMES[outcome].model_copy(update={"variant": name, "seed": seed})
        for name, outcomes in drawn.items()
        for seed, outcome in enumerate(outcomes)
    ]
    judged = run.model_copy(update={"results": results})
    recommend(judged)
    sentence = "".join(closing(judged))
    assert any(r.recommended for r in results) == (not sentence.startswith("No variant is recommended"))
    for name, outcomes in drawn.items():
        if f"{name} is faster than dense with" in sentence:
            assert set(outcomes) - {"holds", "kept before Holm", "unclear on test", "without validation"}
        if f"{name} is 3.10" in sentence and "do not confirm" in sentence:
            assert not set(outcomes) & {"loses on validation", "slow", "not timed", "failed"}
        if "none was shown to be faster" in sentence or "no speed-up was measured" in sentence:
            assert set(outcomes) <= {"slow", "not timed", "failed"}


def test_an_interrupted_run_recommends_nothing_yet(run: Run) -> None:
    unfinished = run.model_copy(update={"status": "interrupted"})
    assert said(unfinished, result("mp")) == (
        "No variant is recommended: the run is not complete (interrupted)."
    )
