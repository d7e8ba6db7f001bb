"""The tasks of MahaNews: downloaded once, checked, counted, pooled, and cleaned as a user's files are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from bench.errors import InputError
from bench.tasks.mahanews import COMMIT, MODEL, ROWS, SOURCE, pool
from bench.tasks.table import Table
from tests.hub.asking import User
from tests.hub.mahanews import file_of, write_checkpoint_files, write_corpora
from tests.hub.server import Hub, commit, serve

PLAN = """
import json
from bench.options import Options
from bench.plan import make_plan
from bench.tasks import mahanews
made = make_plan(Options(**{asked!r}))
task, config = made.task, made.config
print(json.dumps({{
    "task": [task.name, task.model, task.fine_tune, len(task.labels)],
    "rows": [len(task.train), len(task.validation), len(task.test)],
    "audited": {{part: audit.rows for part, audit in task.audit.splits.items()}},
    "dropped": task.dropped, "removed": task.audit.removed, "notes": task.notes,
    "config": [config.max_length, config.dense_epochs, config.budget, len(config.variants)],
}}))
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with everything, which no test changes."""
    root = tmp_path_factory.mktemp("published")
    write_corpora(root, *ROWS)
    write_checkpoint_files(root)
    write_checkpoint_files(root, "org/other")
    with serve(root) as hub:
        yield hub


@pytest.fixture(scope="module")
def reader(published: Hub, tmp_path_factory: pytest.TempPathFactory) -> User:
    """A user whose cache several tests fill."""
    return User(tmp_path_factory.mktemp("reader"), published)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Hub, User]]:
    """A hub with one small file, and a user with an empty cache."""
    file = tmp_path / "hub" / "files" / "org" / "data" / "v1" / "rows.csv"
    file.parent.mkdir(parents=True)
    file.write_text("text,label\n" + "a row,A\n" * 20_000)
    with serve(tmp_path / "hub") as hub:
        yield hub, User(tmp_path / "home", hub)


def planned(user: User, **asked: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(user.gets(PLAN.format(asked=asked)))
    return made


def get(hub: Hub, sha256: str | None = None) -> str:
    url = f"{hub.endpoint}/org/data/raw/v1/rows.csv"
    return (
        "from bench.tasks.download import cached_file; "
        f"print(cached_file({url!r}, 'org/data', 'v1', {sha256!r}))"
    )


def assets(user: User) -> list[str]:
    return sorted(file.name for file in (user.home / "assets").rglob("*"))


def test_paragraphs_are_the_published_rows_and_the_model_as_it_came(reader: User, published: Hub) -> None:
    made = planned(reader, task="mahanews-lpc")
    assert made["task"] == ["mahanews-lpc", MODEL, False, 12]
    assert made["rows"] == list(made["audited"].values()) == [42_870, 5_357, 5_366]
    assert made["dropped"] == {"validation: repeated header": 11}
    assert made["config"] == [256, 0.0, "standard", 16]
    name = commit(published.root / "models" / MODEL)
    assert made["notes"] == [
        f"{MODEL}: commit {name} of {published.endpoint}",
        *(
            f"{part}: LPC_{word}.csv of github.com/{SOURCE}, commit {COMMIT}"
            for part, word in (("train", "Train"), ("validation", "Valid"), ("test", "Test"))
        ),
        "validation: 11 of 5,368 rows dropped (11 repeated header)",
    ]
    assert made["removed"] == {}


def test_documents_are_downloaded_once_and_then_need_no_hub(reader: User, published: Hub) -> None:
    asked: dict[str, Any] = {"task": "mahanews-ldc", "limit": 60, "limit_test": 24, "variants": "mp"}
    made = planned(reader, **asked)
    assert (made["rows"], made["config"][0]) == ([60, 24, 24], 512)
    downloaded = [path for path in published.downloaded() if "/LDC_" in path]
    assert len(downloaded) == len(set(downloaded)) == 3
    before = len(published.asked)
    offline = User(reader.home, published, {"HF_HUB_OFFLINE": "1", "BENCH_DATA_ENDPOINT": "http://gone"})
    made["notes"][0] = made["notes"][0].replace(published.endpoint, "the cache, offline")
    assert planned(offline, **asked) == made
    assert len(published.asked) == before


def test_another_model_is_fine_tuned_unless_it_is_said_to_be(reader: User) -> None:
    asked: dict[str, Any] = {"task": "mahanews-ldc", "model": "org/other", "max_length": 64}
    made = planned(reader, **asked)
    assert made["task"][1:3] == ["org/other", True]
    assert made["config"] == [64, 3.0, "standard", 2]
    assert made["notes"][0].startswith("org/other: commit ")
    assert planned(reader, no_finetune=True, **asked)["task"][1:3] == ["org/other", False]


def test_a_published_checksum_is_kept_to(reader: User) -> None:
    said = reader.is_refused(PLAN.format(asked={"task": "mahanews-shc"}))
    assert "/SHC_Valid.csv: its checksum is " in said
    assert said.endswith("nothing was kept")
    assert "SHC_Train.csv" in assets(reader)
    assert "SHC_Valid.csv" not in assets(reader)


@pytest.mark.parametrize(
    "given",
    [
        {"train": "rows.csv"},
        {"test": "rows.csv"},
        {"validation": "rows.csv"},
        {"test_split": 0.5},
        {"text_columns": ("Text",)},
        {"text_pair_column": "Text"},
        {"label_column": "Label"},
    ],
)
def test_a_task_with_its_own_data_takes_no_other(given: dict[str, Any]) -> None:
    from bench.options import Options
    from bench.plan import make_plan

    with pytest.raises(InputError, match="--task mahanews-all brings its own; drop one of them"):
        make_plan(Options(task="mahanews-all", **given))


def test_a_model_used_as_it_came_has_no_epochs() -> None:
    from bench.options import Options
    from bench.plan import make_plan

    with pytest.raises(InputError, match="--dense-epochs: dense is the model as it came"):
        make_plan(Options(task="mahanews-shc", dense_epochs=2.0))


def test_a_file_with_other_rows_is_refused(tmp_path: Path) -> None:
    write_corpora(tmp_path, "LDC")
    write_checkpoint_files(tmp_path)
    file = file_of(tmp_path, "LDC", "train")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with serve(tmp_path) as hub:
        said = User(tmp_path / "home", hub).is_refused(PLAN.format(asked={"task": "mahanews-ldc"}))
    assert "LDC_Train.csv: 22,013 rows without repeated headers, 22,014 expected" in said


def test_what_is_pooled_has_the_rows_of_all() -> None:
    def table(name: str, *rows: tuple[str, str], columns: tuple[str, ...] = ("Text", "Label")) -> Table:
        lines = list(range(2, 2 + len(rows)))
        return Table(f"/cache/{name}.csv", name, columns, list(rows), lines, has_header=True)

    pooled = pool("both", [table("a", ("one", "A"), ("two", "B")), table("b", ("three", "A"))])
    assert pooled.rows == [("one", "A"), ("two", "B"), ("three", "A")]
    assert (pooled.name, pooled.source, pooled.lines) == ("both", "a.csv, b.csv", [2, 3, 2])
    with pytest.raises(InputError, match=r"/cache/b\.csv: its columns are not those of /cache/a\.csv"):
        pool("both", [table("a", ("one", "A")), table("b", columns=("text", "label"))])


def test_a_first_download_is_recorded_and_held_to(small: tuple[Hub, User]) -> None:
    hub, user = small
    file = Path(user.gets(get(hub)))
    assert assets(user) == ["bench", "org--data", "rows.csv", "rows.csv.sha256", "v1"]
    assert user.gets(get(hub)) == str(file)
    assert len(hub.downloaded()) == 1
    whole = file.read_text()
    file.write_text(whole.replace("A", "B"))
    said = user.is_refused(get(hub))
    assert said == f"{file} is not as it was downloaded; delete it to download it again"
    file.unlink()
    assert Path(user.gets(get(hub))).read_text() == whole


def test_a_file_without_its_record_is_not_trusted(small: tuple[Hub, User]) -> None:
    hub, user = small
    file = Path(user.gets(get(hub)))
    file.with_name("rows.csv.sha256").unlink()
    assert "is not as it was downloaded" in user.is_refused(get(hub))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("truncated", "cannot be downloaded (peer closed connection"),
        (HTTPStatus.NOT_FOUND, "the answer is 404 Not Found; see BENCH_DATA_ENDPOINT"),
        (HTTPStatus.SERVICE_UNAVAILABLE, "the answer is 503 Service Unavailable"),
        ("a web page", "the answer is 200 OK, a web page"),
    ],
)
def test_a_download_that_fails_leaves_nothing(
    small: tuple[Hub, User], fault: HTTPStatus | str, said: str
) -> None:
    hub, user = small
    hub.faults["rows.csv"] = fault
    assert said in user.is_refused(get(hub))
    assert assets(user) == ["bench", "org--data", "v1"]


def test_a_full_disk_is_one_line_and_leaves_nothing(small: tuple[Hub, User]) -> None:
    hub, user = small
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
    said = user.is_refused(full + get(hub))
    assert said == "rows.csv cannot be kept in the cache ([Errno 27] File too large); see HF_HOME"
    assert assets(user) == ["bench", "org--data", "v1"]


def test_offline_nothing_is_downloaded(small: tuple[Hub, User]) -> None:
    hub, user = small
    user.settings["HF_HUB_OFFLINE"] = "1"
    assert user.is_refused(get(hub)).endswith("not downloaded yet, and HF_HUB_OFFLINE is set; unset it once")
    assert hub.asked == []


def test_a_host_that_does_not_answer(small: tuple[Hub, User]) -> None:
    hub, user = small
    code = get(hub).replace(hub.endpoint, "http://127.0.0.1:9")
    said = user.is_refused(code)
    assert "cannot be downloaded (" in said
    assert said.endswith("BENCH_DATA_ENDPOINT can name a mirror")


def test_data_come_through_a_proxy(small: tuple[Hub, User]) -> None:
    hub, user = small
    user.settings["HTTP_PROXY"] = hub.endpoint
    assert user.gets(get(hub).replace(hub.endpoint, "http://files.invalid")).endswith("rows.csv")
    assert {(asked.host, asked.proxied) for asked in hub.asked} == {("files.invalid", True)}
