"""Hostile text in every place of a run, in every output: it arrives as text, and nothing else changes."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, TypeVar
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len
from rich.console import Console

from bench.display import LineDisplay, LiveDisplay
from bench.nouns.comparison import Comparison
from bench.nouns.document import Document
from bench.nouns.run import DENSE, Run
from bench.recommend import choices
from bench.visible import ACTIVE, visible
from reports import (
    baselines,
    calibration,
    catalogue,
    console,
    content,
    environment,
    exports,
    github,
    html,
    latex,
    markdown,
    model_card,
    plan,
    side_by_side,
    study,
)
from reports.comparison import comparison_report
from reports.parts import Report, plain
from reports.public import Public
from tests.reports import comparisons
from tests.reports import conftest as documents
from tests.reports.test_model_card import FOLDER

harmless_run = documents.run
PAYLOADS = {
    "script": "<script>alert(1)</script>",
    "attribute": "\"><img src=x onerror=alert(1)> ' onfocus=alert(1) autofocus x='",
    "raw text": "</style></title></textarea><svg onload=alert(1)>",
    "end": "]]><x/> --> <!-- -- <!-- bench gate -->",
    "entity": "&lt;b&gt; &#60; %3Cb%3E",
    "formula": "=cmd|' /C calc'!A0",
    "rich": "[bold red]x[/] [link=https://example.org]x[/link] [/]\\",
    "pipe": "a | b",
    "code": "`x` ``` ~~~",
    "link": "[x](javascript:alert(1)) ![x](https://example.org/x.png)",
    "emphasis": "*x* _y_ ~~z~~ $a$",
    "lines": "one\r\ntwo\n\n# three\n- four\n::error::five",
    "separators": "one\u2028two\u2029three\x85four\x0bfive\x0csix",
    "front matter": "': [\"\n---\nlicense: mit\n",
    "jinja": "{{ 7*7 }}{% raw %}{# x",
    "latex": r"\input{/etc/passwd} ^^5cinput 100 % of $x_1^2$ & #1 ~ {",
    "terminal": "\x1b[2J\x1b]0;title\x07 \x1b]8;;https://example.org\x1b\\x\x1b]8;;\x1b\\ \x08\x7f",
    "c1": "a\x00b\x9b2J\x9d0;title\x9c",
    "direction": "\u202egnp.exe\u202c \u2066x\u2069 \u200f\u061c",
    "unseen": "\u0301\u0327a\u200bb\ufeffc",
    "command": "::error::x %0A::warning::y",
    "mention": "@someone #12 GH-12 https://example.org",
    "noncharacter": "\ufffe\uffff\U0010ffff",
    "marathi": "क्रीडा & मनोरंजन",
}
FORMULAE = (
    "=1",
    "+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "＝1+1",
    "\u200b=1+1",
    " =1",
    "\0=1",
    "a;=1",
    "a;\x01=1",
    "a\n\x01=1",
)
# How a formula begins, and the apostrophes that a CSV has before one where a spreadsheet may begin a cell.
BEGINS_ONE = r"[\s\x00-\x1f\u200b]*[=+\-@＝]"
PUT_IN = re.compile(rf"(?:\A|(?<=[;\r\n]))'(?={BEGINS_ONE}|[\x00-\x1f])")
HARMLESS = "harmless"
payloads = pytest.mark.parametrize("text", PAYLOADS.values(), ids=PAYLOADS)
# The classes of Unicode Standard Annex #9 that an explicit mark has.
REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
D = TypeVar("D", bound=Document)

# Keys that are names from outside; those of other dicts are ours.
NAMED_BY = {"dropped", "splits", "classes", "removed", "versions", "variables", "fingerprints"}
LABELS = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def poisoned(document: D, text: str) -> D:
    """`document` with `text` at the end of each word in it that is free, at any depth."""
    return document.model_copy(
        update={name: _poisoned(name, value, text) for name, value in document if _is_free(document, name)}
    )


def _is_free(document: Document, name: str) -> bool:
    """Whether a field can hold words of anybody's: no enumeration, and no pattern that keeps them out."""
    field = type(document).model_fields[name]
    return not field.metadata and "Literal" not in repr(field.annotation) and name != "metric"


