"""What is counted rather than timed: parameters, file size, FLOPs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from bench.meters.findings import Findings
from bench.meters.subject import Subject
from bench.nouns.measurement import measured
from bench.nouns.run import LayerShape
from compressors.artifact import engine_file, made_by, skeleton
from compressors.pruned import PRUNED
from compressors.shapes import encoder_weights, layer_shapes


def measure_size(dense: Subject, variant: Subject) -> Findings:
    """Parameters, encoder weights and their reduction over dense, size on disk, FLOPs a sample, classes.

    All but the size on disk are counted on models without weights, so what runs them makes no difference.
    """
    model, full_model = skeleton(variant.folder), skeleton(dense.folder)
    findings = Findings(
        layers=[LayerShape(heads=heads, ffn_width=width) for heads, width in layer_shapes(model)],
        loads_with="pruned.py" if model.config.model_type in PRUNED else "transformers",
    )
    parameters = sum(p.numel() for p in model.parameters())
    findings.metrics["parameters"] = measured("parameters", parameters, "count")
    findings.metrics["disk_size"] = measured("disk_size", weights_size(variant.folder), "file size")
    own, full = encoder_weights(model), encoder_weights(full_model)
    unknown = (model if own is None else full_model).config.model_type
    reason = f"the encoder of a {unknown} model is not known"
    if own is None:
        findings.unavailable["encoder_parameters"] = reason
    else:
        findings.metrics["encoder_parameters"] = measured("encoder_parameters", own, "count")
    if own is None or full is None:
        findings.unavailable["encoder_reduction"] = reason
    else:
        findings.metrics["encoder_reduction"] = measured("encoder_reduction", 1 - own / full, "count")
    length = round(sum(len(row["input_ids"]) for row in variant.rows) / len(variant.rows))
    source = f"torch's FLOP counter at {length} tokens"
    findings.metrics["flops_per_sample"] = measured("flops_per_sample", flops_of(model, length), source)
    return findings


def weights_size(folder: Path) -> int:
    """Bytes of the artifact's weights: those that are read to run it, an engine's where it has one."""
    engine = engine_file(made_by(folder))
    files = folder.glob(f"{engine}*" if engine else "*.safetensors")
    return sum(file.stat().st_size for file in files)


def flops_of(skeleton: PreTrainedModel, length: int) -> int:
    """2 x multiply-adds of one row of `length` tokens; attention counted as its two matrix products."""
    with torch.device("meta"):
        tokens = torch.zeros(1, length, dtype=torch.long)
        # A mask of tokens would be looked into, and on the meta device there is nothing in it.
        mask = torch.zeros(1, 1, length, length, dtype=skeleton.dtype)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        skeleton(input_ids=tokens, attention_mask=mask)
    return int(counter.get_total_flops())
