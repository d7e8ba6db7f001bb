"""From options to a plan: the defaults, and every bad input as one line before anything is made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from bench.environment import cores
from bench.errors import InputError
from bench.meters.nvml import devices
from bench.options import (
    Options,
    read_duration_s,
    read_paddings,
    read_shapes,
    read_thread_counts,
)
from bench.plan import Plan, default_length, make_plan, scratch_epochs
from bench.tasks.stored import fingerprint

ROWS = "".join(f"headline number {i} about {'ABC'[i % 3]},{'ABC'[i % 3]}\n" for i in range(90))
CSV = "text,label\n" + ROWS
PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from compressors.contract import Compressor, Phase

@dataclass
class Half(Compressor):
    name: ClassVar[str] = "{name}"
    phase: ClassVar[Phase] = Phase.MASKS
    summary: ClassVar[str] = "test"
"""


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test works in `cwd/`, the inputs lie beside it, and nothing may appear in it."""
    files: dict[str, str | bytes] = {
        "rows.csv": CSV,
        "empty.csv": "",
        "header.csv": "text,label\n",
        "one-class.csv": "text,label\n" + "some words here,A\n" * 20,
        "stranger.csv": "text,label\n" + "other words here,Z\n" * 20,
        "latin.csv": CSV.replace("headline", "schöne").encode("latin-1"),
        "no-label.csv": "text,label\n" + "some words here,\n" * 20,
        "broken.jsonl": '{"text": "a", "label": "b"}\n{"text": ',
        "broken.py": "import nothing_of_this_name",
        "silly.py": "A = 1",
        "taken.py": PLUGIN.format(name="kd"),
        "note.txt": "not Python",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for folder in ("model", "no-config", "pickled", "bare"):
        (tmp_path / folder).mkdir()
        if folder != "no-config":
            (tmp_path / folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for folder, classes in (("three", 3), ("four", 4)):
        (tmp_path / folder).mkdir()
        config = {"model_type": "bert", "id2label": {str(i): f"LABEL_{i}" for i in range(classes)}}
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
    for folder in ("model", "three", "four"):
        save_file({}, tmp_path / folder / "model.safetensors")
        (tmp_path / folder / "vocab.txt").write_text("[PAD]")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    yield
    assert list(cwd.iterdir()) == []


def plan(**asked: Any) -> Plan:
    return make_plan(Options(**asked))


OWN: dict[str, Any] = {"train": "../rows.csv", "test_split": 0.3}

NAMED = {"LABEL_0": "A", "LABEL_1": "B", "LABEL_2": "C"}
THREE: dict[str, Any] = OWN | {"model": "../three", "no_finetune": True, "variants": "mp"}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no such file": ({"train": "../missing.csv", "test_split": 0.3}, "missing.csv"),
    "no such test file": ({"train": "../rows.csv", "test": "../missing.csv"}, "missing.csv"),
    "a folder as file": ({"train": "../model", "test_split": 0.3}, "model"),
    "empty file": ({"train": "../empty.csv", "test_split": 0.3}, "empty.csv"),
    "only a header": ({"train": "../header.csv", "test_split": 0.3}, "header.csv"),
    "one class": ({"train": "../one-class.csv", "test_split": 0.3}, "every row has the label 'A'"),
    "no labels": ({"train": "../no-label.csv", "test_split": 0.3}, "no-label.csv"),
    "unseen label": ({"train": "../rows.csv", "test": "../stranger.csv"}, "'Z'"),
    "wrong encoding": ({"train": "../latin.csv", "test_split": 0.3}, "latin.csv"),
    "broken JSON": ({"train": "../broken.jsonl", "test_split": 0.3}, "broken.jsonl"),
    "unknown text column": (OWN | {"text_columns": ("headline",)}, "no column 'headline'"),
    "unknown label column": (OWN | {"label_column": "lable"}, "did you mean 'label'"),
    "column named twice": (
        OWN | {"text_columns": ("text",), "label_column": "text"},
        "'text' is named twice",
    ),
    "both tests": (OWN | {"test": "../rows.csv"}, "--test-split"),
    "neither test": ({"train": "../rows.csv"}, "--test-split"),
    "split of 0": (OWN | {"test_split": 0.0}, "--test-split 0"),
    "split of 1": (OWN | {"test_split": 1.0}, "--test-split 1"),
    "split that is no number": (OWN | {"test_split": float("nan")}, "--test-split nan"),
    "no training rows": ({"test": "../rows.csv"}, "--train"),
    "nothing to train a variant on": (
        {"test": "../rows.csv", "model": "../model", "no_finetune": True, "variants": "bmp25"},
        "bmp25 is trained",
    ),
    "model without data": ({"model": "../model"}, "--test"),
    "no-finetune without model": (OWN | {"no_finetune": True}, "--no-finetune"),
    "no such model": (OWN | {"model": "./nowhere"}, "./nowhere: no such model directory"),
    "model is a file": (OWN | {"model": "../rows.csv"}, "not a model directory"),
    "model without config": (OWN | {"model": "../no-config"}, "no config.json"),
    "model as pickle": (OWN | {"model": "../pickled"}, "pytorch_model.bin is a pickle"),
    "model without weights": (OWN | {"model": "../bare"}, "no safetensors weights"),
    "task with own files": (OWN | {"task": "demo"}, "--task demo brings its own"),
    "unknown task": ({"task": "demon"}, "did you mean 'demo'"),
    "unknown variant": ({"variants": "kdd"}, "did you mean 'kd'"),
    "unknown preset": ({"variants": "studdy"}, "studdy"),
    "unknown setting": ({"variants": "bmp:amout=0.5"}, "did you mean 'amount'"),
    "setting of another type": ({"variants": "bmp:block=big"}, "block=big"),
    "empty glob": ({"variants": "bpm*"}, "'bpm*' matches nothing"),
    "no variant": ({"variants": " , "}, "no variant"),
    "amount of 0": ({"variants": "bmp0"}, "must lie between 0 and 1"),
    "amount of 1": ({"variants": "bmp100"}, "must lie between 0 and 1"),
    "negative amount": ({"variants": "bmp:amount=-0.5"}, "must lie between 0 and 1"),
    "combination that is none": ({"variants": "kd+ft"}, "do not combine"),
    "technique twice": ({"variants": "kd+kd"}, "twice"),
    "float16 on CPU": ({"variants": "mp:dtype=float16", "device": "cpu"}, "needs a CUDA device"),
    "unknown device": ({"device": "gpu"}, "--device gpu"),
    "no epochs": ({"epochs": 0.0}, "--epochs 0"),
    "negative epochs": ({"epochs": -1.0}, "--epochs -1"),
    "endless epochs": ({"epochs": float("inf")}, "--epochs inf"),
    "negative dense epochs": ({"dense_epochs": -1.0}, "--dense-epochs -1"),
    "negative rate": ({"learning_rate": -1e-3}, "--lr -0.001"),
    "rate that is no number": ({"learning_rate": float("nan")}, "--lr nan"),
    "batch of 0": ({"batch_size": 0}, "--batch-size 0"),
    "length of 2": ({"max_length": 2}, "--max-length 2"),
    "no seeds": ({"seeds": 0}, "--seeds 0"),
    "seed below 0": ({"seed": -1}, "--seed -1"),
    "seeds beyond the last": ({"seed": 2**32 - 2, "seeds": 3}, "--seed 4294967294"),
    "a shape longer than rows are cut to": (
        OWN | {"shapes": ((8, 512),)},
        "--shapes 8x512: rows are cut to 128",
    ),
    "more threads than cores": ({"thread_counts": (1, 4096), "device": "cpu"}, "--threads 4096"),
    "deduplicating the demo": ({"deduplicate": True}, "--deduplicate is about your own data"),
    "a class lost by deduplicating": (
        OWN | {"test_split": None, "test": "../rows.csv", "deduplicate": True},
        "--deduplicate leaves no row of 'A', 'B', 'C'",
    ),
    "negative limit": ({"limit": -5}, "--limit -5"),
    "limit below the classes": ({"limit": 5}, "--limit 5"),
    "test limit below the classes": ({"limit_test": 5}, "--limit-test 5"),
    "limit below own classes": (OWN | {"limit": 2}, "--limit 2"),
    "unknown country": ({"country": "INDIA"}, "--country INDIA"),
    "no such plugin": ({"plugins": (Path("../nowhere.py"),)}, "nowhere.py"),
    "plugin that is no Python": ({"plugins": (Path("../note.txt"),)}, "note.txt"),
    "broken plugin": ({"plugins": (Path("../broken.py"),)}, "nothing_of_this_name"),
    "plugin without compressor": ({"plugins": (Path("../silly.py"),)}, "defines no Compressor"),
    "map without a checkpoint": (OWN | {"label_map": {"LABEL_0": "A"}}, "add --model PATH_OR_ID"),
    "map that leaves out a label": (THREE | {"label_map": NAMED | {"LABEL_1": "X"}}, "the name 'B'"),
    "map with an unknown class": (
        THREE | {"label_map": {"LABEL_9": "A", "LABEL_1": "B", "LABEL_2": "C"}},
        "--label-map LABEL_9: no class of ../three; known: LABEL_0, LABEL_1, LABEL_2",
    ),
    "map that leaves out a class": (
        THREE | {"model": "../four", "label_map": NAMED},
        "--label-map leaves out 'LABEL_3', a class of ../four",
    ),
    "map for a loaded checkpoint that leaves out a class": (
        OWN | {"variants": "load:../four", "label_map": NAMED},
        "leaves out 'LABEL_3'",
    ),
    "plugin with a taken name": ({"plugins": (Path("../taken.py"),)}, "'kd'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_one_line_that_names_it(name: str) -> None:
    asked, said = BAD[name]
    with pytest.raises(InputError) as caught:
        plan(**asked)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("asked", [THREE, OWN | {"variants": "load:../three"}])
def test_a_map_of_a_checkpoints_classes_is_part_of_the_task(asked: dict[str, Any]) -> None:
    assert plan(**asked, label_map=NAMED).task.label_map == NAMED
    assert fingerprint(plan(**asked, label_map=NAMED).task) != fingerprint(plan(**asked).task)


def test_a_map_may_name_classes_that_the_data_lacks() -> None:
    asked = THREE | {"model": "../four", "label_map": NAMED | {"LABEL_3": "others"}}
    assert plan(**asked).task.label_map["LABEL_3"] == "others"


@pytest.mark.skipif(bool(devices()), reason="a CUDA device is here")
def test_cuda_without_cuda() -> None:
    with pytest.raises(InputError, match="--device cuda: no NVIDIA device"):
        plan(device="cuda")
    assert plan(variants="mp").config.device == "cpu"


@pytest.fixture(scope="module")
def demo() -> Plan:
    return make_plan(Options(device="cpu"))


def test_the_demo_is_quick_and_of_sixteen_variants(demo: Plan) -> None:
    assert len(demo.variants) == 16
    assert demo.variants[0].name == "dense"
    assert demo.task.demonstration
    assert demo.config.budget == "quick"
    assert demo.config.variants == [variant.name for variant in demo.variants]
    assert (demo.config.epochs, demo.config.country) == (0.5, "IND")
    assert demo.config.dense_epochs == scratch_epochs(len(demo.task.train))
    assert (demo.config.dense_learning_rate, demo.config.learning_rate) == (1e-3, 3e-4)


def test_an_own_model_starts_with_what_needs_no_training() -> None:
    made = plan(**OWN, model="../model")
    assert [variant.name for variant in made.variants] == ["dense", "mp"]
    assert made.config.budget == "standard"
    assert made.config.epochs == made.config.dense_epochs == 3.0
    assert made.config.learning_rate == made.config.dense_learning_rate == 3e-5


def test_a_model_taken_as_it_came_has_no_dense_epochs() -> None:
    made = plan(test="../rows.csv", model="../model", no_finetune=True)
    assert made.config.dense_epochs == 0
    assert not made.task.fine_tune
    assert len(made.task.test) == 90


def test_own_rows_without_a_model_are_learnt_from_scratch() -> None:
    made = plan(**OWN)
    assert made.task.model is None
    assert made.config.dense_epochs == 10.0
    assert (made.config.dense_learning_rate, made.config.learning_rate) == (1e-3, 3e-4)
    assert len(made.variants) == 16


@pytest.mark.parametrize(
    ("rows", "epochs"), [(100, 10.0), (1_600, 10.0), (6_000, 3.0), (8_000, 2.0), (10**6, 2.0)]
)
def test_a_model_from_scratch_sees_enough_rows(rows: int, epochs: float) -> None:
    assert scratch_epochs(rows) == epochs


@pytest.mark.parametrize(
    ("family", "positions", "limit", "length"),
    [
        ("bert", 512, None, 512),
        ("bench-pruned-bert", 512, None, 512),
        ("xlm-roberta", 514, None, 512),
        ("camembert", 300, None, 298),
        ("bert", 4096, None, 512),
        ("bert", None, None, 512),
        ("bert", 512, 128, 128),
        ("bert", 512, int(1e30), 512),
    ],
)
def test_rows_are_cut_to_what_the_checkpoint_takes(
    tmp_path: Path, family: str, positions: int | None, limit: int | None, length: int
) -> None:
    config = {"model_type": family, "max_position_embeddings": positions}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    if limit:
        (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}))
    task = plan(**OWN, model="../model").task
    assert default_length(task, 512) == length


@pytest.mark.parametrize(("budget", "epochs"), [("quick", 1.0), ("standard", 3.0), ("thorough", 5.0)])
def test_the_budget_sets_the_epochs(budget: str, epochs: float) -> None:
    assert plan(**OWN, variants="mp", budget=budget).config.epochs == epochs


def test_what_is_asked_for_is_what_is_done() -> None:
    made = plan(
        **OWN,
        variants="bmp50+mp",
        epochs=0.5,
        dense_epochs=4.0,
        learning_rate=2e-4,
        batch_size=8,
        max_length=32,
        seed=3,
        country="fra",
        limit=30,
        limit_test=9,
        device="cpu",
        budget="thorough",
        keep="best",
        remeasure=True,
        command="bench run --this",
    )
    config = made.config
    assert [variant.name for variant in made.variants] == ["dense", "bmp50+mp"]
    assert (config.epochs, config.dense_epochs) == (0.5, 4.0)
    assert config.learning_rate == config.dense_learning_rate == 2e-4
    assert (config.batch_size, config.max_length, config.seeds) == (8, 32, [3, 4, 5])
    assert (config.country, config.keep, config.budget) == ("FRA", "best", "thorough")
    assert config.command == "bench run --this"
    assert "France" in config.carbon_source
    assert (len(made.task.train), len(made.task.test)) == (30, 9)
    assert made.remeasure


@pytest.mark.parametrize(
    ("asked", "seeds"),
    [
        ({}, [0]),
        ({"seed": 7}, [7]),
        ({"seed": 7, "seeds": 2}, [7, 8]),
        ({"budget": "thorough"}, [0, 1, 2]),
        ({"budget": "thorough", "seeds": 1}, [0]),
        ({"seed": 2**32 - 1}, [2**32 - 1]),
    ],
)
def test_seeds_follow_the_first(asked: dict[str, Any], seeds: list[int]) -> None:
    assert plan(**OWN, variants="mp", **asked).config.seeds == seeds


def test_other_scenarios_are_measured_on_request_alone() -> None:
    config = plan(**OWN, variants="mp", device="cpu").config
    assert (config.paddings, config.shapes, config.thread_counts) == ([], [], [])
    asked: dict[str, Any] = {"paddings": ("sorted",), "shapes": ((1, 128), (8, 32)), "thread_counts": (1,)}
    config = plan(**OWN, variants="mp", device="cpu", budget="thorough", **asked).config
    assert (config.paddings, config.shapes, config.thread_counts) == (["sorted"], [(1, 128), (8, 32)], [1])


def test_thorough_measures_every_padding_and_fewer_threads() -> None:
    config = plan(**OWN, variants="mp", device="cpu", budget="thorough").config
    assert config.paddings == ["fixed", "sorted"]
    assert config.shapes == []
    assert all(count < cores() and count.bit_count() == 1 for count in config.thread_counts)
    assert 2 * max(config.thread_counts, default=0.5) >= cores()


def test_a_shape_may_be_as_long_as_rows_are() -> None:
    shapes = ((2, 256),)
    assert plan(**OWN, variants="mp", shapes=shapes, max_length=256).config.shapes == [(2, 256)]
    with pytest.raises(InputError, match="rows are cut to 64 tokens; see --max-length"):
        plan(variants="mp", shapes=shapes)


def test_paddings_are_read() -> None:
    assert read_paddings(None) is None
    assert read_paddings("fixed") == ("fixed",)
    assert read_paddings(" sorted, fixed,sorted") == ("fixed", "sorted")


@pytest.mark.parametrize(("text", "said"), [("fixd", "did you mean 'fixed'"), ("", "known: fixed, sorted")])
def test_an_unknown_padding_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"--padding {text}: .*{said}"):
        read_paddings(text)


def test_shapes_are_read() -> None:
    assert read_shapes(None) == ()
    assert read_shapes("1x32, 8x128,1x32") == ((1, 32), (8, 128))


@pytest.mark.parametrize(
    "text", ["", "8", "8x", "x8", "0x8", "8x0", "-1x8", "8X8", "1x8x2", "1x8,,2x8", "٣x8"]
)
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--shapes .*: write ROWSxTOKENS"):
        read_shapes(text)


def test_thread_counts_are_read() -> None:
    assert read_thread_counts(None) is None
    assert read_thread_counts("4, 1,4") == (4, 1)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "two", "1,,2", "1 2", "٣"])
def test_what_is_no_number_of_threads_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--threads .*: write numbers of threads"):
        read_thread_counts(text)


def test_rows_are_deduplicated_where_asked() -> None:
    made = plan(**OWN, variants="mp", deduplicate=True)
    assert made.config.deduplicate
    assert len(made.task.train + made.task.validation + made.task.test) == 90
    assert not plan(**OWN, variants="mp").config.deduplicate


def test_the_demo_is_audited_before_it_is_limited(demo: Plan) -> None:
    splits = plan(variants="mp", limit=60, limit_test=24).task.audit.splits
    assert splits == demo.task.audit.splits
    assert {part: audit.rows for part, audit in splits.items()} == {
        "train": 6000,
        "validation": 2000,
        "test": 4000,
    }
    assert {(audit.duplicates, audit.conflicting, audit.in_train) for audit in splits.values()} == {(0, 0, 0)}


def test_the_demo_can_be_limited() -> None:
    made = plan(variants="mp", limit=60, limit_test=24)
    assert (len(made.task.train), len(made.task.test)) == (60, 24)
    assert {row.label for row in made.task.train} == set(range(12))


def test_paths_hold_wherever_the_run_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN.format(name="halving"))
    made = plan(variants="halving", plugins=(Path("../plugin.py"),), cache=Path("../kept"))
    assert made.plugins == ((tmp_path / "plugin.py").resolve(),)
    assert made.cache == (tmp_path / "kept").resolve()
    assert [variant.name for variant in made.variants] == ["dense", "halving"]
    assert not made.cache.exists()


@pytest.fixture(autouse=True)
def forget_plugins() -> Iterator[None]:
    """What a test's plugin registered is gone after it."""
    from compressors.registry import compressor_classes

    before = dict(compressor_classes())
    yield
    for name in set(compressor_classes()) - set(before):
        del compressor_classes()[name]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("30m", 1_800), (" 2h ", 7_200), ("7d", 604_800)]
)
def test_a_time_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert read_duration_s("--timeout", text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-5", "1e3", "nan", "5 minutes", "m", "1" * 10, "٣m"])
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match=f"^--timeout {re.escape(text)}: write a time such as"):
        read_duration_s("--timeout", text)
