"""Which class of a checkpoint is which of the data's: by name, by the user's map, by rows, or asked."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError
from bench.nouns.task import Example
from bench.options import read_label_map
from bench.steps.classes import Naming, unsure_classes
from compressors.artifact import class_names, load_model, load_tokenizer
from tests.bench.steps.checkpoints import TRAIN, checkpoint, request, toy_task
from tests.compressors.tiny import LABELS, tiny

NUMBERED = ("LABEL_0", "LABEL_1", "LABEL_2")


@dataclass(frozen=True)
class Named:
    """What came of naming a checkpoint's classes."""

    reason: str | None
    names: list[str]
    notes: list[str]

    @property
    def proposed(self) -> dict[str, str]:
        """The map that the reason proposes, as a shell and the command line read it."""
        assert self.reason is not None
        assert len(self.reason.splitlines()) == 1
        words = shlex.split(self.reason[self.reason.index("--label-map") :])
        return read_label_map(words[1])


def name(folder: Path, model: Path, **task: Any) -> Named:
    """Name the classes of the checkpoint in `model` after a toy task with these changes."""
    asked, notes = toy_task(**task), list[str]()
    loaded, tokenizer = load_model(str(model)), load_tokenizer(str(model))
    reason = Naming(asked, request(folder, asked), notes)("path/of/it", loaded, tokenizer)
    return Named(reason, class_names(loaded.config), notes)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_numbered_classes_are_matched_in_any_order_and_said(tmp_path: Path, order: tuple[int, ...]) -> None:
    found = name(tmp_path, checkpoint(tmp_path / "model", NUMBERED, order))
    assert found.reason is None
    assert found.names == [LABELS[i] for i in order]
    [note] = found.notes
    assert note.startswith("path/of/it: its classes were matched to the data's by 96 training rows")
    assert note.endswith(", ".join(f"LABEL_{i} is {LABELS[k]}" for i, k in enumerate(order)))


def test_no_more_rows_are_run_than_matching_needs(tmp_path: Path) -> None:
    found = name(tmp_path, checkpoint(tmp_path / "model", NUMBERED), train=TRAIN * 30)
    assert "by 2,000 training rows" in found.notes[0]


def test_the_datas_own_names_need_no_rows(tmp_path: Path) -> None:
    found = name(tmp_path, checkpoint(tmp_path / "model", LABELS, (2, 0, 1)), train=())
    assert found == Named(None, list(LABELS), [])


def test_classes_beyond_the_datas_are_left_as_they_are(tmp_path: Path) -> None:
    found = name(tmp_path, checkpoint(tmp_path / "model"), labels=("red", "blue"), train=())
    assert found == Named(None, list(LABELS), [])


def test_a_head_of_another_task_is_not_matched(tmp_path: Path) -> None:
    model = tmp_path / "model"
    checkpoint(model)
    tiny(labels=NUMBERED, seed=3).save_pretrained(model)
    found = name(tmp_path, model)
    assert found.reason is not None
    assert "cannot be told by 96 training rows" in found.reason
    assert found.names == list(NUMBERED)
    assert found.proposed.keys() == set(NUMBERED)
    assert set(found.proposed.values()) == set(LABELS)
    assert not found.notes


def test_classes_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    one_colour = tuple(Example(row.text, min(row.label, 1)) for row in TRAIN)
    halves = tuple(Example(row.text, i % 2 + 1 if row.label else 0) for i, row in enumerate(one_colour))
    found = name(tmp_path, checkpoint(tmp_path / "model", NUMBERED), train=halves)
    assert found.reason is not None
    assert "LABEL_1" in found.reason or "LABEL_2" in found.reason
    assert "LABEL_0" not in found.reason[: found.reason.index("cannot be told")]
    assert found.proposed["LABEL_0"] == "red"


