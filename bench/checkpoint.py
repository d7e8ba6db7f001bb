"""The state of a training, left on disk as it goes, so that one that is broken off goes on from there."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from accelerate.optimizer import AcceleratedOptimizer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint
from transformers.utils import SAFE_WEIGHTS_NAME

from bench.cache import link_files
from bench.distributed import as_the_first_says, of_all, rank
from bench.errors import in_one_line
from bench.nouns.document import Document
from compressors.contract import Compressor

CHECKPOINT_EVERY_S = 60.0
SAVING_SHARE = 0.02
# Of the disk, until the first state has been written.
ASSUMED_BYTES_PER_S = 200e6
# Weights, and AdamW's two moments of each.
TENSORS_PER_WEIGHT = 3

TENSORS, STATE, WRITING = "training.safetensors", "training.json", "writing-"
TAKEN = "gone-on-from"


class TrainingState(Document):
    """What of a training is no tensor; `trained_s` is the wall time of all its parts so far.

    `generators` are those of each process, where several train together.
    """

    trained_s: float
    groups: list[dict[str, Any]]
    schedule: dict[str, Any]
    scaler: dict[str, Any]
    generators: list[dict[str, Any]]


class Checkpoint:
    """Leaves a training's state in `folder` between two steps, and takes back one that lies there.

    Without a folder it does neither. The state is what the Trainer resumes from (its own record and the
    weights), and beside it what `parts` train and keep outside the model, optimizer, schedule and random
    generators; there is no pickle in it. It appears whole or not at all. One is left at most once in
    `CHECKPOINT_EVERY_S`, and no more often than `SAVING_SHARE` of the training's time allows. Of several
    processes that train together the first leaves it, with the generators of all, and each takes it back.

    `went_on_from` is the step that was gone on from, `trained_before_s` the time that the training took up to
    it, `notes` are sentences for the user.
    """

    def __init__(self, folder: Path | None, parts: Sequence[Compressor] = ()) -> None:
        self.folder, self.parts = folder, parts
        self.went_on_from: int | None = None
        self.trained_before_s = 0.0
        self.notes: list[str] = []
        self._found: tuple[TrainingState, dict[str, torch.Tensor]] | None = None
        self._own: Path | None = None
        self._saving_s = 0.0

    def find(self, scratch: Path) -> str | None:
        """The state to go on from, for `Trainer.train`; one that cannot be read is removed, with a note.

        Until `forget`, links to it lie in `scratch`, which is gone after this process. Of several processes
        the first looks, and all go on from what it has found.
        """
        if self.folder is None:
            return None
        place = as_the_first_says(self._taken(self.folder, scratch / TAKEN) if rank() == 0 else "")
        if place and rank():
            self._found = read(Path(place))
        return place or None

    def _taken(self, folder: Path, own: Path) -> str:
        """Where the newest state lies that can be read, empty where there is none.

        It is by links of this process's own: another run that trains the same may replace the state, or come
        to the end of its training, at any time.
        """
        clear(path for path in entries(folder) if path.name.startswith(WRITING))
        self._own = own
        while newest := newest_of(folder):
            place = own
            try:
                link_files(newest, place)
            except OSError:  # it is gone, or there is no room for what cannot be linked
                self.forget()
                place = newest
            try:
                self._found = read(place)
                return str(place)
            except (OSError, TypeError, ValueError, SafetensorError) as error:
                self.forget()
                if not newest.exists():
                    continue
                shutil.rmtree(folder, ignore_errors=True)
                self.notes.append(
                    f"training began anew: the state that it had been broken off in is unreadable "
                    f"({in_one_line(error)})"
                )
                break
        return ""

    def forget(self) -> None:
        """Remove the links by which a state was gone on from."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    def begin(
        self,
        state: TrainerState,
        model: PreTrainedModel,
        optimizer: AcceleratedOptimizer,
        scheduler: LRScheduler,
    ) -> None:
        """Put back what was found, but for the generators; the Trainer has put back the model's weights."""
        weights = sum(parameter.nbytes for parameter in model.parameters())
        self._cost_s = TENSORS_PER_WEIGHT * weights / ASSUMED_BYTES_PER_S
        self._began = self._last = time.perf_counter()
        if self._found is None:
            return
        kept, tensors = self._found
        optimizer.load_state_dict({"state": numbered(tensors, "optimizer"), "param_groups": kept.groups})
        scheduler.load_state_dict(kept.schedule)
        if optimizer.scaler is not None:
            optimizer.scaler.load_state_dict(kept.scaler)
        parameters = trained(optimizer)
        with torch.no_grad():
            for number, found in numbered(tensors, "outside").items():
                parameters[number].copy_(found["value"])
        states = numbered(tensors, "part")
        for number, part in enumerate(self.parts):
            part.restore(states.get(number, {}))
        self.went_on_from, self.trained_before_s = state.global_step, kept.trained_s
        self.notes.append(
            f"training went on from step {state.global_step:,} of {state.max_steps:,}, where it had been "
            "broken off; its wall time is that of all parts, the time of a step that of the last one"
        )

    def between_steps(
        self,
        state: TrainerState,
        model: PreTrainedModel,
        optimizer: AcceleratedOptimizer,
        scheduler: LRScheduler,
    ) -> bool:
        """Before each step: leave a state where one is due, and say whether time went into that.

        Before the first step gone on with, the generators are put back instead: what comes before it, such as
        skipping the rows already seen, draws from them.
        """
        if self._found is not None:
            set_generators(self._found[0].generators[rank()])
            self._found = None
            return False
        # The Trainer keeps to itself what it has summed up since it last logged, and the curve would lose it.
        if not state.global_step or state.global_step % state.logging_steps:
            return False
        if not as_the_first_says(self._is_due()):
            return False
        started = time.perf_counter()
        states = of_all(generators())
        self.forget()
        if rank() == 0:
            try:
                self._leave(state, model, optimizer, scheduler, states)
            except (OSError, SafetensorError) as error:
                self.notes.append(f"no state of the training could be left ({in_one_line(error)})")
                self.folder = None
        self._last = time.perf_counter()
        self._cost_s = self._last - started
        self._saving_s += self._cost_s
        return True

    def _is_due(self) -> bool:
        """Whether it is time to leave a state."""
        if self.folder is None:
            return False
        now = time.perf_counter()
        is_cheap = self._saving_s + self._cost_s <= SAVING_SHARE * (now - self._began)
        return is_cheap and now - self._last >= CHECKPOINT_EVERY_S

    def _leave(
        self,
        state: TrainerState,
        model: PreTrainedModel,
        optimizer: AcceleratedOptimizer,
        scheduler: LRScheduler,
        states: list[dict[str, Any]],
    ) -> None:
        assert self.folder is not None
        tensors = apart(dict(named(model, optimizer, self.parts)))
        weights = apart(model.state_dict())
        kept = TrainingState(
            trained_s=self.trained_before_s + time.perf_counter() - self._began,
            groups=optimizer.state_dict()["param_groups"],
            schedule=scheduler.state_dict(),
            scaler={} if optimizer.scaler is None else optimizer.scaler.state_dict(),
            generators=states,
        )
        fresh = self.folder / f"{WRITING}{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            fresh.mkdir(parents=True)
            save_file(weights, fresh / SAFE_WEIGHTS_NAME)
            save_file(tensors, fresh / TENSORS)
            (fresh / STATE).write_text(kept.model_dump_json(), encoding="utf-8")
            state.save_to_json(str(fresh / TRAINER_STATE_NAME))
            take(fresh, self.folder / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
        except (OSError, SafetensorError):
            shutil.rmtree(fresh, ignore_errors=True)  # the model itself will want the room
            raise


def read(folder: Path) -> tuple[TrainingState, dict[str, torch.Tensor]]:
    """What lies in a state's folder besides what the Trainer reads, which is looked at too.

    Raises `OSError`, `TypeError`, `ValueError` or `SafetensorError` where any of it cannot be read.
    """
    TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME))
    load_file(folder / SAFE_WEIGHTS_NAME)
    state = TrainingState.model_validate_json((folder / STATE).read_text(encoding="utf-8"))
    return state, load_file(folder / TENSORS)


