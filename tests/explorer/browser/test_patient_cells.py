"""The classifier that an expert edits, and the cells of one patient, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.browser import NAMELESS, NEEDED, Server, until
from support.studies import SET

pytestmark = NEEDED


def figures(page: Any) -> list[str]:
    return page.locator("section[aria-label=Figures] tbody tr").first.locator("td").all_inner_texts()


def expected(answer: dict[str, Any]) -> list[str]:
    before, after = (answer[kind]["weighted_f1"] for kind in ("before", "after"))
    texts = [[f"{one['value']:.2f}", f"{one['low']:.2f} to {one['high']:.2f}"] for one in (before, after)]
    return ["Weighted F1", *texts[0], *texts[1]]


def test_a_classifier_is_edited(server: Server, tab: Callable[..., Any]) -> None:
    whole = server.ask("classifier")
    first, second = (one["latent"] for one in whole["concepts"][:2])
    for scheme, width in (("light", 1280), ("dark", 1024)):
        page = tab("AB", width, 640, color_scheme=scheme)
        page.goto(f"{server.url}#/classifier")
        page.wait_for_selector("section[aria-label=Figures] tbody tr")
        assert figures(page) == expected(whole)
        page.get_by_label(f"Use concept {first}", exact=True).uncheck()
        until(page, f"location.hash.endsWith('without={first}')")
        page.get_by_role("heading", name="Without 1 concept").wait_for()
        assert figures(page) == expected(server.ask(f"classifier?without={first}"))
        page.get_by_label("Strike out").fill(str(second))
        page.get_by_label("Strike out").press("Enter")
        page.get_by_role("heading", name="Without 2 concepts").wait_for()
        both = server.ask(f"classifier?without={','.join(map(str, sorted((first, second))))}")
        assert figures(page) == expected(both)
        changed = [
            one["patient"]
            for one in both["patients"]
            if (one["before"]["predicted"], one["before"]["set"]) != (one["after"]["predicted"], one["after"]["set"])
        ]
        assert page.locator("section[aria-label=Patients] tbody tr").count() == len(changed)
        page.reload()  # the address has what is struck out
        page.get_by_role("heading", name="Without 2 concepts").wait_for()
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate("document.querySelector('main').scrollWidth <= innerWidth")
        page.get_by_role("button", name="Restore all 2").click()
        page.get_by_role("heading", name="With all concepts").wait_for()
        assert figures(page) == expected(whole)
        assert page.faults == []


def test_cells_of_a_patient(server: Server, tab: Callable[..., Any], concepts: list[int]) -> None:
    latent = concepts[0]
    page = tab("AB", color_scheme="dark")
    page.goto(f"{server.url}#/patient/P003?against=healthy")
    field = page.get_by_label("Concept", exact=True)
    field.wait_for()
    field.fill(str(latent))
    field.press("Enter")
    until(page, f"location.hash.includes('shows={latent}')")
    cells = page.locator("section[aria-label='Cells that show a concept']")
    answer = server.ask(f"patients/P003/concepts/{latent}?against=healthy")
    text = f"{len(answer['cells'])} of {answer['n_cells']} cells"
    cells.get_by_text(text).wait_for()
    shown = cells.locator("li a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert shown == [f"#/cell/{SET}/{one['row']}?latent={latent}" for one in answer["cells"][:30]]
    odd = server.ask("patients/P003/unfamiliar")["unlike"]
    far = page.locator("section[aria-label='Cells unlike those of any other patient']")
    far.get_by_text(f"{len(odd['cells'])} of {odd['n_cells']} cells").wait_for()
    rows = far.locator("li a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert rows == [f"#/cell/{SET}/{one['row']}" for one in odd["cells"]]
    assert page.evaluate(NAMELESS) == []
    assert page.faults == []
    page.goto(f"{server.url}#/patient/P003?shows=99999")
    cells.get_by_role("alert").wait_for()
