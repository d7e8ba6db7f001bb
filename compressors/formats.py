"""A checkpoint's files as they lie on disk: JSON within limits, weights by their headers. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import InputError, in_one_line

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST_JSON_BYTES = 64 * 2**20
CHUNK_BYTES = 2**24
# The bits of the exponent by safetensors' name of a dtype, and the integers that have them in that place.
EXPONENTS = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F80_0000),
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor's dtype by safetensors' name, its shape, and the bytes of `file` that hold its values."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    def size(self, axis: int) -> int:
        """How long it is along an axis; 0 where it has no such axis."""
        return self.shape[axis] if axis < len(self.shape) else 0

    @property
    def is_finite(self) -> bool:
        """False where a value is NaN or infinite: IEEE 754 sets all bits of the exponent for these alone.

        Other dtypes than the usual floats are not looked at.
        """
        import numpy as np

        if self.dtype not in EXPONENTS:
            return True
        kind, exponent = EXPONENTS[self.dtype]
        with self.file.open("rb") as opened:
            opened.seek(self.start)
            for left in range(self.end - self.start, 0, -CHUNK_BYTES):
                bits = np.frombuffer(opened.read(min(left, CHUNK_BYTES)), kind)
                if np.any((bits & exponent) == exponent):
                    return False
        return True


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises `InputError` where there is none, or it is huge.

    NaN and infinities are read too: they are no JSON, but some models have them in settings of no effect.
    """
    try:
        if file.exists() and not file.is_file():
            raise InputError(f"{file}: not a file; save the model again")
        if (size := file.stat().st_size) > LARGEST_JSON_BYTES:
            most = LARGEST_JSON_BYTES // 2**20
            raise InputError(
                f"{file}: {size / 2**20:.0f} MiB, and at most {most} are read; save the model again"
            )
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(file, error) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({in_one_line(error)}); save the model again") from None
    if not isinstance(found, dict):
        raise InputError(f"{file}: not a JSON object; save the model again")
    return found


def unreadable(name: Path | str, error: OSError) -> InputError:
    """The error where the system gives no access to a checkpoint, or to a file of it."""
    remedy = "check its permissions" if isinstance(error, PermissionError) else "save the model again"
    return InputError(f"{name}: cannot be read ({error.strerror}); {remedy}")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors by name that transformers reads from a checkpoint, known by the headers of its files.

    Raises `InputError` where the weights, or the index of weights in several files, are missing or broken.
    """
    if (folder / WEIGHTS).is_file():
        return read_header(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        files = shards(folder / INDEX)
        return {name: tensor for file in files for name, tensor in read_header(folder / file).items()}
    raise InputError(f"{folder}: no {WEIGHTS}, by which name weights are read; save the model again")


def shards(index: Path) -> list[str]:
    """The files that the index of sharded weights names. Raises `InputError` unless all lie beside it."""
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise InputError(f"{index}: names no files of weights; save the model again")
    for name in named.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(
                f"{index}: names {quoted(name)}, no .safetensors file beside it; save the model again"
            )
        if not (index.parent / name).is_file():
            raise InputError(
                f"{index}: names {quoted(name)}, which is not there; copy all files of the model"
            )
    return sorted(set(named.values()))


def read_header(file: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file by name. Raises `InputError` where it is broken or cut short."""
    from safetensors import SafetensorError, safe_open

    try:
        # safe_open checks lengths, offsets, shapes and dtypes, and calls what it may not open missing.
        with file.open("rb") as opened, safe_open(file, framework="numpy"):
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
    except OSError as error:
        raise unreadable(file, error) from None
    except (ValueError, RecursionError, SafetensorError) as error:
        raise InputError(
            f"{file}: not whole safetensors weights ({in_one_line(error)}); save or copy the model again"
        ) from None
    header.pop("__metadata__", None)
    return {name: tensor_of(file, 8 + length, entry) for name, entry in header.items()}


def tensor_of(file: Path, data_start: int, entry: Mapping[str, Any]) -> Tensor:
    """A tensor by its entry in the header, whose offsets count from the end of that."""
    start, end = entry["data_offsets"]
    return Tensor(file, entry["dtype"], tuple(entry["shape"]), data_start + start, data_start + end)


def quoted(value: object) -> str:
    """A value from a file for an error of one line: escaped where it cannot be printed, cut where long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} …"
