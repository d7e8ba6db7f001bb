"""Steps kept by the hash of their inputs: what makes another step, and what is found again."""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bench import environment
from bench.cache import (
    Cache,
    depends_on_machine,
    files_fingerprint,
    fingerprints,
    link_files,
    packages_of,
    step_id,
)
from bench.errors import InputError
from bench.meters.findings import Findings
from bench.nouns.measurement import measured
from bench.nouns.task import Example, Task
from bench.steps.request import Request, StepKind

TOY = Task("toy", "rows", ("a", "b"), train=(Example("x", 0),), validation=(), test=())
BASE: dict[str, Any] = {
    "task": Path("/somewhere/task"),
    "variant": "bmp25+kd",
    "device": "cpu",
    "seed": 0,
    "epochs": 1.0,
    "learning_rate": 1e-3,
    "batch_size": 32,
    "max_length": 64,
    "budget": "quick",
    "plugins": [],
}
PARENTS = {"task": "task-1", "dense": "dense-1"}
CHANGES: dict[str, Any] = {
    "variant": "bmp50+kd",
    "device": "cuda",
    "seed": 1,
    "epochs": 2.0,
    "learning_rate": 1e-4,
    "batch_size": 16,
    "max_length": 128,
    "budget": "standard",
}
MATTERS: dict[StepKind, set[str]] = {
    "dense": {"variant", "device", "seed", "epochs", "learning_rate", "batch_size", "max_length"},
    "compress": {"variant", "device", "seed", "epochs", "learning_rate", "batch_size", "max_length"},
    "teacher": {"device", "batch_size", "max_length"},
    "timing": {"variant", "device", "seed", "batch_size", "max_length", "budget"},
    "footprint": {"variant", "device", "seed", "batch_size", "max_length", "budget"},
}


def request(kind: StepKind = "compress", **changes: Any) -> Request:
    return Request(kind=kind, **(BASE | changes))


def identity(kind: StepKind = "compress", parents: dict[str, str] | None = None, **changes: Any) -> str:
    return step_id(request(kind, **changes), PARENTS if parents is None else parents)


@pytest.mark.parametrize("kind", MATTERS)
@pytest.mark.parametrize("name", CHANGES)
def test_an_input_makes_another_step_where_it_matters(kind: StepKind, name: str) -> None:
    changed = identity(kind, **{name: CHANGES[name]})
    assert (changed != identity(kind)) == (name in MATTERS[kind])
    assert changed.startswith(f"{kind}-")


def test_kinds_never_share_a_step() -> None:
    assert len({identity(kind) for kind in MATTERS}) == len(MATTERS)


def test_parents_make_another_step_their_order_does_not() -> None:
    assert identity(parents={"dense": "dense-1", "task": "task-1"}) == identity()
    assert identity(parents={"task": "task-1", "dense": "dense-2"}) != identity()
    assert identity(parents={"task": "task-1"}) != identity()


