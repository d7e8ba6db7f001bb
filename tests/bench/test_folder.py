"""The run's folder: what is written can be read, what cannot be written leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError
from bench.folder import RunFolder, file_name, latest_run, read_run, write_atomically
from bench.nouns.measurement import measured
from bench.nouns.run import Result, Run
from bench.options import Options
from tests.bench.meters.documents import run_of

RESULT = Result(
    variant="bmp25+kd",
    seed=0,
    status="ok",
    metrics={"speedup": measured("speedup", 1.5, "paired", (1.4, 1.6), (1.45, 1.55))},
    unavailable={"peak_memory_device": "needs a CUDA device"},
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder.create(tmp_path / "run", 0)
    made.begin(Options(seed=7, out=tmp_path / "run"))
    return made


def refusal(out: Path, needed_bytes: int = 0) -> str:
    with pytest.raises(InputError) as caught:
        RunFolder.create(out, needed_bytes)
    message = str(caught.value)
    assert message.startswith(f"--out {out}: ")
    assert "\n" not in message
    return message


def unreadable(place: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_run(place)
    message = str(caught.value)
    assert "run.json" in message
    assert "\n" not in message
    return message


def test_a_run_is_read_as_it_was_written(folder: RunFolder) -> None:
    run = run_of(RESULT)
    folder.write(run)
    assert folder.read() == run
    assert read_run(folder.path / "run.json") == run
    assert folder.options().seed == 7


def test_writing_again_replaces_the_whole_document(folder: RunFolder) -> None:
    folder.write(run_of(*(RESULT.model_copy(update={"seed": seed}) for seed in range(20))))
    folder.write(run_of())
    assert folder.read() == run_of()
    assert sorted(file.name for file in folder.path.iterdir()) == ["options.json", "run.json"]


def test_a_folder_that_was_removed_meanwhile_is_named(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text("{}")
    shutil.rmtree(folder.path)
    for writing in (
        lambda: folder.write(run_of()),
        lambda: folder.add_predictions("dense", tmp_path / "predictions.jsonl"),
        lambda: folder.add_log("dense", tmp_path / "absent"),
        lambda: folder.add_artifact("dense", tmp_path),
        lambda: folder.add_trace("dense", tmp_path / "predictions.jsonl"),
    ):
        with pytest.raises(InputError, match=r"run: was removed while the run worked; start the run anew$"):
            writing()
    assert not folder.path.exists()


def test_others_may_read_the_document_as_the_umask_says(folder: RunFolder) -> None:
    folder.write(run_of())
    umask = os.umask(0)
    os.umask(umask)
    assert (folder.path / "run.json").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    assert "No such file" in unreadable(tmp_path)


def test_a_document_cut_short(folder: RunFolder) -> None:
    folder.write(run_of(RESULT))
    file = folder.path / "run.json"
    whole = file.read_bytes()
    for share in (0.0, 0.3, 0.999):
        file.write_bytes(whole[: int(share * len(whole))])
        assert "not a valid Run document" in unreadable(folder.path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"null", b"{}", b'{"schema_version": "two"}'])
def test_a_document_of_something_else(folder: RunFolder, content: bytes) -> None:
    (folder.path / "run.json").write_bytes(content)
    assert "not a valid Run document" in unreadable(folder.path)


def changed(run: Run, **values: object) -> str:
    return json.dumps({**json.loads(run.model_dump_json()), **values})


def test_an_unknown_key_is_named(folder: RunFolder) -> None:
    (folder.path / "run.json").write_text(changed(run_of(), colour="red"))
    assert "colour" in unreadable(folder.path)


@pytest.mark.parametrize(("version", "age"), [(4, "newer"), (2, "older")])
def test_a_document_of_another_schema_says_so_whatever_else_is_other_in_it(
    folder: RunFolder, version: int, age: str
) -> None:
    text = changed(run_of(), schema_version=version, colour="red", status="new")
    (folder.path / "run.json").write_text(text)
    message = unreadable(folder.path)
    assert f"{age} bench" in message
    assert f"schema version {version}" in message


WRITE_FOREVER = """
import sys
from pathlib import Path
from bench.folder import write_atomically
file = Path(sys.argv[1])
number = 0
while True:
    number += 1
    write_atomically(file, "[" + ",".join([str(number)] * 20_000) + "]")
    print(number, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_document(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    process = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(file)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    for _ in range(200):  # readers meanwhile see whole documents too
        assert len(set(json.loads(file.read_text()))) == 1
    time.sleep(0.0137)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(set(json.loads(file.read_text()))) == 1


def test_a_write_that_fails_keeps_the_old_document(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_atomically(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "new \ud800")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_holds_a_run_is_refused(folder: RunFolder) -> None:
    folder.write(run_of())
    assert "--resume" in refusal(folder.path)
    assert folder.read() == run_of()


@pytest.mark.parametrize("name", ["options.json", "report.md", "report.html"])
def test_what_a_run_would_replace_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    assert f"holds {name}, which a run would replace" in refusal(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_options_that_no_document_can_hold_leave_nothing(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", 0)
    with folder.held("--out"), pytest.raises(InputError, match="is not UTF-8"):
        folder.begin(Options(plugins=(Path(os.fsdecode(b"caf\xe9.py")),)))
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run_is_used(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder.create(tmp_path, 0)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "not a folder" in refusal(tmp_path / "file")
    refusal(tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_noticed_before_anything_is_made(tmp_path: Path) -> None:
    assert "MB needed" in refusal(tmp_path / "a" / "run", needed_bytes=10**18)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    assert "cannot be written" in refusal(tmp_path / "a" / ("x" * 300))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="needs a file system that takes no folders: /proc"
)
def test_a_place_where_nothing_can_be_made() -> None:
    assert "cannot be written" in refusal(Path("/proc/bench-run"))


CREATE_WHERE_NOTHING_CAN_BE_WRITTEN = """
import resource, sys
from pathlib import Path
from bench.errors import InputError
from bench.folder import RunFolder
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    RunFolder.create(Path(sys.argv[1]), 0)
except InputError as error:
    print(error)
"""


def test_folders_made_for_nothing_are_removed_again(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "run"
    command = [sys.executable, "-c", CREATE_WHERE_NOTHING_CAN_BE_WRITTEN, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"--out {out}: cannot be written (File too large)")
    assert list(tmp_path.iterdir()) == []


def test_without_out_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no run in"):
        latest_run()
    folders = [RunFolder.create(None, 0) for _ in range(3)]
    for number, folder in enumerate(folders):
        folder.begin(Options())
        folder.write(run_of())
        os.utime(folder.path / "options.json", (number, number))
    assert len({folder.path for folder in folders}) == 3
    assert latest_run().resolve() == folders[2].path.resolve()


def test_files_are_put_where_the_document_says(folder: RunFolder, tmp_path: Path) -> None:
    source = tmp_path / "artifact"
    (source / "engine").mkdir(parents=True)
    (source / "model.safetensors").write_bytes(b"weights")
    (source / "engine" / "model.onnx").write_bytes(b"graph")
    place = folder.path / folder.add_artifact("load:a/b", source)
    assert (place / "model.safetensors").read_bytes() == b"weights"
    assert (place / "engine" / "model.onnx").read_bytes() == b"graph"
    (tmp_path / "log.txt").write_text("what happened")
    assert folder.add_log("load:a/b-timing", tmp_path / "log.txt").read_text() == "what happened"
    assert folder.add_predictions("load:a/b", tmp_path / "log.txt") == folder.predictions("load:a/b")


def test_what_a_killed_run_had_half_written_goes(folder: RunFolder) -> None:
    whole = folder.predictions("a")
    whole.parent.mkdir(parents=True)
    whole.write_text("{}")
    halves = [whole.with_name(".a.jsonl.0123abcd"), folder.path / ".run.json.0123abcd"]
    for half in halves:
        half.write_text("{")
    with folder.held("--out"):
        assert not any(half.exists() for half in halves)
    assert whole.exists()


@pytest.mark.parametrize("name", ["dense", "bmp25+kd+mp", "bmp:amount=0.4", "kd", "ft"])
def test_plain_names_are_kept_but_for_colons(name: str) -> None:
    assert file_name(name).startswith(name.replace(":", "_"))
    assert (file_name(name) == name) == (":" not in name)


@given(st.text())
def test_any_name_is_one_plain_path_component(name: str) -> None:
    file = file_name(name)
    assert Path(file).name == file
    assert not file.startswith(".")
    assert "\\" not in file
    assert 0 < len(file.encode()) <= 150


@given(st.text(alphabet="a.:/_-Z", max_size=4), st.text(alphabet="a.:/_-Z", max_size=4))
def test_two_names_are_never_one_file(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) == (one == other)


def test_long_names_differ_past_their_cut() -> None:
    one, other = "load:" + "a" * 300 + "b", "load:" + "a" * 300 + "c"
    assert file_name(one) != file_name(other)
