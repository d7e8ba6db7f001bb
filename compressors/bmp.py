"""Block movement pruning: scores learn which weights grow with training, and which move towards 0.

Sources: Sanh, Wolf and Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", NeurIPS 2020, for the
scores; Lagunas, Charlaix, Sanh and Rush, "Block Pruning For Faster Transformers", EMNLP 2021, for one score
a block and for the penalty on scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import InputError
from compressors.contract import Context
from compressors.structured import StructuredPruning

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass
class BlockMovementPruning(StructuredPruning):
    """Structured pruning by scores that learn with the weights, at the rate `score_lr`.

    `regularization` is the weight of the penalty on high scores.
    """

    name: ClassVar[str] = "bmp"
    summary: ClassVar[str] = "block movement pruning: heads and neurons leave during fine-tuning"
    learns_scores: ClassVar[bool] = True

    score_lr: float = 1e-2
    regularization: float = 1.0

    def validate(self, device: str) -> None:
        super().validate(device)
        if self.score_lr <= 0 or self.regularization < 0:
            raise InputError(
                f"bmp: score_lr={self.score_lr:g} must be above 0 "
                f"and regularization={self.regularization:g} not below"
            )

    def parameter_groups(self, model: PreTrainedModel) -> list[dict[str, Any]]:
        scores = [score for layer in self._layers for score in layer.scores()]
        return [{"params": scores, "lr": self.score_lr, "weight_decay": 0.0}]

    def loss(
        self, model: PreTrainedModel, batch: dict[str, torch.Tensor], outputs: Any, context: Context
    ) -> torch.Tensor | None:
        import torch

        if self._frozen:
            return None
        alive = torch.cat([score.flatten() for layer in self._layers for score in layer.scores()])
        return self.regularization * self.amount * torch.sigmoid(alive).mean()
