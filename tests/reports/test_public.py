"""What leaves the machine: no paths of it, and nothing else changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nouns.run import Run
from reports.public import Public
from tests.bench.meters.documents import run_of

NAMES = st.text("abcXYZ019_+ é", min_size=1, max_size=8).filter(lambda name: name == name.strip())


def public(*local: str, hub: str = "org/encoder@v2", labels: tuple[str, ...] = ("a", "b")) -> Public:
    """Of a run that read these folders, and a checkpoint of a hub."""
    run = run_of()
    task = run.task.model_copy(update={"labels": list(labels)})
    checkpoints: dict[str, str | None] = {hub: "0" * 40, **dict.fromkeys(local)}
    return Public(run.model_copy(update={"task": task, "checkpoints": checkpoints}))


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("/home/alice/my model", "load:/home/alice/my model+mp", "load:my model+mp"),
        ("/home/alice/x/", "/home/alice/x/ has no head", "x has no head"),
        ("./tiny", "kd:student=./tiny: classes", "kd:student=tiny: classes"),
        ("../runs/bmp25+kd", "load:../runs/bmp25+kd", "load:bmp25+kd"),
        ("runs/x", "runs/x. Not runs/xy, my/runs/x or runs/x.bak", "x. Not runs/xy, my/runs/x or runs/x.bak"),
        ("/home/alice", "/home/alice/x and /home/alice", "x and alice"),
    ],
)
def test_a_folder_is_called_by_its_name(path: str, text: str, said: str) -> None:
    assert public(path, "/home/alice/x")(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cannot open '/home/alice/rows.csv'", "cannot open 'rows.csv'"),
        ("x (log: /home/alice/run/x.log)", "x (log: x.log)"),
        ("load:/a/b,student=/c/d", "load:b,student=d"),
        ("commit 0a of https://huggingface.co/a/b", "commit 0a of https://huggingface.co/a/b"),
        ("http://127.0.0.1:8080/a/b", "http://127.0.0.1:8080/a/b"),
        ("org/encoder@v2, 5 g/kWh, and/or a / b / c", "org/encoder@v2, 5 g/kWh, and/or a / b / c"),
    ],
)
def test_other_absolute_paths_are_cut_and_nothing_else_is(text: str, said: str) -> None:
    assert public()(text) == said


@given(st.lists(NAMES, min_size=2, max_size=4), st.lists(NAMES, min_size=2, max_size=4))
def test_no_folder_is_said_and_different_checkpoints_stay_apart(one: list[str], other: list[str]) -> None:
    paths = [f"/home/alice/{'/'.join(names)}" for names in (one, other)]
    shown = [public(*paths)(f"load:{path}+mp") for path in paths]
    assert not any("alice" in text or "/" in text for text in shown)
    assert (shown[0] == shown[1]) == (paths[0] == paths[1])


def test_folders_of_one_name_are_numbered() -> None:
    shorten = public("/a/x", "/b/x", "x")
    assert [shorten(name) for name in ("/a/x", "/b/x", "x")] == ["x-2", "x-3", "x"]


def test_a_class_that_is_called_like_a_path_keeps_its_name() -> None:
    assert public(labels=("/people/person/place", "b"))("/people/person/place") == "/people/person/place"


def test_a_run_without_paths_is_as_it_was(run: Run) -> None:
    before = run.model_dump_json()
    assert Public(run)(run) == run
    assert run.model_dump_json() == before
