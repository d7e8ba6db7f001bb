"""`bench cache`: what it lists, what it clears, and what it leaves alone."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.cache import Cache, link_files
from bench.clearing import Chosen, clear, contents
from bench.errors import InputError
from bench.meters.findings import Findings
from bench.nouns.run import Result
from bench.steps.request import Request, StepKind
from tests.commands import Finished, bench, write_rows

LIGHT = """
import sys
from bench.cli import main
sys.argv[0] = "bench"
try:
    main()
finally:
    heavy = {"torch", "transformers", "accelerate"} & sys.modules.keys()
    assert not heavy, heavy
"""
HOLDER = """
import sys
from pathlib import Path
from bench.cache import Cache

with Cache(Path(sys.argv[1])).held(lambda: None):
    print("holding", flush=True)
    sys.stdin.read()
"""
DAY_S = 86_400
TASK = "task-00000000000000aa-scratch"
PLUGIN = '''
from dataclasses import dataclass

import torch

from compressors import Compressor, Phase


@dataclass
class Scales(Compressor):
    """Multiplies the classifier's bias."""

    name = "scales"
    phase = Phase.ARCHITECTURE
    summary = "scales the bias"
    trains = False

    def finish(self, model, context):
        with torch.no_grad():
            model.classifier.bias *= FACTOR
        return model