def _poisoned(name: str, value: Any, text: str) -> Any:
    if isinstance(value, Document):
        return poisoned(value, text)
    if isinstance(value, str):
        return value if value == DENSE else value + text
    if isinstance(value, dict):
        keys = {key: f"{key}{text}" if name in NAMED_BY else key for key in value}
        return {keys[key]: _poisoned("", held, text) for key, held in value.items()}
    return [_poisoned("", held, text) for held in value] if isinstance(value, list) else value


@pytest.fixture
def run(harmless_run: Run) -> Run:
    """A run that has something in every place."""
    device = {"name": "GPU", "uuid": "GPU-1", "driver": "580.1", "memory": 8_000_000_000}
    checkpoints = {"org/encoder@v2": "0" * 40, "/a/folder/model": None}
    environment = harmless_run.environment.model_validate(
        harmless_run.environment.model_dump()
        | {"devices": [device], "variables": {"OMP_NUM_THREADS": "2"}, "governor": "powersave"}
    )
    task = harmless_run.task.model_copy(update={"model": "org/encoder@v2", "demonstration": False})
    return harmless_run.model_copy(
        update={"environment": environment, "task": task, "checkpoints": checkpoints}
    )


@pytest.fixture
def shown(run: Run, text: str) -> Run:
    return poisoned(run, text)


@pytest.fixture
def harmless(run: Run) -> Run:
    return poisoned(run, HARMLESS)


def compared(text: str) -> Comparison:
    return poisoned(comparisons.comparison(), text)


def printed(show: Callable[[Console], None], width: int = 4000, terminal: bool = False) -> str:
    """What a console of this width is given."""
    out = io.StringIO()
    show(Console(file=out, width=width, force_terminal=terminal, emoji=False))
    return out.getvalue()


def acting(printed: str) -> list[str]:
    """What acts on a terminal, beside line ends and the colours of rich."""
    return ACTIVE.findall(re.sub(r"\x1b\[[\d;]*m", "", printed).replace("\n", ""))


# --- Reports, by layout -------------------------------------------------------------------------------------

REPORTS: dict[str, Callable[[Run, str], Report]] = {
    "run": lambda run, text: content.report(run),
    "side by side": lambda run, text: side_by_side.report({f"one{text}": run, f"two{text}": run}),
    "study": lambda run, text: study.study_report(run),
    "comparison": lambda run, text: comparison_report(compared(text)),
}
reports_of = pytest.mark.parametrize("kind", REPORTS)


@payloads
@reports_of
def test_a_terminal_gets_text(run: Run, shown: Run, text: str, kind: str) -> None:
    tame = same_width(told(kind, shown, text))
    made, expected = REPORTS[kind](shown, text), REPORTS[kind](poisoned(run, tame), tame)
    out = printed(lambda console_: console.lay_out(made, console_, "more"), terminal=True)
    lines = printed(lambda console_: console.lay_out(expected, console_, "more"))
    assert not acting(out)
    assert plain(told(kind, shown, text)).strip() in out
    if cell_len(plain(text)) == len(plain(text)):  # heads are broken by characters, not by cells
        assert out.count("\n") == lines.count("\n")
    piped = printed(lambda console_: console.lay_out(made, console_, "more"), 40)
    assert not acting(piped)
    assert "\x1b" not in piped


def told(kind: str, run: Run, text: str) -> str:
    """`text` as a report has it: the study's goes to others, so paths are taken out."""
    return Public(run)(text) if kind == "study" else text


def same_width(text: str) -> str:
    """Harmless text that takes the same room in a terminal, and may be broken in the same places."""
    return re.sub("[^ +,-]+", lambda found: "h" * cell_len(found[0]), plain(text))


