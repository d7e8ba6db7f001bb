"""The run document `run.json`: the product's one record, read by every report and comparison."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from bench.nouns.measurement import Measurement
from bench.nouns.task import TaskSummary
from bench.nouns.verdict import AccuracyVerdict

DENSE = "dense"
SPEED_MARGIN = 0.02

RunStatus = Literal["running", "complete", "interrupted"]
ResultStatus = Literal["ok", "failed", "skipped"]
Keep = Literal["all", "best", "none"]
Budget = Literal["quick", "standard", "thorough"]


class Document(BaseModel):
    """Base of everything in `run.json`: unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Device(Document):
    """One accelerator as NVML names it. `memory` in bytes."""

    name: str
    uuid: str | None = None
    driver: str | None = None
    memory: int | None = None


class Environment(Document):
    """Where the run happened. `machine_key` hashes the hardware part alone."""

    machine_key: str
    platform: str
    cpu_model: str
    cpu_cores: int
    cpu_features: list[str]
    virtualised: bool
    memory: int
    devices: list[Device]
    versions: dict[str, str]
    threads: int
    variables: dict[str, str]
    fp32_precision: str
    commit: str | None
    warnings: list[str]

    @property
    def measuring_key(self) -> str:
        """A hash of everything here that timings depend on besides software: machine, devices, settings."""
        parts = [self.machine_key, self.threads, self.variables, [d.model_dump() for d in self.devices]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


class Config(Document):
    """What was asked for, defaults filled in: enough to ask for the same again.

    `learning_rate` and `epochs` hold for the variants; `dense_epochs` for the dense model, 0 where it
    is used as it came. `carbon_intensity` in g/kWh, for `country` (ISO 3166 alpha-3).
    """

    command: str
    variants: list[str]
    device: str
    budget: Budget
    seeds: list[int]
    epochs: float
    dense_epochs: float
    learning_rate: float
    dense_learning_rate: float
    batch_size: int
    max_length: int
    country: str
    carbon_intensity: float
    carbon_source: str
    pue: float
    accuracy_margin: float
    keep: Keep


class LayerShape(Document):
    """What one encoder layer still holds."""

    heads: int
    ffn_width: int


class Scenario(Document):
    """One way of feeding the model, measured in paired rounds with the anchor.

    `metrics` holds quantities of this scenario alone (`throughput`, `tokens_per_second`, `speedup`,
    `padding_share`, …); `stopped` is why measuring ended.
    """

    batch_size: int
    padding: str
    rounds: int = 0
    converged: bool | None = None
    stopped: str = ""
    metrics: dict[str, Measurement]


class Result(Document):
    """One variant at one seed. `unavailable` maps a metric that could not be had to the reason.

    `artifact` is relative to the run folder. `cached` names the steps taken over from an earlier run.
    """

    variant: str
    seed: int
    status: ResultStatus
    reason: str | None = None
    artifact: str | None = None
    metrics: dict[str, Measurement] = Field(default_factory=dict)
    unavailable: dict[str, str] = Field(default_factory=dict)
    scenarios: dict[str, Scenario] = Field(default_factory=dict)
    layers: list[LayerShape] = Field(default_factory=list)
    training: list[dict[str, float]] = Field(default_factory=list)
    accuracy_kept: dict[str, AccuracyVerdict] = Field(default_factory=dict)
    recommended: bool = False
    cached: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @property
    def is_faster(self) -> bool:
        """Whether the whole interval of its speed-up lies above 1 by more than the margin."""
        speedup = self.metrics.get("speedup")
        if self.status != "ok" or speedup is None:
            return False
        low = speedup.value if speedup.ci_low is None else speedup.ci_low
        return low > 1 + SPEED_MARGIN

    @property
    def choosing_verdict(self) -> AccuracyVerdict | None:
        """Its accuracy on the rows that choose: validation, or test where there are no validation rows."""
        return self.accuracy_kept.get("validation") or self.accuracy_kept.get("test")

    @property
    def is_candidate(self) -> bool:
        """Whether it is faster than dense and loses less than the margin on the rows that choose."""
        verdict = self.choosing_verdict
        return self.is_faster and verdict is not None and verdict.difference > -verdict.margin


class Run(Document):
    """A whole run: environment, task, configuration and one result per variant and seed."""

    schema_version: Literal[1] = 1
    id: str
    started_at: datetime
    status: RunStatus
    environment: Environment
    task: TaskSummary
    config: Config
    results: list[Result] = Field(default_factory=list)

    def result(self, variant: str) -> Result | None:
        """The first result of `variant`, or None."""
        return next((result for result in self.results if result.variant == variant), None)


def json_schema() -> dict[str, JsonValue]:
    """The JSON Schema of `run.json`; the committed copy is `bench/nouns/run.schema.json`."""
    schema = Run.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "bench run document"
    return schema
