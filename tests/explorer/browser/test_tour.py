"""The guided first look: offered once, five stops by keyboard, left and remembered; terms say what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.browser import NAMELESS, NEEDED, Server, until

pytestmark = NEEDED
STOPS = [
    ("What a concept is", "#/concept/", "article ul.grid"),
    ("A patch", "#/cell/", "section[aria-label='Patch']"),
    ("A patient", "#/patient/", "section.card"),
    ("Two diseases", "#/compare/", "table"),
    ("Teach one", "#/cell/", "button[data-teach]"),
]


def test_the_tour_by_keyboard(server: Server, tab: Callable[..., Any]) -> None:
    page = tab("AB", 1024, 640)
    page.goto(server.url)
    page.wait_for_selector("text=New here?")
    page.focus("[data-next]")
    for number, (title, address, target) in enumerate(STOPS, start=1):
        page.keyboard.press("Enter")
        page.wait_for_selector(f"[data-tour] b:text-is('{title}')")
        until(page, f"location.hash.startsWith('{address}')")
        page.wait_for_selector(f"{target}[data-tour-target]")
        assert page.locator("[data-tour] .num").inner_text() == f"{number} of 5"
        assert page.locator("[data-tour-target]").count() == 1
        # The focus stays where the tour goes on, and nothing is covered.
        assert page.evaluate("document.activeElement.hasAttribute('data-next')")
        tour, main = (page.locator(where).bounding_box() for where in ("[data-tour]", "main"))
        assert tour["y"] + tour["height"] <= main["y"] + 1
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate("document.querySelector('main').scrollWidth <= innerWidth")
    page.reload()  # where it was is remembered
    page.wait_for_selector("[data-tour] b:text-is('Teach one')")
    page.click("[data-next]")
    until(page, "!document.querySelector('[data-tour]')")
    assert page.locator("[data-tour-target]").count() == 0
    page.reload()
    page.wait_for_selector("main h1")
    assert page.locator("[data-tour]").count() == 0
    page.keyboard.press("G")
    page.wait_for_selector("[data-tour] b:text-is('What a concept is')")
    assert page.faults == []


def test_declined_it_stays_away(server: Server, tab: Callable[..., Any]) -> None:
    page = tab("AB")
    page.goto(server.url)
    page.click("text=No, thanks")
    page.wait_for_selector(".item")
    page.reload()
    page.wait_for_selector(".item")
    assert page.locator("[data-tour]").count() == 0


def test_a_term_is_explained_by_keyboard(server: Server, tab: Callable[..., Any]) -> None:
    page = tab("AB")
    page.goto(server.url)
    page.click("text=Take the tour")
    term = page.locator("[data-tour] .term", has_text="concept map")
    term.wait_for()
    meaning = term.locator("[role=tooltip]")
    assert not meaning.is_visible()
    for _ in range(12):  # backwards from the button, which has the focus
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.textContent") == "concept map":
            break
    assert meaning.is_visible()
    assert "activation of a concept in each patch" in meaning.inner_text()
    described = page.evaluate("document.activeElement.getAttribute('aria-describedby')")
    assert described == meaning.get_attribute("id")