@payloads
@reports_of
def test_markdown_is_text(shown: Run, harmless: Run, text: str, kind: str) -> None:
    made, tame = (markdown.document(REPORTS[kind](*pair)) for pair in ((shown, text), (harmless, HARMLESS)))
    assert shape(made) == shape(tame)
    assert squeezed(plain(told(kind, shown, text))) in squeezed(" ".join(words(made)))


@payloads
@reports_of
def test_latex_is_text(shown: Run, harmless: Run, text: str, kind: str) -> None:
    made, tame = (latex.document(REPORTS[kind](*pair)) for pair in ((shown, text), (harmless, HARMLESS)))
    assert commands(made) == commands(tame)
    bare = re.sub(r"\\.", "", made.removeprefix(latex.PREAMBLE))
    assert bare.count("{") == bare.count("}")
    assert "%" not in bare
    assert made.count(r"\item") == tame.count(r"\item")
    assert not ACTIVE.search(made.replace("\n", ""))


def tokens(text: str) -> Iterator[Token]:
    """A Markdown document as a parser of CommonMark with GitHub's tables sees it."""
    for block in LABELS.parse(text):
        yield block
        yield from block.children or ()


def shape(text: str) -> list[str]:
    """Every block and span with what it is made of, but for texts, and names that are shown as code."""
    plain_text = {"text", "inline", "code_inline", "text_special", "softbreak"}
    return [
        f"{token.type} {token.content if 'html' in token.type else token.attrs}"
        for token in tokens(text)
        if token.type not in plain_text
    ]


def words(text: str) -> list[str]:
    """The texts of a Markdown document as they are read."""
    blocks = (block for block in LABELS.parse(text) if block.type == "inline")
    return ["".join(span.content for span in block.children or ()) for block in blocks]


def squeezed(text: str) -> str:
    """Without white space, which a layout may break or drop, and what parts a mention from its name."""
    return re.sub(r"\s|\u200b", "", text)


def commands(text: str) -> set[str]:
    """The commands of a LaTeX document, but for those that stand for a character."""
    spelled = {re.match(r"\\[A-Za-z]+|\\.", each)[0] for each in latex.SPECIAL.values() if each[0] == "\\"}  # type: ignore[index]
    math = {r"\pm", r"\times", r"\Delta", r"\uparrow", r"\downarrow", r"\star", r"\allowbreak", r"\textwidth"}
    return set(re.findall(r"\\[A-Za-z]+|\\[^A-Za-z]", text)) - spelled - math


# --- Files --------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags with the names of their attributes, and the texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1][0] not in {"script", "style"}:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


@payloads
def test_the_page_is_text(shown: Run, harmless: Run, text: str) -> None:
    made, tame = (Page(html.render(each, choices(each))) for each in (shown, harmless))
    assert of_content(made.tags) == of_content(tame.tags)
    assert squeezed(plain(text)) in squeezed("".join(made.texts))
    assert not ACTIVE.search("".join(made.texts).replace("\n", ""))


