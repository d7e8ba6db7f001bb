"""What the fork server imports before it forks workers: slow to import, and run by none of them twice."""

import accelerate  # noqa: F401
import torch  # noqa: F401
import transformers.models.auto.modeling_auto
import transformers.trainer  # noqa: F401

import bench.steps.compress
import bench.steps.dense
import bench.steps.footprint
import bench.steps.teacher
import bench.steps.timing  # noqa: F401
from bench.meters.carbon import load_codecarbon

load_codecarbon()
