"""Data sets by hub id: the same tables as from files, at the commit that was asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from bench.errors import InputError
from bench.tasks.dataset import DatasetId, parse_dataset_id
from bench.tasks.files import read_source
from tests.hub.asking import User
from tests.hub.server import TOKEN, Hub, commit, serve

READ = """
import json
from bench.errors import InputError
from bench.tasks.files import read_source
def answer(source):
    try:
        table = read_source(source, "train")
    except InputError as error:
        return str(error)
    return [table.source, table.name, table.columns, table.rows, table.lines, table.origin]
print(json.dumps([answer(source) for source in {!r}]))
"""
PLAN = """
import json
from bench.options import Options
from bench.plan import make_plan
task = make_plan(Options(**{asked!r})).task
print(json.dumps([task.name, task.description, task.labels, task.notes]))
"""
CARD = """---
configs:
- config_name: short
  data_files: [{split: train, path: short.csv}]
- config_name: long
  data_files: [{split: train, path: long.csv}]
---
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    rows = tmp_path / "hub" / "datasets" / "org" / "rows"
    rows.mkdir(parents=True)
    for split, count in (("train", 6), ("test", 4)):
        lines = [
            f'{{"text": "{split} row {number}", "label": "{"AB"[number % 2]}"}}' for number in range(count)
        ]
        (rows / f"{split}.jsonl").write_text("\n".join(lines))
    with serve(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def user(tmp_path: Path, hub: Hub) -> User:
    return User(tmp_path / "home", hub)


def add(hub: Hub, name: str, **files: str) -> Path:
    folder = hub.root / "datasets" / name
    folder.mkdir(parents=True)
    for path, content in files.items():
        (folder / path.replace("_", ".")).write_text(content)
    return folder


def read(user: User, *sources: str) -> list[Any]:
    """For each source its table's fields, or the line that it is refused with; all in one process."""
    answers: list[Any] = json.loads(user.gets(READ.format(sources)))
    assert not any("\n" in answer for answer in answers if isinstance(answer, str))
    return answers


def test_a_split_is_a_table(user: User, hub: Hub) -> None:
    [(source, name, columns, rows, lines, origin)] = read(user, "org/rows:test")
    assert (source, name, columns) == ("org/rows:test", "org/rows", ["text", "label"])
    assert rows == [[f"test row {number}", "AB"[number % 2]] for number in range(4)]
    assert lines == [1, 2, 3, 4]
    sha = commit(hub.root / "datasets" / "org" / "rows")
    assert origin == f"org/rows:test, commit {sha} of {hub.endpoint}"


def test_data_sets_make_a_task(user: User) -> None:
    name, description, labels, notes = json.loads(
        user.gets(PLAN.format(asked={"train": "org/rows", "test": "org/rows", "variants": "mp"}))
    )
    assert (name, labels) == ("org/rows", ["A", "B"])
    assert description == "Rows from org/rows:train: 4 train, 2 validation, 4 test; 2 classes."
    assert [note.partition(", commit")[0] for note in notes[:2]] == [
        "train: org/rows:train",
        "test: org/rows:test",
    ]


def test_what_was_read_is_read_again_without_the_hub(user: User, hub: Hub) -> None:
    [first] = read(user, "org/rows")
    asked = len(hub.asked)
    offline = User(user.home, hub, {"HF_HUB_OFFLINE": "1"})
    again, other = read(offline, "org/rows", "org/others")
    assert again == [*first[:-1], first[-1].replace(hub.endpoint, "the cache, offline")]
    assert other.startswith("org/others:train: no such file, and not in the hub's cache")
    assert len(hub.asked) == asked


def test_a_revision_is_other_rows_and_never_another_s(user: User, hub: Hub) -> None:
    newest = hub.root / "datasets" / "org" / "rows"
    older = newest.with_name("rows@v1")
    shutil.copytree(newest, older)
    (older / "train.jsonl").write_text('{"text": "old", "label": "A"}')
    by_tag, main, by_commit, unknown = read(
        user, "org/rows@v1", "org/rows", f"org/rows@{commit(older)}", "org/rows@v2"
    )
    assert by_tag[3] == by_commit[3] == [["old", "A"]]
    assert len(main[3]) == 6
    assert "no such revision of it" in unknown
    # Offline the library would take the newest copy for either.
    offline = User(user.home, hub, {"HF_HUB_OFFLINE": "1"})
    main, by_tag = read(offline, "org/rows", "org/rows@v1")
    assert len(main[3]) == 6
    assert "the cache holds commit" in by_tag


def test_a_configuration_is_named_by_a_third_part(user: User, hub: Hub) -> None:
    add(hub, "org/two", README_md=CARD, short_csv="text,label\ns,A\n", long_csv="text,label\nl,B\n")
    table, none, unknown = read(user, "org/two/long", "org/two", "org/two/tall")
    assert (table[0], table[1], table[3]) == ("org/two/long:train", "org/two/long", [["l", "B"]])
    assert "pick one among the available configs: ['short', 'long']" in none
    assert "'tall' not found. Available: ['short', 'long']" in unknown


def test_classes_stand_by_name_and_what_is_no_text_is_left_out(user: User, hub: Hub, tmp_path: Path) -> None:
    folder = add(hub, "org/typed")
    table = pyarrow.table(
        {"text": ["one", None], "label": [1, -1], "length": [3, 4], "tokens": [[1], [2]], "raw": [b"1", b"2"]}
    )
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["no", "yes"], "_type": "ClassLabel"},
        "length": {"dtype": "int64", "_type": "Value"},
        "tokens": {"feature": {"dtype": "int64", "_type": "Value"}, "_type": "List"},
        "raw": {"dtype": "binary", "_type": "Value"},
    }
    noted = {"huggingface": json.dumps({"info": {"features": features}})}
    pyarrow.parquet.write_table(table.replace_schema_metadata(noted), folder / "train.parquet")
    [(_, _, columns, rows, _, origin)] = read(user, "org/typed")
    assert columns == ["text", "label", "length"]
    assert rows == [["one", "yes", "3"], [None, None, "4"]]
    assert origin.endswith("; left out, neither text nor numbers: 'tokens', 'raw'")


