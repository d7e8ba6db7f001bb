"""The committed JSON Schema is the document's own, and what the document refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

import bench.nouns.run
from bench.nouns.measurement import METRICS, measured
from bench.nouns.run import Result, Run, Scenario, json_schema
from bench.statistics import Outcome, judge
from tests.bench.meters.documents import run_of

SCHEMA = Path(bench.nouns.run.__file__).with_name("run.schema.json")
REGENERATE = (
    'python -c "import json; from bench.nouns.run import json_schema; '
    'print(json.dumps(json_schema(), indent=2, ensure_ascii=False))" > bench/nouns/run.schema.json'
)


def full() -> Run:
    """A document in which every part occurs."""
    metrics = {name: measured(name, 1.5, "test", (1.0, 2.0), (1.4, 1.6)) for name in METRICS}
    scenario = Scenario(batch_size=1, padding="none", rounds=2, converged=False, metrics=metrics)
    result = Result(
        variant="मराठी+kd",
        seed=0,
        status="ok",
        metrics=metrics,
        scenarios={"batch 1": scenario},
        training=[{"step": 1.0, "loss": 0.5}],
        accuracy_kept={"test": judge([Outcome("a", "a")], [Outcome("a", "b")], 0.01)},
    )
    return run_of(result, Result(variant="x", seed=0, status="failed", reason="memory"))


def document(run: Run) -> Any:
    return json.loads(run.model_dump_json())


def test_the_committed_schema_is_the_documents_own() -> None:
    assert json.loads(SCHEMA.read_text()) == json_schema(), f"regenerate it with: {REGENERATE}"


def test_a_run_is_valid_by_the_committed_schema() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for run in (run_of(), full()):
        validator.validate(document(run))
        assert Run.model_validate_json(run.model_dump_json()) == run


@pytest.mark.parametrize(
    "change", [{"colour": "red"}, {"status": "done"}, {"schema_version": 1}, {"id": None}]
)
def test_the_schema_refuses_what_the_document_refuses(change: dict[str, Any]) -> None:
    changed = document(full()) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, json_schema())
    with pytest.raises(ValidationError):
        Run.model_validate(changed)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        measured("speedup", value, "test")
    with pytest.raises(ValidationError):
        measured("speedup", 1.0, "test", samples=(value,))
    text = (
        full().model_dump_json().replace("1.5", str(value).replace("nan", "NaN").replace("inf", "Infinity"))
    )
    with pytest.raises(ValidationError):
        Run.model_validate_json(text)
