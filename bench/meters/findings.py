"""What a meter gives back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import Field

from bench.nouns.document import Document
from bench.nouns.environment import Caution
from bench.nouns.measurement import Measurement
from bench.nouns.profile import Profile
from bench.nouns.run import LayerShape, Scenario


class Findings(Document):
    """Metrics that were measured, those that could not be and why, and what goes with them.

    `spent` is wall time by activity, in seconds; `openmp_spin` see `Environment`, `loads_with` see `Result`.
    `made_on` is the key of the machine that the step was done on.
    """

    metrics: dict[str, Measurement] = Field(default_factory=dict)
    unavailable: dict[str, str] = Field(default_factory=dict)
    scenarios: dict[str, Scenario] = Field(default_factory=dict)
    layers: list[LayerShape] = Field(default_factory=list)
    training: list[dict[str, float]] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    cautions: list[Caution] = Field(default_factory=list)
    spent: dict[str, float] = Field(default_factory=dict)
    openmp_spin: float | None = None
    loads_with: str | None = None
    made_on: str | None = None
    profile: Profile | None = None

    @contextmanager
    def spending(self, activity: str) -> Iterator[None]:
        """Book the wall time meanwhile on an activity."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.spent[activity] = self.spent.get(activity, 0.0) + time.perf_counter() - started

    def add(self, other: Findings) -> Findings:
        """These findings with those of `other` put in; a metric found twice is a bug."""
        assert not self.metrics.keys() & other.metrics.keys()
        self.metrics |= other.metrics
        self.unavailable |= other.unavailable
        self.scenarios |= other.scenarios
        self.layers += other.layers
        self.training += other.training
        self.notes += other.notes
        self.cautions += other.cautions
        for activity, seconds in other.spent.items():
            self.spent[activity] = self.spent.get(activity, 0.0) + seconds
        self.openmp_spin = self.openmp_spin if other.openmp_spin is None else other.openmp_spin
        self.loads_with = self.loads_with or other.loads_with
        self.profile = self.profile or other.profile
        return self
