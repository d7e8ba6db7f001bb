"""A compressor to start from: one working file and its test."""

from __future__ import annotations

import keyword
from importlib.util import find_spec
from pathlib import Path
from string import Template

from bench.errors import InputError
from compressors.registry import NAME, compressor_classes, reserved_names
from compressors.variant import PERCENT

COMPRESSOR = Template('''\
"""Rounds weights to what integers of a few bits can hold. Change it into your technique.

What else a compressor may do is in bench's docs/writing-a-compressor.md.
"""

from dataclasses import dataclass

from bench.errors import InputError
from compressors import Compressor, Phase


@dataclass
class $kind(Compressor):
    """Rounds each row of a weight matrix to `bits` bits: its largest weight becomes 2^(bits - 1) - 1.

    Weights stay floating-point numbers: this tells what accuracy such integers leave, not their speed.
    """

    name = "$name"
    phase = Phase.PRECISION
    summary = "weights rounded to what integers of a few bits hold"
    trains = False

    bits: int = 8

    def validate(self, device):
        if not 2 <= self.bits <= 16:
            raise InputError(f"{self.name}: bits={self.bits} must lie in 2..16")

    def finish(self, model, context):
        import torch

        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    largest = parameter.abs().amax(dim=1, keepdim=True)
                    step = (largest / (2 ** (self.bits - 1) - 1)).clamp_min(1e-12)
                    parameter.copy_((parameter / step).round() * step)
        return model
''')

TEST = Template('''\
"""$name keeps what bench relies on, and does what it says."""

from pathlib import Path

from compressors.registry import add_plugins
from compressors.testing import check
from compressors.variant import parse_variant

add_plugins([Path(__file__).with_name("$name.py")])


def test_it_keeps_its_promises():
    [part] = parse_variant("$name:bits=4").parts
    check(part)


def test_two_bits_leave_three_values_a_row():
    from torch import nn

    [part] = parse_variant("$name:bits=2").parts
    layer = part.finish(nn.Linear(64, 8), context=None)
    assert all(len(row.unique()) <= 3 for row in layer.weight)
''')


def write(name: str, folder: Path) -> tuple[Path, Path]:
    """Write `name`.py and test_`name`.py into `folder`, both or none; where they are comes back.

    Raises `InputError` for a name that cannot be used, and where a file exists or cannot be written.
    """
    check_name(name)
    code, test = folder / f"{name}.py", folder / f"test_{name}.py"
    kind = "".join(word.capitalize() for word in name.split("_")) + "Compressor"
    texts = {code: COMPRESSOR.substitute(name=name, kind=kind), test: TEST.substitute(name=name)}
    written: list[Path] = []
    try:
        check_place(code, test)
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink()
        raise InputError(
            f"--out {folder}: cannot be written ({error.strerror}); name another folder"
        ) from None
    return code, test


def check_name(name: str) -> None:
    """Raise `InputError` where `name` cannot stand for a compressor in a list of variants."""
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r}: a compressor's name is lowercase letters, digits and _, a letter first")
    if keyword.iskeyword(name):
        raise InputError(f"{name}: is a keyword of Python; choose another name")
    if name in reserved_names() | compressor_classes().keys():
        raise InputError(f"{name}: --variants knows this word already, see bench list; choose another name")
    for known, kind in compressor_classes().items():
        if kind.number and name.startswith(known) and PERCENT.fullmatch(name[len(known) :]):
            raise InputError(f"{name}: means {known} at {name[len(known) :]} % already; choose another name")


def check_place(code: Path, test: Path) -> None:
    """Raise `InputError` where a file would be overwritten, or another module hidden by `code`."""
    for path in (code, test):
        if path.exists():
            raise InputError(f"{path}: exists already; choose another name, or another folder with --out")
    if find_spec(code.stem):
        raise InputError(f"{code.stem}: {code.name} would hide the module {code.stem}; choose another name")
