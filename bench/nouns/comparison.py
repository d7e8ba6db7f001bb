"""What became of a run since an earlier one, variant by variant, and whether a gate lets it pass."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from bench.nouns.document import Document

ChangeWord = Literal["better", "same", "worse", "inconclusive", "not comparable", "newly failing", "fixed"]
GateWord = Literal["passes", "fails", "inconclusive", "not comparable"]
Outcome = Literal["passes", "fails", "not comparable"]

MARKS: dict[ChangeWord, str] = {
    "worse": "+",
    "better": "-",
    "same": "=",
    "inconclusive": "?",
    "not comparable": "x",
    "newly failing": "!",
    "fixed": "*",
}
"""A mark for each word; `+`, `-`, `x`, `!` and `*` as asv has them: `+` is more of what nobody wants."""


class Threshold(Document):
    """How much worse a metric may become before a gate fails: 0.05 is 5 % of what it was, or 5 points.

    `points` says which: a difference of shares where it is true, a ratio where it is not.
    """

    metric: str
    amount: float
    points: bool = False


class Change(Document):
    """One metric of one variant, before and after, in the metric's unit.

    `change` is after over before, where `difference` is true after less before, with its interval; None where
    there is nothing to compare. Beyond `margin` to either side of no change it is better or worse. `gate`
    says what the threshold of `--fail-on` makes of it, None where none is set. A variant that failed or came
    back has no `metric`.
    """

    variant: str
    seed: int
    metric: str | None
    unit: str = ""
    word: ChangeWord
    before: float | None = None
    after: float | None = None
    difference: bool = False
    change: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    threshold: Threshold | None = None
    gate: GateWord | None = None
    reason: str

    @property
    def mark(self) -> str:
        """The word as one character."""
        return MARKS[self.word]


class Side(Document):
    """One of the two that are compared. `label` is what the user called it."""

    label: str
    run: str
    started_at: datetime
    machine_key: str
    commit: str | None
    versions: dict[str, str]


class Comparison(Document):
    """Two runs, or two artifacts in one run, beside each other.

    `mismatches` keep them from being compared, and then there are no `changes`; `differences` are shown and
    do no harm. `relative` says that figures are each over their own dense. `unmatched` are the variants that
    only one side has. A `strict` gate fails where one that is not passes inconclusive changes.
    """

    before: Side
    after: Side
    relative: bool = False
    strict: bool = False
    thresholds: list[Threshold] = Field(default_factory=list)
    mismatches: list[str] = Field(default_factory=list)
    differences: list[str] = Field(default_factory=list)
    unmatched: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    changes: list[Change] = Field(default_factory=list)

    @property
    def failing(self) -> list[Change]:
        """The changes for which the gate fails, and variants that fail where they did not."""
        wanted = {"fails", "inconclusive"} if self.strict else {"fails"}
        return [row for row in self.changes if row.gate in wanted or row.word == "newly failing"]

    @property
    def unjudged(self) -> list[Threshold]:
        """The thresholds that could not be applied to any variant."""
        judged = {row.metric for row in self.changes if row.gate not in (None, "not comparable")}
        return [threshold for threshold in self.thresholds if threshold.metric not in judged]

    @property
    def outcome(self) -> Outcome:
        """What the gate says of the whole: what cannot be compared does not pass."""
        if self.failing:
            return "fails"
        if self.mismatches or self.unjudged or any(row.gate == "not comparable" for row in self.changes):
            return "not comparable"
        return "passes"
