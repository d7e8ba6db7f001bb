"""What the user asked for, as written; kept in the run folder so that `--resume` can ask for it again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field

from bench.errors import InputError, did_you_mean
from bench.nouns.run import Budget, Keep, Padding, Shape

UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Options(BaseModel):
    """One field per option of `bench run`; None where the task or the budget decides.

    `folder` is where the command was given: relative paths start there. `as_it_is` takes the model as an
    artifact that stands for dense. `profile_of` is the one variant whose profile is shown. `baseline` and
    `fail_on`, `strict` and `allow_missing_baseline` are the gate's, where None those of `[tool.bench]`;
    `exports` are files by format.
    """

    model_config = ConfigDict(extra="forbid")

    variants: str | None = None
    attribute: bool = False
    task: str | None = None
    model: str | None = None
    train: str | None = None
    test: str | None = None
    validation: str | None = None
    test_split: float | None = None
    text_columns: tuple[str, ...] = ()
    text_pair_column: str | None = None
    label_column: str | None = None
    label_map: dict[str, str] = Field(default_factory=dict)
    no_finetune: bool = False
    epochs: float | None = None
    dense_epochs: float | None = None
    learning_rate: float | None = None
    batch_size: int = 32
    max_length: int | None = None
    seed: int = 0
    seeds: int | None = None
    deduplicate: bool = False
    paddings: tuple[Padding, ...] | None = None
    shapes: tuple[Shape, ...] = ()
    thread_counts: tuple[int, ...] | None = None
    country: str = "IND"
    limit: int | None = None
    limit_test: int | None = None
    device: str = "auto"
    budget: Budget | None = None
    keep: Keep = "all"
    plugins: tuple[Path, ...] = ()
    out: Path | None = None
    cache: Path = Path(".bench/cache")
    remeasure: bool = False
    timeout_s: float | None = None
    profile: bool = False
    shard: tuple[int, int] | None = None
    executor: str | None = None
    storage: str | None = None
    row_cpus: int | None = None
    train_processes: int = 1
    profile_of: str | None = None
    as_it_is: bool = False
    baseline: str | None = None
    fail_on: tuple[str, ...] | None = None
    strict: bool | None = None
    allow_missing_baseline: bool | None = None
    save_baseline: str | None = None
    exports: dict[str, Path] = Field(default_factory=dict)
    github: bool = False
    track: str | None = None
    command: str = "bench run"
    folder: Path = Field(default_factory=Path.cwd)


def read_duration_s(option: str, text: str | None) -> float | None:
    """`90s`, `30m`, `2h`, `7d` or `4w` as seconds, which a bare number is. Raises `InputError` otherwise."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw]?)", text.strip(), re.ASCII)
    if match is None or float(match[1]) == 0:
        raise InputError(f"{option} {text}: write a time such as 90s, 30m, 2h, 7d or 4w")
    return float(match[1]) * UNITS_S[match[2]]


def read_paddings(text: str | None) -> tuple[Padding, ...] | None:
    """`fixed,sorted` as the ways to pad. Raises `InputError` for another word."""
    if text is None:
        return None
    known: list[Any] = list(get_args(Padding))
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise InputError(f"--padding {word}: {did_you_mean(word, known)}")
    return tuple(padding for padding in known if padding in words)


def read_shapes(text: str | None) -> tuple[Shape, ...]:
    """`1x32,8x128` as (rows, tokens). Raises `InputError` for anything else."""
    shapes = []
    for word in text.split(",") if text is not None else ():
        match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", word.strip())
        if match is None:
            raise InputError(f"--shapes {word}: write ROWSxTOKENS, such as 8x128")
        shapes.append((int(match[1]), int(match[2])))
    return tuple(dict.fromkeys(shapes))


def read_thread_counts(text: str | None) -> tuple[int, ...] | None:
    """`1,2` as numbers of threads. Raises `InputError` for anything else."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not re.fullmatch(r"[1-9][0-9]{0,3}", word):
            raise InputError(f"--threads {word}: write numbers of threads, such as 1,2")
    return tuple(dict.fromkeys(map(int, words)))


def read_label_map(text: str | None) -> dict[str, str]:
    """`LABEL_0=Sports,LABEL_1=Arts, books` by class; a comma begins another only where `CLASS=` follows.

    Raises `InputError` for anything else, and for a class or name that stands twice.
    """
    names: dict[str, str] = {}
    for entry in re.split(r",(?=[^,=]+=)", text) if text is not None else ():
        class_name, equals, name = (word.strip() for word in entry.partition("="))
        if not (class_name and equals and name):
            raise InputError(f"--label-map {entry}: write CLASS=NAME, such as LABEL_0=Sports,LABEL_1=Arts")
        if class_name in names or name in names.values():
            twice = class_name if class_name in names else name
            raise InputError(f"--label-map {entry}: {twice!r} stands twice; each class has its own name")
        names[class_name] = name
    return names
