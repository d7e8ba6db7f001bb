"""The picture of where batches' time goes: a bar for each variant, cut by the kind of its modules.

All bars have one scale, the longest batch's time; places are in percent of its width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.nouns.profile import Profile
from bench.nouns.run import Result, Run
from reports.names import label
from reports.numbers import SECONDS, percent, quantity
from reports.profile import kind_shares

WHOLE = "not told apart"
ROOM_FOR_TEXT = 11.0


@dataclass(frozen=True)
class Segment:
    """A kind of module in a bar, or all of it; `text` is empty where there is no room for its share."""

    kind: str
    start: float
    width: float
    text: str
    said: str


@dataclass(frozen=True)
class Stack:
    """One variant's bar, how long a batch takes it, and all of it in words."""

    name: str
    time: str
    segments: tuple[Segment, ...]
    said: str


def stacks(run: Run, results: Sequence[Result]) -> tuple[Stack, ...]:
    """The bars of all that were profiled."""
    profiles = {label(run, result): result.profile for result in results if result.profile}
    longest = max((profile.time for profile in profiles.values()), default=0.0)
    return tuple(_stack(name, profile, longest) for name, profile in profiles.items())


def _stack(name: str, profile: Profile, longest: float) -> Stack:
    segments = tuple(_segments(profile, longest))
    said = "; ".join(segment.said for segment in segments)
    return Stack(name, quantity(profile.time, SECONDS), segments, said)


def _segments(profile: Profile, longest: float) -> Iterator[Segment]:
    start = 0.0
    shares = kind_shares(profile) or {WHOLE: 1.0}
    for kind, share in shares.items():
        width = 100 * share * profile.time / longest
        text = percent(share) if width >= ROOM_FOR_TEXT and kind != WHOLE else ""
        said = f"{kind} {percent(share)}, {quantity(share * profile.time, SECONDS)}"
        yield Segment(kind, round(start, 2), round(width, 2), text, said)
        start += width