@pytest.mark.parametrize("kind", ["compress", "timing", "footprint"])
def test_an_extra_counts_for_what_needs_it_alone(kind: StepKind, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = {"onnx": True, "bmp25+onnx": True, "bmp25": False, "dense": False, "int8": False}
    before = {variant: identity(kind, variant=variant) for variant in variants}
    installed = {"onnxruntime": ["onnxruntime-gpu"], "onnx": ["onnx"]}
    monkeypatch.setattr(environment, "distributions", lambda: installed | {"torchao": ["torchao"]})
    monkeypatch.setattr(
        environment, "version", lambda name: "99" if name == "onnxruntime-gpu" else version(name)
    )
    environment.module_version.cache_clear()
    try:
        after = {variant: identity(kind, variant=variant) for variant in variants}
    finally:
        environment.module_version.cache_clear()
    assert {variant: before[variant] != after[variant] for variant in variants} == variants


def test_an_artifact_that_is_loaded_needs_what_made_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert packages_of(f"load:{tmp_path}") == set()
    document = {"variant": "int8", "dtype": "float32", "parameters": {"int8": {"mode": "dynamic"}}}
    (tmp_path / "variant.json").write_text(json.dumps(document))
    assert packages_of(f"load:{tmp_path}") == {"torchao"}


def test_what_is_measured_depends_on_the_machine() -> None:
    assert depends_on_machine("timing", "dense")
    assert depends_on_machine("footprint", "bmp50")
    assert depends_on_machine("compress", "fisher:speedup=2+kd")
    assert not depends_on_machine("compress", "fisher50+kd")
    assert not depends_on_machine("dense", "dense")


def test_where_things_lie_makes_no_other_step() -> None:
    assert identity(task=Path("/elsewhere/task"), dense=Path("/elsewhere/dense")) == identity()


def test_a_plugin_counts_by_its_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("A = 1")
    other.write_text("A = 1")
    before = identity(plugins=[one])
    assert before != identity()
    assert before == identity(plugins=[other])
    one.write_text("A = 2")
    assert before != identity(plugins=[one])


@pytest.mark.parametrize("variant", ["load:{}", "kd:student={}+mp"])
def test_a_checkpoint_named_in_a_variant_counts_by_its_content(tmp_path: Path, variant: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = identity(variant=variant.format(tmp_path))
    assert before == identity(variant=variant.format(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert before != identity(variant=variant.format(tmp_path))


def test_a_file_named_in_a_variant_counts_by_its_content(tmp_path: Path) -> None:
    corpus = tmp_path / "texts.txt"
    corpus.write_text("one")
    spec = f"kd+vocab:{corpus}"
    before, known = identity(variant=spec), fingerprints(TOY, files=[corpus])
    assert before == identity(variant=spec)
    corpus.write_text("two")
    assert before != identity(variant=spec)
    assert fingerprints(TOY).items() < known.items()
    assert known[f"file {corpus}"] != fingerprints(TOY, files=[corpus])[f"file {corpus}"]


def test_a_checkpoint_counts_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = files_fingerprint(tmp_path)
    moved = shutil.copytree(tmp_path, tmp_path / "copy")
    assert files_fingerprint(moved) == before
    (tmp_path / "README.md").write_text("about")
    assert files_fingerprint(tmp_path) == before
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert files_fingerprint(tmp_path) != before


def worked(cache: Cache, name: str, value: float = 1.0) -> Path:
    """A step's folder with findings and an artifact in it, not yet kept."""
    folder = cache.begin(name, request())
    findings = Findings(metrics={"speedup": measured("speedup", value, "paired")})
    (folder / "findings.json").write_text(findings.model_dump_json())
    (folder / "artifact").mkdir()
    return folder


def test_a_kept_step_is_found_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.find("compress", "compress-1") is None
    kept = cache.keep("compress", "compress-1", worked(cache, "compress-1", 2.5))
    found = cache.find("compress", "compress-1")
    assert found is not None
    assert (kept.cached, found.cached) == (False, True)
    assert found.findings == kept.findings
    assert found.folder == kept.folder
    assert (found.folder / "artifact").is_dir()
    assert [folder.name for folder in cache.root.iterdir()] == ["compress-1"]


def test_an_unfinished_step_is_never_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    worked(cache, "compress-1")
    assert cache.find("compress", "compress-1") is None
    (tmp_path / "compress-2").mkdir()
    assert cache.find("compress", "compress-2") is None
    (tmp_path / "compress-2" / "findings.json").write_text('{"metrics": {"spe')
    assert cache.find("compress", "compress-2") is None


def test_beginning_again_starts_from_an_empty_folder(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    worked(cache, "compress-1")
    folder = cache.begin("compress-1", request(seed=5))
    assert [file.name for file in folder.iterdir()] == ["request.json"]
    assert Request.model_validate_json((folder / "request.json").read_text()).seed == 5


def test_keeping_again_replaces_what_was_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for value in (1.0, 2.0):
        cache.keep("timing", "timing-1", worked(cache, "timing-1", value))
    found = cache.find("timing", "timing-1")
    assert found is not None
    assert found.findings.metrics["speedup"].value == 2.0


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--cache .*file: cannot be written"):
        Cache(tmp_path / "file").begin("compress-1", request())


def tree(folder: Path) -> Path:
    (folder / "parts").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_bytes(b"{}")
    (folder / "parts" / "engine.onnx").write_bytes(b"graph")
    (folder / "parts" / "engine.onnx.data").write_bytes(b"its weights")
    return folder


def test_weights_are_linked_on_one_file_system(tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    for _ in range(2):
        link_files(source, tmp_path / "target")
    assert (tmp_path / "target/model.safetensors").samefile(source / "model.safetensors")
    for engine in ("engine.onnx", "engine.onnx.data"):
        assert (tmp_path / "target/parts" / engine).samefile(source / "parts" / engine)
    copied = tmp_path / "target/config.json"
    assert copied.read_bytes() == (source / "config.json").read_bytes()
    assert not copied.samefile(source / "config.json"), "what a user may edit is not shared"


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second file system: /dev/shm")
def test_files_are_copied_to_another_file_system(tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    target = Path("/dev/shm") / f"bench-test-{os.getpid()}"
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is on the same file system")
    try:
        for _ in range(2):
            link_files(source, target)
        assert (target / "model.safetensors").read_bytes() == b"weights"
        assert (target / "parts" / "engine.onnx").stat().st_nlink == 1
    finally:
        shutil.rmtree(target)
