"""What the modules of a classifier are for, by generic rules that hold for any family, and when each runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import nn
from transformers import PreTrainedModel

from bench.nouns.profile import ModuleKind
from compressors.engines import Captured, Compiled, Engine, OnnxModel

# By parts of a module's own name, the first that fits; what lies below it is of the same kind.
WORDS: dict[ModuleKind, tuple[str, ...]] = {
    "head": ("pooler", "classifier", "score"),
    "embeddings": ("embed",),
    "attention": ("attention", "attn"),
    "feed-forward": (
        *("intermediate", "output", "ff", "mlp", "feed_forward", "activation", "bottleneck"),
        *("fc", "dense"),  # BART's and OPT's fc1 and fc2, T5's DenseReluDense
    ),
}
ENGINES = {Compiled: "torch.compile", Captured: "a CUDA graph", OnnxModel: "ONNX Runtime"}
Enter = Callable[[str, ModuleKind], None]
Leave = Callable[[], None]


def eager_of(model: nn.Module) -> PreTrainedModel | None:
    """The model whose modules are run one by one, `model` itself or what an engine was made of, or None."""
    if isinstance(model, Compiled):
        model = model.model._orig_mod  # type: ignore[attr-defined]
    elif isinstance(model, Captured):
        model = model.model
    return None if isinstance(model, Engine) or not isinstance(model, PreTrainedModel) else model


def runner_of(model: nn.Module) -> str:
    """What runs a model otherwise than module by module, in words."""
    return ENGINES.get(type(model), type(model).__name__)


def module_kinds(model: PreTrainedModel) -> dict[str, ModuleKind]:
    """Each module's kind by its path; `other` are those that belong to none, encoder and layers themselves.

    Norms are told by their class, wherever they lie; what stands beside the base model is the head.
    """
    kinds: dict[str, ModuleKind] = {"": "other"}
    for path, module in model.named_modules():
        if not path:
            continue
        above, _, word = path.rpartition(".")
        if "norm" in type(module).__name__.lower() and not list(module.children()):
            kinds[path] = "norms"
        elif kinds[above] != "other":
            kinds[path] = kinds[above]
        elif not above and hasattr(model, model.base_model_prefix):
            kinds[path] = "other" if word == model.base_model_prefix else "head"
        else:
            kinds[path] = kind_of(word.lower(), module)
    return kinds


def kind_of(word: str, module: nn.Module) -> ModuleKind:
    """The kind of a module that lies in none, by what its parent calls it."""
    if isinstance(module, nn.Embedding):
        return "embeddings"
    return next((kind for kind, known in WORDS.items() if any(part in word for part in known)), "other")


@contextmanager
def watched(model: PreTrainedModel, enter: Enter, leave: Leave) -> Iterator[None]:
    """Meanwhile `enter(path, kind)` is called as a module of another kind than its parent's begins to run.

    `leave()` is called as it ends. Calls are nested as the modules are.
    """
    kinds = module_kinds(model)
    with ExitStack() as hooks:
        for path, module in model.named_modules():
            above, _, _ = path.rpartition(".")
            # A list of modules is never run itself, so that each of its modules begins anew.
            in_list = isinstance(model.get_submodule(above), nn.ModuleList)
            kind = kinds[path]
            if kind == "other" or (kind == kinds[above] and not in_list):
                continue
            begins = module.register_forward_pre_hook(
                lambda *_, path=path, kind=kind: enter(path, kind), prepend=True
            )
            ends = module.register_forward_hook(lambda *_: leave(), always_call=True)
            hooks.callback(begins.remove)
            hooks.callback(ends.remove)
        yield
