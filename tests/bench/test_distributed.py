"""Two processes that train together, joined by gloo: they end where one ends, and fail as one fails."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from transformers.trainer_utils import get_last_checkpoint

from bench import environment
from bench.distributed import ProcessFailed, as_the_first_says, average_gradients, in_processes, of_all, rank
from bench.environment import GPUS
from bench.errors import BenchError, InputError, Refusal
from bench.meters.findings import Findings
from bench.nouns.task import Task
from bench.options import Options
from bench.plan import check_numbers, check_processes
from bench.steps.request import Request
from bench.steps.teacher import LOGITS
from bench.tasks.stored import write_task
from bench.worker import FINDINGS, REQUEST, message_of
from bench.workers import StepFailed, Workers, call_apart
from compressors.artifact import ARTIFACT
from tests.bench.meters.conftest import LABELS, ROWS, save_tiny

BATCH_SIZE, EPOCHS = 8, 2
# A multiple of the batch size, and not.
EVEN, UNEVEN = 48, 50

PLUGIN = '''
import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import bench.checkpoint
from bench.distributed import rank
from bench.errors import Refusal
from compressors import Compressor, Phase

# A state is due between any two steps.
bench.checkpoint.CHECKPOINT_EVERY_S = 0.0
bench.checkpoint.SAVING_SHARE = math.inf


@dataclass
class Outside(Compressor):
    """Trains a bias that is not in the model, and then puts it there."""

    name = "outside"
    phase = Phase.MASKS
    summary = "a bias apart"

    def prepare(self, model, context):
        self.bias = torch.zeros(model.config.num_labels, requires_grad=True)
        return model

    def parameter_groups(self, model):
        return [{"params": [self.bias], "lr": 0.1, "weight_decay": 0.0}]

    def loss(self, model, batch, outputs, context):
        assert hasattr(model, "classifier")
        told = torch.nn.functional.cross_entropy(self.bias.expand(len(batch["labels"]), -1), batch["labels"])
        return told + (self.bias[batch["rows"] % len(self.bias)] - 1).pow(2).mean()

    def finish(self, model, context):
        with torch.no_grad():
            model.classifier.bias.copy_(self.bias)
        return model


@dataclass
class Breaks(Compressor):
    """Ends in the way it is told, in the second of two processes at the fourth step."""

    name = "breaks"
    phase = Phase.MASKS
    summary = "ends its process"
    argument = "how"

    how: str = "raise"

    def prepare(self, model, context):
        if self.how == "refuse":
            raise Refusal("not here")
        return model

    def loss(self, model, batch, outputs, context):
        return outputs.logits.sum() * math.nan if self.how == "diverge" and rank() else None

    def on_step(self, step, context):
        Path(f"MARKS/{os.getpid()}").touch()
        if step != 3 or not rank():
            return
        if self.how == "raise":
            raise RuntimeError("broken on purpose")
        if self.how == "orphan":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        if self.how == "kill" or (self.how == "once" and not Path("MARKS/once").exists()):
            Path(f"MARKS/{self.how}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "hang":
            time.sleep(600)
'''


@dataclass
class Bench:
    """Runs steps as a run does, in workers; `marks` is where the plugin leaves the number of each process."""

    workers: Workers
    root: Path
    plugin: Path
    dense: Path
    teacher: Path

    @property
    def marks(self) -> Path:
        return self.plugin.parent / "marks"

    def task(self, rows: int) -> Path:
        """A task of so many training rows."""
        folder = self.root / f"task-{rows}"
        if not folder.exists():
            folder.mkdir()
            task = Task("tiny", "rows", LABELS, train=ROWS[:rows], validation=ROWS, test=ROWS)
            write_task(task, folder)
        return folder

    @property
    def context(self) -> ForkServerContext:
        """By which workers are started."""
        return self.workers._context

    def request(self, variant: str, processes: int, rows: int = EVEN, **more: Any) -> Request:
        """What makes a variant of dense, which has no dropout."""
        usual: dict[str, Any] = {
            "kind": "compress",
            "device": "cpu",
            "dense": self.dense,
            "teacher": self.teacher,
        }
        return Request(
            task=self.task(rows),
            variant=variant,
            seed=0,
            epochs=EPOCHS,
            learning_rate=1e-3,
            batch_size=BATCH_SIZE,
            max_length=32,
            budget="quick",
            plugins=[self.plugin],
            train_processes=processes,
            **(usual | more),
        )

    def run(self, variant: str, processes: int, folder: Path, limit_s: float = 120.0, **more: Any) -> Made:
        """Do the step in `folder`."""
        folder.mkdir(parents=True)
        (folder / REQUEST).write_text(self.request(variant, processes, **more).model_dump_json())
        steps: list[int] = []

        def listen(stage: str, done: int, total: int) -> None:
            if stage == "training":
                steps.append(done)

        self.workers.run(folder, listen, limit_s)
        return Made(folder, Findings.model_validate_json((folder / FINDINGS).read_text()), steps)


@dataclass
class Made:
    """A step that is done."""

    folder: Path
    found: Findings
    steps: list[int]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / ARTIFACT / "model.safetensors")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("distributed")
    plugin = root / "plugin.py"
    (root / "marks").mkdir()
    plugin.write_text(PLUGIN.replace("MARKS", str(root / "marks")))
    config = save_tiny(root / "dense" / ARTIFACT) / "config.json"
    settings = json.loads(config.read_text())
    without_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(settings | without_dropout))
    (root / "teacher").mkdir()
    logits = 3 * torch.randn(len(ROWS), len(LABELS), generator=torch.Generator().manual_seed(1))
    save_file({"logits": logits}, root / "teacher" / LOGITS)
    with Workers() as workers:
        yield Bench(workers, root, plugin, root / "dense", root / "teacher")


# Logits of the teacher stand by row, scores learn at a rate of their own, a bias is not in the model.
@pytest.mark.parametrize("variant", ["ft", "bmp25:block=8+kd", "outside"])
def test_two_processes_make_what_one_makes(bench: Bench, tmp_path: Path, variant: str) -> None:
    one, two = (bench.run(variant, count, tmp_path / f"by {count} ç#") for count in (1, 2))
    assert two.weights.keys() == one.weights.keys()
    start = load_file(bench.dense / ARTIFACT / "model.safetensors")
    moved = [name for name, tensor in one.weights.items() if not torch.equal(tensor, start.get(name, tensor))]
    assert moved
    for name, tensor in one.weights.items():
        torch.testing.assert_close(two.weights[name], tensor, atol=2e-5, rtol=1e-3)
    assert two.steps == one.steps == list(range(1, EPOCHS * EVEN // BATCH_SIZE + 1))
    curves = [[point["loss"] for point in made.found.training] for made in (one, two)]
    assert curves[1] == pytest.approx(curves[0], rel=1e-3), "the losses that are logged are of all processes"
    assert_left_the_same(one, two)


def assert_left_the_same(one: Made, two: Made) -> None:
    """What two processes leave is what one leaves, and a note that they did."""
    left = [{file.relative_to(made.folder) for file in made.folder.rglob("*")} for made in (one, two)]
    assert left[0] == left[1]
    assert [note for note in two.found.notes if note not in one.found.notes] == [
        "trained by 2 processes, 4 rows each a step"
    ]
    assert one.found.metrics.keys() - two.found.metrics.keys() <= {"compress_energy", "compress_energy_gross"}
    assert "several processes trained it" in two.found.unavailable["compress_energy"]


def test_an_uneven_last_batch_is_filled_up_and_steps_stay_the_same(bench: Bench, tmp_path: Path) -> None:
    made = bench.run("ft", 2, tmp_path / "made", rows=UNEVEN)
    assert len(made.steps) == EPOCHS * math.ceil(UNEVEN / BATCH_SIZE)


def test_pruning_teaching_and_half_precision_train_together(bench: Bench, tmp_path: Path) -> None:
    made = bench.run("bmp50:block=8+kd:match=dynamic+mp", 2, tmp_path / "made")
    assert made.found.metrics["pruned_fraction"].value == pytest.approx(0.5, abs=0.05)
    assert {tensor.dtype for tensor in made.weights.values()} == {torch.bfloat16}


def test_dense_is_fine_tuned_together_too(bench: Bench, tmp_path: Path) -> None:
    made = bench.run("dense", 2, tmp_path / "made", kind="dense", dense=None, teacher=None)
    assert "trained by 2 processes, 4 rows each a step" in made.found.notes
    assert made.steps == list(range(1, EPOCHS * EVEN // BATCH_SIZE + 1))
    assert all(tensor.isfinite().all() for tensor in made.weights.values())


def test_what_is_not_trained_takes_one_process(bench: Bench, tmp_path: Path) -> None:
    made = bench.run("fisher25:samples=16", 2, tmp_path / "made")
    assert not any("processes" in note for note in made.found.notes)
    assert made.found.unavailable["training_step_time"] == "nothing is trained"


FAILURES = {
    "raise": ("error", "broken on purpose"),
    "diverge": ("diverged", "the training loss became nan"),
    "kill": ("killed", r"process 2 of 2: the worker was killed \(signal 9\)"),
    "orphan": ("killed", r"the worker was killed \(signal 9\)"),
    "hang": ("timeout", "--timeout was used up"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_one_that_fails_is_the_steps_failure_and_nothing_goes_on(
    bench: Bench, tmp_path: Path, how: str
) -> None:
    kind, words = FAILURES[how]
    with pytest.raises(StepFailed, match=words) as failed:
        bench.run(f"breaks:{how}", 2, tmp_path / "made", limit_s=10.0 if how == "hang" else 120.0)
    assert failed.value.kind == kind
    assert_ended(bench)


def test_what_all_refuse_is_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="not here"):
        bench.run("breaks:refuse", 2, tmp_path / "made")


def assert_ended(bench: Bench) -> None:
    """None of the processes that took part is running any more."""
    members = [int(mark.name) for mark in bench.marks.iterdir() if mark.name.isdecimal()]
    assert members
    deadline = time.monotonic() + 60
    while running := [member for member in members if psutil.pid_exists(member)]:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)


def test_a_training_that_was_broken_off_goes_on_in_all_processes(bench: Bench, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with pytest.raises(StepFailed):
        bench.run("breaks:once", 2, tmp_path / "killed", checkpoint=state)
    newest = get_last_checkpoint(str(state))
    assert newest is not None
    assert len(json.loads((Path(newest) / "training.json").read_text())["generators"]) == 2
    went_on = bench.run("breaks:once", 2, tmp_path / "went-on", checkpoint=state)
    step = int(newest.rpartition("-")[2])
    assert went_on.steps[0] == step + 1
    assert any(f"training went on from step {step}" in note for note in went_on.found.notes)
    whole = bench.run("breaks:once", 2, tmp_path / "whole")
    assert all(torch.equal(whole.weights[name], tensor) for name, tensor in went_on.weights.items())


def together(folder: Path, work: Callable[[], None]) -> list[Any]:
    """What each of three processes puts into a file of its rank."""
    try:
        in_processes(3, "cpu", folder / "scratch", work, message_of)
    except ProcessFailed as error:
        raise BenchError(f"{error.number} of {error.count}: {error.ended_with}, {error.message}") from None
    return [json.loads(file.read_text()) for file in sorted(folder.glob("rank-*"))]


@dataclass
class Asks:
    """Asks the others, and writes down what they say."""

    folder: Path

    def __call__(self) -> None:
        parameters = [torch.ones(2, requires_grad=True) for _ in range(2)]
        parameters[0].grad = torch.full((2,), float(rank()))
        if rank() == 1:
            parameters[1].grad = torch.full((2,), 6.0)
        average_gradients(parameters)
        gradients = [parameter.grad.tolist() for parameter in parameters if parameter.grad is not None]
        answers = [as_the_first_says(f"I am {rank()}"), of_all(rank() ** 2), gradients]
        (self.folder / f"rank-{rank()}").write_text(json.dumps(answers))


def test_all_hear_the_same(bench: Bench, tmp_path: Path) -> None:
    answers = call_apart(bench.context, together, tmp_path, Asks(tmp_path))
    assert answers == [["I am 0", [0, 1, 4], [[1.0, 1.0], [2.0, 2.0]]]] * 3


class Leaves:
    """The last of three ends without a word while the others wait for it."""

    def __call__(self) -> None:
        if rank() == 2:
            os._exit(5)
        distributed.barrier()


def test_one_that_ends_without_a_word_is_named(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="3 of 3: 5, None"):
        call_apart(bench.context, together, tmp_path, Leaves())


def test_a_process_alone_hears_itself() -> None:
    parameter = torch.ones(2, requires_grad=True)
    average_gradients([parameter])
    assert parameter.grad is None
    assert (rank(), as_the_first_says(3), of_all(3)) == (0, 3, [3])


@pytest.mark.parametrize(
    ("asked", "device", "words"),
    [
        ({"train_processes": 3}, "cpu", "--train-processes 3: batches of 32 rows .* such as 30"),
        ({"train_processes": 4}, "cuda", "--train-processes 4: each needs a GPU, and there are 2"),
    ],
)
def test_what_cannot_train_together_is_refused(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], device: str, words: str
) -> None:
    monkeypatch.delenv(GPUS, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    with pytest.raises(InputError, match=words):
        check_processes(Options(**asked), device)
    check_processes(Options(train_processes=2), device)


@pytest.mark.parametrize("count", [0, -1, 33])
def test_there_is_a_row_for_each_process(count: int) -> None:
    with pytest.raises(InputError, match=f"--train-processes {count}: must be above 0 and at most 32"):
        check_numbers(Options(train_processes=count))


def test_all_gpus_are_counted_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (GPUS, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "device_count", lambda: 4)
    check_processes(Options(train_processes=4), "cuda")
