"""What an artifact's weights alone say of its speed: exact zeros, and widths that kernels take badly."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from bench.meters.ceilings import product
from bench.meters.rounds import time_block
from bench.nouns.profile import Width
from compressors.artifact import skeleton
from compressors.shapes import anatomy_of

MOST_WIDTHS = 5
ROUNDS = 15
# A GPU does a layer's product sooner than it is launched: so many are queued while it waits, some 5 ms.
QUEUED, WAITED_CYCLES = 100, 10_000_000
# A CPU sums products in float32 or int32, so many at a time, by what torch calls its instructions.
LANES = {"AVX512": 16, "AVX2": 8}
# cuBLAS wants rows aligned to so many bytes (NVIDIA, "Matrix Multiplication Background User's Guide", 3).
CUDA_BYTES = 16


def zero_share(folder: Path) -> float | None:
    """The share of exact zeros in the encoder's matrices; None where they are not saved as plain tensors."""
    wanted, zeros, total = {f"{path}.weight" for path, _ in encoder_matrices(skeleton(folder))}, 0, 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            for name in wanted & set(tensors.keys()):
                weight = tensors.get_tensor(name)
                zeros += weight.numel() - int(weight.count_nonzero())
                total += weight.numel()
    return zeros / total if total else None


def encoder_matrices(model: PreTrainedModel) -> Iterator[tuple[str, nn.Linear]]:
    """The encoder's linear layers by path; all of the base model's in a family that is not known here."""
    anatomy = anatomy_of(model)
    layers = anatomy.layers(model) if anatomy else {model.base_model_prefix: model.base_model}
    for above, layer in layers.items():
        for path, module in layer.named_modules():
            if isinstance(module, nn.Linear):
                yield f"{above}.{path}", module


def unfriendly_widths(folder: Path, tokens: int, dtype: str, device: str) -> tuple[list[Width], list[int]]:
    """The widths of the encoder's layers that are no multiple of what kernels take, and what they cost.

    Each is timed in turns with the next multiple, as the product of `tokens` rows that the layer does in
    `dtype`; of many the `MOST_WIDTHS` that most layers have. Beside them those for which torch has no such
    product.
    """
    model = skeleton(folder)
    inner: dict[tuple[str, int], int] = {}
    layers: Counter[str] = Counter()
    unfriendly: Counter[tuple[str, int]] = Counter()
    anatomy, multiple = anatomy_of(model), friendly_multiple(dtype, device)
    for layer in anatomy.layers(model).values() if anatomy else ():
        assert anatomy is not None
        for what, name in (("feed-forward", anatomy.ffn_in), ("attention heads", anatomy.query)):
            matrix = next((part for path, part in layer.named_modules() if path == name), None)
            if isinstance(matrix, nn.Linear):
                layers[what] += 1
                if matrix.out_features % multiple:
                    unfriendly[what, matrix.out_features] += 1
                    inner[what, matrix.out_features] = matrix.in_features
    widths, refused = [], []
    for (what, width), count in unfriendly.most_common(MOST_WIDTHS):
        friendly = -(-width // multiple) * multiple
        cost = relative_cost(device, dtype, tokens, inner[what, width], width, friendly)
        if cost is None:
            refused.append(width)
        else:
            share = count / layers[what]
            widths.append(Width(what=what, width=width, friendly=friendly, cost=cost, share=share))
    return widths, refused


def friendly_multiple(dtype: str, device: str) -> int:
    """What a side of a matrix is best a multiple of."""
    if device == "cuda":
        return CUDA_BYTES // getattr(torch, dtype).itemsize
    return LANES.get(torch.backends.cpu.get_cpu_capability(), 4)


def relative_cost(device: str, dtype: str, rows: int, inner: int, width: int, friendly: int) -> float | None:
    """The time a column of a product of `width` takes over that of `friendly`: median of paired rounds.

    None where torch refuses such a product.
    """
    try:
        with torch.inference_mode():
            calls = [product(device, dtype, rows, inner, columns) for columns in (width, friendly)]
            pairs = [[product_time_s(call, device) for call in calls] for _ in range(ROUNDS)]
    except (RuntimeError, NotImplementedError):
        return None
    return statistics.median(own / other for own, other in pairs[1:]) * friendly / width


def product_time_s(call: Callable[[], object], device: str) -> float:
    """How long some calls take in s; on a GPU that of their kernels, all launched before the first begins."""
    if device == "cpu":
        return time_block([call] * 3, device)[0]
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(WAITED_CYCLES)
    began.record()
    for _ in range(QUEUED):
        call()
    ended.record()
    torch.cuda.synchronize()
    return began.elapsed_time(ended) / 1000
