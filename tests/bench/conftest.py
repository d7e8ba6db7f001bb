"""One small real run, made once through the command line and looked at by many tests."""

from __future__ import annotations

import pytest

from tests.commands import Finished, bench, write_rows

ASKED = ("--train", "rows.csv", "--test-split", "0.3", "--quick", "--dense-epochs", "2")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`dense,bmp50+kd,mp` on 400 rows of two topics."""
    cwd = tmp_path_factory.mktemp("run")
    write_rows(cwd / "rows.csv", 400)
    process = bench("run", *ASKED, "--variants", "bmp50+kd,mp", "--out", "first", cwd=cwd)
    assert process.returncode == 0, process.stderr
    return Finished(cwd, cwd / "first", process)
