"""A report as LaTeX: booktabs tables with their notes, to be read with \\input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from reports.parts import Line, Name, Report, Row, Section, Table, plain

PREAMBLE = r"% \usepackage{booktabs}; scripts other than Latin need XeLaTeX or LuaLaTeX"
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
    alignment = "".join("r" if header.numeric else "l" for header in table.headers)
    heads = (table.first, *(header.text for header in table.headers))
    yield from ("", r"\begin{table}", r"\centering", rf"\caption{{{_escape(table.title)}}}", r"\small")
    yield from (rf"\begin{{tabular}}{{l{alignment}}}", r"\toprule", _cells(heads), r"\midrule")
    yield from map(_row, table.rows)
    yield from (r"\bottomrule", r"\end{tabular}")
    yield from (rf"\par\noindent{{\footnotesize {_line(note)}}}" for note in table.notes)
    yield r"\end{table}"


def _row(row: Row) -> str:
    return _cells((f"{row.label} best" if row.best else row.label, *row.cells))


def _cells(texts: Iterable[str]) -> str:
    return " & ".join(map(_escape, texts)) + r" \\"


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
