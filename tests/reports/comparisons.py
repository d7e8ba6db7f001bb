"""Comparisons that a renderer may be given: every word and gate, seeds, mismatches, hostile texts."""

from __future__ import annotations

from datetime import UTC, datetime

from bench.nouns.comparison import Change, Comparison, Side, Threshold

SPEEDUP = Threshold(metric="speedup", amount=0.05)
ACCURACY = Threshold(metric="accuracy", amount=0.01, points=True)
SIZE = Threshold(metric="disk_size", amount=0.01)

DISTURBED = "absolute figures of a disturbed machine"


def side(label: str, day: int = 11, machine: str = "dc52a33a7e70") -> Side:
    return Side(
        label=label,
        run=f"2026-05-{day}T09-30-12-quick",
        started_at=datetime(2026, 5, day, 9, 30, 12, tzinfo=UTC),
        machine_key=machine,
        commit=f"37861dbbc3{day}",
        versions={"torch": "2.13.0+cpu"},
    )


def ratio(
    variant: str, metric: str, word: str, before: float, change: float, half: float, **more: object
) -> Change:
    """A metric whose change is after over before."""
    found = {
        "variant": variant,
        "seed": 1,
        "metric": metric,
        "word": word,
        "before": before,
        "after": before * change,
        "change": change,
        "low": change - half,
        "high": change + half,
        "margin": 0.02,
        "reason": f"{change - half:.3f} to {change + half:.3f} of what it was, against a margin of 2 %",
    }
    return Change.model_validate(found | more)


def points(
    variant: str, metric: str, word: str, before: float, change: float, half: float, **more: object
) -> Change:
    """A metric whose change is after less before."""
    reason = f"{100 * change:+.2f} points on 7,597 common rows"
    found = {"after": before + change, "difference": True, "margin": 0.005, "reason": reason}
    return ratio(variant, metric, word, before, change, half, **found | more)


def without(variant: str, metric: str | None, word: str, reason: str, **more: object) -> Change:
    """A row that has no figures."""
    found = {"variant": variant, "seed": 1, "metric": metric, "word": word, "reason": reason}
    return Change.model_validate(found | more)


def changes() -> list[Change]:
    """Every word, and everything a gate can say."""
    return [
        ratio("dense", "throughput", "same", 742.0, 1.003, 0.011),
        ratio("bmp25", "speedup", "worse", 1.31, 0.91, 0.02, threshold=SPEEDUP, gate="fails"),
        points(
            "bmp25",
            "accuracy",
            "inconclusive",
            0.9152,
            -0.0084,
            0.0061,
            threshold=ACCURACY,
            gate="inconclusive",
        ),
        ratio("bmp25", "disk_size", "same", 13.7e6, 1.0, 0.0, threshold=SIZE, gate="passes"),
        ratio("bmp25", "latency_b1_p50", "worse", 0.00299, 1.41, 0.03, margin=0.25),
        ratio("bmp25", "peak_memory_host", "same", 37.2e6, 0.994, 0.004),
        without("bmp25", "latency_p50", "not comparable", DISTURBED, before=0.0329, after=0.0334),
        without("bmp25", "latency_p90", "not comparable", DISTURBED, before=0.0351, after=0.0349),
        ratio(
            "bmp:amount=0.4,block=16+kd:layers=2",
            "speedup",
            "better",
            3.1,
            1.22,
            0.05,
            threshold=SPEEDUP,
            gate="passes",
        ),
        without(
            "bmp:amount=0.4,block=16+kd:layers=2",
            "accuracy",
            "not comparable",
            "the predictions of the earlier run are not there",
            threshold=ACCURACY,
            gate="not comparable",
            before=0.884,
            difference=True,
        ),
        ratio(
            "bmp:amount=0.4,block=16+kd:layers=2",
            "inference_energy_per_sample_gross",
            "inconclusive",
            0.0612,
            0.97,
            0.08,
            margin=0.05,
        ),
        without("onnx+int8", None, "newly failing", "RuntimeError: out of memory while exporting layer 3"),
        without("fisher50", None, "fixed", "skipped before, ok now"),
    ]


def comparison(**more: object) -> Comparison:
    """A nightly run against a saved baseline, with something of everything."""
    found = {
        "before": side("main"),
        "after": side("nightly", 12),
        "thresholds": [SPEEDUP, ACCURACY, SIZE],
        "differences": ["torch 2.12.1+cpu, then 2.13.0+cpu", "commit 37861dbbc311, then 37861dbbc312"],
        "unmatched": ["mp (seed 1): only in main"],
        "notes": ["speedup is gated at 5 %, above this machine's paired noise floor of 1.3 %"],
        "changes": changes(),
    }
    return Comparison.model_validate(found | more)


def passing(**more: object) -> Comparison:
    """The same without what keeps it from passing."""
    rows = [row for row in changes() if row.gate in {None, "passes"} and row.word != "newly failing"]
    return comparison(**{"changes": rows, "thresholds": [SPEEDUP, SIZE]} | more)


def mismatched() -> Comparison:
    """Two runs that have nothing to do with each other."""
    return comparison(
        after=side("nightly", 12, "0011223344ff"),
        mismatches=["machine: dc52a33a7e70, then 0011223344ff; use --relative", "protocol: 2, then 3"],
        changes=[],
    )


def hostile(text: str) -> Comparison:
    """A comparison with `text` wherever a user's or a library's words can stand."""
    rows = [row.model_copy(update={"variant": f"{row.variant}{text}", "reason": text}) for row in changes()]
    named = {"label": text, "run": text, "commit": text}
    return comparison(
        before=side("main").model_copy(update=named),
        after=side("nightly").model_copy(update=named),
        differences=[text],
        unmatched=[text],
        notes=[text],
        changes=rows,
    )
