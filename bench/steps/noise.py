"""One A/A trial: a model against a copy of itself, in a process of its own."""

from __future__ import annotations

import statistics
from functools import partial

import torch

from bench import scratch
from bench.calibration import Trial
from bench.meters.rounds import Contender, Slice, paired_rounds, times_of, warm_up
from bench.nouns.run import Budget
from bench.protocol import PROTOCOLS
from bench.statistics import ratio
from bench.steps.common import prepare_process

ROWS, TOKENS, BATCHES = 32, 24, 8
LABELS = tuple(map(str, range(12)))


def run_trial(device: str, budget: Budget, seed: int) -> Trial:
    """Warm up two small BERTs of the same weights, and time them in paired rounds.

    Every trial has the same weights and rows, so that times of several can be compared; `seed` orders
    the rounds. Raises `InputError` where torch cannot use the device.
    """
    prepare_process(device, seed=0)
    first = scratch.small_bert(LABELS, scratch.VOCABULARY, TOKENS).eval().to(device)
    second = scratch.small_bert(LABELS, scratch.VOCABULARY, TOKENS).eval().to(device)
    second.load_state_dict(first.state_dict())
    batches = [torch.randint(scratch.VOCABULARY, (ROWS, TOKENS), device=device) for _ in range(BATCHES)]
    slices = [Slice(ROWS, ROWS * TOKENS, ROWS * TOKENS)] * BATCHES
    contenders = [
        Contender(name, [partial(classify, model, batch) for batch in batches])
        for name, model in (("first", first), ("second", second))
    ]
    protocol = PROTOCOLS[budget]
    for contender in contenders:
        warm_up(contender, slices, device, protocol)
    rounds, _ = paired_rounds(contenders, slices, device, protocol, seed)
    value, (low, high), _ = ratio(times_of(rounds, "first"), times_of(rounds, "second"))
    calls = rounds.rows[0] / ROWS
    return Trial(value, low, high, statistics.median(times_of(rounds, "first")) / calls)


def classify(model: torch.nn.Module, batch: torch.Tensor) -> None:
    """One batch through the model."""
    with torch.inference_mode():
        model(input_ids=batch, attention_mask=torch.ones_like(batch))
