"""One file per compression technique, the contract they keep, and their composition into variants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressors.contract import Compressor, Context, Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Compressor", "Context", "Phase", "load"]


def load(path: str | Path, device: str = "cpu") -> PreTrainedModel:
    """The artifact at `path` as a callable module with its runtime applied; see `compressors.artifact`."""
    from compressors import artifact

    return artifact.load(path, device)
