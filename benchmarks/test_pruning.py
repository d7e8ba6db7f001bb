"""What pruning costs while training, and that its speed survives reloading: `make benchmarks`.

The model has the shape of MiniLM-L6; rows have 32 tokens each and come 32 at a time. Times are CPU times
on one thread: what other processes take does not count, and on an idle machine they are the times that pass.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
PRUNED = "random50"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Has torch compute with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    """Time of a variant's whole schedule in s, in the product's own training loop."""
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
    started = time.process_time()
    fine_tune(model, rows, labels, parts, context, schedule, scratch, lambda *_: None)
    return time.process_time() - started


@pytest.mark.parametrize("spec", ["bmp50", "magnitude50"])
def test_a_pruning_step_costs_at_most_a_quarter_more_than_a_plain_one(
    benchmark: BenchmarkFixture, tmp_path: Path, spec: str
) -> None:
    contenders = {each: partial(training_time, each, tmp_path) for each in ("ft", spec)}
    assert in_turns(benchmark, contenders, rounds=5)[spec] <= 1.25


def half_pruned() -> PreTrainedModel:
    """A model without half of its encoder, which layers lost in different shares."""
    (part,), model = parse_variant(PRUNED).parts, mini_lm()
    context = context_of(model, TOKENIZER)
    return part.finish(part.prepare(model, context), context)


WAYS = {
    "in memory": "from benchmarks.test_pruning import half_pruned; model = half_pruned()",
    "compressors.load": "import compressors; model = compressors.load(folder)",
    "from_pretrained": (
        "import compressors.pruned; from transformers import AutoModelForSequenceClassification as Auto; "
        "model = Auto.from_pretrained(folder)"
    ),
}
# glibc's malloc decides by what a process did before whether it gives memory back after each tensor, only
# to take it again page by page: 9 % of the time here, whatever the model. So all keep what they have.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
# The first call of a turn, which finds other processes' data in the caches, is not timed.
ANSWER = """
import statistics, sys, time, torch
from safetensors.torch import load_file
(folder,) = sys.argv[1:]
{way}
torch.set_num_threads(1)
batch = load_file(folder + "/batch.tensors")

def call():
    started = time.process_time()
    with torch.inference_mode():
        model(**batch)
    return time.process_time() - started

for _ in sys.stdin:
    call()
    print(statistics.median(call() for _ in range(3)), flush=True)
"""


@contextmanager
def fresh_process(way: str, folder: Path) -> Iterator[Callable[[], float]]:
    """A process that got the model in this way; each call has it run a batch and tells the time in s."""
    command = [sys.executable, "-c", ANSWER.format(way=way), str(folder)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **KEEP_MEMORY},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        def call() -> float:
            print(file=asked, flush=True)
            return float(told.readline())

        yield call
        asked.close()


def test_a_pruned_model_is_as_fast_reloaded_as_it_was_in_memory(
    benchmark: BenchmarkFixture, tmp_path: Path
) -> None:
    artifact.save(half_pruned(), TOKENIZER, parse_variant(PRUNED), tmp_path)
    batch = {"input_ids": torch.randint(5, VOCABULARY, (BATCH, TOKENS))}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    save_file(batch, tmp_path / "batch.tensors")
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(fresh_process(way, tmp_path)) for name, way in WAYS.items()}
        found = in_turns(benchmark, contenders, rounds=30, warm_up_rounds=3)
    assert all(abs(ratio - 1) < 0.05 for ratio in found.values())
