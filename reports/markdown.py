"""The run as GitHub-flavoured Markdown, `report.md`: the same content as the console's."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.nouns.run import Run
from reports.content import report
from reports.parts import Line, Name, Section, Table, plain

ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
SPECIAL = re.compile(r"[\\`*_\[|~$]")
BLOCK_START = re.compile(r"^(\s*)([-+]|#+|\d+[.)])(?=\s)")
CODE = re.compile(r"[\w.:=,+/-]+")


def render(run: Run) -> str:
    """`run` as one Markdown document; nothing in it that came from the user acts as markup."""
    content = report(run)
    lines = [f"# {_escape(content.title)}", ""]
    lines += [f"- **{fact.name}:** {_escape(fact.text)}" for fact in content.facts]
    for table in content.tables:
        lines += _table(table)
    for section in content.sections:
        lines += _section(section)
    return "\n".join([*lines, "", f"**{_line(content.closing)}**", ""])


def _table(table: Table) -> Iterator[str]:
    yield from ("", f"## {_escape(table.title)}", "")
    yield _row([_escape(table.first), *(_escape(header.text) for header in table.headers)])
    yield _row([":--", *("--:" if header.numeric else ":--" for header in table.headers)])
    for row in table.rows:
        label = f"{row.label} best" if row.best else row.label
        cells = [_escape(cell) for cell in (label, *row.cells)]
        yield _row([f"**{cell}**" for cell in cells] if row.best else cells)
    if table.notes:
        yield ""
    yield from (f"- {_line(note)}" for note in table.notes)


def _section(section: Section) -> Iterator[str]:
    yield from ("", f"## {_escape(section.title)}", "")
    yield from (f"- {_line(line)}" for line in section.lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line(line: Line) -> str:
    return "".join(_name(part) if isinstance(part, Name) else _escape(part) for part in line)


def _name(name: str) -> str:
    return f"`{name}`" if CODE.fullmatch(name) else _escape(name)


def _escape(text: str) -> str:
    """`text` with everything that GitHub would take for markup made literal."""
    escaped = SPECIAL.sub(r"\\\g<0>", plain(text).translate(ENTITIES))
    return BLOCK_START.sub(lambda start: f"{start[1]}{start[2][:-1]}\\{start[2][-1]}", escaped)
