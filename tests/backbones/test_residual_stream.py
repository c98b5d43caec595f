"""The residual stream against an independent forward pass, in every published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cytosae.backbones import load
from cytosae.errors import CytosaeError
from support.backbones import DEPTH, FORMS, MEAN, STD, WIDTH, flat, reference


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{}, {"swiglu": True}, {"positions": 1370}], ids=str)
def test_residual_stream_equals_a_hook_in_every_published_form(
    form: str, options: dict[str, object], images: np.ndarray, tmp_path: Path
) -> None:
    model = reference(**options)
    path = FORMS[form](model.state_dict(), tmp_path / "weights")
    hooked = model.hooked(images)
    for layer in (-2, *range(1, DEPTH + 1)):
        backbone = load(str(path), layer=layer, dtype="float32")
        found = backbone.tokens(images)
        assert found.shape == (2, 257, WIDTH)
        assert found.dtype == torch.float32
        expected = hooked[layer - 1 if layer > 0 else DEPTH + layer]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)
        assert (backbone.info.depth, backbone.info.d_model, backbone.info.patch_size) == (DEPTH, WIDTH, 14)


def test_every_block_and_none_after_it(images: np.ndarray, tmp_path: Path) -> None:
    model = reference()
    hooked = model.hooked(images)
    for block in range(DEPTH):
        weights = model.state_dict()
        for key in weights:
            if key.startswith("blocks.") and int(key.split(".")[1]) > block:
                weights[key] = torch.full_like(weights[key], float("nan"))  # running it would show
        backbone = load(str(flat(weights, tmp_path / "w")), layer=block + 1, dtype="float32")
        torch.testing.assert_close(backbone.tokens(images), hooked[block], rtol=1e-4, atol=2e-4)
        assert backbone.info.layer == block
        assert len(backbone._blocks) == block + 1


@pytest.mark.parametrize("kind", ["dinov2", "registers", "vit", "vit518"])
def test_folders_of_transformers(kind: str, images: np.ndarray, tmp_path: Path) -> None:
    import transformers as tf

    torch.manual_seed(0)
    common = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    model: nn.Module
    if kind == "dinov2":
        model = tf.Dinov2Model(tf.Dinov2Config(**common, image_size=518, patch_size=14))
    elif kind == "registers":
        model = tf.Dinov2WithRegistersModel(tf.Dinov2WithRegistersConfig(**common, image_size=518, patch_size=14))
    else:
        size = 224 if kind == "vit" else 384
        model = tf.ViTModel(tf.ViTConfig(**common, intermediate_size=128, image_size=size, patch_size=16))
    model.eval().save_pretrained(tmp_path)
    blocks = model.layers if kind.startswith("vit") else model.encoder.layer
    seen: list[Tensor] = []
    blocks[1].register_forward_hook(lambda _m, _i, output: seen.append(output))
    pixels = ((torch.from_numpy(images).float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    with torch.no_grad():
        model(pixels, **({"interpolate_pos_encoding": True} if kind.startswith("vit") else {}))
    expected = seen[0]
    if kind == "registers":
        expected = torch.cat([expected[:, :1], expected[:, 5:]], 1)  # four registers stand between CLS and patches
    backbone = load(str(tmp_path), dtype="float32")
    side = 14 if kind.startswith("vit") else 16
    assert backbone.info.grid == (side, side)
    assert backbone.info.n_tokens == 1 + side * side == expected.shape[1]
    torch.testing.assert_close(backbone.tokens(images), expected, rtol=1e-4, atol=1e-4)


def test_tokens_lie_row_by_row(vit: Path) -> None:
    """Token 1 + i is patch i: only the tokens of a changed patch differ after the embedding."""
    backbone = load(str(vit), layer=1, dtype="float32")
    backbone._blocks = nn.ModuleList()
    plain = np.zeros((1, 224, 224, 3), np.uint8)
    marked = plain.copy()
    marked[0, 28 * 3 : 28 * 4, 28 * 5 : 28 * 6] = 255
    differs = (backbone.tokens(plain) != backbone.tokens(marked)).any(-1)[0].nonzero().squeeze(1)
    assert differs.tolist() == [1 + 3 * 8 + 5]


def test_lower_precision_stays_close_and_the_stream_stays_float32(vit: Path, images: np.ndarray) -> None:
    exact, rough = (load(str(vit), dtype=dtype).tokens(images) for dtype in ("float32", "bfloat16"))
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert (exact - rough).norm() / exact.norm() < 0.01
    for dtype in ("bfloat16", "float16"):
        backbone = load(str(vit), dtype=dtype)
        seen: list[torch.dtype] = []
        for part in (backbone._embeddings, *backbone._blocks):
            part.register_forward_hook(lambda _m, _i, output, seen=seen: seen.append(output.dtype))
        backbone.tokens(images)
        assert seen == [torch.float32] * 3  # embeddings and two blocks


def test_weights_that_are_cast_once_give_the_bits_of_autocast(vit: Path, images: np.ndarray) -> None:
    backbone, whole = load(str(vit), dtype="bfloat16"), load(str(vit), dtype="float32")
    expected = backbone.tokens(images)
    assert {p.dtype for n, p in backbone._blocks.named_parameters() if "_proj" in n or ".fc" in n} == {torch.bfloat16}
    backbone._blocks = whole._blocks  # float32 weights, which autocast casts on every call
    assert torch.equal(backbone.tokens(images), expected)


def test_same_images_same_bytes(vit: Path, images: np.ndarray) -> None:
    backbone = load(str(vit))
    assert torch.equal(backbone.tokens(images), load(str(vit)).tokens(torch.from_numpy(images)))


@pytest.mark.filterwarnings("error")
def test_images_in_any_memory(vit: Path, images: np.ndarray) -> None:
    backbone = load(str(vit))
    expected = backbone.tokens(images)
    fixed = images.copy()
    fixed.flags.writeable = False
    turned = np.ascontiguousarray(images[:, ::-1])[:, ::-1]
    for same in (fixed, turned, torch.from_numpy(images)):
        assert torch.equal(backbone.tokens(same), expected)
    assert backbone.tokens(images[:0]).shape == (0, 65, 48)


@pytest.mark.parametrize(
    "images",
    [
        [1, 2],
        "x",
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((1, 3, 224, 224), np.uint8),
        np.zeros((224, 224, 3), np.uint8),
    ],
)
def test_images_of_another_form(vit: Path, images: np.ndarray) -> None:
    with pytest.raises(CytosaeError, match="expected uint8"):
        load(str(vit)).tokens(images)
