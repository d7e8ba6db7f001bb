"""How long a plan will take and how much it will store: rough, from sizes and this machine's speed."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from bench import scratch
from bench.errors import InputError
from bench.nouns.task import Task
from bench.plan import Plan
from bench.protocol import PROTOCOLS
from compressors.artifact import read_config
from compressors.contract import Compressor
from compressors.inspection import is_size
from compressors.registry import running_plugins
from compressors.variant import Variant

CUDA_FLOPS_PER_S = 2e13
EFFICIENCY = 0.15
TRIALS, TRIAL_PAUSE_S = 12, 0.08
TOKENS_PER_WORD = 1.6
START_S = 20.0
PER_VARIANT_S = 6.0
PROFILE_S = 15.0
FORWARD_AND_BACKWARD = 3


@dataclass(frozen=True)
class Estimate:
    """Rough figures for a run that finds nothing in its cache: seconds of wall time, bytes on disk."""

    time_s: float
    disk_bytes: int


@dataclass(frozen=True)
class ModelSize:
    """Parameters of the whole model, of its encoder, which does the work, and the encoder's layers."""

    parameters: int
    encoder: int
    depth: int


@running_plugins()
def estimate(plan: Plan) -> Estimate:
    """The plan's wall time and disk space."""
    size = model_size(plan.task.model)
    rows_per_s = flops_per_s(plan.config.device) / (2 * size.encoder * tokens_per_row(plan))
    time_s = training_s(plan.config.dense_epochs, plan.task, 1.0, rows_per_s)
    trained = {variant.trained.name: variant for variant in plan.variants if variant.trains}
    for variant in trained.values():
        time_s += training_s(plan.config.epochs, plan.task, depth_share(variant, size), rows_per_s)
    time_s += len(plan.variants) * (PER_VARIANT_S + measuring_s(plan, rows_per_s))
    seeds = len(plan.config.seeds)
    made = {step.name: step for row in plan.variants for step in (row, row.trained, row.setting)}
    disk_bytes = sum(stored_bytes(variant, size) for variant in made.values())
    return Estimate(START_S + seeds * time_s, seeds * disk_bytes)


def training_s(epochs: float, task: Task, share: float, rows_per_s: float) -> float:
    """Seconds of training a model of `share` of the encoder."""
    return FORWARD_AND_BACKWARD * epochs * len(task.train) * share / rows_per_s


def measuring_s(plan: Plan, rows_per_s: float) -> float:
    """Seconds of measuring one variant: rounds of three contenders, requests, predictions, energy."""
    config, protocol = plan.config, PROTOCOLS[plan.config.budget]
    seconds = protocol.energy_window_s + protocol.idle_window_s
    seconds += PROFILE_S * config.profile
    seconds += (len(plan.task.test) + len(plan.task.validation)) / rows_per_s
    task_batches = 2 + len(config.paddings) + len(config.thread_counts)
    scenarios = [1, *[config.batch_size] * task_batches, *(rows for rows, _ in config.shapes)]
    for batch in scenarios:
        batch_s = batch / rows_per_s
        rounds_s = max(3 * protocol.min_rounds * batch_s, protocol.max_time_s / 2)
        seconds += rounds_s + 3 * max(protocol.warm_up_min_s, batch_s)
    for batch in (1, config.batch_size):
        seconds += min(protocol.requests * batch / rows_per_s, protocol.requests_cap_s)
    return seconds


def stored_bytes(variant: Variant, size: ModelSize) -> int:
    """Bytes of a variant's weights, before any rounding of shapes, and of an engine's file beside them.

    That counts as float32: int8 is made from such a file, which lies there meanwhile.
    """
    encoder = size.encoder * (1 - variant.removed_share) * depth_share(variant, size)
    each = (2 if variant.autocast else 4) + (4 if any(part.engine for part in variant.parts) else 0)
    return int((size.parameters - size.encoder + encoder) * each)


def depth_share(variant: Variant, size: ModelSize) -> float:
    """Share of dense's layers that the variant has."""
    return min((layers_left(part, size.depth) for part in variant.parts), default=size.depth) / size.depth


def layers_left(part: Compressor, depth: int) -> int:
    """How many of `depth` layers a part leaves, as it says. Raises `InputError` where it cannot be."""
    left = part.layers_left(depth)
    if type(left) is not int or left < 1:
        raise InputError(f"{part.name}: layers_left is {left!r} of {depth}, and must be a number of layers")
    return left


def model_size(model: str | None) -> ModelSize:
    """Sizes from the checkpoint's `config.json`; what that does not say is as in a BERT-base.

    Raises `InputError` for one that is not a JSON object.
    """
    config = {"vocab_size": 30_522, "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3_072}
    if model is None:
        config = {
            "vocab_size": scratch.VOCABULARY,
            "hidden_size": scratch.HIDDEN,
            "num_hidden_layers": scratch.LAYERS,
            "intermediate_size": scratch.FFN,
        }
    else:
        found = read_config(model)
        config |= {name: found[name] for name in config if is_size(found.get(name))}
    hidden = config["hidden_size"]
    encoder = config["num_hidden_layers"] * (4 * hidden**2 + 2 * hidden * config["intermediate_size"])
    return ModelSize(encoder + config["vocab_size"] * hidden, encoder, config["num_hidden_layers"])


def tokens_per_row(plan: Plan) -> float:
    """Mean tokens of a test row, guessed from its words."""
    words = [len(row.text.split()) for row in plan.task.test]
    return min(TOKENS_PER_WORD * sum(words) / len(words) + 2, plan.config.max_length)


def flops_per_s(device: str) -> float:
    """What a model's matrix products reach: a part of the best trial product on CPU, a constant on CUDA."""
    if device == "cuda":
        return CUDA_FLOPS_PER_S
    a = np.ones((512, 512), dtype=np.float32)
    trials_s = []
    for _ in range(TRIALS):
        time.sleep(TRIAL_PAUSE_S)  # a shared machine stalls for tenths of a second at a time
        started = time.perf_counter()
        a @ a
        trials_s.append(time.perf_counter() - started)
    return float(EFFICIENCY * 2 * 512**3 / min(trials_s))
