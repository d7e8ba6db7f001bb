"""What is exported loads where this project is not installed, and answers as what was measured."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import compressors
from bench.errors import InputError
from bench.folder import RunFolder
from bench.nouns.measurement import measured
from bench.nouns.run import Result, Run
from compressors import artifact
from compressors.bmp import BlockMovementPruning
from compressors.variant import parse_variant
from tests.bench.meters.documents import run_of
from tests.commands import bench, command, environment
from tests.compressors.tiny import FAMILIES, LABELS, TOY_ROWS, context_of, logits, padded_batch, tiny
from tests.hub.server import TOKEN, Hub, serve

PRUNED = "bmp50:block=8"
TEXTS = [text for text, _ in TOY_ROWS]


def pruned(tokenizer: PreTrainedTokenizerBase, family: str = "bert") -> PreTrainedModel:
    """A tiny model that lost half of its encoder."""
    model = tiny(family, seed=1)
    part, context = BlockMovementPruning(amount=0.5, block=8), context_of(model, tokenizer, total_steps=100)
    model = part.prepare(model, context)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for score in (score for layer in part._layers for score in layer.scores()):
            score.copy_(torch.randn(score.shape, generator=generator))
    part.on_step(99, context)
    return part.finish(model.eval(), context)


def row(variant: str, seed: int = 0) -> Result:
    """A measured row without an artifact yet."""
    figures = {
        "accuracy": measured("accuracy", 0.9137, "predictions", (0.9073, 0.9196)),
        "macro_f1": measured("macro_f1", 0.9012, "predictions"),
        "compress_energy": measured("compress_energy", 812.0, "codecarbon", estimated=True),
    }
    return Result(variant=variant, seed=seed, status="ok", metrics=figures)


def write_run(
    place: Path, tokenizer: PreTrainedTokenizerBase, models: dict[str, PreTrainedModel], **update: object
) -> Path:
    """A run folder that holds the artifacts of these variants; its document says what `update` does."""
    folder = RunFolder.create(place, 0)
    results: list[Result] = []
    for variant, model in models.items():
        made = place.parent / f"{place.name}-{len(results)}"
        artifact.save(model, tokenizer, parse_variant(variant), made)
        name = folder.add_artifact(variant, made)
        results.append(row(variant).model_copy(update={"artifact": name}))
    folder.write(run_of(*results).model_copy(update=update))
    return place


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A run of dense, of one in half precision, and of one that lost half its encoder."""
    place = tmp_path_factory.mktemp("made") / "run"
    half = tiny(seed=3).to(torch.bfloat16)
    return write_run(place, tokenizer, {"dense": tiny(), "mp": half, PRUNED: pruned(tokenizer)})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """The folder in which `dense`, `mp` and `pruned` were exported from it."""
    place = tmp_path_factory.mktemp("exported")
    for variant, name in (("dense", "dense"), ("mp", "mp"), (PRUNED, "pruned")):
        done = bench("export", run, variant, place / name, cwd=place)
        assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with this one's libraries but without this project.

    The libraries' folder is a path of its own there, so what its `.pth` files name, as an editable
    install's does, is not.
    """
    place = tmp_path_factory.mktemp("elsewhere")
    venv.create(place / "venv", symlinks=True)
    [packages] = (place / "venv" / "lib").glob("python*/site-packages")
    libraries = [path for path in site.getsitepackages() if Path(path, "transformers").is_dir()]
    (packages / "libraries.pth").write_text("\n".join(libraries))
    return place


def run_elsewhere(elsewhere: Path, code: str, *arguments: str | Path, cwd: Path) -> str:
    """What Python code prints in that environment, where this project cannot be imported."""
    hidden = {"PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV"}
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [elsewhere / "venv" / "bin" / "python", "-c", WITHOUT_PROJECT + code, *map(str, arguments)],
        cwd=cwd,
        env={**variables, "HF_HOME": str(elsewhere / "home"), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


WITHOUT_PROJECT = """
import importlib.util
for name in ("bench", "compressors", "reports"):
    assert importlib.util.find_spec(name) is None, name
"""

COMPARE = """
import sys
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

how, *folders = sys.argv[1:]
if how == "import":
    sys.path.insert(0, folders[0])
    import pruned
