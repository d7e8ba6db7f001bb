"""What leaves this machine says no paths of it: a folder is called by its own name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from bench.nouns.document import Document
from bench.nouns.run import Run

PARENTS = re.compile(r"(?<![\w.~/-])/(?:[^\s/'\",;:=()]+/)+(?=[^\s/'\",;:=()])")
"""The folders before the last name of an absolute path; an address has no such beginning."""

T = TypeVar("T")


class Public:
    """Takes the paths out of a run, or of anything that was said of it: documents, dicts, lists and texts.

    A checkpoint's folder is called by its name, numbered where another's is the same, so that variants stay
    apart. Any other absolute path is cut to its last name.
    """

    def __init__(self, run: Run) -> None:
        self._labels = set(run.task.labels)
        self._names = _folder_names(run.checkpoints)
        longest_first = sorted(self._names, key=len, reverse=True)
        spelled = "|".join(re.escape(path) for path in longest_first)
        self._folders = re.compile(rf"(?<![\w.~/-])(?:{spelled})(?![\w-]|\.\w)") if spelled else None

    def __call__(self, value: T) -> T:
        """The same without paths; `value` itself stays as it is."""
        public: T = self._public(value)
        return public

    def _public(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Document):
            return value.model_copy(update={name: self._public(held) for name, held in value})
        if isinstance(value, dict):
            return {self._public(key): self._public(held) for key, held in value.items()}
        return [self._public(held) for held in value] if isinstance(value, list) else value

    def _text(self, text: str) -> str:
        if text in self._labels:  # a class may be called like a path
            return text
        if self._folders:
            text = self._folders.sub(lambda found: self._names[found[0]], text)
        return PARENTS.sub("", text)


def _folder_names(checkpoints: dict[str, str | None]) -> dict[str, str]:
    """What the folder of each local checkpoint that is named by a path is called instead."""
    taken = {name for name in checkpoints if "/" not in name}
    names: dict[str, str] = {}
    for path, commit in checkpoints.items():
        if commit is None and "/" in path:
            name = folder = Path(path).name or path
            number = 1
            while name in taken:
                number += 1
                name = f"{folder}-{number}"
            taken.add(name)
            names[path] = name
    return names
