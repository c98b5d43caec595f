"""Published vision transformers in timm's naming, with registers and without, against the equations written once more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cytosae.backbones import load
from cytosae.backbones.catalogue import KNOWN
from cytosae.errors import CytosaeError
from support.backbones import MEAN, STATED, STD, Attention, Mlp, Scale

MEANS = {"imagenet": (MEAN.tolist(), STD.tolist()), "stated": STATED}


@dataclass(frozen=True)
class Published:
    """How a published model differs from the others; `width` and `heads` are smaller than in life but for Virchow2's."""

    registers: int = 0
    positions: str = "patches"
    """Tokens with a position: ``patches``; ``cls`` and patches; or ``all``, registers too."""
    swiglu: bool = True
    scaled: bool = True
    """Whether there is a layer scale."""
    width: int = 128
    heads: int = 2
    depth: int = 3
    patch: int = 14
    edge: int = 224
    """Of the images that it was trained on, in pixels."""


MODELS = {
    "UNI2-h": Published(registers=8),
    "H-optimus-1": Published(registers=4),
    "Virchow2": Published(registers=4, positions="all", width=1280, heads=16, depth=1),
    "RedDino": Published(positions="cls", swiglu=False),
    "CONCH": Published(positions="cls", swiglu=False, scaled=False, patch=16, edge=448),
}


