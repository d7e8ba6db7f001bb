"""torch.compile: the same answers, compiled once for every length, and how long that took."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._inductor import config as inductor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import compressors
from bench.errors import InputError, Refusal
from compressors import artifact
from compressors.engines import Compiled
from compressors.variant import check, parse_variant
from tests.compressors.tiny import context_of, logits, padded_batch, tiny

# torch's compiler uses what torch itself deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SIZES = [(5, 12), (3, 7), (8, 30), (12, 12)]


@pytest.fixture(scope="module", autouse=True)
def compiler_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where torch's compiler keeps what it makes, so that nothing is left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture(scope="module")
def compiled(tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    """A reloaded artifact: compiling takes seconds, so it serves all tests."""
    folder = tmp_path_factory.mktemp("compiled")
    artifact.save(tiny(layers=1), tokenizer, parse_variant("compile"), folder / "artifact")
    return compressors.load(folder / "artifact")


def test_loading_compiles_nothing(compiled: PreTrainedModel) -> None:
    assert compiled.compile_time_s == 0
    assert compiled.config.id2label == tiny().config.id2label
    assert compiled.dtype == torch.float32


@pytest.mark.parametrize(("records", "calls"), [(True, [3, 1, 3, 1]), (False, [1, 1, 1, 1])])
def test_where_cuda_graphs_are_recorded_each_shape_is_when_it_comes(records: bool, calls: list[int]) -> None:
    """torch records a shape the second time it comes, which would fall into what is timed."""
    engine, model, called = Compiled(tiny(), "reduce-overhead"), tiny(), list[object]()
    assert not engine.records
    engine.records, engine.model = records, model
    model.register_forward_pre_hook(lambda module, _: called.append(module))
    counts = []
    for rows, width in [(4, 9), (4, 9), (1, 9), (1, 9)]:
        before, before_s = len(called), engine.compile_time_s
        batch = padded_batch(rows, width)
        logits(engine, batch)
        counts.append(len(called) - before)
        assert (engine.compile_time_s > before_s) == (counts[-1] > 1)
    assert counts == calls


def test_one_compilation_serves_every_number_of_rows_and_tokens(compiled: PreTrainedModel) -> None:
    model = tiny(layers=1)
    logits(compiled, padded_batch(4, 9))
    compile_time_s = compiled.compile_time_s
    assert compile_time_s > 0
    for rows, width in SIZES:
        batch = padded_batch(rows, width)
        torch.testing.assert_close(logits(compiled, batch), logits(model, batch), atol=1e-4, rtol=1e-4)
    assert compiled.compile_time_s == compile_time_s
    single = padded_batch(1, 9)
    torch.testing.assert_close(logits(compiled, single), logits(model, single), atol=1e-4, rtol=1e-4)
    assert compiled.compile_time_s > compile_time_s
    compile_time_s = compiled.compile_time_s
    for width in (3, 30):
        logits(compiled, padded_batch(1, width))
    assert compiled.compile_time_s == compile_time_s


def test_beyond_the_limit_it_fails_rather_than_run_eagerly(
    compiled: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits(compiled, padded_batch(4, 9))
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 1)
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit), torch.no_grad():
        compiled(**padded_batch(4, 1))


def test_without_a_compiler_the_row_is_skipped(tokenizer: PreTrainedTokenizerBase) -> None:
    [part] = parse_variant("compile").parts
    part.prepare(tiny(), context_of(tiny(), tokenizer))
    reason = r"C\+\+ compiler, and none was found: apt-get install g\+\+"
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}), pytest.raises(Refusal, match=reason):
        part.prepare(tiny(), context_of(tiny(), tokenizer))


def test_without_pythons_headers_the_row_is_skipped(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(Refusal, match=r"headers, not in .*: apt-get install python3-dev"):
        parse_variant("compile").parts[0].prepare(tiny(), context_of(tiny(), tokenizer))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("compile:fast", "mode=fast is unknown; use default, reduce-overhead or max-autotune"),
        ("compile:reduce-overhead", "needs a CUDA device; use default on cpu"),
        ("compile+graphs", "a model is run by one engine"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_made(spec: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        check(parse_variant(spec), "cpu")
