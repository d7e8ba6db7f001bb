"""One measured quantity, and the catalogue of all quantities the harness reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

JOULES_PER_KWH = 3.6e6

SPEEDUPS = ("speedup", "speedup_same_precision")

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A quantity's fixed part: its unit (SI, spelled out), direction, and what it means."""

    unit: str
    better: Better
    meaning: str


METRICS: dict[str, Metric] = {
    "accuracy": Metric("1", "higher", "share of test rows classified correctly"),
    "accuracy_unseen": Metric("1", "higher", "the same of test rows whose text is not in the training file"),
    "macro_f1": Metric("1", "higher", "unweighted mean of the classes' F1 on the test rows"),
    "calibration_error": Metric("1", "lower", "mean gap of confidence and accuracy, 15 equal bins of rows"),
    "truncated_share": Metric("1", "lower", "share of test rows cut at the greatest length"),
    "throughput": Metric("samples/s", "higher", "rows classified a second at the task's batch size"),
    "latency_b1_p50": Metric("s", "lower", "median time of one request of one row"),
    "latency_b1_p90": Metric("s", "lower", "90th percentile of the time of a one-row request"),
    "latency_b1_p95": Metric("s", "lower", "95th percentile of the time of a one-row request"),
    "latency_b1_p99": Metric("s", "lower", "99th percentile of the time of a one-row request"),
    "latency_b1_p99.9": Metric("s", "lower", "99.9th percentile of the time of a one-row request"),
    "latency_p50": Metric("s", "lower", "median time of one batch at the task's batch size"),
    "latency_p90": Metric("s", "lower", "90th percentile of the time of one such batch"),
    "latency_p95": Metric("s", "lower", "95th percentile of the time of one such batch"),
    "latency_p99": Metric("s", "lower", "99th percentile of the time of one such batch"),
    "latency_p99.9": Metric("s", "lower", "99.9th percentile of the time of one such batch"),
    "load_time": Metric("s", "lower", "time to load the artifact in a process that has torch imported"),
    "first_call_time": Metric("s", "lower", "time of a process's first batch, set-up and compiling included"),
    "compile_time": Metric("s", "lower", "the part of loading and the first batch that went into compiling"),
    "peak_memory_host": Metric("B", "lower", "peak resident memory that loading, compiling and running add"),
    "peak_memory_allocator": Metric("B", "lower", "peak of torch's CUDA allocator"),
    "peak_memory_reserved": Metric("B", "lower", "peak of what torch's CUDA allocator reserved"),
    "peak_memory_device": Metric("B", "lower", "the process's memory on the device, by NVML"),
    "disk_size": Metric("B", "lower", "size of the weights file"),
    "parameters": Metric("1", "lower", "all parameters"),
    "encoder_parameters": Metric("1", "lower", "weights of the projections and feed-forward layers"),
    "pruned_fraction": Metric("1", "higher", "share removed of the encoder weights that were pruned"),
    "encoder_reduction": Metric("1", "higher", "share of encoder weights removed, over dense"),
    "flops_per_sample": Metric("FLOP", "lower", "2 x multiply-adds of one row of mean real length"),
    "compress_wall_time": Metric("s", "lower", "time to make the variant from dense"),
    "training_step_time": Metric("s", "lower", "median time of one optimizer step, the first left out"),
    "training_speedup": Metric("1", "higher", "step time of the training without compression over its own"),
    "inference_wall_time": Metric("s", "lower", "time to classify the test rows once, tokenising excluded"),
    "compress_energy": Metric("J", "lower", "energy to make the variant from dense, net of idle"),
    "compress_energy_gross": Metric("J", "lower", "the same with what the machine draws when idle"),
    "inference_energy_per_sample": Metric("J", "lower", "energy to classify one row, net of idle"),
    "inference_energy_per_sample_gross": Metric("J", "lower", "the same with the idle draw"),
    "break_even": Metric("samples", "lower", "rows after which the energy saved on them repays compressing"),
    "idle_power": Metric("W", "lower", "what was drawn while nothing ran, the model loaded"),
    "compress_co2": Metric("g", "lower", "CO2 equivalent of the compressing energy"),
    "inference_co2_per_sample": Metric("g", "lower", "CO2 equivalent of classifying one row"),
    "speedup": Metric("1", "higher", "time of dense over time of the variant, same rows, same round"),
    "predicted_speedup": Metric("1", "higher", "the speed-up that FLOPs and bytes alone would allow here"),
    "speedup_same_precision": Metric("1", "higher", "the same over dense in its precision and engine"),
}


class Measurement(BaseModel):
    """A value with its unit, 95 % interval, raw samples and origin.

    `samples` are the raw readings the value was derived from, in `unit`; empty where the value is
    exact (a count) or its readings are kept elsewhere (predictions). `estimated` marks a modelled value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    value: float
    unit: str
    better: Better
    ci_low: float | None = None
    ci_high: float | None = None
    samples: tuple[float, ...] = ()
    source: str
    estimated: bool = False

    @model_validator(mode="after")
    def _check_interval(self) -> Self:
        """An interval has both ends, in their order."""
        low, high = self.ci_low, self.ci_high
        if (low is None) != (high is None) or (low is not None and high is not None and low > high):
            raise ValueError(f"{low} to {high} is no interval")
        return self


def measured(
    name: str,
    value: float,
    source: str,
    interval: tuple[float, float] | None = None,
    samples: tuple[float, ...] = (),
    estimated: bool = False,
) -> Measurement:
    """A `Measurement` of the catalogued metric `name`; unit and direction come from the catalogue."""
    metric = METRICS[name]
    low, high = interval if interval else (None, None)
    return Measurement(
        value=value,
        unit=metric.unit,
        better=metric.better,
        ci_low=low,
        ci_high=high,
        samples=samples,
        source=source,
        estimated=estimated,
    )
