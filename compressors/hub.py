"""Where a checkpoint lies: a folder, or a hub's repository in the hub's own cache.

The hub's settings are its library's: `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`
and the usual proxy variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import InputError

NAME = r"[\w-][\w.-]*"
REVISION = rf"{NAME}(?:/{NAME})*"
HUB_ID = re.compile(rf"({NAME}(?:/{NAME})?)(?:@({REVISION}))?", re.ASCII)
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def fetch(path_or_id: str) -> Path:
    """The checkpoint's folder; a hub id's weights, settings and tokenizer are brought into the hub's cache.

    `ORG/NAME@REVISION` names a branch, tag or commit. Raises `InputError` for a folder or repository that
    is missing or has no safetensors weights, and where the hub cannot be reached.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    if Path(path_or_id).exists() or constants.HF_HUB_OFFLINE:
        return find(path_or_id)
    repository, revision = split_id(path_or_id)
    with told_as_input_error(path_or_id, "folder", "model"):
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        files = HfApi().model_info(repository, revision=revision, timeout=timeout).siblings or []
        refuse_pickles(path_or_id, (file.rfilename for file in files))
        snapshot_download(repository, revision=revision, allow_patterns=list(FILES))
    return find(path_or_id)


@contextmanager
def told_as_input_error(name: str, local: str, remote: str) -> Iterator[None]:
    """Whatever keeps the hub from giving `name`, as one line.

    `local` and `remote` say what it could have been: a folder, else a model of the hub. Anything may be
    raised, since the hub's library passes on what the network's library raises.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    hub = constants.ENDPOINT
    try:
        yield
    except InputError:
        raise
    except GatedRepoError:
        raise InputError(
            f"{name}: gated at {hub}; ask for access there, and set HF_TOKEN to a token of yours"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"{name}: {hub} has this {remote}, but no such revision of it") from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{name}: no such {local}, and no such {remote} at {hub}; a private one needs HF_TOKEN"
        ) from None
    except Exception as error:
        raise InputError(
            f"{name}: no such {local}, and {hub} cannot be reached ({reason(error)}); "
            "for a copy that is in the hub's cache set HF_HUB_OFFLINE=1"
        ) from None


def reason(error: Exception) -> str:
    """What an error says, on one line of bearable length."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def find(path_or_id: str) -> Path:
    """The folder of a checkpoint that is here: the one named, or what `fetch` brought. Uses no network.

    Raises `InputError` where it is missing or has no safetensors weights.
    """
    folder = Path(path_or_id)
    try:
        exists = folder.exists()
    except OSError as error:
        raise InputError(f"{path_or_id}: no such model directory ({error.strerror})") from None
    if not exists:
        folder = cached(path_or_id)
    folder = transformer_in(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{path_or_id}: not a model directory, it has no config.json")
    refuse_pickles(path_or_id, (file.name for file in folder.iterdir()))
    return folder


def cached(path_or_id: str) -> Path:
    """The folder of a hub id in the hub's cache. Raises `InputError` where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, revision = split_id(path_or_id)
    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=list(FILES), local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        raise not_cached(path_or_id, "folder") from None


def split_id(path_or_id: str) -> tuple[str, str | None]:
    """(repository, revision) of a hub id. Raises `InputError` for a text that can only be a path."""
    match = HUB_ID.fullmatch(path_or_id)
    if match is None:
        raise InputError(f"{path_or_id}: no such model directory")
    return match[1], match[2]


def transformer_in(folder: Path) -> Path:
    """The folder itself, or where a sentence encoder's `modules.json` says its transformer lies."""
    try:
        path = json.loads((folder / "modules.json").read_text(encoding="utf-8"))[0]["path"]
        inner = folder / path
    except (OSError, ValueError, LookupError, TypeError):
        return folder
    return inner if Path(path).name == path and (inner / "config.json").is_file() else folder


def refuse_pickles(path_or_id: str, files: Iterable[str]) -> None:
    """Raise `InputError` unless there are safetensors weights among `files`."""
    names = sorted(files)
    if any(name.endswith(".safetensors") for name in names):
        return
    pickled = [name for name in names if name.endswith(PICKLES)]
    remedy = (
        f"{pickled[0]} is a pickle, which can run code when opened; convert it where you trust it: "
        "AutoModelForSequenceClassification.from_pretrained(…).save_pretrained(…)"
        if pickled
        else "save the model with save_pretrained"
    )
    raise InputError(f"{path_or_id}: no safetensors weights; {remedy}")


def source_of(path_or_id: str) -> str | None:
    """A sentence on where a hub id's files come from, with the commit; None for a folder."""
    if Path(path_or_id).exists():
        return None
    return f"{path_or_id}: {said_commit(cached(path_or_id).name)}"


def said_commit(commit: str) -> str:
    """A commit, and of which hub."""
    from huggingface_hub import constants

    return f"commit {commit} of {constants.ENDPOINT}"


def dataset_commit(name: str, repository: str, revision: str | None) -> str:
    """The commit that a data set's revision names at the hub; offline, in the hub's cache.

    Raises `InputError` where there is none; `name` is what the user wrote.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RevisionResolutionError

    offline, hub = constants.HF_HUB_OFFLINE, HfApi()
    with told_as_input_error(name, "file", "data set"):
        if not offline:  # resolve_revision alone would fall back to the cache without a word
            hub.dataset_info(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        try:
            found = hub.resolve_revision(
                repository, repo_type="dataset", revision=revision, local_files_only=offline
            )
        except RevisionResolutionError:
            raise not_cached(name, "file") from None
        return found.resolved


def not_cached(name: str, local: str) -> InputError:
    """The error where offline mode finds nothing in the hub's cache."""
    from huggingface_hub import constants

    return InputError(
        f"{name}: no such {local}, and not in the hub's cache {constants.HF_HUB_CACHE}; "
        "unset HF_HUB_OFFLINE to download it"
    )
