"""What is counted rather than timed: parameters, file size, FLOPs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.meters.findings import Findings
from bench.meters.subject import Subject
from bench.nouns.measurement import measured
from bench.nouns.run import LayerShape
from compressors.pruned import PRUNED
from compressors.shapes import encoder_weights, layer_shapes


def measure_size(dense: Subject, variant: Subject) -> Findings:
    """Parameters, encoder weights and their reduction over dense, size on disk, FLOPs a sample, classes."""
    findings = Findings(
        layers=[LayerShape(heads=heads, ffn_width=width) for heads, width in layer_shapes(variant.model)],
        loads_with="pruned.py" if variant.model.config.model_type in PRUNED else "transformers",
    )
    parameters = sum(p.numel() for p in variant.model.parameters())
    findings.metrics["parameters"] = measured("parameters", parameters, "count")
    findings.metrics["disk_size"] = measured("disk_size", weights_size(variant.folder), "file size")
    own, full = encoder_weights(variant.model), encoder_weights(dense.model)
    unknown = (variant if own is None else dense).model.config.model_type
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
    flops = flops_of(variant, length)
    findings.metrics["flops_per_sample"] = measured(
        "flops_per_sample", flops, f"torch's FLOP counter at {length} tokens"
    )
    return findings


def weights_size(folder: Path) -> int:
    """Bytes of the artifact's weights."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def flops_of(subject: Subject, length: int) -> int:
    """2 x multiply-adds of one row of `length` tokens; attention counted as its two matrix products."""
    row = {key: [value[0]] * length for key, value in subject.rows[0].items()}
    batch = subject.batches(1, [row])[0]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        subject.model(**batch)
    return int(counter.get_total_flops())
