"""The model card: the golden document, what it may not say, and no text from outside that acts as markup."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from huggingface_hub import ModelCard

from bench.nouns.run import DENSE, Result, Run
from compressors.contract import Compressor, Phase
from compressors.kd import Distillation
from compressors.onnx import Onnx
from compressors.sorted import Sorted
from reports.model_card import Exported, announcement, render
from tests.reports.test_markdown import hostile

BEST = "bmp25+kd+mp"


@dataclass
class Pruning(Compressor):
    name: ClassVar[str] = "bmp"
    phase: ClassVar[Phase] = Phase.MASKS
    summary: ClassVar[str] = "heads and neurons leave"

    amount: float = 0.25
    block_size: int = 32
    pattern: str = ""


@dataclass
class HalfPrecision(Compressor):
    name: ClassVar[str] = "mp"
    phase: ClassVar[Phase] = Phase.PRECISION
    summary: ClassVar[str] = "half-precision weights"


@dataclass
class Loading(Compressor):
    name: ClassVar[str] = "load"
    phase: ClassVar[Phase] = Phase.ARCHITECTURE
    summary: ClassVar[str] = "another checkpoint"

    path: str = ""

    @property
    def checkpoints(self) -> tuple[str, ...]:
        return (self.path,)


FOLDER = Exported(
    place="deploy",
    parts=(Pruning(), HalfPrecision()),
    classes=("World", "Sports", "Business", "Sci/Tech"),
    class_file="pruned.py",
    dtype="bfloat16",
)
STOCK = replace(FOLDER, parts=(), class_file=None, dtype="float32")


@pytest.fixture
def run(run: Run) -> Run:
    """The run of a checkpoint from a hub, with two more beside it."""
    checkpoints = {"org/encoder@v2": "0" * 40, "org/other": "1" * 40, "/home/somebody/secret/tiny": None}
    task = run.task.model_copy(update={"model": "org/encoder@v2"})
    return run.model_copy(update={"task": task, "checkpoints": checkpoints})


def of_task(run: Run, **update: object) -> Run:
    return run.model_copy(update={"task": run.task.model_copy(update=update)})


def result_of(run: Run, variant: str) -> Result:
    found = run.result(variant)
    assert found
    return found


def card(run: Run, variant: str = BEST, folder: Exported = FOLDER) -> str:
    return render(run, result_of(run, variant), folder)


def front_matter(text: str) -> dict[str, object]:
    """The card's metadata as a hub reads it."""
    found: dict[str, object] = ModelCard(text).data.to_dict()
    return found


def prose(text: str) -> str:
    """The card without its metadata and its code."""
    return re.sub(r"```python\n.*?\n```", "", ModelCard(text).text, flags=re.DOTALL)


def test_model_card(run: Run, golden: Callable[[str, str], None]) -> None:
    golden("model_card.md", card(run))


def test_the_front_matter_names_no_licence_and_only_models_of_a_hub(run: Run) -> None:
    found = front_matter(card(run))
    assert "license" not in found
    assert found["base_model"] == ["org/encoder"]
    text = card(of_task(run, model="/home/somebody/secret/tiny"))
    assert "base_model" not in front_matter(text)
    assert "**Weights from:** the checkpoint tiny\n" in text
    assert "**Weights from:** no checkpoint" in card(of_task(run, model=None))


@pytest.mark.parametrize(
    ("path", "base_model", "said"),
    [
        ("org/other", ["org/other"], "org/other"),
        ("/home/somebody/secret/tiny", None, "the checkpoint tiny"),
        ("/home/somebody/unrecorded", None, "the checkpoint unrecorded"),
    ],
)
def test_weights_come_from_what_was_loaded_not_from_the_tasks_model(
    run: Run, path: str, base_model: list[str] | None, said: str
) -> None:
    text = card(run, folder=replace(FOLDER, parts=(Loading(path), HalfPrecision())))
    assert front_matter(text).get("base_model") == base_model
    assert f"**Weights from:** {said}\n" in text
    assert "org/encoder" not in text
    assert "**Earlier training:** not known" in text
    assert "**Earlier training:**" not in card(run)


def test_a_teacher_gives_no_weights(run: Run) -> None:
    """Students of dense's own layers come from the task's model, and a foreign student from itself alone."""
    text = card(run, folder=replace(FOLDER, parts=(Distillation(teacher="org/other"),)))
    assert front_matter(text)["base_model"] == ["org/encoder"]
    assert "**Weights from:** org/encoder\n" in text
    assert "**Teacher:** org/other; whether it had learnt from test rows" in text
    assert "**Earlier training:**" not in text
    both = Distillation(student="org/other", teacher="/home/somebody/secret/tiny")
    text = card(run, folder=replace(FOLDER, parts=(both,)))
    assert front_matter(text)["base_model"] == ["org/other"]
    assert "**Weights from:** org/other\n" in text
    assert "**Teacher:** the checkpoint tiny; " in text
    assert "**Earlier training:** not known" in text
    assert "**Teacher:**" not in card(run)


def test_a_model_taken_as_it_came_was_trained_on_unknown_rows(run: Run) -> None:
    config = run.config.model_copy(update={"dense_epochs": 0})
    assert "**Earlier training:** not known" in card(run.model_copy(update={"config": config}))


