"""LaTeX: what a TeX reader would see is the report's text, and nothing from the user is a command."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.nouns.run import Run
from reports import latex
from reports.content import report
from reports.parts import Fact, Header, Name, Report, Row, Section, Table, plain
from tests.reports.test_markdown import hostile

SYMBOLS = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textasciigrave": "`",
    "textendash": "–",
    "textmu": "µ",
    "textdegree": "°",
}
MATHS = {"-": "−", r"\pm": "±", r"\times": "×", r"\Delta": "Δ", r"\uparrow": "↑", r"\downarrow": "↓"}
MATHS[r"\star"] = "★"
ALPHABET = "ab 1-–−~^\\{}%_&#$<>|`*[]±×Δ↑↓★µ°\"'\nमरा"
TOKEN = re.compile(
    r"\\(?P<symbol>[a-z]+)\{\}|\\(?P<literal>[{}%_&#$])|\$(?P<maths>[^$]+)\$|\{(?P<held>[\[\]*])\}"
    r"|(?P<dash>-)\{\}|(?P<plain>[^\\{}%_&#$~^`*\[\]|<>])"
)


def read(text: str) -> str:
    """What TeX would typeset; fails on a character that would act."""
    seen, place = "", 0
    while place < len(text):
        token = TOKEN.match(text, place)
        assert token, f"{text[place:]!r} acts"
        kind, found = next((name, value) for name, value in token.groupdict().items() if value is not None)
        seen += {"symbol": SYMBOLS, "maths": MATHS}.get(kind, {}).get(found, found)
        place = token.end()
    return seen


def cells(document: str) -> list[list[str]]:
    """The cells of every table's rows."""
    rows = [line.removesuffix(r" \\") for line in document.splitlines() if line.endswith(r" \\")]
    return [re.split(r"(?<!\\)&", row) for row in rows]


def one_cell(text: str) -> Report:
    """A report with `text` in every place."""
    table = Table(text, (Header(text),), (Row(text, (text,)),), ((text, Name(text)),), first=text)
    return Report(text, (Fact(text, text),), (table,), (Section(text, ((text,),)),), (text,))


@given(st.text(alphabet=st.sampled_from(ALPHABET), max_size=30))
def test_any_text_is_typeset_as_it_stands(text: str) -> None:
    document = latex.document(one_cell(text))
    head, row = cells(document)
    assert [read(cell.strip()).strip() for cell in (*head, *row)] == [plain(text).strip()] * 4
    assert document.count("\n") == latex.document(one_cell("harmless")).count("\n")


@pytest.mark.parametrize("text", [r"\input{/etc/passwd}", "100 % \\", "a & b", "$x_1^2$ {", "[1] *", "~#"])
def test_a_report_with_text_from_outside_keeps_its_shape(run: Run, text: str) -> None:
    shown = latex.document(report(hostile(run, text)))
    harmless = latex.document(report(hostile(run, "harmless")))
    assert [len(row) for row in cells(shown)] == [len(row) for row in cells(harmless)]
    for document in (shown, harmless):
        bare = re.sub(r"\\[\\{}%_&#$]", "", document)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        assert re.findall(r"%.*", bare) == [latex.PREAMBLE]
        assert len(re.findall(r"\\begin\{table\}", bare)) == len(report(run).tables)
    assert r"\input" not in shown


def test_options_keep_their_two_dashes() -> None:
    cell = cells(latex.document(one_cell("--limit-test 5 --- x")))[1][1]
    assert read(cell.strip()) == "--limit-test 5 --- x"
    assert "--" not in cell
