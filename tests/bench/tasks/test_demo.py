from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice, product

import pytest

from bench.nouns.task import Example, Task
from bench.tasks import demo, demo_vocabulary
from bench.tasks.demo import demo_task, headlines

# One line per row, hashed: what another process must come to as well.
FINGERPRINT = """
import hashlib
from bench.tasks.demo import demo_task
rows = "\\n".join(f"{row.label} {row.text}" for row in demo_task(seed=3, train_rows=300, test_rows=200).train)
print(hashlib.sha256(rows.encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def task() -> Task:
    return demo_task()


def all_rows(task: Task) -> tuple[Example, ...]:
    return task.train + task.validation + task.test


def test_is_a_demonstration_that_trains_its_own_model(task: Task) -> None:
    assert (task.name, task.model, task.fine_tune, task.demonstration) == ("demo", None, True, True)
    assert "emonstration" in task.description


def test_has_the_rows_asked_for(task: Task) -> None:
    assert (len(task.train), len(task.validation), len(task.test)) == (6000, 2000, 4000)
    small = demo_task(train_rows=7, validation_rows=0, test_rows=3)
    assert (len(small.train), len(small.validation), len(small.test)) == (7, 0, 3)


def test_a_shorter_training_set_begins_like_a_longer_one(task: Task) -> None:
    assert demo_task(train_rows=50).train == task.train[:50]


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(task: Task) -> None:
    assert demo_task() == task
    assert demo_task(seed=1).train != task.train


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_fresh_process_gives_the_same_rows(hash_seed: str) -> None:
    here = demo_task(seed=3, train_rows=300, test_rows=200).train
    rows = "\n".join(f"{row.label} {row.text}" for row in here)
    there = subprocess.run(
        [sys.executable, "-c", FINGERPRINT],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == hashlib.sha256(rows.encode()).hexdigest()


def test_no_text_stands_twice(task: Task) -> None:
    texts = [row.text for row in all_rows(task)]
    assert len(set(texts)) == len(texts)


def test_every_topic_has_its_share_of_every_split(task: Task) -> None:
    assert task.labels == tuple(sorted(task.labels))
    for rows in (task.train, task.validation, task.test):
        shares = {label: count / len(rows) for label, count in Counter(row.label for row in rows).items()}
        assert sorted(shares) == list(range(12))
        assert min(shares.values()) >= 0.03
        assert max(shares.values()) > 2 * min(shares.values())


def test_headlines_are_as_long_as_headlines(task: Task) -> None:
    lengths = [len(row.text.split()) for row in all_rows(task)]
    assert min(lengths) >= 5
    assert max(lengths) <= 16
    assert 8 <= sum(lengths) / len(lengths) <= 10


def test_headlines_are_written_in_devanagari(task: Task) -> None:
    for row in all_rows(task):
        assert re.fullmatch(r"[\u0900-\u097F :;,!?‘’]+", row.text), row.text


def test_the_note_states_what_the_test_rows_measure(task: Task) -> None:
    generated = tuple(islice(headlines(0), 12_000))[8_000:]
    assert [row.text for row in generated] == [row.text for row in task.test]
    ambiguous = sum(len(row.topics) == 2 for row in generated)
    assert 0.12 < ambiguous / 4000 < 0.16
    note = task.notes[-1]
    assert f"{ambiguous / 4000:.1%} of the test headlines fit two topics equally" in note
    assert f"about {1 - ambiguous / 8000:.1%}" in note


def test_a_headline_is_labelled_with_a_topic_it_fits() -> None:
    for row in islice(headlines(1), 3000):
        assert row.topic in row.topics
        assert len(row.topics) in (1, 2)


def test_an_ambiguous_label_is_a_fair_coin() -> None:
    ambiguous = [row for row in islice(headlines(2), 12_000) if len(row.topics) == 2]
    firsts = sum(row.topic == row.topics[0] for row in ambiguous)
    # Four standard deviations of a fair coin.
    assert abs(firsts - len(ambiguous) / 2) < 2 * len(ambiguous) ** 0.5


def test_each_topic_shares_half_of_its_words_with_other_topics() -> None:
    for slot in (demo.SCENES, demo.THINGS, demo.ACTIONS):
        for topic, phrases in slot.items():
            shared = [phrase for phrase, topics in phrases if len(topics) == 2]
            assert len(shared) >= len(phrases) / 2, topic


def test_the_topics_a_clause_fits_can_be_read_off_its_text() -> None:
    """No phrase stands twice and no two pairs of neighbours spell the same words."""
    slots = [
        [phrase for listed in slot.values() for phrase in listed.split(", ")]
        for slot in (demo_vocabulary.SCENES, demo_vocabulary.THINGS, demo_vocabulary.ACTIONS)
    ]
    everything = [phrase for slot in slots for phrase in slot]
    assert len(set(everything)) == len(everything)
    for left, right in ((0, 1), (1, 0), (1, 2), (0, 2)):
        pairs = [f"{one} {other}" for one, other in product(slots[left], slots[right])]
        assert len(set(pairs)) == len(pairs)


def test_no_rows_is_no_ambiguity() -> None:
    assert demo.ambiguous_share(()) == 0
    assert demo.ceiling(()) == 1
