"""The explorer in a real browser, on the real server: every view, patches, and judgements that must not be lost."""

from __future__ import annotations

import http.server
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cytosae.artefacts import Manifest
from cytosae.cells.table import read_cells
from cytosae.cli.commands import app
from cytosae.concepts import read_concepts, read_inputs
from cytosae.sae import SAE
from cytosae.tokens import TokenStore

BUNDLE = Path(__file__).parents[1] / "src" / "cytosae" / "explorer" / "bundle" / "index.html"
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; install Debian's package of that name"),
    pytest.mark.skipif(not BUNDLE.is_file(), reason="the page is not built: npm ci && npm run build in frontend/"),
]
SET = "synthetic"
SERVE = """
import sys, uvicorn
from pathlib import Path
from cytosae.explorer.app import create_app
uvicorn.run(create_app(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
NAMELESS = """() => [...document.querySelectorAll('a, button, input, select, textarea, img, [role=img], [role=radio]')]
    .filter(e => e.checkVisibility() && !e.closest('[aria-hidden=true]'))
    .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length || e.hasAttribute('alt')
        || e.getAttribute('title')))
    .map(e => e.outerHTML.slice(0, 120))"""


class Server:
    """The explorer of a study in a process of its own, which can be killed at any time."""

    def __init__(self, study: Path) -> None:
        self.study = study
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SERVE, str(self.study), str(self.port)])
        for _ in range(300):
            assert self.process.poll() is None, "the server has ended"
            try:
                self.ask("study")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, path: str, body: Any = None, method: str = "POST") -> Any:
        data = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.url}api/{path}", data, kind, method=method if body is not None else "GET"
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def worklist(self, title: str, latents: list[int], **options: Any) -> dict[str, Any]:
        blind = {"blind_labels": False, "blind_raters": False, "disease": None, "source": "test"} | options
        items = [{"dataset": SET, "latent": latent} for latent in latents]
        return self.ask("worklists", {"title": title, "items": items, **blind})


@pytest.fixture(scope="module")
def study(classified_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty synthetic patients of five groups, nine cells each, classified."""
    return Path(shutil.copytree(classified_study, tmp_path_factory.mktemp("explorer") / "study"))


@pytest.fixture(scope="module")
def process(study: Path) -> Iterator[Server]:
    running = Server(study)
    yield running
    running.kill()


@pytest.fixture
def server(process: Server) -> Server:
    """The one server of this file, running, whatever a test before has done to it."""
    if process.process.poll() is not None:
        process.start()
    return process


@pytest.fixture(scope="module")
def concepts(study: Path) -> list[int]:
    data = read_concepts(study / "concepts", SET)
    return [int(latent) for latent in np.flatnonzero(data.var["is_concept"].to_numpy())]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS + WEBGL)
        yield running
        running.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Callable[..., Any]]:
    """New windows, each with its own storage, that note every fault."""
    contexts = []

    def opened(rater: str = "", width: int = 1280, height: int = 720, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        if rater:
            context.add_init_script(
                "if (!localStorage.getItem('cytosae:preferences'))"
                f"localStorage.setItem('cytosae:preferences', JSON.stringify({{rater: {json.dumps(rater)}}}))"
            )
        context.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective))"
        )
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("response", lambda one: page.faults.append(f"{one.status} {one.url}") if one.status == 500 else None)
        page.on("console", lambda said: page.faults.append(said.text) if said.type == "error" else None)
        return page

    yield opened
    for context in contexts:
        context.close()


def until(page: Any, expression: str) -> None:
    """Wait for something; Playwright's own way would need `eval`, which the page's policy forbids."""
    end = time.monotonic() + 120
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def saved(page: Any) -> None:
    page.wait_for_selector("[data-saved=saved]")


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
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        assert page.faults == []
    page.goto(server.url + f"#/concept/{SET}/99999")
    page.wait_for_selector("[role=alert]")


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
    mean = dict(zip(table["latent"], table["mean_activation"], strict=True))
    order = sorted(concepts, key=lambda latent: -mean[latent])
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
    tokens = TokenStore(study / "tokens").read(np.array([place]))[0].float()
    h = sae.encode(tokens).detach().numpy()[1 + patch]
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
    assert page.faults == []


