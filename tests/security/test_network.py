"""Nothing is asked of a network unless a hub id is, and nothing is written but what was named."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.folder import read_run
from tests.commands import command, write_rows

WATCHED = Path(__file__).parent / "watched"
ROOT = Path(__file__).parents[2]
ASKED = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "1")
PLUGIN = '''
import socket
from dataclasses import dataclass

from compressors import Compressor, Phase


@dataclass
class Calls(Compressor):
    """Calls somebody."""

    name = "calls"
    phase = Phase.PRECISION
    summary = "calls somebody"
    trains = False

    def finish(self, model, context):
        socket.create_connection(("192.0.2.1", 80))
'''
COMMANDS = {
    "report": ["report", "first"],
    "exports": [
        *("report", "first"),
        *(
            f"--export-{kind}=exported.{kind}"
            for kind in ("html", "markdown", "csv", "json", "latex", "junit")
        ),
    ],
    "baseline": ["baseline", "save", "first", "main"],
    "compare": ["compare", "first", "main", "--export-comment=exported.comment"],
    "baselines": ["baseline", "list"],
    "study": ["study", "first"],
    "export": ["export", "first", "mp", "exported"],
    "environment": ["env"],
    "catalogue": ["list"],
    "tracker": ["report", "first", "--track", "mlflow"],
}


@dataclass(frozen=True)
class Place:
    """A folder to work in, on a machine whose user has nothing yet and whose network is denied."""

    cwd: Path
    home: Path
    temporary: Path
    notes: Path

    def bench(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command with no variables but those that a login sets, and offline mode switched off.

        With it on, the hub's library would refuse before it asked, and hide that somebody had wanted it to.
        """
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join(map(str, (WATCHED, ROOT))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "BENCH_TEST_WATCH": str(self.notes),
            "HF_HUB_OFFLINE": "0",
        }
        words = command(*arguments)
        return subprocess.run(
            words, cwd=self.cwd, env=variables, capture_output=True, text=True, check=False, timeout=600
        )

    @property
    def attempts(self) -> str:
        """Every attempt at the network so far, with its stack."""
        return (self.notes / "attempts").read_text()

    @property
    def written(self) -> set[Path]:
        """Every file that was opened for writing, but for devices and what the kernel shows as files."""
        paths = (Path(line) for line in (self.notes / "written").read_text().splitlines())
        return {path for path in paths if path.parts[1] not in ("dev", "proc", "sys")}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """One with nothing in it."""
    return made(tmp_path)


def made(folder: Path) -> Place:
    """A place of its own below `folder`."""
    found = Place(*(folder / name for name in ("cwd", "home", "temporary", "notes")))
    for each in (found.cwd, found.home, found.temporary, found.notes):
        each.mkdir()
    return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A full run from rows alone, and one of a checkpoint's folder and an artifact's."""
    found = made(tmp_path_factory.mktemp("denied"))
    write_rows(found.cwd / "rows.csv", 200)
    first = found.bench("run", *ASKED, "--variants", "bmp50+kd,mp", "--out", "first")
    assert first.returncode == 0, first.stderr
    model, other = "first/artifacts/dense", "first/artifacts/mp"
    artifacts = ("--model", model, "--no-finetune", "--variants", f"kd:student={model},load:{other}")
    second = found.bench("run", *ASKED[:-2], *artifacts, "--out", "second")
    assert second.returncode == 0, second.stderr
    return found


@pytest.mark.slow
def test_a_run_asks_nothing_of_the_network(ran: Place) -> None:
    assert ran.attempts == ""
    for name in ("first", "second"):
        assert {result.status for result in read_run(ran.cwd / name).results} == {"ok"}


@pytest.mark.slow
def test_no_other_command_does(ran: Place) -> None:
    for words in COMMANDS.values():
        done = ran.bench(*words)
        assert done.returncode == 0, done.stderr
        assert ran.attempts == ""


@pytest.mark.slow
def test_nothing_is_written_but_in_the_run_folder_the_cache_and_what_was_named(ran: Place) -> None:
    for path in ran.written:
        assert path.is_relative_to(ran.cwd) or path.is_relative_to(ran.temporary)
    named = ("rows.csv", "first", "second", ".bench", "exported", "baselines", "mlflow.db", "mlruns")
    assert all(path.name.startswith(named) for path in ran.cwd.iterdir())
    assert not list(ran.home.iterdir())
    # Torch makes the folder of its compiler's cache when it is imported; what is compiled lies with the step.
    left = {path.name.partition("_")[0] for path in ran.temporary.rglob("*")}
    assert left <= {"torchinductor"}


@pytest.mark.slow
def test_a_worker_that_tries_is_denied_and_noted(ran: Place, tmp_path: Path) -> None:
    """The tests above see what happens in workers, too."""
    place = Place(ran.cwd, ran.home, ran.temporary, tmp_path)
    (ran.cwd / "calls.py").write_text(PLUGIN)
    done = place.bench("run", *ASKED, "--plugin", "calls.py", "--variants", "calls", "--out", "calling")
    assert done.returncode == 1, done.stderr
    called = read_run(place.cwd / "calling").result("calls")
    assert called is not None
    assert "the network is denied" in (called.reason or "")
    assert "create_connection" in place.attempts


def test_a_hub_id_is_looked_up_and_a_folder_is_not(place: Place) -> None:
    write_rows(place.cwd / "rows.csv", 40)
    asked = ("run", "--train", "rows.csv", "--test-split", "0.3", "--dry-run", "--model")
    missing = place.bench(*asked, "./nobody/nothing/here")
    assert (missing.returncode, place.attempts) == (2, "")
    done = place.bench(*asked, "nobody/nothing")
    assert done.returncode == 2
    assert "nobody/nothing: no such folder, and https://huggingface.co cannot be reached" in done.stderr
    assert "socket.getaddrinfo ('huggingface.co'" in place.attempts
