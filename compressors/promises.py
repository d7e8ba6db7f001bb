"""What `compressors.testing.check` looks at, in workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from transformers import PreTrainedModel

from bench.meters.subject import Subject, load_subject
from bench.nouns.task import Example, Task
from bench.statistics import confusion, share_interval
from bench.steps.common import Batches, prepare_process
from bench.steps.compress import make_variant
from bench.steps.dense import make_dense
from bench.steps.request import Request
from bench.steps.teacher import make_teacher
from bench.tasks.stored import read_task, write_task
from compressors.artifact import ARTIFACT, class_names, load_model, load_tokenizer, read_document
from compressors.contract import Compressor, Context, Phase
from compressors.registry import add_plugins, compressor_classes, register
from compressors.testing import promise
from compressors.variant import parse_variant

LABELS = ("Sport", "Money", "हवामान")
TELLING = (("goal", "team", "match"), ("bank", "price", "stock"), ("rain", "cloud", "wind"))
COMMON = ("the", "new", "after", "big", "in", "city", "report", "today", "near", "old", "seen")
ROWS, MOST_COMMON_WORDS = 96, 16
DENSE_EPOCHS, EPOCHS, LEARNING_RATE, BATCH_SIZE, MAX_LENGTH = 8, 1, 1e-3, 16, 32

ROUNDING = {"float64": 1e-9, "float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2}
QUANTISED_ROUNDING = 0.1

Logits = list[list[float]]

SWITCHES: dict[str, Callable[[], object]] = {
    "torch's default dtype": torch.get_default_dtype,
    "torch's number of threads": torch.get_num_threads,
    "torch's recording of gradients": torch.is_grad_enabled,
    "torch's use of deterministic algorithms": torch.are_deterministic_algorithms_enabled,
    "torch's float32 precision": lambda: torch.backends.fp32_precision,  # type: ignore[attr-defined]
}


def make_toy(device: str, folder: Path) -> Request:
    """A request whose task, dense model and teacher lie below `folder`."""
    for name in ("task", "dense", "teacher"):
        (folder / name).mkdir()
    rows = toy_rows()
    write_task(Task("toy", "rows that one word gives away", LABELS, rows, (), rows), folder / "task")
    request = Request(
        kind="dense",
        task=folder / "task",
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
    make_dense(request, folder / "dense", silent)
    request = request.model_copy(update={"dense": folder / "dense", "epochs": EPOCHS})
    make_teacher(request.model_copy(update={"kind": "teacher"}), folder / "teacher", silent)
    return request.model_copy(update={"teacher": folder / "teacher"})


def toy_rows() -> tuple[Example, ...]:
    """Rows of all lengths up to `MOST_COMMON_WORDS` words and one, which gives the label away."""
    rows = []
    for number in range(ROWS):
        label = number % len(LABELS)
        words = list(islice(cycle(COMMON), number, number + 1 + number % MOST_COMMON_WORDS))
        words.insert(number % len(words), TELLING[label][number // len(LABELS) % len(TELLING[label])])
        rows.append(Example(" ".join(words), label))
    return tuple(rows)


def silent(stage: str, done: int, total: int) -> None:
    """Nobody watches the progress."""


def check_made(name: str, request: Request, folder: Path, neighbours: float | None) -> Logits:
    """Make the variant below `folder`, and look at what can be seen here; what it answers comes back."""
    compressor = know(name, request)
    with dense_untouched(request):
        make(request, folder)
        loaded = load(request, folder)
    check_record(compressor, loaded.folder)
    check_labels(request, loaded)
    check_eval_mode(loaded)
    check_dtype_and_device(compressor, loaded)
    if neighbours is None:
        neighbours = QUANTISED_ROUNDING if compressor.quantises else rounding(loaded.folder)
    check_neighbours(loaded, neighbours)
    return answers(loaded).tolist()


def make_again(name: str, request: Request, folder: Path) -> Logits:
    """Make the variant below `folder`; what it answers right before it is saved comes back."""
    know(name, request)
    register(Witness)
    make(request.model_copy(update={"variant": f"{request.variant}+{Witness.name}"}), folder)
    return Witness.answers


def check_again(
    name: str, request: Request, folder: Path, again: Path, logits: Logits, finished: Logits
) -> None:
    """Look at what was made in `folder` and, by another process, in `again`, and at what both answered."""
    compressor = know(name, request)
    loaded = load(request, folder)
    check_reload(request, loaded, torch.tensor(logits), torch.tensor(finished))
    check_seed(compressor, request.device, loaded.folder, again / ARTIFACT)


def know(name: str, request: Request) -> Compressor:
    """The compressor of a request, known as a worker of `bench run` knows it."""
    prepare_process(request.device, request.seed)
    if name not in compressor_classes():
        add_plugins(request.plugins)
    promise(
        name in compressor_classes(),
        f"reload: {request.plugins[0]} defines no {name} at its top level; define it there",
    )
    return parse_variant(request.variant).parts[0]


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


def check_record(compressor: Compressor, folder: Path) -> None:
    """The artifact says what was asked for."""
    recorded = read_document(folder)["parameters"][compressor.name]
    promise(
        recorded == asdict(compressor),
        f"spelling: asked for {asdict(compressor)}, the artifact records {recorded}; leave the settings as "
        "they are while the model is made, and keep what you compute in other attributes",
    )


def read_switches() -> dict[str, Any]:
    """How torch's switches stand."""
    return {name: read() for name, read in SWITCHES.items()}


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


def check_reload(request: Request, loaded: Subject, logits: torch.Tensor, finished: torch.Tensor) -> None:
    """The artifact is all that it takes: it holds the model that was finished, for any process."""
    apart, tolerance = difference(answers(loaded), logits), rounding(loaded.folder)
    promise(
        apart <= tolerance,
        f"reload: in another process the artifact gives logits {apart:.2%} apart; keep state in the weights, "
        "the configuration or a file of `build`, not in the class, its module or the environment",
    )
    stored = stored_model(loaded)
    rows = Batches(read_task(request.task), request)(stored, load_tokenizer(str(loaded.folder)))
    apart = difference(finished_answers(stored, rows), finished)
    promise(
        apart <= tolerance,
        f"reload: the model that `finish` gave and the one in the artifact give logits {apart:.2%} apart; "
        "hooks, replaced methods and attributes are not saved: change weights and configuration, write a "
        "class of your own as compressors/pruned.py does, or make the change in `runtime`",
    )


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
