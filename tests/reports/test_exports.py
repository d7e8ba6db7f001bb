"""Every format of one run and of several; LaTeX's golden document; and that nothing heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import InputError
from bench.folder import RunFolder
from bench.nouns.run import Run
from reports import content, markdown, side_by_side
from reports.exports import FORMATS

HEAVY = """
import sys
from pathlib import Path
from bench.nouns.run import Run
from reports.exports import FORMATS
run = Run.model_validate_json(Path(sys.argv[1]).read_bytes())
for name, document in FORMATS.items():
    assert document({"run": run}), name
heavy = {"torch", "transformers", "numpy", "scipy", "pytest"} & sys.modules.keys()
assert not heavy, heavy
"""


def test_latex(run: Run, golden: Callable[[str, str], None]) -> None:
    golden("report.tex", FORMATS["latex"]({"run": run}))


def test_one_run_is_reported_as_ever_and_several_side_by_side(run: Run, sixteen: Run) -> None:
    both = {"a": run, "b": sixteen}
    assert FORMATS["markdown"]({"a": run}) == markdown.document(content.report(run))
    assert FORMATS["markdown"](both) == markdown.document(side_by_side.report(both))
    assert r"\caption{Speedup over dense $\uparrow$}" in FORMATS["latex"](both)


def test_json_of_one_run_is_its_document_byte_for_byte(run: Run, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", 0)
    folder.write(run)
    assert FORMATS["json"]({"a": run}).encode() == (folder.path / "run.json").read_bytes()


def test_json_of_several_runs_is_an_array_of_their_documents(run: Run, sixteen: Run) -> None:
    documents = json.loads(FORMATS["json"]({"a": run, "b": sixteen}))
    assert [Run.model_validate(document) for document in documents] == [run, sixteen]


def test_pytest_benchmark_s_file_is_of_one_run(run: Run) -> None:
    with pytest.raises(InputError, match="a file is of one run, and here are 2") as caught:
        FORMATS["pytest-benchmark"]({"a": run, "b": run})
    assert "\n" not in str(caught.value)


def test_no_format_imports_anything_heavy(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(run.model_dump_json())
    done = subprocess.run([sys.executable, "-c", HEAVY, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
