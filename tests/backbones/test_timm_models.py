"""Models of timm, block by block."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cytosae.backbones import listed, load
from cytosae.errors import CytosaeError
from support.backbones import STATED, Attention, Mlp
from support.model_hosts import COMMIT, Hub, folder_bytes


class TimmBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn = Attention(width, heads)
        self.attn.num_heads = heads
        self.mlp = Mlp(width, 2 * width)
        self.mlp.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TimmViT(nn.Module):
    """A vision transformer with the attributes of timm's, so far as they matter here."""

    def __init__(self, class_token: bool = True, registers: int = 0) -> None:
        super().__init__()
        self.embed_dim, self.has_class_token = 48, class_token
        self.num_prefix_tokens = class_token + registers
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, 48, 16, 16)
        self.patch_embed.forward = lambda x: self.patch_embed.proj(x).flatten(2).transpose(1, 2)  # type: ignore[method-assign]
        self.cls_token = nn.Parameter(torch.randn(1, 1, 48)) if class_token else None
        self.reg_token = nn.Parameter(torch.randn(1, registers, 48)) if registers else None
        self.pos_embed = nn.Parameter(torch.randn(1, 196 + class_token, 48))
        self.patch_drop, self.norm_pre, self.norm = nn.Identity(), nn.LayerNorm(48), nn.LayerNorm(48)
        self.blocks = nn.Sequential(*[TimmBlock(48, 3) for _ in range(3)])

    def _pos_embed(self, x: Tensor) -> Tensor:
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        x = x + self.pos_embed
        if self.reg_token is not None:
            x = torch.cat([x[:, : self.has_class_token], self.reg_token.expand(len(x), -1, -1), x[:, 1:]], 1)
        return x

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.norm_pre(self._pos_embed(self.patch_embed(x)))
        return [x := block(x) for block in self.blocks]


@pytest.fixture
def timm_stub(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], None]:
    """Puts a module `timm` in place that knows one model, and fills it as timm does: strictly if no classifier is named."""

    def put(model: nn.Module) -> None:
        def get_pretrained_cfg(name: str) -> SimpleNamespace | None:
            if "." in name and not name.endswith(".some"):
                raise RuntimeError(f"Invalid pretrained tag ({name.partition('.')[2]})")
            return SimpleNamespace(hf_hub_id="timm/vit.some", mean=STATED[0], std=STATED[1]) if "vit" in name else None

        def create_model(
            name: str,
            pretrained: bool,
            num_classes: int,
            global_pool: str,
            img_size: int,
            pretrained_cfg_overlay: dict[str, Any],
        ) -> nn.Module:
            assert (pretrained, num_classes, global_pool, img_size) == (True, 0, "", 224)
            model.load_state_dict(
                pretrained_cfg_overlay["state_dict"], strict=pretrained_cfg_overlay["classifier"] is None
            )
            return model

        module = ModuleType("timm")
        module.models = SimpleNamespace(get_pretrained_cfg=get_pretrained_cfg)  # type: ignore[attr-defined]
        module.create_model = create_model  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "timm", module)

    return put


@pytest.mark.parametrize(("class_token", "registers"), [(True, 0), (True, 4), (False, 0)])
def test_every_block_of_a_model_of_timm(
    class_token: bool,
    registers: int,
    images: np.ndarray,
    timm_stub: Callable[[nn.Module], None],
    hub: Callable[[dict[str, bytes]], Hub],
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model = TimmViT(class_token, registers).eval()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    save_file({**weights, "head.weight": torch.ones(5, 48)}, tmp_path / "model.safetensors")
    server = hub(folder_bytes(tmp_path))
    pixels = ((torch.from_numpy(images).float() / 255 - torch.tensor(STATED[0])) / torch.tensor(STATED[1])).permute(
        0, 3, 1, 2
    )
    with torch.no_grad():
        expected = model(pixels)
    prints = set()
    for layer in (1, 2, 3):
        fresh = TimmViT(class_token, registers)
        timm_stub(fresh)
        backbone = load("timm:vit.some", layer=layer, dtype="float32")
        x = expected[layer - 1]
        kept = torch.cat([x[:, :1] if class_token else x.mean(1, keepdim=True), x[:, class_token + registers :]], 1)
        torch.testing.assert_close(backbone.tokens(images), kept, rtol=1e-5, atol=1e-5)
        assert (backbone.info.source, backbone.info.revision) == ("timm/vit.some", COMMIT)
        assert (backbone.info.n_tokens, backbone.info.depth, backbone.info.d_model) == (197, 3, 48)
        prints.add(backbone.info.fingerprint)
    assert len(prints) == 1
    assert "/timm/vit.some/resolve/main/model.safetensors" in server.asked


def test_weights_that_timm_would_leave_random(
    timm_stub: Callable[[nn.Module], None], hub: Callable[[dict[str, bytes]], Hub], tmp_path: Path
) -> None:
    weights = TimmViT().state_dict()
    del weights["blocks.1.norm1.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    hub(folder_bytes(tmp_path))
    timm_stub(TimmViT())
    with pytest.raises(CytosaeError, match=r"timm:vit\.some: timm cannot build it for images of 224 px.*RuntimeError"):
        load("timm:vit.some")


def test_models_that_timm_does_not_have_or_builds_otherwise(
    timm_stub: Callable[[nn.Module], None],
    hub: Callable[[dict[str, bytes]], Hub],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    timm_stub(nn.Linear(2, 2))
    save_file({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, tmp_path / "model.safetensors")
    hub(folder_bytes(tmp_path))
    with pytest.raises(CytosaeError, match=r"timm:vit\.some: is no plain vision transformer \(patch_embed, _pos_embed"):
        load("timm:vit.some")
    with pytest.raises(CytosaeError, match="timm knows no such model"):
        load("timm:resnet50")
    with pytest.raises(CytosaeError, match=r"timm does not know it \(Invalid pretrained tag \(other\)\)"):
        load("timm:vit.other")
    assert any(row["name"] == "timm:NAME" for row in listed())
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(CytosaeError, match="needs timm, which cannot be imported"):
        load("timm:vit.some")
    assert not any(row["name"] == "timm:NAME" for row in listed())
