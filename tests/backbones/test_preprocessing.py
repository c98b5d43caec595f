"""Normalisation: what a model's own files state, and what cannot be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from cytosae.backbones import load
from cytosae.errors import CytosaeError
from support.backbones import MEAN, STD, reference


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"image_mean": [0.5], "image_std": [0.5] * 3}, r"image_mean \[0\.5\]; expected three numbers"),
        ({"image_mean": [0.5] * 3}, "image_std None; expected three numbers"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5, 0, 0.5]}, "expected numbers above 0"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 0}, "rescale_factor 0; expected a number"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"rescale_offset": True}, "rescale_offset"),
        ([1], "preprocessor_config.json holds no settings"),
        ({"size": 224}, None),
        ({"do_flip_channel_order": False}, None),
    ],
)
def test_normalisation_that_is_not_one(stated: object, message: str | None, vit: Path, tmp_path: Path) -> None:
    for path in vit.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    if message is None:
        assert load(str(tmp_path)).info.mean == pytest.approx(MEAN.tolist())
        return
    with pytest.raises(CytosaeError, match=message):
        load(str(tmp_path))


_OWN = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}


@pytest.mark.parametrize(
    "stated",
    [
        {"do_normalize": False},
        {"do_normalize": False, "image_mean": [0.5] * 3},
        {"do_normalize": False, "do_rescale": False},
        {**_OWN, "do_rescale": False},
        {**_OWN, "rescale_factor": 1 / 127.5},
        {**_OWN, "rescale_factor": 0.00392156862745098},
        {**_OWN, "do_rescale": False, "rescale_factor": 1 / 127.5},
        {"do_rescale": False},
    ],
    ids=str,
)
def test_pixels_reach_the_model_as_its_own_processor_makes_them(
    stated: dict[str, Any], vit: Path, images: np.ndarray, tmp_path: Path
) -> None:
    for path in vit.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    info = load(str(tmp_path)).info
    pixels = images.astype(np.float64)
    given = pixels * stated.get("rescale_factor", 1 / 255) if stated.get("do_rescale", True) else pixels
    if stated.get("do_normalize", True):
        mean, std = stated.get("image_mean", MEAN.tolist()), stated.get("image_std", STD.tolist())
        given = (given - mean) / std
    np.testing.assert_allclose((pixels / 255 - info.mean) / info.std, given, rtol=1e-5, atol=1e-5)
    if stated == {"do_normalize": False}:
        assert (info.mean, info.std) == ((0, 0, 0), (1, 1, 1))


def test_a_nested_image_processor_and_damaged_files(vit: Path, tmp_path: Path) -> None:
    for path in vit.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": _OWN, "tokenizer": {}}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    assert load(str(tmp_path)).info.mean == tuple(_OWN["image_mean"])  # as transformers chooses
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert load(str(tmp_path)).info.mean == (0, 0, 0)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": fal')
    with pytest.raises(CytosaeError, match=r"preprocessor_config\.json cannot be read"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"size": {"shortest_edge": 256}, "do_resize": True}, "resizes to shortest edge 256 px"),
        ({"do_resize": True, "size": {"height": 224, "width": 224}, "resample": 3}, "bicubic interpolation"),
        ({"do_center_crop": True, "crop_size": 224}, "cuts out the middle"),
        ({"do_pad": True}, "do_pad"),
        ({"do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2}, None),
        ({}, None),
    ],
)
def test_other_sizes_and_crops_are_said(
    stated: dict[str, Any], said: str | None, vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in vit.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    load(str(tmp_path))
    told = capsys.readouterr().err
    assert ("was trained on other images" in told) == (said is not None)
    assert said is None or said in told


def test_a_folder_of_timm_says_its_normalisation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(reference().state_dict(), tmp_path / "model.safetensors")

    def loaded(config: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_base_patch14_dinov2", **config}))
        info = load(str(tmp_path)).info
        return info.mean, info.std

    own = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    expected = (tuple(own["mean"]), tuple(own["std"]))
    assert loaded({"pretrained_cfg": own}) == expected
    assert loaded(own) == expected
    assert loaded({})[0] == pytest.approx(MEAN.tolist())
    assert capsys.readouterr().err == ""
    loaded({"pretrained_cfg": {**own, "input_size": [3, 518, 518], "crop_pct": 0.875, "interpolation": "bicubic"}})
    told = capsys.readouterr().err
    assert all(one in told for one in ("518 x 518 px", "87.5%", "bicubic"))
    with pytest.raises(CytosaeError, match=r"config\.json gives std None"):
        loaded({"pretrained_cfg": {"mean": own["mean"]}})
