"""A task and its dense artifact on disk, as a step finds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.meters import energy
from bench.meters.energy import EnergyMeter
from bench.nouns.task import Task
from bench.steps.request import Request
from bench.tasks.stored import write_task
from compressors.artifact import ARTIFACT
from tests.bench.meters.clockwork import Clockwork
from tests.bench.meters.conftest import LABELS, ROWS, save_tiny

OpenMeter = Callable[[str], EnergyMeter]


def request_at(root: Path, **changes: Any) -> Request:
    """A request for dense's footprint, with `changes`; its task and dense are written below `root`."""
    (root / "task").mkdir()
    write_task(Task("tiny", "rows", LABELS, train=ROWS, validation=ROWS, test=ROWS), root / "task")
    save_tiny(root / "dense" / ARTIFACT)
    usual = Request(
        kind="footprint",
        task=root / "task",
        variant="dense",
        device="cpu",
        seed=0,
        epochs=1.0,
        learning_rate=1e-3,
        batch_size=16,
        max_length=32,
        budget="quick",
        plugins=[],
        dense=root / "dense",
        artifact=root / "dense",
    )
    return usual.model_copy(update=changes)


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """A request whose task and folders exist; `kind` and `variant` are to be replaced."""
    return request_at(tmp_path_factory.mktemp("steps"))


@pytest.fixture
def metered(monkeypatch: pytest.MonkeyPatch) -> Callable[[OpenMeter], None]:
    """Opens energy meters in another way; by 50 W idle and 150 W at work unless told otherwise."""

    def use(open_meter: OpenMeter) -> None:
        monkeypatch.setattr(energy, "open_energy_meter", open_meter)

    use(lambda device: Clockwork(lambda window: [50, 150][window]))
    return use


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
