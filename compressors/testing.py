"""Whether a compressor keeps what the harness relies on, for its own tests.

    from compressors.testing import check

    def test_clip():
        check(Clip(deviations=2.0))

A small real BERT is made into a variant as `bench run` makes one, in this process, so that errors keep their
traceback, and once more in a fresh one, a worker of the kind that `bench run` starts.
"""

from __future__ import annotations

import atexit
import dataclasses
import hashlib
import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import torch
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from transformers import PreTrainedModel

from bench.errors import InputError, in_one_line
from bench.meters.subject import Subject, load_subject
from bench.nouns.task import Example, Task
from bench.statistics import confusion, share_interval
from bench.steps.common import Batches, prepare_process
from bench.steps.compress import make_variant
from bench.steps.dense import make_dense
from bench.steps.request import Request
from bench.steps.teacher import make_teacher
from bench.tasks.stored import read_task, write_task
from bench.workers import start_server
from compressors.artifact import (
    ARTIFACT,
    class_names,
    load_model,
    load_tokenizer,
    read_document,
)
from compressors.contract import Compressor, Context, Phase
from compressors.registry import add_plugins, compressor_classes, register
from compressors.variant import CONVERT, Variant, parse_variant, spell
from compressors.variant import check as check_variant

LABELS = ("Sport", "Money", "हवामान")
TELLING = (("goal", "team", "match"), ("bank", "price", "stock"), ("rain", "cloud", "wind"))
COMMON = ("the", "new", "after", "big", "in", "city", "report", "today", "near", "old", "seen")
ROWS, MOST_COMMON_WORDS = 96, 16
DENSE_EPOCHS, EPOCHS, LEARNING_RATE, BATCH_SIZE, MAX_LENGTH = 8, 1, 1e-3, 16, 32

ROUNDING = {"float64": 1e-9, "float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2}
QUANTISED_ROUNDING = 0.1

Logits = list[list[float]]
Work = Future[Logits]

SWITCHES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's recording of gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's use of deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "torch's float32 precision": (
        lambda: torch.backends.fp32_precision,  # type: ignore[attr-defined]
        lambda precision: setattr(torch.backends, "fp32_precision", precision),
    ),
}


def check(compressor: Compressor, device: str = "cpu", neighbours: float | None = None) -> None:
    """Raise `AssertionError`, one sentence, at the first of these promises that `compressor` breaks.

    - spelling: every setting has a default and a type that a spec can spell, and the spec reads back as the
      same; making changes no setting.
    - dense untouched: neither its files nor a model loaded from them before, nor torch's switches change.
    - labels: the classes keep the data's names, and each name its class.
    - eval mode: what `compressors.load` gives is in eval mode and answers alike when asked twice, with
      finite float logits, shape (rows, classes).
    - dtype and device: all weights are saved in the one dtype that `variant.json` records and loaded in it,
      on `device`; with `quantises` only the device is looked at.
    - neighbours: a row's logits do not depend on the rows that it shares a batch with.
    - reload: the artifact alone gives the model that was finished, and a fresh process the same logits.
    - seed: the same seed gives the same weights in another process; to the bit, except for training on CUDA.

    Logits are the same where they differ by no more than `ROUNDING` of the largest one, by the recorded
    dtype; among neighbours by `QUANTISED_ROUNDING` with `quantises`, or by the share `neighbours` where
    given, since a scale that is taken of a whole batch depends on them.

    Training lasts a few steps. A class that is not registered is. Raises `InputError` for unusable settings
    and `Refusal` where the technique refuses this model, device or installation; a test may skip then.
    """
    kind = type(compressor)
    compressor_classes()
    register(kind)
    variant = check_spelling(compressor)
    check_variant(variant, device)
    with own_switches(), folder_of_own() as root, process() as making, process() as reloading:
        prepare_process(device, seed=0)
        dense, first, again = root / "dense", root / "first", root / "again"
        shutil.copytree(toy(device).dense, dense)
        asked = {"kind": "compress", "variant": variant.name, "plugins": [source_of(kind)], "dense": dense}
        request = toy(device).model_copy(update=asked)
        finished = making.submit(make_elsewhere, kind.name, request, torch.get_num_threads(), again)
        with dense_untouched(request):
            make(request, first)
            loaded = load(request, first)
        fresh = reloading.submit(load_elsewhere, kind.name, request, torch.get_num_threads(), first)
        check_record(compressor, loaded.folder)
        check_labels(request, loaded)
        check_eval_mode(loaded)
        check_dtype_and_device(compressor, loaded)
        check_neighbours(loaded, neighbours or neighbourly_rounding(compressor, loaded.folder))
        check_reload(request, loaded, finished, fresh)
        check_seed(compressor, device, loaded.folder, again / ARTIFACT)


