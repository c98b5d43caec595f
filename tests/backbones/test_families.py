"""Every family of models, block by block, against transformers itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cytosae.backbones import load
from cytosae.backbones.families import FAMILIES
from cytosae.errors import CytosaeError
from support.backbones import MEAN, STATED, STD

CLIP_NORM = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
HALF_NORM = ([0.5] * 3, [0.5] * 3)
_SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
_TEXT = {**_SMALL, "num_hidden_layers": 1, "vocab_size": 50}


def family(kind: str) -> tuple[nn.Module, nn.Module]:
    """A model of a family with random weights, and the vision tower in it (the model itself where that is all)."""
    import transformers as tf

    torch.manual_seed(3)
    name, _, form = kind.partition("-")
    whole: nn.Module
    if name == "dinov3":
        gated = {"use_gated_mlp": True, "hidden_act": "silu"} if form == "gated" else {}
        config = tf.DINOv3ViTConfig(**_SMALL, patch_size=16, num_register_tokens=4, layerscale_value=0.7, **gated)
        whole = tf.DINOv3ViTModel(config)
    elif name == "phikon":
        shape = {key: value for key, value in _SMALL.items() if key != "intermediate_size"}
        whole = tf.Dinov2Model(tf.Dinov2Config(**shape, patch_size=16, image_size=224))
    elif name == "clip":
        vision = {**_SMALL, "patch_size": 16, "image_size": 224 if form != "larger" else 320}
        whole = tf.CLIPModel(tf.CLIPConfig(vision_config=vision, text_config=_TEXT))
    elif name == "siglip":
        vision = {**_SMALL, "patch_size": 16, "image_size": 224}
        whole = tf.SiglipModel(tf.SiglipConfig(vision_config=vision, text_config=_TEXT))
    else:
        vision = {**_SMALL, "patch_size": 16, "num_patches": 64}
        whole = tf.Siglip2Model(tf.Siglip2Config(vision_config=vision, text_config=_TEXT))
    with torch.no_grad():  # far from the initial values, which hide mistakes
        for parameter in whole.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    whole.eval()
    return whole, getattr(whole, "vision_model", whole)


def streams(kind: str, tower: nn.Module, images: np.ndarray, norm: tuple[list[float], list[float]]) -> list[Tensor]:
    """What the whole tower computes, block by block, told by transformers itself; the last is its final output."""
    pixels = (torch.from_numpy(images).float() / 255 - torch.tensor(norm[0])) / torch.tensor(norm[1])
    options: dict[str, object] = {"pixel_values": pixels.permute(0, 3, 1, 2)}
    if kind.startswith("siglip2"):
        cut = [pixels[:, 16 * r : 16 * r + 16, 16 * c : 16 * c + 16].flatten(1) for r in range(14) for c in range(14)]
        options = {
            "pixel_values": torch.stack(cut, 1),
            "pixel_attention_mask": torch.ones(len(images), 196, dtype=torch.long),
            "spatial_shapes": torch.tensor([[14, 14]] * len(images)),
        }
    elif kind.startswith(("clip", "siglip")):
        options["interpolate_pos_encoding"] = True
    with torch.no_grad():
        found = tower(**options, output_hidden_states=True)
    outputs = [*found.hidden_states[1:], found.last_hidden_state]
    if kind.startswith("dinov3"):
        return [torch.cat([x[:, :1], x[:, 5:]], 1) for x in outputs]
    if not FAMILIES[tower.config.model_type].has_cls:  # type: ignore[union-attr, index]
        return [torch.cat([x.mean(1, keepdim=True), x], 1) for x in outputs]
    return outputs


@pytest.mark.parametrize(
    ("kind", "part", "norm"),
    [
        ("dinov3", "tower", (MEAN.tolist(), STD.tolist())),
        ("dinov3-gated", "tower", (MEAN.tolist(), STD.tolist())),
        ("phikon", "stated", STATED),
        ("clip", "whole", CLIP_NORM),
        ("clip", "tower", CLIP_NORM),
        ("clip-larger", "stated", STATED),
        ("siglip", "whole", HALF_NORM),
        ("siglip", "tower", HALF_NORM),
        ("siglip2", "whole", HALF_NORM),
        ("siglip2", "tower", HALF_NORM),
    ],
)
def test_every_block_of_every_family(
    kind: str, part: str, norm: tuple[list[float], list[float]], images: np.ndarray, tmp_path: Path
) -> None:
    whole, tower = family(kind)
    (tower if part == "tower" else whole).save_pretrained(tmp_path)
    if part == "stated":
        about = {"image_mean": norm[0], "image_std": norm[1], "do_normalize": True}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    expected = streams(kind, tower, images, norm)
    for layer in (1, 2, 3):
        backbone = load(str(tmp_path), layer=layer, dtype="float32", whole=True)
        found = backbone.tokens(images)
        assert found.shape == (2, 197, 48)
        torch.testing.assert_close(found, expected[layer - 1], rtol=1e-5, atol=1e-5)
        assert (backbone.info.grid, backbone.info.n_tokens, backbone.info.depth) == ((14, 14), 197, 3)
        assert ([*backbone.info.mean], [*backbone.info.std]) == (pytest.approx(norm[0]), pytest.approx(norm[1]))
        assert backbone.can_finish is not kind.startswith("dinov3")  # its registers are not kept
        if not FAMILIES[tower.config.model_type].has_cls:  # type: ignore[union-attr, index]
            # The mean of the patches takes no part in what follows.
            changed = torch.cat([torch.zeros_like(found[:, :1]), found[:, 1:]], 1)
            torch.testing.assert_close(backbone.output(changed), expected[3], rtol=1e-4, atol=1e-5)
        elif backbone.can_finish:
            final = getattr(tower, "post_layernorm", nn.Identity())(expected[3])
            torch.testing.assert_close(backbone.output(found), final, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["dinov3", "clip", "siglip", "siglip2"])
def test_families_in_lower_precision_and_token_by_token(kind: str, images: np.ndarray, tmp_path: Path) -> None:
    family(kind)[1].save_pretrained(tmp_path)
    exact, rough = (load(str(tmp_path), dtype=dtype).tokens(images) for dtype in ("float32", "bfloat16"))
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).norm() / exact.norm() < 0.02
    backbone = load(str(tmp_path), layer=1, dtype="float32")
    backbone._blocks = nn.ModuleList()
    plain = np.zeros((1, 224, 224, 3), np.uint8)
    marked = plain.copy()
    marked[0, 16 * 3 : 16 * 4, 16 * 5 : 16 * 6] = 255
    differs = (backbone.tokens(plain) != backbone.tokens(marked)).any(-1)[0].nonzero().squeeze(1)
    assert differs.tolist() == [*([0] if kind.startswith("siglip") else []), 1 + 3 * 14 + 5]


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_a_tower_and_the_model_that_it_is_from_are_one_backbone(kind: str, tmp_path: Path) -> None:
    whole, tower = family(kind)
    whole.save_pretrained(tmp_path / "whole")
    tower.save_pretrained(tmp_path / "tower")
    prints = {load(str(tmp_path / part)).info.fingerprint for part in ("whole", "tower")}
    assert len(prints) == 1
    old = {f"vision_model.{key}": value for key, value in load_file(tmp_path / "tower" / "model.safetensors").items()}
    heads = {key: value for key, value in old.items() if ".head." not in key}  # pooling has no part in the tokens
    save_file(heads, tmp_path / "tower" / "model.safetensors", metadata={"format": "pt"})
    assert {load(str(tmp_path / "tower")).info.fingerprint} == prints
    lacking = {key: value for key, value in heads.items() if "layers.1.mlp.fc1.bias" not in key}
    save_file(lacking, tmp_path / "tower" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CytosaeError, match=r"weights are missing.*layers\.1\.mlp\.fc1\.bias"):
        load(str(tmp_path / "tower"))


def test_angles_of_dinov3_are_part_of_its_fingerprint(tmp_path: Path) -> None:
    family("dinov3")[1].save_pretrained(tmp_path)
    before = load(str(tmp_path)).info.fingerprint
    about = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**about, "rope_theta": 50.0}))
    assert load(str(tmp_path)).info.fingerprint != before
