"""The profile as a reader has it: bars to one scale on any screen, told apart without colour or script."""

from __future__ import annotations

import pytest

from bench.nouns.run import Run
from tests.browser.conftest import Open
from tests.browser.test_report import DESK, PHONE
from tests.reports.profiles import PROFILES, profiled
from tests.reports.test_html import CHOICES


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_bars_are_as_long_as_their_batches_and_nothing_is_wider_than_the_screen(
    run: Run, open_page: Open, size: dict[str, int]
) -> None:
    page = open_page(profiled(run), CHOICES, viewport=size, java_script_enabled=False)
    widths = page.eval_on_selector_all(
        ".stack",
        "all => all.map(e => [...e.querySelectorAll('rect')]"
        ".reduce((sum, part) => sum + part.getBoundingClientRect().width, 0))",
    )
    times = [PROFILES[name].time for name in ("dense", "bmp25", "bmp25+kd+mp", "mp")]
    assert [width / max(widths) for width in widths] == pytest.approx(
        [t / max(times) for t in times], abs=0.05
    )
    for summary in page.locator("#profile > details > summary").all():
        summary.click()
    assert page.locator(".roofline .wide").first.is_visible() == (size is DESK)
    assert page.locator(".roofline .narrow").first.is_visible() == (size is PHONE)
    page.locator("#profile > details > details > summary").first.click()
    assert page.locator("#profile table", has_text="Time, dense").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_parts_of_a_bar_are_told_apart_without_colour(run: Run, open_page: Open, scheme: str) -> None:
    page = open_page(profiled(run), CHOICES, viewport=DESK, color_scheme=scheme)
    fills = page.eval_on_selector_all(
        ".stack:first-of-type rect", "all => all.map(e => getComputedStyle(e).fill + e.classList[1])"
    )
    patterns = {fill.partition(")")[0] for fill in fills if "url" in fill}
    assert len(patterns) == 3
    ids = page.eval_on_selector_all(".patterns pattern", "all => all.map(e => e.id)")
    assert {pattern.partition("#")[2].strip('"') for pattern in patterns} == set(ids)


def test_a_bar_and_a_roofline_are_read_aloud(run: Run, open_page: Open) -> None:
    page = open_page(profiled(run), CHOICES, viewport=DESK)
    page.locator("#profile > details > summary").first.click()
    bar = page.get_by_role("img", name="dense, 43.1 ms a batch: embeddings 3 %").first
    assert bar.is_visible()
    assert page.get_by_role("img", name="Roofline: copy: 9.13 GB/s").first.is_visible()
    page.emulate_media(media="print")
    assert page.locator(".roofline svg:visible").count() > 0
