"""A run whose rows are profiled: dense, pruned ones, an engine without modules, and the same on a GPU."""

from __future__ import annotations

from bench.nouns.measurement import measured
from bench.nouns.profile import Ceilings, Copy, Diagnosis, Portion, Profile
from bench.nouns.run import Run

CEILINGS = Ceilings(
    matmul={"float32": 251e9, "bfloat16": 498e9},
    copies=[Copy(size=65_536, rate=61.2e9), Copy(size=268_435_456, rate=9.13e9)],
    call=2.61e-6,
)
# Shares of a batch's time, of its FLOPs and of its bytes.
Shares = dict[str, tuple[float, float | None, float | None]]
MODULES: Shares = {
    "embeddings": (0.03, 0.0, 0.05),
    "attention": (0.34, 0.31, 0.4),
    "feed-forward": (0.55, 0.68, 0.4),
    "norms": (0.06, 0.005, 0.11),
    "head": (0.01, 0.005, 0.01),
    "other": (0.01, 0.0, 0.01),
}
OPERATORS: Shares = {
    "aten::addmm": (0.71, 0.94, 0.6),
    "aten::_scaled_dot_product_flash_attention_for_cpu": (0.13, 0.06, 0.2),
    "aten::gelu": (0.09, None, 0.1),
    "aten::native_layer_norm": (0.05, None, 0.08),
    "7 others": (0.02, None, None),
}
LAUNCHING = Diagnosis(
    code="launch-bound",
    text="21 % of a batch's 7.4 ms goes into starting 592 operators, 2.6 µs each, at batch size 32",
    figure=0.21,
    unit="1",
    remedy="take a larger --batch-size, or add compile",
)
WIDTHS = Diagnosis(
    code="unfriendly-widths",
    text="layers of 313 columns cost 1.14 times as much a column as 320 would",
    figure=1.14,
    unit="1",
    remedy="prune to bmp50:multiple=16",
)
MEMORY = Diagnosis(
    code="memory-bound",
    text="71 % of the least time goes into moving bytes, 8.1 GB/s of the 9.1 GB/s that a copy reaches",
    figure=0.71,
    unit="1",
    remedy="quantise the weights with int8",
)


def portions(shares: Shares, time: float, flops: float, moved: float) -> list[Portion]:
    """Portions that take these shares of a batch."""
    return [
        Portion(
            name=name,
            time=taken * time,
            calls=12.0 if worked else 1.5,
            flops=None if worked is None else worked * flops,
            bytes=None if read is None else read * moved,
            bound=None
            if worked is None or read is None
            else max(worked * flops / 251e9, read * moved / 9.13e9),
        )
        for name, (taken, worked, read) in shares.items()
    ]


def profile(time: float, work: float, **changes: object) -> Profile:
    """The profile of a batch that takes `time` s and the share `work` of dense's FLOPs and bytes."""
    flops, moved = 9.09e9 * work, 214e6 * work
    found = Profile(
        batch_size=32,
        tokens=1642,
        batches=20,
        dtype="float32",
        time=time,
        profiled_time=1.12 * time,
        calls=592,
        launch_time=592 * 2.6e-6,
        flops=flops,
        bytes=moved,
        bound=flops / 251e9,
        flops_bound=flops / 251e9,
        bytes_bound=moved / 9.13e9,
        dense_bound=9.09e9 / 251e9,
        ceilings=CEILINGS,
        modules=portions(MODULES, 1.1 * time, flops, moved),
        operators=portions(OPERATORS, 1.1 * time, flops, moved),
        kernels=portions({"matmul brg:avx512_core": (0.7, None, None)}, time, flops, moved),
        trace="traces/a b#1.json.gz",
    )
    return found.model_copy(update=changes)


PROFILES = {
    "dense": profile(0.0431, 1.0, trace="traces/dense.json.gz"),
    "bmp25": profile(0.0329, 0.5),
    "bmp25+kd+mp": profile(0.0139, 0.32, dtype="bfloat16"),
    "mp": profile(
        0.0494,
        1.0,
        modules=[],
        operators=[],
        kernels=[],
        flops=None,
        bytes=None,
        bound=None,
        flops_bound=None,
        bytes_bound=None,
        launch_time=None,
        trace=None,
        unavailable={"modules": "torch.compile runs the model as one", "flops": "ONNX hides its products"},
    ),
}
PREDICTED = {"bmp25": 2.0, "bmp25+kd+mp": 3.125}
DIAGNOSES = {"bmp25": [LAUNCHING, WIDTHS, MEMORY], "bmp25+kd+mp": [MEMORY], "mp": [WIDTHS]}


def profiled(run: Run, profiles: dict[str, Profile] | None = None) -> Run:
    """The run with profiles, predictions and diagnoses; `bmp25` has far less than what was predicted."""
    known = PROFILES if profiles is None else profiles
    results = [result.model_copy(deep=True) for result in run.results]
    for result in results:
        result.profile = known.get(result.variant)
        result.diagnoses = DIAGNOSES.get(result.variant, [])
        if result.variant in PREDICTED:
            result.metrics["predicted_speedup"] = measured(
                "predicted_speedup", PREDICTED[result.variant], "bounds", estimated=True
            )
    return run.model_copy(update={"results": results})


def on_gpu(profile: Profile) -> Profile:
    """The profile as a GPU leaves it that is busy for 60 % of the time."""
    kernels = [Portion(name="void at::native::kernel<4, float>" + "x" * 90, time=0.6 * profile.time, calls=9)]
    times = {"device_time": 0.6 * profile.time, "launch_time": 0.4 * profile.time}
    return profile.model_copy(update={**times, "kernels": kernels})
