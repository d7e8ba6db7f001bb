"""The command line's manners: light imports, one-line errors, exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cli
from bench.cli.resume import changes
from bench.nouns.run import Result
from tests.bench.meters.documents import run_of
from tests.commands import Finished, bench, environment, write_rows

LIGHT = """
import sys
from typer.testing import CliRunner
from bench.cli import app
result = CliRunner().invoke(app, sys.argv[1:])
assert result.exit_code == 0, result.output
heavy = {"torch", "transformers", "accelerate"} & sys.modules.keys()
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["list"],
        ["run", "--dry-run"],
        ["run", "--dry-run", "--variants", "bmp*+kd,ft"],
    ],
    ids=" ".join,
)
def test_what_only_tells_does_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_terminal_s_encoding_need_not_have_every_sign(finished: Finished) -> None:
    """Nor need it have those of the data: an old locale's is Latin-1."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "report", finished.folder],
        cwd=finished.cwd,
        env={**environment(), "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u2013" in done.stdout


def test_help_needs_neither_pydantic_nor_numpy(tmp_path: Path) -> None:
    program = "import sys, bench.cli; assert not {'pydantic', 'numpy', 'scipy', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--train", "absent.csv", "--test-split", "0.2"], "absent.csv"),
        (["run", "--variants", "bpm25"], "did you mean 'bmp'"),
        (["run", "--variants", "bmp:amount=1.5"], "between 0 and 1"),
        (
            ["run", "--train", "rows.csv", "--test-split", "0.2", "--label-column", "lable"],
            "did you mean 'label'",
        ),
        (
            ["run", "--model", "nowhere/at/all", "--train", "rows.csv", "--test-split", "0.2"],
            "nowhere/at/all",
        ),
        (["run", "--quick", "--thorough"], "choose one"),
        (["run", "--keep", "some"], "--keep some"),
        (["run", "--out", "rows.csv"], "not a folder"),
        (["run", "--shard", "3/2"], "write I/N"),
        (["run", "--shard", "1/2", "--save-baseline", "main"], "of a whole sweep"),
        (["run", "--shard", "1/2", "--baseline", "main"], "of a whole sweep"),
        (["run", "--executor", "slurm"], "write ray"),
        (["run", "--storage", "/mnt/x"], "add --executor"),
        (["run", "--train-processes", "0"], "--train-processes 0"),
        (["run", "--resume", "absent"], "absent"),
        (["report", "absent"], "absent"),
        (["report"], "no run"),
        (["study", "absent"], "absent"),
        (["study"], "no run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 60)
    done = bench(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


def test_an_unknown_option_is_a_usage_error(tmp_path: Path) -> None:
    done = bench("run", "--varients", "all", cwd=tmp_path)
    assert done.returncode == 2
    assert "--variants" in done.stderr


def test_input_that_only_the_worker_can_refuse_leaves_no_run(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    from tests.compressors.tiny import toy_tokenizer

    write_rows(tmp_path / "rows.csv", 60)
    checkpoint = tmp_path / "checkpoint"
    toy_tokenizer(["bank goal match"]).save_pretrained(checkpoint)
    settings = BertConfig(
        vocab_size=200, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertForSequenceClassification(settings).save_pretrained(checkpoint)
    before = sorted(tmp_path.iterdir())
    asked = ("--model", "checkpoint", "--no-finetune", "--test", "rows.csv", "--cache", "checkpoint/cache")
    done = bench("run", *asked, "--out", "run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "the data's money, sport, and no training rows tell which is which" in done.stderr
    assert "--label-map LABEL_0=NAME,LABEL_1=NAME" in done.stderr
    assert done.stderr.count("bench: ") == 1
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_an_extra_that_came_later_is_no_change_unless_a_result_was_made_with_it() -> None:
    parts = {"bmp50": ["bmp50"], "bmp50+onnx": ["bmp50", "onnx"]}

    def changed(library: str, **statuses: str) -> str | None:
        rows = [
            {"variant": name, "parts": parts[name], "seed": 0, "status": status}
            for name, status in zip(parts, statuses.values(), strict=True)
        ]
        run = run_of(*map(Result.model_validate, rows))
        now = run.environment.model_copy(update={"versions": run.environment.versions | {library: "2"}})
        return changes(run, run.config, run.fingerprints, now)

    assert changed("onnxruntime", pruned="ok", exported="skipped") is None
    assert changed("onnxruntime", pruned="ok", exported="ok") == "the version of onnxruntime"
    assert changed("torchao", pruned="ok", exported="ok") is None
    assert changed("torch", pruned="ok", exported="skipped") == "the version of torch"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EMFILE, "allow more open files"),
        (errno.EROFS, "name a folder elsewhere"),
    ],
)
def test_what_the_machine_refuses_is_a_line_with_a_remedy(
    number: int, remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise OSError(number, os.strerror(number), "a\x1b[2Jfile")

    monkeypatch.setattr(cli, "app", refused)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith(f"bench: {os.strerror(number)} (a\\x1b[2Jfile); {remedy}")
    assert said.count("\n") == 1


def test_any_other_error_of_the_system_is_a_bug_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise FileNotFoundError(errno.ENOENT, "gone")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(FileNotFoundError):
        cli.main()
