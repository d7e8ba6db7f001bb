"""Plugins that are no compressors, or that break: one line that says which file and why, exit 2."""

from __future__ import annotations

from pathlib import Path
from string import Template

import pytest

from tests.inputs.refused import carried_out, refused

PLUGIN = Template(
    """\
from dataclasses import dataclass, field
from compressors import Compressor, Phase

$first
@dataclass
class Half(Compressor):
    $name
    $phase
    $summary
    trains = False
    $body
"""
)
WHOLE = {
    "first": "",
    "name": 'name = "half"',
    "phase": "phase = Phase.PRECISION",
    "summary": 'summary = "halves"',
    "body": "",
}


def plugin(**changed: str) -> bytes:
    """A plugin's file, with what is changed of it."""
    return PLUGIN.substitute(WHOLE | changed).encode()


def answer(name: str, code: str = "1 / 0") -> bytes:
    """One with a property that does `code`."""
    return plugin(body=f"@property\n    def {name}(self): return {code}")


UNUSABLE: dict[str, tuple[bytes, str]] = {
    "no Python": (b"hello world :", "SyntaxError: invalid syntax (p.py, line 1)"),
    "a mistake in line 2": (b"x = 1\ndef f(:\n", "(p.py, line 2)"),
    "a null byte": (plugin() + b"\0", "null bytes"),
    "Latin-1": ("é = 1".encode("latin-1"), "can't decode byte 0xe9"),
    "too many brackets": (b"(" * 5_000, "too many nested parentheses"),
    "what raises": (b'raise RuntimeError("two\\nlines")', "RuntimeError: two lines"),
    "what ends the process": (b"import sys; sys.exit()", "SystemExit"),
    "what ends it with success": (b"raise SystemExit(0)", "SystemExit: 0"),
    "what no one catches": (b"raise GeneratorExit", "GeneratorExit"),
    "what never ends": (b"def f(): f()\nf()", "RecursionError"),
    "a missing package": (b"import nothing_of_this", "No module named 'nothing_of_this'"),
    "an empty file": (b"", "defines no Compressor"),
    "no compressor": (b"A = 1", "defines no Compressor"),
    "no name": (plugin(name=""), "Half: declares no name"),
    "a number for a name": (plugin(name="name = 5"), "name = 5 is no str"),
    "a path for a name": (plugin(name='name = "../x"'), "the name '../x' is not"),
    "a look-alike": (plugin(name='name = "ｈalf"'), "the name 'ｈalf' is not"),
    "a long name": (plugin(name='name = "a" * 60'), "is not 1 to 40 lowercase letters"),
    "the name of another": (plugin(name='name = "bmp"'), "named 'bmp' exists already"),
    "the name of a preset": (plugin(name='name = "modern"'), "named 'modern' exists already"),
    "the name of nothing": (plugin(name='name = "dense"'), "named 'dense' exists already"),
    "no phase": (plugin(phase=""), "declares no phase"),
    "a text for a phase": (plugin(phase='phase = "precision"'), "phase = 'precision' is no Phase"),
    "a number for a phase": (plugin(phase="phase = 2"), "phase = 2 is no Phase"),
    "no summary": (plugin(summary=""), "declares no summary"),
    "no dataclass": (plugin(body="x: int = 3").replace(b"@dataclass\n", b""), "is no dataclass"),
    "a field without default": (plugin(body="x: int"), "x has no default"),
    "a default that all share": (plugin(body="x: list = []"), "mutable default"),
    "a default unspelled": (
        plugin(body="x: list = field(default_factory=list)"),
        "x has no default",
    ),
    "a type that is not there": (plugin(body='x: "Nothing" = 3'), "name 'Nothing' is not defined"),
    "the number of no field": (plugin(body='number = "amount"'), "number = 'amount' names none"),
    "packages of no extra": (plugin(body='packages = ("x",)'), "declares no extra"),
    "another signature": (plugin(body="def validate(self): pass"), "validate must take (self, device)"),
    "a method that raises": (plugin(body='def validate(self, device): raise KeyError("x")'), "KeyError: 'x'"),
    "one that ends the process": (plugin(body="def validate(self, device): raise SystemExit"), "SystemExit"),
    "no making": (plugin(body="def __post_init__(self): 1 / 0"), "ZeroDivisionError"),
    "no way to combine": (plugin(body="def refuses(self, other): 1 / 0"), "ZeroDivisionError"),
    "no depth": (plugin(body="def layers_left(self, depth): return {}[depth]"), "KeyError"),
    "no share": (answer("removes"), "p.py, line 12: ZeroDivisionError"),
    "no checkpoints": (answer("checkpoints"), "ZeroDivisionError"),
    "no files": (answer("files"), "ZeroDivisionError"),
    "nothing to go on from": (answer("continues"), "ZeroDivisionError"),
    "a text for a share": (answer("removes", '"half"'), "removes is 'half', and must be of type int"),
    "no number for a share": (
        answer("removes", 'float("nan")'),
        "removes is nan, and must lie between 0 and",
    ),
    "more than all": (answer("removes", "1.5"), "removes is 1.5, and must lie between 0 and 1"),
    "texts for files": (answer("files", '("corpus.txt",)'), "files holds 'corpus.txt', and must hold type"),
    "numbers of checkpoints": (answer("checkpoints", "(5,)"), "checkpoints holds 5, and must hold type str"),
    "no layers": (plugin(body="def layers_left(self, depth): return None"), "layers_left is None of "),
    "no layer": (plugin(body="def layers_left(self, depth): return 0"), "layers_left is 0 of "),
    "a number for checkpoints": (answer("checkpoints", "5"), "checkpoints is 5, and must be of type tuple"),
}


