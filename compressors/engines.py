"""Models run otherwise than eagerly. Each is called like the classifier it stands for, in inference mode."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from compressors.artifact import longest_row, told_about

# One limit counts the compiled forms of all models of a class: dense and a variant, one row and several, each
# number of threads.
COMPILED_FORMS = 64
# In these modes torch.compile runs a shape once on a GPU, records it the second time, and then replays it.
RECORDING = {"reduce-overhead", "max-autotune"}
CALLS_TO_RECORD = 2
WARM_UP_CALLS = 3
# What a model takes an input to be that it is not given.
DEFAULTS = {"attention_mask": torch.ones_like, "token_type_ids": torch.zeros_like}
ORT_DEVICES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Engine(nn.Module):
    """What all share: the model's `config` and `dtype`, and `compile_time_s`.

    That is how long compiling, capturing or opening took so far, in s; it grows whenever there is more of it.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.eval()
        self.config, self.dtype = model.config, model.dtype
        self.compile_time_s = 0.0

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Count what happens meanwhile as compiling."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.compile_time_s += time.perf_counter() - started


class Compiled(Engine):
    """A model through torch.compile, as one graph for any number of rows and tokens.

    torch compiles when a call needs it: once for several rows, once for a single row, and again where the
    number of threads changes. In a mode that records CUDA graphs, each shape is recorded when it first comes.
    What cannot be compiled, or would fall back to eager, raises torch's error.
    """

    def __init__(self, model: PreTrainedModel, mode: str) -> None:
        super().__init__(model)
        self.model = torch.compile(model, mode=mode, dynamic=True, fullgraph=True)
        self.records = mode in RECORDING and model.device.type == "cuda"
        self.recorded: set[tuple[Any, ...]] = set()
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, COMPILED_FORMS)

    @torch.inference_mode()
    def forward(self, **batch: torch.Tensor) -> SequenceClassifierOutput:
        from torch._dynamo.callback import callback_handler as compiler

        shape = (*batch["input_ids"].shape, *sorted(batch))
        if self.records and shape not in self.recorded:
            with self.compiling():
                for _ in range(CALLS_TO_RECORD):
                    self.model(**batch)
            self.recorded.add(shape)
        compiler.register_start_callback(self._begin)
        compiler.register_end_callback(self._end)
        try:
            logits = self.model(**batch).logits
        finally:
            compiler.remove_start_callback(self._begin)
            compiler.remove_end_callback(self._end)
        # Where the mode records CUDA graphs, the next call writes into the same memory.
        return SequenceClassifierOutput(logits=logits.clone())

    def _begin(self, _: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, _: Any) -> None:
        self.compile_time_s += time.perf_counter() - self._began


@dataclass(frozen=True)
class Graph:
    """A captured call: what it reads, what it writes, and how it is done again."""

    inputs: dict[str, torch.Tensor]
    logits: torch.Tensor
    graph: torch.cuda.CUDAGraph