def test_ten_concepts_by_keyboard_while_the_server_is_killed(
    server: Server, tab: Callable[..., Any], concepts: list[int], study: Path, tmp_path: Path
) -> None:
    latents = concepts[5:15]
    work = server.worklist("By keyboard", latents, blind_labels=True, blind_raters=True)["id"]
    page = tab()
    page.goto(f"{server.url}#/annotate/{work}/0")
    page.wait_for_selector("text=Who is annotating")
    page.keyboard.type("Ute Ö")
    page.keyboard.press("Enter")
    verdicts = ["meaningful", "artefact", "cannot tell"]
    typed = {}
    for place, latent in enumerate(latents):
        page.wait_for_selector(f"[data-latent='{latent}']")
        assert page.locator(".caption").count() == 0  # labels are hidden
        if place == 4:
            server.kill()
        if place == 7:
            assert page.locator("[data-saved]").get_attribute("data-saved") != "saved"
        page.keyboard.press(str(1 + place % 3))
        page.keyboard.press("n")
        page.keyboard.type(f"name {place}")
        if place == 6:
            page.wait_for_selector("[data-saved=waiting]")
            kept = page.evaluate("Object.keys(localStorage).filter(key => key.startsWith('cytosae:unsent:')).length")
            assert kept >= 3
        page.keyboard.press("Enter")
        typed[latent] = (verdicts[place % 3], f"name {place}")
        if place == 7:  # four are only in the browser; the page is closed without a word
            page.wait_for_selector(f"[data-latent='{latents[8]}']")
            context = page.context
            page.close(run_before_unload=False)
            server.start()
            page = context.new_page()
            page.goto(f"{server.url}#/annotate/{work}/8")
    page.wait_for_selector("text=are meaningful, by majority")

    def stored() -> dict[int, tuple[str, str]]:
        items = server.ask(f"worklists/{work}?rater=Ute%20%C3%96")["items"]
        of = {item["latent"]: item["annotation"] for item in items}
        return {latent: (one["verdict"], one["name"]) for latent, one in of.items() if one}

    end = time.monotonic() + 120
    while stored() != typed and time.monotonic() < end:
        time.sleep(0.2)
    assert stored() == typed
    until(page, "!Object.keys(localStorage).some(key => key.startsWith('cytosae:unsent:'))")
    page.reload()
    assert page.wait_for_selector("[data-meaningful]").get_attribute("data-meaningful") == "4/10"
    done = page.locator("[data-rater-row='Ute Ö'] td.num").all_inner_texts()
    assert done == ["10", "4", "3", "3"]

    out = tmp_path / "out.csv"
    result = CliRunner().invoke(app, ["annotations", "export", str(study), "-o", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out, keep_default_na=False)
    mine = table[table["rater"] == "Ute Ö"].set_index("latent")
    assert {latent: (row["verdict"], row["name"]) for latent, row in mine.iterrows()} == typed
    told = CliRunner().invoke(app, ["annotations", "summary", str(study), "--worklist", str(work), "--json"])
    (summary,) = json.loads(told.stdout)["worklists"]
    assert summary["meaningful"] == {"x": 4, "y": 10, "first_ten": {"x": 4, "y": 10}}
    assert [rater["name"] for rater in summary["raters"]] == ["Ute Ö"]
    assert [summary["raters"][0][key] for key in ("done", "meaningful", "artefact", "cannot_tell")] == [10, 4, 3, 3]


def test_two_raters_at_once(server: Server, tab: Callable[..., Any], concepts: list[int]) -> None:
    latents = concepts[20:24]
    work = server.worklist("Two at once", latents)["id"]
    said = {"Ann": "1121", "Bob": "1221"}
    pages = {rater: tab(rater) for rater in said}
    for rater, page in pages.items():
        page.goto(f"{server.url}#/annotate/{work}/0?rater={rater}")
    for place, latent in enumerate(latents):
        for page in pages.values():
            page.wait_for_selector(f"[data-latent='{latent}']")
        for rater, page in pages.items():
            page.keyboard.press(said[rater][place])
        for page in pages.values():
            saved(page)
            page.keyboard.press("ArrowRight")
    for page in pages.values():
        page.wait_for_selector("[data-rater-row=Ann]")
        assert page.faults == []
    page = pages["Ann"]
    page.goto(f"{server.url}#/worklists")
    page.goto(f"{server.url}#/summary/{work}")
    page.wait_for_selector("[data-rater-row=Bob]")
    rows = {rater: page.locator(f"[data-rater-row={rater}] td.num").all_inner_texts() for rater in said}
    assert rows == {"Ann": ["4", "3", "1", "0"], "Bob": ["4", "2", "2", "0"]}
    agreement = server.ask(f"summary?worklist={work}")["agreement"]["cohen"]
    assert agreement[0]["kappa"] == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))
    assert page.get_by_text("0.5", exact=True).count() >= 1