def promise(kept: bool, broken: str) -> None:
    """Raise `AssertionError` with what is `broken`, unless `kept`; python -O keeps these."""
    if not kept:
        raise AssertionError(broken)


@cache
def toy(device: str) -> Request:
    """A request whose task, dense model and teacher exist, made once and deleted when Python ends."""
    root = Path(tempfile.mkdtemp(prefix="compressor-check-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for folder in ("task", "dense", "teacher"):
        (root / folder).mkdir()
    rows = toy_rows()
    write_task(Task("toy", "rows that one word gives away", LABELS, rows, (), rows), root / "task")
    request = Request(
        kind="dense",
        task=root / "task",
        variant="dense",
        device=device,
        seed=0,
        epochs=DENSE_EPOCHS,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        max_length=MAX_LENGTH,
        budget="quick",
        plugins=[],
    )
    make_dense(request, root / "dense", silent)
    request = request.model_copy(update={"dense": root / "dense", "epochs": EPOCHS})
    make_teacher(request.model_copy(update={"kind": "teacher"}), root / "teacher", silent)
    return request.model_copy(update={"teacher": root / "teacher"})


def toy_rows() -> tuple[Example, ...]:
    """Rows of all lengths up to `MOST_COMMON_WORDS` words and one, which gives the label away."""
    rows = []
    for number in range(ROWS):
        label = number % len(LABELS)
        words = list(islice(cycle(COMMON), number, number + 1 + number % MOST_COMMON_WORDS))
        words.insert(number % len(words), TELLING[label][number // len(LABELS) % len(TELLING[label])])
        rows.append(Example(" ".join(words), label))
    return tuple(rows)


def process() -> ProcessPoolExecutor:
    """A fresh process, of the kind that `bench run` starts."""
    return ProcessPoolExecutor(1, start_server())


@contextmanager
def folder_of_own() -> Iterator[Path]:
    """A folder that is deleted in the end."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def source_of(kind: type[Compressor]) -> Path:
    """The file that defines a class."""
    file = inspect.getsourcefile(kind)
    assert file is not None
    return Path(file)


def silent(stage: str, done: int, total: int) -> None:
    """Nobody watches the progress."""


def make(request: Request, folder: Path) -> None:
    """Make the variant, as the step `compress` does."""
    folder.mkdir()
    make_variant(request, folder, silent)


def load(request: Request, folder: Path) -> Subject:
    """The variant made in `folder`, as it is measured."""
    rows = read_task(request.task).test
    return load_subject(request.variant, folder / ARTIFACT, rows, request.max_length, request.device)


def batches(subject: Subject, size: int = BATCH_SIZE) -> list[dict[str, torch.Tensor]]:
    """All rows in their order, `size` at a time."""
    rows = subject.rows
    return [subject.batch(rows[start : start + size]) for start in range(0, len(rows), size)]


def answers(subject: Subject, size: int = BATCH_SIZE) -> torch.Tensor:
    """Logits of all rows in batches of `size`, float32 on the CPU, shape (rows, classes)."""
    return torch.cat([subject(batch).float().cpu() for batch in batches(subject, size)])


def finished_answers(model: PreTrainedModel, batches: Iterable[dict[str, torch.Tensor]]) -> torch.Tensor:
    """Logits of a model without its runtime, float32 on the CPU, shape (rows, classes)."""
    logits = []
    with torch.no_grad():
        for batch in batches:
            texts = {key: tensor for key, tensor in batch.items() if key != "labels"}
            logits.append(model(**texts).logits.float().cpu())
    return torch.cat(logits)


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    """The largest difference of two sets of logits, as a share of the largest logit."""
    return ((first - second).abs().max() / torch.maximum(first.abs().max(), second.abs().max())).item()


def check_spelling(compressor: Compressor) -> Variant:
    """The variant of `compressor` alone, read from its spelling."""
    kind = type(compressor)
    promise(
        "__dataclass_fields__" in vars(kind),
        f"spelling: {kind.__name__} is not a dataclass, so its settings are none; put @dataclass above it",
    )
    types = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        promise(
            types[field.name] in CONVERT,
            f"spelling: {field.name} is of type {types[field.name]}, which no spec can spell; "
            "settings are of type str, int, float or bool",
        )
        promise(
            field.default is not dataclasses.MISSING,
            f"spelling: {field.name} has no default, so {kind.name} alone cannot be asked for; give it one",
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


def check_record(compressor: Compressor, folder: Path) -> None:
    """The artifact says what was asked for."""
    recorded = read_document(folder)["parameters"][compressor.name]
    promise(
        recorded == asdict(compressor),
        f"spelling: asked for {asdict(compressor)}, the artifact records {recorded}; leave the settings as "
        "they are while the model is made, and keep what you compute in other attributes",
    )


@contextmanager
def own_switches() -> Iterator[None]:
    """Put torch's switches back in the end, whatever happened to them."""
    before = read_switches()
    try:
        yield
    finally:
        for name, (_, put) in SWITCHES.items():
            put(before[name])


def read_switches() -> dict[str, Any]:
    """How torch's switches stand."""
    return {name: read() for name, (read, _) in SWITCHES.items()}


@contextmanager
def dense_untouched(request: Request) -> Iterator[None]:
    """Whatever happens inside leaves dense, its files and this process as they were."""
    assert request.dense is not None
    dense = load(request, request.dense)
    files, logits, switches = digests(request.dense), answers(dense), read_switches()
    yield
    for name, value in read_switches().items():
        promise(
            value == switches[name],
            f"dense untouched: {name} went from {switches[name]} to {value}, for every model in this "
            "process; put it back before the moment ends",
        )
    promise(
        digests(request.dense) == files,
        "dense untouched: the files of dense changed; write to `folder` in `build` alone",
    )
    promise(
        torch.equal(answers(dense), logits),
        "dense untouched: a dense model loaded before gives other logits after; change the model you are "
        "given, not its classes, modules of transformers or torch",
    )


def digests(folder: Path) -> dict[Path, str]:
    """A hash of every file below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def check_labels(request: Request, loaded: Subject) -> None:
    """The classes are called as the data calls them, each by its own name."""
    names, config = loaded.label_names, loaded.model.config
    promise(
        sorted(names) == sorted(LABELS),
        f"labels: the classes are called {names}, the data calls them {list(LABELS)}; leave id2label of the "
        "configuration as it is, or let the names follow their logits",
    )
    promise(
        config.label2id == {name: number for number, name in enumerate(names)},
        f"labels: label2id is {config.label2id}, which is not id2label's inverse; change both or neither",
    )
    stored = stored_model(loaded)
    promise(
        class_names(stored.config) == names,
        f"labels: the classes are {class_names(stored.config)} in the artifact and {names} with its runtime; "
        "keep the configuration of the model that `runtime` is given",
    )
    assert request.dense is not None
    dense = load(request, request.dense)
    said = finished_answers(stored, batches(loaded)).argmax(-1).tolist()
    numbers = [dense.label_names.index(names[number]) for number in said]
    counts = confusion(answers(dense).argmax(-1).tolist(), numbers, len(names))
    named, best = int(counts.trace()), int(counts[linear_sum_assignment(counts, maximize=True)].sum())
    promise(
        share_interval(best, best + named)[0] <= 0.5,
        f"labels: {named} of {counts.sum()} predictions are dense's by name, {best} with the names in "
        "another order; when you reorder classes, reorder id2label and label2id with the head's rows",
    )


def check_eval_mode(loaded: Subject) -> None:
    """The reloaded model is ready to be run."""
    training = [name or "the model" for name, part in loaded.model.named_modules() if part.training]
    promise(
        not training,
        f"eval mode: {training[0] if training else ''} of the reloaded model is in training mode; "
        "let `runtime` give it back in eval mode",
    )
    logits, rows = answers(loaded), len(loaded.rows)
    promise(
        logits.shape == (rows, len(LABELS)) and bool(logits.isfinite().all()),
        f"eval mode: {rows} rows of {len(LABELS)} classes give logits of shape {tuple(logits.shape)}, "
        f"{int((~logits.isfinite()).sum())} of them not finite; give back one finite number a row and class",
    )
    apart = difference(logits, answers(loaded))
    promise(
        apart == 0.0,
        f"eval mode: the same rows asked twice give logits {apart:.2%} apart; draw nothing at random and "
        "keep no state between calls",
    )


def check_dtype_and_device(compressor: Compressor, loaded: Subject) -> None:
    """Weights come back as they were saved, and where they were asked for."""
    recorded = read_document(loaded.folder)["dtype"]
    tensors = [*loaded.model.parameters(), *loaded.model.buffers()]
    devices = {tensor.device.type for tensor in tensors}
    promise(
        devices <= {loaded.device},
        f"device: asked for {loaded.device}, the reloaded model has tensors on {sorted(devices)}; let "
        "`runtime` use its `device`",
    )
    if compressor.quantises:
        return
    saved = dtypes(stored_tensors(loaded.folder).values())
    promise(
        saved == {recorded},
        f"dtype: the weights were saved as {sorted(saved)}, loaded as {recorded}, which the first one has; "
        "cast all of them in `finish`",
    )
    present = dtypes(loaded.model.parameters())
    promise(
        present <= {recorded},
        f"dtype: saved as {recorded}, the reloaded model has weights of {sorted(present)}; cast in `finish`, "
        "so that the artifact is what is measured",
    )


def dtypes(tensors: Iterable[torch.Tensor]) -> set[str]:
    """The floating-point dtypes among `tensors`, by torch's names."""
    return {str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.is_floating_point()}


def stored_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors in an artifact's weights, by name."""
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def stored_model(loaded: Subject) -> PreTrainedModel:
    """The artifact's model without its runtime, as `compressors.load` hands it to that."""
    return load_model(str(loaded.folder), read_document(loaded.folder)["dtype"]).to(loaded.device)


def rounding(folder: Path) -> float:
    """The difference that the precision of an artifact's weights explains."""
    return ROUNDING[read_document(folder)["dtype"]]


def neighbourly_rounding(compressor: Compressor, folder: Path) -> float:
    """The difference that computing in other batches explains."""
    return QUANTISED_ROUNDING if compressor.quantises else rounding(folder)


def check_neighbours(loaded: Subject, tolerance: float) -> None:
    """A row alone gives the logits that it gives beside longer ones."""
    apart = difference(answers(loaded), answers(loaded, size=1))
    promise(
        apart <= tolerance,
        f"neighbours: rows alone and in batches give logits {apart:.2%} apart ({tolerance:.2%} is rounding); "
        "keep padding out by the attention mask, and answer in the order of the rows",
    )


def check_reload(request: Request, loaded: Subject, finished: Work, fresh: Work) -> None:
    """The artifact is all that it takes: it holds the model that was finished, for any process."""
    tolerance = rounding(loaded.folder)
    apart = difference(answers(loaded), outcome(fresh))
    promise(
        apart <= tolerance,
        f"reload: in a fresh process the artifact gives logits {apart:.2%} apart; keep state in the weights, "
        "the configuration or a file of `build`, not in the class, its module or the environment",
    )
    stored = stored_model(loaded)
    rows = Batches(read_task(request.task), request)(stored, load_tokenizer(str(loaded.folder)))
    apart = difference(finished_answers(stored, rows), outcome(finished))
    promise(
        apart <= tolerance,
        f"reload: the model that `finish` gave and the one in the artifact give logits {apart:.2%} apart; "
        "hooks, replaced methods and attributes are not saved: change weights and configuration, write a "
        "class of your own as compressors/pruned.py does, or make the change in `runtime`",
    )


def outcome(work: Work) -> torch.Tensor:
    """The logits that a fresh process came to."""
    try:
        return torch.tensor(work.result())
    except Exception as error:
        raise AssertionError(
            f"reload: a fresh process fails, {type(error).__name__}: {in_one_line(error)}; what a compressor "
            "needs must be in its file, which is run first, or in the artifact"
        ) from error


def make_elsewhere(name: str, request: Request, threads: int, folder: Path) -> Logits:
    """In a fresh process: make the variant below `folder`; what it answers right before it is saved."""
    prepare_elsewhere(name, request, threads)
    register(Witness)
    make(request.model_copy(update={"variant": f"{request.variant}+{Witness.name}"}), folder)
    return Witness.answers


def load_elsewhere(name: str, request: Request, threads: int, folder: Path) -> Logits:
    """In a fresh process: what the variant made in `folder` answers."""
    prepare_elsewhere(name, request, threads)
    return answers(load(request, folder)).tolist()


def prepare_elsewhere(name: str, request: Request, threads: int) -> None:
    """Know the compressor as a worker of `bench run` does, and compute as the process that asks."""
    prepare_process(request.device, request.seed)
    torch.set_num_threads(threads)
    if name not in compressor_classes():
        add_plugins(request.plugins)
    if name not in compressor_classes():
        raise InputError(f"{request.plugins[0]} defines no {name} at its top level")


@dataclass
class Witness(Compressor):
    """Asks the finished model, last of all, right before it is saved."""

    name: ClassVar[str] = "check_witness"
    phase: ClassVar[Phase] = Phase.BATCHING
    summary: ClassVar[str] = "asks the finished model before it is saved"
    trains: ClassVar[bool] = False
    answers: ClassVar[Logits] = []

    def finish(self, model: PreTrainedModel, context: Context) -> PreTrainedModel:
        was_training = model.training
        rows = context.batches(model, context.tokenizer)
        Witness.answers = finished_answers(model.to(context.device).eval(), rows).tolist()
        return model.train(was_training)


def check_seed(compressor: Compressor, device: str, first: Path, again: Path) -> None:
    """Two processes with the same seed saved the same weights."""
    one, other = stored_tensors(first), stored_tensors(again)
    exact = device == "cpu" or not compressor.trains
    apart = [
        name
        for name in sorted(one.keys() | other.keys())
        if not (name in one and name in other and same(one[name], other[name], exact))
    ]
    promise(
        not apart,
        f"seed: made twice with one seed, {len(apart)} of {len(one)} weights differ, such as {apart[:1]}; "
        "draw from torch's, numpy's or Python's global generators, which are seeded, and iterate over no set",
    )


def same(one: torch.Tensor, other: torch.Tensor, exact: bool) -> bool:
    """Whether two tensors are equal; where not `exact`, of one shape and dtype."""
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and (not exact or torch.equal(one, other))
