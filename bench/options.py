"""What the user asked for, as written; kept in the run folder so that `--resume` can ask for it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bench.nouns.run import Budget, Keep


class Options(BaseModel):
    """One field per option of `bench run`; None where the task or the budget decides."""

    model_config = ConfigDict(extra="forbid")

    variants: str | None = None
    task: str | None = None
    model: str | None = None
    train: Path | None = None
    test: Path | None = None
    validation: Path | None = None
    test_split: float | None = None
    text_columns: tuple[str, ...] = ()
    text_pair_column: str | None = None
    label_column: str | None = None
    no_finetune: bool = False
    epochs: float | None = None
    dense_epochs: float | None = None
    learning_rate: float | None = None
    batch_size: int = 32
    max_length: int | None = None
    seed: int = 0
    country: str = "IND"
    limit: int | None = None
    limit_test: int | None = None
    device: str = "auto"
    budget: Budget | None = None
    keep: Keep = "all"
    plugins: tuple[Path, ...] = ()
    out: Path | None = None
    cache: Path = Path(".bench/cache")
    remeasure: bool = False
    command: str = "bench run"

    def absolute(self) -> Options:
        """The same with every path absolute, so that it means the same from any folder."""
        paths = {name: getattr(self, name) for name in ("train", "test", "validation", "out", "cache")}
        changes: dict[str, Any] = {name: path.absolute() for name, path in paths.items() if path}
        changes["plugins"] = tuple(plugin.absolute() for plugin in self.plugins)
        if self.model and Path(self.model).exists():
            changes["model"] = str(Path(self.model).absolute())
        return self.model_copy(update=changes)
