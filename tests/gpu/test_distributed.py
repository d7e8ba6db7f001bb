"""Training by processes that NCCL joins: one on any GPU, two where there are two."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from bench.distributed import in_processes
from bench.meters.findings import Findings
from bench.steps.request import Request
from bench.worker import FINDINGS, carry_out, message_of
from bench.workers import call_apart
from tests.bench.test_distributed import Bench, Made, bench

__all__ = ["bench"]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def trained_joined(request: Request, folder: Path) -> None:
    """Do a step in one process that is joined as several are."""
    in_processes(1, "cuda", folder / "processes", partial(carry_out, request, folder, None), message_of)


@pytest.mark.parametrize("variant", ["bmp25:block=8+kd", "ft+mp", "ft+mp:dtype=float16"])
def test_a_process_joined_by_nccl_makes_what_one_alone_makes(
    bench: Bench, tmp_path: Path, variant: str
) -> None:
    alone = bench.run(variant, 1, tmp_path / "alone", device="cuda")
    request = bench.request(variant, 1, device="cuda").model_copy(update={"plugins": []})
    (tmp_path / "joined").mkdir()
    call_apart(bench.context, trained_joined, request, tmp_path / "joined")
    found = Findings.model_validate_json((tmp_path / "joined" / FINDINGS).read_text())
    joined = Made(tmp_path / "joined", found, [])
    assert joined.weights.keys() == alone.weights.keys()
    for name, tensor in alone.weights.items():
        torch.testing.assert_close(joined.weights[name], tensor, atol=1e-4, rtol=1e-2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("variant", ["ft", "bmp25:block=8+kd", "outside"])
def test_two_gpus_make_what_one_makes(bench: Bench, tmp_path: Path, variant: str) -> None:
    one, two = (bench.run(variant, count, tmp_path / str(count), device="cuda") for count in (1, 2))
    assert two.steps == one.steps
    assert "trained by 2 processes, 4 rows each a step" in two.found.notes
    for name, tensor in one.weights.items():
        torch.testing.assert_close(two.weights[name], tensor, atol=1e-4, rtol=1e-2)