settings = {"trust_remote_code": True} if how == "trust" else {}
for folder in folders:
    model = AutoModelForSequenceClassification.from_pretrained(folder, **settings)
    expected = load_file(folder + ".tensors")
    batch = {name: expected.pop(name) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        found = model(**batch).logits
    assert not model.training
    assert found.dtype == expected["logits"].dtype, (folder, found.dtype)
    assert torch.allclose(found, expected["logits"], atol=1e-6), (folder, found - expected["logits"])
    print(type(model).__name__)
"""


def expect(folder: Path, made: Path) -> None:
    """Put beside an exported folder what the artifact it was made of answers."""
    batch = padded_batch()
    save_file({**batch, "logits": logits(compressors.load(made), batch)}, f"{folder}.tensors")


def test_stock_transformers_loads_what_was_not_pruned(run: Path, exported: Path, elsewhere: Path) -> None:
    for name in ("dense", "mp"):
        expect(exported / name, run / "artifacts" / name)
        assert not list((exported / name).glob("*.py"))
    assert load_file(exported / "mp.tensors")["logits"].dtype == torch.bfloat16
    printed = run_elsewhere(elsewhere, COMPARE, "stock", exported / "dense", exported / "mp", cwd=exported)
    assert printed.split() == ["BertForSequenceClassification"] * 2


def test_what_was_pruned_loads_with_its_class_file(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, elsewhere: Path
) -> None:
    """Every family, by `trust_remote_code` and by importing the file."""
    folders = []
    for family in FAMILIES:
        made = write_run(tmp_path / f"{family}-run", tokenizer, {PRUNED: pruned(tokenizer, family)})
        done = bench("export", made, PRUNED, tmp_path / family, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "pruned.py" in done.stdout
        folders.append(tmp_path / family)
        expect(folders[-1], next((made / "artifacts").iterdir()))
    for how in ("trust", "import"):
        printed = run_elsewhere(elsewhere, COMPARE, how, *folders, cwd=tmp_path)
        assert [name[:6] for name in printed.split()] == ["Pruned"] * len(FAMILIES)


@pytest.mark.parametrize("name", ["mp", "pruned"])
def test_the_card_says_how_it_is_loaded_and_that_works(
    run: Path, exported: Path, elsewhere: Path, name: str
) -> None:
    card = (exported / name / "README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    code += "\nimport json, sys\nprint(json.dumps(classify(json.loads(sys.argv[1]))))"
    found = json.loads(run_elsewhere(elsewhere, code, json.dumps(TEXTS), cwd=exported))
    made = run / "artifacts" / name if name == "mp" else next((run / "artifacts").glob("bmp50*"))
    rows = artifact.load_tokenizer(str(made))(TEXTS, padding=True, return_tensors="pt")
    best = logits(compressors.load(made), dict(rows)).argmax(dim=-1)
    assert found == [LABELS[number] for number in best]
    assert len(set(found)) > 1


def test_the_card_of_a_pair_task_takes_both_texts(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, elsewhere: Path
) -> None:
    task = run_of().task.model_copy(update={"pairs": True})
    write_run(tmp_path / "run", tokenizer, {"dense": tiny()}, task=task)
    assert bench("export", "run", "dense", "out", cwd=tmp_path).returncode == 0
    [code] = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    code += "\nimport json, sys\nprint(json.dumps(classify(*json.loads(sys.argv[1]))))"
    pairs = TEXTS[::-1]
    found = json.loads(run_elsewhere(elsewhere, code, json.dumps([TEXTS, pairs]), cwd=tmp_path))
    rows = tokenizer(TEXTS, pairs, padding=True, return_tensors="pt")
    assert found == [LABELS[number] for number in logits(tiny(), dict(rows)).argmax(dim=-1)]


def test_nothing_exported_says_where_something_lies(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """What was loaded from a folder, of whose path the run is full, still loads by either way."""
    other, model = str(tmp_path / "runs" / "other"), str(tmp_path / "my model")
    artifact.save(tiny(seed=5), tokenizer, parse_variant("dense"), Path(other))
    task = run_of().task.model_copy(
        update={"model": model, "notes": [f"{model} has no head for these classes", f"see {tmp_path}/x.csv"]}
    )
    config = run_of().config.model_copy(update={"command": f"bench run --model '{model}'"})
    variant, checkpoints = f"load:{other}", {model: None, other: None}
    made = {"dense": tiny(), variant: tiny(seed=5)}
    write_run(tmp_path / "run", tokenizer, made, task=task, config=config, checkpoints=checkpoints)
    for name, folder in ((variant, tmp_path / "loaded"), ("dense", tmp_path / "dense")):
        done = bench("export", "run", name, folder.name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        for file in (file for file in folder.rglob("*") if file.is_file()):
            assert str(tmp_path.parent).encode() not in file.read_bytes(), file
            assert tmp_path.name.encode() not in file.read_bytes(), file
    card = (tmp_path / "loaded" / "README.md").read_text()
    assert "**Weights from:** the checkpoint other\n" in card
    assert "my model has no head" in card
    assert "**Weights from:** the checkpoint my model\n" in (tmp_path / "dense" / "README.md").read_text()
    assert json.loads((tmp_path / "loaded" / "variant.json").read_text())["variant"] == "load:other"
    assert torch.equal(logits(compressors.load(tmp_path / "loaded")), logits(tiny(seed=5)))
    [part] = parse_variant(f"load:{tmp_path / 'loaded'}").parts
    assert torch.equal(logits(part.prepare(tiny(), context_of(tiny(), tokenizer))), logits(tiny(seed=5)))
    assert [earlier.name for earlier in part.continues] == ["load"]


def test_the_card_is_one_that_a_hub_reads(exported: Path) -> None:
    data = ModelCard.load(exported / "pruned" / "README.md").data
    assert data.library_name == "transformers"
    assert data.license is None
    assert {score.metric_type: score.metric_value for score in data.eval_results} == {
        "accuracy": 0.9137,
        "f1": 0.9012,
    }


def test_our_own_loader_runs_no_code_of_the_folder(run: Path, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pruned"
    shutil.copytree(exported / "pruned", folder)
    (folder / "pruned.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    made = next((run / "artifacts").glob("bmp50*"))
    assert torch.equal(logits(compressors.load(folder)), logits(compressors.load(made)))
    assert artifact.load_tokenizer(str(folder))(TEXTS[0])["input_ids"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "another"}))
    with pytest.raises(InputError, match="custom code"):
        compressors.load(folder)
    assert not (tmp_path / "ran").exists()


def test_exporting_imports_no_torch_and_leaves_the_artifact_alone(run: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    program = f"""
from typer.testing import CliRunner
from bench.cli import app
import sys
result = CliRunner().invoke(app, ["export", {str(run)!r}, {PRUNED!r}, "new/folder"])
assert result.exit_code == 0, result.output
assert not {{"torch", "transformers"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    for file in (tmp_path / "new" / "folder").iterdir():
        file.write_bytes(b"mine now")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["folder"]


def test_an_exported_folder_is_an_artifact_still(exported: Path) -> None:
    for name in ("dense", "mp", "pruned"):
        files = {file.name for file in (exported / name).iterdir()}
        assert {"model.safetensors", "config.json", "tokenizer.json", "variant.json", "README.md"} <= files
    assert compressors.load(exported / "mp").dtype == torch.bfloat16


def refused(*arguments: str | Path, cwd: Path) -> str:
    """The one line with which an export is refused, nothing being written."""
    before = sorted(cwd.rglob("*"))
    done = bench("export", *arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert sorted(cwd.rglob("*")) == before
    return done.stderr


def test_what_cannot_be_exported(run: Path, tmp_path: Path) -> None:
    document = Run.model_validate_json((run / "run.json").read_text())
    dense = document.results[0]
    states: dict[str, dict[str, str | None]] = {
        "kd": {"status": "failed", "reason": "RuntimeError: no room"},
        "bmp25": {"status": "skipped", "reason": "cannot prune it"},
        "ft": {"artifact": None},
        "bmp75": {"artifact": "artifacts/bmp75"},
    }
    rows = [dense.model_copy(update={"variant": name, **state}) for name, state in states.items()]
    rows += [dense, dense.model_copy(update={"seed": 1})]
    changed = document.model_copy(update={"results": rows})
    (tmp_path / "run.json").write_text(changed.model_dump_json())
    assert "did you mean 'dense'" in refused("run.json", "dens", "out", cwd=tmp_path)
    assert "RuntimeError: no room" in refused("run.json", "kd", "out", cwd=tmp_path)
    assert "cannot prune it" in refused("run.json", "bmp25", "out", cwd=tmp_path)
    assert "--keep all" in refused("run.json", "ft", "out", cwd=tmp_path)
    assert "artifacts/bmp75: the artifact is not there" in refused("run.json", "bmp75", "out", cwd=tmp_path)
    assert "with seed 0, 1" in refused("run.json", "dense", "out", "--seed", "2", cwd=tmp_path)
    assert "absent" in refused("absent", "dense", "out", cwd=tmp_path)


def test_places_that_cannot_be_used(run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    assert "not an empty folder" in refused(run, "dense", "full", cwd=tmp_path)
    assert "not an empty folder" in refused(run, "dense", "full/mine", cwd=tmp_path)
    assert "cannot be" in refused(run, "dense", "full/mine/out", cwd=tmp_path)
    assert "cannot be" in refused(run, "dense", "x" * 300, cwd=tmp_path)
    assert "--push" in refused(run, "dense", "out", "--private", cwd=tmp_path)
    assert "ORG/NAME" in refused(run, "dense", "out", "--push", "a/b/c", cwd=tmp_path)


def test_a_disk_that_fills_up_leaves_nothing(run: Path, tmp_path: Path) -> None:
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash"]  # files of at most 8 KiB
    done = subprocess.run(
        [*limited, *command("export", run, "dense", "out")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "out: cannot be written (File too large)" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_seed_that_was_asked_for(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    place = tmp_path / "run"
    folder, results = RunFolder.create(place, 0), []
    for seed in (4, 7):
        artifact.save(tiny(seed=seed), tokenizer, parse_variant("dense"), tmp_path / f"made{seed}")
        name = folder.add_artifact(f"dense.seed{seed}", tmp_path / f"made{seed}")
        results.append(row("dense", seed).model_copy(update={"artifact": name}))
    folder.write(run_of(*results))
    (tmp_path / "empty").mkdir()
    assert bench("export", "run", "dense", "empty", cwd=tmp_path).returncode == 0
    assert bench("export", "run/run.json", "dense", "second", "--seed", "7", cwd=tmp_path).returncode == 0
    assert torch.equal(logits(compressors.load(tmp_path / "empty")), logits(tiny(seed=4)))
    assert torch.equal(logits(compressors.load(tmp_path / "second")), logits(tiny(seed=7)))
    assert "seed 7" in (tmp_path / "second" / "README.md").read_text()


# A hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve(tmp_path / "hub") as server:
        yield server


def push(hub: Hub, run: Path, *more: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """Export a variant and upload it, as a user of that hub."""
    own = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    folder = hub.root.parent
    return subprocess.run(
        command("export", run, PRUNED, "out", *more),
        cwd=folder,
        env={**environment(), "HF_HOME": str(folder / "home"), **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file, by its path."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_pushing_makes_a_repository_of_the_same_files(hub: Hub, run: Path) -> None:
    done = push(hub, run, "--push", "tester/small")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.endpoint}/tester/small"
    there = hub.repository("model", "tester/small")
    assert there is not None
    assert contents(there) == contents(hub.root.parent / "out")
    assert {asked.token for asked in hub.asked if asked.method == "POST"} == {TOKEN}
    assert 'place = "tester/small"' in (there / "README.md").read_text()
    assert hub.private == set()


def test_pushing_again_goes_to_the_repository_that_is_there(hub: Hub, run: Path) -> None:
    for _ in range(2):
        shutil.rmtree(hub.root.parent / "out", ignore_errors=True)
        done = push(hub, run, "--push", "tester/small", "--private")
        assert done.returncode == 0, done.stderr
    there = hub.repository("model", "tester/small")
    assert there is not None
    assert contents(there) == contents(hub.root.parent / "out")
    assert hub.private == {"tester/small"}


@pytest.mark.parametrize("failing", ["token", "/api/repos/create", "/commit/main"])
def test_a_push_that_fails_leaves_the_folder(hub: Hub, run: Path, failing: str) -> None:
    token = "hf_wrong" if failing == "token" else TOKEN
    hub.faults = {failing: HTTPStatus.FORBIDDEN}
    done = push(hub, run, "--push", "tester/small", token=token)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "out is complete, but was not uploaded" in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert torch.is_tensor(logits(compressors.load(hub.root.parent / "out")))


def test_a_hub_that_is_not_there_is_said(hub: Hub, run: Path) -> None:
    hub.endpoint = "http://127.0.0.1:9"
    done = push(hub, run, "--push", "tester/small")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "was not uploaded to http://127.0.0.1:9" in done.stderr


def test_without_push_no_hub_is_asked(hub: Hub, run: Path) -> None:
    assert push(hub, run).returncode == 0
    assert hub.asked == []


def test_offline_nothing_is_pushed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in refused(run, "dense", "out", "--push", "tester/small", cwd=tmp_path)
