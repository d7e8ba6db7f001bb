"""The page as a reader has it: on phone, desk and paper, in the dark, by keyboard, without script."""

from __future__ import annotations

from typing import Any

import pytest

from bench.nouns.run import Run
from bench.nouns.verdict import Choice
from reports.parts import plain
from tests.browser.conftest import Open
from tests.reports.test_html import CHOICES, HOSTILE, choices_of, detailed, named
from tests.reports.test_markdown import hostile

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
BEST = "bmp25+kd+mp"


def recommended(page: Any) -> set[str]:
    """The variants that are marked in the pictures; those in the table are the same."""
    labels = page.eval_on_selector_all("a.point.recommended", "all => all.map(e => e.ariaLabel)")
    rows = page.locator("tr.recommended").count()
    assert bool(labels) == bool(rows)
    return {label.rpartition(": Speedup over dense")[0] for label in labels} - {""}


def column(page: Any, number: int) -> list[str]:
    """The cells of the sortable table's column, from the top."""
    texts: list[str] = page.eval_on_selector_all(
        f"#sortable tbody tr > :nth-child({number})", "all => all.map(e => e.innerText.trim())"
    )
    return texts


def speedups(page: Any) -> list[float]:
    """What the rows are sorted by in the column of the speed-up, absent ones left out."""
    heads = page.locator("#sortable thead th").all_inner_texts()
    place = next(number for number, head in enumerate(heads, start=1) if head.startswith("Speedup"))
    keys = page.eval_on_selector_all(
        f"#sortable tbody tr > :nth-child({place})", "all => all.map(e => e.dataset.key)"
    )
    return [float(key) for key in keys if key]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_is_wider_than_the_screen(
    sixteen: Run, open_page: Open, size: dict[str, int], scheme: str
) -> None:
    page = open_page(detailed(sixteen), choices_of(sixteen), viewport=size, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    wide, narrow = page.locator(".scatter.wide").first, page.locator(".scatter.narrow").first
    assert wide.is_visible() == (size is DESK)
    assert narrow.is_visible() == (size is PHONE)


def test_light_and_dark_differ(run: Run, open_page: Open) -> None:
    grounds = {
        open_page(run, CHOICES, color_scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    assert len(grounds) == 2


def test_the_budget_moves_sentence_mark_and_line(run: Run, open_page: Open) -> None:
    page = open_page(run, CHOICES, viewport=DESK)
    assert recommended(page) == {BEST}
    line = page.locator(".scatter.wide .budget").first
    before, closing = line.bounding_box()["y"], page.locator("#closing").inner_text()

    page.fill("#budget", "4.5")
    assert recommended(page) == {"bmp:amount=0.4,block=16+kd:layers=2"}
    assert "3.42 ± 0.14 times faster" in page.locator("#closing").inner_text()
    assert page.input_value("#budget-slider") == "4.5"
    assert line.text_content().strip().endswith("−4.5")
    assert page.locator(".scatter.wide .limit").first.bounding_box()["y"] > before

    page.fill("#budget", "0")
    assert recommended(page) == set()
    assert page.locator("#closing").inner_text().startswith("No variant")

    page.fill("#budget", "1")
    assert recommended(page) == {BEST}
    assert page.locator("#closing").inner_text() == closing


def test_a_budget_between_two_tenths_counts_as_the_lower_and_is_shown_so(run: Run, open_page: Open) -> None:
    choices = [
        Choice(margin=0.0, variant=None),
        Choice(margin=0.005, variant="bmp25"),
        Choice(margin=0.0055, variant=BEST),
    ]
    page = open_page(run, choices, viewport=DESK)
    page.locator("#budget").fill("0.55")
    page.locator("#budget").blur()
    assert recommended(page) == {"bmp25"}
    assert page.locator(".scatter.wide .budget").first.text_content().strip().endswith("−0.5")
    assert page.input_value("#budget-slider") == page.input_value("#budget") == "0.5"
    page.locator("#budget").fill("2.3")
    assert page.input_value("#budget-slider") == "2.3"


def test_what_is_no_budget_changes_nothing(run: Run, open_page: Open) -> None:
    page = open_page(run, CHOICES)
    for text in ("", "-3", "11", "1e9"):
        page.fill("#budget", text)
        assert recommended(page) == {BEST}
        assert page.input_value("#budget-slider") == "1"


def test_the_slider_goes_by_keyboard(run: Run, open_page: Open) -> None:
    page = open_page(run, CHOICES)
    page.focus("#budget-slider")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.input_value("#budget") == "0.8"
    assert recommended(page) == {"bmp25"}


def test_a_column_is_sorted_by_keyboard(run: Run, open_page: Open) -> None:
    page = open_page(run, CHOICES, viewport=DESK)
    head = page.locator("#sortable th", has_text="Speedup")
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    values = speedups(page)
    assert values == sorted(values, reverse=True)
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert speedups(page) == sorted(values)
    assert {column(page, 1)[-1], column(page, 1)[-2]} == {"onnx+int8 failed", "fisher50 skipped"}
    names = page.locator("#sortable th button", has_text="Variant")
    names.press("Enter")
    assert page.locator("#sortable [aria-sort]").count() == 1
    upwards = column(page, 1)
    assert upwards.index("dense") < upwards.index("mp") < upwards.index("onnx+int8 failed")
    names.press("Enter")
    assert column(page, 1) == upwards[::-1]


def test_another_axis_by_keyboard(run: Run, open_page: Open) -> None:
    page = open_page(run, CHOICES, viewport=DESK)
    assert page.locator(".scatter:visible").count() == 1
    page.focus("#axis-speedup")
    page.keyboard.press("ArrowRight")
    assert page.locator(".scatter:visible").get_attribute("aria-label").endswith("At same precision")
    assert page.locator(".scatter:visible").count() == 1


def test_a_point_leads_to_its_variant(run: Run, open_page: Open) -> None:
    page = open_page(detailed(run), CHOICES, viewport=DESK)
    own = page.locator("details.variant", has_text=BEST).first
    assert not own.locator("dl").is_visible()
    page.locator(".scatter:visible a.recommended").focus()
    page.keyboard.press("Enter")
    own.locator("dl").wait_for(state="visible")


def test_everything_to_act_on_can_be_reached_and_is_seen_to_be(run: Run, open_page: Open) -> None:
    page = open_page(run, CHOICES, viewport=DESK)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"budget-slider", "budget", "axis-speedup", "a", "BUTTON"} <= seen


def test_the_command_is_copied(run: Run, open_page: Open) -> None:
    page = open_page(run, CHOICES, permissions=["clipboard-read", "clipboard-write"])
    page.locator("#copy").press("Enter")
    page.locator("#copied", has_text="Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == run.config.command


def test_without_a_clipboard_the_command_is_selected(run: Run, open_page: Open) -> None:
    page = open_page(run, CHOICES)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.locator("#copy").press("Enter")
    page.locator("#copied", has_text="Selected").wait_for()
    assert page.evaluate("String(getSelection())") == run.config.command


def test_without_script_all_figures_are_there(run: Run, open_page: Open) -> None:
    page = open_page(detailed(run), CHOICES, viewport=DESK, java_script_enabled=False)
    assert page.locator(".scatter:visible").count() == 1
    assert page.locator("#sortable").is_visible()
    assert page.locator("#closing").inner_text().startswith(BEST)
    assert not page.locator("#control").is_visible()
    assert not page.locator("#copy").is_visible()
    assert page.locator("#sortable button").count() == 0
    page.click("label[for=axis-disk_size]")
    assert page.locator(".scatter:visible").get_attribute("aria-label").endswith("Weights on disk")


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_is_inert(run: Run, open_page: Open, text: str) -> None:
    page = open_page(hostile(run, text), named(text), viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.locator("img, script:not([type])").count() == 1
    page.fill("#budget", "0.5")
    assert recommended(page) == {plain(f"bmp25{text}")}


def test_paper_shows_what_is_folded_away(run: Run, open_page: Open) -> None:
    page = open_page(detailed(run), CHOICES, viewport=DESK, color_scheme="dark")
    artifact = page.locator("details.variant dl").first
    assert not artifact.is_visible()
    page.emulate_media(media="print")
    assert artifact.bounding_box()["height"] > 0
    assert not page.locator("nav").is_visible()
    assert not page.locator("#control").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    sticky = (
        "[...document.querySelectorAll('*')].filter(e => getComputedStyle(e).position === 'sticky').length"
    )
    assert page.evaluate(sticky) == 0


def test_seeds_and_runs_with_little_in_them_open(seeded: Run, open_page: Open) -> None:
    open_page(seeded, choices_of(seeded), viewport=PHONE)
    page = open_page(seeded.model_copy(update={"results": [], "status": "interrupted"}), [], viewport=PHONE)
    assert page.locator("#variants").inner_text().endswith("No variant is in this run yet.")
