"""In which order a row's steps are done, what is not done twice, and what is thrown away in the end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.cache import Step
from bench.display import LineDisplay
from bench.environment import fingerprint
from bench.errors import BenchError, InputError, Refusal
from bench.executors import local
from bench.executors.local import Local
from bench.folder import RunFolder, read_run
from bench.meters.carbon import CO2_OF
from bench.meters.findings import Findings
from bench.nouns.environment import Caution
from bench.nouns.measurement import Measurement, measured
from bench.nouns.run import Result, Run
from bench.options import Options
from bench.plan import make_plan
from bench.runner import begin, drop_artifacts, sweep, without_lost
from bench.steps.request import Request
from bench.storage import Storage
from bench.watch import Watch
from bench.workbench import Workbench, drop_foreign_costs
from bench.worker import PREDICTIONS
from bench.workers import StepFailed, Workers
from compressors.artifact import ARTIFACT
from compressors.contract import Compressor, Phase
from compressors.variant import Variant, parse_variant

Failing = Callable[[Request], BenchError | None]


class Rehearsal(Workbench):
    """A workbench whose workers do nothing but say what they were asked for."""

    fails: Failing = staticmethod(lambda request: None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asked: list[str] = []
        self.costs: dict[str, Measurement] = {}

    def rehearse(self, folder: Path) -> None:
        """Take the place of a worker."""
        request = Request.model_validate_json((folder / "request.json").read_text())
        start = " from trained" if request.trained else ""
        self.asked.append(f"{request.kind} {request.variant}{start}")
        if error := self.fails(request):
            (folder / "log.txt").write_text(str(error))
            raise error
        (folder / ARTIFACT).mkdir()
        (folder / ARTIFACT / "config.json").write_text("{}")
        answer = {"label": "x", "predicted": "x", "seen": False}
        splits = [split for split in ("validation", "test") for _ in getattr(self.plan.task, split)]
        lines = [json.dumps({"split": split} | answer) + "\n" for split in splits]
        (folder / PREDICTIONS).write_text("".join(lines))
        found = Findings(metrics=self.costs if request.kind == "compress" else {})
        found.unavailable = {name: "no meter" for name in CO2_OF if name not in found.metrics}
        (folder / "findings.json").write_text(found.model_dump_json())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    from rich.console import Console

    monkeypatch.chdir(tmp_path)
    options = Options(limit=60, limit_test=30, device="cpu", out=tmp_path / "run", cache=tmp_path / "cache")
    folder = RunFolder.create(options.out, 0)
    workers = Workers()
    made = Rehearsal(make_plan(options), folder, workers, LineDisplay(Console(quiet=True)), fingerprint())
    monkeypatch.setattr(workers, "run", lambda work, stage, limit_s: made.rehearse(work))
    return made


def rows(bench: Rehearsal, *specs: str) -> list[Result]:
    """The rows of these variants, dense's own being there."""
    dense = bench.result(parse_variant("dense"), seed=0)
    bench.asked.clear()
    return [dense if spec == "dense" else bench.result(parse_variant(spec), seed=0) for spec in specs]


def cached(bench: Rehearsal) -> list[str]:
    """The variants whose models the cache still holds."""
    requests = [json.loads(file.read_text()) for file in bench.cache.root.glob("*/request.json")]
    return sorted(found["variant"] for found in requests if found["kind"] in ("dense", "compress"))


def test_dense_is_made_its_equal_before_anything_is_trained(bench: Rehearsal) -> None:
    assert [row.status for row in rows(bench, "bmp50+kd+mp+unpadded")] == ["ok"]
    assert bench.asked == [
        "teacher dense",
        "compress mp+unpadded",
        "compress bmp50+kd+mp",
        "compress bmp50+kd+mp+unpadded from trained",
        "timing bmp50+kd+mp+unpadded",
        "footprint bmp50+kd+mp+unpadded",
    ]


def test_variants_that_differ_after_training_share_it(bench: Rehearsal) -> None:
    found = rows(bench, "bmp50+sorted", "bmp50", "bmp50+unpadded")
    assert [row.status for row in found] == ["ok"] * 3
    assert bench.asked.count("compress bmp50") == 1
    assert found[0].parts == ["bmp50", "sorted"]
    assert "compressing took the training of bmp50, done once for all" in found[0].notes


def test_what_dense_cannot_have_is_refused_before_training(bench: Rehearsal) -> None:
    bench.fails = lambda request: (
        Refusal("graphs needs a GPU") if "graphs" in request.variant and request.kind == "compress" else None
    )
    [row] = rows(bench, "bmp50+graphs")
    assert (row.status, row.reason) == ("skipped", "graphs needs a GPU")
    assert bench.asked == ["compress graphs"]


def test_a_model_of_its_own_does_not_need_dense_to_be_its_equal(bench: Rehearsal, tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "config.json").write_text("{}")
    (tmp_path / "student" / "model.safetensors").write_bytes(b"")
    bench._watch = Watch(dataclasses.replace(bench.plan, checkpoints={"student": None}))
    bench.fails = lambda request: (
        Refusal("not of this family")
        if request.variant == "unpadded" and request.kind == "compress"
        else None
    )
    [row] = rows(bench, "kd:student=student+unpadded")
    assert row.status == "ok", row.reason
    assert row.unavailable["speedup_same_precision"] == (
        "dense cannot be made and run as this variant is: not of this family"
    )