def test_paths_are_not_published(run: Run) -> None:
    """Neither a checkpoint's nor any other, wherever one can stand."""
    for path in ("/home/somebody/secret/tiny", "/home/somebody/rows.csv"):
        shown = hostile(run, f" {path}")
        config = shown.config.model_copy(update={"command": f"bench run --train {path}"})
        folder = replace(FOLDER, parts=(Loading(path),))
        text = card(shown.model_copy(update={"config": config}), f"{BEST} {path}", folder)
        assert "somebody" not in text
        assert path.rpartition("/")[2] in text


def test_the_example_of_a_pair_task_takes_both_texts(run: Run) -> None:
    assert "tokenizer(texts, pairs, " in card(of_task(run, pairs=True))
    assert "pairs" not in card(run)


def test_a_stock_model_needs_no_code_of_ours(run: Run) -> None:
    text = card(run, DENSE, STOCK)
    assert "trust_remote_code" not in text
    assert "pruned" not in text.partition("## What the figures")[0]
    assert "times faster" not in text
    assert "README.md" in announcement("out", None)
    assert "trust_remote_code" not in announcement("out", None)
    assert "import pruned" in announcement("out", "pruned.py")


def test_quantised_layers_need_the_package_that_holds_them(run: Run) -> None:
    class Eighths(Compressor):
        name = "eighths"
        phase = Phase.PRECISION
        summary = "weights of one byte"
        packages = ("rounding",)
        quantises = True

    text = card(run, DENSE, replace(STOCK, parts=(Eighths(),)))
    assert "- **Precision:** float32 but for the quantised layers" in text
    assert "`pip install rounding`" in text
    assert "loads it alone" not in text
    assert "loads it alone" in card(run, DENSE, STOCK)
    assert "pip install" not in card(run, DENSE, STOCK)


def test_a_technique_at_run_time_is_said_not_to_act_in_stock_transformers(run: Run) -> None:
    class Compiled(Compressor):
        name = "compiled"
        phase = Phase.RUNTIME
        summary = "compiled kernels"

    text = card(run, folder=replace(FOLDER, parts=(Compiled(),)))
    assert "`compiled` acts where `bench` runs the model" in text
    assert "accuracy below is that of" not in text
    assert "acts where" not in card(run)


def test_figures_of_an_engine_are_said_not_to_be_those_of_the_weights(run: Run) -> None:
    text = card(run, folder=replace(FOLDER, parts=(Onnx(precision="int8"),)))
    assert "`onnx` acts where `bench` runs the model" in text
    assert "accuracy below is that of `model.onnx` too, not of the code above" in text


def test_rows_are_said_not_to_be_sorted_by_the_example(run: Run) -> None:
    text = card(run, folder=replace(FOLDER, parts=(Sorted(),)))
    assert "`sorted` acts where `bench` puts waiting rows into batches. The code above" in text
    assert "puts waiting rows" not in card(run)


def test_what_a_plugin_does_is_not_made_up(run: Run) -> None:
    text = card(run, folder=replace(FOLDER, parts=None))
    assert "a technique of it is a plugin's" in text
    assert "base_model" not in front_matter(text)
    assert "**Weights from:** not told" in text


def test_of_several_seeds_it_says_which_one_and_what_all_gave(seeded: Run) -> None:
    second = next(row for row in seeded.results if row.variant == BEST and row.seed == 2)
    text = render(seeded, second, FOLDER)
    assert "those of seed 2" in text
    assert "over 2 seeds" in text
    assert "| Measured | ★ bmp25+kd+mp | dense |" in text
    assert "inconclusive" in text
    assert "figures of unseen rows" in text


def test_a_variant_without_speed_gets_no_claim(slowed: Run) -> None:
    text = card(slowed, "mp", STOCK)
    assert "hardware slowdown" in text
    assert " than `dense`" not in text


@pytest.mark.parametrize(
    "text",
    [
        "a|b",
        "<script>alert(1)</script>",
        "`code",
        "two\nlines\r\n\n# heading",
        "---\nlicense: mit\n---\n",
        "{{ 7 * 7 }}{% raw %}",
        "![image](http://example.org/x.png)",
        "': [\"",
    ],
)
def test_text_from_outside_acts_neither_as_markup_nor_as_metadata(run: Run, text: str) -> None:
    """Wherever a user's words stand; the code block alone is Python, and holds the name as a literal."""
    folder = replace(FOLDER, place=text, classes=(text,))
    variant = BEST + text
    out = card(hostile(run, text), variant, folder)
    harmless = card(hostile(run, "harmless"), BEST + "harmless", replace(folder, place="harmless"))
    assert front_matter(out).keys() == front_matter(harmless).keys()
    body = prose(out)
    assert body.count("\n") == prose(harmless).count("\n")
    assert "<" not in body
    assert "49" not in body.partition("## How")[0]
    assert "![" not in re.sub(r"\\.", "", body)
    [code] = re.findall(r"```python\n(.*?)\n```", out, re.DOTALL)
    compile(code, "card", "exec")
    assert f"place = {json.dumps(text)}  #" in code
