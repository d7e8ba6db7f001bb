"""`bench profile`: a run of one variant that tells where its time goes."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, get_type_hints

import typer

from bench.cli.run import run

# What it takes of the options of `bench run`; the same ones find in the cache what a run has made.
TAKEN = (
    "task",
    "model",
    "train",
    "test",
    "validation",
    "test_split",
    "text_column",
    "text_pair_column",
    "label_column",
    "limit",
    "limit_test",
    "deduplicate",
    "no_finetune",
    "label_map",
    "epochs",
    "dense_epochs",
    "lr",
    "batch_size",
    "max_length",
    "train_processes",
    "seed",
    "padding",
    "shapes",
    "threads",
    "device",
    "quick",
    "standard",
    "thorough",
    "timeout",
    "plugin",
    "out",
    "cache",
    "remeasure",
    "export_html",
    "export_markdown",
    "export_json",
    "json",
)


def profile(
    context: typer.Context,
    variant: Annotated[str, typer.Argument(help="One variant, as bench run takes it: bmp50+kd, or dense.")],
    **options: Any,
) -> None:
    """Show where a variant's time goes beside dense's, and why it is not faster.

    With the options of an earlier bench run nothing is made again that the cache still has.
    """
    context.obj = variant  # what run is to show of its outcome
    run(context, variants=variant, profile=True, **options)


def with_options_of(command: Any, names: tuple[str, ...]) -> tuple[inspect.Signature, dict[str, Any]]:
    """The signature and annotations of `profile` with these options of another command in it."""
    hints = get_type_hints(command, include_extras=True)
    taken = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command).parameters.items()
        if name in names
    ]
    own = get_type_hints(profile, include_extras=True)
    kept = [
        parameter.replace(annotation=own[name])
        for name, parameter in inspect.signature(profile).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    signature = inspect.Signature([*kept, *taken])
    return signature, {name: parameter.annotation for name, parameter in signature.parameters.items()}


profile.__signature__, profile.__annotations__ = with_options_of(run, TAKEN)  # type: ignore[attr-defined]