def test_a_shared_step_that_fails_is_tried_once_and_fails_every_row(bench: Rehearsal) -> None:
    bench.fails = lambda request: StepFailed("no memory") if request.variant == "bmp50" else None
    found = rows(bench, "bmp50", "bmp50+sorted", "bmp50+unpadded")
    assert [row.status for row in found] == ["failed"] * 3
    assert all("no memory" in (row.reason or "") for row in found)
    assert bench.asked.count("compress bmp50") == 1


def test_a_file_that_one_variant_cannot_use_is_that_rows_failure_with_its_log(bench: Rehearsal) -> None:
    broken = InputError("broken: no usable tokenizer")
    bench.fails = lambda request: broken if request.variant == "bmp50" else None
    found = rows(bench, "bmp50", "bmp50+sorted")
    assert [row.status for row in found] == ["failed"] * 2
    assert bench.asked.count("compress bmp50") == 1
    for row in found:
        assert row.failure is not None
        assert (row.failure.kind, row.failure.step, row.failure.log) == ("error", "compress", [str(broken)])
    assert (bench.folder.path / "logs" / "bmp50-compress.txt").read_text() == str(broken)


def test_a_file_that_dense_cannot_use_ends_the_run(bench: Rehearsal) -> None:
    bench.fails = lambda request: InputError("dense: broken")
    with pytest.raises(InputError, match="dense: broken"):
        bench.result(parse_variant("dense"), seed=0)


def test_an_answer_that_is_no_text_is_not_put_into_the_document(bench: Rehearsal) -> None:
    @dataclasses.dataclass
    class Lists(Compressor):
        name, phase, summary, trains = "lists", Phase.PRECISION, "answers with lists", False

        def why_not_faster(self, *asked: object) -> Any:
            return ["slow"]

    row = bench.judged(Result(variant="lists", seed=0, status="ok"), Variant((Lists(),)))
    said = "lists: why_not_faster gave list; give a text or None"
    assert row.notes == [f"why it is not faster could not be told: {said}"]


def test_what_is_written_while_a_step_reads_it_is_no_result(
    bench: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus.txt").write_text("one")
    variant = parse_variant("vocab:corpus.txt")
    watched = Rehearsal(
        dataclasses.replace(bench.plan, variants=(parse_variant("dense"), variant)),
        *(bench.folder, bench.workers, bench.display, bench.environment),
    )
    monkeypatch.setattr(bench.workers, "run", lambda work, listen, limit_s: watched.rehearse(work))

    def write(request: Request) -> None:
        if request.kind == "compress":
            (tmp_path / "corpus.txt").write_text("other words")

    watched.fails = write
    [row] = rows(watched, variant.name)
    assert row.status == "failed"
    assert "corpus.txt changed while the run worked; start the run anew" in (row.reason or "")
    assert cached(watched) == ["dense"]


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        ([], []),
        (["bmp50+unpadded"], ["bmp50+unpadded"]),
        (["bmp50"], ["bmp50"]),
    ],
)
def test_the_cache_keeps_no_model_but_those_to_be_kept(
    bench: Rehearsal, kept: Sequence[str], left: Sequence[str]
) -> None:
    found = rows(bench, "dense", "bmp50", "bmp50+unpadded")
    assert cached(bench) == ["bmp50", "bmp50+unpadded", "dense", "unpadded"]
    drop_artifacts(bench.folder, begin(bench.plan, "run"), [row for row in found if row.variant not in kept])
    bench.drop_models([row for row in found if row.variant in kept])
    assert cached(bench) == left
    assert [row.variant for row in found if row.artifact] == list(kept)
    for row in found:
        assert bench.folder.artifact(row.variant).exists() == (row.variant in kept)