def take(fresh: Path, place: Path) -> None:
    """Put a complete folder in its place, safe from a power cut; then whatever else lies beside it goes."""
    for path in (*fresh.iterdir(), fresh):
        sync(path)
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)
    sync(place.parent)
    clear(other for other in place.parent.iterdir() if other != place)


def entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it is gone."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def newest_of(folder: Path) -> Path | None:
    """The state that was left last, None where there is none."""
    try:
        found = get_last_checkpoint(str(folder))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Path(found) if found else None


def clear(states: Iterable[Path]) -> None:
    """Remove these, but for what a process that is alive is just writing: two runs may share a cache."""
    for state in states:
        owner = state.name.removeprefix(WRITING)
        if not (owner.isdecimal() and psutil.pid_exists(int(owner))):
            shutil.rmtree(state, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the disk hold a file's or a folder's content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def trained(optimizer: AcceleratedOptimizer) -> list[torch.Tensor]:
    """All parameters that the optimizer trains, in the order by which its state numbers them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def named(
    model: PreTrainedModel, optimizer: AcceleratedOptimizer, parts: Sequence[Compressor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """A training's tensors besides the model's own state, each as `kind.number.name`; see `numbered`."""
    for number, own in optimizer.state_dict()["state"].items():
        for name, tensor in own.items():
            yield f"optimizer.{number}.{name}", tensor
    inside = {id(parameter) for parameter in model.parameters()}
    for number, parameter in enumerate(trained(optimizer)):
        if id(parameter) not in inside:
            yield f"outside.{number}.value", parameter
    for number, part in enumerate(parts):
        for name, tensor in part.training_state().items():
            yield f"part.{number}.{name}", tensor


def numbered(tensors: Mapping[str, torch.Tensor], wanted: str) -> dict[int, dict[str, torch.Tensor]]:
    """The tensors of one kind, by number and name."""
    found: dict[int, dict[str, torch.Tensor]] = {}
    for full_name, tensor in tensors.items():
        kind, number, name = full_name.split(".", 2)
        if kind == wanted:
            found.setdefault(int(number), {})[name] = tensor
    return found


def apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors on the CPU, none sharing memory with another, which safetensors refuses to save."""
    alone: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        alone[name] = own.clone() if place in seen else own
        seen.add(place)
    return alone


def generators() -> dict[str, Any]:
    """The states of Python's, numpy's and torch's global random generators, that of the GPU in use too."""
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    key = numpy_state["state"]["key"].tolist()
    is_on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    on_gpu = [torch.cuda.get_rng_state()] if is_on_gpu else []
    return {
        "python": random.getstate(),
        "numpy": numpy_state | {"state": numpy_state["state"] | {"key": key}},
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in on_gpu],
    }


def set_generators(states: Mapping[str, Any]) -> None:
    """Put back what `generators` gave, also where it went through JSON."""
    version, numbers, following = states["python"]
    random.setstate((version, tuple(numbers), following))
    own = states["numpy"]
    key = np.array(own["state"]["key"], dtype=np.uint32)
    np.random.set_state(own | {"state": own["state"] | {"key": key}})
    torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
    for state in states["cuda"]:
        torch.cuda.set_rng_state(torch.tensor(state, dtype=torch.uint8))