class Packed(nn.Module):
    """timm's packed SwiGLU: the first half of fc1 is the gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = (int(width * 8 / 3) + 7) // 8 * 8
        self.fc1, self.fc2 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, like: Published) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(like.width, 1e-6), nn.LayerNorm(like.width, 1e-6)
        self.attn = Attention(like.width, like.heads)
        self.mlp = Packed(like.width) if like.swiglu else Mlp(like.width, 4 * like.width)
        if like.scaled:
            self.ls1, self.ls2 = Scale(like.width), Scale(like.width)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.ls1, self.ls2) if hasattr(self, "ls1") else (nn.Identity(), nn.Identity())
        x = x + first(self.attn(self.norm1(x)))
        return x + second(self.mlp(self.norm2(x)))


class Transformer(nn.Module):
    """A vision transformer in timm's naming, after its papers."""

    def __init__(self, like: Published) -> None:
        super().__init__()
        self.like, side = like, like.edge // like.patch
        before = {"patches": 0, "cls": 1, "all": 1 + like.registers}[like.positions]
        self.cls_token = nn.Parameter(torch.randn(1, 1, like.width))
        if like.registers:
            self.reg_token = nn.Parameter(torch.randn(1, like.registers, like.width))
        self.pos_embed = nn.Parameter(torch.randn(1, before + side * side, like.width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, like.width, like.patch, like.patch)
        self.blocks = nn.ModuleList(Block(like) for _ in range(like.depth))
        self.norm = nn.LayerNorm(like.width, 1e-6)

    def embedded(self, images: np.ndarray, norm: tuple[list[float], list[float]]) -> Tensor:
        x = (torch.from_numpy(images).float() / 255 - torch.tensor(norm[0])) / torch.tensor(norm[1])
        patches = self.patch_embed.proj(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        before = self.pos_embed.shape[1] - (self.like.edge // self.like.patch) ** 2
        prefix, grid = self.pos_embed[:, :before], self.pos_embed[:, before:]
        if grid.shape[1] != patches.shape[1]:
            sides = [int(n**0.5) for n in (grid.shape[1], patches.shape[1])]
            square = grid.reshape(1, sides[0], sides[0], -1).permute(0, 3, 1, 2)
            square = F.interpolate(square, (sides[1], sides[1]), mode="bicubic", antialias=True)
            grid = square.flatten(2).transpose(1, 2)
        first = [self.cls_token, *([self.reg_token] if self.like.registers else [])]
        leading = torch.cat(first, 1)
        leading = leading + F.pad(prefix, (0, 0, 0, leading.shape[1] - before))
        return torch.cat([leading.expand(len(patches), -1, -1), patches + grid], 1)

    @torch.no_grad()
    def streams(self, images: np.ndarray, norm: tuple[list[float], list[float]]) -> list[Tensor]:
        """After every block, without registers."""
        x, seen = self.embedded(images, norm), []
        for block in self.blocks:
            x = block(x)
            seen.append(torch.cat([x[:, :1], x[:, 1 + self.like.registers :]], 1))
        return seen


def written(name: str, folder: Path, norm: str) -> tuple[Transformer, Path]:
    """A small model of the layout of a published one, and the folder or file as it is published."""
    torch.manual_seed(5)
    model = Transformer(MODELS[name]).eval()
    weights = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    if name == "CONCH":
        whole = {f"visual.trunk.{key}": value for key, value in weights.items()}
        others = {
            "visual.attn_pool_contrast.query": torch.ones(2),
            "text.cls_emb": torch.ones(3),
            "logit_scale": torch.ones(1),
        }
        torch.save(whole | others, path := folder / "pytorch_model.bin")
        return model, path
    config: dict[str, object] = {"architecture": "vit_giant_patch14_224", "model_args": {"init_values": 1e-5}}
    if norm == "stated":
        config["pretrained_cfg"] = {"mean": STATED[0], "std": STATED[1], "input_size": [3, 224, 224]}
    (folder / "config.json").write_text(json.dumps(config))
    if name == "H-optimus-1":
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")
    return model, folder


@pytest.mark.parametrize(("name", "norm"), [(name, "imagenet") for name in MODELS] + [("H-optimus-1", "stated")])
def test_every_block_of_a_published_layout(name: str, norm: str, images: np.ndarray, tmp_path: Path) -> None:
    model, path = written(name, tmp_path, norm)
    for layer, expected in enumerate(model.streams(images, MEANS[norm]), 1):
        backbone = load(str(path), layer=layer, dtype="float32", whole=True)
        torch.testing.assert_close(backbone.tokens(images), expected, rtol=1e-5, atol=2e-5)
        side = 224 // model.like.patch
        assert (backbone.info.grid, backbone.info.depth) == ((side, side), model.like.depth)
        assert backbone.can_finish is not bool(model.like.registers)


def test_registers_have_a_part_in_the_tokens_and_none_is_a_patch(images: np.ndarray, tmp_path: Path) -> None:
    model, path = written("UNI2-h", tmp_path, "imagenet")
    before = load(str(path), layer=2, dtype="float32")
    model.reg_token.data += 1
    weights = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, path / "model.safetensors")
    after = load(str(path), layer=2, dtype="float32")
    assert before.info.fingerprint != after.info.fingerprint
    assert before.tokens(images).shape == after.tokens(images).shape == (len(images), 257, 128)
    assert not torch.allclose(before.tokens(images), after.tokens(images))


def test_a_file_with_too_much_or_too_little_is_refused(tmp_path: Path) -> None:
    model, path = written("UNI2-h", tmp_path, "imagenet")
    weights = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    for changed, message in (
        (
            {key: value for key, value in weights.items() if key != "blocks.1.ls2.gamma"},
            r"missing: blocks\.1\.ls2\.gamma",
        ),
        ({**weights, "blocks.0.attn.q_norm.weight": torch.ones(4)}, r"unknown: blocks\.0\.attn\.q_norm\.weight"),
        ({**weights, "pos_embed": torch.ones(1, 250, 128)}, "250 position embeddings"),
    ):
        save_file(changed, path / "model.safetensors")
        with pytest.raises(CytosaeError, match=message):
            load(str(path))


def test_the_models_of_the_trade_are_listed_with_their_licence() -> None:
    known = {entry.name: entry for entry in KNOWN}
    for name in ("MahmoodLab/UNI2-h", "paige-ai/Virchow2", "bioptimus/H-optimus-1"):
        assert (known[name].licence, known[name].gated, known[name].n_tokens) == ("CC BY-NC-ND 4.0", True, 257)
    assert known["Snarcy/RedDino-base"].licence == "Apache-2.0"
