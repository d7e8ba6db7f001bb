"""A comparison where GitHub shows it: a job's summary, annotations, and the comment on a pull request.

Everything that came from the user is inert there: no markup, no mention, no reference, no link.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bench.nouns.comparison import Change, Comparison
from bench.nouns.run import Run
from reports import comparison as compared
from reports import markdown
from reports.content import essentials, report
from reports.markdown import escaped, inline
from reports.parts import ABSENT, Header, Report, Row, Section, Table, plain

MARKER = "<!-- bench gate -->"
SUMMARY_LIMIT = 1024 * 1024
"""Bytes of a step's summary; GitHub refuses a longer one whole."""
COMMENT_LIMIT = 65_536
"""Characters of a comment; counted here as bytes, which are no fewer."""
ANNOTATIONS = 10
"""GitHub shows no more of one level and step."""
FAILED = "Failed or skipped"
# In these GitHub sees a mention, a reference or a link, also where they are escaped; in code it does not.
LINKING = re.compile(r"(?P<inert>\\.|`[^`\n]+`)|@|#(?=\d)|\bGH(?=-\d)|:(?=//)|\bwww(?=\.)", re.IGNORECASE)
BREAK = "\N{ZERO WIDTH SPACE}"


def summary(comparison: Comparison) -> str:
    """Markdown for `$GITHUB_STEP_SUMMARY`: the outcome and what changed, the rest folded away."""
    return _body(comparison, SUMMARY_LIMIT)


def comment(comparison: Comparison) -> str:
    """The same for a pull request; its first line, `MARKER`, stays unseen and lets a later run find it."""
    head = f"{MARKER}\n\n"
    return head + _body(comparison, COMMENT_LIMIT - len(head))


def summary_of_run(run: Run) -> str:
    """Markdown for `$GITHUB_STEP_SUMMARY` of a run alone: its conclusion, first table, and what failed."""
    content = essentials(report(run))
    return _within(SUMMARY_LIMIT, run.status, lambda most: _run(content, most))


def annotations(comparison: Comparison) -> list[str]:
    """Workflow commands, to be printed on lines of their own: the worst ten of what somebody must look at.

    `error` is what makes the command fail, `warning` what a gate finds inconclusive, `notice` what became
    worse without one.
    """
    found = [_command("error", "The gate cannot tell", text) for text in compared.obstacles(comparison)]
    worst = compared.by_severity(comparison.changes)[:ANNOTATIONS]
    found += [_annotation(comparison, row) for row in worst]
    return found[:ANNOTATIONS]


def stop(token: str) -> str:
    """The line after which GitHub takes nothing for a workflow command, up to that of `resume`.

    `token` must be one that nobody can know who has a say in what is printed between.
    """
    return f"::stop-commands::{token}"


def resume(token: str) -> str:
    """The line that ends what `stop` began with the same `token`."""
    return f"::{token}::"


def _annotation(comparison: Comparison, row: Change) -> str:
    what = "".join(compared.subject(comparison, row))
    verdict = compared.GATES[row.gate] if row.gate else row.word
    return _command(_level(comparison, row), f"{what}: {verdict}", compared.said(row))


def _level(comparison: Comparison, row: Change) -> str:
    if row in comparison.failing or row.gate == "not comparable":
        return "error"
    return "warning" if row.gate == "inconclusive" else "notice"


def _command(level: str, title: str, message: str) -> str:
    """A workflow command, escaped as `escapeData` and `escapeProperty` of actions/toolkit's command.ts do.

    Line ends, which they escape too, are no longer there.
    """
    data = plain(message).replace("%", "%25")
    named = plain(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={named}::{data}"


Write = Callable[[int | None], Iterator[str]]


def _within(limit: int, outcome: str, write: Write) -> str:
    """What `write` gives, with so few rows a list that it takes at most `limit` bytes; None is all."""
    for most in (None, 300, 100, 30, 10, 3, 0):
        text = LINKING.sub(_unlinked, "\n".join([*write(most), ""]))
        if len(text.encode()) <= limit:
            return text
    return f"**{outcome}**: what there is to say takes more room than GitHub has; see the log.\n"


def _unlinked(found: re.Match[str]) -> str:
    """What `LINKING` found, parted from what follows; code is to be copied, so nothing goes into it."""
    return found[0] if found["inert"] else found[0] + BREAK


def _body(comparison: Comparison, limit: int) -> str:
    content = compared.comparison_report(comparison)
    return _within(limit, comparison.outcome, lambda most: _compared(comparison, content, most))


def _compared(comparison: Comparison, content: Report, most: int | None) -> Iterator[str]:
    rows = compared.decisive_first(comparison.changes)
    shown = [row for row in rows if compared.is_shown(row)]
    rest = [row for row in rows if not compared.is_shown(row)]
    yield from _head(content)
    if shown:
        yield from _table(comparison, "Changes", shown, most)
    if rest:
        folded = _table(comparison, "The rest", rest, most)
        yield from _folded(f"{len(rest):,} more: unchanged, or not comparable", folded)
    yield from _folded("How it was compared, and reasons", _details(content, most))


def _head(content: Report) -> Iterator[str]:
    yield from (f"## {escaped(content.title)}", "", f"**{inline(content.closing)}**")


def _run(content: Report, most: int | None) -> Iterator[str]:
    yield from _head(content)
    for table in content.tables[:1]:
        yield from markdown.table_lines(replace(table, rows=table.rows[:most]))
        yield from _left_out(table.rows, most)
    for section in content.sections:
        if section.title == FAILED:
            yield from _section(section, most)


def _details(content: Report, most: int | None) -> Iterator[str]:
    yield ""
    yield from (f"- **{fact.name}:** {escaped(fact.text)}" for fact in content.facts)
    for section in content.sections:
        yield from _section(section, most)


def _folded(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield from ("", f"<details><summary>{title}</summary>", *lines, "", "</details>")


def _section(section: Section, most: int | None) -> Iterator[str]:
    yield from markdown.section_lines(replace(section, lines=section.lines[:most]))
    yield from _left_out(section.lines, most)


def _table(comparison: Comparison, title: str, rows: Sequence[Change], most: int | None) -> Iterator[str]:
    lines = tuple(_row(comparison, row) for row in rows[:most])
    headers = (Header("Variant", numeric=False), Header("Metric", numeric=False), *compared.FIGURES)
    yield from markdown.table_lines(Table(title, headers + compared.WORDS, lines, first="Mark"))
    yield from _left_out(rows, most)


def _row(comparison: Comparison, row: Change) -> Row:
    variant = row.variant + compared.seed(comparison, row)
    metric = compared.headed(row) if row.metric else ABSENT
    return Row(row.mark, (variant, metric, *compared.figures(row), *compared.words(row)))


def _left_out(items: Sequence[object], most: int | None) -> Iterator[str]:
    if most is not None and len(items) > most:
        yield from ("", f"… and {len(items) - most:,} more, for which there is no room here.")
