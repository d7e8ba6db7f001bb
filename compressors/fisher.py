"""Retraining-free pruning: heads and neurons leave a trained model by the Fisher information of their masks.

Source: Kwon, Kim, Mahoney, Hassoun, Keutzer and Gholami, "A Fast Post-Training Pruning Framework for
Transformers", NeurIPS 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.errors import InputError, Refusal
from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel

    from compressors.fisher_masks import SubLayer

    Batch = dict[str, torch.Tensor]

TUNING_TOKENS = 8_192


@dataclass
class FisherPruning(Compressor):
    """Prunes the trained model in seconds to minutes, and trains nothing.

    `amount` is the share of the encoder's Q, K, V, O and feed-forward weights that leaves, which is also the
    share of these matrices' FLOPs, as in block movement pruning. `speedup` takes its place: by a table of
    sub-layer times measured on this device, the most important of what makes the model, as it is handed to
    this technique, that many times faster. Such a choice depends on the machine and may differ between runs.
    `samples` training rows tell what is important; feed-forward widths are `multiple`s.
    """

    name: ClassVar[str] = "fisher"
    phase: ClassVar[Phase] = Phase.MASKS
    summary: ClassVar[str] = "retraining-free pruning: what the Fisher information finds least needed leaves"
    number: ClassVar[str | None] = "amount"
    trains: ClassVar[bool] = False

    amount: float = 0.0
    speedup: float = 0.0
    samples: int = 2048
    multiple: int = 8

    def validate(self, device: str) -> None:
        if self.speedup and self.amount:
            raise InputError("fisher: give an amount or speedup, not both: either says how much leaves")
        if self.speedup and self.speedup <= 1:
            raise InputError(f"fisher: speedup={self.speedup:g} must be above 1, as in fisher:speedup=2")
        if not self.speedup and not 0 < self.amount < 1:
            raise InputError(
                f"fisher: amount={self.amount:g} must lie between 0 and 1, as in fisher50; "
                "or give the speed-up wanted, as in fisher:speedup=2"
            )
        if self.samples < 1 or self.multiple < 1:
            raise InputError(
                f"fisher: samples={self.samples} and multiple={self.multiple} must be at least 1"
            )

    @property
    def removes(self) -> float:
        return self.amount

    @property
    def measures_device(self) -> bool:
        return self.speedup > 0

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        from compressors.shapes import refuse_unprunable

        refuse_unprunable(self.name, model, self.multiple)
        if not context.examples:
            raise Refusal("fisher: no training rows say what is needed least; name some with --train")
        return model

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        import torch

        from compressors.fisher_masks import mask_gradients, most_important, rearranged, sub_layers

        model = model.to(context.device).eval()
        layers = sub_layers(model)
        batches = list(context.batches(model, context.tokenizer, self.samples))
        gradients = mask_gradients(model, layers, batches)
        importance = [rows.square().sum(0).double().cpu().numpy() for rows in gradients]
        rows = len(gradients[0])
        context.notes.append(f"fisher: the information of {rows:,} training rows decided what stays")
        if self.speedup:
            counts = self._fit_time(model, layers, importance, batches, context)
        else:
            counts = self._fit_weights(model, layers, importance, context)
        kept = [
            torch.from_numpy(rearranged(own, most_important(units, count))).to(model.device)
            for own, units, count in zip(gradients, importance, counts, strict=True)
        ]
        self._rescale(model, layers, kept, batches, context)
        return remove(model, layers, kept)

    def _fit_weights(
        self,
        model: PreTrainedModel,
        layers: list[SubLayer],
        importance: list[np.ndarray],
        context: Context,
    ) -> list[int]:
        """Units that stay in each sub-layer within the budget of weights."""
        from compressors.fisher_masks import search_weights
        from compressors.shapes import encoder_weights

        weights = encoder_weights(model)
        assert weights is not None
        budget = round((1 - self.amount) * weights)
        counts = search_weights(layers, importance, self.multiple, budget)
        left = sum(count * layer.cost for count, layer in zip(counts, layers, strict=True))
        context.notes.append(
            f"fisher: {self.amount:.2%} asked, {1 - left / weights:.2%} removed, feed-forward widths being "
            f"multiples of {self.multiple}"
        )
        return counts

    def _fit_time(
        self,
        model: PreTrainedModel,
        layers: list[SubLayer],
        importance: list[np.ndarray],
        batches: list[Batch],
        context: Context,
    ) -> list[int]:
        """Units that stay in each sub-layer within the time that the wanted speed-up leaves."""
        from compressors.fisher_masks import search_time
        from compressors.latency import measure_latency, usual_batch
        from compressors.shapes import layer_shapes

        batch = usual_batch(batches)
        table = measure_latency(model, batch, self.multiple)
        dense_s = table.model_s(layer_shapes(model))
        if dense_s <= self.speedup * table.rest_s:
            raise Refusal(
                f"fisher: speedup={self.speedup:g} cannot be reached on this device: the model without any "
                f"heads and neurons is {dense_s / table.rest_s:.2f} times as fast"
            )
        widths = [layer.widths(self.multiple) for layer in layers]
        times_s = [
            table.attention_s(counts) if layer.is_attention else table.ffn_s(counts)
            for layer, counts in zip(layers, widths, strict=True)
        ]
        counts = search_time(importance, widths, times_s, dense_s / self.speedup - table.rest_s)
        predicted_s = table.model_s(list(zip(counts[::2], counts[1::2], strict=True)))
        rows, tokens = batch["input_ids"].shape
        context.notes.append(
            f"fisher: {self.speedup:g} times the speed asked, {dense_s / predicted_s:.2f} times predicted by "
            f"times measured here on {rows} x {tokens} tokens"
        )
        return counts

    def _rescale(
        self,
        model: PreTrainedModel,
        layers: list[SubLayer],
        kept: list[torch.Tensor],
        batches: list[Batch],
        context: Context,
    ) -> None:
        """Scale what stays so that each sub-layer gives what it gave before, where it is run only once."""
        import torch

        from compressors.rescale import joined, mask_values, runs_layers_again

        if runs_layers_again(model):
            context.notes.append("fisher: what stays is not rescaled where layers share their weights")
            return
        longest = max(batch["input_ids"].shape[1] for batch in batches)
        count = min(self.samples, max(1, TUNING_TOKENS // longest))
        batch = joined(context.batches(model, context.tokenizer, count), context.tokenizer.pad_token_id)
        values = mask_values(model, layers, kept, batch)
        with torch.no_grad():
            for layer, own in zip(layers, values, strict=True):
                layer.last.weight *= own.repeat_interleave(layer.size)
        context.notes.append(
            f"fisher: what stays is rescaled by least squares on {len(batch['labels']):,} rows"
        )


def remove(model: PreTrainedModel, layers: list[SubLayer], kept: list[torch.Tensor]) -> PreTrainedModel:
    """The model without what is not kept; no logit changes from what masks of 0 would give."""
    from compressors.masking import mask_encoder, shrink

    masked = mask_encoder(model, model.config.hidden_size, with_heads=True)
    for layer, heads, neurons in zip(masked, kept[::2], kept[1::2], strict=True):
        layer.fix(heads, neurons)
    return shrink(model, masked, stock=False)
