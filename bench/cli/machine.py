"""What this machine is, and how finely it measures."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.shared import choose_budget, terminal
from bench.errors import InputError

if TYPE_CHECKING:
    from bench.nouns.run import Budget


def calibrate(
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    trials: Annotated[int, typer.Option(help="A/A trials, 60 or more.")] = 60,
    quick: Annotated[
        bool, typer.Option("--quick", help="Trials as short as --quick's; the default.")
    ] = False,
    standard: Annotated[bool, typer.Option("--standard", help="Trials as long as --standard's.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Trials as long as --thorough's.")] = False,
) -> None:
    """Measure this machine's noise floors, which later runs of this budget or a longer one then use."""
    from rich.progress import Progress

    from bench.calibration import LEAST_TRIALS, floor_of, run_trials, store
    from bench.environment import fingerprint
    from bench.meters.machine import start_cautions
    from bench.plan import choose_device
    from reports.calibration import render
    from reports.environment import said

    if trials < LEAST_TRIALS:
        raise InputError(f"--trials {trials}: a 95th percentile needs {LEAST_TRIALS} or more")
    chosen = choose_device(device)
    budget: Budget = choose_budget({"quick": quick, "standard": standard, "thorough": thorough}) or "quick"
    environment, errors = fingerprint(), terminal(stderr=True)
    for caution in start_cautions(environment, chosen):
        errors.print(f"{caution.code}: {said(caution)}", markup=False, highlight=False, soft_wrap=True)
    with Progress(console=errors, transient=True) as progress:
        bar = progress.add_task("A/A trials", total=trials)
        found = run_trials(chosen, budget, trials, lambda done: progress.update(bar, completed=done))
    floor = floor_of(found, environment, budget)
    file = store(floor, environment, chosen)
    render(floor, chosen, str(file), terminal())


def env(
    json: Annotated[bool, typer.Option("--json", help="The environment document on stdout.")] = False,
) -> None:
    """Show what this machine is, how it is set up, and what disturbs it now."""
    from bench.calibration import noise_floor
    from bench.environment import fingerprint
    from bench.meters.machine import present_cautions
    from bench.plan import choose_device

    environment, device = fingerprint(), choose_device("auto")
    environment.noise_floor = noise_floor(environment, device, "standard")
    environment.warnings = present_cautions(environment, device)
    if json:
        from reports.json import text_of

        sys.stdout.write(text_of(environment) + "\n")
        return
    from reports.environment import render

    render(environment, terminal())
