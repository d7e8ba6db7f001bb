"""What a comparison concluded, and why."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

AccuracyWord = Literal["kept", "lost", "inconclusive", "underpowered"]


class AccuracyVerdict(BaseModel):
    """Whether a variant keeps the accuracy of dense on the same rows, by non-inferiority.

    `difference` is variant minus dense, a share (0.01 is one point), `low` and `high` its one-sided
    95 % bounds; `margin` the loss that counts as kept; `p_value` that of a loss of `margin` or more;
    `rows_needed` is given where the rows were too few to tell even for an unchanged variant.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    word: AccuracyWord
    difference: float
    low: float
    high: float
    margin: float
    p_value: float
    rows: int
    rows_needed: int | None = None
    reason: str
