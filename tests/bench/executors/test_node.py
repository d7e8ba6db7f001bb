"""A node of a cluster, and the rows that it makes."""

from __future__ import annotations

from typing import Any

import pytest

from bench.executors.inputs import Inputs
from bench.executors.node import Node, RowRequest
from tests.bench.meters.documents import run_of


def asked(device: str, row_cpus: int) -> RowRequest:
    """A row of dense that takes so many CPUs."""
    nothing: dict[str, Any] = {"variables": {}, "software": {}, "techniques": {}}
    config = run_of().config.model_copy(update={"device": device})
    inputs = Inputs(task="task-0", checkpoints={}, plugins=[], files={})
    return RowRequest(
        variant="dense",
        seed=0,
        config=config,
        inputs=inputs,
        storage="storage",
        place="runs/0/dense",
        folder="run",
        anchor="dense",
        remeasure=False,
        timeout_s=None,
        made_on=None,
        row_cpus=row_cpus,
        **nothing,
    )


@pytest.mark.parametrize(("cpus", "shares"), [(16, False), (24, False), (32, True), (64, True)])
def test_rows_share_the_cpus_of_a_node_that_has_room_for_two(cpus: int, shares: bool) -> None:
    """That one, whatever others of the cluster have: its figures alone are of several rows."""
    node = Node("a1", "10.0.0.1 (a1)", cpus, {"a1"})
    assert node.shares_cpus(asked("cpu", 16)) == shares
    assert not node.shares_cpus(asked("cuda", 16))
