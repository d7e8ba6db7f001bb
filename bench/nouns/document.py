"""What every part of a run document has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """Base of everything in `run.json`: unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Series(Document):
    """Readings in one unit, one a round; None where a round has none."""

    unit: str
    values: list[float | None]
