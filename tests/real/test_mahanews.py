"""The tasks of MahaNews with the one published file that is at hand; the others have its shape."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.hub.asking import User
from tests.hub.mahanews import TOPICS, file_of, write_checkpoint_files, write_corpora
from tests.hub.server import serve

HEADLINES = Path(__file__).parents[2].parent / "shared" / "data" / "mahanews_shc" / "valid.csv"
PLAN = """
import json
from bench.options import Options
from bench.plan import make_plan
task = make_plan(Options(task={!r}, variants="mp", deduplicate={})).task
rows = [len(task.train), len(task.validation), len(task.test)]
audited = [audit.rows for audit in task.audit.splits.values()]
print(json.dumps([task.labels, rows, audited, task.dropped, task.audit.removed]))
"""

pytestmark = pytest.mark.skipif(not HEADLINES.exists(), reason="the real data is not beside the checkout")


def test_the_published_headlines_pass_their_checksum_and_their_count(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    write_corpora(root, "SHC", "LPC", "LDC")
    write_checkpoint_files(root)
    shutil.copy(HEADLINES, file_of(root, "SHC", "validation"))
    with serve(root) as hub:
        user = User(tmp_path / "home", hub)
        labels, rows, _, dropped, _ = json.loads(user.gets(PLAN.format("mahanews-shc", False)))
        assert labels == list(TOPICS)
        assert rows == [22_014, 2_750, 2_761]
        assert dropped == {"validation: repeated header": 11}

        labels, rows, audited, dropped, removed = json.loads(user.gets(PLAN.format("mahanews-all", True)))
        assert labels == list(TOPICS)
        assert audited == [86_898, 10_857, 10_888]
        assert dropped == {"validation: repeated header": 33}
        assert sum(audited) - sum(rows) == sum(removed.values()) > 0
        assert {reason.partition(":")[0] for reason in removed} == {"validation"}
        files = [path for path in hub.downloaded() if path.endswith(".csv")]
        assert len(files) == len(set(files)) == 9