@pytest.mark.parametrize(("content", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_plugin_that_cannot_be_used(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "p.py").write_bytes(content)
    line = refused(tmp_path, "run", "--dry-run", "--plugin", "p.py", "--variants", "half+kd")
    assert "p.py" in line or "half: " in line
    assert reason in line


def test_a_folder_is_no_plugin(tmp_path: Path) -> None:
    (tmp_path / "p.py").mkdir()
    assert "p.py: not a Python file" in refused(tmp_path, "run", "--dry-run", "--plugin", "p.py")


def test_two_plugins_may_have_one_file_name(tmp_path: Path) -> None:
    for folder, name in (("a", "half"), ("b", "third")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.py").write_bytes(plugin(name=f'name = "{name}"'))
    asked = ("--plugin", "a/p.py", "--plugin", "b/p.py", "--variants", "half,third,nothing")
    assert "known: dense" in (line := refused(tmp_path, "run", "--dry-run", *asked))
    assert "half, third" in line


def test_two_plugins_may_not_have_one_name(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_bytes(plugin())
    line = refused(tmp_path, "run", "--dry-run", "--plugin", "a.py", "--plugin", "b.py")
    assert "b.py" in line
    assert "named 'half' exists already" in line


def test_without_settings_a_plugin_need_be_no_dataclass(tmp_path: Path) -> None:
    content = plugin(first="from typing import ClassVar", body="note: ClassVar[str] = 'x'")
    (tmp_path / "p.py").write_bytes(content.replace(b"@dataclass\n", b""))
    asked = ("--limit", "24", "--limit-test", "24", "--plugin", "p.py", "--variants", "half")
    code, _, err = carried_out(tmp_path, "run", "--dry-run", *asked)
    assert code == 0, err


def test_what_a_plugin_prints_stays_out_of_stdout(tmp_path: Path) -> None:
    body = 'def validate(self, device): print("asked")'
    (tmp_path / "p.py").write_bytes(plugin(first='print("loaded")', body=body))
    asked = ("--limit", "24", "--limit-test", "24")
    code, out, err = carried_out(
        tmp_path, "run", "--dry-run", *asked, "--plugin", "p.py", "--variants", "half"
    )
    assert code == 0, err
    assert "loaded" not in out
    assert "asked" not in out
    assert "loaded\n" in err
    assert "asked\n" in err
