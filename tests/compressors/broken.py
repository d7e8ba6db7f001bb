"""Compressors that each break one promise, or cannot be used at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers.models.bert.modeling_bert import BertLayer

from bench.errors import Refusal
from compressors import Compressor, Phase


@dataclass
class Broken(Compressor):
    """Trains nothing and changes nothing; what breaks it is added below."""

    name: ClassVar[str] = "broken"
    phase: ClassVar[Phase] = Phase.ARCHITECTURE
    summary: ClassVar[str] = "breaks a promise"
    trains: ClassVar[bool] = False


@dataclass
class ListSetting(Broken):
    name = "list_setting"
    layers: tuple[int, ...] = ()


@dataclass
class Texts(Broken):
    name = "texts"
    words: str = "a+b"
    others: str = ""


@dataclass
class ChangesSetting(Broken):
    name = "changes_setting"
    strength: float = 0.5

    def finish(self, model: Any, context: Any) -> Any:
        self.strength *= 2
        return model


@dataclass
class DefaultDtype(Broken):
    name = "default_dtype"

    def finish(self, model: Any, context: Any) -> Any:
        torch.set_default_dtype(torch.float64)
        return model


@dataclass
class NoGradients(Broken):
    name = "no_gradients"

    def runtime(self, model: Any, folder: Any, device: str) -> Any:
        torch.set_grad_enabled(False)
        return model


@dataclass
class PatchesClass(Broken):
    name = "patches_class"

    def finish(self, model: Any, context: Any) -> Any:
        forward = BertLayer.forward
        BertLayer.forward = lambda *args, **kwargs: 2 * forward(*args, **kwargs)
        return model


@dataclass
class WritesIntoDense(Broken):
    name = "writes_into_dense"

    def finish(self, model: Any, context: Any) -> Any:
        model.save_pretrained(model.name_or_path)
        with open(f"{model.name_or_path}/notes.txt", "w") as file:  # noqa: PTH123
            file.write("was here")
        return model


@dataclass
class RenamesClasses(Broken):
    name = "renames_classes"

    def finish(self, model: Any, context: Any) -> Any:
        model.config.id2label = {i: f"LABEL_{i}" for i in range(3)}
        return model


@dataclass
class OneSidedNames(Broken):
    name = "one_sided_names"

    def runtime(self, model: Any, folder: Any, device: str) -> Any:
        names = model.config.id2label
        model.config.id2label = {0: names[1], 1: names[0], 2: names[2]}
        return model


@dataclass
class NamesOfRuntime(Broken):
    name = "names_of_runtime"

    def runtime(self, model: Any, folder: Any, device: str) -> Any:
        names = model.config.id2label
        model.config.id2label = {0: names[1], 1: names[0], 2: names[2]}
        model.config.label2id = {names[1]: 0, names[0]: 1, names[2]: 2}
        return model


@dataclass
class ReordersNames(Broken):
    name = "reorders_names"

    def finish(self, model: Any, context: Any) -> Any:
        names = model.config.id2label
        model.config.id2label = {0: names[1], 1: names[2], 2: names[0]}
        return model


@dataclass
class LeavesTrainMode(Broken):
    name = "leaves_train_mode"

    def runtime(self, model: Any, folder: Any, device: str) -> Any:
        model.classifier.train()
        return model


@dataclass
class NotANumber(Broken):
    name = "not_a_number"

    def finish(self, model: Any, context: Any) -> Any:
        model.classifier.bias.data[1] = torch.nan
        return model


@dataclass
class Noisy(Broken):
    name = "noisy"

    def runtime(self, model: Any, folder: Any, device: str) -> Any:
        model.classifier.register_forward_hook(lambda _, __, logits: logits + torch.randn_like(logits))
        return model


@dataclass
class ElsewhereOnDevice(Broken):
    name = "elsewhere_on_device"

    def runtime(self, model: Any, folder: Any, device: str) -> Any:
        model.register_buffer("unused", torch.empty(1, device="meta"))
        return model


@dataclass
class MixedDtypes(Broken):
    name = "mixed_dtypes"

    def finish(self, model: Any, context: Any) -> Any:
        model.classifier.half()
        return model


@dataclass
class CastsInMemory(Broken):
    name = "casts_in_memory"

    def runtime(self, model: Any, folder: Any, device: str) -> Any:
        return model.bfloat16()


@dataclass
class IgnoresMask(Broken):
    name = "ignores_mask"

    def runtime(self, model: Any, folder: Any, device: str) -> Any:
        forward = model.forward
        model.forward = lambda input_ids, **_: forward(input_ids=input_ids)
        return model


@dataclass
class StateInClass(Broken):
    name = "state_in_class"
    factor: ClassVar[float] = 1.0

    def finish(self, model: Any, context: Any) -> Any:
        StateInClass.factor = 2.0
        return model

    def runtime(self, model: Any, folder: Any, device: str) -> Any:
        model.classifier.weight.data.mul_(StateInClass.factor)
        model.classifier.bias.data.mul_(StateInClass.factor)
        return model


@dataclass
class HookIsLost(Broken):
    name = "hook_is_lost"

    def finish(self, model: Any, context: Any) -> Any:
        model.classifier.register_forward_hook(lambda _, __, logits: 2 * logits)
        return model


@dataclass
class Unseeded(Broken):
    name = "unseeded"

    def finish(self, model: Any, context: Any) -> Any:
        generator = torch.Generator()
        generator.seed()
        noise = torch.randn(model.classifier.weight.shape, generator=generator)
        model.classifier.weight.data.add_(1e-7 * noise)
        return model


@dataclass
class Refuses(Broken):
    name = "refuses"

    def finish(self, model: Any, context: Any) -> Any:
        raise Refusal("refuses: not with a BERT")


@dataclass
class LacksPackage(Broken):
    name = "lacks_package"
    extra = "engines"
    packages = ("an_engine_that_is_nowhere",)


def class_in_function() -> type[Compressor]:
    """A compressor that the file does not define by itself."""

    @dataclass
    class InFunction(Broken):
        name = "in_function"

    return InFunction
