"""Folders that machines share: whole or not there, below their URL, and errors that say which."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InputError
from bench.storage import LISTING, Storage, refuse_secrets

FILES = {"findings.json": b"{}", "artifact/model.safetensors": b"weights", "artifact/config.json": b""}


@pytest.fixture(params=["path", "file", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """One that has folders, by its path and by its URL, and one that has none, as an object store."""
    place = tmp_path / "shared storage"
    urls = {"path": str(place), "file": place.as_uri(), "memory": f"memory://{place}"}
    return Storage(urls[request.param])


def laid_out(folder: Path, contents: dict[str, bytes]) -> dict[str, Path]:
    """Files with these contents below a folder, by their paths in it."""
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return {path: folder / path for path in contents}


def held(folder: Path) -> dict[str, bytes]:
    """The contents of the files below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_is_kept_is_fetched_and_what_is_removed_is_gone(storage: Storage, tmp_path: Path) -> None:
    storage.check()
    assert not storage.has("step")
    assert not storage.fetch("step", tmp_path / "nothing")
    storage.keep(laid_out(tmp_path / "work", FILES), "step")
    storage.keep(laid_out(tmp_path / "work", FILES), "runs/one/row")
    assert storage.has("step")
    assert storage.fetch("step", tmp_path / "there")
    assert held(tmp_path / "there") == FILES
    storage.remove("runs/one")
    assert not storage.has("runs/one/row")
    storage.remove("runs/one")
    assert storage.has("step")


def test_a_check_leaves_nothing(tmp_path: Path) -> None:
    Storage(str(tmp_path / "shared")).check()
    assert list((tmp_path / "shared").iterdir()) == []


def test_what_is_kept_again_takes_the_place_of_what_was(storage: Storage, tmp_path: Path) -> None:
    storage.keep(laid_out(tmp_path / "old", FILES), "step")
    storage.keep(laid_out(tmp_path / "new", {"findings.json": b"[]"}), "step")
    assert storage.fetch("step", tmp_path / "there")
    assert held(tmp_path / "there") == {"findings.json": b"[]"}


@given(contents=st.dictionaries(st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?\.x", fullmatch=True), st.binary()))
def test_any_files_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    storage = Storage(str(folder / "shared"))
    storage.keep(laid_out(folder / "work", contents), "step")
    assert storage.fetch("step", folder / "there")
    assert held(folder / "there") == contents


@pytest.mark.parametrize("damage", ["cut", "lost", "listing cut"])
def test_a_damaged_folder_is_none(tmp_path: Path, damage: str) -> None:
    storage = Storage(str(tmp_path / "shared"))
    storage.keep(laid_out(tmp_path / "work", FILES), "step")
    [model] = (tmp_path / "shared").rglob("model.safetensors")
    listing = tmp_path / "shared" / "step" / LISTING
    if damage == "cut":
        model.write_bytes(b"weig")
    elif damage == "lost":
        model.unlink()
    else:
        listing.write_text(listing.read_text()[:-5])
    assert not storage.fetch("step", tmp_path / "there")
    storage.keep(laid_out(tmp_path / "work", FILES), "step")
    assert storage.fetch("step", tmp_path / "anew")


class Endless(dict[str, Path]):
    """Files of which there is always one more to come."""

    def items(self) -> Any:
        yield from super().items()
        time.sleep(3600)


def keep_without_end(url: str, file: Path) -> None:
    Storage(url).keep(Endless(a=file), "step")


def test_who_is_killed_while_keeping_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    url = str(tmp_path / "shared")
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=keep_without_end, args=(url, tmp_path / "a"))
    process.start()
    while not list((tmp_path / "shared").rglob("a")):
        process.join(0.05)
        assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not Storage(url).has("step")


@pytest.mark.parametrize("path", ["../outside", "/outside", "a/../../outside"])
def test_no_listing_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    storage = Storage(str(tmp_path / "shared"))
    storage.keep(laid_out(tmp_path / "work", FILES), "step")
    listing = tmp_path / "shared" / "step" / LISTING
    document = json.loads(listing.read_text())
    listing.write_text(json.dumps(document | {"sizes": {path: 2}}))
    assert not storage.fetch("step", tmp_path / "a" / "there")
    assert not (tmp_path / "a").exists()
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nowhere://bucket", "--storage nowhere://bucket: cannot be opened"),
        ("rows.csv", "--storage rows.csv: cannot be written"),
    ],
)
def test_an_error_names_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("")
    with pytest.raises(InputError, match=said):
        Storage(url).check()


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:SECRET@bucket/x",
        "s3://key:SEC/RET@bucket",
        "ftp://me:p@SECRET@host/x",
        "https://host/x?sig=SECRET",
        "filecache::s3://key:SECRET@bucket",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    for refuse in (refuse_secrets, Storage):
        with pytest.raises(InputError, match="credentials come from the environment") as caught:
            refuse(url)
        assert "SECRET" not in str(caught.value)
        assert "RET" not in str(caught.value)


@pytest.mark.parametrize("url", ["/mnt/a@b?c", "s3://bucket/bench", "shared"])
def test_any_other_place_is_taken(url: str) -> None:
    refuse_secrets(url)


def test_another_machine_is_told_a_path_that_does_not_depend_on_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storage("shared").url == str(tmp_path / "shared")
    assert Storage("memory://shared").url == "memory://shared"
