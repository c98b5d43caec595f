"""New questions in a browser: words in lists, similar cells, regions, changed concepts, folds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae.concepts.description import write_proposals
from support.browser import NAMELESS, NEEDED, Server
from support.studies import SET

pytestmark = NEEDED


def test_lists_have_words_and_a_fold(server: Server, tab: Callable[..., Any]) -> None:
    sentences = server.ask(f"descriptions/{SET}")
    page = tab("AB", 1280, 720)
    page.goto(server.url + f"#/concepts/{SET}")
    page.wait_for_selector(".item")
    page.wait_for_load_state("networkidle")
    shown = page.locator(".item .facts").all_inner_texts()
    assert any(text in shown for text in sentences.values() if text != "nothing known")
    before = page.locator("aside [role=status]").inner_text()
    page.get_by_label("of surroundings, place or stain").check()
    page.wait_for_function("before => document.querySelector('aside [role=status]').innerText !== before", arg=before)
    page.get_by_label("Search by number").fill("zzz no such words")
    page.get_by_role("button", name="Clear the filters").click()
    page.wait_for_selector(".item")
    assert page.faults == []


def test_an_outline_in_place_of_colours(server: Server, tab: Callable[..., Any], concepts: list[int]) -> None:
    page = tab("AB", 1280, 800)
    page.goto(server.url + f"#/concept/{SET}/{concepts[0]}")
    page.wait_for_selector(".grid canvas")
    assert page.locator("[data-border]").count() == 0
    page.keyboard.press("b")
    page.wait_for_selector(".grid [data-border]")
    assert "outlined: activation above 0.2" in page.locator("[aria-label='Concept map'] .key").inner_text()
    assert page.locator(".grid [data-border] path").first.get_attribute("d").startswith("M")
    assert page.locator(".grid canvas").first.evaluate("canvas => canvas.style.opacity") == "0"
    page.keyboard.press("o")
    page.wait_for_function("!document.querySelector('[data-border]')")
    page.keyboard.press("o")
    page.keyboard.press("b")
    page.get_by_label("each its own scale").check()
    page.wait_for_selector("[aria-label='Concept map'] .key >> text=largest of each image")
    assert page.faults == []


def test_a_cell_is_asked_for_its_like_a_region_and_a_change(
    server: Server, tab: Callable[..., Any], concepts: list[int]
) -> None:
    for scheme in ("light", "dark"):
        page = tab("AB", 1280, 800, color_scheme=scheme)
        page.goto(server.url + f"#/cell/{SET}/5?latent={concepts[0]}")
        page.wait_for_selector("[data-change] table")
        assert "removed" in page.locator("[data-factor]").inner_text()
        page.locator("[data-change] input[type=range]").fill("3")
        page.locator("[data-change] input[type=range]").dispatch_event("change")
        page.wait_for_selector("text=3 times")
        page.get_by_role("button", name="Similar cells").click()
        page.wait_for_selector("[data-similar] li img")
        page.get_by_role("button", name="Choose a region").click()
        page.locator("[data-patches]").scroll_into_view_if_needed()
        box = page.locator("[data-patches]").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + box["width"] / 8, y + box["height"] / 8)
        page.mouse.up()
        page.wait_for_selector("text=patches have in common")
        assert "region=" in page.url
        page.get_by_role("button", name="Clear the region").click()
        page.wait_for_selector("text=Similar cells")
        assert page.evaluate(NAMELESS) == []
        assert page.faults == []


def test_the_scale_of_a_cell_is_its_own_or_that_of_the_data_set(
    server: Server, tab: Callable[..., Any], concepts: list[int]
) -> None:
    strongest = """() => Math.max(...[...document.querySelectorAll('[data-patches] canvas')].flatMap(c =>
        [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 3)))"""
    cells = server.ask(f"latents/{SET}/{concepts[0]}/images/reference")
    weak = cells["cells"][-1]["row"]
    top = server.ask(f"cells/{SET}/{weak}/maps/{concepts[0]}")["top"]
    assert 0 < top < cells["top"]
    page = tab("AB", 1280, 800)
    page.goto(server.url + f"#/cell/{SET}/{weak}?latent={concepts[0]}")
    key = page.locator("[aria-label='Concept map'] .key")
    page.wait_for_selector("[aria-label='Concept map'] .key >> text=largest of this image")
    page.wait_for_selector("[data-patches] canvas")
    page.get_by_label("smooth").uncheck()
    page.wait_for_function(f"({strongest})() === 255")
    page.get_by_label("scale of the data set").check()
    page.wait_for_function(f"({strongest})() === {round(255 * top / cells['top'])}")
    assert "largest of the reference images" in key.inner_text()
    page.get_by_label("scale of the data set").uncheck()
    page.wait_for_function(f"({strongest})() === 255")
    assert page.evaluate(NAMELESS) == []
    assert page.faults == []


def test_a_concept_says_what_its_removal_does(server: Server, tab: Callable[..., Any], concepts: list[int]) -> None:
    said = server.ask(f"effects/{SET}/{concepts[0]}")
    page = tab("AB", 1280, 800)
    page.goto(server.url + f"#/concept/{SET}/{concepts[0]}")
    page.locator("[data-effects] summary").click()
    page.wait_for_selector("[data-effects] table")
    rows = page.locator("[data-effects] tbody tr").all_inner_texts()
    assert len(rows) == 2
    for row, one in zip(rows, (said["cells"], said["patients"]), strict=True):
        assert one["by"] in row
        assert f"over {one['over']}" in row
    assert page.evaluate(NAMELESS) == []
    assert page.faults == []


def test_what_a_model_proposes_stands_under_the_facts(
    study: Path, tab: Callable[..., Any], concepts: list[int], tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(study, tmp_path / "study"))
    said = {"dataset": SET, "model": "a model", "model_sha256": "0" * 64}
    rows = [
        {
            "latent": concepts[0],
            "phrase": "<b>granules</b>",
            "names": "look: grain",
            "detection": 0.61,
            "shuffled": 0.5,
        },
        {"latent": concepts[1], "phrase": "nice", "names": "", "detection": np.nan, "shuffled": np.nan},
    ]
    write_proposals(copied, pd.DataFrame([{**said, **row} for row in rows]), {}, "0" * 64)
    server = Server(copied)
    try:
        page = tab("AB", 1280, 800)
        for latent, expected in zip(
            concepts, ("“<b>granules</b>”. Named: look: grain. On unseen", "not scored"), strict=False
        ):
            page.goto(server.url + f"#/concept/{SET}/{latent}")
            page.wait_for_selector(f"article[aria-label='Concept {latent}']")
            page.locator(".shows summary").click()
            assert expected in page.locator("[data-proposed]").inner_text()
        assert page.faults == []
    finally:
        server.kill()
