"""Where a checkpoint lies: a folder, or a hub's repository in the hub's own cache.

The hub's settings are its library's: `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`
and the usual proxy variables.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.errors import InputError, in_one_line
from compressors.formats import unreadable

NAME = r"[\w-][\w.-]*"
REVISION = rf"{NAME}(?:/{NAME})*"
HUB_ID = re.compile(rf"({NAME}(?:/{NAME})?)(?:@({REVISION}))?", re.ASCII)
SUFFIXES = (".json", ".safetensors", ".txt", ".model")
FILES = [f"*{suffix}" for suffix in SUFFIXES]
PICKLES = (".bin", ".pt", ".pth", ".ckpt")

# What was fetched stays what a hub id means, also when its branch moves meanwhile; on a machine that is not
# the user's, the copies of what was named on his.
_snapshots: dict[str, Path] = {}


def fetch(path_or_id: str) -> Path:
    """The checkpoint's folder; a hub id's weights, settings and tokenizer are brought into the hub's cache.

    `ORG/NAME@REVISION` names a branch, tag or commit. From now on `find` gives this folder. Raises
    `InputError` for a folder or repository that is missing or has no safetensors weights, and where the hub
    cannot be reached.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    if is_here(path_or_id):
        return find(path_or_id)
    repository, revision = split_id(path_or_id)
    if constants.HF_HUB_OFFLINE:
        _snapshots[path_or_id] = cached(path_or_id)
        return find(path_or_id)
    with told_by_hub(path_or_id, "folder", "model"):
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        files = HfApi().model_info(repository, revision=revision, timeout=timeout).siblings or []
        refuse_pickles(path_or_id, (file.rfilename for file in files))
        _snapshots[path_or_id] = Path(snapshot_download(repository, revision=revision, allow_patterns=FILES))
    return find(path_or_id)


def snapshots() -> dict[str, Path]:
    """What was fetched, and its place here: what another process must know to find the same."""
    return dict(_snapshots)


def take_over(snapshots: Mapping[str, Path]) -> None:
    """Let `find` and `place_of` give what another process fetched, or copies of what another machine has."""
    _snapshots.update(snapshots)


def files_of(folder: Path) -> list[Path]:
    """A checkpoint's weights, configuration and tokenizer, whatever else lies in its folder."""
    return [file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES and file.is_file()]


def place_of(file: Path) -> Path:
    """Where a file that the user named lies here."""
    return _snapshots.get(str(file), file)


def is_named(path: str) -> bool:
    """Whether it is a path of the user's that exists, here or on the machine that it was named on."""
    return str(Path(path)) in _snapshots or path in _snapshots or is_here(path)


def is_here(path_or_id: str) -> bool:
    """Whether it is a path that exists. Raises `InputError` for one that cannot be looked at."""
    try:
        return Path(path_or_id).exists()
    except OSError as error:
        raise InputError(f"{path_or_id}: no such model directory ({error.strerror})") from None


@contextmanager
def told_by_hub(name: str, local: str, remote: str) -> Iterator[None]:
    """Whatever keeps the hub from giving `name`, as an `InputError`; a full disk passes through.

    `local` and `remote` say what it could have been: a folder, else a model of the hub. Anything may be
    raised, since the hub's library passes on what the network's library raises.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub = endpoint()
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
    except HfHubHTTPError as error:
        raise InputError(f"{name}: no such {local}, and {hub} refused it ({in_one_line(error)})") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if isinstance(error, OSError) and error.filename:
            raise InputError(
                f"{name}: cannot be kept in the hub's cache {constants.HF_HUB_CACHE} ({error.strerror}); "
                "see HF_HOME"
            ) from None
        raise InputError(
            f"{name}: no such {local}, and {hub} cannot be reached ({in_one_line(error)}); "
            "for a copy that is in the hub's cache set HF_HUB_OFFLINE=1"
        ) from None


def endpoint() -> str:
    """The hub's address, without a password that may stand in it."""
    from huggingface_hub import constants

    return re.sub(r"//[^/@]*@", "//", constants.ENDPOINT)


def find(path_or_id: str) -> Path:
    """The folder of a checkpoint that is here: the one named, or what `fetch` brought. Uses no network.

    Raises `InputError` where it is missing, cannot be read, or has no safetensors weights.
    """
    folder = _snapshots.get(path_or_id)
    if folder is None:
        folder = Path(path_or_id) if is_here(path_or_id) else cached(path_or_id)
    try:
        folder = transformer_in(folder)
        if not (folder / "config.json").is_file():
            why = "it has no config.json" if folder.is_dir() else "it is a file"
            raise InputError(f"{path_or_id}: not a model directory, {why}; name a folder of save_pretrained")
        names = [file.name for file in folder.iterdir()]
    except OSError as error:
        raise unreadable(path_or_id, error) from None
    refuse_pickles(path_or_id, names)
    return folder


def cached(path_or_id: str) -> Path:
    """The folder of a hub id in the hub's cache. Raises `InputError` where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, revision = split_id(path_or_id)
    try:
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=FILES, local_files_only=True)
        )
    except LocalEntryNotFoundError:
        raise not_cached(path_or_id, "folder") from None


def split_id(path_or_id: str) -> tuple[str, str | None]:
    """(repository, revision) of a hub id. Raises `InputError` for a text that can only be a path."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    match = HUB_ID.fullmatch(path_or_id)
    try:
        if match:
            validate_repo_id(match[1])
            return match[1], match[2]
    except HFValidationError:
        pass  # no hub has such names
    raise InputError(f"{path_or_id}: no such model directory; name one that exists, or a hub id")


def transformer_in(folder: Path) -> Path:
    """The folder itself, or where a sentence encoder's `modules.json` says its transformer lies."""
    try:
        path = json.loads((folder / "modules.json").read_text(encoding="utf-8"))[0]["path"]
        is_name = re.fullmatch(NAME, path, re.ASCII)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return folder
    # A link could lead to any model of the reader's.
    own = is_name and not (folder / path).is_symlink()
    return folder / path if own and (folder / path / "config.json").is_file() else folder


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


def commit_of(path_or_id: str) -> str | None:
    """The commit that a hub id stands for; None for a folder."""
    if is_here(path_or_id):
        return None
    return (_snapshots.get(path_or_id) or cached(path_or_id)).name


def said_commit(commit: str) -> str:
    """A commit, and whose word it is that the name stands for it."""
    from huggingface_hub import constants

    return f"commit {commit} of {'the cache, offline' if constants.HF_HUB_OFFLINE else endpoint()}"


def dataset_commit(name: str, repository: str, revision: str | None) -> str:
    """The commit that a data set's revision names at the hub; offline, in the hub's cache.

    Raises `InputError` where there is none; `name` is what the user wrote.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RevisionResolutionError

    offline, hub = constants.HF_HUB_OFFLINE, HfApi()
    with told_by_hub(name, "file", "data set"):
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
