"""Steps kept by the hash of their inputs: what makes another step, and what is found again."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bench import environment
from bench.cache import (
    Cache,
    code_fingerprint,
    depends_on_machine,
    files_fingerprint,
    fingerprints,
    link_files,
    machine_of,
    packages_of,
    remove,
    step_id,
)
from bench.errors import InputError
from bench.foreign_code import plugins_of
from bench.meters.findings import Findings
from bench.nouns.measurement import measured
from bench.nouns.task import Example, Task
from bench.steps.request import Request, StepKind
from compressors import registry
from compressors.variant import parse_variant
from tests.bench.meters.documents import run_of

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
    "train_processes": 2,
}
TRAINING = {
    "variant",
    "device",
    "seed",
    "epochs",
    "learning_rate",
    "batch_size",
    "max_length",
    "train_processes",
}
MATTERS: dict[StepKind, set[str]] = {
    "dense": TRAINING,
    "compress": TRAINING,
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


def test_a_parameter_makes_another_step_its_default_spelled_out_does_not() -> None:
    assert identity(variant="bmp:amount=0.25,block=16") != identity(variant="bmp25")
    assert identity(variant=parse_variant("bmp:amount=0.25").name) == identity(variant="bmp25")


@pytest.mark.parametrize("kind", ["dense", "compress", "timing"])
def test_another_version_of_a_library_or_of_python_makes_other_steps(
    kind: StepKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identities() -> tuple[str, str]:
        code_fingerprint.cache_clear()
        return identity(kind), fingerprints(TOY)["code"]

    before = identities()
    try:
        with monkeypatch.context() as patch:
            patch.setattr("bench.cache.version", lambda name: "99" if name == "torch" else version(name))
            later_torch = identities()
        with monkeypatch.context() as patch:
            patch.setattr(platform, "python_version", lambda: "3.99.0")
            later_python = identities()
        assert identities() == before
    finally:
        code_fingerprint.cache_clear()
    for place in range(2):
        assert len({before[place], later_torch[place], later_python[place]}) == 3


def test_a_changed_row_is_another_task() -> None:
    other = replace(TOY, train=(Example("y", 0),))
    known, changed = fingerprints(TOY), fingerprints(other)
    assert {name for name in known if known[name] != changed[name]} == {"rows"}


@pytest.fixture
def techniques(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test makes known is forgotten after it."""
    monkeypatch.setattr(registry, "_classes", {})
    monkeypatch.setattr(registry, "_plugins", set())
    yield
    for name in [name for name in sys.modules if name.startswith((registry.PLUGIN, "acme_", "helper_of_"))]:
        del sys.modules[name]


def technique(name: str, factor: str = "1", imports: str = "") -> str:
    """A file that defines a technique."""
    return f"""
from dataclasses import dataclass
from compressors import Compressor, Phase
{imports}

@dataclass
class Scales(Compressor):
    name = "{name}"
    phase = Phase.PRECISION
    summary = "scales"
    trains = False

    def finish(self, model, context):
        return model if {factor} else None
"""


