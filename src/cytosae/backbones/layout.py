"""Vision transformers in the naming of DINOv2's authors or of timm, as models of transformers.

DinoBloom (see `cytosae.backbones.dinobloom`), RedDino, UNI2-h, Virchow2, H-optimus-0 and -1 are published like this, and the
vision tower in a file of CONCH. They differ in what a file itself shows: register tokens (Darcet et al., Vision transformers
need registers, 2024), which tokens have a position, SwiGLU or GELU, layer scale or none.
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
    from transformers import Dinov2Model, Dinov2WithRegistersModel

_HEAD_DIM = 64  # of every DINOv2 model, and of all others but those named below
_HEADS = {1280: 16}  # ViT-H, such as Virchow2
_EPS = 1e-6  # of the layer norms; checkpoints do not say
_DROPPED = ("dino_head.", "ibot_head.", "head.", "fc_norm.")
_CONCH = "visual.trunk."

# DINOv2's names, for the names of transformers.
_RENAMED = (
    (r"^(cls_token|mask_token|register_tokens)$", r"embeddings.\1"),
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


def build(tensors: dict[str, Tensor], path: Path, image_size: int) -> Dinov2Model | Dinov2WithRegistersModel:
    """A DINOv2 model of transformers with the given weights, with registers if they have some.

    Checkpoints do not hold the number of attention heads: it is the width divided by 64, rounded down, at least 1; 16 for a
    width of 1,280.

    Parameters
    ----------
    tensors
        As `cytosae.backbones.weights.read_weights` gives them.
    path
        For messages.
    image_size
        Position embeddings of another size are interpolated to it, see `interpolated`.

    Raises
    ------
    CytosaeError
        Tensors are missing, left over or of another shape; names them as the file does.

    Examples
    --------
    >>> import torch
    >>> shapes = layout(64, 1, 4, 14, 257, swiglu=False, registers=4)
    >>> model = build({name: torch.zeros(shape) for name, shape in shapes.items()}, Path("weights.pth"), 224)
    >>> model.config.model_type, model.config.num_register_tokens
    ('dinov2_with_registers', 4)
    """
    import transformers

    named = original_names(tensors)
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
    if absent := [key for key in needed if key not in named]:
        raise CytosaeError(
            f"{path}: not the weights of a known vision transformer, {', '.join(absent)} missing (first keys: "
            f"{', '.join(list(tensors)[:3])}). Expected a file of DinoBloom (the .pth of Zenodo record 10908163, the .bin "
            "of MarrLab/DinoBloom), RedDino, UNI2-h, Virchow2, H-optimus or CONCH."
        )
    width, patch = named["cls_token"].shape[-1], named["patch_embed.proj.weight"].shape[-1]
    if image_size % patch:
        raise CytosaeError(f"{path}: patches of {patch} px do not fill an image of {image_size} px.")
    in_timm = any(_CONCH in key for key in tensors) or "register_tokens" in named
    registers = _placed(named)
    named["pos_embed"] = interpolated(named["pos_embed"], image_size // patch, path, antialias=in_timm)
    depth = 1 + max(int(key.split(".")[1]) for key in named if re.match(r"blocks\.\d+\.", key))
    if not any(key.endswith(".ls1.gamma") for key in named):
        named |= {f"blocks.{i}.ls{part}.gamma": torch.ones(width) for i in range(depth) for part in (1, 2)}
    swiglu = "blocks.0.mlp.w12.weight" in named
    into = named.get("blocks.0.mlp.fc1.weight")
    ratio = 4 if swiglu or into is None else max(1, into.shape[0] // width)
    heads = _HEADS.get(width, max(1, width // _HEAD_DIM))
    if width % heads:
        raise CytosaeError(f"{path}: a width of {width} is not a multiple of {heads} heads; expected one of 64.")
    _check(named, layout(width, depth, ratio, patch, 1 + (image_size // patch) ** 2, swiglu, registers), path)
    options = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "mlp_ratio": ratio,
        "use_swiglu_ffn": swiglu,
        "patch_size": patch,
        "image_size": image_size,
        "layer_norm_eps": _EPS,
    }
    mask = named.pop("mask_token", torch.zeros(1, width))  # of no use after pre-training, and timm's form has none
    with torch.device("meta"):  # neither memory nor time for random weights, which are replaced at once
        model: Dinov2Model | Dinov2WithRegistersModel
        if registers:
            config = transformers.Dinov2WithRegistersConfig(**options, num_register_tokens=registers)
            model = transformers.Dinov2WithRegistersModel(config)
            named["mask_token"] = mask
        else:
            model = transformers.Dinov2Model(transformers.Dinov2Config(**options, use_mask_token=False))
    model.load_state_dict(_converted(named), strict=True, assign=True)
    return model.eval()


def _placed(named: dict[str, Tensor]) -> int:
    """Bring positions into DINOv2's form, in place: one for CLS and one for each patch. Returns the number of registers.

    timm has them for CLS, registers and patches (Virchow2): those of the registers become part of the registers. Or it has
    them for patches alone (UNI2-h, H-optimus): CLS then has a position of zero.
    """
    positions, registers = named["pos_embed"], named.get("register_tokens")
    count, n = positions.shape[1], 0 if registers is None else registers.shape[1]
    if _is_square(count - 1):
        return n
    if registers is not None and _is_square(count - 1 - n):
        named["register_tokens"] = registers + positions[:, 1 : 1 + n]
        named["pos_embed"] = torch.cat([positions[:, :1], positions[:, 1 + n :]], dim=1)
    elif _is_square(count):
        named["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    return n


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def original_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's own names, in float32: prefixes and heads dropped, chunks of blocks (``blocks.0.7.``) flattened.

    The number of a block does not start again in the next chunk, so that it alone says which block is meant.
    """
    names = {key: key.removeprefix("module.") for key in tensors}
    if any(name.startswith(_CONCH) for name in names.values()):  # a model of images and texts: its vision tower alone
        names = {key: name.removeprefix(_CONCH) for key, name in names.items() if name.startswith(_CONCH)}
    prefixed = any(name.startswith("backbone.") for name in names.values())
    named: dict[str, Tensor] = {}
    for key, name in names.items():
        if prefixed and not name.startswith("backbone."):
            continue  # a head, beside the backbone
        name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name.removeprefix("backbone."))
        if not name.startswith(_DROPPED):
            named["register_tokens" if name == "reg_token" else name] = tensors[key].float()
    into, out = (named.get(f"blocks.0.mlp.{name}.weight") for name in ("fc1", "fc2"))
    if into is not None and out is not None and into.shape[0] == 2 * out.shape[-1]:  # timm's names of a packed SwiGLU
        named = {k.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3."): v for k, v in named.items()}
    return named


def layout(
    width: int, depth: int, ratio: int, patch: int, n_tokens: int, swiglu: bool, registers: int = 0
) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a DINOv2 model, by its authors' names; ``mask_token`` may be missing from a file.

    Examples
    --------
    >>> layout(48, 1, 4, 14, 257, swiglu=True)["blocks.0.mlp.w12.weight"]  # gate and values of 128 each
    (256, 48)
    """

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
        **({"register_tokens": (1, registers, width)} if registers else {}),
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
            f"{path}: does not hold exactly a DINOv2 model ({'; '.join(phrases)}). Expected a published "
            "file; is it whole, and of this model?"
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


def interpolated(positions: Tensor, grid: int, path: Path, antialias: bool = False) -> Tensor:
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
    antialias
        As the code of models with registers and timm's does: antialiased, and without the offset.

    Raises
    ------
    CytosaeError
        Not CLS and a square.

    Examples
    --------
    >>> import torch
    >>> interpolated(torch.ones(1, 1 + 37 * 37, 8), 16, Path("weights.pth")).shape  # from 518 to 224 pixels
    torch.Size([1, 257, 8])
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
    if antialias:
        square = torch.nn.functional.interpolate(square, size=(grid, grid), mode="bicubic", antialias=True)
    else:
        scale = (grid + 0.1) / side
        square = torch.nn.functional.interpolate(square, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return torch.cat([positions[:, :1], square.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
