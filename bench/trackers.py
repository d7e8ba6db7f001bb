"""Trackers: a saved run, logged where a team keeps its experiments. Nothing here takes part in measuring."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import InputError, did_you_mean
from bench.folder import PAGE, REPORT, RUN
from bench.nouns.measurement import Measurement
from bench.nouns.run import Result, Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

# MLflow's own limits; longer ones are refused by its databases or cut without a word.
LONGEST_NAME, LONGEST_EXPERIMENT, LONGEST_PARAMETER, LONGEST_TAG = 250, 500, 6000, 8000
# MLflow has no word for what was skipped.
STATUS = {
    "complete": "FINISHED",
    "interrupted": "KILLED",
    "running": "KILLED",
    "ok": "FINISHED",
    "failed": "FAILED",
    "skipped": "KILLED",
}

# Telemetry is switched off at import or not at all.
SILENCE = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
ADDRESS = "MLFLOW_TRACKING_URI"


def check(name: str) -> None:
    """Raise `InputError` where the tracker `name` is unknown, not installed or not to be reached."""
    find(name).check()


def track(name: str, run: Run, folder: Path | None) -> str:
    """Log a saved run, and the reports in its folder if it has one; returns one line that says where it went.

    Raises `InputError` where that cannot be. The run's own files are only read.
    """
    return find(name).log(run, folder)


def find(name: str) -> Mlflow:
    """The tracker of this name, or `InputError`."""
    if name not in TRACKERS:
        raise InputError(f"--track {name}: no such tracker; {did_you_mean(name, list(TRACKERS))}")
    return TRACKERS[name]


@dataclass(frozen=True)
class Entry:
    """One run as a tracker keeps it. `metrics` are name, value and training step, 0 where there is none."""

    name: str
    status: str
    duration_s: float
    params: dict[str, str]
    metrics: list[tuple[str, float, int]]
    tags: dict[str, str]


def entry_of_run(run: Run) -> Entry:
    """The whole run: what was asked for, where it ran, what is recommended."""
    spent_s = sum(sum(result.spent.values()) for result in run.results)
    times = {"wall_time": run.wall_time, "import_time": run.import_time}
    recommended = next((result.variant for result in run.results if result.recommended), None)
    return Entry(
        name=run.id,
        status=STATUS[run.status],
        duration_s=run.wall_time.value if run.wall_time else spent_s,
        params=texts(run.config.model_dump(mode="json")),
        metrics=values({name: found for name, found in times.items() if found}),
        tags=tags_of(
            run,
            status=run.status,
            document=digest(run),
            recommended_variant=recommended,
            warnings=", ".join(caution.code for caution in run.environment.warnings),
        ),
    )


def entry_of_result(run: Run, result: Result) -> Entry:
    """One variant at one seed: every metric and scenario with its interval, training curve, verdicts."""
    measurements = measurements_of(result)
    settings = run.config.model_dump(mode="json", exclude={"command", "variants", "seeds"})
    kept = {f"accuracy_kept.{split}": verdict.word for split, verdict in result.accuracy_kept.items()}
    verdicts = {f"verdict.{metric}": verdict.word for metric, verdict in result.verdicts.items()}
    return Entry(
        name=result.variant if len(run.config.seeds) == 1 else f"{result.variant}, seed {result.seed}",
        status=STATUS[result.status],
        duration_s=sum(result.spent.values()),
        params=texts({"variant": result.variant, "seed": result.seed, "parts": result.parts} | settings),
        metrics=values(measurements) + training_curve(result),
        tags=tags_of(
            run,
            status=result.status,
            reason=result.reason,
            recommended=str(result.recommended).lower(),
            estimated=", ".join(name for name, found in measurements.items() if found.estimated),
            unavailable="; ".join(f"{name}: {reason}" for name, reason in result.unavailable.items()),
            **kept,
            **verdicts,
        ),
    )


def measurements_of(result: Result) -> dict[str, Measurement]:
    """All its measurements; those of a scenario as `batch 32/throughput`."""
    scenarios = {
        f"{name}/{metric}": found
        for name, scenario in result.scenarios.items()
        for metric, found in scenario.metrics.items()
    }
    return result.metrics | scenarios


def values(measurements: Mapping[str, Measurement]) -> list[tuple[str, float, int]]:
    """Each measurement's value, and as `NAME.ci_low` and `NAME.ci_high` the ends of its interval."""
    found = []
    for name, measurement in measurements.items():
        ends = {"": measurement.value, ".ci_low": measurement.ci_low, ".ci_high": measurement.ci_high}
        found += [(key(name + end), value, 0) for end, value in ends.items() if value is not None]
    return found


