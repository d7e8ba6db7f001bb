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


def columns(table: str) -> list[list[str]]:
    """A table's columns: the head, its lines joined and without spaces, and the cells."""
    head, _, body = table.partition(r"\midrule")
    heads = ["".join(map(read, lines)).replace(" ", "") for lines in zip(*cells(head), strict=True)]
    below = [[read(cell.strip()) for cell in column] for column in zip(*cells(body), strict=True)]
    return [[text, *column] for text, column in zip(heads, below, strict=True)]


def one_cell(text: str) -> Report:
    """A report with `text` in every place."""
    table = Table(text, (Header(text),), (Row(text, (text,)),), ((text, Name(text)),), first=text)
    return Report(text, (Fact(text, text),), (table,), (Section(text, ((text,),)),), (text,))


@given(st.text(alphabet=st.sampled_from(ALPHABET), max_size=30))
def test_any_text_is_typeset_as_it_stands(text: str) -> None:
    document = latex.document(one_cell(text))
    shown = plain(text).strip()
    assert columns(document) == [[shown.replace(" ", ""), shown]] * 2
    rows = len(cells(document))
    assert document.count("\n") - rows == latex.document(one_cell("harmless")).count("\n") - 2


@pytest.mark.parametrize("text", [r"\input{/etc/passwd}", "100 % \\", "a & b", "$x_1^2$ {", "[1] *", "~#"])
def test_a_report_with_text_from_outside_keeps_its_shape(run: Run, text: str) -> None:
    shown = latex.document(report(hostile(run, text)))
    harmless = latex.document(report(hostile(run, "h" * len(text))))
    assert [len(row) for row in cells(shown)] == [len(row) for row in cells(harmless)]
    for document in (shown, harmless):
        bare = re.sub(r"\\[\\{}%_&#$]", "", document)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        assert re.findall(r"%.*", bare) == [latex.PREAMBLE]
        captions = re.findall(r"\\caption\{(.*)\}", bare)
        assert len([caption for caption in captions if "continued" not in caption]) == len(report(run).tables)
    assert r"\input" not in shown


def test_no_table_is_wider_than_the_page_and_none_loses_a_cell(run: Run, sixteen: Run) -> None:
    for shown in (run, sixteen):
        tables = latex.document(report(shown)).split(r"\begin{table}")[1:]
        widths = [len(" ".join(map(read, row))) for table in tables for row in cells(table)]
        assert max(widths) <= latex.LINE_WIDTH
        assert [column for table in tables for column in columns(table)[1:]] == [
            [head.text.replace(" ", ""), *(row.cells[index] for row in table.rows)]
            for table in report(shown).tables
            for index, head in enumerate(table.headers)
        ]


def test_what_is_cut_keeps_its_notes_together_beneath_the_last_part(sixteen: Run) -> None:
    detail = latex.document(report(sixteen)).partition("Accuracy in detail (quick budget)}")[2]
    first, rest = detail.split(r"\end{table}")[:2]
    assert "footnotesize" not in first
    assert "Accuracy in detail (quick budget), continued}" in rest


def test_a_name_as_long_as_a_path_is_folded_and_takes_no_room_from_the_figures(run: Run) -> None:
    path = "load:/models/of/the/team/for/topics/english-headlines/checkpoint-1500"
    results = [run.results[1], run.results[0].model_copy(update={"variant": path})]
    shown = latex.document(report(run.model_copy(update={"results": results})))
    assert r"p{0.56\textwidth}" in shown
    assert path in shown.replace(r"\allowbreak{}", "")
    assert any(len(row) > 2 for row in cells(shown))


def test_options_keep_their_two_dashes() -> None:
    cell = cells(latex.document(one_cell("--limit-test 5 --- x")))[-1][1]
    assert read(cell.strip()) == "--limit-test 5 --- x"
    assert "--" not in cell
