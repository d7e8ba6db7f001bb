"""What the fork server imports before it forks workers: slow to import, and run by none of them twice."""

# ruff: noqa: E402
import signal

# Ctrl-C reaches all that runs in the terminal: the command sees to the others, also while this imports.
before = signal.signal(signal.SIGINT, signal.SIG_IGN)

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# torchao, which transformers imports where it is installed, warns of its kernels for other machines.
for name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(name).setLevel(logging.ERROR)

import torch
from torch.utils._triton import has_triton


@contextmanager
def gpus_unseen() -> Iterator[None]:
    """As if there were no GPU: a process that has asked CUDA for one can fork none that uses it.

    torchao, which transformers imports where it is installed, asks as it is imported.
    """
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    count = getattr(torch._C, "_cuda_getDeviceCount", None)
    if count is None:  # torch without CUDA
        yield
        return
    torch._C._cuda_getDeviceCount = lambda: 0
    try:
        yield
    finally:
        torch._C._cuda_getDeviceCount = count
        has_triton.cache_clear()


with gpus_unseen():
    import accelerate  # noqa: F401
    import transformers.models.auto.modeling_auto
    import transformers.trainer
    from tqdm import tqdm

    import bench.steps.compress
    import bench.steps.dense
    import bench.steps.footprint
    import bench.steps.teacher
    import bench.steps.timing  # noqa: F401
    from bench.meters.carbon import load_codecarbon

# Progress bars are for a terminal, and a worker writes a log. The lock that they would make is a semaphore of
# the system's, which a worker that is killed leaves behind.
transformers.utils.logging.disable_progress_bar()
tqdm.set_lock(threading.RLock())
load_codecarbon()
signal.signal(signal.SIGINT, before)
