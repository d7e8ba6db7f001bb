"""A training that is broken off and goes on ends as one that never was: to the bit, on a CPU."""

from __future__ import annotations

import errno
import json
import math
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState, set_seed
from transformers.trainer_utils import get_last_checkpoint

from bench import checkpoint as checkpoints
from bench.cache import link_files
from bench.checkpoint import Checkpoint, apart, generators, set_generators, take
from bench.encoding import encode
from bench.meters.findings import Findings
from bench.steps.common import label_numbers
from bench.training import Schedule, fine_tune
from compressors.contract import Compressor, Context, Phase
from compressors.variant import parse_variant
from tests.bench.test_training import EXAMPLES, fresh
from tests.compressors.tiny import LABELS, context_of

SCHEDULE = Schedule(epochs=3, learning_rate=5e-3, batch_size=12, seed=0, device="cpu")
STEPS = SCHEDULE.steps(len(EXAMPLES))
BMP_KD = "bmp50:block=8+kd:layers=1"


class BrokenOffError(Exception):
    """The machine went away."""


@pytest.fixture(autouse=True)
def every_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """States are left when a test says so, whatever they cost."""
    monkeypatch.setattr(checkpoints, "CHECKPOINT_EVERY_S", math.inf)
    monkeypatch.setattr(checkpoints, "SAVING_SHARE", math.inf)


@dataclass
class Session:
    """One process's part of a training, and what it came to."""

    model: PreTrainedModel
    checkpoint: Checkpoint
    found: Findings | None = None
    steps: list[int] = field(default_factory=list)


@dataclass
class Training:
    """A training of `spec` on the toy task, as a process of its own would begin it, again and again."""

    tokenizer: PreTrainedTokenizerBase
    folder: Path
    spec: str = "ft"
    schedule: Schedule = SCHEDULE
    more: tuple[type[Compressor], ...] = ()

    def run(self, checkpoint: Path | None = None, until: int | None = None) -> Session:
        """Train up to the end, or be broken off when step `until` is done, two steps after states are due."""
        set_seed(self.schedule.seed)
        logits = torch.randn(len(EXAMPLES), len(LABELS), generator=torch.Generator().manual_seed(5))
        variant = parse_variant(self.spec)
        parts = (*variant.parts, *(kind() for kind in self.more))
        model = fresh()
        context = context_of(model, self.tokenizer, variant.removed_share, dense_logits=lambda: logits)
        for part in parts:
            model = part.prepare(model, context)
        session = Session(model, Checkpoint(checkpoint, parts))

        def progress(stage: str, done: int, total: int) -> None:
            session.steps.append(done)
            if until is not None:
                checkpoints.CHECKPOINT_EVERY_S = 0.0 if done >= until - 2 else math.inf
            if done == until:
                raise BrokenOffError

        encoded = encode(self.tokenizer, EXAMPLES, 32)
        numbers = label_numbers(model, LABELS, EXAMPLES)
        told = (encoded, numbers, parts, context, self.schedule, self.folder, progress, session.checkpoint)
        try:
            session.found = fine_tune(model, *told)
        except BrokenOffError:
            return session
        for part in parts:
            session.model = part.finish(session.model, context)
        return session


