"""What every part of a run document has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A number of things. What takes more than 64 bits counts nothing, and overflows a float."""


class Document(BaseModel):
    """Base of everything in `run.json`: unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Series(Document):
    """Readings in one unit, one a round; None where a round has none."""

    unit: str
    values: list[float | None]
