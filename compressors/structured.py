"""Pruning of heads and neurons during fine-tuning: all but the scores, which each technique has of its own.

Sources: Zhu and Gupta, "To Prune, or Not to Prune: Exploring the Efficacy of Pruning for Model
Compression", 2017, for the cubic ramp; Lagunas, Charlaix, Sanh and Rush, "Block Pruning For Faster
Transformers", EMNLP 2021, for blocks and for keeping only what can be removed as a whole ("hybrid filled").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.errors import InputError, Refusal
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from compressors.masking import MaskedLayer

FFN_SHARE = 2 / 3
WARM_UP_END = 0.1
RAMP_END = 0.6


@dataclass
class StructuredPruning(Compressor):
    """Removes the share `amount` of the encoder's Q, K, V, O and feed-forward weights.

    While the model is fine-tuned, the lowest-scored blocks and neurons are masked, more and more of them;
    then the heads and neurons that stay are chosen once, and only these are trained on. `uniform` takes
    neurons only, the same number in every layer, so that stock transformers reloads it. `multiple` is what
    feed-forward widths are rounded to. A technique says in `score` what the scores are, or lets them learn.
    """

    phase: ClassVar[Phase] = Phase.MASKS
    number: ClassVar[str | None] = "amount"
    learns_scores: ClassVar[bool] = False

    amount: float = 0.25
    block: int = 32
    uniform: bool = False
    multiple: int = 8

    def validate(self, device: str) -> None:
        if not 0 < self.amount < 1:
            raise InputError(
                f"{self.name}: amount={self.amount:g} must lie between 0 and 1, "
                f"as in {self.name}25 or {self.name}:amount=0.4"
            )
        if self.block < 1 or self.multiple < 1:
            raise InputError(
                f"{self.name}: block={self.block} and multiple={self.multiple} must be at least 1"
            )
        if self.uniform and self.amount > FFN_SHARE:
            raise InputError(
                f"{self.name}: uniform=true removes feed-forward weights only, about {FFN_SHARE:.0%} of the "
                f"encoder; amount={self.amount:g} is more: lower it or drop uniform"
            )

    @property
    def removes(self) -> float:
        return self.amount

    def score(self) -> None:
        """Bring the scores of `_layers` up to date, before each decision what is masked.

        A block's or neuron's score is per weight, so that all of them compare.
        """

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.masking import mask_encoder
        from compressors.shapes import encoder_weights, ffn_weights, refuse_unprunable

        refuse_unprunable(self.name, model, self.multiple)
        weights = encoder_weights(model)
        assert weights is not None
        if self.uniform and self.amount * weights > ffn_weights(model):
            most = ffn_weights(model) / weights
            raise Refusal(
                f"{self.name}: uniform=true can remove {most:.0%} of this encoder, not {self.amount:.0%}"
            )
        self._budget = round((1 - self.amount) * weights)
        self._layers: list[MaskedLayer] = mask_encoder(model, self.block, with_heads=not self.uniform)
        for layer in self._layers:
            for scores in layer.scores():
                scores.requires_grad_(self.learns_scores)
        self._frozen = False
        return model

    def on_step(self, step: int, context: Context) -> None:
        from compressors.masking import apply_threshold

        progress = step / max(1, context.total_steps)
        if progress >= RAMP_END:
            self._freeze()
        elif progress >= WARM_UP_END:
            ramp = (progress - WARM_UP_END) / (RAMP_END - WARM_UP_END)
            self.score()
            apply_threshold(self._layers, removed=self.amount * (1 - (1 - ramp) ** 3))

    def _freeze(self) -> None:
        """Decide which heads and neurons stay, once; from here on only their weights are trained."""
        if not self._frozen:
            self.score()
            self._choose()

    def _choose(self) -> None:
        """Fix the masks by the scores as they are."""
        from compressors.masking import choose_uniform, choose_units

        choose = choose_uniform if self.uniform else choose_units
        self._chosen = choose(self._layers, self._budget, self.multiple)
        self._frozen = True

    def training_state(self) -> dict[str, torch.Tensor]:
        import torch

        return {"frozen": torch.tensor(self._frozen)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        # Scores are weights of the model, and stand still from the choice on: so they give the same again.
        if state["frozen"]:
            self._choose()

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.masking import shrink

        self._freeze()
        context.notes.append(
            f"{self.name}: {self.amount:.2%} asked, {self._chosen:.2%} removed before feed-forward widths "
            f"were rounded to multiples of {self.multiple}"
        )
        return shrink(model, self._layers, stock=self.uniform)
