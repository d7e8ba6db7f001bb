"""A realistic run for every renderer: good, failed, skipped, cached, estimated and unconverged results."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.nouns.audit import DataAudit, SplitAudit
from bench.nouns.document import Series
from bench.nouns.environment import Caution, Environment, NoiseFloor
from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import Config, Result, Rounds, Run, Scenario, WarmUp
from bench.nouns.task import TaskSummary
from bench.nouns.verdict import (
    AccuracyVerdict,
    AccuracyWord,
    ClassChange,
    Interplay,
    InterplayWord,
    SpeedVerdict,
    SpeedWord,
)

GOLDEN = Path(__file__).parent / "golden"
ROWS = 7597
ARRIVAL = "longest of the batch, arrival order"
LABELS = ("World", "Sports", "Business", "Sci/Tech")


def ratio(name: str, value: float, half: float) -> Measurement:
    return measured(name, value, "paired rounds", (value - half, value + half))


def lopsided(name: str, value: float, share: float) -> Measurement:
    return measured(name, value, "paired rounds", (value * (1 - share), value * (1 + 1.9 * share)))


def speed_verdict(ratio: Measurement, margin: float = 0.02) -> SpeedVerdict:
    """The word on a ratio of the document, by its interval."""
    assert ratio.ci_low is not None
    assert ratio.ci_high is not None
    low, high = ratio.ci_low, ratio.ci_high
    word: SpeedWord = "inconclusive"
    if low > 1 + margin:
        word = "faster"
    elif high < 1 - margin:
        word = "slower"
    elif low >= 1 - margin and high <= 1 + margin:
        word = "same"
    reason = f"{low:.3f} to {high:.3f}, against a margin of {margin:.0%}"
    return SpeedVerdict(word=word, ratio=ratio.value, low=low, high=high, margin=margin, reason=reason)


def classes(difference: float) -> list[ClassChange]:
    """The four classes; where much is lost, one of them loses most of it."""
    changes = []
    for label, share in zip(LABELS, (0.1, 0.05, 0.7, 0.15), strict=True):
        change = round(share * difference * ROWS)
        gained, lost = 9 + max(0, change), 9 + max(0, -change)
        changes.append(
            ClassChange(
                label=label,
                rows=ROWS // 4,
                dense_right=1736,
                gained=gained,
                lost=lost,
                p_value=0.00004 if change < -30 else 0.62,
            )
        )
    return changes


def verdict(word: AccuracyWord, difference: float, half: float = 0.006) -> AccuracyVerdict:
    low, high = difference - half, difference + half
    by_class = classes(difference)
    gained, lost = sum(change.gained for change in by_class), sum(change.lost for change in by_class)
    return AccuracyVerdict(
        word=word,
        difference=difference,
        low=low,
        high=high,
        margin=0.01,
        p_value=0.03,
        rows=ROWS,
        rows_needed=3092 if word == "underpowered" else None,
        gained=gained,
        lost=lost,
        mcnemar_p_value=0.0002 if lost > gained + 50 else 0.41,
        bootstrap_low=difference - 1.1 * half,
        bootstrap_high=difference + 1.1 * half,
        flip_rate=1.2 * (gained + lost) / ROWS,
        classes=by_class,
        reason=f"the lower bound, {100 * low:.2f} points, is set against a margin of 1 point",
    )


def metrics(accuracy: float, speed: float, size: float, estimated: bool = True) -> dict[str, Measurement]:
    """Figures of a variant `speed` times faster than dense that keeps the share `size` of the encoder."""
    seconds = 0.0431 / speed
    return {
        "accuracy": measured("accuracy", accuracy, "predictions", (accuracy - 0.0061, accuracy + 0.0058)),
        "macro_f1": measured(
            "macro_f1", accuracy - 0.0123, "predictions", (accuracy - 0.021, accuracy - 0.0043)
        ),
        "calibration_error": measured("calibration_error", 0.0214, "predictions"),
        "truncated_share": measured("truncated_share", 0.0317, "count"),
        "throughput": measured("throughput", 32 / seconds, "paired rounds"),
        "latency_b1_p50": measured("latency_b1_p50", seconds / 11, "requests"),
        "latency_b1_p90": measured("latency_b1_p90", seconds / 9.8, "requests"),
        "latency_b1_p95": measured("latency_b1_p95", seconds / 9.3, "requests"),
        "latency_p50": measured("latency_p50", seconds, "requests"),
        "latency_p90": measured("latency_p90", 1.1 * seconds, "requests"),
        "load_time": measured("load_time", 0.21 + 0.1 * size, "perf_counter"),
        "first_call_time": measured("first_call_time", 1.9 * seconds, "perf_counter"),
        "peak_memory_host": measured("peak_memory_host", 18.3e6 + 25.1e6 * size, "VmHWM"),
        "disk_size": measured("disk_size", 4.2e6 + 12.6e6 * size, "stat"),
        "parameters": measured("parameters", 1_052_164 + 3_145_728 * size, "count"),
        "encoder_parameters": measured("encoder_parameters", 3_145_728 * size, "count"),
        "pruned_fraction": measured("pruned_fraction", 1 - size if size > 0.5 else 0.2487, "count"),
        "encoder_reduction": measured("encoder_reduction", 1 - size, "count"),
        "flops_per_sample": measured("flops_per_sample", 2.84e8 * size, "count"),
        "training_step_time": measured("training_step_time", 0.1812 * size, "perf_counter"),
        "training_speedup": measured("training_speedup", 1 / size, "medians, not paired"),
        "compress_wall_time": measured("compress_wall_time", 94.2 * speed, "clock"),
        "inference_wall_time": measured("inference_wall_time", 237 * seconds, "clock"),
        "compress_energy": measured("compress_energy", 3412 * speed, "codecarbon", estimated=estimated),
        "compress_energy_gross": measured(
            "compress_energy_gross", 4871 * speed, "codecarbon", estimated=estimated
        ),
        "inference_energy_per_sample": measured(
            "inference_energy_per_sample", 0.0483 / speed, "codecarbon", estimated=estimated
        ),
        "inference_energy_per_sample_gross": measured(
            "inference_energy_per_sample_gross", 0.0612 / speed, "codecarbon", estimated=estimated
        ),
        "idle_power": measured("idle_power", 12.4 + 0.2 * size, "codecarbon", estimated=estimated),
        "compress_co2": measured("compress_co2", 0.676 * speed, "codecarbon", estimated=estimated),
        "inference_co2_per_sample": measured(
            "inference_co2_per_sample", 9.57e-6 / speed, "codecarbon", estimated=estimated
        ),
    }


def raw_rounds(name: str, seconds: float, discarded: dict[int, str]) -> Rounds:
    """Four rounds in which the machine was disturbed once."""
    return Rounds(
        times={
            "dense": Series(unit="s", values=[seconds, seconds * 1.02, seconds * 1.71, seconds * 0.99]),
            name: Series(unit="s", values=[seconds / 2, seconds / 1.9, seconds, seconds / 2.1]),
        },
        order=[[0, 1], [1, 0], [1, 0], [0, 1]],
        rows=[32] * 4,
        tokens=[1641] * 4,
        padded_tokens=[2019] * 4,
        machine={
            "steal": Series(unit="1", values=[0.0, 0.011, 0.113, None]),
            "others": Series(unit="1", values=[0.11, 0.13, 0.12, 0.12]),
            "throttled": Series(unit="1", values=[0.0, 0.0, 0.06, 0.0]),
        },
        discarded=discarded,
    )


def scenarios(name: str, speed: float, converged: bool = True) -> dict[str, Scenario]:
    def one(
        batch_size: int, seconds: float, padding: str = ARRIVAL, gain: float = speed, **changes: object
    ) -> Scenario:
        speedup = ratio("speedup", gain, 0.04 * gain)
        found = Scenario(
            batch_size=batch_size,
            padding=padding,
            rounds=40 if converged else 200,
            converged=converged,
            stopped="interval narrow enough" if converged else "200 rounds reached at a half-width of 4.1 %",
            metrics={
                "speedup": speedup,
                "throughput": measured("throughput", batch_size / seconds * gain, "paired rounds"),
                "tokens_per_second": Measurement(
                    value=51.3 * batch_size / seconds * gain,
                    unit="tokens/s",
                    better="higher",
                    source="paired rounds",
                ),
                "padding_share": Measurement(
                    value=0.1873 if batch_size > 1 else 0.0, unit="1", better="lower", source="count"
                ),
            },
            verdicts={} if name == "dense" else {"speedup": speed_verdict(speedup)},
            warm_up={
                "dense": WarmUp(wall_time=3.1, calls=71, steady=True),
                name: WarmUp(wall_time=3.0 if converged else 30.0, calls=212, steady=converged),
            },
            raw=raw_rounds(name, seconds, {}),
        )
        return found.model_copy(update=changes)

    tokenising = Measurement(value=10_223, unit="samples/s", better="higher", source="one pass")
    return {
        "batch 32": one(32, 0.0431),
        "batch 1": one(1, 0.0039),
        "end to end": one(32, 0.0462, gain=1 + (speed - 1) * 0.93),
        "batch 32, 1 thread": one(32, 0.0713, threads=1),
        "tokenising": Scenario(
            batch_size=ROWS, padding="none", stopped="one pass", metrics={"tokenising_rate": tokenising}
        ),
    }


def variant(
    name: str,
    word: AccuracyWord,
    difference: float,
    speed: float,
    size: float,
    same: float | None = None,
    converged: bool = True,
) -> Result:
    found = metrics(0.9137 + difference, speed, size)
    found["speedup"] = ratio("speedup", speed, 0.04 * speed)
    if same is not None:
        found["speedup_same_precision"] = ratio("speedup_same_precision", same, 0.03 * same)
    untrained = dict.fromkeys(TRAINING, "nothing is trained") if name == "mp" else {}
    return Result(
        variant=name,
        seed=1,
        status="ok",
        metrics={key: value for key, value in found.items() if key not in untrained},
        unavailable=UNAVAILABLE | untrained,
        scenarios=scenarios(name, speed, converged),
        loads_with="pruned.py" if "bmp" in name else "transformers",
        accuracy_kept={"validation": verdict(word, difference + 0.001), "test": verdict(word, difference)},
        verdicts=speed_verdicts(found),
        spent={"training": 94.2, "warm-up": 12.4, "timing": 31.9 / speed, "accuracy": 10.2 / speed},
    )


def throttled(result: Result) -> Result:
    """The result as a GPU leaves it that was slowed down in every round of the headline scenario."""
    headline = result.scenarios["batch 32"]
    assert headline.raw
    stopped = "gave up after 4 rounds, 4 of them discarded"
    scenario = headline.model_copy(
        update={
            "rounds": 0,
            "converged": False,
            "throttled": True,
            "stopped": stopped,
            "metrics": {},
            "verdicts": {},
            "raw": headline.raw.model_copy(
                update={"discarded": dict.fromkeys(range(4), "hardware slowdown")}
            ),
        }
    )
    speedups = ("speedup", "speedup_same_precision")
    lacking = dict.fromkeys(("throughput", *speedups), stopped)
    not_comparable = SpeedVerdict(word="not comparable", margin=0.02, reason=stopped)
    return result.model_copy(
        update={
            "metrics": {name: value for name, value in result.metrics.items() if name not in lacking},
            "unavailable": result.unavailable | lacking,
            "scenarios": result.scenarios | {"batch 32": scenario},
            "verdicts": dict.fromkeys(speedups, not_comparable),
        }
    )


def speed_verdicts(found: dict[str, Measurement]) -> dict[str, SpeedVerdict]:
    return {name: speed_verdict(found[name]) for name in found if name.startswith("speedup")}


SIXTEEN = [
    "+".join(part for part in (pruning, distillation, precision) if part) or "dense"
    for precision in ("", "mp")
    for distillation in ("", "kd")
    for pruning in ("", "bmp25", "bmp50", "bmp75")
]

TRAINING = ("training_step_time", "training_speedup")
UNAVAILABLE = {
    "latency_p95": "130 samples are needed and 64 were taken",
    "latency_p99": "needs 662 requests, this budget times 130",
    "latency_b1_p99": "needs 662 requests, this budget times 130",
    "peak_memory_allocator": "no CUDA device was used",
    "peak_memory_device": "no CUDA device was used",
}


def dense() -> Result:
    ratios = ("speedup", "speedup_same_precision", "training_speedup")
    exact = {name: measured(name, 1.0, "definition") for name in ratios}
    return Result(
        variant="dense",
        seed=1,
        status="ok",
        metrics=metrics(0.9137, 1.0, 1.0) | exact,
        unavailable=dict(UNAVAILABLE),
        scenarios=scenarios("dense", 1.0, converged=False),
        loads_with="transformers",
        spent={"warm-up": 6.1, "timing": 33.0, "accuracy": 10.3},
    )


def sixteen_results() -> list[Result]:
    """The study's grid as a real run leaves it: lopsided intervals, some of them too wide."""
    found = [dense()]
    for number, name in enumerate(SIXTEEN[1:], start=1):
        pruned = int(name[3:5]) / 100 if name.startswith("bmp") else 0.0
        speed = (1.93 if "kd" in name else 1.0) / (1 - 0.7 * pruned) * (0.886 if "mp" in name else 1.0)
        same = speed * 1.479 if name.endswith("+mp") or name == "mp" else speed
        lost = 0.0001 * number + 0.06 * pruned**2 - (0.002 if pruned == 0.25 else 0)
        word: AccuracyWord = "kept" if lost < 0.004 else "inconclusive" if lost < 0.016 else "lost"
        size = (1 - pruned) * (0.5 if "kd" in name else 1.0)
        result = variant(name, word, -lost, speed, size, converged=number % 3 > 0)
        result.metrics["pruned_fraction"] = measured("pruned_fraction", pruned, "count")
        result.metrics["speedup"] = lopsided("speedup", speed, 0.013)
        result.metrics["speedup_same_precision"] = lopsided("speedup_same_precision", same, 0.004 * number)
        result.verdicts = speed_verdicts(result.metrics)
        result.parts = name.split("+")
        found.append(result.model_copy(update={"recommended": name == "bmp25+kd+mp"}))
    speedups = {result.variant: result.metrics["speedup"].value for result in found}
    for result in found:
        if len(result.parts) > 1:
            result.interplay = interplay(result.parts, speedups[result.variant], speedups)
    return found