def test_a_stale_window_is_told_and_decides(server: Server, tab: Callable[..., Any], concepts: list[int]) -> None:
    latent = concepts[30]
    work = server.worklist("Stale", [latent])["id"]
    one, other = tab("Eve"), tab("Eve")
    for page in (one, other):
        page.goto(f"{server.url}#/annotate/{work}/0")
        page.wait_for_selector(f"[data-latent='{latent}']")
    one.keyboard.press("1")
    saved(one)
    other.keyboard.press("2")
    other.wait_for_selector("[data-saved=conflict]")
    other.reload()  # the draft is still there, and so is the conflict
    other.wait_for_selector("[data-saved=conflict]")
    other.get_by_role("button", name="Keep this version").click()
    saved(other)
    item = server.ask(f"worklists/{work}?rater=Eve")["items"][0]["annotation"]
    assert (item["verdict"], item["version"]) == ("artefact", 2)
    one.keyboard.press("3")
    one.wait_for_selector("[data-saved=conflict]")
    one.get_by_role("button", name="Take the stored version").click()
    assert one.get_by_role("radio", name="artefact").get_attribute("aria-checked") == "true"
    twin = one.context.new_page()  # a second tab of the same browser follows by itself
    twin.goto(f"{server.url}#/annotate/{work}/0")
    twin.wait_for_selector(f"[data-latent='{latent}']")
    one.keyboard.press("1")
    saved(one)
    twin.wait_for_selector("[role=radio][aria-checked=true].meaningful")
    history = server.ask(f"annotations/{SET}/{latent}/history")
    assert [row["verdict"] for row in sorted(history, key=lambda row: row["version"])] == [
        "meaningful",
        "artefact",
        "meaningful",
    ]


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
            "#/patient/P000": "figure canvas",
            f"#/compare/{diagnoses[0]}/{diagnoses[1]}": ".sides img",
        }
        page = tab()
        for view, expected in views.items():
            page.goto(url + view)
            page.wait_for_selector(expected, state="attached")
            page.wait_for_load_state("networkidle")
            assert page.get_by_role("alert").count() == 0, view
        assert page.get_by_role("link", name="Concepts").count() == 1
        assert page.get_by_role("link", name="Upload").count() == 0
        assert page.get_by_role("link", name="Worklists").count() == 0
        page.goto(url)
        page.wait_for_selector(".item")
        assert page.locator(".head [role=status]").inner_text().startswith(f"{len(about['exported'][SET])} ")
        files.shutdown()
    assert figures["missing"] == 0
    assert [line for line in asked if not line.startswith(("200", "304"))] == []
    assert page.faults == []


# --- judgements: names, export, former autoencoders, studies of one name


def unsent(page: Any) -> list[str]:
    """Names of the judgements that the browser keeps because no server has them."""
    return page.evaluate(
        "() => Object.keys(localStorage).filter(k => k.startsWith('cytosae:unsent:'))"
        ".map(k => JSON.parse(localStorage.getItem(k)).annotation.name)"
    )


