"""The part of a sweep that one machine of several makes: `--shard 2/4`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.errors import InputError
from bench.nouns.run import DENSE
from compressors.variant import Variant

# What a training takes, in measurings of one variant; balance needs no better figure.
TRAINING = 4


def read_shard(text: str | None) -> tuple[int, int] | None:
    """`2/4` as (number, of how many). Raises `InputError` for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text.strip(), re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"--shard {text}: write I/N with I from 1 to N, such as 2/4")
    return int(match[1]), int(match[2])


def share(variants: Sequence[Variant], shard: tuple[int, int] | None) -> list[Variant]:
    """This shard's part of `variants`, in their order; all of them where there is no shard.

    Every variant is in one shard, but for dense, which the others are measured against: it is in each.
    Variants of one training stay together. The dearest group goes first, each to the shard that has least
    (Graham's LPT rule, 1969), so that no two shards differ by more than the dearest group.
    """
    if shard is None:
        return list(variants)
    number, count = shard
    loads = [0] * count
    own = {DENSE}
    for group in sorted(together(variants), key=cost, reverse=True):
        least = loads.index(min(loads))
        loads[least] += cost(group)
        if least == number - 1:
            own |= {variant.name for variant in group}
    return [variant for variant in variants if variant.name in own]


def together(variants: Sequence[Variant]) -> list[list[Variant]]:
    """The variants besides dense, grouped by the training that they share."""
    groups: dict[str, list[Variant]] = {}
    for variant in variants:
        if variant.name != DENSE:
            trained = variant.trained.name if variant.trains else variant.name
            groups.setdefault(trained, []).append(variant)
    return list(groups.values())


def cost(group: Sequence[Variant]) -> int:
    """What making and measuring a group takes, in measurings of one variant."""
    return len(group) + TRAINING * any(variant.trains for variant in group)


def notes_on(own: Sequence[Variant], shard: tuple[int, int] | None) -> list[str]:
    """What the user is told of the shard's variants, `own`."""
    if shard is None or len(own) > 1:
        return []
    return [f"shard {shard[0]}/{shard[1]} has dense alone: there is no more to share out"]
