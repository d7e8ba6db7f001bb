"""Block movement pruning: heads and feed-forward neurons leave while the model is fine-tuned.

Sources: Sanh, Wolf and Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", NeurIPS 2020, for
the scores and the cubic schedule; Lagunas, Charlaix, Sanh and Rush, "Block Pruning For Faster
Transformers", EMNLP 2021, for blocks and for keeping only what can be removed as a whole ("hybrid filled").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import InputError, Refusal
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from compressors.masking import MaskedLayer

FFN_SHARE = 2 / 3
WARM_UP_END = 0.1
RAMP_END = 0.6
UNFIT = {"mobilebert": ", whose layers hold several feed-forward networks between bottlenecks"}


@dataclass
class BlockMovementPruning(Compressor):
    """Removes the share `amount` of the encoder's Q, K, V, O and feed-forward weights.

    `uniform` takes neurons only, the same number in every layer, so that stock transformers reloads it.
    `multiple` is what feed-forward widths are rounded to; `score_lr` the learning rate of the scores.
    """

    name: ClassVar[str] = "bmp"
    phase: ClassVar[Phase] = Phase.MASKS
    summary: ClassVar[str] = "block movement pruning: heads and neurons leave during fine-tuning"
    number: ClassVar[str | None] = "amount"

    amount: float = 0.25
    block: int = 32
    uniform: bool = False
    multiple: int = 8
    score_lr: float = 1e-2
    regularization: float = 1.0

    def validate(self, device: str) -> None:
        if not 0 < self.amount < 1:
            raise InputError(
                f"bmp: amount={self.amount:g} must lie between 0 and 1, as in bmp25 or bmp:amount=0.4"
            )
        if self.block < 1 or self.multiple < 1:
            raise InputError(f"bmp: block={self.block} and multiple={self.multiple} must be at least 1")
        if self.score_lr <= 0 or self.regularization < 0:
            raise InputError(
                f"bmp: score_lr={self.score_lr:g} must be above 0 "
                f"and regularization={self.regularization:g} not below"
            )
        if self.uniform and self.amount > FFN_SHARE:
            raise InputError(
                f"bmp: uniform=true removes feed-forward weights only, about {FFN_SHARE:.0%} of the encoder; "
                f"amount={self.amount:g} is more: lower it or drop uniform"
            )

    @property
    def removes(self) -> float:
        return self.amount

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.masking import mask_encoder
        from compressors.pruned import PRUNABLE
        from compressors.shapes import encoder_weights, ffn_weights, layer_shapes

        family = model.config.model_type
        if family not in PRUNABLE:
            reason, known = UNFIT.get(family, ""), ", ".join(sorted(PRUNABLE))
            raise Refusal(f"bmp cannot prune a {family} model{reason}; families it can: {known}")
        weights = encoder_weights(model)
        assert weights is not None
        if self.uniform and self.amount * weights > ffn_weights(model):
            most = ffn_weights(model) / weights
            raise Refusal(f"bmp: uniform=true can remove {most:.0%} of this encoder, not {self.amount:.0%}")
        width = min(width for _, width in layer_shapes(model))
        if self.multiple > width:
            raise Refusal(f"bmp: multiple={self.multiple} is more than the {width} neurons of a layer")
        self._budget = round((1 - self.amount) * weights)
        self._layers: list[MaskedLayer] = mask_encoder(model, self.block, with_heads=not self.uniform)
        self._frozen = False
        return model

    def parameter_groups(self, model: PreTrainedModel) -> list[dict[str, Any]]:
        scores = [score for layer in self._layers for score in layer.scores()]
        return [{"params": scores, "lr": self.score_lr, "weight_decay": 0.0}]

    def on_step(self, step: int, context: Context) -> None:
        from compressors.masking import apply_threshold

        progress = step / max(1, context.total_steps)
        if progress >= RAMP_END:
            self._freeze()
        elif progress >= WARM_UP_END:
            ramp = (progress - WARM_UP_END) / (RAMP_END - WARM_UP_END)
            apply_threshold(self._layers, removed=self.amount * (1 - (1 - ramp) ** 3))

    def loss(
        self, model: PreTrainedModel, batch: dict[str, torch.Tensor], outputs: Any, context: Context
    ) -> torch.Tensor | None:
        import torch

        if self._frozen:
            return None
        alive = torch.cat([score.flatten() for layer in self._layers for score in layer.scores()])
        return self.regularization * self.amount * torch.sigmoid(alive).mean()

    def _freeze(self) -> None:
        """Decide which heads and neurons stay, once; from here on only their weights are trained."""
        if not self._frozen:
            from compressors.masking import choose_uniform, choose_units

            choose = choose_uniform if self.uniform else choose_units
            self._chosen = choose(self._layers, self._budget, self.multiple)
            self._frozen = True

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.masking import shrink

        self._freeze()
        context.notes.append(
            f"bmp: {self.amount:.2%} asked, {self._chosen:.2%} removed before feed-forward widths were "
            f"rounded to multiples of {self.multiple}"
        )
        return shrink(model, self._layers, stock=self.uniform)