def test_own_names_are_shown_while_raters_are_hidden(
    server: Server, tab: Callable[..., Any], concepts: list[int]
) -> None:
    latent = concepts[40]
    work = server.worklist("Hidden", [latent], blind_raters=True)["id"]
    place = {"worklist": work, "dataset": SET, "latent": latent, "comment": "", "terms": {}, "specific_for": None}
    server.ask("annotations", {**place, "rater": "Ben", "verdict": None, "name": "of Ben", "version": 0}, "PUT")
    page = tab("Anna")
    page.goto(f"{server.url}#/annotate/{work}/0")
    page.wait_for_selector(f"[data-latent='{latent}']")
    page.locator("[data-name]").fill("needles of Anna")
    saved(page)
    page.goto(f"{server.url}#/concept/{SET}/{latent}")  # without a reload
    page.wait_for_selector("[data-name='needles of Anna']")
    page.goto(f"{server.url}#/concepts/{SET}?q=needles")
    until(page, "() => document.querySelectorAll('.list .item').length === 1")
    assert page.locator(".list .item .name").inner_text() == "needles of Anna"
    page.goto(f"{server.url}#/summary/{work}")
    page.wait_for_selector(f"[data-named='{latent}']")
    assert "of Ben" not in page.content()
    for kind in ("csv", "json"):
        with page.expect_download() as download:
            page.locator(f"[data-export={kind}]").click()
        text = Path(download.value.path()).read_text(encoding="utf-8-sig")
        assert "needles of Anna" in text
        assert "of Ben" not in text
    assert page.faults == []


def test_the_former_autoencoder_is_offered_and_judging_is_off(
    study: Path, tmp_path: Path, tab: Callable[..., Any]
) -> None:
    from cytosae.explorer.annotations import Database, default_address

    folder = Path(shutil.copytree(study, tmp_path / "replaced", ignore=shutil.ignore_patterns("annotations.sqlite*")))
    (folder / "former" / ("ab12" * 3)).mkdir(parents=True)
    for place in (folder, folder / "former" / ("ab12" * 3)):
        Database(default_address(place), "ab12" * 16).close()
    running = Server(folder)
    try:
        page = tab("Anna")
        for view in (f"concepts/{SET}", "patients", "worklists"):
            page.goto(f"{running.url}#/{view}")
            page.wait_for_selector("[data-banner]")
            assert f"cytosae explore {folder}/former/{'ab12' * 3}" in page.locator("[data-banner]").inner_text()
        page.wait_for_selector(f"[data-former='{'ab12' * 3}']")
        assert page.get_by_role("button", name="Worklist…").count() == 0
        assert page.locator("[data-banner] [data-export]").count() == 2
        assert page.faults == []
    finally:
        running.kill()


def test_two_studies_of_one_name_share_no_judgement(
    study: Path, tmp_path: Path, tab: Callable[..., Any], concepts: list[int]
) -> None:
    folders = [
        Path(shutil.copytree(study, tmp_path / side / "study", ignore=shutil.ignore_patterns("annotations.sqlite*")))
        for side in "ab"
    ]
    running = Server(folders[0])
    try:
        page = tab("Anna")
        address = f"{running.url}#/concept/{SET}/{concepts[0]}"
        page.goto(address)
        page.get_by_role("button", name="Annotate").click()
        page.locator("input[data-name]").wait_for()
        running.kill()
        page.locator("input[data-name]").fill("of the first")
        page.wait_for_selector("[data-saved=waiting]")
        assert unsent(page) == ["of the first"]
        running.study = folders[1]  # of the same name, at the same address
        running.start()
        page.wait_for_selector("[data-saved=refused]")
        page.reload()
        page.get_by_role("button", name="Annotate").click()
        page.locator("input[data-name]").wait_for()
        assert page.locator("input[data-name]").input_value() == ""
        page.goto(f"{running.url}#/worklists")
        page.wait_for_selector("[data-unsent='1']")
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert "of the first" in Path(download.value.path()).read_text(encoding="utf-8")
        assert running.ask("annotations") == []
        assert unsent(page) == ["of the first"]
        running.kill()
        running.study = folders[0]
        running.start()
        page.reload()
        until(page, "() => !Object.keys(localStorage).some(key => key.startsWith('cytosae:unsent:'))")
        assert [one["name"] for one in running.ask("annotations")] == ["of the first"]
    finally:
        running.kill()
