"""What a comparison concluded, and why."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.nouns.document import Count, Document

SpeedWord = Literal["faster", "same", "slower", "inconclusive", "not comparable"]
AccuracyWord = Literal["kept", "lost", "inconclusive", "underpowered"]
InterplayWord = Literal["multiply", "reinforce", "interfere", "inconclusive"]


class SpeedVerdict(Document):
    """Whether a ratio of times (above 1 is faster) differs from 1 by more than `margin`.

    `ratio` and its interval are None where the word is `not comparable`.
    """

    word: SpeedWord
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float
    reason: str


class ClassChange(Document):
    """One class of test rows: how many dense gets right, and what the variant gains and loses of them.

    `p_value` is the exact McNemar test's, Holm-adjusted over the classes.
    """

    label: str
    rows: Count
    dense_right: Count
    gained: Count
    lost: Count
    p_value: float


class AccuracyVerdict(Document):
    """Whether a variant keeps the accuracy of dense on the same rows, by non-inferiority.

    `difference` is variant minus dense, a share (0.01 is one point), `low` and `high` its one-sided
    95 % bounds; `margin` the loss that counts as kept; `p_value` that of a loss of `margin` or more;
    `rows_needed` is given where the rows were too few to tell even for an unchanged variant.

    Beside it, of the same rows: `gained` and `lost`, the counts of those that only the variant or only
    dense gets right; `mcnemar_p_value`, exact and two-sided; `bootstrap_low` and `bootstrap_high`, the
    paired bootstrap's 95 % interval of the difference; `flip_rate`, the share whose predicted label
    changed; `classes`, the changes class by class.
    """

    word: AccuracyWord
    difference: float
    low: float
    high: float
    margin: float
    p_value: float
    rows: Count
    rows_needed: Count | None = None
    gained: Count
    lost: Count
    mcnemar_p_value: float
    bootstrap_low: float
    bootstrap_high: float
    flip_rate: float
    classes: list[ClassChange] = Field(default_factory=list)
    reason: str


class Interplay(Document):
    """What a combination gives, beside what its parts give `alone`: their speedups over dense, by part.

    `ratio` is the combination's speedup over the product of theirs, with its 95 % interval: above 1 the parts
    reinforce each other, below 1 they interfere. `points` is the combination's change of accuracy less the
    sum of its parts' changes, a share (0.01 is one point), with its 95 % interval, all of the same test rows.
    """

    word: InterplayWord
    alone: dict[str, float]
    ratio: float
    low: float
    high: float
    margin: float
    points: float
    points_low: float
    points_high: float
    reason: str


class Choice(Document):
    """The variant recommended where a loss of accuracy below `margin`, a share, counts as kept, or None.

    In a list of them each holds up to the next one's margin.
    """

    margin: float
    variant: str | None
