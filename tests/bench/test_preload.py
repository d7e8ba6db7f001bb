"""What the server that forks workers may not do before it has forked them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Both ways by which torch looks for a GPU tell of it here, as in a build with CUDA.
PROGRAM = """
import torch
import torch._dynamo.device_interface
from torch.utils._triton import has_triton

def asked(*_):
    raise SystemExit("CUDA was asked")

has_triton()
torch._C._cuda_getDeviceCount = torch.cuda._device_count_nvml = torch.cuda._lazy_init = asked
import bench.preload
print("imported", has_triton.cache_info().currsize)
print(torch.cuda.is_available())
"""


@pytest.mark.parametrize("by_nvml", ["0", "1"])
def test_cuda_is_asked_for_nothing_until_a_worker_asks(by_nvml: str) -> None:
    """torchao is among what is imported here; a process whose parent asked could not use a GPU."""
    pytest.importorskip("torchao")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTORCH_NVML_BASED_CUDA_CHECK": by_nvml},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "imported 0\n"
    assert done.stderr.endswith("CUDA was asked\n")
    assert done.returncode == 1
