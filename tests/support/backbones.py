"""A DINOv2 written from the paper, and its weights in every published form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, DEPTH, HEADS = 128, 4, 2
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
Weights = dict[str, Tensor]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, d))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGlu(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * up)


class Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(width) + 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, heads: int, swiglu: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn, self.ls1, self.ls2 = Attention(width, heads), Scale(width), Scale(width)
        self.mlp = SwiGlu(width, 344) if swiglu else Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Reference(nn.Module):
    """A DINOv2 in the naming of its authors, written from the paper: what the loaders are checked against."""

    def __init__(self, swiglu: bool = False, positions: int = 257) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.mask_token = nn.Parameter(torch.randn(1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, positions, WIDTH))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, 14, 14)
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS, swiglu) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, 1e-6)

    def forward(self, images: np.ndarray) -> Tensor:
        x = (torch.from_numpy(images).float() / 255 - MEAN) / STD
        x = self.patch_embed.proj(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        positions = self.pos_embed
        if positions.shape[1] != 257:
            side = int((positions.shape[1] - 1) ** 0.5)
            square = positions[:, 1:].reshape(1, side, side, WIDTH).permute(0, 3, 1, 2)
            square = F.interpolate(square, scale_factor=16.1 / side, mode="bicubic")  # DINOv2's offset of 0.1
            positions = torch.cat([positions[:, :1], square.flatten(2).transpose(1, 2)], 1)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def hooked(self, images: np.ndarray) -> list[Tensor]:
        """What forward hooks on the blocks of the whole model see."""
        seen: list[Tensor] = []
        for block in self.blocks:
            block.register_forward_hook(lambda _m, _i, output: seen.append(output))
        with torch.no_grad():
            self(images)
        return seen


def reference(**options: object) -> Reference:
    torch.manual_seed(1)
    return Reference(**options).eval()  # type: ignore[arg-type]


def zenodo(weights: Weights, path: Path) -> Path:
    heads = {"dino_head.mlp.0.weight": torch.ones(3, 3), "ibot_head.last_layer.weight": torch.ones(2)}
    backbone = {f"backbone.{key}": value for key, value in weights.items()}
    torch.save({"teacher": {**backbone, **heads}}, path := path.with_suffix(".pth"))
    return path


def chunked(weights: Weights, path: Path) -> Path:
    names = {k: k.replace("blocks.", f"blocks.{int(k.split('.')[1]) // 2}.") if "blocks." in k else k for k in weights}
    return zenodo({names[key]: value for key, value in weights.items()}, path)


def flat(weights: Weights, path: Path) -> Path:
    torch.save(weights, path := path.with_suffix(".bin"))
    return path


def timm(weights: Weights, path: Path) -> Path:
    renamed = {k.replace(".w12.", ".fc1.").replace(".w3.", ".fc2."): v for k, v in weights.items() if k != "mask_token"}
    save_file(renamed, path := path.with_suffix(".safetensors"))
    return path


FORMS = {"zenodo": zenodo, "chunked": chunked, "flat": flat, "timm": timm}
STATED = ([0.7, 0.6, 0.5], [0.2, 0.25, 0.3])
"""As a preprocessor_config.json says it; nobody's default."""
