"""The run document `run.json`: the product's one record, read by every report and comparison."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from bench.nouns.document import Count, Document, Series
from bench.nouns.environment import Environment
from bench.nouns.measurement import Measurement
from bench.nouns.profile import Diagnosis, Profile, inside
from bench.nouns.task import TaskSummary
from bench.nouns.verdict import AccuracyVerdict, Interplay, SpeedVerdict

DENSE = "dense"

RunStatus = Literal["running", "complete", "interrupted"]
ResultStatus = Literal["ok", "failed", "skipped"]
FailureKind = Literal["error", "diverged", "out of memory", "timeout", "killed", "crashed"]
Keep = Literal["all", "best", "none"]
Budget = Literal["quick", "standard", "thorough"]
Padding = Literal["fixed", "sorted"]
Shape = tuple[Count, Count]


class Config(Document):
    """What was asked for, defaults filled in: enough to ask for the same again.

    `learning_rate` and `epochs` hold for the variants; `dense_epochs` for the dense model, 0 where it
    is used as it came; `train_processes` share each batch out while they train together. `carbon_intensity`
    in g/kWh, for `country` (ISO 3166 alpha-3). `paddings`, `shapes` (rows, tokens) and `thread_counts` are
    measured besides batch 1 and arrival order. `shard` is (number, of how many) where the run is one part
    of a sweep; `sweep` names all its variants then.
    """

    command: str
    protocol_version: Count
    variants: list[str]
    device: str
    budget: Budget
    seeds: list[Count]
    paddings: list[Padding]
    shapes: list[Shape]
    thread_counts: list[Count]
    deduplicate: bool
    epochs: float
    dense_epochs: float
    learning_rate: float
    dense_learning_rate: float
    batch_size: Count
    train_processes: Count = 1
    max_length: Count
    country: str
    carbon_intensity: float
    carbon_source: str
    pue: float
    accuracy_margin: float
    keep: Keep
    profile: bool = False
    shard: tuple[Count, Count] | None = None
    sweep: list[str] = Field(default_factory=list)


class LayerShape(Document):
    """What one encoder layer still holds."""

    heads: Count
    ffn_width: Count


class Rounds(Document):
    """The raw rounds of one scenario, each list with one entry a round, discarded rounds included.

    `times` is each contender's wall time, `device_times` that by CUDA events; `order` the contenders'
    places in `times` as they ran; `rows`, `tokens` and `padded_tokens` what a block held; `machine` what
    the machine did meanwhile (`steal`, `sm_clock`, …); `discarded` the rounds left out, with the reason.
    """

    times: dict[str, Series]
    device_times: dict[str, Series] = Field(default_factory=dict)
    order: list[list[Count]] = Field(default_factory=list)
    rows: list[Count] = Field(default_factory=list)
    tokens: list[Count] = Field(default_factory=list)
    padded_tokens: list[Count] = Field(default_factory=list)
    machine: dict[str, Series] = Field(default_factory=dict)
    discarded: dict[Count, str] = Field(default_factory=dict)


class WarmUp(Document):
    """How one contender was warmed up: seconds, calls, and whether its times had become steady."""

    wall_time: float
    calls: Count
    steady: bool
    unit: str = "s"


class Scenario(Document):
    """One way of feeding the model, measured in paired rounds with the anchor.

    `metrics` holds quantities of this scenario alone (`throughput`, `tokens_per_second`, `speedup`,
    `padding_share`, …); `stopped` is why measuring ended; `throttled` says that over a tenth of the rounds
    had to be discarded. `raw` is None for what is not measured in rounds.
    """

    batch_size: Count
    padding: str
    threads: Count | None = None
    rounds: Count = 0
    converged: bool | None = None
    throttled: bool = False
    stopped: str = ""
    metrics: dict[str, Measurement]
    verdicts: dict[str, SpeedVerdict] = Field(default_factory=dict)
    warm_up: dict[str, WarmUp] = Field(default_factory=dict)
    raw: Rounds | None = None


class Failure(Document):
    """How the step ended that a failed row is for want of, and the last lines that it logged.

    `error` is an exception, `diverged` a training whose loss is no number any more, `timeout` the variant's
    time used up, `killed` a SIGKILL that came from outside, `crashed` another signal or an end without a
    word. `step` is empty where none had begun.
    """

    kind: FailureKind
    step: str
    log: list[str] = Field(default_factory=list)


class Result(Document):
    """One variant at one seed. `parts` are its compressors as they are spelled, `continues` those in the
    artifact that it goes on from.

    `unavailable` maps a metric that could not be had to the reason. `artifact` is relative to the run folder.
    `cached` names the steps taken over from an earlier run. `accuracy_kept` is by split (`validation`,
    `test`, and `test unseen` where test rows stand in the training file), `verdicts` by metric. `interplay`
    is that of a combination whose parts were measured alone, too. `spent` says where this run's wall time
    went, in seconds, by activity; what was taken over took none. `loads_with` says what reloads the artifact:
    `transformers` alone, or the class file that an export puts beside it. `right` has a bit for each test
    row, as hexadecimal digits, the first row in the highest bit: 1 where it is classified correctly.
    `failure` is that of a failed row. `batch_size` is what it was measured with, where memory did not suffice
    for the configured one. `machine` is the key of the machine that measured it, where that is not the run's.
    `diagnoses` say what keeps it from being faster, the gravest first.
    """

    variant: str
    parts: list[str] = Field(default_factory=list)
    continues: list[str] = Field(default_factory=list)
    seed: Count
    status: ResultStatus
    reason: str | None = None
    failure: Failure | None = None
    batch_size: int | None = Field(default=None, ge=1)
    machine: str | None = Field(default=None, pattern=r"^[0-9a-f]{1,64}$")
    artifact: Annotated[str, AfterValidator(inside)] | None = None
    metrics: dict[str, Measurement] = Field(default_factory=dict)
    unavailable: dict[str, str] = Field(default_factory=dict)
    scenarios: dict[str, Scenario] = Field(default_factory=dict)
    layers: list[LayerShape] = Field(default_factory=list)
    training: list[dict[str, float]] = Field(default_factory=list)
    loads_with: str | None = None
    right: str | None = Field(default=None, pattern=r"^[0-9a-f]*$")
    accuracy_kept: dict[str, AccuracyVerdict] = Field(default_factory=dict)
    verdicts: dict[str, SpeedVerdict] = Field(default_factory=dict)
    interplay: Interplay | None = None
    profile: Profile | None = None
    diagnoses: list[Diagnosis] = Field(default_factory=list)
    spent: dict[str, float] = Field(default_factory=dict)
    recommended: bool = False
    cached: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @property
    def is_faster(self) -> bool:
        """Whether it is shown to be faster than dense."""
        verdict = self.verdicts.get("speedup")
        return self.status == "ok" and verdict is not None and verdict.word == "faster"

    def is_candidate(self, margin: float | None = None) -> bool:
        """Whether it is to be judged on the test rows: faster, and within the margin on the validation rows.

        The margin is by default that of the verdicts. Without validation rows every faster one is: the rows
        that judge must not choose.
        """
        verdict = self.accuracy_kept.get("validation")
        chosen = verdict is None or verdict.difference > -(verdict.margin if margin is None else margin)
        return self.is_faster and "test" in self.accuracy_kept and chosen


class Run(Document):
    """A whole run: environment, task, configuration and one result per variant and seed.

    `fingerprints` are hashes of `rows`, `model`, the product's own `code`, and of each other checkpoint,
    plugin and file. `checkpoints` are those that were read, as the user named them, with the commit of one
    that came from a hub, None for a folder. `wall_time` is that of the run as a whole, over all sessions
    where it was resumed, None before it has begun; `import_time` the part in which workers import their
    libraries.
    """

    schema_version: Literal[3] = 3
    id: str
    started_at: datetime
    status: RunStatus
    environment: Environment
    task: TaskSummary
    config: Config
    fingerprints: dict[str, str]
    checkpoints: dict[str, str | None] = Field(default_factory=dict)
    wall_time: Measurement | None = None
    import_time: Measurement | None = None
    results: list[Result] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_results(self) -> Self:
        """A variant has one result a seed."""
        places: set[tuple[str, int]] = set()
        for row in self.results:
            if (row.variant, row.seed) in places:
                raise ValueError(f"{row.variant} at seed {row.seed} stands twice")
            places.add((row.variant, row.seed))
        return self

    def result(self, variant: str) -> Result | None:
        """The first result of `variant`, or None."""
        return next((result for result in self.results if result.variant == variant), None)


def json_schema() -> dict[str, JsonValue]:
    """The JSON Schema of `run.json`; the committed copy is `bench/nouns/run.schema.json`."""
    schema = Run.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "bench run document"
    return schema
