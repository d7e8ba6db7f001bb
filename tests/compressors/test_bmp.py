"""Movement: scores learn from what a block or neuron does for the loss, and pay for staying."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils import parametrize
from transformers import PreTrainedTokenizerBase

from compressors.masking import apply_threshold
from tests.compressors.pruning import pruning
from tests.compressors.tiny import padded_batch, tiny


def test_scores_of_neurons_get_the_sum_over_row_and_column(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(layers=1).double())
    pruned.draw_scores(13)
    apply_threshold(pruned.layers, 0.3)
    used: list[torch.Tensor] = []
    for matrix in pruned.layers[0].matrices[-2:]:
        matrix.register_forward_pre_hook(lambda module, _: used.append(module.weight))
    rows, columns = (weight.clone() for weight in pruned.layers[0].weights()[-2:])
    scores = pruned.layers[0].neurons.scores
    with parametrize.cached():
        loss = pruned.model(**padded_batch(), labels=torch.tensor([0, 1, 2, 0, 1])).loss
        grads = torch.autograd.grad(loss, [*used, scores])
    expected = (grads[0] * rows).sum(1) + (grads[1] * columns).sum(0)
    torch.testing.assert_close(grads[2], expected)


def test_scores_learn_at_a_rate_of_their_own_and_pay_for_staying(tokenizer: PreTrainedTokenizerBase) -> None:
    pruned = pruning(tokenizer, tiny(), amount=0.5, score_lr=0.02, regularization=3.0)
    (group,) = pruned.part.parameter_groups(pruned.model)
    assert group["lr"] == 0.02
    assert group["weight_decay"] == 0.0
    scores = [score for layer in pruned.layers for score in layer.scores()]
    assert {id(score) for score in group["params"]} == {id(score) for score in scores}
    cost = pruned.part.loss(pruned.model, {}, None, pruned.context)
    assert cost is not None
    assert cost.item() == pytest.approx(3.0 * 0.5 * 0.5)
    cost.backward()
    assert all(score.grad is not None and score.grad.gt(0).all() for score in scores)
    pruned.freeze()
    assert pruned.part.loss(pruned.model, {}, None, pruned.context) is None
