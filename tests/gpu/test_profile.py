"""What only a CUDA device can show of a profile: kernels, launches, and how long the device was busy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.meters.ceilings import measure_ceilings, product_rate
from bench.meters.profiler import GRAPH
from bench.meters.weights import relative_cost
from bench.meters.work import count_work
from bench.nouns.profile import Profile
from bench.steps.profile import measure_profile
from bench.steps.request import Request
from compressors import artifact
from compressors.artifact import ARTIFACT, load_model, load_tokenizer
from compressors.variant import parse_variant
from tests.bench.steps.conftest import request_at, silent
from tests.compressors.tiny import padded_batch, tiny

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """A request for a profile of dense on the GPU."""
    return request_at(tmp_path_factory.mktemp("profile"), kind="profile", device="cuda")


def profiled(asked: Request, variant: str, folder: Path) -> Profile:
    place, dense = folder / "made", str((asked.dense or Path()) / ARTIFACT)
    model = load_model(dense, "bfloat16" if "mp" in variant else "float32")
    artifact.save(model, load_tokenizer(dense), parse_variant(variant), place / ARTIFACT)
    request = asked.model_copy(update={"variant": variant, "artifact": place})
    profile = measure_profile(request, folder, silent).profile
    assert profile is not None
    return profile


def test_half_precision_is_faster_than_float32_and_tf32_is_off() -> None:
    found = measure_ceilings("cuda", ["float16", "bfloat16"])
    assert found.matmul["bfloat16"] > 2 * found.matmul["float32"]
    assert found.matmul["float16"] > 2 * found.matmul["float32"]
    assert 1e-7 < found.call < 1e-3
    assert all(copy.rate > 1e10 for copy in found.copies)


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 9), reason="needs float8 products"
)
def test_quantised_products_have_ceilings() -> None:
    assert (product_rate("cuda", "float8_e4m3fn") or 0) > 1e12
    assert (product_rate("cuda", "int8") or 0) > 1e12


@pytest.mark.parametrize("variant", ["dense", "mp"])
def test_an_eager_models_kernels_are_its_modules_and_operators(
    asked: Request, tmp_path: Path, variant: str
) -> None:
    profile = profiled(asked, variant, tmp_path)
    kernels_s = sum(kernel.time for kernel in profile.kernels)
    assert 0 < profile.device_time <= profile.profiled_time  # type: ignore[operator]
    assert profile.device_time == pytest.approx(kernels_s, rel=0.1)
    assert sum(module.time for module in profile.modules) == pytest.approx(kernels_s, rel=0.05)
    assert sum(operator.time for operator in profile.operators) == pytest.approx(kernels_s, rel=0.05)
    assert profile.calls
    assert profile.calls > 20
    assert profile.launch_time == max(profile.time - profile.device_time, 0.0)  # type: ignore[operator]
    assert all(module.time > 0 for module in profile.modules)


def test_int8_layers_products_are_counted_in_int8() -> None:
    quantisation = pytest.importorskip("torchao.quantization")
    model = tiny().to("cuda")
    kind = quantisation.Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    quantisation.quantize_(model.base_model, kind)
    batch = {name: tensor.to("cuda") for name, tensor in padded_batch(32, 16).items()}
    work = count_work(model, [batch])
    assert work.unknown == set()
    assert work.dtypes[0] == "int8"


def test_a_products_time_is_that_of_its_kernel() -> None:
    assert relative_cost("cuda", "bfloat16", 64, 256, 256, 256) == pytest.approx(1, rel=0.2)


def test_attention_without_padding_in_half_precision_is_counted(asked: Request, tmp_path: Path) -> None:
    profile = profiled(asked, "unpadded+mp", tmp_path)
    assert profile.flops
    counted = {operator.name: operator.flops or 0 for operator in profile.operators}
    assert counted["torch_attn::_varlen_attn"] > 0


def test_a_graph_is_few_launches_of_many_kernels(asked: Request, tmp_path: Path) -> None:
    profile = profiled(asked, "graphs", tmp_path)
    (tmp_path / "eager").mkdir()
    eager = profiled(asked, "dense", tmp_path / "eager")
    assert profile.calls
    assert eager.calls
    assert profile.calls < eager.calls / 2
    assert GRAPH in {operator.name for operator in profile.operators}
    assert profile.recompile_time == 0.0
    assert profile.modules == []
    assert profile.flops
