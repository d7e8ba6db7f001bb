"""Layer dropping: some encoder layers leave before fine-tuning, and there is no teacher.

Source: Sajjad, Dalvi, Durrani and Nakov, "On the Effect of Dropping Layers of Pre-trained Transformer
Models", Computer Speech & Language 77, 2023. Also how distillation takes a student's layers.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.errors import InputError, Refusal
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYER_COUNT = re.compile(r"[1-9][0-9]{0,3}")
DROPS = ("top", "middle", "bottom", "evenly")


@dataclass
class LayerDropping(Compressor):
    """Keeps `keep` of the encoder's layers, a number or `half`; `drop` says where the others leave.

    Dropping at the top lost least over the paper's models and tasks. `middle` keeps both ends, `evenly` the
    layers that a distilled student takes.
    """

    name: ClassVar[str] = "layers"
    phase: ClassVar[Phase] = Phase.ARCHITECTURE
    summary: ClassVar[str] = "encoder layers leave, half unless set, and the rest is fine-tuned"
    argument: ClassVar[str | None] = "keep"

    keep: str = "half"
    drop: str = "top"

    def validate(self, device: str) -> None:
        if self.keep != "half" and not LAYER_COUNT.fullmatch(self.keep):
            raise InputError(f"layers: keep={self.keep} is not a number above 0 or half")
        if self.drop not in DROPS:
            raise InputError(f"layers: drop={self.drop} is none of {', '.join(DROPS)}")

    def refuses(self, other: Compressor) -> str | None:
        return "kd takes its student's layers itself: write kd:layers=N" if other.name == "kd" else None

    def layers_left(self, depth: int) -> int:
        return min(depth, layer_count(self.keep, depth))

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.shapes import shares_layers

        depth = model.config.num_hidden_layers
        count = layer_count(self.keep, depth)
        if count >= depth:
            raise Refusal(f"layers: keep={self.keep} drops none of the {depth} layers of dense")
        if shares_layers(model):
            context.notes.append(f"layers: the model's one layer is run {count} times instead of {depth}")
        return with_layers(model, kept_layers(self.drop, count, depth))


def layer_count(wanted: str, depth: int) -> int:
    """How many layers `half`, `all` or a number asks of `depth`; it may be more than there are."""
    return {"half": max(1, depth // 2), "all": depth}.get(wanted) or int(wanted)


def kept_layers(drop: str, count: int, depth: int) -> list[int]:
    """Which `count` of `depth` layers stay where the others are dropped as one of `DROPS` says."""
    upper = {"top": 0, "middle": count // 2, "bottom": count}
    if drop in upper:
        return [*range(count - upper[drop]), *range(depth - upper[drop], depth)]
    return evenly_spaced(count, depth)


def evenly_spaced(count: int, depth: int) -> list[int]:
    """`count` of `depth` layers at even distances, the last among them."""
    return [(i + 1) * depth // count - 1 for i in range(count)]


def with_layers(model: PreTrainedModel, taken: Sequence[int]) -> PreTrainedModel:
    """A copy of `model` with these of its encoder layers.

    Where one layer is run again and again (ALBERT), the copy runs it fewer times.
    """
    from compressors.shapes import shares_layers

    shallower = copy.deepcopy(model)
    if not shares_layers(shallower):
        keep_layers(shallower, taken)
    shallower.config.num_hidden_layers = len(taken)
    return shallower


def keep_layers(model: PreTrainedModel, taken: Sequence[int]) -> None:
    """Leave of the model's list of layers, and of their shapes in its configuration, those `taken`."""
    from torch import nn

    from compressors.shapes import layer_stack

    owner, attribute = layer_stack(model)
    stack = getattr(owner, attribute)
    setattr(owner, attribute, nn.ModuleList(stack[i] for i in taken))
    for shapes in ("layer_heads", "layer_ffn_widths"):
        if hasattr(model.config, shapes):
            setattr(model.config, shapes, [getattr(model.config, shapes)[i] for i in taken])
