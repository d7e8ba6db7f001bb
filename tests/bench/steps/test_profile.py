"""A profile of a step's artifact: what is always in it, and what is said where something cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.encoding import Batch
from bench.meters import work
from bench.meters.findings import Findings
from bench.meters.subject import Subject, load_subject
from bench.nouns.profile import Ceilings, Copy, Profile
from bench.steps import profile as step
from bench.steps.profile import measure_profile
from bench.steps.request import Request
from bench.worker import TRACE
from compressors import artifact, engines
from compressors.artifact import ARTIFACT, load_model, load_tokenizer
from compressors.variant import parse_variant
from tests.bench.meters.conftest import ROWS, save_tiny
from tests.bench.steps.conftest import silent

FIXED = Ceilings(
    matmul={"float32": 1e11, "bfloat16": 2e11},
    copies=[Copy(size=2**16, rate=8e10), Copy(size=2**26, rate=1e10)],
    call=1e-6,
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of known ceilings, profiled for a moment."""
    monkeypatch.setattr(step, "measure_ceilings", lambda device, dtypes: FIXED)
    monkeypatch.setattr(step, "PROFILED_FLOPS", {"cpu": 1.0})


def measured_of(asked: Request, variant: str, folder: Path, **changes: object) -> tuple[Findings, Profile]:
    """The findings of profiling the tiny model as `variant`, and the profile in them."""
    place = folder / "made"
    save_tiny(place / ARTIFACT, variant=variant)
    changes |= {"kind": "profile", "variant": variant, "artifact": place}
    findings = measure_profile(asked.model_copy(update=changes), folder, silent)
    assert findings.profile is not None
    return findings, findings.profile


def test_dense_is_profiled(asked: Request, tmp_path: Path) -> None:
    findings, profile = measured_of(asked, "dense", tmp_path)
    assert findings.metrics == {}
    assert findings.unavailable == {"predicted_speedup": "this is dense"}
    assert profile.batch_size == 16
    assert profile.batches == 3
    assert profile.dtype == "float32"
    assert profile.bound == profile.dense_bound
    assert profile.device_time is None
    assert 0 <= (profile.launch_time or 0) <= profile.time
    assert profile.zero_share == 0.0
    assert profile.unavailable.keys() <= {"recompile_time", "kernels"}
    assert sum(portion.time for portion in profile.operators) <= profile.profiled_time
    for portions in (profile.modules, profile.operators):
        assert [portion.time for portion in portions[:5]] == sorted(
            (portion.time for portion in portions[:5]), reverse=True
        )
        assert sum(portion.flops or 0 for portion in portions) == pytest.approx(profile.flops)
        assert sum(portion.bound or 0 for portion in portions) == pytest.approx(profile.bound)
        assert sum(portion.flops_bound or 0 for portion in portions) == pytest.approx(profile.flops_bound)
        assert sum(portion.bytes_bound or 0 for portion in portions) == pytest.approx(profile.bytes_bound)
    assert profile.trace == TRACE
    assert (tmp_path / TRACE).stat().st_size > 0
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


def test_a_row_at_a_time(asked: Request, tmp_path: Path) -> None:
    _, profile = measured_of(asked, "dense", tmp_path, batch_size=1)
    assert profile.batch_size == 1
    assert profile.tokens < 10
    assert profile.calls
    assert profile.calls > 10