def interplay(parts: list[str], together: float, alone: dict[str, float]) -> Interplay:
    """Parts that multiply but for mp, which is told to take a tenth more from whatever it joins."""
    ratio = together / math.prod(alone[part] for part in parts) * (0.9 if "mp" in parts else 1)
    word: InterplayWord = "interfere" if ratio < 0.95 else "multiply"
    return Interplay(
        word=word,
        alone={part: alone[part] for part in parts},
        ratio=ratio,
        low=0.995 * ratio,
        high=1.008 * ratio,
        margin=0.02,
        points=-0.0041,
        points_low=-0.0103,
        points_high=0.0021,
        reason=f"the whole interval, {0.995 * ratio:.3f} to {1.008 * ratio:.3f}, lies there",
    )


def results() -> list[Result]:
    best = variant("bmp25+kd+mp", "kept", -0.0021, 3.104, 0.3756, 2.21)
    cached = variant("bmp25", "kept", 0.0013, 1.312, 0.7513, 1.312)
    del cached.spent["training"]
    return [
        cached.model_copy(
            update={"cached": ["compress"], "notes": ["2 layers lost all their heads and are skipped"]}
        ),
        dense(),
        best.model_copy(update={"recommended": True}),
        variant("mp", "inconclusive", -0.0071, 0.873, 1.0, 1.0, converged=False),
        variant("bmp:amount=0.4,block=16+kd:layers=2", "lost", -0.0312, 3.418, 0.3001, 3.412),
        Result(
            variant="onnx+int8",
            seed=1,
            status="failed",
            reason="RuntimeError: out of memory while exporting layer 3; free memory or drop the variant",
        ),
        Result(
            variant="fisher50", seed=1, status="skipped", reason="fisher cannot prune DebertaV2 (deberta-v2)"
        ),
    ]


