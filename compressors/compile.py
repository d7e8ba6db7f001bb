"""torch.compile: the model's operations fused into kernels made for it.

Source: Ansel et al., "PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode Transformation and
Graph Compilation", ASPLOS 2024.
"""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.errors import InputError, Refusal
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODES = ("default", "reduce-overhead", "max-autotune")


@dataclass
class Compile(Compressor):
    """Compiled by torch.compile in its `mode`, when the first batch comes; nothing is compiled ahead.

    What is compiled lies in torch's own cache, `TORCHINDUCTOR_CACHE_DIR`.
    """

    name: ClassVar[str] = "compile"
    phase: ClassVar[Phase] = Phase.RUNTIME
    summary: ClassVar[str] = "run through torch.compile, for any batch size and length"
    argument: ClassVar[str | None] = "mode"
    trains: ClassVar[bool] = False

    mode: str = "default"

    def validate(self, device: str) -> None:
        if self.mode not in MODES:
            raise InputError(
                f"compile: mode={self.mode} is unknown; use {', '.join(MODES[:-1])} or {MODES[-1]}"
            )
        if self.mode == "reduce-overhead" and device == "cpu":
            raise InputError("compile: mode=reduce-overhead needs a CUDA device; use default on cpu")

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        refuse_without_compiler(context.device)
        return model

    def runtime(self, model: PreTrainedModel, folder: Path, device: str) -> PreTrainedModel:
        from compressors.engines import Compiled

        refuse_without_compiler(device)
        return Compiled(model, self.mode)


def refuse_without_compiler(device: str) -> None:
    """Raise `Refusal` where something is missing that torch.compile builds with."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise Refusal(
            "compile needs a C++ compiler, and none was found: apt-get install g++, or name one in CXX"
        ) from None
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        raise Refusal(f"compile needs Python's C headers, not in {headers}: apt-get install python3-dev")
    if device == "cuda" and not has_triton():
        raise Refusal(
            "compile needs triton on cuda, which is not installed or cannot be used: pip install triton"
        )
