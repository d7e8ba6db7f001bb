"""Files of the folder that a command is given in, which may be a stranger's: nothing of them is run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench.environment import git_commit

ASKS = """
from bench.workers import call_apart, start_server

if __name__ == "__main__":
    print(call_apart(start_server(), eval, "__import__('bench').__file__"))
"""


def test_workers_import_nothing_from_the_working_folder(tmp_path: Path) -> None:
    """As the command does, whose own path has not got that folder either."""
    program, folder = tmp_path / "program" / "asks.py", tmp_path / "folder"
    program.parent.mkdir()
    program.write_text(ASKS)
    (folder / "bench").mkdir(parents=True)
    trap = "from pathlib import Path\nPath('was run').touch()\n"
    for name in ("multiprocessing.py", "torch.py", "codecarbon.py", "bench/__init__.py", "json.py"):
        (folder / name).write_text(trap)
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, program], cwd=folder, env=ours, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == bench.__file__, done.stderr
    assert not (folder / "was run").exists()


def test_what_a_repository_names_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], cwd=tmp_path, text=True).strip()

    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first")
    git("config", "core.fsmonitor", "touch ran; false")
    monkeypatch.chdir(tmp_path)
    assert len(str(git_commit())) == 12
    (tmp_path / "file").write_text("changed")
    assert str(git_commit()).endswith("+dirty")
    for kind in ("clean", "process"):
        git("config", "filter.evil." + kind, "touch ran; cat")
        (tmp_path / ".gitattributes").write_text("* filter=evil")
        assert str(git_commit()).endswith("+unchecked")
        git("config", "--unset", "filter.evil." + kind)
    git("config", "core.repositoryFormatVersion", "1")
    git("config", "extensions.partialClone", "origin")
    git("config", "remote.origin.promisor", "true")
    git("config", "remote.origin.url", "ext::touch ran")
    git("config", "protocol.ext.allow", "always")
    tree = git("rev-parse", "HEAD^{tree}")
    (tmp_path / ".git/objects" / tree[:2] / tree[2:]).unlink()
    git_commit()
    assert not (tmp_path / "ran").exists()
