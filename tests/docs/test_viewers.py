"""The recipes of docs/how-to/viewers.md, run as they stand there on a small study, and judged by plain computations."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cytosae.backbones import load
from support.commands import cytosae
from support.paths import ROOT

PAGE = (ROOT / "docs" / "how-to" / "viewers.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page(some_cells: Path, vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every name that the blocks of the page leave behind."""
    folder = tmp_path_factory.mktemp("viewers")
    short = ("--expansion", 2, "--images", 32, "--batch-images", 8, "--workers", 0)
    cytosae("run", some_cells, "--study", folder / "study", "--backbone", vit, *short)
    names: dict[str, Any] = {"folder": folder, "vit": vit}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, block in enumerate(blocks("python")):
            exec(compile(block, f"docs/how-to/viewers.md, block {number}", "exec"), names)
        yield names


def test_layers_of_napari_lie_on_the_image(page: dict[str, Any]) -> None:
    (image, about, kind), (patches, where, labels), *maps = page["shown"]
    assert (image.shape, image.dtype, kind, labels) == ((224, 224, 3), np.uint8, "image", "labels")
    assert about["rgb"]
    assert [one[2] for one in maps] == ["image"] * 3
    # The first pixel of the image begins the first patch, the last ends the last one.
    scale, first = np.array(where["scale"]), np.array(where["translate"])
    np.testing.assert_allclose(first - scale / 2, -0.5)
    np.testing.assert_allclose(first + scale * (np.array(patches.shape) - 0.5), 223.5)
    assert np.unique(patches).size == patches.size
    # The maps are those of the backbone's own tokens.
    name = page["cell_id"]
    backbone = load(str(page["vit"]), layer=-2, dtype="float32", device="cpu")
    own = page["sae"].encode(backbone.tokens(image[None])[:, 1:].float()).detach().numpy()[0]
    for latent, (values, *_) in zip(page["strongest"](name), maps, strict=True):
        shown = values.ravel()  # of stored tokens, which are rounded: a patch at the threshold may fall on either side
        same = (shown > 0) == (own[:, latent] > 0)
        assert same.mean() > 0.95
        np.testing.assert_allclose(shown[same], own[same, latent], atol=0.02 * max(1.0, own.max()))


def test_fields_of_fiftyone_are_the_strongest_concepts(page: dict[str, Any]) -> None:
    rows, data = json.loads((page["folder"] / "fiftyone.json").read_text()), page["data"]
    assert len(rows) == min(50, data.n_obs)
    activation = data.to_df("mean_activation").loc[:, data.var["is_concept"].to_numpy()]
    for row, (_, values) in zip(rows, activation.iterrows(), strict=False):
        assert Path(row["filepath"]).is_file()
        expected = values.nlargest(3)
        np.testing.assert_allclose(list(row["concepts"].values()), expected.to_numpy(), rtol=1e-5)


def test_patches_of_qupath_tile_the_image(page: dict[str, Any]) -> None:
    found = json.loads((page["folder"] / "patches.geojson").read_text())["features"]
    corners = np.array([one["geometry"]["coordinates"][0] for one in found])
    with Image.open(page["cells"].loc[page["cell_id"], "path"]) as image:
        width, height = image.size
    assert corners[..., 0].max() == width
    assert corners[..., 1].max() == height
    sides = corners.max(1) - corners.min(1)
    assert sides.prod(1).sum() == pytest.approx(width * height)
    assert all(len(one["properties"]["measurements"]) == 3 for one in found)


def test_a_space_is_static(page: dict[str, Any], tmp_path: Path) -> None:
    page["space"](tmp_path, "Cells: ours")
    head = yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])
    assert head == {"title": "Cells: ours", "sdk": "static", "app_file": "index.html", "license": "other"}


@pytest.mark.parametrize("name", ["napari", "fiftyone"])
def test_what_shows_them_is_python(name: str) -> None:
    (block,) = blocks(f"python-{name}")
    compile(block, "docs/how-to/viewers.md", "exec")
    if name == "napari" and importlib.util.find_spec(name):
        from napari.layers import Layer

        Layer.create(np.zeros((4, 4)), {"name": "map", "scale": (2, 2)}, "image")
