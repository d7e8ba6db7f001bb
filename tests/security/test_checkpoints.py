"""Hostile checkpoints: nothing of them is run or unpickled, and nothing is written where they say."""

from __future__ import annotations

import ast
import csv
import io
import json
import pickle
import pickletools
import runpy
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

import compressors
from bench.errors import InputError
from bench.folder import read_run
from compressors import artifact
from compressors.inspection import check_checkpoint
from compressors.variant import parse_variant
from tests.commands import Finished, bench
from tests.compressors.tiny import LABELS, TOY_ROWS, same_names, tiny

ROOT = Path(__file__).parents[2]
PACKAGES = ("bench", "compressors", "reports")
ASKED = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--device", "cpu")
PICKLED = ("pytorch_model.bin", "training_args.bin", "optimizer.pt")
CODE = ("modeling_evil.py", "tokenization_evil.py")

MODULES_THAT_UNPICKLE = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS_THAT_RUN = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path", "runpy.run_module"),
    *("torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle"),
    *("torch.hub.load", "torch.package.PackageImporter", "numpy.load", "np.load", "exec_module"),
}
# (file, call): why it is there all the same.
JUSTIFIED = {
    ("compressors/registry.py", "exec_module"): "runs the files that the user names by --plugin",
}
MODEL_LOADERS = {"from_pretrained", "from_config"}
# torchao's settings, which a configuration names by class, from transformers' own list of them.
NO_MODELS = {"AutoHfQuantizer.from_config"}


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def set_traps(folder: Path, sprung: Path) -> None:
    """Put pickles and code into a checkpoint that make files beside `sprung`, and names that lead to them."""
    for name in PICKLED:
        (folder / name).write_bytes(pickle.dumps(Trap(sprung / name)))
    for name in CODE:
        (folder / name).write_text(f"open({str(sprung / name)!r}, 'w').close()\nclass Evil: ...\n")
    change(
        folder / "config.json",
        auto_map={
            "AutoConfig": "modeling_evil.Evil",
            "AutoModelForSequenceClassification": "modeling_evil.Evil",
        },
        custom_pipelines={"text-classification": {"impl": "modeling_evil.Evil"}},
    )
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_evil.Evil", None]})
    change(folder / "variant.json", variant="../../../escaped", bench_plugin="modeling_evil.py")


def change(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Finished:
    """A run that reads a checkpoint full of traps wherever it reads one, and one that cannot be loaded."""
    cwd = tmp_path_factory.mktemp("attacked")
    with (cwd / "rows.csv").open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("text", "label"))
        writer.writerows((f"{text} {number}", label) for number, (text, label) in enumerate(TOY_ROWS))
    (cwd / "sprung").mkdir()
    artifact.save(tiny(), tokenizer, parse_variant("dense"), cwd / "evil")
    set_traps(cwd / "evil", cwd / "sprung")
    artifact.save(tiny(), tokenizer, parse_variant("dense"), cwd / "lying")
    change(cwd / "lying" / "config.json", intermediate_size=128)
    asked = ("--model", "evil", "--no-finetune", "--variants", "load:evil,load:lying,kd:student=evil")
    process = bench("run", *ASKED, *asked, "--out", "run", cwd=cwd)
    return Finished(cwd, cwd / "run", process)


