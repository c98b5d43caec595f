"""DinoBloom in its three published forms, as a DINOv2 model of transformers.

The forms are the ``.pth`` of Zenodo record 10908163 (``{"teacher": {"backbone.…": …, "dino_head.…": …}}``), the flat
``.bin`` files of the hub's MarrLab/DinoBloom, and safetensors in timm's naming (``1aurent/vit_*_patch14_224.dinobloom``).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cytosae.errors import CytosaeError

if TYPE_CHECKING:
    from transformers import Dinov2Model

HUB_REPOSITORY = "MarrLab/DinoBloom"
HUB_FILES = {f"dinobloom-{size}": f"pytorch_model_{size}.bin" for size in "sblg"}
ZENODO_RECORD = "10908163"
ZENODO_FILES = {f"dinobloom-{size}": f"DinoBloom-{size.upper()}.pth" for size in "sblg"}
SHAPES = {"dinobloom-s": (384, 12), "dinobloom-b": (768, 12), "dinobloom-l": (1024, 24), "dinobloom-g": (1536, 40)}
"""Width and number of blocks."""

_HEAD_DIM = 64  # of every DINOv2 model
_EPS = 1e-6  # of the layer norms; checkpoints do not say
_DROPPED = ("dino_head.", "ibot_head.", "head.")

# DINOv2's names, for the names of transformers.
_RENAMED = (
    (r"^(cls_token|mask_token)$", r"embeddings.\1"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.mlp\.w3\.", ".mlp.down_proj."),
)

# Packed matrices, split along their rows. Both namings of the SwiGLU hold the gate first: silu(first) * second.
_PACKED = {
    ".attn.qkv.": [f".attention.{part}_proj." for part in "qkv"],
    ".mlp.w12.": [".mlp.gate_proj.", ".mlp.up_proj."],
}


def build(tensors: dict[str, Tensor], path: Path, image_size: int) -> Dinov2Model:
    """A DINOv2 model of transformers with the given weights.

    Checkpoints do not hold the number of attention heads: it is the width divided by 64, rounded down, at least 1.

    Parameters
    ----------
    tensors
        As `cytosae.backbones.weights.read_weights` gives them, in any of the three forms.
    path
        For messages.
    image_size
        Position embeddings of another size are interpolated to it, see `interpolated`.

    Raises
    ------
    CytosaeError
        Tensors are missing, left over or of another shape; names them as the file does.
    """
    from transformers import Dinov2Config, Dinov2Model

    named = original_names(tensors)
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
    if absent := [key for key in needed if key not in named]:
        raise CytosaeError(
            f"{path}: not DinoBloom weights, {', '.join(absent)} missing (first keys: {', '.join(list(tensors)[:3])}). "
            "Expected the .pth of Zenodo record 10908163, the .bin of MarrLab/DinoBloom, or timm's safetensors."
        )
    width, patch = named["cls_token"].shape[-1], named["patch_embed.proj.weight"].shape[-1]
    if image_size % patch:
        raise CytosaeError(f"{path}: patches of {patch} px do not fill an image of {image_size} px.")
    named["pos_embed"] = interpolated(named["pos_embed"], image_size // patch, path)
    depth = 1 + max(int(key.split(".")[1]) for key in named if re.match(r"blocks\.\d+\.", key))
    swiglu = "blocks.0.mlp.w12.weight" in named
    into = named.get("blocks.0.mlp.fc1.weight")
    ratio = 4 if swiglu or into is None else max(1, into.shape[0] // width)
    heads = max(1, width // _HEAD_DIM)
    if width % heads:
        raise CytosaeError(f"{path}: a width of {width} is not a multiple of {heads} heads; expected one of 64.")
    _check(named, layout(width, depth, ratio, patch, 1 + (image_size // patch) ** 2, swiglu), path)
    config = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        mlp_ratio=ratio,
        use_swiglu_ffn=swiglu,
        patch_size=patch,
        image_size=image_size,
        layer_norm_eps=_EPS,
        use_mask_token=False,  # of no use after pre-training, and timm's form has none
    )
    with torch.device("meta"):  # neither memory nor time for random weights, which are replaced at once
        model = Dinov2Model(config)
    named.pop("mask_token", None)
    model.load_state_dict(_converted(named), strict=True, assign=True)
    return model.eval()


def original_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's own names, in float32: prefixes and heads dropped, chunks of blocks (``blocks.0.7.``) flattened.

    The number of a block does not start again in the next chunk, so that it alone says which block is meant.
    """
    names = {key: key.removeprefix("module.") for key in tensors}
    prefixed = any(name.startswith("backbone.") for name in names.values())
    named: dict[str, Tensor] = {}
    for key, name in names.items():
        if prefixed and not name.startswith("backbone."):
            continue  # a head, beside the backbone
        name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name.removeprefix("backbone."))
        if not name.startswith(_DROPPED):
            named[name] = tensors[key].float()
    into, out = (named.get(f"blocks.0.mlp.{name}.weight") for name in ("fc1", "fc2"))
    if into is not None and out is not None and into.shape[0] == 2 * out.shape[-1]:  # timm's names of a packed SwiGLU
        named = {k.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3."): v for k, v in named.items()}
    return named


def layout(width: int, depth: int, ratio: int, patch: int, n_tokens: int, swiglu: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a DINOv2 model, by its authors' names; ``mask_token`` may be missing from a file."""

    def linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}

    def norm(name: str) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    hidden = width * ratio
    if swiglu:  # two thirds, so that three matrices have the size of two, rounded up to a multiple of eight
        hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, n_tokens, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        **norm("norm"),
    }
    for index in range(depth):
        block = f"blocks.{index}"
        shapes |= norm(f"{block}.norm1") | norm(f"{block}.norm2")
        shapes |= linear(f"{block}.attn.qkv", 3 * width, width) | linear(f"{block}.attn.proj", width, width)
        shapes |= {f"{block}.ls1.gamma": (width,), f"{block}.ls2.gamma": (width,)}
        first, second = ("w12", "w3") if swiglu else ("fc1", "fc2")
        shapes |= linear(f"{block}.mlp.{first}", 2 * hidden if swiglu else hidden, width)
        shapes |= linear(f"{block}.mlp.{second}", width, hidden)
    return shapes