def training_curve(result: Result) -> list[tuple[str, float, int]]:
    """What training logged, as `training/loss` by step."""
    return [
        (key(f"training/{name}"), value, int(logged.get("step", 0)))
        for logged in result.training
        for name, value in logged.items()
        if name != "step"
    ]


def tags_of(run: Run, **own: str | None) -> dict[str, str]:
    """Tags that name the run and where it was measured, and those of the entry, empty ones left out."""
    common = {
        "run_id": run.id,
        "started_at": run.started_at.isoformat(),
        "machine_key": run.environment.machine_key,
        "commit": run.environment.commit,
    }
    return {key(f"bench.{name}"): value for name, value in (common | own).items() if value}


def texts(settings: Mapping[str, object]) -> dict[str, str]:
    """Settings as text: a string as it is, anything else as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in settings.items()
    }


def key(name: str) -> str:
    """`name` of the characters alone that MLflow allows on every system: `batch 32 1 thread/speedup`."""
    return re.sub(r"[^A-Za-z0-9_./\- ]", "", name)


def digest(run: Run) -> str:
    """A hash of the whole document."""
    return hashlib.sha256(run.model_dump_json().encode()).hexdigest()[:16]


class Mlflow:
    """What `MLFLOW_TRACKING_URI` names, else MLflow's own default: a database in the working folder."""

    def check(self) -> None:
        """Ask once, so that an address or a password that is wrong is found before anything is measured."""
        with connected(0, f"see that it is there, or name another with {ADDRESS}") as client:
            client.search_experiments(max_results=1)

    def log(self, run: Run, folder: Path | None) -> str:
        """A parent run with `run.json` and the reports, and a child for each variant and seed.

        The same document is logged once. What an earlier document of this run left, or an attempt that was
        broken off, is deleted when the new one is there.
        """
        parent, children = entry_of_run(run), [entry_of_result(run, result) for result in run.results]
        document = run.model_dump_json(indent=2)
        began_ms = round(run.started_at.timestamp() * 1000)
        with connected(2, "the run is saved, and bench report --track mlflow logs it later") as client:
            experiment = experiment_of(client, run.task.name)
            earlier = earlier_of(client, experiment, run)
            for found in earlier:
                is_same = found.data.tags.get("bench.document") == parent.tags["bench.document"]
                if is_same and found.info.status != "RUNNING":
                    return said(client, experiment, found.info.run_id, "is there already")
            logged = begin(client, experiment, parent, began_ms)
            for child in children:
                run_id = begin(client, experiment, child, began_ms, parent=logged)
                finish(client, run_id, child, began_ms)
            client.log_text(logged, document, RUN)
            for report in (REPORT, PAGE):
                if folder and (folder / report).is_file() and not (folder / report).is_symlink():
                    client.log_artifact(logged, str(folder / report))
            finish(client, logged, parent, began_ms)
            for found in earlier:
                client.delete_run(found.info.run_id)
            return said(client, experiment, logged, "replaces an earlier one" if earlier else "")


TRACKERS = {"mlflow": Mlflow()}


