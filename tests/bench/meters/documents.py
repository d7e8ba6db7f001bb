"""A run document with everything but results filled in."""

from __future__ import annotations

from datetime import UTC, datetime

from bench.nouns.audit import DataAudit
from bench.nouns.environment import Environment
from bench.nouns.run import Config, Result, Run
from bench.nouns.task import TaskSummary
from bench.protocol import PROTOCOL_VERSION


def run_of(*results: Result) -> Run:
    """A complete run of these results."""
    return Run(
        id="20260101-000000-abcdef",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        status="complete",
        environment=Environment(
            machine_key="0123456789ab",
            platform="Linux",
            cpu_model="a CPU",
            cpu_cores=2,
            cpu_features=["avx2"],
            cpu_quota=None,
            affinity=[0, 1],
            governor=None,
            load=0.1,
            virtualised=True,
            memory=4 * 2**30,
            devices=[],
            versions={"bench": "0"},
            threads=2,
            variables={},
            fp32_precision="ieee",
            commit=None,
            warnings=[],
        ),
        task=TaskSummary(
            name="own",
            description="rows",
            demonstration=False,
            model=None,
            labels=["a", "b"],
            rows={"train": 1, "validation": 1, "test": 1},
            dropped={},
            notes=[],
            audit=DataAudit(),
        ),
        config=Config(
            command="bench run",
            protocol_version=PROTOCOL_VERSION,
            variants=list(dict.fromkeys(result.variant for result in results)),
            device="cpu",
            budget="quick",
            seeds=sorted({result.seed for result in results}),
            paddings=[],
            shapes=[],
            thread_counts=[],
            deduplicate=False,
            epochs=1.0,
            dense_epochs=2.0,
            learning_rate=1e-3,
            dense_learning_rate=1e-3,
            batch_size=32,
            max_length=64,
            country="IND",
            carbon_intensity=700.0,
            carbon_source="India",
            pue=1.0,
            accuracy_margin=0.01,
            keep="all",
        ),
        fingerprints={"rows": "0", "model": "0", "code": "0"},
        results=list(results),
    )
