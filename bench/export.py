"""A deployable folder made of a run's artifact, and its upload. Files are copied; no model is loaded."""

from __future__ import annotations

import ast
import json
import re
import secrets
import shutil
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.cache import copy_files
from bench.errors import InputError, did_you_mean, in_one_line
from bench.nouns.run import Result, Run
from compressors import hub
from compressors.artifact import (
    NAMES_CODE,
    VARIANT_FILE,
    config_class_names,
    read_config,
    read_document,
    recorded_parts,
)
from compressors.contract import Compressor
from compressors.families import CLASSIFIER
from compressors.formats import read_json, read_weights
from compressors.inspection import TOKENIZER_CONFIG, check_classes, check_values, refuse_links_out

CLASS_FILE = "pruned.py"
CONFIG, CARD = "config.json", "README.md"
CODE = (*hub.PICKLES, ".pkl", ".pickle", ".py", ".pyc", ".so")


@dataclass(frozen=True)
class Artifact:
    """A run's artifact: its folder, `config.json`, and `variant.json`."""

    folder: Path
    config: dict[str, Any]
    document: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Artifact:
        """The artifact in `folder`. Raises `InputError` where a file that it needs is missing or broken.

        So it does for files that can run code when they are opened, and for links to elsewhere: what is
        exported may be published.
        """
        if not any(folder.glob("*.safetensors")):
            raise InputError(f"{folder}: the artifact is not there any more; run again with --keep all")
        refuse_links_out(folder, folder.rglob("*"))
        for file in sorted(folder.rglob("*")):
            if file.suffix in CODE:
                raise InputError(f"{file}: can run code when opened; artifacts hold no such file")
        config, tensors = read_config(str(folder)), read_weights(folder)
        check_classes(folder, config_class_names(str(folder)), tensors)
        check_values(folder, tensors)
        return cls(folder, config, read_document(folder))

    @property
    def dtype(self) -> str:
        """The precision of the weights, by torch's name."""
        return str(self.document["dtype"])

    @property
    def parts(self) -> list[Compressor] | None:
        """The compressors that made it; None where one of them is a plugin's, which is not loaded here."""
        try:
            return recorded_parts(self.folder, self.document)
        except InputError:
            return None

    @property
    def model_class(self) -> str:
        """The model's class by name; empty where the configuration names none."""
        named = self.config.get("architectures")
        first = named[0] if isinstance(named, list) and named else ""
        return first if isinstance(first, str) else ""

    @property
    def class_file(self) -> str | None:
        """The file that defines the model's class, None where transformers does."""
        return CLASS_FILE if self.model_class in classes_of(class_source()) else None

    @property
    def classes(self) -> list[str]:
        """The classes' names in the order of the logits."""
        names = self.config.get("id2label") or {}
        return [str(names[number]) for number in sorted(names, key=int)]

    def exported_config(self) -> dict[str, Any]:
        """`config.json` as stock transformers must find it: the precision, and where the class is."""
        config = without_code({**self.config, "dtype": self.dtype})
        if self.class_file:
            module = CLASS_FILE.removesuffix(".py")
            config["auto_map"] = {
                "AutoConfig": f"{module}.{self.model_class.removesuffix(CLASSIFIER)}Config",
                f"AutoModel{CLASSIFIER}": f"{module}.{self.model_class}",
            }
        return config


def choose(run: Run, folder: Path, variant: str, seed: int | None) -> tuple[Result, Path]:
    """The row to export, by default of the first seed, and its artifact below the run's `folder`.

    Raises `InputError` where there is no such row, or it left no artifact.
    """
    rows = {result.seed: result for result in run.results if result.variant == variant}
    if not rows:
        names = list(dict.fromkeys(result.variant for result in run.results))
        raise InputError(f"{variant}: not in run {run.id}; {did_you_mean(variant, names)}")
    if seed is not None and seed not in rows:
        raise InputError(f"--seed {seed}: {variant} was run with seed {', '.join(map(str, rows))}; name one")
    result = next(iter(rows.values())) if seed is None else rows[seed]
    if result.status != "ok":
        reason = " ".join((result.reason or "no reason was recorded").split())
        raise InputError(f"{variant}: {result.status}, so there is nothing to export ({reason})")
    if result.artifact is None:
        raise InputError(
            f"{variant}: the run did not keep it (--keep {run.config.keep}); run again with --keep all"
        )
    place = folder / result.artifact
    if not place.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{variant}: its artifact {result.artifact!r} is not in the run's folder; run again")
    return result, place


def check_place(folder: Path) -> None:
    """Raise `InputError` unless `folder` is new or empty."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder}: exists and is not an empty folder; name another")
    except OSError as error:
        raise InputError(f"{folder}: cannot be used ({error.strerror}); name another folder") from None


def write(artifact: Artifact, document: dict[str, Any], card: str, folder: Path) -> None:
    """Put the artifact, what loads it and its card into `folder`, which is then complete or untouched.

    `document` is what its `variant.json` is to say; the paths in it only describe, nothing is loaded by them.
    """
    check_place(folder)
    place = folder.resolve()
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        copy_files(artifact.folder, temporary)
        documents = {CONFIG: artifact.exported_config(), VARIANT_FILE: document}
        if (temporary / TOKENIZER_CONFIG).exists():
            documents[TOKENIZER_CONFIG] = without_code(read_json(temporary / TOKENIZER_CONFIG))
        for name, content in documents.items():
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            (temporary / name).write_text(text, encoding="utf-8")
        (temporary / CARD).write_text(card, encoding="utf-8")
        if artifact.class_file:
            (temporary / CLASS_FILE).write_text(class_source(), encoding="utf-8")
        temporary.rename(place)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def without_code(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a model or tokenizer without the names of code that comes with it."""
    return {name: value for name, value in settings.items() if name not in NAMES_CODE}


def check_push(repository: str) -> None:
    """Raise `InputError` where `repository` cannot be an id, or nothing may be uploaded."""
    from huggingface_hub import constants

    if not re.fullmatch(rf"{hub.NAME}/{hub.NAME}", repository, re.ASCII):
        raise InputError(f"--push {repository}: not a repository's id; write ORG/NAME")
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"--push {repository}: HF_HUB_OFFLINE is set; unset it to upload")


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload the folder's files to `repository`, which is made if it is absent; its address comes back.

    Files that are only there stay. Raises `InputError` where the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        address = HfApi().create_repo(repository, private=private or None, exist_ok=True)
        HfApi().upload_folder(
            repo_id=address.repo_id, folder_path=folder, commit_message="Add a compressed model"
        )
    except Exception as error:
        raise InputError(
            f"--push {repository}: {folder} is complete, but was not uploaded to {constants.ENDPOINT} "
            f"({in_one_line(error)}); HF_TOKEN must be a token that may write there"
        ) from None
    return str(address)


def class_source() -> str:
    """The text of the one file that a pruned model needs beside it."""
    return files("compressors").joinpath(CLASS_FILE).read_text(encoding="utf-8")


def classes_of(source: str) -> set[str]:
    """The names of the classes that Python source defines, without running it."""
    return {node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
