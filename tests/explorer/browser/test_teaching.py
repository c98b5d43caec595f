"""Teaching a concept in a real browser, on the real server: by mouse, by keyboard, and while the server is killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.browser import NAMELESS, NEEDED, Server, until
from support.studies import SET

pytestmark = NEEDED
GRID = 16


def opened(page: Any, server: Server, row: int, concept: str) -> None:
    page.goto(f"{server.url}#/cell/{SET}/{row}?teach={concept}")
    page.wait_for_selector("[data-patches] img")


def at(page: Any, patch: int) -> tuple[float, float]:
    box = page.locator("[data-patches]").bounding_box()
    return (
        box["x"] + (patch % GRID + 0.5) * box["width"] / GRID,
        box["y"] + (patch // GRID + 0.5) * box["height"] / GRID,
    )


def marked(page: Any, patch: int | str, mark: str) -> None:
    page.wait_for_selector(f"[data-mark={mark}][data-at='{patch}'][data-other=false]", state="attached")


def stored(server: Server, concept: str) -> set[tuple[Any, ...]]:
    found = server.ask(f"marks?concept={concept}")
    return {(one["row"], one["patch"], one["mark"], one["rater"]) for one in found}


def kept_nothing(page: Any) -> None:
    until(page, "!Object.keys(localStorage).some(key => key.startsWith('cytosae:mark:'))")


def test_a_concept_is_taught_by_mouse_and_its_map_appears(server: Server, tab: Callable[..., Any]) -> None:
    page = tab("Anna")
    page.goto(f"{server.url}#/cell/{SET}/5")
    page.get_by_role("button", name="Teach", exact=True).click()
    page.locator("[data-teach-name]").fill("nucleus")
    page.locator("[data-teach-name]").press("Enter")
    page.wait_for_selector("[data-whole=none]")
    page.mouse.click(*at(page, 119))
    marked(page, 119, "this")
    page.wait_for_selector("[data-taught-map]")  # learned from one mark
    assert page.locator("[data-patches] canvas").count() == 1
    page.mouse.click(*at(page, 0))
    marked(page, 0, "this")
    page.mouse.click(*at(page, 0))
    marked(page, 0, "not")
    page.mouse.move(*at(page, 17))
    page.mouse.down()
    page.mouse.move(*at(page, 34), steps=3)
    page.mouse.up()
    for patch in (17, 18, 33, 34):
        marked(page, patch, "this")
    page.mouse.click(*at(page, 18))
    page.mouse.click(*at(page, 18))
    page.wait_for_selector("[data-at='18']", state="detached")
    until(page, "document.querySelector('[data-count=this]').textContent === '4'")
    kept_nothing(page)
    wanted = {(5, patch, "not" if patch == 0 else "this", "Anna") for patch in (119, 0, 17, 33, 34)}
    assert stored(server, "nucleus") == wanted
    page.mouse.move(*at(page, 200))
    page.mouse.down()
    page.mouse.move(*at(page, 219), steps=3)
    page.keyboard.press("Escape")  # the box is not marked
    page.mouse.up()
    page.keyboard.press("t")
    page.wait_for_selector("[data-whole]", state="detached")
    page.keyboard.press("t")  # the same concept goes on
    until(page, "document.querySelector('[data-teach-name]')?.value === 'nucleus'")
    page.locator("[data-teach-name]").fill("")
    assert page.locator("[data-teach-name]").input_value() == ""
    page.locator("[data-teach-name]").press("Enter")  # no concept, until one is named
    page.wait_for_selector("[data-whole]", state="detached")
    page.locator("[data-teach-name]").fill("nucleus")
    page.locator("[data-teach-name]").press("Enter")
    until(page, "document.querySelector('[data-count=this]')?.textContent === '4'")
    assert stored(server, "nucleus") == wanted
    page.get_by_role("button", name="Next cell to mark").click()
    until(page, f"!location.hash.startsWith('#/cell/{SET}/5?')")
    page.wait_for_selector("[data-patches] img")
    page.mouse.click(*at(page, 120))
    page.wait_for_selector("[data-figure=AUROC]")  # two patients: held out
    assert page.evaluate(NAMELESS) == []
    page.goto(f"{server.url}#/teach")
    page.wait_for_selector("[data-concept=nucleus]")
    page.wait_for_selector("[data-figure=AUROC]")
    assert page.evaluate(NAMELESS) == []
    ben = tab("Ben")
    opened(ben, server, 5, "nucleus")
    ben.wait_for_selector("[data-at='119'][data-other=true]", state="attached")
    assert page.faults == []
    assert ben.faults == []


def test_marks_by_keyboard_while_the_server_is_killed(server: Server, tab: Callable[..., Any]) -> None:
    page = tab("Ute")
    opened(page, server, 7, "rod")
    page.keyboard.press("p")
    page.keyboard.press("ArrowDown")  # from the middle
    page.keyboard.press("Space")
    marked(page, 136, "this")
    kept_nothing(page)
    server.kill()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    marked(page, 137, "this")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    marked(page, 121, "not")
    page.keyboard.press("w")
    page.wait_for_selector("[data-whole=this]")
    page.wait_for_selector("[data-saved=waiting]")
    context = page.context
    page.close(run_before_unload=False)
    server.start()
    page = context.new_page()
    page.goto(f"{server.url}#/teach")
    kept_nothing(page)
    assert stored(server, "rod") == {
        (7, 136, "this", "Ute"),
        (7, 137, "this", "Ute"),
        (7, 121, "not", "Ute"),
        (7, None, "this", "Ute"),
    }
    assert [one["mark"] for one in server.ask("marks/history?concept=rod") if one["patch"] == 121] == ["this", "not"]


@pytest.mark.slow
def test_two_raters_teach_at_once(server: Server, tab: Callable[..., Any]) -> None:
    pages = {rater: tab(rater) for rater in ("Ann", "Bob")}
    for page in pages.values():
        opened(page, server, 9, "both")
    for patch in (40, 41, 42):
        for rater, page in pages.items():
            page.mouse.click(*at(page, patch))
            marked(page, patch, "this")
            if rater == "Bob" and patch == 41:
                page.mouse.click(*at(page, patch))
                marked(page, patch, "not")
    for page in pages.values():
        kept_nothing(page)
        assert page.faults == []
    (listed,) = [one for one in server.ask("marks/concepts") if one["concept"] == "both"]
    assert listed["raters"] == {"Ann": 3, "Bob": 3}
    assert [(one["n"], one["same"]) for one in listed["agreement"]] == [(3, 2)]
    page = pages["Ann"]
    page.goto(f"{server.url}#/teach?concept=both")
    page.get_by_text("Ann and Bob agree on 2 of 3 places").wait_for()