def test_variants_are_profiled_on_the_rows_that_dense_is(
    asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much less work they do: one layer does half of two layers'."""
    monkeypatch.setattr(step, "PROFILED_FLOPS", {"cpu": 7e6})
    _, dense = measured_of(asked, "dense", tmp_path, batch_size=4)
    small = load_model(str((asked.dense or Path()) / ARTIFACT))
    small.bert.encoder.layer = small.bert.encoder.layer[:1]
    small.config.num_hidden_layers = 1
    place, tokenizer = tmp_path / "small", load_tokenizer(str((asked.dense or Path()) / ARTIFACT))
    artifact.save(small, tokenizer, parse_variant("ft"), place / ARTIFACT)
    changes = {"kind": "profile", "variant": "ft", "artifact": place, "batch_size": 4}
    profile = measure_profile(asked.model_copy(update=changes), tmp_path, silent).profile
    assert profile
    assert step.LEAST_BATCHES < dense.batches < len(ROWS) // 4
    assert (profile.batches, profile.tokens) == (dense.batches, dense.tokens)
    assert profile.dense_bound == dense.bound
    assert (profile.flops or 0) < (dense.flops or 0)


@pytest.mark.parametrize("length", [2, 3, 4, 9])
def test_the_smallest_batch_is_one_short_row_with_its_last_token(length: int, asked: Request) -> None:
    subject = load_subject("dense", (asked.dense or Path()) / ARTIFACT, ROWS, 32, "cpu")
    row = {"input_ids": list(range(length)), "attention_mask": [1] * length}
    subject.rows = [{"input_ids": list(range(20)), "attention_mask": [1] * 20}, row]
    batch = step.smallest(subject)
    kept = [*range(min(length - 1, 3)), length - 1]
    assert batch["input_ids"].tolist() == [kept]
    assert batch["attention_mask"].tolist() == [[1] * len(kept)]


@given(st.floats(1e-6, 10), st.floats(0, 10), st.floats(0, 10))
def test_launching_takes_no_longer_than_the_batch(time_s: float, smallest_s: float, bound_s: float) -> None:
    launch_s = step.launch_time_s(time_s, smallest_s, bound_s)
    assert 0 <= launch_s <= min(time_s, smallest_s)
    assert step.launch_time_s(time_s, smallest_s, bound_s + 1) <= launch_s


def test_launching_is_what_the_smallest_batch_takes_beyond_its_work() -> None:
    assert step.launch_time_s(time_s=0.02, smallest_s=0.005, smallest_bound_s=0.001) == pytest.approx(0.002)
    assert step.launch_time_s(time_s=0.02, smallest_s=0.005, smallest_bound_s=0.004) == 0


def test_only_the_smallest_batch_tells_what_launching_takes(
    asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock by which each batch takes a second for each of its tokens."""

    def by_tokens(subject: Subject, blocks: Sequence[Sequence[Batch]]) -> list[float]:
        return [float(sum(batch["input_ids"].numel() for batch in block)) for block in blocks]

    monkeypatch.setattr(step, "block_times_s", by_tokens)
    _, profile = measured_of(asked, "dense", tmp_path)
    assert profile.time == pytest.approx(profile.tokens)
    assert profile.launch_time == pytest.approx(step.FEW_TOKENS, abs=1e-3)


def test_where_work_is_not_known_neither_are_precision_widths_and_launching(
    asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "flop_registry", {})
    _, profile = measured_of(asked, "dense", tmp_path)
    assert profile.launch_time is profile.calls is profile.flops_bound is None
    assert profile.dtype is None
    assert profile.widths == []
    for field in ("dtype", "launch_time", "calls", "widths", "flops", "flops_bound"):
        assert "aten::addmm" in profile.unavailable[field]
    assert profile.operators


@pytest.mark.parametrize("variant", ["sorted", "unpadded"])
def test_less_padding_is_less_work_than_denses(asked: Request, tmp_path: Path, variant: str) -> None:
    findings, profile = measured_of(asked, variant, tmp_path)
    assert 0 <= (profile.launch_time or 0) <= profile.time
    assert profile.launch_time is not None
    predicted = findings.metrics["predicted_speedup"]
    assert predicted.estimated
    assert predicted.value == profile.dense_bound / profile.bound  # type: ignore[operator]
    assert predicted.value > 1


def test_a_model_in_another_precision_has_the_ceiling_of_that(asked: Request, tmp_path: Path) -> None:
    dense = str((asked.dense or Path()) / ARTIFACT)
    place = tmp_path / "made"
    model = load_model(dense).to(torch.bfloat16)
    artifact.save(model, load_tokenizer(dense), parse_variant("mp"), place / ARTIFACT)
    request = asked.model_copy(update={"kind": "profile", "variant": "mp", "artifact": place})
    findings = measure_profile(request, tmp_path, silent)
    assert findings.profile is not None
    assert findings.profile.dtype == "bfloat16"
    assert findings.metrics["predicted_speedup"].value > 1


def test_a_compiled_models_modules_are_not_seen_and_nothing_is_compiled_again(
    asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled by dynamo as in a run, but run as it was traced: generating code takes long."""
    compile_ = partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", lambda model, mode, **how: compile_(model, **how))
    findings, profile = measured_of(asked, "compile", tmp_path)
    assert profile.modules == []
    assert "torch.compile" in profile.unavailable["modules"]
    assert profile.operators
    assert profile.flops
    assert profile.launch_time is profile.calls is None
    assert "torch.compile" in profile.unavailable["launch_time"]
    # These are other operators than those whose work is counted.
    assert {operator.flops for operator in profile.operators} == {None}
    assert profile.recompile_time == 0.0
    # What is fused is neither read nor written, so the eager model's bytes would be told as traffic.
    assert profile.flops_bound
    assert profile.bytes is profile.bytes_bound is profile.bound is None
    for why in (profile.unavailable["bytes"], findings.unavailable["predicted_speedup"]):
        assert why == "torch.compile fuses operators, and what is then read and written is not known"


def test_of_what_torch_cannot_see_only_times_are_told(
    asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Opaque(engines.Engine):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__(model)
            self.run = model

        def forward(self, **batch: torch.Tensor) -> object:
            return self.run(**batch)

    def load_opaque(name: str, *how: object) -> object:
        subject = load_subject(name, *how)  # type: ignore[arg-type]
        subject.model = subject.model if name == "dense" else Opaque(subject.model)
        return subject

    monkeypatch.setattr(step, "load_subject", load_opaque)
    findings, profile = measured_of(asked, "ft", tmp_path)
    assert profile.time > 0
    assert profile.modules == []
    assert profile.operators == []
    assert profile.calls is profile.flops is profile.bytes is profile.bound is None
    assert profile.launch_time is None
    assert profile.dtype is None
    empty = {"modules", "operators", "flops", "bytes", "bound", "dtype", "launch_time", "widths"}
    assert profile.unavailable.keys() >= empty
    assert findings.unavailable["predicted_speedup"] == profile.unavailable["bound"]
    assert profile.dense_bound
