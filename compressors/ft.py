"""Fine-tuning alone: the control that tells what further training gives without any compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compressors.contract import Compressor, Phase


@dataclass
class FineTune(Compressor):
    """The variants' training schedule, with nothing compressed."""

    name: ClassVar[str] = "ft"
    phase: ClassVar[Phase] = Phase.ARCHITECTURE
    summary: ClassVar[str] = "the variants' training with nothing compressed: the accuracy control"

    def refuses(self, other: Compressor) -> str | None:
        return f"{other.name} is trained anyway, so ft adds nothing to it" if other.trains else None
