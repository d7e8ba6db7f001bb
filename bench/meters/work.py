"""What a model has to do: the operators that it runs, their FLOPs, and the bytes that they move."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._higher_order_ops.out_dtype import out_dtype, out_dtype_dense
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import _flash_attention_forward_flop, flop_registry, mm_flop, sdpa_flop
from transformers import PreTrainedModel

from bench.encoding import Batch
from bench.meters.ceilings import copy_rate
from bench.nouns.profile import Ceilings, ModuleKind
from compressors.modules import watched

# Those that torch's own table lacks, by name: the same products by other kernels.
FORMULAS: dict[str, Callable[..., int]] = {
    "aten::_int_mm": mm_flop,
    "aten::_scaled_dot_product_flash_attention_for_cpu": sdpa_flop,
    # Rows of different length one after the other: by where each ends.
    "torch_attn::_varlen_attn": _flash_attention_forward_flop,
}
# Of what these read, no more is touched than comes out.
GATHERING = {"aten::embedding", "aten::index_select", "aten::index", "aten::gather"}
ALLOCATING = re.compile(r"aten::(new_)?empty(_like|_strided|_permuted)?$")
PRODUCT = re.compile(r"mm$|mm_|f8f8|matmul|linear|attention|attn|conv(olution|\d)")


@dataclass(frozen=True)
class Piece:
    """One operator's work; `dtype` is what it computes in."""

    operator: str
    kind: ModuleKind
    dtype: str
    flops: int
    bytes: int

    def bound(self, ceilings: Ceilings) -> float:
        """The s that the device takes for it at best: it computes and moves at once, as fast as it can."""
        return max(self.flops_bound(ceilings), self.bytes_bound(ceilings))

    def flops_bound(self, ceilings: Ceilings) -> float:
        """The s that its FLOPs alone take at best, in their own precision."""
        return self.flops / ceilings.matmul[self.dtype] if self.flops else 0.0

    def bytes_bound(self, ceilings: Ceilings) -> float:
        """The s that its bytes alone take at best."""
        return self.bytes / copy_rate(ceilings, self.bytes)


@dataclass
class Work:
    """How often each piece was done in so many batches; `unknown` are products that cannot be counted."""

    batches: int
    pieces: Counter[Piece] = field(default_factory=Counter)
    unknown: set[str] = field(default_factory=set)

    @property
    def dtypes(self) -> list[str]:
        """What its products compute in, the one with most of the FLOPs first."""
        flops: Counter[str] = Counter()
        for piece, count in self.pieces.items():
            flops[piece.dtype] += piece.flops * count
        return [dtype for dtype, number in flops.most_common() if number]

    @property
    def operators(self) -> set[str]:
        """The operators' names."""
        return {piece.operator for piece in self.pieces}

    @property
    def calls(self) -> float:
        """Operators a batch, without those that only look at what is there or make room."""
        return self.per_batch(lambda piece: piece.bytes > 0)

    def bound(self, ceilings: Ceilings) -> float | None:
        """The s that a batch takes at best; None where a precision's products have no ceiling."""
        return self.per_batch(lambda piece: piece.bound(ceilings)) if self.is_below(ceilings) else None

    def flops_bound(self, ceilings: Ceilings) -> float | None:
        """The s that a batch's FLOPs alone take at best; None where one of its precisions has no ceiling."""
        return self.per_batch(lambda piece: piece.flops_bound(ceilings)) if self.is_below(ceilings) else None

    def bytes_bound(self, ceilings: Ceilings) -> float:
        """The s that a batch's bytes alone take at best."""
        return self.per_batch(lambda piece: piece.bytes_bound(ceilings))

    def is_below(self, ceilings: Ceilings) -> bool:
        """Whether all of its precisions have a ceiling."""
        return ceilings.matmul.keys() >= set(self.dtypes)

    def per_batch(self, of: Callable[[Piece], float]) -> float:
        """A batch's share of something that each piece has."""
        return sum(of(piece) * count for piece, count in self.pieces.items()) / self.batches

    def parts(self, by: Callable[[Piece], str]) -> Mapping[str, Work]:
        """The same work in parts."""
        parts: dict[str, Work] = {}
        for piece, count in self.pieces.items():
            parts.setdefault(by(piece), Work(self.batches)).pieces[piece] = count
        return parts


class WorkCounter(TorchDispatchMode):
    """Sees every operator below autograd, as it is run; `kinds` is the stack of kinds of running modules."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work, self.kinds = work, list[ModuleKind](["other"])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(kind not in (torch.Tensor, torch.nn.Parameter) for kind in types):
            return NotImplemented  # a quantised tensor takes itself apart first, into operators that are seen
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name, packet = func._schema.name, func.overloadpacket
        formula, flops = flop_registry.get(packet) or FORMULAS.get(name), 0
        read, written = tensors(args, kwargs), tensors(result)
        if formula:
            flops = int(formula(*args, **kwargs, out_val=result))
        elif PRODUCT.search(name):
            self.work.unknown.add(name)
        moved = bytes_moved(func, read, written)
        self.work.pieces[Piece(name, self.kinds[-1], dtype_of(read), flops, moved)] += 1
        return result


@out_dtype.py_impl(WorkCounter)
def seen_inside(counter: WorkCounter, operator: Any, dtype: torch.dtype, *args: torch.Tensor) -> Any:
    """A product whose result is of another type, by the operator that does it.

    torchao's int8 layers on CUDA ask for it so, and do another in float32 where a mode refuses it.
    """
    with counter:
        return out_dtype_dense(operator, dtype, *args)


def dtype_of(read: Sequence[torch.Tensor]) -> str:
    """What an operator computes in: its first matrix's type.

    Some CPUs multiply int8 by int8 faster with an offset that leaves the first without a sign; int8 it is.
    """
    dtype = next((each.dtype for each in read if each.ndim > 1), torch.float32)
    return str(torch.int8 if dtype == torch.uint8 else dtype).removeprefix("torch.")


def tensors(*values: Any) -> list[torch.Tensor]:
    """The tensors among the values, each once."""
    found = (leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))
    return list({id(each): each for each in found}.values())


def bytes_moved(func: Any, read: Sequence[torch.Tensor], written: Sequence[torch.Tensor]) -> int:
    """Bytes of all arguments, read once, and of all results, written once; none where nothing is moved."""
    storages = {each.untyped_storage().data_ptr() for each in read}
    is_view = all(each.untyped_storage().data_ptr() in storages for each in written)
    if ALLOCATING.match(func._schema.name) or (is_view and not func._schema.is_mutable):
        return 0
    out = sum(map(size_of, written))
    return out + sum(
        min(size_of(each), out) if func._schema.name in GATHERING else size_of(each) for each in read
    )


def size_of(tensor: torch.Tensor) -> int:
    """Bytes that a tensor's elements take; those of an expanded one are there once."""
    sides = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or not size)
    return math.prod(sides) * tensor.itemsize


def count_work(model: PreTrainedModel, batches: Sequence[Batch]) -> Work:
    """The work of an eager model on these batches, which are run once."""
    work = Work(len(batches))
    counter = WorkCounter(work)
    with (
        torch.no_grad(),
        watched(model, lambda _, kind: counter.kinds.append(kind), lambda: counter.kinds.pop() and None),
        counter,
    ):
        for batch in batches:
            model(**batch)
    return work
