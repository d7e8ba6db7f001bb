"""What pruning costs while training, and that its speed survives reloading: `make benchmarks`.

The model has the shape of MiniLM-L6, rows have 32 tokens each and come 32 at a time.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from bench.training import Schedule, fine_tune
from benchmarks.turns import in_turns
from compressors import artifact
from compressors.variant import parse_variant
from tests.compressors.tiny import LABELS, context_of, toy_tokenizer

VOCABULARY, TOKENS, BATCH, STEPS = 30_522, 32, 32, 10
TOKENIZER = toy_tokenizer(["a b"])


def mini_lm() -> PreTrainedModel:
    """A fresh model of MiniLM-L6's shape."""
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
            id2label=dict(enumerate(LABELS)),
        )
    )


def training_time(spec: str, scratch: Path) -> float:
    """Time of a variant's whole schedule in s, all its steps but the first, in the product's own loop."""
    parts, model = parse_variant(spec).parts, mini_lm()
    context = context_of(model, TOKENIZER)
    for part in parts:
        model = part.prepare(model, context)
    rng = random.Random(0)
    rows = [
        {"input_ids": rng.choices(range(5, VOCABULARY), k=TOKENS), "attention_mask": [1] * TOKENS}
        for _ in range(STEPS * BATCH)
    ]
    labels = [number % len(LABELS) for number in range(len(rows))]
    schedule = Schedule(epochs=1, learning_rate=3e-5, batch_size=BATCH, seed=0, device="cpu")
    findings = fine_tune(model, rows, labels, parts, context, schedule, scratch, lambda *_: None)
    steps_s = findings.metrics["training_step_time"].samples
    assert len(steps_s) == STEPS - 1
    return sum(steps_s)


@pytest.mark.parametrize("spec", ["bmp50", "magnitude50"])
def test_a_pruning_step_costs_at_most_a_quarter_more_than_a_plain_one(
    benchmark: BenchmarkFixture, tmp_path: Path, spec: str
) -> None:
    contenders = {each: partial(training_time, each, tmp_path) for each in ("ft", spec)}
    assert in_turns(benchmark, contenders, rounds=9)[spec] <= 1.25


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Has torch compute with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


LOADS = {
    "compressors.load": "import compressors; model = compressors.load(folder)",
    "from_pretrained": (
        "import compressors.pruned; from transformers import AutoModelForSequenceClassification as Auto; "
        "model = Auto.from_pretrained(folder).eval()"
    ),
}
ANSWER = """
import sys, time, torch
from safetensors.torch import load_file
torch.set_num_threads(1)
(folder,) = sys.argv[1:]
{load}
batch = load_file(folder + "/batch.tensors")
for _ in sys.stdin:
    started = time.process_time()
    with torch.inference_mode():
        model(**batch)
    print(time.process_time() - started, flush=True)
"""


@contextmanager
def reloaded(load: str, folder: Path) -> Iterator[Callable[[], float]]:
    """A fresh process that has loaded the model; each call has it run one batch and tells the CPU time in s."""
    command = [sys.executable, "-c", ANSWER.format(load=load), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        def call() -> float:
            print(file=asked, flush=True)
            return float(told.readline())

        yield call
        asked.close()


def test_a_pruned_model_is_as_fast_reloaded_as_it_was_in_memory(
    benchmark: BenchmarkFixture, tmp_path: Path, one_thread: None
) -> None:
    """In CPU time on one thread, which on an idle machine is the time it takes."""
    variant = parse_variant("random50")
    (part,) = variant.parts
    model = mini_lm()
    context = context_of(model, TOKENIZER)
    model = part.finish(part.prepare(model, context), context)
    artifact.save(model, TOKENIZER, variant, tmp_path)
    batch = {"input_ids": torch.randint(5, VOCABULARY, (BATCH, TOKENS))}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    save_file(batch, tmp_path / "batch.tensors")

    def in_memory() -> float:
        started = time.process_time()
        with torch.inference_mode():
            model(**batch)
        return time.process_time() - started

    ours, stock = (reloaded(load, tmp_path) for load in LOADS.values())
    with ours as by_us, stock as by_transformers:
        ways = dict(zip(LOADS, (by_us, by_transformers), strict=True))
        found = in_turns(benchmark, {"in memory": in_memory, **ways}, rounds=40, warm_up_rounds=5)
    assert all(abs(ratio - 1) < 0.05 for ratio in found.values())