class Captured(Engine):
    """A model whose calls are CUDA graphs, captured once a shape and replayed: one launch for hundreds.

    Batches are padded to a multiple of `multiple` tokens, so that there are few shapes. The `most` that were
    used last are kept; one beyond is captured again when it comes back.

    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs says how, and what may not be in one.
    """

    def __init__(self, model: PreTrainedModel, multiple: int, most: int) -> None:
        super().__init__(model)
        self.model, self.multiple, self.most = model, multiple, most
        self.longest = longest_row(model.config.to_dict(), None)
        self.padding = {"input_ids": model.config.pad_token_id or 0}
        self.graphs: OrderedDict[tuple[Any, ...], Graph] = OrderedDict()
        # All share one pool: a replay computes everything anew, and its logits are copied before the next.
        self.pool: Any = None

    @torch.inference_mode()
    def forward(self, **batch: torch.Tensor) -> SequenceClassifierOutput:
        batch = self.padded(batch)
        captured = self.graph_of(batch)
        for name, tensor in batch.items():
            captured.inputs[name].copy_(tensor)
        captured.graph.replay()
        return SequenceClassifierOutput(logits=captured.logits.clone())

    def padded(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch with its mask, to the next multiple of tokens or the most that the model takes."""
        tokens = batch["input_ids"]
        batch = {"attention_mask": torch.ones_like(tokens)} | batch
        width = -(-tokens.shape[1] // self.multiple) * self.multiple
        more = max(min(width, self.longest or width) - tokens.shape[1], 0)
        return {
            name: pad(tensor, (0, more), value=self.padding.get(name, 0)) for name, tensor in batch.items()
        }

    def graph_of(self, batch: dict[str, torch.Tensor]) -> Graph:
        """The graph for the batch's shape, captured now if it is not there."""
        shape = (*batch["input_ids"].shape, *sorted(batch))
        if shape not in self.graphs:
            with self.compiling():
                self.graphs[shape] = self.capture(batch)
            if len(self.graphs) > self.most:
                self.graphs.popitem(last=False)
        self.graphs.move_to_end(shape)
        return self.graphs[shape]

    def capture(self, batch: dict[str, torch.Tensor]) -> Graph:
        """A graph of the model doing a batch of this shape."""
        inputs = {name: tensor.clone() for name, tensor in batch.items()}
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        apart = torch.cuda.Stream()
        apart.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(apart):
            for _ in range(WARM_UP_CALLS):
                self.model(**inputs)
        torch.cuda.current_stream().wait_stream(apart)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            logits = self.model(**inputs).logits
        torch.cuda.synchronize()
        return Graph(inputs, logits, graph)


class OnnxModel(Engine):
    """A model's ONNX file run by ONNX Runtime; of `model` nothing but its configuration is kept.

    A session's number of threads is fixed, so there is one for each number that torch was set to.
    """

    def __init__(self, model: PreTrainedModel, file: Path, device: str) -> None:
        super().__init__(model)
        self.dtype = torch.float32
        self.file, self.device = file, device
        self.sessions: dict[int, Any] = {}
        self.session()

    def session(self) -> Any:
        """The session for torch's present number of threads, opened now if it is not there."""
        threads = torch.get_num_threads()
        if threads not in self.sessions:
            with self.compiling():
                self.sessions[threads] = self.open(threads)
        return self.sessions[threads]

    def open(self, threads: int) -> Any:
        """A new session, whose threads sleep or spin while they wait as those of torch are told to."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        provider: Any = ORT_DEVICES[self.device]
        if self.device == "cuda":
            # Its work then queues behind torch's, as a model's of torch would.
            stream = torch.cuda.current_stream().cuda_stream
            provider = (provider, {"user_compute_stream": str(stream)})
        with told_about(str(self.file), "cannot be run by ONNX Runtime"):
            return onnxruntime.InferenceSession(self.file, options, providers=[provider])

    @torch.inference_mode()
    def forward(self, input_ids: torch.Tensor, **others: torch.Tensor) -> SequenceClassifierOutput:
        """Tensors are read and written where they lie, on either device."""
        import numpy as np

        session, given = self.session(), {"input_ids": input_ids, **others}
        names = [wanted.name for wanted in session.get_inputs()]
        if unknown := given.keys() - names:
            raise TypeError(f"the ONNX file was made for a tokenizer that gives no {', '.join(unknown)}")
        batch = {
            name: (given[name] if name in given else DEFAULTS[name](input_ids)).contiguous() for name in names
        }
        logits = torch.empty(len(input_ids), self.config.num_labels, device=self.device)
        binding = session.io_binding()
        for name, tensor in batch.items():
            binding.bind_input(name, self.device, 0, np.int64, tuple(tensor.shape), tensor.data_ptr())
        binding.bind_output("logits", self.device, 0, np.float32, tuple(logits.shape), logits.data_ptr())
        session.run_with_iobinding(binding)
        return SequenceClassifierOutput(logits=logits)