def test_the_traps_spring_when_they_are_touched(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    artifact.save(tiny(), tokenizer, parse_variant("dense"), tmp_path / "evil")
    set_traps(tmp_path / "evil", tmp_path)
    for name in PICKLED:
        pickle.loads((tmp_path / "evil" / name).read_bytes())
    for name in CODE:
        runpy.run_path(str(tmp_path / "evil" / name))
    assert all((tmp_path / name).exists() for name in (*PICKLED, *CODE))


def test_loading_a_hostile_checkpoint_runs_nothing_of_it(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    (tmp_path / "sprung").mkdir()
    folder = tmp_path / "some" / "way" / "down" / "evil"
    artifact.save(tiny(), tokenizer, parse_variant("dense"), folder)
    set_traps(folder, tmp_path / "sprung")
    check_checkpoint(str(folder))
    compressors.load(folder)
    artifact.skeleton(folder)
    artifact.load_model(str(folder))
    loaded = artifact.load_tokenizer(str(folder))
    artifact.load_classifier(str(folder), LABELS, loaded, same_names, [])
    assert not list((tmp_path / "sprung").iterdir())
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.slow
def test_a_run_on_a_hostile_checkpoint_runs_nothing_of_it(attacked: Finished) -> None:
    status = {result.variant: result.status for result in attacked.document.results}
    done = ("dense", "load:evil", "kd:student=evil")
    assert [status[name] for name in done] == ["ok"] * 3, attacked.process.stdout
    assert not list((attacked.cwd / "sprung").iterdir())


@pytest.mark.slow
def test_a_checkpoint_that_only_loading_shows_to_lie_is_that_rows_failure(attacked: Finished) -> None:
    result = attacked.document.result("load:lying")
    assert result is not None
    assert result.status == "failed"
    assert "lying: its weights lack bert.encoder.layer.0.intermediate.dense" in (result.reason or "")


@pytest.mark.slow
def test_the_name_that_a_hostile_artifact_gives_itself_is_no_path(attacked: Finished) -> None:
    assert {path.name for path in attacked.cwd.iterdir()} == {
        *("rows.csv", "evil", "lying", "sprung", "run", ".bench")
    }
    assert not list(attacked.cwd.parent.rglob("*escaped*"))


@pytest.mark.slow
def test_an_export_of_a_hostile_checkpoint_holds_no_code(attacked: Finished) -> None:
    done = bench("export", "run", "load:evil", attacked.cwd / "exported", cwd=attacked.cwd)
    assert done.returncode == 0, done.stderr
    files = {file.name for file in (attacked.cwd / "exported").iterdir()}
    assert not files & {*PICKLED, *CODE}
    config = json.loads((attacked.cwd / "exported" / "config.json").read_text())
    assert "auto_map" not in config
    tokenizer_config = (attacked.cwd / "exported" / "tokenizer_config.json").read_text()
    shutil.rmtree(attacked.cwd / "exported")
    assert "evil" not in tokenizer_config
    for name in ("config.json", "tokenizer_config.json"):
        assert "evil" not in (attacked.folder / "artifacts" / "dense" / name).read_text()
    assert not list((attacked.cwd / "sprung").iterdir())


@pytest.mark.slow
def test_a_gate_between_hostile_artifacts_runs_nothing_of_them(attacked: Finished) -> None:
    gate = ("--test", "rows.csv", "--quick", "--device", "cpu", "--fail-on", "accuracy:50pt")
    done = bench("gate", "evil", "lying", *gate, "--out", "gated", cwd=attacked.cwd)
    status = {result.variant: result.status for result in read_run(attacked.cwd / "gated").results}
    shutil.rmtree(attacked.cwd / "gated")
    assert status == {"dense": "ok", "load:lying": "failed"}, done.stderr
    assert not list((attacked.cwd / "sprung").iterdir())


@pytest.mark.slow
def test_nothing_that_a_run_writes_is_a_pickle(attacked: Finished) -> None:
    folders = (attacked.cwd / "run", attacked.cwd / ".bench")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 20
    assert [file for file in files if is_pickle(file.read_bytes())] == []


def is_pickle(data: bytes) -> bool:
    """Whether Python's pickle reader would take it, from its start to its end, or a member of a zip of it."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            return any(is_pickle(opened.read(name)) for name in opened.namelist())
    if data.startswith(np.lib.format.MAGIC_PREFIX):
        return b"'|O'" in data[:128]
    if not data.startswith(b"\x80"):
        return False
    try:
        return bool(list(pickletools.genops(data)))
    except Exception:  # not one of its own: whatever its bytes mislead it to
        return False


def test_pickles_are_told_from_other_files(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(2)}, tmp_path / "saved.pt")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "objects.npz", one=np.array([{}], dtype=object))
    (tmp_path / "plain").write_bytes(pickle.dumps([1]))
    assert all(is_pickle(file.read_bytes()) for file in tmp_path.iterdir())
    np.savez(tmp_path / "numbers.npz", one=np.zeros(3))
    for innocent in (b"", b"{}", b"\x80abc", (tmp_path / "numbers.npz").read_bytes()):
        assert not is_pickle(innocent)


@pytest.mark.parametrize("location", ["../secret", "../../secret", "{}/secret"])
def test_an_onnx_file_cannot_bring_in_files_from_elsewhere(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, location: str
) -> None:
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "runs" / "made"
    artifact.save(tiny(), tokenizer, parse_variant("onnx"), folder)
    for place in (tmp_path, tmp_path / "runs"):
        np.ones(3, np.float32).tofile(place / "secret")
    weight = onnx.TensorProto(name="w", data_type=1, dims=[3], data_location=onnx.TensorProto.EXTERNAL)
    external = {"location": location.format(tmp_path), "offset": "0", "length": "12"}
    for key, value in external.items():
        weight.external_data.add(key=key, value=value)
    given = onnx.helper.make_tensor_value_info("input_ids", 1, [3])
    logits = onnx.helper.make_tensor_value_info("logits", 1, [3])
    node = onnx.helper.make_node("Add", ["input_ids", "w"], ["logits"])
    graph = onnx.helper.make_graph([node], "graph", [given], [logits], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"model\.onnx: cannot be run by ONNX Runtime") as raised:
        compressors.load(folder)
    assert len(str(raised.value).splitlines()) == 1


# Our own sources


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text(encoding="utf-8"))


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call with what is called, as it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def given(call: ast.Call) -> dict[str | None, object]:
    """The named arguments of a call that are constants."""
    pairs = ((keyword.arg, keyword.value) for keyword in call.keywords)
    return {name: value.value for name, value in pairs if isinstance(value, ast.Constant)}


def imported(tree: ast.Module) -> set[str]:
    """The top modules that are imported anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def what_runs(tree: ast.Module) -> set[str]:
    """The calls in it that run or unpickle what they are given."""
    found = set()
    for name, call in calls(tree):
        last = name.rpartition(".")[2]
        if name in CALLS_THAT_RUN or last == "exec_module" or given(call).get("shell"):
            found.add(last if last == "exec_module" else name)
        if given(call).get("allow_pickle") or given(call).get("weights_only") is False:
            found.add(name)
    return found


def loads_without_refusing(tree: ast.Module) -> set[str]:
    """The calls in it that load a model, a configuration or a tokenizer and do not say: none of its code."""
    found = set()
    for name, call in calls(tree):
        owner, _, method = name.rpartition(".")
        if method not in MODEL_LOADERS or not owner or name in NO_MODELS:
            continue
        weights = "Model" in owner and method == "from_pretrained"
        if given(call).get("trust_remote_code") is not False:
            found.add(name)
        if weights and given(call).get("use_safetensors") is not True:
            found.add(name)
    return found


def test_our_sources_unpickle_and_evaluate_nothing() -> None:
    found = {(file, name) for file, tree in sources() for name in what_runs(tree)}
    assert found == JUSTIFIED.keys()
    assert not {(file, name) for file, tree in sources() for name in imported(tree) & MODULES_THAT_UNPICKLE}


def test_our_sources_never_trust_the_code_of_a_checkpoint() -> None:
    assert not {(file, name) for file, tree in sources() for name in loads_without_refusing(tree)}
    loading = [name for _, tree in sources() for name, _ in calls(tree) if name.endswith(".from_pretrained")]
    assert len(loading) >= 4


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(file)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "numpy.fromfile(file, allow_pickle=True)",
        "safe.load(file, weights_only=False)",
        "spec.loader.exec_module(module)",
    ],
)
def test_what_runs_is_found(line: str) -> None:
    assert what_runs(ast.parse(line))


@pytest.mark.parametrize(
    "line",
    [
        "AutoConfig.from_pretrained(folder)",
        "AutoConfig.from_pretrained(folder, trust_remote_code=True)",
        "AutoModel.from_pretrained(folder, trust_remote_code=False)",
        "AutoModel.from_config(config)",
    ],
)
def test_what_would_trust_is_found(line: str) -> None:
    assert loads_without_refusing(ast.parse(line))
