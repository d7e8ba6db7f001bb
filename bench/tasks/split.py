"""Stratified choices of rows: the same rows, shares and seed always choose the same rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from bench.nouns.task import Example


def split(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """`examples` as (kept, held out), both in their order, with `share` of every class held out.

    A class of two rows or more is on both sides; one of a single row is kept.
    """
    sizes = Counter(example.label for example in examples)
    held = {label: min(max(round(share * size), 1), size - 1) for label, size in sizes.items()}
    return _divide(examples, held, seed)


def limit(examples: Sequence[Example], most: int, seed: int) -> tuple[Example, ...]:
    """`most` of `examples` in their order, classes in proportion and at least one row of each.

    All of them where there are no more. Raises ValueError where `most` is below the number of classes.
    """
    if len(examples) <= most:
        return tuple(examples)
    sizes = Counter(example.label for example in examples)
    return _divide(examples, _proportional(sizes, most), seed)[1]


def _divide(
    examples: Sequence[Example], counts: Mapping[int, int], seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """`examples` without and with `counts[label]` rows of each class, drawn at random."""
    generator = random.Random(seed)  # noqa: S311 (reproducible, not secret)
    places: dict[int, list[int]] = {label: [] for label in sorted(counts)}
    for place, example in enumerate(examples):
        places[example.label].append(place)
    chosen = {
        place for label in places for place in generator.sample(places[label], counts[label])
    }  # labels in sorted order, so that the draw does not depend on which row comes first
    kept = tuple(example for place, example in enumerate(examples) if place not in chosen)
    return kept, tuple(examples[place] for place in sorted(chosen))


def _proportional(sizes: Mapping[int, int], total: int) -> dict[int, int]:
    """`total` shared out by `sizes`: by largest remainder, but at least one each."""
    if total < len(sizes):
        raise ValueError(f"{total} rows cannot hold {len(sizes)} classes")
    everything = sum(sizes.values())
    counts = {label: max(total * size // everything, 1) for label, size in sizes.items()}

    def missing(label: int) -> int:
        return total * sizes[label] - counts[label] * everything

    while sum(counts.values()) < total:
        counts[max(counts, key=missing)] += 1
    while sum(counts.values()) > total:
        counts[min((label for label in counts if counts[label] > 1), key=missing)] -= 1
    return counts