def test_what_cannot_be_read_is_one_line(user: User, hub: Hub, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    add(hub, "org/empty", README_md="---\nlanguage: mr\n---\n")
    add(hub, "org/broken", train_csv='text,label\n"open,A\n')
    add(hub, "org/pages", train_xml="<a/>")
    add(hub, "org/script", script_py=f"open({str(ran)!r}, 'w')", train_csv="text,label\na,A\n")
    add(hub, "org/gated", train_csv="text,label\na,A\n")
    hub.gated.add("org/gated")
    names = ("org/empty", "org/broken", "org/pages", "org/script", "org/gated", "org/rows:tests", "org/none")
    empty, broken, pages, script, gated, split, none = read(user, *names)
    assert "cannot be read as a data set (" in empty
    assert "cannot be read as a data set (" in broken
    assert "holds xml files; use a data set of CSV, JSON, Parquet, Arrow, plain text" in pages
    assert "(Dataset scripts are no longer supported" in script
    assert not ran.exists()
    assert "gated at" in gated
    assert "no such split; did you mean 'test'? known: train, test" in split
    assert "no such file, and no such data set at" in none
    [table] = read(User(user.home, hub, {"HF_TOKEN": TOKEN}), "org/gated")
    assert table[3] == [["a", "A"]]


def test_the_command_says_which_id_it_could_not_read(user: User) -> None:
    done = user.run("-m", "bench", "run", "--train", "org/none", "--test", "org/rows", "--dry-run")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: org/none:train: no such file, and no such data set at")
    assert len(done.stderr.splitlines()) == 1


def test_a_proxy_is_gone_through(user: User, hub: Hub) -> None:
    user.settings |= {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": hub.endpoint}
    [table] = read(user, "org/rows")
    assert len(table[3]) == 6
    assert {(asked.host, asked.proxied) for asked in hub.asked} == {("hub.invalid", True)}


def test_without_the_library_the_command_that_installs_it_is_named(user: User) -> None:
    absent = "import sys; sys.modules['datasets'] = None\n"
    said = user.is_refused(
        absent + "from bench.tasks.files import read_source\nread_source('org/rows', 'test')"
    )
    assert said.startswith("org/rows:test: no such file, and data sets of a hub need the datasets library")
    assert said.endswith("pip install 'compressed-transformer-bench[hub]'")


def test_an_existing_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "rows").mkdir()
    with pytest.raises(InputError, match="org/rows is a folder"):
        read_source("org/rows", "train")
    with pytest.raises(InputError, match="no such file"):
        read_source("a" * 300, "train")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("org/name", ("org/name", None, None, "test")),
        ("org/name:train", ("org/name", None, None, "train")),
        ("org/name/config", ("org/name", "config", None, "test")),
        ("org/name/config@v1.0:dev", ("org/name", "config", "v1.0", "dev")),
        ("org/name@refs/convert/parquet", ("org/name", None, "refs/convert/parquet", "test")),
    ],
)
def test_an_id_has_four_parts(text: str, parts: tuple[Any, ...]) -> None:
    found = parse_dataset_id(text, "test")
    assert found == DatasetId(*parts)
    assert parse_dataset_id(str(found), "other") == found


@pytest.mark.parametrize(
    "text",
    ["rows", "data/rows.csv", "data/ROWS.CSV", "./a/b", "/a/b", "../a/b", "a/b/c/d", "a/b:c:d", "a/b[1]", ""],
)
def test_what_can_only_be_a_path_is_no_id(text: str) -> None:
    assert parse_dataset_id(text, "train") is None