def _check(named: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    wrong = [
        f"{key} is {tuple(value.shape)}, not {shapes[key]}"
        for key, value in named.items()
        if key in shapes and tuple(value.shape) != shapes[key]
    ]
    problems = {
        "missing": [key for key in shapes if key not in named and key != "mask_token"],
        "unknown": [key for key in named if key not in shapes],
        "of another shape": wrong,
    }
    phrases = [
        f"{problem}: {', '.join(keys[:4])}{f' and {len(keys) - 4} more' if len(keys) > 4 else ''}"
        for problem, keys in problems.items()
        if keys
    ]
    if phrases:
        raise CytosaeError(
            f"{path}: does not hold exactly a DINOv2 model ({'; '.join(phrases)}). Expected one of DinoBloom's published "
            "files; is it whole, and of this model?"
        )


def _converted(named: dict[str, Tensor]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for key, value in named.items():
        name = key
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        for packed, targets in _PACKED.items():
            if packed in name:
                for submodule, chunk in zip(targets, value.chunk(len(targets)), strict=True):
                    state[name.replace(packed, submodule)] = chunk
                break
        else:
            state[name] = value
    return state


def interpolated(positions: Tensor, grid: int, path: Path) -> Tensor:
    """Position embeddings for another grid, as DINOv2's (and DinoBloom's) own code computes them.

    Bicubic, without antialiasing, and with DINOv2's offset of 0.1 in the scale factor (``(grid + 0.1) / side``), which
    moves the sampling points by up to a quarter of a patch. transformers leaves the offset away and timm adds
    antialiasing, so that they differ a little here. Embeddings of the right size are returned as they are.

    Parameters
    ----------
    positions
        ``(1, 1 + side * side, d_model)``, CLS first.
    grid
        Patches along an edge that are wanted.

    Raises
    ------
    CytosaeError
        Not CLS and a square.
    """
    count = positions.shape[1] - 1
    side = math.isqrt(max(count, 0))
    if side * side != count or side == 0:
        raise CytosaeError(
            f"{path}: {positions.shape[1]} position embeddings are not CLS and a square grid; expected 257 or 1370."
        )
    if side == grid:
        return positions
    square = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    scale = (grid + 0.1) / side
    square = torch.nn.functional.interpolate(square, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return torch.cat([positions[:, :1], square.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
