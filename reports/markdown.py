"""A report as GitHub-flavoured Markdown: `report.md` has the same content as the console."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.nouns.run import Run
from reports.content import report
from reports.parts import Line, Name, Report, Section, Table, plain

ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
SPECIAL = re.compile(r"[\\`*_\[|~$]")
BLOCK_START = re.compile(r"^(\s*)([-+]|#+|\d+[.)])(?=\s)")
CODE = re.compile(r"[\w.:=,+/-]+")


def render(run: Run) -> str:
    """Everything there is to show of `run`."""
    return document(report(run))


def document(content: Report) -> str:
    """`content` as one Markdown document; nothing in it that came from the user acts as markup."""
    lines = [f"# {escaped(content.title)}", ""]
    lines += [f"- **{fact.name}:** {escaped(fact.text)}" for fact in content.facts]
    for table in content.tables:
        lines += table_lines(table)
    for section in content.sections:
        lines += section_lines(section)
    return "\n".join([*lines, "", f"**{inline(content.closing)}**", ""])


def table_lines(table: Table) -> Iterator[str]:
    """A table with its title, and its notes beneath."""
    yield from ("", f"## {escaped(table.title)}", "")
    yield _row([escaped(table.first), *(escaped(header.text) for header in table.headers)])
    yield _row([":--", *("--:" if header.numeric else ":--" for header in table.headers)])
    for row in table.rows:
        label = f"{row.label} best" if row.best else row.label
        cells = [escaped(cell).strip() for cell in (label, *row.cells)]
        yield _row([f"**{cell}**" for cell in cells] if row.best else cells)
    if table.notes:
        yield ""
    yield from (f"- {inline(note)}" for note in table.notes)


def section_lines(section: Section) -> Iterator[str]:
    """A section with its title."""
    yield from ("", f"## {escaped(section.title)}", "")
    yield from (f"- {inline(line)}" for line in section.lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def inline(line: Line) -> str:
    """A line, the names in it as code."""
    return "".join(_name(part) if isinstance(part, Name) else escaped(part) for part in line)


def _name(name: str) -> str:
    return f"`{name}`" if CODE.fullmatch(name) else escaped(name)


def escaped(text: str) -> str:
    """`text` with everything that GitHub would take for markup made literal."""
    literal = SPECIAL.sub(r"\\\g<0>", plain(text).translate(ENTITIES))
    return BLOCK_START.sub(lambda start: f"{start[1]}{start[2][:-1]}\\{start[2][-1]}", literal)