@pytest.mark.usefixtures("techniques")
def test_a_plugin_counts_by_its_content_where_it_takes_part(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text(technique("one"))
    other.write_text(technique("other"))
    registry.add_plugins([one, other])
    variants = {"one": True, "bmp25+one": True, "other": False, "dense": False, "mp": False}

    def known() -> tuple[dict[str, str], dict[str, str]]:
        ids = {variant: identity(variant=variant) for variant in variants}
        return ids, fingerprints(TOY, plugins=[one, other])

    before, run_before = known()
    one.write_text(technique("one", "2"))
    after, run_after = known()
    assert {variant: before[variant] != after[variant] for variant in variants} == variants
    assert {name for name in run_before if run_before[name] != run_after[name]} == {"plugin one.py"}
    assert plugins_of("bmp25+one", [one, other]) == [one]
    assert plugins_of("dense", [one, other]) == []


@pytest.mark.usefixtures("techniques")
def test_where_a_plugin_lies_makes_no_other_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for folder in (tmp_path / "here", tmp_path / "there"):
        folder.mkdir()
        (folder / "one.py").write_text(technique("one"))
        monkeypatch.setattr(registry, "_classes", {})
        registry.add_plugins([folder / "one.py"])
        found.append((identity(variant="one"), fingerprints(TOY, plugins=[folder / "one.py"])))
    assert found[0] == found[1]


@pytest.mark.usefixtures("techniques")
def test_what_a_plugin_imported_from_beside_it_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helper_of_one.py").write_text("FACTOR = 1")
    (tmp_path / "nobody_s.py").write_text("FACTOR = 1")
    plugin = tmp_path / "one.py"
    plugin.write_text(technique("one", "FACTOR", "from helper_of_one import FACTOR"))
    registry.add_plugins([plugin])

    def known() -> tuple[str, str]:
        return identity(variant="one"), fingerprints(TOY, plugins=[plugin])["plugin one.py"]

    before = known()
    (tmp_path / "nobody_s.py").write_text("FACTOR = 2")
    assert known() == before
    (tmp_path / "helper_of_one.py").write_text("FACTOR = 2")
    assert not set(known()) & set(before)


@pytest.mark.usefixtures("techniques")
def test_two_plugins_of_one_file_name_both_count(tmp_path: Path) -> None:
    plugins = [tmp_path / "a" / "one.py", tmp_path / "b" / "one.py"]
    for plugin in plugins:
        plugin.parent.mkdir()
        plugin.write_text("A = 1")
    known = [fingerprints(TOY, plugins=plugins)["plugin one.py"]]
    for plugin in plugins:
        plugin.write_text("A = 2")
        known.append(fingerprints(TOY, plugins=plugins)["plugin one.py"])
    assert len(set(known)) == 3


@pytest.mark.usefixtures("techniques")
def test_a_technique_of_an_installed_package_counts_by_its_sources_and_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package, about = tmp_path / "acme_squeeze", tmp_path / "acme_squeeze-1.0.dist-info"
    package.mkdir()
    about.mkdir()
    (package / "__init__.py").write_text("")
    (package / "factors.py").write_text("FACTOR = 1")
    (package / "scales.py").write_text(technique("squeeze", "FACTOR", "from .factors import FACTOR"))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-squeeze\nVersion: 1.0\n")
    (about / "top_level.txt").write_text("acme_squeeze\n")
    (about / "entry_points.txt").write_text("[bench.compressors]\nsqueeze = acme_squeeze.scales:Scales\n")

    def known(variant: str = "squeeze+onnx") -> tuple[str, dict[str, str]]:
        environment.distributions.cache_clear()
        environment.module_version.cache_clear()
        return identity(variant=variant), fingerprints(TOY, variants=["dense", variant, "squeeze"])

    try:
        before, unconcerned = known(), identity(variant="bmp25")
        (package / "factors.py").write_text("FACTOR = 2")
        edited = known()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-squeeze\nVersion: 1.1\n")
        released = known()
        assert identity(variant="bmp25") == unconcerned
    finally:
        environment.distributions.cache_clear()
        environment.module_version.cache_clear()
    assert len({before[0], edited[0], released[0]}) == 3
    values = {run["compressor squeeze"] for _, run in (before, edited, released)}
    assert len(values) == 3
    assert "compressor onnx" not in before[1]


def test_making_depends_on_hardware_and_threads_measuring_on_settings_too() -> None:
    here = run_of().environment
    kinds: tuple[StepKind, ...] = ("dense", "compress", "timing", "footprint")

    def changed(**update: Any) -> set[str]:
        there = here.model_copy(update=update)
        return {kind for kind in kinds if machine_of(kind, "bmp50", here) != machine_of(kind, "bmp50", there)}

    assert changed() == changed(load=9.9) == set()
    assert changed(governor="performance") == {"timing", "footprint"}
    for update in ({"machine_key": "ff"}, {"threads": 7}, {"variables": {"MKL_CBWR": "COMPATIBLE"}}):
        assert changed(**update) == set(kinds)


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
    (folder / "artifact" / "model.safetensors").write_bytes(b"weights")
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


@pytest.mark.parametrize("file", ["findings.json", "files.json", "artifact/model.safetensors"])
@pytest.mark.parametrize("left", [0, 3, None])
def test_a_step_that_lost_a_file_or_part_of_it_is_not_found(
    tmp_path: Path, file: str, left: int | None
) -> None:
    cache = Cache(tmp_path)
    kept = cache.keep("compress", "compress-1", worked(cache, "compress-1"))
    assert cache.find("compress", "compress-1")
    if left is None:
        (kept.folder / file).unlink()
    else:
        os.truncate(kept.folder / file, left)
    assert cache.find("compress", "compress-1") is None
    cache.keep("compress", "compress-1", worked(cache, "compress-1"))
    assert cache.find("compress", "compress-1")


def test_what_was_made_later_does_not_make_a_step_incomplete(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    kept = cache.keep("compress", "compress-1", worked(cache, "compress-1"))
    (kept.folder / "artifact" / "model.onnx").write_bytes(b"graph")
    assert cache.find("compress", "compress-1")


def test_to_find_a_step_is_to_use_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    kept = cache.keep("compress", "compress-1", worked(cache, "compress-1"))
    os.utime(kept.folder, (1e9, 1e9))
    assert cache.find("compress", "compress-1")
    assert kept.folder.stat().st_mtime > 1.7e9


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


def test_a_model_that_another_process_kept_meanwhile_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    ours = worked(cache, "compress-1", 1.0).rename(tmp_path / "ours")
    theirs = cache.keep("compress", "compress-1", worked(cache, "compress-1", 2.0))
    weights = (theirs.folder / "artifact" / "model.safetensors").stat().st_ino
    assert cache.keep("compress", "compress-1", ours).findings.metrics["speedup"].value == 1.0
    assert (theirs.folder / "artifact" / "model.safetensors").stat().st_ino == weights
    assert [folder.name for folder in tmp_path.iterdir()] == ["compress-1"]


KEEPER = """
import sys
from pathlib import Path
from bench.cache import Cache
from bench.meters.findings import Findings

cache, kind = Cache(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for _ in range(100):
    folder = cache.fresh_folder("step")
    (folder / "findings.json").write_text(Findings().model_dump_json())
    cache.keep(kind, "step", folder)
"""


@pytest.mark.parametrize("kind", ["compress", "timing"])
def test_processes_that_keep_the_same_step_at_once_do_not_disturb_each_other(
    tmp_path: Path, kind: StepKind
) -> None:
    words = [sys.executable, "-c", KEEPER, str(tmp_path), kind]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    keepers = [subprocess.Popen(words, text=True, **pipes) for _ in range(2)]
    for keeper in keepers:
        assert keeper.stdout
        assert keeper.stdout.readline() == "ready\n"
    for keeper in keepers:
        assert keeper.stdin
        keeper.stdin.write("go\n")
        keeper.stdin.flush()
    for keeper in keepers:
        _, errors = keeper.communicate(timeout=600)
        assert keeper.returncode == 0, errors
    assert Cache(tmp_path).find(kind, "step")
    assert [folder.name for folder in tmp_path.iterdir()] == ["step"]


def test_a_step_that_is_gone_is_removed_without_complaint(tmp_path: Path) -> None:
    remove(tmp_path / "compress-1")
    assert not list(tmp_path.iterdir())


def test_what_dead_runs_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    """Also where a process has their number again, as the first of a container always has."""
    step, again = "compress-0123456789abcdef", os.getpid()
    dead = {f"{step}.1", f"{step}.{again}", f"{step}.{again}.1.removed"}
    ours = {step, f"{step}.checkpoint", "task-0123456789abcdef-scratch"}
    users = {
        "notes.1",
        "probe.1",
        "backup.1.removed",
        f"{step}.99999999999999999999",
    }
    for name in dead | ours | users:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    with Cache(tmp_path).held(lambda: None):
        assert {folder.name for folder in tmp_path.iterdir()} == ours | users | {".lock"}


def test_nothing_is_cleared_while_anybody_works_there(tmp_path: Path) -> None:
    with Cache(tmp_path).held(lambda: None):
        begun = tmp_path / "compress-0123456789abcdef.1"
        begun.mkdir()
        with Cache(tmp_path).held(lambda: None):
            assert begun.is_dir()
    with Cache(tmp_path).held(lambda: None):
        assert not begun.exists()


def test_a_cache_that_cannot_be_written_is_refused_and_nothing_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--cache .*file: cannot be written"):
        Cache(tmp_path / "file").check(0)
    with pytest.raises(InputError, match="MB needed"):
        Cache(tmp_path / "cache").check(10**18)
    with pytest.raises(InputError, match="cannot be written"):
        Cache(tmp_path / ("x" * 300)).check(0)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


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


def test_what_cannot_be_copied_is_told_with_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By it the command knows the remedy; an error without one would be taken for a bug."""

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left") as raised:
        link_files(tree(tmp_path / "source"), tmp_path / "target")
    assert raised.value.errno == errno.ENOSPC


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
