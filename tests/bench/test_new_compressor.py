"""`bench new-compressor` writes a plugin that works, with a test that passes, or nothing at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import InputError
from bench.new_compressor import write
from tests.commands import bench, module

NAME = "two_words2"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the command was run in, and what it printed."""
    cwd = tmp_path_factory.mktemp("author")
    done = bench("new-compressor", NAME, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd, done.stdout


def test_it_says_what_to_do_next(written: tuple[Path, str]) -> None:
    cwd, said = written
    assert sorted(path.name for path in cwd.glob("*.py")) == [f"test_{NAME}.py", f"{NAME}.py"]
    assert f"    pytest test_{NAME}.py\n" in said
    assert f"    bench run --plugin {NAME}.py --variants {NAME}\n" in said


def test_the_written_test_passes(written: tuple[Path, str]) -> None:
    done = module("pytest", "-q", f"test_{NAME}.py", cwd=written[0])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_written_plugin_can_be_run(written: tuple[Path, str]) -> None:
    variants = f"{NAME},{NAME}:bits=4,bmp50+{NAME}"
    done = bench("run", "--plugin", f"{NAME}.py", "--variants", variants, "--dry-run", cwd=written[0])
    assert done.returncode == 0, done.stderr
    assert f"{NAME}:bits=4" in done.stdout
    refused = bench("run", "--plugin", f"{NAME}.py", "--variants", f"{NAME}:bits=1", cwd=written[0])
    assert refused.returncode == 2
    assert refused.stderr == f"bench: {NAME}: bits=1 must lie in 2..16\n"


def test_what_is_written_pleases_the_linter(written: tuple[Path, str]) -> None:
    ours = str(Path(__file__).parents[2] / "pyproject.toml")
    for settings in (["--isolated"], ["--config", ours]):
        checked = module("ruff", "check", *settings, ".", cwd=written[0])
        assert checked.returncode == 0, checked.stdout
        formatted = module("ruff", "format", "--check", *settings, ".", cwd=written[0])
        assert formatted.returncode == 0, formatted.stdout


def test_nothing_is_overwritten_and_the_error_is_one_line(written: tuple[Path, str]) -> None:
    cwd, _ = written
    before = {path: path.read_text() for path in cwd.glob("*.py")}
    done = bench("new-compressor", NAME, cwd=cwd)
    assert done.returncode == 2
    assert done.stderr.startswith(f"bench: {NAME}.py: exists already; choose another name")
    assert len(done.stderr.splitlines()) == 1
    assert {path: path.read_text() for path in cwd.glob("*.py")} == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Mine", "lowercase letters, digits and _, a letter first"),
        ("2bit", "lowercase letters"),
        ("my-own", "lowercase letters"),
        ("../mine", "lowercase letters"),
        ("", "lowercase letters"),
        ("lambda", "is a keyword of Python"),
        ("kd", "--variants knows this word already"),
        ("dense", "--variants knows this word already"),
        ("all", "--variants knows this word already"),
        ("bmp30", "means bmp at 30 % already"),
        ("json", "json.py would hide the module json"),
        ("torch", "torch.py would hide the module torch"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason) as raised:
        write(name, tmp_path / "folder")
    assert len(str(raised.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_test_that_exists_keeps_the_plugin_from_being_written(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("mine")
    with pytest.raises(InputError, match=r"test_mine\.py: exists already"):
        write("mine", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]


def test_both_files_or_none(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").symlink_to(tmp_path / "nowhere" / "test_mine.py")
    with pytest.raises(InputError, match="cannot be written"):
        write("mine", tmp_path)
    assert not (tmp_path / "mine.py").exists()


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--out .*file: cannot be written"):
        write("mine", tmp_path / "file")