def of_content(tags: list[tuple[str, tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
    """All but where a label found room in the picture, and how many words the command has."""
    return [
        (tag, names) for tag, names in tags if tag not in {"text", "span", "li"} and names != ("class", "d")
    ]


@pytest.mark.parametrize("text", [*PAYLOADS.values(), *FORMULAE], ids=repr)
def test_csv_holds_it_exactly_and_calculates_nothing(shown: Run, harmless: Run, text: str) -> None:
    made, tame = (
        list(csv.DictReader(io.StringIO(exports.FORMATS["csv"]({name: each}), newline=""), strict=True))
        for name, each in ((text, shown), (HARMLESS, harmless))
    )
    assert len(made) == len(tame)
    for row, other in zip(made, tame, strict=True):
        assert row.keys() == other.keys()
        assert PUT_IN.sub("", row["run"]) == text
        assert not any(re.match(BEGINS_ONE, part) for part in re.split("[;\r\n]", row["run"]))
        assert [row[name] for name in ("value", "ci_low", "ci_high", "seed")] == [
            other[name] for name in ("value", "ci_low", "ci_high", "seed")
        ]


@payloads
def test_json_is_read_back_exactly_and_can_be_printed(shown: Run, text: str) -> None:
    out = exports.FORMATS["json"]({"one": shown})
    assert Run.model_validate_json(out).model_dump() == Run.model_validate(shown.model_dump()).model_dump()
    assert not acting(out)
    comparison = exports.COMPARISON_FORMATS["json"](compared(text))
    assert json.loads(comparison) == compared(text).model_dump(mode="json")
    assert not acting(comparison)


@payloads
def test_junit_is_text(shown: Run, harmless: Run, text: str) -> None:
    of_run, of_comparison = exports.FORMATS["junit"], exports.COMPARISON_FORMATS["junit"]
    for made, tame in (
        (of_run({"one": shown}), of_run({"one": harmless})),
        (of_comparison(compared(text)), of_comparison(compared(HARMLESS))),
    ):
        found, expected = ElementTree.fromstring(made), ElementTree.fromstring(tame)
        assert [(e.tag, set(e.attrib)) for e in found.iter()] == [
            (e.tag, set(e.attrib)) for e in expected.iter()
        ]
        texts = [
            value for element in found.iter() for value in (*element.attrib.values(), element.text or "")
        ]
        assert re.sub("[\ufffe\uffff]", "\ufffd", plain(text)).strip() in "".join(texts)
        assert not ACTIVE.search("".join(texts).replace("\n", ""))


@payloads
def test_pytest_benchmark_has_names_on_one_line(shown: Run, harmless: Run, text: str) -> None:
    made, tame = (
        json.loads(exports.FORMATS["pytest-benchmark"]({"one": each})) for each in (shown, harmless)
    )
    assert len(made["benchmarks"]) == len(tame["benchmarks"])
    for held, other in zip(made["benchmarks"], tame["benchmarks"], strict=True):
        assert held["stats"] == other["stats"]
        for name in ("name", "fullname", "group", "param"):
            assert not ACTIVE.search(held[name])


@payloads
def test_a_model_card_is_text_below_its_metadata(shown: Run, harmless: Run, text: str) -> None:
    cards = []
    for each, word in ((shown, text), (harmless, HARMLESS)):
        best = next(result for result in each.results if result.recommended)
        folder = replace(FOLDER, place=f"deploy{word}", classes=tuple(each.task.labels))
        cards.append(model_card.render(each, best, folder).split("\n---\n", 1))
    (front, body), (tame_front, tame_body) = cards
    assert keys(yaml.safe_load(front)) == keys(yaml.safe_load(tame_front))
    assert shape(body) == shape(tame_body)
    assert plain(Public(shown)(text)).strip() in yaml.safe_load(front)["model-index"][0]["name"]
    assert not ACTIVE.search((front + body).replace("\n", ""))


def keys(value: Any) -> Any:
    """A document without its texts and numbers."""
    if isinstance(value, dict):
        return {key: keys(held) for key, held in value.items()}
    return [keys(held) for held in value] if isinstance(value, list) else None


# --- GitHub -------------------------------------------------------------------------------------------------


@payloads
@pytest.mark.parametrize("write", [github.comment, github.summary])
def test_a_comment_is_text(write: Callable[[Comparison], str], text: str) -> None:
    out = write(compared(text))
    assert shape(out) == shape(write(compared(HARMLESS)))
    assert out.count(github.MARKER) == (write is github.comment)
    assert squeezed(plain(text)) in squeezed(" ".join(words(out)))
    assert not re.search(r"@\w|#\d|GH-\d|://", "".join(read for read in words(out) if text in read))


@payloads
def test_a_summary_of_a_run_is_text(shown: Run, harmless: Run, text: str) -> None:
    out = github.summary_of_run(shown)
    assert shape(out) == shape(github.summary_of_run(harmless))
    assert squeezed(plain(text)) in squeezed(" ".join(words(out)))


@payloads
def test_an_annotation_is_one_command(text: str) -> None:
    made, tame = (github.annotations(compared(word)) for word in (text, HARMLESS))
    assert [line.split(" ")[0] for line in made] == [line.split(" ")[0] for line in tame]
    for line in made:
        _, title, message = re.fullmatch(r"::(\w+) title=([^:,]*)::(.*)", line).groups()  # type: ignore[union-attr]
        assert not acting(line)
        assert plain(text).strip().replace("%", "%25") in (title + message).replace("%3A", ":").replace(
            "%2C", ","
        )
        assert not re.search("%(?!25|3A|2C)", title + message)


# --- What else is printed -----------------------------------------------------------------------------------


@payloads
def test_what_other_commands_print_is_text(shown: Run, harmless: Run, text: str) -> None:
    out = printed(lambda console_: print_all(shown, text, console_), terminal=True)
    tame = printed(lambda console_: print_all(harmless, HARMLESS, console_), terminal=True)
    assert not acting(out)
    assert out.count("\n") == tame.count("\n")
    assert out.count(plain(text).strip()) >= 12


def print_all(run: Run, text: str, console_: Console) -> None:
    """`bench run --dry-run`, `list`, `env`, `calibrate`, `baseline list`."""
    assert run.environment.noise_floor
    plan.render(run.task, run.config, run.config.variants, 60, 1_000_000, console_)
    catalogue.render({f"all{text}": (text, [f"mp{text}"])}, [], {f"toy{text}": text}, console_)
    environment.render(run.environment, console_)
    calibration.render(run.environment.noise_floor, f"cpu{text}", f"noise{text}.json", console_)
    baselines.render({(f"5f1a{text}", f"main{text}"): run}, f"5f1a{text}", console_)


@payloads
@pytest.mark.parametrize("display", [LineDisplay, LiveDisplay])
def test_what_a_run_says_as_it_goes_on_is_text(
    shown: Run, text: str, display: type[LineDisplay | LiveDisplay]
) -> None:
    def tell(console_: Console) -> None:
        with display(console_) as told:
            told.begin(f"mp{text}", 1, 2)
            told.stage(f"mp{text}", "train", 1, 2)
            told.end(f"mp{text}", next(result for result in shown.results if result.status == "failed"))
            told.say(text)

    out = printed(tell, terminal=display is LiveDisplay)
    assert visible(text) in out
    # What moves the cursor is rich's own.
    assert not acting(re.sub(r"\x1b\[(\?25[hl]|[12][AK])|\r", "", out))


@given(st.text(st.characters(codec=None) | st.sampled_from("\x1b\x9b\u202e\u2066\u200d\ufeff\ud800\n")))
def test_what_is_visible_does_not_act_and_other_text_is_unchanged(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(mark) for mark in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(mark) for mark in shown} & REORDERING
    assert visible(shown) == shown
    assert visible("क्\u200dष\u200c 👩\u200d🔬") == "क्\u200dष\u200c 👩\u200d🔬"


# --- Length -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_word_of_a_hundred_thousand_characters_is_shown_whole_or_said_to_be_too_long(run: Run) -> None:
    word = 100_000 * "w"
    task = run.task.model_copy(update={"name": word, "labels": [word, "b"]})
    results = [
        result.model_copy(update={"variant": f"{result.variant}{word}"}) if result.recommended else result
        for result in run.results
    ]
    long = run.model_copy(update={"task": task, "results": results})
    narrow = printed(lambda console_: console.render(long, console_), 80)
    assert max(map(cell_len, narrow.splitlines())) <= 80
    assert narrow.count("w") > 200_000
    for name, write in exports.FORMATS.items():
        assert word in write({"one": long}), name
    assert word in html.render(long, choices(long))
    assert len(github.summary_of_run(long).encode()) <= github.SUMMARY_LIMIT
