"""Fields in a browser: from the contact sheet to the field, coloured by a concept, to a cell and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.browser import NAMELESS, NEEDED, Server, until
from support.smears import smear_study

pytestmark = NEEDED


@pytest.fixture(scope="module")
def smears(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(smear_study(tmp_path_factory.mktemp("smears")))
    yield running
    running.kill()


def test_from_the_contact_sheet_to_a_cell_and_back(smears: Server, tab: Callable[..., Any]) -> None:
    page = tab()
    page.goto(f"{smears.url}#/patient/P1")
    page.get_by_role("link", name="Show fields").click()
    page.wait_for_selector("li img")
    assert page.locator("li img").count() == 2
    assert not page.evaluate(NAMELESS)
    page.locator("li a").first.click()
    field = smears.ask("fields/smear/2")
    page.wait_for_selector("svg rect.cell")
    assert page.locator("rect.cell").count() == field["cells"]
    assert page.locator("rect.refused").count() == field["rejected"]
    shown = page.locator("[data-reasons] li").all_inner_texts()
    assert len(shown) == len({one["reason"].split(":")[0] for one in field["refused"]})
    page.get_by_label("Show what was rejected").uncheck()
    until(page, "() => !document.querySelector('rect.refused')")
    colours = "() => new Set([...document.querySelectorAll('rect.cell')].map(e => getComputedStyle(e).stroke)).size"
    assert page.evaluate(colours) == 1
    latent = field["concepts"][0]["latent"]
    page.locator("tbody button").first.click()
    until(page, f"({colours})() > 1")
    counts = {one["count"] for one in smears.ask(f"fields/smear/2?latent={latent}")["objects"]}
    assert page.evaluate(colours) == len(counts)
    assert not page.evaluate(NAMELESS)
    row = field["objects"][0]["row"]
    page.locator("svg a").first.click()
    page.wait_for_url(f"**#/cell/smear/{row}?latent={latent}")
    page.get_by_role("link", name="Field slide 2.png").click()
    page.wait_for_selector("rect.marked")
    assert page.locator("rect.marked").count() == 1


def test_screenshots_in_light_and_dark(smears: Server, tab: Callable[..., Any], tmp_path: Path) -> None:
    for scheme in ("light", "dark"):
        page = tab(color_scheme=scheme)
        for name, view in {"fields": "#/fields/smear", "field": "#/field/smear/2", "cell": "#/cell/smear/3"}.items():
            page.goto(smears.url + view)
            page.wait_for_selector("img, image")
            until(page, "() => [...document.images].every(i => i.complete)")
            page.wait_for_timeout(300)
            assert not page.faults
            page.screenshot(path=str(tmp_path / f"explorer-{name}-{scheme}.png"))
