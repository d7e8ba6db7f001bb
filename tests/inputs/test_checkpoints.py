"""Checkpoints and artifacts that are broken, or are not what they say: refused when the run is planned."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

import compressors
from bench.cache import files_fingerprint
from compressors import artifact
from compressors.variant import parse_variant
from tests.bench.test_export import write_run
from tests.commands import bench
from tests.compressors.tiny import TOY_ROWS, tiny
from tests.inputs.refused import carried_out, refused

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
WORDS = "bert.embeddings.word_embeddings.weight"
DATA = ("--train", "rows.csv", "--test-split", "0.3", "--device", "cpu", "--dry-run")
WAYS = {
    "dense": ("--model", "broken", "--no-finetune", "--variants", "mp"),
    "fine-tuned": ("--model", "broken", "--variants", "mp"),
    "load": ("--model", "whole", "--variants", "load:broken"),
    "student": ("--model", "whole", "--variants", "kd:student=broken"),
    "teacher": ("--model", "whole", "--variants", "kd:teacher=broken"),
}

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Rows, and a whole artifact of the same classes."""
    folder = tmp_path_factory.mktemp("made")
    artifact.save(tiny(), tokenizer, parse_variant("dense"), folder / "whole")
    with (folder / "rows.csv").open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("text", "label"))
        writer.writerows((f"{text} {number}", label) for number, (text, label) in enumerate(TOY_ROWS))
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A folder with rows, a whole checkpoint, and one to be broken."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    shutil.copytree(made / "whole", tmp_path / "broken")
    return tmp_path


def settings(**changes: Any) -> Damage:
    """Sets keys of `config.json`; None takes one out."""
    return lambda folder: change(folder / CONFIG, changes)


def change(file: Path, changes: dict[str, Any]) -> None:
    document = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def text_of(name: str, text: str) -> Damage:
    return lambda folder: (folder / name).write_text(text)


def without(*names: str) -> Damage:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def header(edit: Callable[[dict[str, Any]], object]) -> Damage:
    """Rewrites the header of the weights, of which safetensors says: eight bytes of length, then JSON."""

    def damage(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        entries = json.loads(data[8 : 8 + length])
        edit(entries)
        text = json.dumps(entries).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return damage


def weights(edit: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / WEIGHTS).write_bytes(edit((folder / WEIGHTS).read_bytes()))


def value(
    number: float, dtype: torch.dtype = torch.float32, tensor_name: str = "classifier.weight"
) -> Damage:
    """Puts a number into the last place of one matrix, all of them in `dtype`."""

    def damage(folder: Path) -> None:
        tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / WEIGHTS).items()}
        tensors[tensor_name][-1, -1] = number
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def sharded(*files: object) -> Damage:
    """Weights in the files that an index names."""

    def damage(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
        named = {f"tensor {number}": file for number, file in enumerate(files)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))

    return damage


def only_a_pickle(folder: Path) -> None:
    """Weights that a reader would have to unpickle, which no reader could: they are none."""
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")


def pickle_by_another_name(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps({"weights": [1.0]}))


def huge(folder: Path) -> None:
    with (folder / CONFIG).open("r+b") as opened:
        opened.truncate(100 * 2**20)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def linked(name: str, target: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder.parent / "secret.txt").write_text("[PAD]\n[UNK]\nsecret")
        (folder / name).unlink(missing_ok=True)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(target)

    return damage


def linked_transformer(folder: Path) -> None:
    """A sentence encoder whose transformer is another model of the reader's."""
    (folder / CONFIG).unlink()
    (folder / "0_Transformer").symlink_to("../whole")
    (folder / "modules.json").write_text('[{"path": "0_Transformer"}]')


def more_tokens(folder: Path) -> None:
    """A tokenizer of another model, which has more tokens than this one."""
    document = json.loads((folder / TOKENIZER).read_text())
    document["model"]["vocab"] |= {f"word{number}": number for number in range(90, 200)}
    (folder / TOKENIZER).write_text(json.dumps(document))