@pytest.mark.parametrize("names", [("rot", "gruen", "blau"), ("LABEL_0", "LABEL_1", "other")])
def test_other_names_are_matched_for_a_proposal_alone(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = name(tmp_path, checkpoint(tmp_path / "model", names, (1, 2, 0)))
    assert found.reason is not None
    assert f"its classes are {', '.join(names)}, the data's red, green, blue" in found.reason
    assert found.names == list(names)
    assert found.proposed == dict(zip(names, ("green", "blue", "red"), strict=True))


@pytest.mark.parametrize("labels", [("Arts, books", "a=b", "it's"), ("खेळ", "राजकारण", "x y")])
def test_the_proposal_can_be_copied_whatever_the_datas_names_are(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    names = ("sea", "sky", "ice")
    found = name(tmp_path, checkpoint(tmp_path / "model", names), labels=labels)
    assert found.proposed == dict(zip(names, labels, strict=True))


def test_surplus_classes_keep_their_names_in_the_proposal(tmp_path: Path) -> None:
    rows = tuple(Example(row.text, row.label - 1) for row in TRAIN if row.label)
    found = name(tmp_path, checkpoint(tmp_path / "model", NUMBERED), labels=("green", "blue"), train=rows)
    assert found.proposed == {"LABEL_0": "LABEL_0", "LABEL_1": "green", "LABEL_2": "blue"}


def test_without_training_rows_the_map_is_asked_for(tmp_path: Path) -> None:
    found = name(tmp_path, checkpoint(tmp_path / "model", NUMBERED), train=())
    assert found.reason is not None
    assert "no training rows tell which is which" in found.reason
    assert "--label-map LABEL_0=NAME,LABEL_1=NAME,LABEL_2=NAME" in found.reason


def test_fewer_classes_than_the_data_has_cannot_be_named(tmp_path: Path) -> None:
    labels = (*LABELS, "white")
    found = name(tmp_path, checkpoint(tmp_path / "model", NUMBERED), labels=labels)
    assert found.reason is not None
    assert "its classes are LABEL_0, LABEL_1, LABEL_2, the data's red, green, blue, white" in found.reason
    assert "--label-map" not in found.reason


def test_the_users_map_names_the_classes_without_rows(tmp_path: Path) -> None:
    label_map = {"LABEL_2": "red", "LABEL_0": "green", "LABEL_1": "blue"}
    found = name(tmp_path, checkpoint(tmp_path / "model", NUMBERED), train=(), label_map=label_map)
    assert found == Named(None, ["green", "blue", "red"], [])


def test_the_users_map_goes_before_names_that_are_the_datas(tmp_path: Path) -> None:
    label_map = {"red": "green", "green": "blue", "blue": "red"}
    found = name(tmp_path, checkpoint(tmp_path / "model"), train=(), label_map=label_map)
    assert found == Named(None, ["green", "blue", "red"], [])


def test_how_many_rows_agree_with_the_users_map_is_said(tmp_path: Path) -> None:
    label_map = {"LABEL_0": "blue", "LABEL_1": "red", "LABEL_2": "green"}
    found = name(tmp_path, checkpoint(tmp_path / "model", NUMBERED, (2, 0, 1)), label_map=label_map)
    assert (found.reason, found.names) == (None, ["blue", "red", "green"])
    assert found.notes == ["path/of/it: its classes are named by --label-map; 96 of 96 training rows agree"]


def test_a_map_that_the_rows_contradict_is_refused(tmp_path: Path) -> None:
    label_map = {"LABEL_0": "green", "LABEL_1": "red", "LABEL_2": "blue"}
    found = name(tmp_path, checkpoint(tmp_path / "model", NUMBERED), label_map=label_map)
    assert found.reason is not None
    assert "training rows agree with --label-map, 96 with another naming" in found.reason
    assert found.names == list(NUMBERED)
    assert not found.notes


def test_a_map_for_another_checkpoint_leaves_this_one_to_the_rows(tmp_path: Path) -> None:
    label_map = {"a": "red", "b": "green", "c": "blue"}
    found = name(tmp_path, checkpoint(tmp_path / "model", NUMBERED, (0, 2, 1)), label_map=label_map)
    assert (found.reason, found.names) == (None, ["red", "blue", "green"])


@st.composite
def shuffled_counts(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """Counts in which each class has most rows of one label, and that label's of it; and which."""
    size = draw(st.integers(2, 7))
    order = draw(st.permutations(range(size)))
    cells = draw(st.lists(st.integers(0, 9), min_size=size * size, max_size=size * size))
    counts = np.array(cells).reshape(size, size)
    counts[np.arange(size), order] += 30
    return counts, order


@given(shuffled_counts())
def test_clear_maxima_of_row_and_column_are_sure(made: tuple[np.ndarray, list[int]]) -> None:
    counts, order = made
    assert unsure_classes(counts, order) == []


@given(shuffled_counts(), st.integers(-3, 3), st.booleans(), st.data())
def test_a_rival_about_as_large_makes_a_class_unsure(
    made: tuple[np.ndarray, list[int]], more: int, in_row: bool, data: st.DataObject
) -> None:
    counts, order = made
    victim = data.draw(st.integers(0, len(order) - 1))
    other = data.draw(st.integers(0, len(order) - 1).filter(lambda i: i != victim))
    place = (victim, order[other]) if in_row else (other, order[victim])
    counts[place] = counts[victim, order[victim]] + more
    assert victim in unsure_classes(counts, order)


@given(shuffled_counts())
def test_a_clear_match_agrees_more_than_one_class_for_all(made: tuple[np.ndarray, list[int]]) -> None:
    counts, order = made
    assert counts[np.arange(len(order)), order].sum() > counts.sum(axis=0).max()


@pytest.mark.parametrize(
    ("counts", "unsure"),
    [
        ([[50, 0], [0, 50]], []),
        ([[65, 35], [35, 65]], []),
        ([[52, 48], [48, 52]], [0, 1]),
        ([[4, 0], [0, 4]], []),
        ([[3, 0], [0, 3]], [0, 1]),
        ([[90, 4], [3, 3]], [1]),
        ([[20, 0, 20], [0, 20, 0], [0, 0, 0]], [0, 2]),
        ([[300, 0, 0], [0, 40, 38], [0, 38, 40]], [1, 2]),
    ],
)
def test_chance_is_not_enough(counts: list[list[int]], unsure: list[int]) -> None:
    assert unsure_classes(np.array(counts), range(len(counts))) == unsure


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (None, {}),
        ("LABEL_0=Auto,LABEL_1=Bhakti", {"LABEL_0": "Auto", "LABEL_1": "Bhakti"}),
        (" a = x y , b = z", {"a": "x y", "b": "z"}),
        ("a=Arts, books,b=c=d", {"a": "Arts, books", "b": "c=d"}),
    ],
)
def test_a_map_is_read(text: str | None, read: dict[str, str]) -> None:
    assert read_label_map(text) == read


@pytest.mark.parametrize("text", ["", "a", "a=", "=x", "a,b=x", "a=x,a=y", "a=x,b=x"])
def test_what_is_no_map_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--label-map"):
        read_label_map(text)
