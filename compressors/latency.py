"""How long a model's sub-layers take on this device, by their heads and feed-forward widths."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from transformers import PreTrainedModel

from compressors.pruned import shape_layer
from compressors.shapes import anatomy_of

WARM_UP_ROUNDS = 2
ROUNDS = 9
Times = Mapping[int, float]


@dataclass(frozen=True)
class LatencyTable:
    """Seconds of a forward pass: the rest of the model, and what one layer adds by its heads and its width.

    The times of those heads and widths that were measured, ascending from 0, never fall; between them they
    are interpolated.
    """

    rest_s: float
    heads_s: Times
    widths_s: Times

    def attention_s(self, heads: int | np.ndarray) -> np.ndarray:
        """What attention with so many heads adds in one layer."""
        return np.asarray(np.interp(heads, list(self.heads_s), list(self.heads_s.values())))

    def ffn_s(self, width: int | np.ndarray) -> np.ndarray:
        """What a feed-forward network of this width adds in one layer."""
        return np.asarray(np.interp(width, list(self.widths_s), list(self.widths_s.values())))

    def model_s(self, shapes: list[tuple[int, int]]) -> float:
        """A whole model whose layers have these (heads, width)."""
        return self.rest_s + sum(float(self.attention_s(h) + self.ffn_s(w)) for h, w in shapes)


def measure_latency(model: PreTrainedModel, batch: dict[str, torch.Tensor], multiple: int) -> LatencyTable:
    """The table of a prunable `model` whose layers are alike, on the device where it and the batch are.

    Whole models with some heads and no neurons in every layer, or the other way round, are timed. That a
    layer's parts add up is an assumption.
    """
    anatomy = anatomy_of(model)
    assert anatomy is not None
    layers = list(anatomy.layers(model).values())
    (shape,) = {anatomy.shape(layer) for layer in layers}
    heads, widths = knots(1, shape[0]), knots(multiple, shape[1])
    shapes = [(0, 0), *((count, 0) for count in heads), *((0, width) for width in widths)]
    times_s = median_times_s([probe(model, *shape) for shape in shapes], batch)
    added_s = (np.array(times_s[1:]) - times_s[0]) / len(layers)
    return LatencyTable(
        times_s[0],
        rising(heads, added_s[: len(heads)]),
        rising(widths, added_s[len(heads) :]),
    )


def usual_batch(batches: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Of the batches with the most rows, the one that is padded to the median length."""
    most = max(len(batch["labels"]) for batch in batches)
    whole = [batch for batch in batches if len(batch["labels"]) == most]
    whole.sort(key=lambda batch: batch["input_ids"].shape[1])
    return whole[len(whole) // 2]


def knots(smallest: int, full: int) -> list[int]:
    """The numbers of heads, or widths, to measure: where adding starts to cost, and in quarters."""
    return sorted({min(smallest, full), *(max(smallest, full * part // 4) for part in (1, 2, 3)), full})


def probe(model: PreTrainedModel, heads: int, width: int) -> PreTrainedModel:
    """A model that runs as `model` would with this shape in every layer; all else it shares with it."""
    anatomy = anatomy_of(model)
    assert anatomy is not None
    made: PreTrainedModel = copy.deepcopy(model, {id(shared): shared for shared in model.parameters()})
    for layer in anatomy.layers(made).values():
        shape_layer(layer, anatomy, heads, width)
    return made.to(device=model.device, dtype=model.dtype).eval()


def median_times_s(models: list[PreTrainedModel], batch: dict[str, torch.Tensor]) -> list[float]:
    """Seconds that each model takes for the batch: the median over rounds in which each has its turn."""
    inputs = {key: batch[key] for key in batch if key != "labels"}
    on_gpu = batch["labels"].is_cuda
    rounds = []
    with torch.inference_mode():
        for _ in range(WARM_UP_ROUNDS + ROUNDS):
            times = []
            for model in models:
                started = time.perf_counter()
                model(**inputs)
                if on_gpu:
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - started)
            rounds.append(times)
    return np.median(rounds[WARM_UP_ROUNDS:], axis=0).tolist()


def rising(counts: list[int], times_s: np.ndarray) -> dict[int, float]:
    """The times by their counts, 0 for none, the nearest to these that never fall."""
    fitted = isotonic_regression(times_s).x.clip(min=0)
    return {0: 0.0, **dict(zip(counts, fitted.tolist(), strict=True))}