'''


def name_of(kind: StepKind, number: int) -> str:
    return f"{kind}-{number:016x}"


def add_step(root: Path, kind: StepKind, number: int, variant: str, age_days: float = 0.0) -> Path:
    """A finished step with 1000 bytes of weights, last used so long ago."""
    cache = Cache(root)
    told: dict[str, Any] = {"device": "cpu", "seed": 3, "epochs": 1, "learning_rate": 1, "batch_size": 8}
    request = Request(
        kind=kind,
        task=root / TASK,
        variant=variant,
        max_length=8,
        budget="quick",
        plugins=[],
        **told,
    )
    work = cache.begin(name_of(kind, number), request)
    (work / "findings.json").write_text(Findings().model_dump_json())
    (work / "artifact").mkdir()
    (work / "artifact" / "model.safetensors").write_bytes(b"w" * 1000)
    step = cache.keep(kind, name_of(kind, number), work)
    return aged(step.folder, age_days)


def aged(folder: Path, days: float) -> Path:
    """The folder, last used so many days ago."""
    then = time.time() - days * DAY_S
    os.utime(folder, (then, then))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache of four steps, their task, a training that was broken off, and what is the user's."""
    root = tmp_path / "cache"
    add_step(root, "dense", 1, "dense", 1)
    add_step(root, "compress", 2, "bmp25", 40)
    add_step(root, "compress", 3, "bmp50+kd", 10)
    add_step(root, "timing", 4, "bmp25", 40)
    for name, age_days in ((TASK, 50), (f"{name_of('compress', 5)}.checkpoint", 20), ("notes", 90)):
        (root / name).mkdir()
        (root / name / "file").write_text("x" * 10)
        aged(root / name, age_days)
    (root / "timing-of-the-tides.txt").write_text("mine")
    return root


def left(root: Path) -> set[str]:
    return {entry.folder.name for entry in contents(root)}


def test_all_that_a_cache_holds_is_listed(root: Path) -> None:
    found = {entry.folder.name: entry for entry in contents(root)}
    assert [entry.kind for entry in found.values()] == [
        *("compress", "compress", "unfinished", "dense", "task", "timing")
    ]
    pruned = found[name_of("compress", 2)]
    assert pruned.request
    assert (pruned.request.variant, pruned.request.device, pruned.request.seed) == ("bmp25", "cpu", 3)
    files = [file for file in pruned.folder.rglob("*") if file.is_file()]
    assert pruned.size_bytes == sum(file.stat().st_size for file in files) > 1000
    assert found[TASK].used == found[name_of("dense", 1)].used, "a task is used whenever a step of it is"


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [
        (Chosen(), {1, 2, 3, 4, 5, 6}),
        (Chosen(kind="timing"), {4}),
        (Chosen(kind="task"), {6}),
        (Chosen(kind="unfinished"), {5}),
        (Chosen(variant="bmp*"), {2, 3, 4}),
        (Chosen(variant="bmp25"), {2, 4}),
        (Chosen(kind="compress", variant="bmp25"), {2}),
        (Chosen(older_than_s=30 * DAY_S), {2, 4}),
        (Chosen(older_than_s=15 * DAY_S), {2, 4, 5}),
        (Chosen(older_than_s=30 * DAY_S, kind="dense"), set()),
        (Chosen(variant="kd"), set()),
    ],
)
def test_what_was_chosen_is_cleared_and_nothing_else(root: Path, chosen: Chosen, numbers: set[int]) -> None:
    names = {
        **{1: name_of("dense", 1), 2: name_of("compress", 2), 3: name_of("compress", 3)},
        **{4: name_of("timing", 4), 5: f"{name_of('compress', 5)}.checkpoint", 6: TASK},
    }
    before = left(root)
    assert before == set(names.values())
    removed, freed_bytes = clear(root, chosen)
    assert {entry.folder.name for entry in removed} == {names[number] for number in numbers}
    assert left(root) == before - {names[number] for number in numbers}
    assert freed_bytes == sum(entry.size_bytes for entry in removed)
    assert (root / "notes" / "file").read_text() == "x" * 10
    assert (root / "timing-of-the-tides.txt").read_text() == "mine"


def test_what_a_run_folder_shares_is_not_freed(root: Path, tmp_path: Path) -> None:
    link_files(root / name_of("compress", 2) / "artifact", tmp_path / "kept")
    (removed,), freed_bytes = clear(root, Chosen(kind="compress", variant="bmp25"))
    assert freed_bytes == removed.size_bytes - 1000
    assert (tmp_path / "kept" / "model.safetensors").read_bytes() == b"w" * 1000


def test_a_folder_of_the_user_s_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "Documents").mkdir()
    (tmp_path / "compress-notes").mkdir()
    (tmp_path / name_of("compress", 7)).write_text("a file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name_of("dense", 7)).symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("*"))
    assert clear(tmp_path, Chosen()) == ([], 0)
    assert sorted(tmp_path.rglob("*")) == before


def light(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`bench` with these words, in a process that fails where it imports torch."""
    program = [sys.executable, "-c", LIGHT, *map(str, words)]
    return subprocess.run(program, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_commands_list_clear_and_say_so_without_torch(root: Path, tmp_path: Path) -> None:
    listed = light("cache", "--cache", "cache", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "bmp50+kd" in listed.stdout
    assert "6 folders" in listed.stdout.splitlines()[-1]
    as_json = light("cache", "--cache", "cache", "--json", cwd=tmp_path)
    listed_names = {line["id"]: line["variant"] for line in json.loads(as_json.stdout)}
    assert listed_names == {
        **{name_of("dense", 1): "dense", name_of("compress", 2): "bmp25", name_of("timing", 4): "bmp25"},
        **{name_of("compress", 3): "bmp50+kd", f"{name_of('compress', 5)}.checkpoint": None, TASK: None},
    }
    asked = ("--older-than", "30d", "--kind", "timing", "--variant", "bmp*")
    some = light("cache", "clear", "--cache", "cache", *asked, cwd=tmp_path)
    assert some.returncode == 0, some.stderr
    assert some.stdout.startswith("removed 1 folder from cache, ")
    assert left(tmp_path / "cache") == listed_names.keys() - {name_of("timing", 4)}


@pytest.mark.parametrize(("words", "said"), [([], "nothing in"), (["clear"], "nothing to remove in")])
def test_an_empty_cache_is_no_error(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    done = light("cache", *words, "--cache", "cache", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{said} cache\n"), done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cache"], "--cache .bench/cache: cannot be read"),
        (["cache", "clear", "--cache", "absent"], "--cache absent: cannot be read"),
        (["cache", "clear", "--cache", "file"], "--cache file: cannot be read"),
        (["cache", "clear", "--kind", "timings"], "did you mean 'timing'"),
        (["cache", "clear", "--older-than", "soon"], "--older-than soon"),
        (["cache", "--cache", "elsewhere", "clear"], "bench cache clear --cache FOLDER"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = light(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr
    assert [place.name for place in tmp_path.iterdir()] == ["file"]


def test_nothing_is_cleared_while_a_run_works_there(root: Path) -> None:
    words = [sys.executable, "-c", HOLDER, str(root)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as run:
        assert run.stdout
        assert run.stdout.readline() == "holding\n"
        before = left(root)
        refused = light("cache", "clear", "--cache", root, cwd=root.parent)
        assert refused.returncode == 2
        assert f"process {run.pid} is working there" in refused.stderr
        assert left(root) == before
        run.kill()
        run.wait()
        assert len(clear(root, Chosen())[0]) == len(before)


def test_nothing_is_cleared_where_nobody_can_tell_whether_a_run_works(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = left(root)
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(InputError, match="knows no locks, so a run that works there cannot be seen"):
        clear(root, Chosen())
    assert left(root) == before


@dataclass(frozen=True)
class Rerun:
    """A run with a plugin, and one with the same cache after the plugin was changed."""

    first: Finished
    second: Finished


@pytest.fixture(scope="module")
def rerun(tmp_path_factory: pytest.TempPathFactory) -> Rerun:
    cwd = tmp_path_factory.mktemp("plugin")
    write_rows(cwd / "rows.csv", 200)
    asked = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "1")
    named = ("--plugin", "scales.py", "--variants", "scales")
    runs = []
    for number, factor in enumerate(("1.0", "2.0")):
        (cwd / "scales.py").write_text(PLUGIN.replace("FACTOR", factor))
        done = bench("run", *asked, *named, "--out", f"run{number}", cwd=cwd)
        assert done.returncode == 0, done.stderr
        runs.append(Finished(cwd, cwd / f"run{number}", done))
    return Rerun(*runs)


def test_a_changed_plugin_is_run_anew_and_what_it_has_no_part_in_is_not(rerun: Rerun) -> None:
    def result(run: Finished, variant: str) -> Result:
        found = run.document.result(variant)
        assert found is not None
        return found

    assert result(rerun.second, "scales").cached == []
    assert set(result(rerun.second, "dense").cached) == {"dense", "timing", "footprint"}
    weights = "artifacts/scales/model.safetensors"
    assert (rerun.first.folder / weights).read_bytes() != (rerun.second.folder / weights).read_bytes()


def test_a_run_whose_plugin_changed_is_not_resumed(rerun: Rerun) -> None:
    refused = bench("run", "--resume", "run0", cwd=rerun.first.cwd)
    assert refused.returncode == 2
    assert "the plugin scales.py changed since" in refused.stderr.splitlines()[-1]


def test_a_real_cache_is_listed_by_what_made_it(rerun: Rerun) -> None:
    found = contents(rerun.first.cwd / ".bench/cache")
    assert {entry.kind for entry in found} == {"dense", "compress", "timing", "footprint", "task"}
    scaled = [entry.kind for entry in found if entry.request and entry.request.variant == "scales"]
    assert sorted(scaled) == ["compress", "compress", "footprint", "footprint", "timing", "timing"]
