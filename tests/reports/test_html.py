"""The page: the golden text, one well-formed file that refers to nothing outside, every text inert."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import pytest

from bench.nouns.measurement import METRICS
from bench.nouns.run import LayerShape, Result, Run
from bench.nouns.verdict import Choice
from reports import html
from reports.content import report
from reports.parts import plain
from tests.reports.test_markdown import hostile

VOID = {"meta", "input", "br", "link", "hr"}
SPECIFIC = {"script", "style"}
BLOCKS = {"p", "li", "tr", "h1", "h2", "h3", "h4", "dt", "dd", "caption", "summary", "figcaption", "pre"}
CHOICES = [
    Choice(margin=0.0, variant=None),
    Choice(margin=0.004, variant="bmp25"),
    Choice(margin=0.009, variant="bmp25+kd+mp"),
    Choice(margin=0.04, variant="bmp:amount=0.4,block=16+kd:layers=2"),
]
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"\' onfocus=alert(1) autofocus x="',
    "</title></style><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "\N{RIGHT-TO-LEFT OVERRIDE}cba\N{POP DIRECTIONAL FORMATTING} \x1b[31m\x00",
    "मनोरंजन & क्रीडा",
]


class Page(HTMLParser):
    """A page as it is parsed; fails where a tag is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inside: dict[str, list[str]] = {tag: [] for tag in SPECIFIC}
        self.text = ""
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"{tag} has an attribute twice"
        self.text += "\n" if tag == "br" else ""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag in SPECIFIC:
            self.inside[tag].append("")
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag
        self.text += "\n" if tag in BLOCKS else " | " if tag in {"td", "th"} else ""

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] in SPECIFIC:
            self.inside[self.stack[-1]][-1] += data
        elif not {"title", "svg"} & set(self.stack):
            self.text += data

    def every(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def lines(self) -> list[str]:
        """What a reader sees, a block a line, without the pictures."""
        return [line for text in self.text.splitlines() if (line := " ".join(text.split()))]


def page(run: Run, choices: list[Choice] | None = None) -> Page:
    return Page(html.render(run, choices_of(run) if choices is None else choices))


def choices_of(run: Run) -> list[Choice]:
    """Those of the choices whose variant is in the run."""
    known = {None, *(result.variant for result in run.results)}
    return [choice for choice in CHOICES if choice.variant in known]


def detailed(run: Run) -> Run:
    """The run with layers and a loss curve."""
    layers = [LayerShape(heads=4, ffn_width=1024), LayerShape(heads=1, ffn_width=312)]
    training = [{"step": 1.0, "loss": 1.31}, {"step": 2.0, "loss": 0.62}]
    results = [
        result.model_copy(update={"layers": layers, "training": training, "artifact": "artifacts/x"})
        for result in run.results
    ]
    return run.model_copy(update={"results": results, "checkpoints": {"org/name": "5f1a", "./own": None}})


def test_golden(run: Run, golden: Callable[[str, str], None]) -> None:
    golden("report-html.txt", "\n".join([*page(detailed(run)).lines(), ""]))


def test_it_has_all_that_the_report_has(run: Run) -> None:
    lines = page(run).lines()
    full = report(run)
    assert any("".join(full.closing) in line for line in lines)
    for fact in full.facts:
        assert plain(fact.text) in lines
    for table in full.tables[1:]:
        assert table.title in lines
        for row in table.rows:
            assert any(line.startswith(row.label) and row.cells[-1] in line for line in lines)
    for line in (line for section in full.sections for line in section.lines):
        assert plain("".join(line)) in lines


def test_ids_are_unique_and_every_link_leads_somewhere(sixteen: Run) -> None:
    parsed = page(detailed(sixteen))
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] for attributes in parsed.every("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert {label["for"] for label in parsed.every("label")} <= set(ids)
    labelled = [a["aria-labelledby"] for _, a in parsed.elements if "aria-labelledby" in a]
    assert set(labelled) <= set(ids)


def test_nothing_is_loaded_from_anywhere(run: Run) -> None:
    text = html.render(run, CHOICES)
    parsed = Page(text)
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"img", "link", "iframe", "object", "embed", "base", "form", "video", "audio"}
    for _, attributes in parsed.elements:
        assert not {"src", "srcset", "style", "action", "poster"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text


def test_the_policy_allows_its_own_style_and_script_alone(run: Run) -> None:
    parsed = page(run)
    (policy,) = (a["content"] for a in parsed.every("meta") if "http-equiv" in a)
    style, (data, script) = parsed.inside["style"], parsed.inside["script"]

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src {digest(style[0])}",
        f"script-src {digest(script)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert json.loads(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_does_not_act(run: Run, text: str) -> None:
    shown, harmless = page(hostile(run, text), named(text)), page(hostile(run, "harmless"), named("harmless"))
    assert [tag for tag, _ in shown.elements] == [tag for tag, _ in harmless.elements]
    assert [set(own) for _, own in shown.elements] == [set(own) for _, own in harmless.elements]
    assert plain(text).strip() in shown.lines()
    data = json.loads(shown.inside["script"][0])
    assert data["from"][1]["line"][0] == {"text": plain(f"bmp25{text}"), "name": True}


def named(text: str) -> list[Choice]:
    return [
        choice.model_copy(update={"variant": choice.variant and choice.variant + text}) for choice in CHOICES
    ]


def test_the_command_is_copied_as_it_was_given(run: Run) -> None:
    command = "bench run  --train 'a  b.csv' --text-column \"<x>\""
    config = run.config.model_copy(update={"command": command})
    text = html.render(run.model_copy(update={"config": config}), [])
    shown = re.search(r'<pre id="command">(.*?)</pre>', text)
    assert shown
    seen = Page(f"<pre>{shown[1]}</pre>").text
    assert seen.removesuffix("\n") == command


def test_a_budget_has_its_own_sentence(run: Run) -> None:
    data = json.loads(page(run).inside["script"][0])
    sentences = ["".join(part["text"] for part in choice["line"]) for choice in data["from"]]
    assert [choice["margin"] for choice in data["from"]] == [0.0, 0.004, 0.009, 0.04]
    assert sentences[0] == "No variant is shown to be faster and to lose less than this."
    assert sentences[1].startswith("bmp25 is 1.31 ± 0.06 times faster than dense")
    assert "accuracy lost" not in sentences[3]
    assert data["own"]["variant"] == data["from"][2]["variant"]
    assert data["own"]["margin"] == 0.01


def test_without_a_variant_for_any_budget_there_is_nothing_to_set(run: Run) -> None:
    wider = run.config.model_copy(update={"accuracy_margin": 0.2})
    for parsed in (
        page(run, [Choice(margin=0.0, variant=None)]),
        page(run, []),
        page(run.model_copy(update={"config": wider})),
    ):
        assert len(parsed.inside["script"]) == 1
        assert not any(attributes.get("id") == "budget" for attributes in parsed.every("input"))


def test_headings_are_in_order_and_tables_are_named(sixteen: Run) -> None:
    parsed = page(detailed(sixteen))
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tables = [tag for tag, _ in parsed.elements if tag in {"table", "caption"}]
    assert tables == ["table", "caption"] * (len(tables) // 2)
    assert all("scope" in attributes for attributes in parsed.every("th"))


def test_sorting_is_by_the_value_not_by_how_it_is_written(run: Run) -> None:
    parsed = page(run)
    rows = [a["data-variant"] for tag, a in parsed.elements if tag == "tr" and "data-variant" in a]
    assert rows[0] == "variant-1"
    assert len(rows) == len(run.results)
    keys = {attributes["data-key"] for attributes in parsed.every("td") if "data-key" in attributes}
    for result in run.results:
        for name in ("speedup", "disk_size"):
            assert name not in result.metrics or str(result.metrics[name].value) in keys


def test_runs_with_little_in_them(run: Run) -> None:
    dense = [result for result in run.results if result.variant == "dense"]
    broken = [result for result in run.results if result.status != "ok"]
    for results in ([], dense, broken, [*dense, *broken]):
        for status in ("complete", "interrupted", "running"):
            lines = page(run.model_copy(update={"results": results, "status": status}), []).lines()
            assert any("No variant is recommended" in line for line in lines)
            assert any(line.startswith("There is nothing to draw") for line in lines)
            assert all(any(r.reason in line for line in lines) for r in results if r.reason)


def test_every_seed_is_a_row_and_a_variant_is_a_point(seeded: Run) -> None:
    parsed = page(seeded)
    rows = [a["data-variant"] for tag, a in parsed.elements if tag == "tr" and "data-variant" in a]
    points = [a["data-variant"] for tag, a in parsed.elements if tag == "a" and "data-variant" in a]
    assert len(rows) == 6
    assert len(points) % 3 == 0
    assert set(points) == set(rows)
    assert any("median over 2 seeds" in line for line in parsed.lines())


def test_a_variant_with_a_seed_that_failed_is_marked_and_the_notes_say_so(seeded: Run) -> None:
    *others, last = seeded.results
    failed = Result(variant=last.variant, seed=last.seed, status="failed", reason="out of memory")
    lines = page(seeded.model_copy(update={"results": [*others, failed]})).lines()
    assert "mp: 1 of 2 seeds" in lines
    assert any(line.startswith("incomplete: ") for line in lines)
    assert any(line.endswith("incomplete, 1 of 2 seeds") for line in lines)
    assert not any("1 of 2 seeds" in line or line.startswith("incomplete") for line in page(seeded).lines())


def test_the_legend_says_that_no_verdict_rests_on_what_is_modelled(run: Run) -> None:
    results = [result.model_copy(deep=True) for result in run.results]
    for result in results:
        result.metrics = {name: found for name, found in result.metrics.items() if not found.estimated}
    measured_only = run.model_copy(update={"results": results})
    assert "modelled: no verdict rests on it" in page(run).lines()
    assert "modelled: no verdict rests on it" not in page(measured_only).lines()


def test_columns_are_known_metrics() -> None:
    others = {"points", "verdict", "faster", "standing"}
    assert set(html.COLUMNS) - others <= set(METRICS)


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_colours_contrast_in_every_theme() -> None:
    style = files("reports").joinpath("report.css").read_text(encoding="utf-8")
    themes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w+);", theme))
        for text in ("ink", "quiet", "accent", "loss"):
            for ground in ("paper", "raised"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["faint"], colours["paper"]) >= 3
