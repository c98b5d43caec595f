"""Marks on the images of a concept and of a worklist, in a real browser: by click, by box and by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.browser import NAMELESS, NEEDED, Server, until
from support.studies import SET

pytestmark = NEEDED
GRID = 16


def cells_of(server: Server, latent: int, kind: str = "reference") -> list[int]:
    return [cell["row"] for cell in server.ask(f"latents/{SET}/{latent}/images/{kind}")["cells"]]


def image(page: Any, row: int) -> Any:
    return page.locator(f"[data-marked-cell='{SET}/{row}'] [data-patches]").first


def at(page: Any, row: int, patch: int) -> tuple[float, float]:
    image(page, row).scroll_into_view_if_needed()
    box = image(page, row).bounding_box()
    return (
        box["x"] + (patch % GRID + 0.5) * box["width"] / GRID,
        box["y"] + (patch // GRID + 0.5) * box["height"] / GRID,
    )


def marked(page: Any, row: int, patch: int | str, mark: str) -> None:
    place = f"[data-marked-cell='{SET}/{row}'] [data-mark={mark}][data-at='{patch}'][data-other=false]"
    page.locator(place).first.wait_for(state="attached")


def kept_nothing(page: Any) -> None:
    until(page, "!Object.keys(localStorage).some(key => key.startsWith('cytosae:mark:'))")


def stored(server: Server, concept: str) -> set[tuple[Any, ...]]:
    return {(one["row"], one["patch"], one["mark"]) for one in server.ask(f"marks?concept={concept}")}


def test_marks_in_the_gallery_of_a_concept(server: Server, tab: Callable[..., Any], concepts: list[int]) -> None:
    latent = concepts[0]
    first, second = cells_of(server, latent)[:2]
    page = tab("Gil", color_scheme="dark")
    page.goto(f"{server.url}#/concept/{SET}/{latent}")
    page.wait_for_selector(".grid img")
    page.keyboard.press("t")
    page.locator("[data-teach-name]").fill("halo")
    page.locator("[data-teach-name]").press("Enter")
    until(page, "location.hash.includes('teach=halo')")
    page.mouse.click(*at(page, first, 119))
    marked(page, first, 119, "this")
    page.mouse.move(*at(page, second, 17))
    page.mouse.down()
    page.mouse.move(*at(page, second, 34), steps=3)
    page.mouse.up()
    for patch in (17, 18, 33, 34):
        marked(page, second, patch, "this")
    page.locator("h1").first.click()
    page.keyboard.press("p")  # the first image
    page.keyboard.press("ArrowDown")  # its middle: the pin went with the focus
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    marked(page, first, 136, "not")
    page.keyboard.press("w")
    marked(page, first, "cell", "this")
    kept_nothing(page)
    boxed = {(second, patch, "this") for patch in (17, 18, 33, 34)}
    wanted = boxed | {(first, 119, "this"), (first, 136, "not"), (first, None, "this")}
    assert stored(server, "halo") == wanted
    until(page, "document.querySelector('[data-count=this]')?.textContent === '6'")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate("document.querySelector('main').scrollWidth <= innerWidth")
    page.reload()  # the marks are the server's
    marked(page, first, 119, "this")
    page.locator("h1").first.click()
    page.keyboard.press("j")  # the next concept is looked at, the same is taught
    until(page, f"!location.hash.includes('/{latent}?') && location.hash.includes('teach=halo')")
    page.keyboard.press("t")
    page.wait_for_selector("[data-teach-name]", state="detached")
    assert page.locator("[data-marked-cell]").count() == 0
    assert page.faults == []


def test_marks_in_a_blind_worklist_beside_the_verdict(
    server: Server, tab: Callable[..., Any], concepts: list[int]
) -> None:
    latent = concepts[0]
    row = cells_of(server, latent)[0]
    blind = server.worklist("Blind", concepts[:2], blind_labels=True, blind_raters=True)["id"]
    page, other = tab("Hal"), tab("Ivy")
    for one in (page, other):
        one.goto(f"{server.url}#/annotate/{blind}/0?teach=rim")
        one.wait_for_selector("[data-marked-cell] img")
    page.mouse.click(*at(page, row, 40))
    marked(page, row, 40, "this")
    page.locator("h1").first.click()
    page.keyboard.press("w")
    page.wait_for_selector("[role=alert]")  # of which image?
    page.keyboard.press("1")  # the verdict has its keys as before
    page.wait_for_selector("[data-saved=saved]")
    kept_nothing(page)
    assert stored(server, "rim") == {(row, 40, "this")}
    other.reload()
    other.wait_for_selector("[data-marked-cell] img")
    other.wait_for_load_state("networkidle")
    assert other.locator("[data-mark]").count() == 0  # raters are hidden from each other
    assert "rim" not in other.locator("#taught").inner_html()
    for one in (page, other):
        text = one.locator("[aria-label=Images]").inner_html()
        assert "#/cell/" not in text  # a cell's page tells what it is
        assert one.evaluate(NAMELESS) == []
        assert one.faults == []
    page.keyboard.press("Enter")
    until(page, f"location.hash.startsWith('#/annotate/{blind}/1') && location.hash.includes('teach=rim')")
