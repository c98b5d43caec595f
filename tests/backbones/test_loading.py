"""Backbones by name and layer, and models that are not supported."""

from __future__ import annotations

from pathlib import Path

import pytest

from cytosae.backbones import load, resolve_layer
from cytosae.errors import CytosaeError
from support.backbones import flat, reference


def test_wrong_size_for_a_dinobloom_name(tmp_path: Path) -> None:
    path = flat(reference().state_dict(), tmp_path / "w")
    with pytest.raises(CytosaeError, match="width 128 and 4 blocks, but dinobloom-b has 768 and 12"):
        load("dinobloom-b", weights=path)
    with pytest.raises(CytosaeError, match="--weights belongs to"):
        load("tiny", weights=path)


def test_names_and_layers(vit: Path, tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match=r"unknown backbone, did you mean dinobloom-b\?"):
        load("dinoblom-b")
    with pytest.raises(CytosaeError, match="no such file of weights"):
        load(str(tmp_path / "absent.pth"))
    with pytest.raises(CytosaeError, match=r"config\.json"):
        load(str(tmp_path))
    for name in ("nothing", "", "./no/folder"):
        with pytest.raises(CytosaeError, match=r"unknown backbone\. Known are dinobloom-s, .*, tiny"):
            load(name)
    assert load(str(vit), layer="-2").info.layer == load(str(vit), layer="2").info.layer == 1
    for layer in (0, 4, -4, "last"):
        with pytest.raises(CytosaeError, match=r"3 blocks; choose 1 to 3, or -3 to -1"):
            load(str(vit), layer=layer)
    assert [resolve_layer(n, 12) for n in (-2, -1, 1, 11, 12, -12)] == [10, 11, 0, 10, 11, 0]


def test_unsupported_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CytosaeError, match="is a 'bert' model; supported are"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(CytosaeError, match="cannot be loaded"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"patch_size": 15, "image_size": 225}, "patches of 15 x 15 px"), ({"num_channels": 1}, "images of 1 channels")],
)
def test_models_for_other_images(change: dict[str, int], message: str, tmp_path: Path) -> None:
    import transformers as tf

    common = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    tf.ViTModel(tf.ViTConfig(**common, **change)).save_pretrained(tmp_path)
    with pytest.raises(CytosaeError, match=message):
        load(str(tmp_path))