def split_audit(rows: int, duplicates: int = 0, conflicting: int = 0, in_train: int = 0) -> SplitAudit:
    counts = [round(share * rows) for share in (0.31, 0.24, 0.26)]
    sizes = dict(zip(LABELS, [*counts, rows - sum(counts)], strict=True))
    return SplitAudit(
        rows=rows, duplicates=duplicates, conflicting=conflicting, in_train=in_train, classes=sizes
    )


@pytest.fixture
def run() -> Run:
    """A complete quick run on a CPU, its results not in display order."""
    return Run(
        id="2026-05-11T09-30-12-quick",
        started_at=datetime(2026, 5, 11, 9, 30, 12, tzinfo=UTC),
        status="complete",
        environment=Environment(
            machine_key="5f1a",
            platform="Linux-6.8-x86_64",
            cpu_model="Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            cpu_cores=2,
            cpu_features=["avx2", "avx512f"],
            cpu_quota=None,
            affinity=[0, 1],
            governor=None,
            load=0.31,
            virtualised=True,
            memory=8_327_000_000,
            devices=[],
            versions={"bench": "0.1.0", "python": "3.11.7", "torch": "2.11.0", "transformers": "5.1.0"}
            | {"tokenizers": "0.23.3", "numpy": "2.4.6"},
            threads=2,
            variables={},
            fp32_precision="ieee",
            commit="36c5e4d",
            noise_floor=NoiseFloor(
                paired=0.0134,
                between=0.238,
                trials=60,
                measured_at=datetime(2026, 4, 2, 11, 0, tzinfo=UTC),
                source="A/A trials of the quick budget",
            ),
            warnings=[
                Caution(
                    code="steal",
                    text="3.1 % of the CPU time was taken by other guests of this host",
                    remedy="measure on a quiet or dedicated machine",
                ),
                Caution(
                    code="spinning",
                    text="OpenMP's threads spin while they wait",
                    remedy="set OMP_WAIT_POLICY=PASSIVE",
                ),
            ],
        ),
        task=TaskSummary(
            name="ag-news",
            description="English news, four topics",
            demonstration=True,
            model=None,
            labels=list(LABELS),
            rows={"train": 20_000, "validation": 3_000, "test": ROWS},
            dropped={"empty text": 3},
            notes=[
                "validation rows were split off train, 1 in 8, by seed 1",
                "train: 37 of 20,000 rows (0.2%) repeat an earlier row; --deduplicate keeps the first",
            ],
            audit=DataAudit(
                splits={
                    "train": split_audit(20_000, duplicates=37, conflicting=8),
                    "validation": split_audit(3_000, conflicting=2),
                    "test": split_audit(ROWS, in_train=1644),
                }
            ),
        ),
        config=Config(
            command="bench run --variants all",
            protocol_version=2,
            variants=["dense", "bmp25", "bmp25+kd+mp"],
            device="cpu",
            budget="quick",
            seeds=[1],
            paddings=[],
            shapes=[],
            thread_counts=[1],
            deduplicate=False,
            epochs=3,
            dense_epochs=1,
            learning_rate=3e-5,
            dense_learning_rate=1e-4,
            batch_size=32,
            max_length=128,
            country="IND",
            carbon_intensity=713.44,
            carbon_source="Our World in Data 2023",
            pue=1.0,
            accuracy_margin=0.01,
            keep="best",
        ),
        fingerprints={"rows": "ab12", "model": "cd34", "code": "ef56"},
        wall_time=Measurement(value=1461.0, unit="s", better="lower", source="perf_counter"),
        results=results(),
    )


