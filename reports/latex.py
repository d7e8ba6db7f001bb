"""A report as LaTeX: booktabs tables with their notes, to be read with \\input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import zip_longest

from reports.parts import Line, Name, Report, Row, Section, Table, plain, stacked

PREAMBLE = r"% \usepackage{booktabs}; scripts other than Latin need XeLaTeX or LuaLaTeX"
# In characters, of a table in \small across the text of an A4 article; GAP is the space between columns.
LINE_WIDTH, LABEL_WIDTH, HEADER_WIDTH, GAP = 75, 42, 9, 3
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "_": r"\_",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "–": r"\textendash{}",
    "\N{MINUS SIGN}": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "★": r"$\star$",
    "µ": r"\textmu{}",
    "\N{DEGREE SIGN}": r"\textdegree{}",
}
ESCAPED = str.maketrans(SPECIAL)


def document(content: Report) -> str:
    """`content` as LaTeX; nothing in it that came from the user acts as a command."""
    lines = [PREAMBLE, rf"\paragraph{{{_escape(content.title)}}}"]
    lines += _list("description", (f"[{_escape(fact.name)}] {_escape(fact.text)}" for fact in content.facts))
    for table in content.tables:
        lines += _table(table)
    for section in content.sections:
        lines += _section(section)
    return "\n".join([*lines, "", rf"\textbf{{{_line(content.closing)}}}", ""])


def _table(table: Table) -> Iterator[str]:
    """The table, cut between columns where it is wider than the page, its notes beneath the last part."""
    widths = [GAP + _width(table, index) for index in range(len(table.headers))]
    *parts, last = table.cut(widths, LINE_WIDTH - min(_label_width(table), LABEL_WIDTH))
    for part in (*(replace(part, notes=()) for part in parts), last):
        yield from _float(part)


def _width(table: Table, index: int) -> int:
    return max([_cells_width(table, index), *map(len, _head(table, index))])


def _cells_width(table: Table, index: int) -> int:
    return max(len(plain(row.cells[index])) for row in table.rows)


def _head(table: Table, index: int) -> list[str]:
    return stacked(table.headers[index].text, max(HEADER_WIDTH, _cells_width(table, index)))


def _label_width(table: Table) -> int:
    return max(len(plain(text)) for text in (table.first, *map(_label, table.rows)))


def _float(table: Table) -> Iterator[str]:
    folded = _label_width(table) > LABEL_WIDTH
    first = rf"p{{{LABEL_WIDTH / LINE_WIDTH:.2f}\textwidth}}" if folded else "l"
    alignment = "".join("r" if header.numeric else "l" for header in table.headers)
    # "h": a document of tables alone leaves them no other place, and LaTeX stops at 52 that wait for one.
    yield from ("", r"\begin{table}[htbp]", r"\centering", rf"\caption{{{_escape(table.title)}}}", r"\small")
    yield from (rf"\begin{{tabular}}{{{first}{alignment}}}", r"\toprule", *_heads(table), r"\midrule")
    yield from (_cells(_label(row), row.cells, folded) for row in table.rows)
    yield from (r"\bottomrule", r"\end{tabular}")
    yield from (rf"\par\noindent{{\footnotesize {_line(note)}}}" for note in table.notes)
    yield r"\end{table}"


def _heads(table: Table) -> list[str]:
    """The heads, each line of them a row of its own; shorter ones end beside the longest."""
    heads = [[table.first], *(_head(table, index) for index in range(len(table.headers)))]
    upwards = zip_longest(*(reversed(lines) for lines in heads), fillvalue="")
    return [_cells(first, rest) for first, *rest in upwards][::-1]


def _label(row: Row) -> str:
    return f"{row.label} best" if row.best else row.label


def _cells(label: str, texts: Iterable[str], folded: bool = False) -> str:
    """A row; a `folded` label may be broken where a spec or a path can be read on."""
    first = re.sub(r"(?<=[+,/])", r"\\allowbreak{}", _escape(label)) if folded else _escape(label)
    return " & ".join((first, *map(_escape, texts))) + r" \\"


def _section(section: Section) -> Iterator[str]:
    yield from ("", rf"\paragraph{{{_escape(section.title)}}}")
    yield from _list("itemize", map(_line, section.lines))


def _list(kind: str, items: Iterable[str]) -> Iterator[str]:
    yield from (rf"\begin{{{kind}}}", *(rf"\item {item}" for item in items), rf"\end{{{kind}}}")


def _line(line: Line) -> str:
    return "".join(
        rf"\texttt{{{_escape(part)}}}" if isinstance(part, Name) else _escape(part) for part in line
    )


def _escape(text: str) -> str:
    """`text` with every character that LaTeX would act on, or join to another one, made literal."""
    return re.sub(r"-(?=-)", "-{}", plain(text).translate(ESCAPED))
