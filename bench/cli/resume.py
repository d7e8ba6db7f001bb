"""`bench run --resume`: the same run goes on, if all that it rests on is what it was."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.cli.gating import gate_of
from bench.cli.job import Job, carry_out, check_outputs, check_tracker
from bench.cli.shared import say
from bench.errors import InputError

if TYPE_CHECKING:
    from bench.folder import RunFolder
    from bench.nouns.environment import Environment
    from bench.nouns.run import Config, Run


MAY_CHANGE = ("resume", "json", "timeout")


def resume_run(context: typer.Context, path: Path, as_json: bool, timeout_s: float | None) -> None:
    """Go on with a run, asked as it was; other options are refused, since they would be ignored."""
    from bench.folder import RunFolder

    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name not in MAY_CHANGE:
            raise InputError(f"--resume goes on as the run was asked: drop --{name.replace('_', '-')}")
    folder = RunFolder(path.absolute())
    folder.options()  # where there is no run, nothing is written
    with folder.held("--resume") as held:
        if held.doubt:
            say(held.doubt)
        go_on(folder, as_json, timeout_s)


def go_on(folder: RunFolder, as_json: bool, timeout_s: float | None) -> None:
    """Carry on with the run in the folder, which is ours."""
    from bench.cache import fingerprints
    from bench.environment import fingerprint
    from bench.plan import make_plan

    options = folder.options()
    if timeout_s is not None:
        options = options.model_copy(update={"timeout_s": timeout_s})
    go_to(options.folder)
    for plugin in options.plugins:
        say(f"running the plugin {plugin}")
    earlier = folder.read() if folder.has_run else None
    plan = make_plan(options)
    variants = [variant.name for variant in plan.variants]
    known = fingerprints(plan.task, plan.checkpoints, plan.plugins, plan.files, variants)
    here = None if options.executor else fingerprint()  # the machines are others, and may change
    changed = changes(earlier, plan.config, known, here) if earlier else None
    if changed:
        raise InputError(
            f"--resume {folder.path}: {changed} changed since; start a new run in another folder"
        )
    check_outputs(options)
    check_tracker(options.track)
    carry_out(Job(options, plan, folder, gate_of(options, plan)), as_json, earlier)


def go_to(folder: Path) -> None:
    """Work where the run was started, so that its relative paths mean what they meant."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"--resume: the run was started in {folder}, which cannot be used ({error.strerror})"
        ) from None


def changes(
    earlier: Run, config: Config, fingerprints: dict[str, str], environment: Environment | None
) -> str | None:
    """What of a run is no longer what it was, so that its results cannot stand beside new ones.

    `environment` is this machine's, None where others make the rows. An extra counts where a result was made
    with it: one that a row was skipped for may have come since.
    """
    from bench.cache import packages_of
    from bench.environment import EXTRAS

    if environment is not None:
        usual = [name for name in environment.versions if name not in EXTRAS]
        if library := changed_version(earlier, environment, usual):
            return library
    for name, value in fingerprints.items():
        if earlier.fingerprints.get(name) != value:
            return {"rows": "its data", "model": "its model", "code": "bench itself"}.get(name, f"the {name}")
    if config != earlier.config:
        return "its configuration"
    if environment is None:
        return None
    if environment.measuring_key != earlier.environment.measuring_key:
        return "the machine, its threads or its settings"
    made = [row.variant for row in earlier.results if row.status == "ok"]
    extras = {name for variant in made for name in packages_of(variant)}.intersection(EXTRAS)
    return changed_version(earlier, environment, sorted(extras))


def changed_version(earlier: Run, environment: Environment, names: Iterable[str]) -> str | None:
    """The first of these libraries, or Python, that the earlier results were made with another version of."""
    before, now = earlier.environment.versions, environment.versions
    return next((f"the version of {name}" for name in names if before.get(name) != now.get(name)), None)