def special_tokens_alone(folder: Path) -> None:
    document = json.loads((folder / TOKENIZER).read_text())
    special = {token["content"] for token in document["added_tokens"]}
    vocabulary = document["model"]["vocab"]
    document["model"]["vocab"] = {token: vocabulary[token] for token in vocabulary if token in special}
    (folder / TOKENIZER).write_text(json.dumps(document))


def empty_vocabulary(folder: Path) -> None:
    (folder / TOKENIZER).unlink()
    (folder / "vocab.txt").write_text("")


def overlapping(entries: dict[str, Any]) -> None:
    entries["classifier.bias"]["data_offsets"] = entries["bert.pooler.dense.bias"]["data_offsets"]


def names(*classes: object) -> Damage:
    return settings(id2label=dict(enumerate(classes)), label2id=None)


FOLDERS: dict[str, tuple[Damage, str]] = {
    "missing": (shutil.rmtree, "broken: no such "),
    "a file": (a_file, "broken: not a model directory, it is a file"),
    "empty": (emptied, "broken: not a model directory, it has no config.json"),
    "no configuration": (without(CONFIG), "it has no config.json"),
    "an adapter": (text_of("adapter_config.json", "{}"), "an adapter of another model"),
    "a link out": (linked("vocab.txt", "../secret.txt"), "vocab.txt: a link that leads out of the folder"),
    "an absolute link": (linked(TOKENIZER, "/etc/hostname"), "tokenizer.json: a link that leads out"),
    "a circle of links": (linked("merges.txt", "merges.txt"), "merges.txt: a link that leads out"),
    "a linked template": (linked("chat_template.jinja", "../secret.txt"), "jinja: a link that leads out"),
    "a link in a folder": (
        linked("additional_chat_templates/x.jinja", "../../secret.txt"),
        "x.jinja: a link that leads out of the folder",
    ),
    "a link of any name": (linked("bpe.codes", "../secret.txt"), "bpe.codes: a link that leads out"),
    "a linked folder": (linked("additional_chat_templates", ".."), "templates: a link that leads out"),
    "blobs of no cache": (linked("vocab.txt", "../blobs/secret"), "vocab.txt: a link that leads out"),
    "a linked transformer": (linked_transformer, "broken: not a model directory, it has no config.json"),
}
CONFIGURATIONS: dict[str, tuple[Damage, str]] = {
    "no JSON": (text_of(CONFIG, "hidden_size = 32"), "config.json: not JSON"),
    "cut short": (text_of(CONFIG, '{"model_type": "be'), "config.json: not JSON"),
    "a list": (text_of(CONFIG, "[1, 2]"), "config.json: not a JSON object"),
    "NaN": (settings(layer_norm_eps=float("nan")), "config.json: layer_norm_eps is nan"),
    "infinity": (settings(layer_norm_eps=float("inf")), "config.json: layer_norm_eps is inf"),
    "nested": (text_of(CONFIG, '{"a": ' + "[" * 200_000), "config.json: not JSON"),
    "not UTF-8": (lambda folder: (folder / CONFIG).write_bytes(b'{"\xff": 1}'), "config.json: not JSON"),
    "huge": (huge, "config.json: 100 MiB, and at most 64 are read"),
    "no family": (settings(model_type=None), "config.json: names no model_type"),
    "a number for a family": (settings(model_type=3), "config.json: names no model_type"),
    "unknown family": (settings(model_type="nonesuch"), "model_type 'nonesuch': the installed transformers"),
    "active family": (settings(model_type="\x1b[2J\u202e\n"), r"model_type '\x1b[2J\u202e\n'"),
    "a family of its own": (
        settings(model_type="evil", auto_map={"AutoConfig": "evil.EvilConfig"}),
        "model_type 'evil': only custom code builds it (auto_map)",
    ),
    "weights elsewhere": (
        settings(transformers_weights="../x.safetensors"),
        "transformers_weights names other files",
    ),
    "another configuration": (
        settings(configuration_files=["config.4.0.json"]),
        "configuration_files names other files",
    ),
}
SIZES: dict[str, tuple[Damage, str]] = {
    "hidden_size": (settings(hidden_size=64), f"hidden_size 64, and by '{WORDS}' of its weights it is 32"),
    "num_hidden_layers": (settings(num_hidden_layers=3), "num_hidden_layers 3, and by 'its last layer'"),
    "fewer layers": (settings(num_hidden_layers=1), "num_hidden_layers 1, and by"),
    "vocab_size": (settings(vocab_size=500), "vocab_size 500, and by"),
    "max_position_embeddings": (settings(max_position_embeddings=512), "max_position_embeddings 512, and by"),
    "num_labels": (names("red", "green"), "give 2 classes, and the head of its weights has 3"),
    "two numbers of classes": (settings(num_labels=7), "give 7 classes, and the head of its weights has 3"),
    "not a number": (settings(hidden_size=float("nan")), "hidden_size nan is no size"),
    "num_attention_heads": (settings(num_attention_heads=5), "num_attention_heads 5 does not divide"),
    "negative": (settings(hidden_size=-32), "hidden_size -32 is no size"),
    "a text": (settings(num_hidden_layers="two"), "num_hidden_layers 'two' is no size"),
    "true": (settings(num_hidden_layers=True), "num_hidden_layers True is no size"),
    "absurdly wide": (settings(hidden_size=10**9), "hidden_size 1000000000, and by"),
    "absurdly deep": (settings(num_hidden_layers=10**9), "num_hidden_layers 1000000000, and by"),
    "absurd inside": (settings(intermediate_size=10**9), "describes a model of at least 6.4e+10 values"),
    "beyond all numbers": (settings(intermediate_size=10**310), "describes a model of at least 1.0e+30"),
    "a text for padding": (settings(pad_token_id="1"), "pad_token_id '1' is no token's number"),
    "a list for padding": (
        settings(model_type="roberta", pad_token_id=[1]),
        "pad_token_id [1] is no token's number",
    ),
    "absurd in any family": (
        settings(model_type="modernbert", hidden_size=10**9),
        "describes a model of at least 2.0e+18 values",
    ),
    "absurdly many classes": (settings(id2label=None, num_labels=10**9), "is no number of classes"),
}
CLASSES: dict[str, tuple[Damage, str]] = {
    "a list": (settings(id2label=["red", "green", "blue"]), "does not number the classes from 0"),
    "not numbers": (settings(id2label={"a": "red"}), "does not number the classes from 0"),
    "gaps": (settings(id2label={0: "red", 1: "green", 3: "blue"}), "does not number the classes from 0"),
    "one number twice": (settings(id2label={"0": "red", "00": "green"}), "does not number the classes"),
    "one name twice": (names("red", "red", "blue"), "calls 2 classes 'red'"),
    "no name": (names("red", None, "blue"), "None cannot be a class's name"),
    "an empty name": (names("red", " ", "blue"), "' ' cannot be a class's name"),
    "a name that acts on a terminal": (names("red", "a\x1b[2Jb", "blue"), r"'a\x1b[2Jb' cannot be"),
    "a name that turns around": (names("red", "a\u202eb", "blue"), r"'a\u202eb' cannot be"),
    "half a character": (names("red", "\ud800", "blue"), r"'\ud800' cannot be a class's name"),
}
DAMAGED_WEIGHTS: dict[str, tuple[Damage, str]] = {
    "none": (without(WEIGHTS), "no safetensors weights; save the model with save_pretrained"),
    "a pickle": (only_a_pickle, "pytorch_model.bin is a pickle, which can run code when opened; convert it"),
    "a pickle by another name": (pickle_by_another_name, "not whole safetensors weights"),
    "another name": (
        lambda folder: (folder / WEIGHTS).rename(folder / "weights.safetensors"),
        "no model.safetensors, by which name weights are read",
    ),
    "empty": (weights(lambda data: b""), "not whole safetensors weights"),
    "cut in the header": (weights(lambda data: data[:100]), "not whole safetensors weights"),
    "cut in the values": (weights(lambda data: data[:-100]), "not whole safetensors weights"),
    "more than they say": (weights(lambda data: data + b"more"), "not whole safetensors weights"),
    "a header without end": (
        weights(lambda data: struct.pack("<Q", 2**60) + data[8:]),
        "not whole safetensors weights",
    ),
    "overlapping": (header(overlapping), "not whole safetensors weights"),
    "unknown dtype": (
        header(lambda entries: entries["classifier.bias"].update(dtype="F31")),
        "not whole safetensors weights",
    ),
    "a wrong shape": (
        header(lambda entries: entries["classifier.bias"].update(shape=[10**6])),
        "not whole safetensors weights",
    ),
    "NaN": (value(float("nan")), "its weights hold NaN or infinity in 'classifier.weight'"),
    "infinity": (value(float("-inf")), "its weights hold NaN or infinity in 'classifier.weight'"),
    "NaN in a layer": (
        value(float("nan"), tensor_name="bert.encoder.layer.1.output.dense.weight"),
        "NaN or infinity in 'bert.encoder.layer.1.output.dense.weight'",
    ),
    "NaN in the embeddings": (value(float("nan"), tensor_name=WORDS), f"NaN or infinity in '{WORDS}'"),
    "NaN in half": (value(float("nan"), torch.float16), "its weights hold NaN or infinity"),
    "NaN in bfloat16": (value(float("nan"), torch.bfloat16), "its weights hold NaN or infinity"),
    "NaN in double": (value(float("nan"), torch.float64), "its weights hold NaN or infinity"),
    "a shard that is missing": (
        sharded("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        "names 'model-00002-of-00002.safetensors', which is not there",
    ),
    "a shard elsewhere": (
        sharded("../../etc/passwd"),
        "names '../../etc/passwd', no .safetensors file beside",
    ),
    "shards in the next folder": (sharded("../whole/model.safetensors"), "no .safetensors file beside it"),
    "an absolute shard": (sharded("/etc/x.safetensors"), "no .safetensors file beside it"),
    "a shard that is a number": (sharded(7), "names 7, no .safetensors file beside it"),
    "no shard": (sharded(), "names no files of weights"),
    "a pickled shard": (sharded("pytorch_model.bin"), "no .safetensors file beside it"),
    "quantised": (
        settings(quantization_config={"quant_method": "torchao", "quant_type": "int8"}),
        "its weights are quantised; name the checkpoint it was made from",
    ),
}
TOKENIZERS: dict[str, tuple[Damage, str]] = {
    "broken": (text_of(TOKENIZER, '{"version": "1.0"'), "tokenizer.json: not JSON"),
    "no tokenizer at all": (text_of(TOKENIZER, '{"model": 3}'), "tokenizer.json: no usable tokenizer ("),
    "nested": (text_of(TOKENIZER, "[" * 200_000), "tokenizer.json: not JSON"),
    "missing": (without(TOKENIZER), "no usable tokenizer: there is none; save its base model's"),
    "an empty vocabulary": (empty_vocabulary, "no usable tokenizer: vocab.txt is empty"),
    "special tokens alone": (special_tokens_alone, "its vocabulary is empty"),
    "of another model": (more_tokens, "numbers tokens up to 199, and the model's vocab_size is 96"),
    "broken settings": (text_of("tokenizer_config.json", "{"), "tokenizer_config.json: not JSON"),
    "its own code": (
        lambda folder: (
            without(TOKENIZER)(folder),
            text_of("tokenizer_config.json", '{"tokenizer_class": "Evil", "auto_map": {}}')(folder),
        ),
        "tokenizer_config.json: only custom code makes this tokenizer",
    ),
    "a vocabulary of the reader's": (
        text_of("tokenizer_config.json", json.dumps({"init_inputs": [[__file__]]})),
        "tokenizer_config.json: names a file of this machine, ",
    ),
    "special tokens of the reader's": (
        text_of("special_tokens_map.json", json.dumps({"vocab": __file__})),
        "special_tokens_map.json: names a file of this machine, ",
    ),
    "another file": (
        text_of("tokenizer_config.json", '{"fast_tokenizer_files": ["../whole/tokenizer.1.0.json"]}'),
        "tokenizer_config.json: fast_tokenizer_files names other files in place of tokenizer.json",
    ),
    "no class at all": (
        lambda folder: (
            without(TOKENIZER)(folder),
            text_of("tokenizer_config.json", '{"tokenizer_class": [], "auto_map": {}}')(folder),
        ),
        "tokenizer_config.json: only custom code makes this tokenizer",
    ),
}
RECORDS: dict[str, tuple[Damage, str]] = {
    "no JSON": (text_of("variant.json", "{"), "variant.json: not JSON"),
    "a list": (text_of("variant.json", "[]"), "variant.json: not a JSON object"),
    "nothing": (text_of("variant.json", "{}"), "variant of its variant.json is missing"),
}
DAMAGE = {
    f"{kind}: {name}": case
    for kind, cases in {
        "folder": FOLDERS,
        "configuration": CONFIGURATIONS,
        "size": SIZES,
        "classes": CLASSES,
        "weights": DAMAGED_WEIGHTS,
        "tokenizer": TOKENIZERS,
    }.items()
    for name, case in cases.items()
}


def record(**changes: Any) -> Damage:
    """Sets keys of `variant.json`."""
    return lambda folder: change(folder / "variant.json", changes)


RECORDS |= {
    "a number for a name": (record(variant=3), "variant of its variant.json is 3"),
    "unknown dtype": (record(dtype="float7"), "dtype 'float7' of its variant.json is none of float32"),
    "a list of parameters": (record(parameters=[]), "parameters of its variant.json is []"),
    "unknown compressor": (record(parameters={"evil": {}}), "made with 'evil', which is not installed here"),
    "a module": (record(parameters={"os.system": {"command": "true"}}), "made with 'os.system', which is"),
    "a plugin": (record(parameters={"bench_plugin_0_x": {}}), "made with 'bench_plugin_0_x', which is not"),
    "unknown field": (record(parameters={"mp": {"width": 2}}), "another version of its compressors"),
    "fields that are none": (record(parameters={"mp": 3}), "another version of its compressors"),
    "a list for a text": (record(parameters={"mp": {"dtype": ["x"]}}), "mp: dtype ['x'] in its variant.json"),
    "true for a number": (record(parameters={"kd": {"temperature": True}}), "kd: temperature True in its"),
    "an unknown earlier one": (record(continues={"evil": {}}), "made with 'evil', which is not installed"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_checkpoint_is_planned_with_every_way(place: Path, way: str) -> None:
    code, _, err = carried_out(place, "run", *DATA, *WAYS[way])
    assert code == 0, err


def test_the_usual_tokenizer_may_be_named_once_more(place: Path) -> None:
    change(place / "broken" / "tokenizer_config.json", {"fast_tokenizer_files": [TOKENIZER]})
    code, _, err = carried_out(place, "run", *DATA, *WAYS["dense"])
    assert code == 0, err


def test_where_earlier_versions_found_its_special_tokens_may_be_there_still(place: Path) -> None:
    change(place / "broken" / "tokenizer_config.json", {"special_tokens_map_file": __file__})
    code, _, err = carried_out(place, "run", *DATA, *WAYS["dense"])
    assert code == 0, err


def test_what_else_lies_in_its_folder_is_not_read(place: Path) -> None:
    (place / "broken" / "best.model").mkdir()
    (place / "broken" / "latest.txt").symlink_to("gone.txt")
    os.mkfifo(place / "broken" / "pipe.txt")
    for way in ("dense", "load"):
        code, _, err = carried_out(place, "run", *DATA, *WAYS[way])
        assert code == 0, err
    assert files_fingerprint(place / "broken") == files_fingerprint(place / "whole")


@pytest.mark.parametrize("sizes", [{"hidden_size": 0}, {"num_hidden_layers": 0}, {"hidden_size": "wide"}])
def test_sizes_that_say_nothing_of_a_family_stop_no_estimate(place: Path, sizes: dict[str, Any]) -> None:
    """Whether transformers takes them is seen when it is loaded."""
    settings(model_type="modernbert", **sizes)(place / "broken")
    code, _, err = carried_out(place, "run", *DATA, *WAYS["dense"])
    assert code == 0, err


@pytest.mark.parametrize("case", DAMAGE)
def test_a_broken_checkpoint_is_refused_as_dense(place: Path, case: str) -> None:
    damage, said = DAMAGE[case]
    damage(place / "broken")
    line = refused(place, "run", *DATA, *WAYS["dense"])
    assert said in line
    assert "broken" in line


@pytest.mark.parametrize("way", ["fine-tuned", "load", "student", "teacher"])
@pytest.mark.parametrize(
    "case",
    [
        "folder: empty",
        "configuration: a family of its own",
        "size: absurdly wide",
        "weights: cut in the values",
        "weights: a pickle",
        "weights: NaN",
        "tokenizer: of another model",
    ],
)
def test_a_broken_checkpoint_is_refused_wherever_it_is_named(place: Path, way: str, case: str) -> None:
    damage, said = DAMAGE[case]
    damage(place / "broken")
    assert said in refused(place, "run", *DATA, *WAYS[way])


@pytest.mark.parametrize("case", RECORDS)
def test_an_artifact_with_a_broken_record_is_refused(place: Path, case: str) -> None:
    damage, said = RECORDS[case]
    damage(place / "broken")
    assert said in refused(place, "run", *DATA, *WAYS["load"])


def test_a_quantised_student_is_refused_but_a_quantised_checkpoint_may_be_loaded(place: Path) -> None:
    settings(quantization_config={"quant_method": "torchao"})(place / "broken")
    assert "its weights are quantised" in refused(place, "run", *DATA, *WAYS["student"])
    code, _, err = carried_out(place, "run", *DATA, *WAYS["load"])
    assert code == 0, err


def test_an_artifact_that_goes_on_from_itself_is_read_once(place: Path) -> None:
    record(continues={"load": {"path": "broken"}}, parameters={"load": {"path": "broken"}})(place / "broken")
    code, _, err = carried_out(place, "run", *DATA, *WAYS["load"])
    assert code == 0, err


UNREADABLE = {
    "000": (".", "000", "000: cannot be read (Permission denied)"),
    "333": (".", "333", "333: cannot be read (Permission denied)"),
    "444": (".", "444", "444: cannot be read (Permission denied)"),
    "weights": (WEIGHTS, "000", f"weights/{WEIGHTS}: cannot be read (Permission denied)"),
    "configuration": (CONFIG, "000", f"configuration/{CONFIG}: cannot be read (Permission denied)"),
    "tokenizer": (TOKENIZER, "000", f"tokenizer/{TOKENIZER}: cannot be read (Permission denied)"),
}
CHECKS = """
import sys
from bench.errors import InputError
from compressors.inspection import check_checkpoint
for name in sys.argv[1:]:
    try:
        check_checkpoint(name)
    except InputError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may read everything")
def test_what_may_not_be_read_is_said_with_its_permissions(place: Path) -> None:
    for name, (path, mode, _) in UNREADABLE.items():
        shutil.copytree(place / "whole", place / name)
        (place / name / path).chmod(int(mode, 8))
    rights = "-dac_override,-dac_read_search"
    as_anyone = ["setpriv", "--bounding-set", rights, "--inh-caps", rights] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_anyone, sys.executable, "-c", CHECKS, *UNREADABLE],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(Path(compressors.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    for name, (path, _, _) in UNREADABLE.items():
        (place / name / path).chmod(0o755)
    expected = [f"{said}; check its permissions" for *_, said in UNREADABLE.values()]
    assert done.stdout.splitlines() == expected, done.stderr


def test_what_only_loading_dense_shows_ends_the_run_and_leaves_no_folder(place: Path) -> None:
    settings(intermediate_size=128)(place / "broken")
    asked = ("--train", "rows.csv", "--test-split", "0.3", "--device", "cpu", "--quick")
    done = bench("run", *asked, *WAYS["dense"], "--out", "run", cwd=place)
    assert done.returncode == 2, done.stderr
    assert "broken: its weights lack bert.encoder.layer.0.intermediate.dense" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in place.iterdir()} == {"rows.csv", "whole", "broken", ".bench"}


def test_links_within_a_hubs_cache_are_followed(place: Path) -> None:
    """A snapshot there is a folder of links to blobs two folders up."""
    snapshot, blobs = place / "models--x" / "snapshots" / "abc", place / "models--x" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in (place / "whole").iterdir():
        shutil.copy(file, blobs / f"of-{file.name}")
        (snapshot / file.name).symlink_to(f"../../blobs/of-{file.name}")
    asked = ("--model", snapshot, "--no-finetune", "--variants", "mp")
    code, _, err = carried_out(place, "run", *DATA, *asked)
    assert code == 0, err


@pytest.mark.parametrize(
    "case", ["folder: empty", "size: vocab_size", "weights: empty", "weights: infinity", "tokenizer: missing"]
)
@pytest.mark.parametrize("pair", [("broken", "whole"), ("whole", "broken")], ids="-".join)
def test_a_gate_refuses_either_artifact(place: Path, case: str, pair: tuple[str, str]) -> None:
    damage, said = DAMAGE[case]
    damage(place / "broken")
    assert said in refused(place, "gate", *pair, "--test", "rows.csv", "--device", "cpu")


EXPORTS: dict[str, tuple[Damage, str]] = {
    "no weights": (without(WEIGHTS), "the artifact is not there any more"),
    "cut weights": DAMAGED_WEIGHTS["cut in the values"],
    "NaN": DAMAGED_WEIGHTS["NaN"],
    "shards elsewhere": (
        lambda folder: sharded("../x.safetensors")(folder),
        "no .safetensors file beside it",
    ),
    "no configuration": (without(CONFIG), "it has no config.json"),
    "classes that are none": CLASSES["a list"],
    "another head": SIZES["num_labels"],
    "no record": (without("variant.json"), "not an artifact"),
    "a broken record": RECORDS["a list of parameters"],
    "unknown dtype": RECORDS["unknown dtype"],
    "a pickle": (text_of("pytorch_model.bin", ""), "pytorch_model.bin: can run code when opened"),
    "code": (text_of("modeling_evil.py", ""), "modeling_evil.py: can run code when opened"),
    "a link out": (linked("notes.md", "/etc/hostname"), "notes.md: a link that leads out of the folder"),
    "weights elsewhere": (
        linked("other.safetensors", "/etc/hostname"),
        "other.safetensors: a link that leads out of the folder",
    ),
    "one name twice": CLASSES["one name twice"],
}


@pytest.mark.parametrize("case", EXPORTS)
def test_an_export_refuses_a_broken_artifact(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, case: str
) -> None:
    damage, said = EXPORTS[case]
    write_run(tmp_path / "run", tokenizer, {"dense": tiny()})
    damage(tmp_path / "run" / "artifacts" / "dense")
    assert said in refused(tmp_path, "export", "run", "dense", "out")


def test_an_export_takes_nothing_from_outside_the_run(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    run = write_run(tmp_path / "run", tokenizer, {"dense": tiny()})
    (run / "artifacts" / "dense").rename(tmp_path / "other")
    (run / "artifacts" / "dense").symlink_to("../../other")
    assert "is not in the run's folder" in refused(tmp_path, "export", "run", "dense", "out")
