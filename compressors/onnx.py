"""ONNX Runtime, in float32 or with int8 weights.

The file `model.onnx` and its weights, `model.onnx.data`, are made from the saved model, and again wherever
they are missing.
"""

from __future__ import annotations

import inspect
import logging
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import InputError, Refusal, in_one_line
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE = "model.onnx"
OPSET = 20
PRECISIONS = ("float32", "int8")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass
class Onnx(Compressor):
    """Run by ONNX Runtime.

    `int8` quantises the weights of all matrix products by constants, one scale an output, to 7 bits, which
    no CPU's int8 instructions overflow on; their inputs are quantised as they come.
    """

    name: ClassVar[str] = "onnx"
    phase: ClassVar[Phase] = Phase.RUNTIME
    summary: ClassVar[str] = "run by ONNX Runtime, in float32 or with int8 weights"
    argument: ClassVar[str | None] = "precision"
    trains: ClassVar[bool] = False
    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "onnxscript")
    engine: ClassVar[str | None] = FILE

    precision: str = "float32"

    def validate(self, device: str) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"onnx: precision={self.precision} is unknown; use {' or '.join(PRECISIONS)}")

    def refuses(self, other: Compressor) -> str | None:
        if other.quantises:
            return "ONNX Runtime quantises by itself: write onnx:int8"
        if other.autocast:
            return (
                "the ONNX file is float32 or int8: ONNX Runtime computes half precision in float32 on a CPU"
            )
        return None

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.quantised import is_quantised

        self.refuse_device(context.device)
        if is_quantised(model):
            raise Refusal("onnx: the model is quantised already; name the one it was made from")
        return model

    def build(self, model: PreTrainedModel, folder: Path) -> None:
        self.export(folder, folder)

    def runtime(self, model: PreTrainedModel, folder: Path, device: str) -> PreTrainedModel:
        from compressors.engines import OnnxModel

        self.refuse_device(device)
        if (folder / FILE).exists():
            return OnnxModel(model, folder / FILE, device)
        with ExitStack() as kept:
            scratch = Path(kept.enter_context(TemporaryDirectory(prefix="onnx-")))
            self.export(folder, scratch)
            engine = OnnxModel(model, scratch / FILE, device)
            weakref.finalize(engine, kept.pop_all().close)
        return engine

    def why_not_faster(
        self, parts: Sequence[Compressor], device: str, cpu_features: Sequence[str]
    ) -> str | None:
        from compressors.int8 import Int8

        return Int8().why_not_faster(parts, device, cpu_features) if self.precision == "int8" else None

    def refuse_device(self, device: str) -> None:
        """Raise `Refusal` where ONNX Runtime cannot run this precision on `device`."""
        import onnxruntime

        from compressors.engines import ORT_DEVICES

        if device == "cuda" and self.precision == "int8":
            raise Refusal("onnx:int8 needs a CPU: ONNX Runtime has no int8 kernels for CUDA; write onnx")
        if ORT_DEVICES[device] not in onnxruntime.get_available_providers():
            raise Refusal(
                f"onnx: this onnxruntime cannot run on {device}: "
                "pip uninstall onnxruntime && pip install onnxruntime-gpu"
            )

    def export(self, artifact: Path, target: Path) -> None:
        """Write the saved model as ONNX into the folder `target`. Raises `Refusal` where it cannot be."""
        from compressors.artifact import load_model, load_tokenizer

        model, inputs = load_model(str(artifact)), load_tokenizer(str(artifact)).model_input_names
        if self.precision == "float32":
            write_onnx(model, inputs, target / FILE)
            return
        with TemporaryDirectory(dir=target) as scratch:
            write_onnx(model, inputs, Path(scratch) / FILE)
            quantise(Path(scratch) / FILE, target / FILE)


def write_onnx(model: PreTrainedModel, inputs: Sequence[str], file: Path) -> None:
    """Export for any number of rows and tokens; the one output is `logits`. Raises `Refusal`.

    It takes those of `inputs`, which are what the tokenizer gives, that the model does.
    """
    import torch
    from torch import nn
    from torch.backends import cudnn
    from torch.export import Dim

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor | None = None,
            token_type_ids: torch.Tensor | None = None,
        ) -> torch.Tensor:
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            return model(input_ids=input_ids, attention_mask=attention_mask, **types).logits

    taken = inspect.signature(model.forward).parameters
    names = [name for name in INPUTS if name in inputs and name in taken]
    any_size = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    try:
        with quietly():
            # The exporter reads torch's old switch, which fails until it says the same as the new one.
            cudnn.allow_tf32 = cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]
            torch.onnx.export(
                Logits().eval(),
                kwargs={name: torch.ones(2, 8, dtype=torch.long) for name in names},
                f=file,
                input_names=names,
                output_names=["logits"],
                opset_version=OPSET,
                dynamic_shapes=dict.fromkeys(names, any_size),
                dynamo=True,
                external_data=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        cause: Any = error.__cause__ or error
        family = model.config.model_type
        raise Refusal(f"onnx: torch cannot export this {family} model: {in_one_line(cause)}") from error


@contextmanager
def quietly() -> Iterator[None]:
    """Meanwhile no warnings: exporter and quantiser warn of what is deprecated or missing in themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def quantise(file: Path, target: Path) -> None:
    """Write the exported model with int8 weights in its matrix products."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(file)
    # These name shapes of weights that the quantiser transposes, and it fails where they no longer agree.
    del model.graph.value_info[:]
    with quietly():
        quantize_dynamic(
            model,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )
