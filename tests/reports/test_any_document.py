"""The run reader: whatever lies in `run.json`, it is a run that every report can show, or one line."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from bench.compare import Asked, compare_runs
from bench.errors import BenchError, InputError
from bench.folder import read_run
from bench.nouns.run import Run
from reports import console, markdown

LONGEST_ERROR = 500
QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

Json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([10**30, -1, 1e300, -1e-300, 0.5])
    | st.text(max_size=8)
    | st.sampled_from(["dense", "../../etc", "1", "<script>", "[red]", "\x1b[2J", "\u202e"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(node: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths to everything in a document, lists by their first three entries alone."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(node, dict):
        inner = list(node.items())
    elif isinstance(node, list):
        inner = list(enumerate(node[:3]))
    return [path, *(found for key, value in inner for found in places(value, (*path, key)))]


def changed(document: Any, path: tuple[str | int, ...], value: Any, remove: bool) -> Any:
    """A copy of the document with one thing removed or replaced."""
    if not path:
        return value
    copy = json.loads(json.dumps(document))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    if remove:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return copy


def outcome(file: Path) -> Run | str:
    """The run in the file, or the line that refuses it."""
    try:
        return read_run(file)
    except InputError as error:
        line = str(error)
    assert "\n" not in line
    assert len(line) <= LONGEST_ERROR + len(str(file))
    assert str(file) in line
    return line


def assert_it_can_be_shown(found: Run, original: Run) -> None:
    console.render(found, Console(file=io.StringIO(), width=100))
    markdown.render(found)
    for before, after in ((original, found), (found, original)):
        with suppress(BenchError):
            compare_runs(before, after, ("before", "after"), Asked())


@QUICK
@given(data=st.data())
def test_a_changed_document_is_shown_or_refused(data: st.DataObject, run: Run, tmp_path: Path) -> None:
    document = run.model_dump(mode="json")
    path = data.draw(st.sampled_from(places(document)))
    text = json.dumps(changed(document, path, data.draw(Json), data.draw(st.booleans())))
    (tmp_path / "run.json").write_text(text)
    found = outcome(tmp_path / "run.json")
    if isinstance(found, Run):
        assert_it_can_be_shown(found, run)


@QUICK
@given(data=st.data())
def test_a_broken_file_is_read_or_refused(data: st.DataObject, run: Run, tmp_path: Path) -> None:
    content = bytearray(run.model_dump_json().encode())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] = data.draw(st.integers(0, 255))
    (tmp_path / "run.json").write_bytes(content)
    outcome(tmp_path / "run.json")


@given(st.binary(max_size=200))
@QUICK
def test_any_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    assert isinstance(outcome(tmp_path / "run.json"), str)


def test_what_is_written_is_what_is_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(run.model_dump_json())
    assert outcome(tmp_path / "run.json") == run
