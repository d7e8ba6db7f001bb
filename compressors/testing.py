"""Whether a compressor keeps what the harness relies on, for its own tests.

    from compressors.testing import check

    def test_clip():
        check(Clip(deviations=2.0))

A small real BERT is made into a variant as `bench run` makes one, in workers of the same kind: the test's own
process stays as it is, and what happened in it before does not tell.
"""

from __future__ import annotations

import atexit
import dataclasses
import importlib
import inspect
import shutil
import tempfile
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from bench.errors import InputError, in_one_line
from bench.steps.request import Request
from bench.workers import start_server
from compressors.contract import Compressor
from compressors.registry import compressor_classes, register
from compressors.variant import CONVERT, Variant, parse_variant, spell
from compressors.variant import check as check_variant


def check(compressor: Compressor, device: str = "cpu", neighbours: float | None = None) -> None:
    """Raise `AssertionError`, one sentence, at the first of these promises that `compressor` breaks.

    - spelling: every setting has a type that a spec can spell, and the spec reads back as the same; making
      changes no setting.
    - dense untouched: neither its files nor a model loaded from them before, nor torch's switches change.
    - labels: the classes keep the data's names, and each name its class.
    - eval mode: what `compressors.load` gives is in eval mode and answers alike when asked twice, with
      finite logits, shape (rows, classes).
    - dtype and device: all weights are saved in the one dtype that `variant.json` records and loaded in it,
      on `device`; with `quantises` only the device is looked at.
    - neighbours: a row's logits do not depend on the rows that it shares a batch with.
    - reload: the artifact alone gives the model that was finished, and another process the same logits.
    - seed: the same seed gives the same weights in another process; to the bit, except for training on CUDA.

    Logits are the same where they differ by no more than `promises.ROUNDING` of the largest one, by the
    recorded dtype; among neighbours by `promises.QUANTISED_ROUNDING` with `quantises`, or by the share
    `neighbours` where given, since a scale that is taken of a whole batch depends on them.

    Training lasts a few steps. A class that is not registered is. Raises `InputError` for a class or settings
    that no variant can have, and `Refusal` where the technique refuses this model, device or installation; a
    test may skip then.
    """
    kind = type(compressor)
    compressor_classes()
    register(kind)
    variant = check_spelling(compressor)
    check_variant(variant, device)
    with (
        tempfile.TemporaryDirectory() as folder,
        worker() as first,
        worker() as second,
        worker() as third,
    ):
        dense, made, again = (Path(folder, name) for name in ("dense", "made", "again"))
        given = toy(device)
        assert given.dense is not None
        shutil.copytree(given.dense, dense)
        asked = {"kind": "compress", "variant": variant.name, "plugins": [source_of(kind)], "dense": dense}
        request = given.model_copy(update=asked)
        kept = first.submit(in_worker, "check_made", kind.name, request, made, neighbours)
        finished = second.submit(in_worker, "make_again", kind.name, request, again)
        logits = kept.result()
        found = (made, again, logits, elsewhere(finished))
        elsewhere(third.submit(in_worker, "check_again", kind.name, request, *found))


def promise(kept: bool, broken: str) -> None:
    """Raise `AssertionError` with what is `broken`, unless `kept`; python -O keeps these."""
    if not kept:
        raise AssertionError(broken)


@cache
def toy(device: str) -> Request:
    """A request whose task, dense model and teacher exist, made once and deleted when Python ends."""
    folder = Path(tempfile.mkdtemp(prefix="compressor-check-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with worker() as process:
        request: Request = process.submit(in_worker, "make_toy", device, folder).result()
    return request


def worker() -> ProcessPoolExecutor:
    """A process of its own, as a step of `bench run` has."""
    return ProcessPoolExecutor(1, start_server())


def in_worker(work: str, *given: Any) -> Any:
    """What `compressors.promises` does under the name `work`; it imports torch, which this file does not."""
    return getattr(importlib.import_module("compressors.promises"), work)(*given)


def elsewhere(outcome: Future[Any]) -> Any:
    """What another process than the first came to."""
    try:
        return outcome.result()
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(
            f"reload: another process fails, {type(error).__name__}: {in_one_line(error)}; what a compressor "
            "needs must be in its file, which is run first, or in the artifact"
        ) from error


def source_of(kind: type[Compressor]) -> Path:
    """The file that defines a class."""
    file = inspect.getsourcefile(kind)
    assert file is not None
    return Path(file)


def check_spelling(compressor: Compressor) -> Variant:
    """The variant of `compressor` alone, read from its spelling."""
    kind = type(compressor)
    types = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        promise(
            types[field.name] in CONVERT,
            f"spelling: {field.name} is of type {types[field.name]}, which no spec can spell; "
            "settings are of type str, int, float or bool",
        )
    spec = spell(compressor)
    try:
        variant = parse_variant(spec)
    except InputError as error:
        raise AssertionError(
            f"spelling: its spec {spec} cannot be read back ({error}); keep commas and plus signs out of it"
        ) from error
    read = [(type(part), asdict(part)) for part in variant.parts]
    promise(
        read == [(kind, asdict(compressor))],
        f"spelling: its spec {spec} reads back as {variant.name}; keep commas and plus signs out of "
        "settings, and leave settings as they were given",
    )
    return variant
