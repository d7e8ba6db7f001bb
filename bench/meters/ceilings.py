"""What the device does at best: products, copies, and operators that have nothing to do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

import numpy as np
import torch

from bench.errors import is_out_of_memory
from bench.meters.rounds import time_block
from bench.nouns.profile import Ceilings, Copy

LEAST_REPEATS, LEAST_REPEATED_S = 3, 0.1
CUDA_SIDE = 8192
LEAST_PRODUCT_S = 0.02
SMALLEST_SIDE, LARGEST_SIDE = 128, 4096
KIB = 2**10
COPY_SIZES = {
    "cpu": (64 * KIB, KIB**2, 8 * KIB**2, 256 * KIB**2),
    "cuda": (4 * KIB**2, 32 * KIB**2, 512 * KIB**2),
}
# As many bytes a timed block: many small copies, or few large ones.
COPIED = {"cpu": 128 * KIB**2, "cuda": 4 * KIB**3}
TINY, CHAIN = 8, 1000


def measure_ceilings(device: str, dtypes: Collection[str]) -> Ceilings:
    """What the device does at best now; float32 always, and those of `dtypes` in which it has products."""
    with torch.inference_mode():
        rates = {dtype: product_rate(device, dtype) for dtype in sorted({"float32", *dtypes})}
        copies = [Copy(size=size, rate=copy_rate_at(device, size)) for size in COPY_SIZES[device]]
        return Ceilings(
            matmul={dtype: rate for dtype, rate in rates.items() if rate is not None},
            copies=copies,
            call=call_time_s(device),
        )


def better(first: Ceilings, second: Ceilings) -> Ceilings:
    """The best of two measurements of one device: what disturbs a machine only ever adds time."""
    return Ceilings(
        matmul={dtype: max(rate, second.matmul.get(dtype, rate)) for dtype, rate in first.matmul.items()},
        copies=[
            Copy(size=one.size, rate=max(one.rate, other.rate))
            for one, other in zip(first.copies, second.copies, strict=True)
        ],
        call=min(first.call, second.call),
    )


def copy_rate(ceilings: Ceilings, moved: float) -> float:
    """The rate, in B/s, at which so many bytes are read and written: between the sizes that were measured.

    A copy of a size moves twice as many bytes.
    """
    sizes = np.log([2 * copy.size for copy in ceilings.copies])
    return float(np.interp(np.log(max(moved, 1)), sizes, [copy.rate for copy in ceilings.copies]))


def best_time_s(call: Callable[[], object], device: str) -> float:
    """The shortest of several runs, after one that is not timed, in s."""
    call()
    times_s: list[float] = []
    while len(times_s) < LEAST_REPEATS or sum(times_s) < LEAST_REPEATED_S:
        times_s.append(time_block([call], device)[0])
    return min(times_s)


def product_rate(device: str, dtype: str) -> float | None:
    """FLOP/s of a square product, large enough to take a while; None where the device has none in `dtype`."""
    side = CUDA_SIDE if device == "cuda" else SMALLEST_SIDE
    try:
        call = product(device, dtype, side, side, side)
        while device == "cpu" and side < LARGEST_SIDE and time_block([call], device)[0] < LEAST_PRODUCT_S:
            side *= 2
            call = product(device, dtype, side, side, side)
        return 2 * side**3 / best_time_s(call, device)
    except (RuntimeError, NotImplementedError) as error:  # torch's where a device or build has no kernel
        if is_out_of_memory(error):
            raise
        return None


def product(device: str, dtype: str, rows: int, inner: int, columns: int) -> Callable[[], object]:
    """A product of two matrices as layers of this dtype compute it, the second one transposed."""
    kind: torch.dtype = getattr(torch, dtype)
    shapes = (rows, inner), (columns, inner)
    if kind.is_floating_point:
        first, second = (torch.randn(shape, device=device).to(kind) for shape in shapes)
    else:
        first, second = (torch.randint(-100, 100, shape, device=device, dtype=kind) for shape in shapes)
    if kind == torch.int8:
        return partial(torch._int_mm, first, second.t())
    if kind.itemsize == 1:
        one = torch.ones((), device=device)
        scaled = partial(torch._scaled_mm, use_fast_accum=True)  # as torchao's layers sum
        return partial(scaled, first, second.t(), one, one, out_dtype=torch.bfloat16)
    return partial(torch.mm, first, second.t())


def copy_rate_at(device: str, size: int) -> float:
    """B/s of copying so many bytes again and again, those read and those written counted.

    One call does many small copies, so that calling costs them little. A GPU moves four elements at a time,
    which are too few bytes where an element is one.
    """
    source, target = (torch.ones(size // 8, dtype=torch.int64, device=device) for _ in range(2))
    count = max(COPIED[device] // size, 1)
    call = partial(torch._foreach_copy_, [target] * count, [source] * count)
    return 2 * size * count / best_time_s(call, device)


def call_time_s(device: str) -> float:
    """Seconds that a bare operator takes that has nothing to do, in a long chain that is waited for once."""
    one, other, total = (torch.ones(TINY, device=device) for _ in range(3))

    def chain() -> None:
        for _ in range(CHAIN):
            torch.add(one, other, out=total)

    return best_time_s(chain, device) / CHAIN
