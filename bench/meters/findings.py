"""What a meter gives back."""

from __future__ import annotations

from pydantic import Field

from bench.nouns.measurement import Measurement
from bench.nouns.run import Document, LayerShape, Scenario


class Findings(Document):
    """Metrics that were measured, those that could not be and why, and what goes with them."""

    metrics: dict[str, Measurement] = Field(default_factory=dict)
    unavailable: dict[str, str] = Field(default_factory=dict)
    scenarios: dict[str, Scenario] = Field(default_factory=dict)
    layers: list[LayerShape] = Field(default_factory=list)
    training: list[dict[str, float]] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    def add(self, other: Findings) -> Findings:
        """These findings with those of `other` put in; a metric found twice is a bug."""
        assert not self.metrics.keys() & other.metrics.keys()
        self.metrics |= other.metrics
        self.unavailable |= other.unavailable
        self.scenarios |= other.scenarios
        self.layers += other.layers
        self.training += other.training
        self.notes += other.notes
        return self