@pytest.fixture
def training(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Training:
    return Training(tokenizer, tmp_path / "scratch")


def assert_same(one: Session, other: Session) -> None:
    """Both ended with the same weights and the same curve."""
    assert one.found is not None
    assert other.found is not None
    assert one.found.training == other.found.training
    weights, others = one.model.state_dict(), other.model.state_dict()
    assert weights.keys() == others.keys()
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []


@pytest.mark.parametrize(
    ("spec", "autocast"),
    [
        ("ft", None),
        (BMP_KD, None),
        (BMP_KD, "bfloat16"),
        ("bmp50:block=8+kd:layers=1,match=dynamic", None),
        ("magnitude50:block=8", None),
    ],
)
def test_the_weights_are_those_of_a_training_that_was_never_broken_off(
    training: Training, tmp_path: Path, spec: str, autocast: str | None
) -> None:
    it = replace(training, spec=spec, schedule=replace(SCHEDULE, autocast=autocast))
    whole = it.run()
    # While masks grow, and after the structure is frozen.
    for until in (6, 19):
        assert it.run(tmp_path / "state", until).found is None
    ended = it.run(tmp_path / "state")
    assert ended.checkpoint.went_on_from == 18
    assert ended.steps == list(range(19, STEPS + 1))
    assert_same(ended, whole)


# The first step done, an epoch's last but one, its last, the next one's first; the last step of all.
@pytest.mark.parametrize("until", [1, 8, 9, 10, STEPS])
def test_it_may_be_broken_off_after_any_step(training: Training, tmp_path: Path, until: int) -> None:
    training.run(tmp_path / "state", until)
    ended = training.run(tmp_path / "state")
    assert ended.checkpoint.went_on_from == (until - 1 or None)
    assert ended.steps[0] == until
    assert_same(ended, training.run())


def test_leaving_states_changes_nothing(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_EVERY_S", 0.0)
    watched = training.run(tmp_path / "state")
    assert_same(watched, training.run())
    assert watched.checkpoint.notes == []


def test_what_went_on_is_said(training: Training, tmp_path: Path) -> None:
    training.run(tmp_path / "state", until=10)
    ended = training.run(tmp_path / "state")
    assert ended.found is not None
    [note] = ended.found.notes
    assert note.startswith(f"training went on from step 9 of {STEPS}, where it had been broken off")
    assert ended.checkpoint.trained_before_s > 0
    assert [point["step"] for point in ended.found.training] == list(range(1, STEPS + 1))


@dataclass
class Counts(Compressor):
    """Adds to the loss what it has counted itself: steps, and numbers drawn from Python and numpy."""

    name: ClassVar[str] = "counts"
    phase: ClassVar[Phase] = Phase.MASKS
    summary: ClassVar[str] = "for tests"

    def prepare(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        self.sum = torch.zeros(1)
        return model

    def on_step(self, step: int, context: Context) -> None:
        self.sum = self.sum + random.random() + float(np.random.random())

    def loss(
        self, model: PreTrainedModel, batch: dict[str, torch.Tensor], outputs: Any, context: Context
    ) -> torch.Tensor:
        return (self.sum * outputs.logits.mean()).sum()

    def training_state(self) -> dict[str, torch.Tensor]:
        return {"sum.so.far": self.sum}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.sum = state["sum.so.far"]


def test_what_a_compressor_keeps_and_draws_comes_back(training: Training, tmp_path: Path) -> None:
    it = replace(training, spec="ft", more=(Counts,))
    it.run(tmp_path / "state", until=5)
    assert_same(it.run(tmp_path / "state"), it.run())


def test_the_curve_loses_nothing_where_a_line_is_of_several_steps(training: Training, tmp_path: Path) -> None:
    it = replace(training, schedule=replace(SCHEDULE, epochs=10, batch_size=8))
    it.run(tmp_path / "state", until=12)
    ended = it.run(tmp_path / "state")
    assert ended.checkpoint.went_on_from == 10, "a line is of two steps, and a state only left between lines"
    assert_same(ended, it.run())


def test_a_state_holds_no_pickle_and_the_newest_is_the_only_one(training: Training, tmp_path: Path) -> None:
    training.run(tmp_path / "state", until=10)
    [newest] = (tmp_path / "state").iterdir()
    assert newest.name == "checkpoint-9"
    assert {file.suffix for file in newest.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize(
    "damaged", ["model.safetensors", "training.safetensors", "training.json", "trainer_state.json"]
)
def test_an_unreadable_state_is_not_gone_on_from(training: Training, tmp_path: Path, damaged: str) -> None:
    training.run(tmp_path / "state", until=3)
    file = tmp_path / "state/checkpoint-2" / damaged
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    checkpoint = Checkpoint(tmp_path / "state")
    assert checkpoint.find(tmp_path / "work") is None
    [note] = checkpoint.notes
    assert note.startswith("training began anew: the state that it had been broken off in is unreadable")
    assert not (tmp_path / "state").exists()


def test_a_state_that_cannot_be_left_costs_a_note_and_nothing_else(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_EVERY_S", 0.0)
    (tmp_path / "file").touch()
    ended = training.run(tmp_path / "file/state")
    assert_same(ended, training.run())
    [note] = ended.checkpoint.notes
    assert note.startswith("no state of the training could be left")


def test_a_state_that_finds_no_room_leaves_it_to_the_model(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: dict[str, Any], file: Path) -> None:
        file.write_bytes(b"some")
        if file.name != "model.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(checkpoints, "save_file", full)
    [note] = training.run(tmp_path / "state").checkpoint.notes
    assert "No space left on device" in note
    assert list((tmp_path / "state").iterdir()) == []


def test_what_a_dead_process_was_writing_goes_before_the_training(tmp_path: Path) -> None:
    for name in ("writing-1", "writing-999999999"):
        (tmp_path / name).mkdir()
    assert Checkpoint(tmp_path).find(tmp_path / "work") is None
    assert [folder.name for folder in tmp_path.iterdir()] == ["writing-1"]


def test_short_trainings_leave_none(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    training.run(tmp_path / "state")
    assert not (tmp_path / "state").exists()


class KilledError(BaseException):
    """Nothing more is done."""


@pytest.mark.parametrize("instant", range(7))
def test_a_kill_at_any_instant_leaves_the_old_or_the_new_state_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instant: int
) -> None:
    for name in ("checkpoint-3", "writing-999999999"):
        (tmp_path / name).mkdir()
        for part in ("one", "two"):
            (tmp_path / name / part).write_text(name)
    calls = iter(range(100))

    def killed(does: Callable[..., Any]) -> Callable[..., Any]:
        def does_or_is_killed(*given: Any, **more: Any) -> Any:
            if next(calls) == instant:
                raise KilledError
            return does(*given, **more)

        return does_or_is_killed

    monkeypatch.setattr(checkpoints, "sync", killed(checkpoints.sync))
    monkeypatch.setattr(Path, "rename", killed(Path.rename))
    monkeypatch.setattr(shutil, "rmtree", killed(shutil.rmtree))
    with pytest.raises(KilledError):
        take(tmp_path / "writing-999999999", tmp_path / "checkpoint-7")
    newest = get_last_checkpoint(str(tmp_path))
    assert newest is not None
    found = {(Path(newest) / part).read_text() for part in ("one", "two")}
    assert found == {"checkpoint-3" if newest.endswith("3") else "writing-999999999"}


def test_a_state_for_whose_copies_there_is_no_room_is_read_where_it_lies(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of training may be in it."""

    def full(source: Path, target: Path) -> None:
        target.mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    state = tmp_path / "state"
    training.run(state, until=7)
    monkeypatch.setattr(checkpoints, "link_files", full)
    checkpoint = Checkpoint(state)
    assert checkpoint.find(tmp_path / "work") == str(next(state.iterdir()))
    assert checkpoint.notes == []
    assert not list(tmp_path.glob("*/gone-on-from"))


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    for name in ("checkpoint-3", "writing-1", "writing-999999998", "writing-999999999"):
        (tmp_path / name).mkdir()
    take(tmp_path / "writing-999999999", tmp_path / "checkpoint-7")
    assert {folder.name for folder in tmp_path.iterdir()} == {"checkpoint-7", "writing-1"}


def test_a_state_that_another_run_replaces_meanwhile_is_gone_on_from_all_the_same(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that share a cache may train the same: one goes on from a state that the other has left."""
    state = tmp_path / "state"
    training.run(state, until=7)
    [left] = state.iterdir()
    read = checkpoints.read

    def read_late(folder: Path) -> Any:
        shutil.rmtree(left, ignore_errors=True)
        return read(folder)

    monkeypatch.setattr(checkpoints, "read", read_late)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_EVERY_S", math.inf)
    resumed = training.run(state)
    assert not left.exists()
    assert resumed.checkpoint.went_on_from == int(left.name.partition("-")[2])
    assert_same(resumed, training.run())
    assert not list(tmp_path.glob("*/gone-on-from"))


def test_of_a_training_there_is_one_state_at_a_time(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is three times the weights: what was gone on from goes before the next is kept."""
    training.run(tmp_path / "state", until=3)
    links, take = list[bool](), checkpoints.take

    def look(fresh: Path, place: Path) -> None:
        links.append(any(tmp_path.glob("*/gone-on-from")))
        take(fresh, place)

    monkeypatch.setattr(checkpoints, "take", look)
    assert training.run(tmp_path / "state", until=7).checkpoint.went_on_from == 2
    assert links
    assert not any(links)


def test_a_state_that_is_gone_before_it_could_be_taken_is_looked_for_again(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    training.run(state, until=7)
    [left] = state.iterdir()

    def replaced_first(source: Path, target: Path) -> None:
        if left.exists():
            left.rename(state / "checkpoint-99")
        link_files(source, target)

    monkeypatch.setattr(checkpoints, "link_files", replaced_first)
    checkpoint = Checkpoint(state)
    assert checkpoint.find(tmp_path / "work") is not None
    assert checkpoint.notes == []


@pytest.mark.parametrize("saving_s", [0.1, 5.0, 40.0])
def test_saving_takes_its_share_at_most_and_comes_once_a_minute_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saving_s: float
) -> None:
    monkeypatch.undo()
    now, saved_at = 0.0, []

    def leave(*_: Any) -> None:
        nonlocal now
        saved_at.append(now)
        now += saving_s

    checkpoint = Checkpoint(tmp_path)
    monkeypatch.setattr(checkpoint, "_leave", leave)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    given_s: Any = (fresh(), None, None)
    checkpoint.begin(TrainerState(), *given_s)
    for step in range(20_000):
        checkpoint.between_steps(TrainerState(global_step=step, logging_steps=1), *given_s)
        now += 1.0
    assert len(saved_at) == pytest.approx(min(now / 60, 0.02 * now / saving_s), rel=0.1)
    assert all(later - earlier >= 60 for earlier, later in zip([0.0, *saved_at], saved_at, strict=False))
    assert saving_s * len(saved_at) <= 0.02 * now + saving_s


@given(seed=st.integers(0, 2**32 - 1), drawn=st.integers(0, 700))
def test_generators_go_on_where_they_were_also_by_way_of_json(seed: int, drawn: int) -> None:
    set_seed(seed)
    for _ in range(drawn):
        draw()
    random.gauss(0, 1), np.random.normal()  # these keep a second number for the next call
    states = json.loads(json.dumps(generators()))
    expected = [draw() for _ in range(5)]
    set_seed(seed + 1 if seed < 2**32 - 1 else 0)
    set_generators(states)
    assert [draw() for _ in range(5)] == expected


def draw() -> tuple[float, ...]:
    """One number of each kind from each generator."""
    return random.random(), random.gauss(0, 1), np.random.normal(), float(torch.randn(()))


def test_tensors_that_share_memory_are_saved_apart() -> None:
    whole = torch.arange(6.0)
    tensors = apart({"whole": whole, "again": whole, "part": whole[2:4], "across": whole.view(2, 3).T})
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 4
    assert tensors["part"].tolist() == [2, 3]
    assert tensors["across"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert all(tensor.is_contiguous() for tensor in tensors.values())
