"""What the fork server imports before it forks workers: slow to import, and run by none of them twice."""

# ruff: noqa: E402
import signal

# Ctrl-C reaches all that runs in the terminal: the command sees to the others, also while this imports.
before = signal.signal(signal.SIGINT, signal.SIG_IGN)

import logging
import threading

# torchao, which transformers imports where it is installed, warns of its kernels for other machines.
for name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(name).setLevel(logging.ERROR)

import accelerate  # noqa: F401
import torch  # noqa: F401
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