def test_a_missing_package_is_said_before_any_step(bench: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressors.variant.find_spec", lambda package: None)
    [row] = rows(bench, "bmp50+int8")
    assert row.status == "skipped"
    assert "pip install 'compressed-transformer-bench[torchao]'" in (row.reason or "")
    assert bench.asked == []


def test_models_are_taken_over_from_the_storage_by_a_machine_of_another_kind(
    bench: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own measurements are made there all the same, and its own model of what no other has made."""

    def on_another_machine(name: str, key: str) -> Rehearsal:
        plan = dataclasses.replace(bench.plan, cache=tmp_path / name)
        plan.cache.mkdir()
        environment = bench.environment.model_copy(update={"machine_key": key})
        made = Rehearsal(
            plan, bench.folder, bench.workers, bench.display, environment, storage, bench.environment
        )
        monkeypatch.setattr(bench.workers, "run", lambda work, listen, limit_s: made.rehearse(work))
        return made

    storage = Storage(str(tmp_path / "storage"))
    first = on_another_machine("first", bench.environment.machine_key)
    assert [row.status for row in rows(first, "dense", "bmp50")] == ["ok", "ok"]
    second = on_another_machine("second", "abc")
    rows(second, "bmp50")
    assert second.asked == ["timing bmp50", "footprint bmp50"]
    third = on_another_machine("third", "abc")
    rows(third, "bmp50")
    assert third.asked == [], "measurements of a machine of the same kind count, too"


@pytest.mark.parametrize(("made_on", "is_there"), [("abc", False), (None, True)])
def test_what_making_cost_on_another_machine_is_not_this_ones(made_on: str | None, is_there: bool) -> None:
    cost = measured("compress_wall_time", 60.0, "perf_counter")
    found = Findings(metrics={"compress_wall_time": cost}, made_on=made_on)
    step = Step("compress", "compress-0", Path(), found, cached=True)
    drop_foreign_costs(findings := found.model_copy(deep=True), [step, None], here="def")
    assert ("compress_wall_time" in findings.metrics) == is_there
    assert ("compress_wall_time" in findings.unavailable) != is_there


@pytest.mark.parametrize("beside_others", [False, True])
def test_what_making_cost_beside_other_rows_is_not_told(bench: Rehearsal, beside_others: bool) -> None:
    spent = {"compress_energy": measured("compress_energy", 60.0, "RAPL, CPU packages")}
    bench.costs, bench.beside_others = spent, beside_others
    [row] = rows(bench, "mp")
    assert ("compress_energy" in row.metrics) != beside_others
    assert ("--row-cpus" in row.unavailable.get("compress_energy", "")) == beside_others
    assert ("compress_co2" in row.metrics) != beside_others


def test_steps_of_the_cache_are_known(bench: Rehearsal) -> None:
    rows(bench, "bmp50")
    assert bench.asked
    bench._steps.clear()
    [row] = rows(bench, "bmp50")
    assert bench.asked == []
    assert isinstance(bench.cache.find("dense", next(iter(bench._steps))), Step)
    assert row.cached == ["compress", "timing", "footprint"]


def test_what_was_noticed_is_in_the_document_at_once_and_outlives_a_kill(
    bench: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that is killed writes nothing more: what it noticed belongs to the figures that it left."""
    noticed = Caution(code="power-cap", text="the GPU was held back", remedy="raise its power limit")
    monkeypatch.setattr(local, "start_cautions", lambda environment, device: [noticed])
    plan = dataclasses.replace(bench.plan, variants=(parse_variant("dense"), parse_variant("mp")))
    killed: list[Run] = []

    def look(request: Request) -> BenchError | None:
        if request.variant == "mp" and request.kind == "compress":
            killed.append(read_run(bench.folder.path))
        return None

    bench.fails = look
    monkeypatch.setattr(bench.display, "end", lambda name, result: None)
    sweep(begin(plan, "one"), plan, bench.folder, bench.display, Local(bench), None, None)
    [left] = killed
    assert [result.variant for result in left.results] == ["dense"]
    assert noticed in left.environment.warnings
    monkeypatch.setattr(local, "start_cautions", lambda environment, device: [])
    sweep(begin(plan, "one"), plan, bench.folder, bench.display, Local(bench), left, None)
    assert noticed in read_run(bench.folder.path).environment.warnings


def test_a_row_whose_predictions_were_lost_is_made_again(
    bench: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dataclasses.replace(bench.plan, variants=tuple(map(parse_variant, ("dense", "mp", "int8"))))
    monkeypatch.setattr(bench.display, "end", lambda name, result: None)
    sweep(begin(plan, "one"), plan, bench.folder, bench.display, Local(bench), None, None)
    left, lost = read_run(bench.folder.path), bench.folder.predictions("mp")
    whole, said = lost.read_text(), list[str]()
    lost.write_text(whole[:-5])
    monkeypatch.setattr(bench.display, "say", said.append)
    rest = without_lost(left, bench.folder, bench.display)
    assert [row.variant for row in rest.results] == ["dense", "int8"]
    sweep(begin(plan, "one"), plan, bench.folder, bench.display, Local(bench), rest, None)
    again = [line for line in said if "is made again" in line]
    assert [line.partition(": ")[0] for line in again] == ["mp is made again"]
    assert lost.read_text() == whole
    bench.folder.predictions("dense").unlink()
    said.clear()
    assert without_lost(left, bench.folder, bench.display).results == []
    assert said[1:] == ["mp is made again: dense is", "int8 is made again: dense is"]
    assert [row.status for row in read_run(bench.folder.path).results] == ["ok"] * 3


def test_what_only_the_rows_tell_is_told_anew_where_a_run_goes_on(
    bench: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dataclasses.replace(bench.plan, variants=(parse_variant("dense"),))
    monkeypatch.setattr(bench.display, "end", lambda name, result: None)
    left = begin(plan, "one")
    stale = Caution(code="further-training", text="kd gains, and ft is not there yet", remedy="add ft")
    seen = Caution(code="load", text="others worked here", remedy="wait")
    left.environment.warnings = [stale, seen]
    sweep(begin(plan, "one"), plan, bench.folder, bench.display, Local(bench), left, None)
    warnings = read_run(bench.folder.path).environment.warnings
    assert seen in warnings
    assert stale not in warnings