def experiment_of(client: MlflowClient, task: str) -> str:
    """The id of the experiment that has the task's name, made if need be."""
    name = cut(task, LONGEST_EXPERIMENT)
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def earlier_of(client: MlflowClient, experiment: str, run: Run) -> list[MlflowRun]:
    """What is logged of this run: an id is the name of a folder, so the start has to agree too."""
    found = client.search_runs([experiment], f"tags.`bench.started_at` = '{run.started_at.isoformat()}'")
    return [logged for logged in found if logged.data.tags.get("bench.run_id") == run.id]


def begin(
    client: MlflowClient, experiment: str, entry: Entry, began_ms: int, parent: str | None = None
) -> str:
    """Start a run with everything of `entry` in it, below `parent` if there is one; returns its id."""
    from mlflow.entities import Metric, Param

    tags = {name: cut(value, LONGEST_TAG) for name, value in entry.tags.items()}
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    run = client.create_run(experiment, began_ms, tags, cut(entry.name, LONGEST_NAME))
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, value, began_ms, step) for name, value, step in entry.metrics],
        params=[Param(name, cut(value, LONGEST_PARAMETER)) for name, value in entry.params.items()],
    )
    return str(run.info.run_id)


def finish(client: MlflowClient, run_id: str, entry: Entry, began_ms: int) -> None:
    """End a run: until then it counts as broken off."""
    client.set_terminated(run_id, entry.status, began_ms + round(1000 * entry.duration_s))


def said(client: MlflowClient, experiment: str, run_id: str, remark: str) -> str:
    """Where a run went: the address of its page, or of the database that it is in."""
    place = without_credentials(client.tracking_uri)
    if place.startswith("http"):
        place = f"{place.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"
    else:
        place = f"run {run_id} in {place}"
    unset = "" if os.environ.get(ADDRESS) else f"{ADDRESS} is not set"
    remarks = "; ".join(part for part in (remark, unset) if part)
    return f"mlflow: {place}" + (f" ({remarks})" if remarks else "")


@contextmanager
def connected(retries: int, remedy: str) -> Iterator[MlflowClient]:
    """A client of the tracking store.

    Whatever is raised inside becomes an `InputError` that names the store and ends with `remedy`: stores
    are plugins with exceptions of their own.
    """
    with quiet(retries):
        try:
            import mlflow
            from mlflow import MlflowClient
        except ImportError:
            raise InputError(
                "--track mlflow: needs mlflow, which is not installed: "
                "pip install 'compressed-transformer-bench[mlflow]'"
            ) from None
        place = mlflow.get_tracking_uri()
        try:
            yield MlflowClient(place)
        except Exception as error:
            raise InputError(
                f"--track mlflow: {without_credentials(place)} cannot be used ({reason_of(error)}); {remedy}"
            ) from None


@contextmanager
def quiet(retries: int) -> Iterator[None]:
    """MLflow says nothing, asks nobody but its store, and gives up after `retries`, or as the user set it."""
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries), "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    settings = patience | {name: os.environ[name] for name in patience if name in os.environ} | SILENCE
    earlier, disabled = dict(os.environ), logging.root.manager.disable
    os.environ.update(settings)
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for name in settings:
            os.environ.pop(name)
            if name in earlier:
                os.environ[name] = earlier[name]


def reason_of(error: BaseException) -> str:
    """What a client says in one line; of a connection that failed, what the system says."""
    link = error
    while chained := link.__cause__ or link.__context__:
        link = chained
        error = link if isinstance(link, OSError) else error
    # Credentials go before the rest is cut, which may leave half an address.
    return without_credentials(" ".join(str(error).split()))[:300] or type(error).__name__


def without_credentials(text: str) -> str:
    """`text` with the user and password left out of every address, whatever a password holds."""
    return re.sub(r"//\S*@", "//", text)


def cut(text: str, longest: int) -> str:
    """`text` in at most so many characters, with an ellipsis where some are missing."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
