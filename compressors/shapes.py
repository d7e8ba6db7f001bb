"""What an encoder is made of: its layers, their shapes, and how many weights they hold."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from bench.errors import Refusal
from compressors.pruned import PRUNABLE, PRUNED, Anatomy
from compressors.quantised import is_quantised

UNFIT = {"mobilebert": ", whose layers hold several feed-forward networks between bottlenecks"}


def anatomy_of(model: PreTrainedModel) -> Anatomy | None:
    """Where the model's family keeps its matrices; None for a family that cannot be pruned."""
    family = (PRUNABLE | PRUNED).get(model.config.model_type)
    return family.anatomy if family else None


def layer_shapes(model: PreTrainedModel) -> list[tuple[int, int]]:
    """(heads, feed-forward width) of each layer that has weights of its own; empty for another family."""
    anatomy = anatomy_of(model)
    return [anatomy.shape(layer) for layer in anatomy.layers(model).values()] if anatomy else []


def encoder_weights(model: PreTrainedModel) -> int | None:
    """Number of weights (no biases) in the encoder's Q, K, V, O and feed-forward matrices, or None.

    Where layers share their weights these are counted once.
    """
    anatomy = anatomy_of(model)
    if anatomy is None:
        return None
    matrices = (part for layer in anatomy.layers(model).values() for part in layer.modules())
    return sum(matrix.weight.numel() for matrix in matrices if isinstance(matrix, nn.Linear))


def ffn_weights(model: PreTrainedModel) -> int:
    """Number of weights (no biases) in a prunable encoder's feed-forward matrices."""
    anatomy = anatomy_of(model)
    assert anatomy is not None
    return sum(
        layer.get_submodule(name).weight.numel()
        for layer in anatomy.layers(model).values()
        for name in (anatomy.ffn_in, anatomy.ffn_out)
    )


def refuse_unprunable(technique: str, model: PreTrainedModel, multiple: int) -> None:
    """Raise `Refusal` for a family that cannot be pruned, quantised weights, or too narrow layers.

    These are layers of fewer neurons than `multiple`.
    """
    family = model.config.model_type
    if family not in PRUNABLE:
        reason, known = UNFIT.get(family, ""), ", ".join(sorted(PRUNABLE))
        raise Refusal(f"{technique} cannot prune a {family} model{reason}; families it can: {known}")
    if is_quantised(model):
        raise Refusal(f"{technique} cannot prune quantised weights; name the model they were made from")
    width = min(width for _, width in layer_shapes(model))
    if multiple > width:
        raise Refusal(f"{technique}: multiple={multiple} is more than the {width} neurons of a layer")


def shares_layers(model: PreTrainedModel) -> bool:
    """Whether one layer is run again and again, as in ALBERT. Raises `Refusal` where several are."""
    groups = getattr(model.config, "num_hidden_groups", None)
    if groups is None:
        return False
    if groups * model.config.inner_group_num != 1:
        raise Refusal(f"a {model.config.model_type} model of several shared layers cannot be made shallower")
    return True


def layer_stack(model: PreTrainedModel) -> tuple[nn.Module, str]:
    """The module and attribute that hold the model's list of layers, whatever its family calls them.

    Raises `Refusal` where there is no such list, or several that belong together.
    """
    depth = model.config.num_hidden_layers
    for owner in model.base_model.modules():
        lists = [
            attribute
            for attribute, child in owner.named_children()
            if isinstance(child, nn.ModuleList) and len(child) == depth
        ]
        if len(lists) == 1:
            return owner, lists[0]
    raise Refusal(f"a {model.config.model_type} model has no one list of {depth} layers to take some of")
