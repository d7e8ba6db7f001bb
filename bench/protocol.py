"""How long and how often to measure: one set of numbers per budget, named in every table."""

from __future__ import annotations

from dataclasses import dataclass

from bench.nouns.run import Budget


@dataclass(frozen=True)
class Protocol:
    """The numbers of one budget. Times in seconds; `half_width` is the relative 95 % half-width aimed at.

    `requests` are timed one by one for the percentiles, within `requests_cap_s`: as many as p95 (130),
    p99 (662) or p99.9 (6,636) needs. Loading is timed `loads` times.
    """

    min_rounds: int
    max_rounds: int
    min_time_s: float
    max_time_s: float
    warm_up_calls: int
    warm_up_min_s: float
    warm_up_window_s: float
    warm_up_cap_s: float
    requests: int
    requests_cap_s: float
    loads: int
    energy_window_s: float
    idle_window_s: float
    look_every: int = 10
    half_width_cpu: float = 0.017
    half_width_cuda: float = 0.01
    block_cpu_s: float = 0.020
    block_cuda_s: float = 0.010

    def half_width(self, device: str) -> float:
        """The relative half-width at which measuring stops on `device`."""
        return self.half_width_cpu if device == "cpu" else self.half_width_cuda

    def block_s(self, device: str) -> float:
        """The least time a timed block lasts on `device`."""
        return self.block_cpu_s if device == "cpu" else self.block_cuda_s


PROTOCOL_VERSION = 2

PROTOCOLS: dict[Budget, Protocol] = {
    "quick": Protocol(
        min_rounds=10,
        max_rounds=60,
        min_time_s=1.0,
        max_time_s=2.0,
        warm_up_calls=10,
        warm_up_min_s=0.3,
        warm_up_window_s=0.15,
        warm_up_cap_s=0.8,
        requests=130,
        requests_cap_s=3.0,
        loads=3,
        energy_window_s=1.5,
        idle_window_s=1.0,
    ),
    "standard": Protocol(
        min_rounds=20,
        max_rounds=200,
        min_time_s=10.0,
        max_time_s=120.0,
        warm_up_calls=10,
        warm_up_min_s=3.0,
        warm_up_window_s=1.0,
        warm_up_cap_s=10.0,
        requests=662,
        requests_cap_s=10.0,
        loads=7,
        energy_window_s=10.0,
        idle_window_s=5.0,
    ),
    "thorough": Protocol(
        min_rounds=40,
        max_rounds=400,
        min_time_s=20.0,
        max_time_s=240.0,
        warm_up_calls=10,
        warm_up_min_s=3.0,
        warm_up_window_s=1.0,
        warm_up_cap_s=30.0,
        requests=6636,
        requests_cap_s=120.0,
        loads=11,
        energy_window_s=30.0,
        idle_window_s=10.0,
    ),
}
