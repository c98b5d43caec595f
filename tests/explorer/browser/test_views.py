"""The explorer in a real browser, on the real server: every view, patches, own images."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cytosae.artefacts import Manifest
from cytosae.cells.table import read_cells
from cytosae.concepts import read_concepts, read_inputs
from cytosae.sae import SAE
from cytosae.tokens import TokenStore
from support.browser import ARGUMENTS, CHROMIUM, NAMELESS, NEEDED, Server, until
from support.studies import SET

pytestmark = NEEDED


def test_every_view(server: Server, tab: Callable[..., Any], concepts: list[int]) -> None:
    first, second = concepts[:2]
    plain = server.worklist("Seen by everybody", concepts[:3])["id"]
    diagnoses = server.ask("study")["groups"]["diagnosis"]
    views = {
        f"#/concepts/{SET}": "figure[data-renderer=webgl]",
        f"#/concepts/{SET}?x=label_entropy&y=border&q=e&notes=unjudged&range=border:0.01:&sort=latent&up=1": ".item",
        f"#/concept/{SET}/{first}": ".grid img",
        f"#/concept/{SET}/{first}?kind=random&beside={second}": "article:nth-of-type(2) .grid img",
        f"#/cell/{SET}/5?patch=7,9&latent={first}": "[data-patch-list]",
        f"#/cells/{SET}?label=blast": ".picture img",
        "#/patients": "tbody tr",
        "#/patient/P000?against=healthy": "figure canvas",
        "#/classifier": "section[aria-label=Figures] tr",
        f"#/compare/{diagnoses[0]}/{diagnoses[1]}?adjust=laboratory": ".sides img",
        "#/upload": "input[type=file]",
        "#/worklists": "li h2",
        f"#/annotate/{plain}/0": "[role=radiogroup]",
        f"#/summary/{plain}": "text=This worklist has no verdicts",
        "#/nowhere": "text=There is no such page",
    }
    for scheme, width, height in (("light", 1280, 720), ("dark", 1024, 640)):
        page = tab("AB", width, height, color_scheme=scheme)
        for view, expected in views.items():
            page.goto(server.url + view)
            page.wait_for_selector(expected, state="attached")
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
            assert page.evaluate("document.querySelector('main').scrollWidth <= innerWidth"), (view, width)
            assert page.evaluate(NAMELESS) == [], view
            if view.startswith("#/compare"):  # what may explain the differences otherwise comes before them
                tops = [
                    page.locator(where).bounding_box()["y"]
                    for where in (".caveats p >> nth=0", "section.plot", "table")
                ]
                assert tops[0] < min(tops[1:])
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        assert page.faults == []
    assert server.ask("study")["not_learned"] in page.locator("[data-not-learned]").inner_text()  # 60 steps are too few
    page.goto(server.url + f"#/concept/{SET}/99999")
    page.wait_for_selector("[role=alert]:not([data-not-learned])")


def test_without_webgl(browser: Any, server: Server) -> None:
    """Where there is no WebGL, a plain canvas shows the same points."""
    running = browser.browser_type.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, "--disable-3d-apis"])
    page = running.new_page()
    page.goto(server.url)
    canvas = page.wait_for_selector("figure[data-renderer=canvas] canvas")
    page.wait_for_timeout(300)
    drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(value => value > 0)"
    assert canvas.evaluate(drawn)
    running.close()


def test_the_overview_by_keyboard_mouse_and_lasso(server: Server, tab: Callable[..., Any], concepts: list[int]) -> None:
    page = tab("AB")
    page.goto(f"{server.url}#/concepts/{SET}")
    page.wait_for_selector(".item")
    table = server.ask(f"latents/{SET}")
    interest = dict(zip(table["latent"], table["interest"], strict=True))
    order = sorted(concepts, key=lambda latent: (-interest[latent], latent))
    page.keyboard.press("j")
    page.keyboard.press("j")
    until(page, f"location.hash.includes('latent={order[1]}')")
    page.keyboard.press("/")
    page.keyboard.type(str(order[0]))
    found = [latent for latent in concepts if str(latent).startswith(str(order[0]))]
    until(page, f"location.hash.includes('q={order[0]}')")
    assert page.locator(".head [role=status]").inner_text() == f"{len(found)} of {len(concepts)}"
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    box = page.locator(".plot[role=img]").bounding_box()
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.5), (0.5, 0.55), (0.02, 0.5), (0.02, 0.1)]
    path = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.keyboard.down("Shift")
    page.mouse.move(*path[0])
    page.mouse.down()
    for corner in path[1:]:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    until(page, "location.hash.includes('lasso=')")
    kept = int(page.locator(".head [role=status]").inner_text().split(" of ")[0])
    assert 0 < kept < len(concepts)
    page.reload()
    page.wait_for_selector(".item")
    assert page.locator(".head [role=status]").inner_text() == f"{kept} of {len(concepts)}"
    page.get_by_role("button", name="Worklist").click()
    page.get_by_label("Title").fill("By lasso")
    page.get_by_role("button", name="Create worklist", exact=True).click()
    page.wait_for_selector("text=By lasso")
    made = next(one for one in server.ask("worklists") if one["title"] == "By lasso")
    assert made["items"] == min(kept, 50)
    assert page.faults == []


def test_a_patch_shows_its_concepts(server: Server, tab: Callable[..., Any], study: Path) -> None:
    row, patch = 23, 7 * 16 + 9
    page = tab()
    page.goto(f"{server.url}#/cell/{SET}/{row}")
    box = page.wait_for_selector("[data-patches]").bounding_box()
    page.wait_for_selector("text=Point at the image")
    page.mouse.click(box["x"] + box["width"] * 9.5 / 16, box["y"] + box["height"] * 7.5 / 16)
    until(page, "location.hash.includes('patch=7%2C9')")
    shown = page.eval_on_selector_all(
        "[data-patch-list] [data-latent]", "all => all.map(e => [Number(e.dataset.latent), Number(e.dataset.value)])"
    )
    answer = server.ask(f"cells/{SET}/{row}/patches")["patches"][patch]
    assert shown == answer

    data = read_concepts(study / "concepts", SET)
    cells = read_cells(study / "cells.parquet")
    place = int(np.flatnonzero(cells["cell_id"].to_numpy() == data.obs_names[row])[0])
    sae = SAE.from_pretrained(study / "sae")
    tokens = TokenStore(study / "tokens").read(np.array([place]))[0]
    h = sae.encode(sae.centred(tokens)).detach().numpy()[1 + patch]
    h = np.where(data.var["activation_frequency"].to_numpy() > 0.99, 0, h)
    expected = np.argsort(-h, kind="stable")[:12]
    expected = expected[h[expected] > 0]
    assert [latent for latent, _ in shown] == expected.tolist()
    assert [value for _, value in shown] == pytest.approx(h[expected], rel=1e-3, abs=1e-4)

    page.mouse.move(5, 300)
    page.reload()  # the address names the patch
    page.wait_for_selector("[data-patch-list] [data-latent]")
    first = page.locator("[data-patch-list] [data-latent]").first
    assert int(first.get_attribute("data-latent")) == shown[0][0]
    first.click()
    until(page, f"location.hash.includes('latent={shown[0][0]}')")
    page.wait_for_selector(".reference .grid img")
    page.keyboard.press("p")
    page.keyboard.press("ArrowRight")
    until(page, "location.hash.includes('patch=7%2C10')")
    assert page.faults == []


def test_own_images(server: Server, tab: Callable[..., Any], study: Path) -> None:
    cell = read_cells(study / "cells.parquet").iloc[4]
    page = tab()
    page.goto(f"{server.url}#/upload")
    page.set_input_files("input[type=file]", study / cell["path"])
    page.wait_for_selector("[data-patches] img")
    page.wait_for_selector(".all .entry")
    page.locator(".all .entry").first.click()
    until(page, "document.querySelector('[data-patches] canvas')?.width > 0")
    files = [{"name": "notes.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4"}]
    files.append({"name": "again.jpg", "mimeType": "image/jpeg", "buffer": Path(study / cell["path"]).read_bytes()})
    page.set_input_files("input[type=file]", files)
    page.wait_for_selector("text=again.jpg")
    assert "notes.pdf" in page.locator("[data-refused]").inner_text()
    assert page.faults == []


@pytest.fixture(scope="module")
def measured(classified_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, int]]:
    """The same study under two names of data sets, with quality measures, one concept of which is on the background."""
    folder = Path(shutil.copytree(classified_study, tmp_path_factory.mktemp("measured") / "study"))
    concepts, second = folder / "concepts", "ward 2/north"
    for path in list(concepts.glob(f"{SET}.*")):
        shutil.copy(path, concepts / path.name.replace(SET, "second"))
    manifest = Manifest.load(concepts)
    assert manifest is not None
    numbers, files = manifest.summary["datasets"], manifest.summary["files"]
    summary = {
        **manifest.summary,
        "datasets": {**numbers, second: numbers[SET]},
        "files": {**files, second: "second"},
    }
    Manifest("concepts", manifest.parameters, manifest.inputs, manifest.outputs, summary).save(concepts)
    cells = pd.read_parquet(folder / "cells.parquet")
    pd.concat([cells, cells.assign(dataset=second)]).to_parquet(folder / "cells.parquet")
    latents = np.flatnonzero(read_concepts(concepts, SET, matrices=False).var["is_concept"].to_numpy())
    table = pd.DataFrame({"latent": latents, "background_share": 0.1, "monosemanticity": 0.2})
    table.loc[3, ["background_share", "monosemanticity"]] = [0.9, 0.7]
    (folder / "quality").mkdir()
    table.to_parquet(folder / "quality" / "latents.parquet")
    Manifest("quality", {}, read_inputs(concepts), {}, {}).save(folder / "quality")
    running = Server(folder)
    yield running, int(latents[3])
    running.kill()


def test_several_data_sets_and_quality_measures(measured: tuple[Server, int], tab: Callable[..., Any]) -> None:
    server, latent = measured
    page = tab()
    page.goto(f"{server.url}#/concepts/{SET}?x=monosemanticity&range=background_share:0.5:")
    page.get_by_label("of surroundings, place or stain").check()
    page.wait_for_selector(".item")
    assert page.locator(".item").count() == 1
    assert page.locator(".head [role=status]").inner_text().startswith("1 of ")
    page.goto(f"{server.url}#/concept/{SET}/{latent}")
    page.wait_for_selector("text=mostly background")
    page.wait_for_selector("text=Monosemanticity")
    page.wait_for_selector(".images section:nth-of-type(2) .grid img")  # the same concept in the other data set
    assert page.get_by_role("heading", name="ward 2/north").count() == 1
    page.goto(f"{server.url}#/concepts/{SET}")
    page.get_by_role("combobox").first.select_option("ward 2/north")
    until(page, "decodeURIComponent(location.hash).includes('ward 2/north')")
    page.wait_for_selector(".item")
    page.goto(f"{server.url}#/cell/ward%202%2Fnorth/4")
    page.wait_for_selector("[data-patches] img")
    page.wait_for_selector(".all .entry")
    assert page.faults == []


@pytest.mark.slow
def test_the_page_without_a_server(exported_study: tuple[Path, dict[str, Any]], tab: Callable[..., Any]) -> None:
    """The static export behind a server of plain files: every exported view, and none of those that need the explorer."""
    folder, figures = exported_study
    asked: list[str] = []

    class Files(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            asked.append(f"{int(code)} {self.path}")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder))) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{files.server_port}/"
        about = json.loads((folder / "data" / "study.json").read_text())
        latent = about["exported"][SET][0]
        cell = json.loads((folder / f"data/latents/{SET}/{latent}/images/reference.json").read_text())["cells"][0]
        diagnoses = about["groups"]["diagnosis"]
        views = {
            "": ".item img, .item canvas",
            f"#/concept/{SET}/{latent}": ".grid img",
            f"#/concept/{SET}/{latent}?kind=random": ".grid img",
            f"#/cell/{SET}/{cell['row']}?patch=7,9&latent={latent}": "[data-patch-list] [data-latent]",
            "#/patients": "tbody tr",
            "#/patient/P000": "section[aria-label='Cells that show a concept'] b",
            "#/classifier": "section[aria-label=Figures] tr",
            f"#/concept/{SET}/{latent}?teach=rod": ".grid img",
            f"#/cell/{SET}/{cell['row']}?teach=rod": "[data-patches] img",
            "#/teach": "text=This export is read-only",
            f"#/compare/{diagnoses[0]}/{diagnoses[1]}": ".sides img",
        }
        page = tab()
        for view, expected in views.items():
            page.goto(url + view)
            page.wait_for_selector(expected, state="attached")
            page.wait_for_load_state("networkidle")
            assert page.locator("[role=alert]:not([data-not-learned])").count() == 0, view
            assert page.locator("[data-teach-name], [data-marked-cell]").count() == 0, view
            assert page.locator(".gone").count() == 0, view
            assert page.locator("input[type=checkbox]:enabled[aria-label^=Use]").count() == 0, view
        assert page.get_by_role("link", name="Concepts").count() == 1
        assert page.get_by_role("link", name="Upload").count() == 0
        assert page.get_by_role("link", name="Worklists").count() == 0
        page.goto(f"{url}#/patient/P000")
        page.locator("section[aria-label='Cells unlike those of any other patient'] b").first.wait_for()
        for link in page.locator("section[aria-label^=Cells] li a").all():
            row = link.get_attribute("href").split("?")[0].rsplit("/", 1)[1]
            assert (folder / f"data/cells/{SET}/{row}.json").is_file()
        page.goto(url)
        page.wait_for_selector(".item")
        assert page.locator(".head [role=status]").inner_text().startswith(f"{len(about['exported'][SET])} ")
        files.shutdown()
    assert figures["missing"] == 0
    assert [line for line in asked if not line.startswith(("200", "304"))] == []
    assert page.faults == []
