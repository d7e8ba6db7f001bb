"""The built-in demonstration task: Marathi news headlines over twelve topics, generated from a seed.

A headline's clause is a scene, a thing and an action, and its topics are those that fit all of them: most
words are shared by two topics and only together settle one. Some headlines first deny a clause about
something else, made of the same words, so their order counts too. And a known share fits exactly
two topics, its label a fair coin: that share over two is what no classifier can win.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from bench.nouns.audit import DataAudit
from bench.nouns.task import Example, Task
from bench.tasks import demo_vocabulary as vocabulary
from bench.tasks.audit import audit_splits

# Roughly MahaNews's own shares, in percent.
TOPICS = {
    "Auto": 8,
    "Bhakti": 7,
    "Crime": 11,
    "Education": 5,
    "Fashion": 9,
    "Health": 9,
    "International": 9,
    "Manoranjan": 13,
    "Politics": 10,
    "Sports": 9,
    "Tech": 10,
    "Travel": 5,
}
LABELS = tuple(sorted(TOPICS))
WEIGHTS = tuple(TOPICS[label] for label in LABELS)
AMBIGUOUS = 0.14
DENYING = 0.35

Phrase = tuple[str, frozenset[str]]


def _phrases(listed: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in listed.split(","))


def _by_topic(slot: dict[str, str]) -> dict[str, tuple[Phrase, ...]]:
    """For each topic, the slot's phrases that fit it, each with all the topics it fits."""
    phrases = [
        (phrase, frozenset(topics.split())) for topics, listed in slot.items() for phrase in _phrases(listed)
    ]
    return {label: tuple(phrase for phrase in phrases if label in phrase[1]) for label in LABELS}


SCENES = _by_topic(vocabulary.SCENES)
THINGS = _by_topic(vocabulary.THINGS)
ACTIONS = _by_topic(vocabulary.ACTIONS)
PLACES = _phrases(vocabulary.PLACES)
TIMES = _phrases(vocabulary.TIMES)
QUALITIES = _phrases(vocabulary.QUALITIES)
OPENERS = _phrases(vocabulary.OPENERS)
CLOSERS = _phrases(vocabulary.CLOSERS)
DENIALS = _phrases(vocabulary.DENIALS)


@dataclass(frozen=True)
class Headline:
    """One generated text, the one or two topics it fits, and the one drawn from them."""

    text: str
    topics: tuple[str, ...]
    topic: str


def demo_task(
    seed: int = 0, train_rows: int = 6000, validation_rows: int = 2000, test_rows: int = 4000
) -> Task:
    """The `demo` task: the same rows for the same arguments, on any machine; no text stands twice."""
    source = headlines(seed)
    train, validation, test = (
        tuple(islice(source, rows)) for rows in (train_rows, validation_rows, test_rows)
    )
    parts = {"train": _examples(train), "validation": _examples(validation), "test": _examples(test)}
    return Task(
        name="demo",
        description="Demonstration: generated Marathi news headlines over twelve topics",
        labels=LABELS,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        demonstration=True,
        notes=(
            "generated headlines and a small BERT trained on them in the run: a demonstration of the "
            "harness, its accuracies say nothing about real news",
            f"{ambiguous_share(test):.1%} of the test headlines fit two topics equally: no classifier can "
            f"exceed about {ceiling(test):.1%}",
        ),
        audit=DataAudit(splits=audit_splits(parts, LABELS)),
    )


def headlines(seed: int) -> Iterator[Headline]:
    """Headlines without end, no text twice."""
    rng = random.Random(seed)  # noqa: S311
    seen: set[str] = set()
    while True:
        headline = _headline(rng)
        if headline.text not in seen and 5 <= len(headline.text.split()) <= 16:
            seen.add(headline.text)
            yield headline


def ambiguous_share(rows: tuple[Headline, ...]) -> float:
    """The share of `rows` that fit two topics equally; 0 for no rows."""
    return sum(len(row.topics) == 2 for row in rows) / max(len(rows), 1)


def ceiling(rows: tuple[Headline, ...]) -> float:
    """The accuracy to expect on `rows` of a classifier that knows the whole grammar."""
    return 1 - ambiguous_share(rows) / 2


def _examples(rows: tuple[Headline, ...]) -> tuple[Example, ...]:
    return tuple(Example(row.text, LABELS.index(row.topic)) for row in rows)


def _headline(rng: random.Random) -> Headline:
    text, topics = _clause(rng, topics_wanted=2 if rng.random() < AMBIGUOUS else 1)
    text = _maybe(rng, 0.3, TIMES) + _maybe(rng, 0.5, PLACES) + text
    if rng.random() < DENYING:
        text = f"{_denied_clause(rng, about_none_of=topics)}; {text}"
    else:
        text = _maybe(rng, 0.4, OPENERS) + text
        if rng.random() < 0.3:
            text = f"{text}, {rng.choice(CLOSERS)}"
    fitting = sorted(topics)
    return Headline(text, tuple(fitting), rng.choice(fitting))


def _clause(rng: random.Random, topics_wanted: int) -> tuple[str, frozenset[str]]:
    """A clause that fits exactly `topics_wanted` topics, and these."""
    while True:
        [topic] = rng.choices(LABELS, WEIGHTS)
        (scene, by_scene), (thing, by_thing), (action, by_action) = (
            rng.choice(slot[topic]) for slot in (SCENES, THINGS, ACTIONS)
        )
        topics = by_scene & by_thing & by_action
        if len(topics) == topics_wanted:
            thing = _maybe(rng, 0.25, QUALITIES) + thing
            orders = (f"{scene} {thing} {action}", f"{thing} {scene} {action}", f"{thing}: {scene} {action}")
            return rng.choice(orders), topics


def _denied_clause(rng: random.Random, about_none_of: frozenset[str]) -> str:
    while True:
        clause, topics = _clause(rng, topics_wanted=1)
        if not topics & about_none_of:
            return f"‘{clause}’ {rng.choice(DENIALS)}"


def _maybe(rng: random.Random, probability: float, phrases: tuple[str, ...]) -> str:
    return f"{rng.choice(phrases)} " if rng.random() < probability else ""
