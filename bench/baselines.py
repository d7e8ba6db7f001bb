"""Runs kept under a name, one folder a machine: `baselines/<machine key>/<name>.json`, made for git."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ComparisonError, InputError, NoBaselineYet, did_you_mean
from bench.folder import RUN, write_atomically
from bench.nouns.measurement import Measurement
from bench.nouns.run import Result, Run, Scenario

ROOT = Path("baselines")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Kept:
    """A baseline: its machine's key, its name and its file."""

    machine: str
    name: str
    file: Path


def check_name(name: str) -> None:
    """Raise `InputError` for a name that is no plain file name."""
    if not NAME.fullmatch(name) or name.endswith(".json"):
        raise InputError(
            f"{name}: not a baseline's name; use letters, digits, '.', '_' and '-', without .json"
        )


def save(run: Run, name: str, root: Path = ROOT) -> Path:
    """Keep the run under the name, in place of an earlier one; returns where.

    What statistics were derived from, the samples and rounds, stays in the run folder: a file under version
    control is to be read and compared, and these are most of it.
    Raises `InputError` for a run that is not complete, or where the file cannot be written.
    """
    check_name(name)
    if run.status != "complete":
        raise InputError(f"run {run.id} is {run.status}; a baseline is a complete run, so --resume it first")
    file = root / run.environment.machine_key / f"{name}.json"
    refuse_link(file.parent)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, without_samples(run).model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from None
    return file


def without_samples(run: Run) -> Run:
    """The same run with its statistics alone."""
    return run.model_copy(update={"results": [bare_result(result) for result in run.results]})


def bare_result(result: Result) -> Result:
    """A row without samples, rounds and training curve."""
    scenarios = {
        name: scenario.model_copy(update={"raw": None, "metrics": bare(scenario.metrics)})
        for name, scenario in result.scenarios.items()
    }
    changes: dict[str, dict[str, Scenario] | dict[str, Measurement] | list[object]] = {
        "metrics": bare(result.metrics),
        "scenarios": scenarios,
        "training": [],
    }
    return result.model_copy(update=changes)


def bare(metrics: dict[str, Measurement]) -> dict[str, Measurement]:
    """Measurements without the readings they were derived from."""
    return {name: found.model_copy(update={"samples": ()}) for name, found in metrics.items()}


def kept(root: Path = ROOT) -> list[Kept]:
    """All baselines, by machine and name. A machine's folder that is a link is none: it may lie anywhere.

    Raises `InputError` for a folder that cannot be read, which would pass for one without baselines.
    """
    try:
        machines = [Path(entry) for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
        entries = [entry for machine in machines for entry in os.scandir(machine) if not entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"{error.filename}: cannot be read ({error.strerror}); see its permissions"
        ) from None
    files = sorted(Path(entry) for entry in entries if entry.name.endswith(".json"))
    return [Kept(file.parent.name, file.stem, file) for file in files]


def find(name: str | None, machine: str, root: Path = ROOT, any_machine: bool = False) -> Path:
    """The file of this machine's baseline by name, or of a run by path; without a name that of the only one.

    With `any_machine` one of another machine will do. Raises `NoBaselineYet` for a name without one,
    `ComparisonError` for a path to nothing, and `InputError` where it is not clear which is meant.
    """
    there = [each for each in kept(root) if any_machine or each.machine == machine]
    fitting = [each for each in there if name in (None, each.name)]
    fitting = [each for each in fitting if each.machine == machine] or fitting
    if len(fitting) == 1:
        return fitting[0].file
    if fitting:
        named = ", ".join(str(each.file) for each in fitting)
        raise InputError(f"which baseline? {named}; name one")
    if name is not None and is_run(Path(name)):
        return Path(name)
    if name is not None and ("/" in name or name.endswith(".json")):
        raise ComparisonError(f"{name}: no such run or baseline")
    refuse_link(root / machine)
    raise NoBaselineYet(nothing_kept(name, machine, root, [each.name for each in there]))


def refuse_link(machine: Path) -> None:
    """Raise `InputError` where a machine's folder is a link: what we wrote or deleted would lie elsewhere."""
    if machine.is_symlink():
        raise InputError(f"{machine}: is a link; baselines lie in folders, put one in its place")


def is_run(place: Path) -> bool:
    """Whether a run document can lie there: in a folder, or a file itself."""
    try:
        return place.is_file() or (place / RUN).is_file()
    except (OSError, ValueError):
        return False  # no file can have such a name


def nothing_kept(name: str | None, machine: str, root: Path, known: list[str]) -> str:
    """That there is no such baseline, with what there is instead and how to make it."""
    elsewhere = sorted({each.machine for each in kept(root) if name in (None, each.name)} - {machine})
    parts = [
        f"no baseline{f' {name}' if name else ''} of this machine ({machine}) in {root}/",
        did_you_mean(name, list(dict.fromkeys(known))) if name and known else "",
        f"there is one of machine {', '.join(elsewhere)}, for --relative" if elsewhere else "",
        f"make one with bench baseline save RUN {name or 'NAME'}",
    ]
    return "; ".join(part for part in parts if part)


def remove(name: str, here: str, machine: str | None, root: Path = ROOT) -> Path:
    """Delete a baseline by name: of `machine` where given, else of this one, `here`, else the only one.

    Returns its file. Raises `InputError` where there is none, or it is not clear which is meant.
    """
    there = kept(root)
    fitting = [each for each in there if each.name == name and machine in (None, each.machine)]
    fitting = [each for each in fitting if each.machine == here] or fitting
    if not fitting:
        known = [each.name for each in there if machine in (None, each.machine)]
        place = "" if machine is None else f" of the machine {machine}"
        raise InputError(f"{name}: no such baseline{place}; {did_you_mean(name, known)}")
    if len(fitting) > 1:
        machines = ", ".join(each.machine for each in fitting)
        raise InputError(f"{name}: of the machines {machines}; add --machine KEY")
    fitting[0].file.unlink()
    return fitting[0].file