@pytest.fixture
def sixteen(run: Run) -> Run:
    """The ordinary run: every variant of the study, all measured."""
    return run.model_copy(update={"results": sixteen_results()})


def with_unseen(result: Result, seed: int) -> Result:
    """The result at another seed, also judged on the rows that are not in the training file."""
    unseen = result.metrics["accuracy"].model_copy(update={"value": 0.871, "ci_low": 0.862, "ci_high": 0.879})
    kept = result.accuracy_kept
    judged = kept and kept | {"test unseen": verdict("inconclusive", -0.0041, 0.0075)}
    metrics = result.metrics | {"accuracy_unseen": unseen}
    return result.model_copy(update={"seed": seed, "metrics": metrics, "accuracy_kept": judged})


@pytest.fixture
def seeded(run: Run) -> Run:
    """Two seeds of two variants, of which one is recommended; part of the test rows had been seen."""
    results = [
        dense(),
        dense(),
        variant("bmp25+kd+mp", "kept", -0.0021, 3.104, 0.3756, 2.21),
        variant("bmp25+kd+mp", "inconclusive", -0.0058, 2.961, 0.3756, 2.15),
        variant("mp", "kept", -0.0003, 1.004, 1.0, 1.0),
        variant("mp", "kept", 0.0004, 0.991, 1.0, 1.0),
    ]
    marked = [
        with_unseen(result, 1 + number % 2).model_copy(
            update={"recommended": result.variant == "bmp25+kd+mp"}
        )
        for number, result in enumerate(results)
    ]
    config = run.config.model_copy(update={"seeds": [1, 2]})
    return run.model_copy(update={"config": config, "results": marked})


@pytest.fixture
def slowed(run: Run) -> Run:
    """A run in which one variant's headline scenario has no figure."""
    results = [throttled(result) if result.variant == "mp" else result for result in run.results]
    return run.model_copy(update={"results": results})


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compares text with a committed file; `UPDATE_GOLDEN=1` writes it, to be read before committing."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("UPDATE_GOLDEN"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare
