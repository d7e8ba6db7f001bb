"""Checkpoints by hub id: what is downloaded, what is found again without the hub, what is refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from bench.errors import InputError
from compressors.hub import commit_of, fetch, find, split_id
from tests.hub.asking import User
from tests.hub.server import TOKEN, Hub, commit, serve

FETCH = "from compressors import hub; print(hub.fetch({!r}))"
FIND = "from compressors import hub; print(hub.find({!r}))"
COMMIT = "from compressors import hub; hub.fetch({0!r}); print(hub.said_commit(hub.commit_of({0!r})))"
MOVED = """
from pathlib import Path
from compressors import hub
before = hub.fetch("org/whole")
Path({weights!r}).write_bytes(b"other weights")
import subprocess, sys
subprocess.run([sys.executable, "-c", "from compressors import hub; hub.fetch('org/whole')"], check=True)
assert hub.find("org/whole") == before
hub.take_over({{"org/else": before}})
assert hub.find("org/else") == before
print(hub.cached("org/whole") == before)
"""
WEIGHTS = b"weights" * 1_000


def add(root: Path, name: str, *extra: str, weights: str = "model.safetensors") -> Path:
    """A repository as save_pretrained leaves it, with what else people put beside it."""
    folder = root / "models" / name
    files = {"config.json": b'{"model_type": "bert"}', "vocab.txt": b"[PAD]", "README.md": b"# A model"}
    for path, content in {**files, weights: WEIGHTS, **dict.fromkeys(extra, b"x")}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve(tmp_path / "hub") as hub:
        add(hub.root, "org/whole", "training_args.bin", "optimizer.pt", "tf_model.h5")
        yield hub


@pytest.fixture
def user(tmp_path: Path, hub: Hub) -> User:
    return User(tmp_path / "home", hub)


def test_weights_settings_and_tokenizer_are_fetched_and_nothing_else(user: User, hub: Hub) -> None:
    folder = Path(user.gets(FETCH.format("org/whole")))
    assert folder.is_relative_to(user.home)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert len(hub.downloaded()) == 3


def test_what_was_fetched_is_found_without_the_hub(user: User, hub: Hub) -> None:
    fetched = user.gets(FETCH.format("org/whole"))
    asked = len(hub.asked)
    offline = User(user.home, hub, {"HF_HUB_OFFLINE": "1"})
    assert offline.gets(FIND.format("org/whole")) == fetched
    assert offline.gets(FETCH.format("org/whole")) == fetched
    assert len(hub.asked) == asked


def test_offline_nothing_else_is_found(user: User, hub: Hub) -> None:
    offline = User(user.home, hub, {"HF_HUB_OFFLINE": "1"})
    said = offline.is_refused(FETCH.format("org/whole"))
    assert said.startswith("org/whole: no such folder, and not in the hub's cache")
    assert said.endswith("unset HF_HUB_OFFLINE to download it")
    assert hub.asked == []


def test_a_hub_that_is_gone_is_said_with_the_way_to_go_on(user: User, hub: Hub) -> None:
    user.gets(FETCH.format("org/whole"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = {"HF_ENDPOINT": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        said = User(user.home, hub, away).is_refused(FETCH.format("org/whole"))
    assert f"{away['HF_ENDPOINT']} cannot be reached (" in said
    assert said.endswith("set HF_HUB_OFFLINE=1")


def test_a_hub_that_fails_is_said(user: User, hub: Hub) -> None:
    hub.faults["model.safetensors"] = HTTPStatus.FORBIDDEN
    assert "cannot be reached (" in user.is_refused(FETCH.format("org/whole"))
    hub.faults["models/org/whole"] = HTTPStatus.FORBIDDEN
    assert f"{hub.endpoint} refused it (" in user.is_refused(FETCH.format("org/whole"))


def test_a_cache_that_cannot_be_written_is_said(user: User) -> None:
    user.home.write_text("a file where the cache should be")
    assert "cannot be kept in the hub's cache" in user.is_refused(FETCH.format("org/whole"))


def test_a_revision_is_another_model(user: User, hub: Hub) -> None:
    other = add(hub.root, "org/whole@v1.0", "merges.txt")
    folder = Path(user.gets(FETCH.format("org/whole@v1.0")))
    assert (folder / "merges.txt").exists()
    assert user.gets(FETCH.format(f"org/whole@{commit(other)}")) == str(folder)
    assert user.gets(FETCH.format("org/whole")) != str(folder)
    offline = User(user.home, hub, {"HF_HUB_OFFLINE": "1"})
    assert offline.gets(FIND.format("org/whole@v1.0")) == str(folder)


def test_the_commit_is_said_with_the_hub_and_without_its_password(user: User, hub: Hub) -> None:
    name = commit(hub.root / "models" / "org" / "whole")
    assert user.gets(COMMIT.format("org/whole")) == f"commit {name} of {hub.endpoint}"
    secret = {"HF_ENDPOINT": hub.endpoint.replace("//", "//me:secret@")}
    assert User(user.home, hub, secret).gets(COMMIT.format("org/whole")).endswith(hub.endpoint)
    offline = User(user.home, hub, {"HF_HUB_OFFLINE": "1"})
    assert offline.gets(COMMIT.format("org/whole")) == f"commit {name} of the cache, offline"


def test_a_folder_has_no_commit(tmp_path: Path) -> None:
    assert commit_of(str(add(tmp_path, "mine"))) is None


def test_a_branch_that_moves_meanwhile_changes_nothing(user: User, hub: Hub) -> None:
    weights = str(hub.root / "models" / "org" / "whole" / "model.safetensors")
    assert user.gets(MOVED.format(weights=weights)) == "False"


def test_an_unknown_revision_and_an_unknown_model(user: User) -> None:
    assert "but no such revision of it" in user.is_refused(FETCH.format("org/whole@v9"))
    assert "no such folder, and no such model at" in user.is_refused(FETCH.format("org/hole"))


def test_a_gated_model_wants_a_token(user: User, hub: Hub) -> None:
    hub.gated.add("org/whole")
    said = user.is_refused(FETCH.format("org/whole"))
    assert said.startswith(f"org/whole: gated at {hub.endpoint}")
    assert "HF_TOKEN" in said
    user.settings["HF_TOKEN"] = TOKEN
    assert Path(user.gets(FETCH.format("org/whole"))).is_dir()


def test_a_pickle_is_refused_before_anything_is_downloaded(user: User, hub: Hub) -> None:
    add(hub.root, "org/pickled", weights="pytorch_model.bin")
    said = user.is_refused(FETCH.format("org/pickled"))
    assert said.startswith("org/pickled: no safetensors weights; pytorch_model.bin is a pickle")
    assert "save_pretrained" in said
    assert hub.downloaded() == []


def test_a_sentence_encoder_is_its_transformer(user: User, hub: Hub) -> None:
    modules = [{"path": "0_Transformer"}, {"path": "1_Pooling"}]
    folder = add(hub.root, "org/encoder", "0_Transformer/config.json", "0_Transformer/model.safetensors")
    (folder / "modules.json").write_text(json.dumps(modules))
    assert Path(user.gets(FETCH.format("org/encoder"))).name == "0_Transformer"


def test_a_proxy_is_gone_through(user: User, hub: Hub) -> None:
    user.settings |= {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": hub.endpoint}
    assert Path(user.gets(FETCH.format("org/whole"))).is_dir()
    assert {(asked.host, asked.proxied) for asked in hub.asked} == {("hub.invalid", True)}


@pytest.mark.parametrize(
    "text", ["/abs/olute", "./here", "~/there", "a/b/c", "org/name@", "org/na me", "", "my--model", "org/x."]
)
def test_what_can_only_be_a_path_is_no_hub_id(text: str) -> None:
    with pytest.raises(InputError, match="no such model directory"):
        split_id(text)


@pytest.mark.parametrize("text", ["a" * 300, "\0"])
def test_what_no_disk_and_no_hub_can_have_is_refused_in_one_line(text: str) -> None:
    for ask in (fetch, find, commit_of):
        with pytest.raises(InputError, match="no such model directory") as raised:
            ask(text)
        assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("bert-base-uncased", ("bert-base-uncased", None)),
        ("org/name.v2", ("org/name.v2", None)),
        ("org/name@v1.0", ("org/name", "v1.0")),
        ("org/name@refs/pr/1", ("org/name", "refs/pr/1")),
    ],
)
def test_a_hub_id_has_a_repository_and_perhaps_a_revision(text: str, parts: tuple[str, str | None]) -> None:
    assert split_id(text) == parts


def test_a_folder_is_found_as_it_is(tmp_path: Path) -> None:
    folder = add(tmp_path, "mine")
    assert find(str(folder)) == folder


@pytest.mark.parametrize("path", ["..", "../other", "/", "0_Transformer/..", ".", 3, None])
def test_a_sentence_encoder_cannot_lead_out_of_its_folder(tmp_path: Path, path: object) -> None:
    add(tmp_path, "other")
    folder = add(tmp_path, "mine")
    (folder / "modules.json").write_text(json.dumps([{"path": path}]))
    assert find(str(folder)) == folder


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: not a model directory, it is a file"):
        find(str(tmp_path / "file"))
