"""The report: the page, also in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from PIL import Image

from cytosae.artefacts import Manifest
from cytosae.cells import read_cells, write_cells
from cytosae.concepts import alike_leaders, encode, interest_of, read_concepts, read_maps
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import name_latents, schemas
from cytosae.report import drawn_config, shown_concepts, write_report
from cytosae.report.study_figures import figures_of_study
from cytosae.sae import TrainConfig, train
from cytosae.settings import DrawnConfig
from cytosae.tokens import TokenStore
from support.browser import ARGUMENTS, CHROMIUM
from support.report_figures import latent_statistics


def test_gallery_takes_the_most_interesting_and_the_strongest() -> None:
    var = latent_statistics()
    var["interest"] = np.random.default_rng(0).random(len(var)).round(1)  # some are equal
    chosen = shown_concepts(var, count=10)
    concepts = var[var["is_concept"]]
    interesting = concepts.sort_values(["interest", "mean_activation"], ascending=False)
    strong = concepts.sort_values("mean_activation", ascending=False)
    assert set(chosen) == {*interesting.index[:10], *strong.index[:10]}
    assert [latent for latent in interesting.index if latent in set(chosen)] == chosen.tolist()


def test_near_duplicates_stand_in_one_place() -> None:
    var = latent_statistics()
    var["interest"] = np.random.default_rng(0).random(len(var))
    chosen = shown_concepts(var, count=10)
    var["alike"] = np.arange(len(var))
    first, *others = chosen[:4]
    var.loc[var.index[others], "alike"] = first
    folded = shown_concepts(var, count=10)
    assert folded[0] == first
    assert not set(others) & set(folded)


def test_warnings_of_a_classification_stand_before_its_figures(classified_study: Path, tmp_path: Path) -> None:
    study = tmp_path / "S"
    shutil.copytree(classified_study, study)
    path = study / "cohort" / "classification" / "classification.json"
    result = json.loads(path.read_text())
    result["warnings"] = [{"kind": "confounder", "text": "laboratory <b>tells</b> the diagnosis", "figures": {}}]
    result["caveats"] = ["with 10 patients little is certain"]
    path.write_text(json.dumps(result))
    write_report(study)
    page = (study / "report" / "index.html").read_text()
    assert (
        page.index("confounder: laboratory &lt;b&gt;tells")
        < page.index("with 10 patients little")
        < page.index('alt="methods')
    )


def shown_in(study: Path, name: str) -> np.ndarray:
    """The concepts of a data set that the page shows."""
    data = read_concepts(study / "concepts", name)
    n_labels = data.obs["label"].nunique() if "label" in data.obs else 0
    data.var["interest"] = interest_of(data.var, *read_maps(study / "concepts", name), len(data), n_labels)
    data.var["alike"] = leaders_in(data)
    return shown_concepts(data.var)


def leaders_in(data: ad.AnnData) -> np.ndarray:
    """The concept in whose place each is shown."""
    counts = sp.csc_matrix(data.X, dtype=np.float32)
    return alike_leaders(counts, data.var["interest"].to_numpy(), data.var["is_concept"].to_numpy(bool))


@pytest.fixture
def study(make_store: Callable[..., TokenStore], tmp_path: Path) -> Path:
    """A study whose cells carry hostile names and labels."""
    tokens = torch.randn(40, 7, 8, generator=torch.Generator().manual_seed(0))
    labels = [("</script><b id=evil>", "blast & co", None)[i % 3] for i in range(40)]
    store = make_store(tokens, "study", dataset=["blood"] * 30 + ["marrow"] * 10, label=labels)
    folder = store.folder.parent
    train(store, folder / "sae", TrainConfig(expansion=3, images=320, batch_images=16))
    from cytosae.sae import SAE

    encode(store, SAE.from_pretrained(folder / "sae"), folder / "concepts")
    write_cells(store.cells, folder / "cells.parquet")
    return folder


def test_page_stands_alone(study: Path) -> None:
    summary = write_report(study)
    page = (study / "report" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", page)
    assert "http" not in re.sub(r"<meta http-equiv[^>]*>", "", page)
    assert "</script><b id=evil>" not in page
    assert summary["concepts_shown"].keys() == {"blood", "marrow"}
    manifest = Manifest.load(study / "report")
    assert manifest is not None
    assert manifest.inputs.keys() == {"page", "sae", "concepts"}
    assert sorted(p.name for p in (study / "report" / "figures").iterdir()) == [
        f"{name}.{suffix}"
        for name in sorted(["overview-0", "overview-1", *(figure.name for figure in figures_of_study(study))])
        for suffix in ("png", "svg")
    ]


def test_all_named_concepts_are_shown_and_come_first(study: Path) -> None:
    data = read_concepts(study / "concepts", "blood")
    unshown = [latent for latent in range(data.n_vars) if not data.var["is_concept"].iloc[latent]]
    weakest = int(shown_in(study, "blood")[-1])
    named = [weakest, *unshown[:2]]  # of latents that are no concepts there are no maps
    given = [schemas.GivenName(name=f"name {s}", raters=["Anna", "Ben"]) for s in named]
    texts = [schemas.Named(name=one.name, given=[one], raters=2, verdicts={}) for one in given]
    name_latents(study, dict(zip(named, texts, strict=True)))
    write_report(study)
    page = (study / "report" / "index.html").read_text(encoding="utf-8")
    (text,) = re.findall(r"^const galleries = (.*);$", page, re.MULTILINE)
    for gallery in json.loads(text):
        first = gallery["concepts"][: len(named)]
        assert {one["latent"]: one["name"] for one in first} == {s: f"name {s} (Anna, Ben)" for s in named}
        latents_shown = [one["latent"] for one in gallery["concepts"]]
        assert len(latents_shown) == len(set(latents_shown))
        assert set(latents_shown) >= set(shown_in(study, gallery["name"]).tolist())
    assert "First come the concepts that experts named" in page


def test_a_picture_that_has_gone_does_not_stop_the_report(study: Path) -> None:
    for path in read_cells(study / "cells.parquet")["path"][:5]:
        Path(path).unlink()
    write_report(study)


def test_unfinished_study(tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match="not finished"):
        write_report(tmp_path)


@pytest.fixture
def page(study: Path) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium here; install Debian's package of that name")
    from playwright.sync_api import sync_playwright

    write_report(study)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        tab.faults = []
        tab.on("pageerror", lambda error: tab.faults.append(str(error)))
        tab.on("console", lambda message: tab.faults.append(message.text) if message.type == "error" else None)
        tab.goto((study / "report" / "index.html").as_uri())
        yield tab
        browser.close()


def test_page_in_a_browser(page: Any, study: Path) -> None:
    data = read_concepts(study / "concepts", "blood")
    shown = shown_in(study, "blood")
    assert page.locator(".concept").count() == len(shown)
    assert page.locator(".concept h3").first.inner_text().startswith(f"Latent {shown[0]}")
    assert page.locator(".concept").first.locator("canvas").count() == 10
    assert page.locator("#evil").count() == 0
    captions = page.locator(".concept").first.locator("figcaption").all_inner_texts()
    first = data.obs["label"].astype(object).iloc[data.varm["reference_cells"][shown[0], 0]]
    assert captions[0].splitlines()[0] == (first if isinstance(first, str) else "unlabelled")
    value = data.varm["reference_values"][shown[0], 0]
    assert float(captions[0].splitlines()[1]) == pytest.approx(value, rel=0.01)

    page.fill("#find", str(shown[3]))
    n_labels = data.obs["label"].nunique()
    data.var["interest"] = interest_of(data.var, *read_maps(study / "concepts", "blood"), len(data), n_labels)
    leaders = leaders_in(data)
    expected = [s for s in shown if any(str(n).startswith(str(shown[3])) for n in np.flatnonzero(leaders == s))]
    assert page.locator(".concept").count() == len(expected)
    page.fill("#find", "99999")
    assert "No concept passes" in page.locator("#gallery").inner_text()
    page.fill("#find", "")
    page.evaluate("document.getElementById('common').value = 60; show()")
    assert page.locator(".concept").count() == (data.var["activation_frequency"].iloc[shown] <= 0.6).sum()
    page.evaluate("document.getElementById('common').value = 100; show()")
    page.select_option("#label", "blast & co")
    assert all(
        c.splitlines()[0] == "blast & co" for c in page.locator("figure:first-child figcaption").all_inner_texts()
    )
    assert page.locator("img.overview:visible").get_attribute("alt") == "Overview plot of blood"
    page.get_by_role("tab", name=re.compile("marrow")).click()
    assert page.locator("img.overview:visible").get_attribute("alt") == "Overview plot of marrow"
    assert page.locator(".concept").count() == len(shown_in(study, "marrow"))
    assert page.faults == []


def test_overlay_shows_the_map_where_it_belongs(page: Any, study: Path) -> None:
    """Pixels of the canvas change most where the map is strongest."""
    latent = shown_in(study, "blood")[0]
    kept, maps = read_maps(study / "concepts", "blood")
    grid = maps[kept.tolist().index(latent), 0].astype(float)
    page.evaluate("document.getElementById('smooth').checked = false")

    def canvas(strength: int) -> np.ndarray:
        page.locator(".concept canvas").first.scroll_into_view_if_needed()
        page.evaluate(
            "v => { const s = document.getElementById('strength'); s.value = v; s.dispatchEvent(new Event('input')); }",
            strength,
        )
        page.wait_for_timeout(200)
        data = page.evaluate(
            "Array.from(document.querySelector('.concept canvas').getContext('2d').getImageData(0, 0, 224, 224).data)"
        )
        return np.array(data, dtype=float).reshape(224, 224, 4)[..., :3]

    changed = np.abs(canvas(100) - canvas(0)).sum(-1)
    rows, columns = grid.shape
    cells = changed.reshape(rows, 224 // rows, -1)[:, :, : 224 // columns * columns]
    by_patch = cells.reshape(rows, 224 // rows, columns, -1).mean((1, 3))
    assert np.corrcoef(by_patch.ravel(), grid.ravel())[0, 1] > 0.8
    assert (by_patch[grid == 0] < 0.1 * by_patch.max()).all()  # borders of patches fall between pixels here


def test_pictures_are_small_copies(study: Path) -> None:
    write_report(study)
    page = (study / "report" / "index.html").read_text(encoding="utf-8")
    import base64
    import io

    first = re.search(r'"pictures": \{"\d+": "([^"]+)"', page)
    assert first
    picture = Image.open(io.BytesIO(base64.b64decode(first[1])))
    assert picture.size == (112, 112)


def test_the_report_shows_the_chosen_block_beside_counts_and_keeps_the_choice(
    classified_study: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(classified_study, tmp_path / "study"))
    figures = folder / "report" / "figures"
    chosen = DrawnConfig(features="strongest", transform="log1p")
    write_report(folder, chosen)
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert all(f'alt="{name} of the patients"' in page for name in ("diseases", "diseases-chosen"))
    assert "strongest cell, log1p" in (figures / "correlation.svg").read_text(encoding="utf-8")
    write_report(folder)  # as `run` does
    assert drawn_config(folder) == chosen
    assert (figures / "diseases-chosen.png").is_file()
    write_report(folder, DrawnConfig())
    assert not (figures / "diseases-chosen.png").exists()
    assert "diseases-chosen" not in (folder / "report" / "index.html").read_text(encoding="utf-8")


def test_the_manifest_names_every_figure(study: Path) -> None:
    """A figure that was cut short makes the report stale."""
    write_report(study)
    manifest = Manifest.load(study / "report")
    assert manifest is not None
    drawn = {f"figures/{path.name}" for path in (study / "report" / "figures").iterdir()}
    assert drawn
    assert drawn < set(manifest.outputs)
    figure = study / "report" / "figures" / "training.svg"
    figure.write_bytes(figure.read_bytes()[:100])
    assert manifest.why_stale(study / "report", manifest.parameters, manifest.inputs) is not None
