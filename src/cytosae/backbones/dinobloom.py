"""DinoBloom in its three published forms, as a DINOv2 model of transformers.

The forms are the ``.pth`` of Zenodo record 10908163 (``{"teacher": {"backbone.…": …, "dino_head.…": …}}``), the flat
``.bin`` files of the hub's MarrLab/DinoBloom, and safetensors in timm's naming (``1aurent/vit_*_patch14_224.dinobloom``).
"""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cytosae.errors import CytosaeError

if TYPE_CHECKING:
    from transformers import Dinov2Model

HUB_REPOSITORY = "MarrLab/DinoBloom"
HUB_FILES = {f"dinobloom-{size}": f"pytorch_model_{size}.bin" for size in "sblg"}
WIDTHS = {"dinobloom-s": 384, "dinobloom-b": 768, "dinobloom-l": 1024, "dinobloom-g": 1536}
ZENODO_RECORD = "10908163"

_HEAD_DIM = 64  # of every DINOv2 model
_HEADS = ("dino_head.", "ibot_head.", "head.")

_RENAMED = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.mlp\.w3\.", ".mlp.down_proj."),
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file without running anything in it.

    Raises
    ------
    CytosaeError
        The file is missing, damaged, or holds more than tensors and plain containers.
    """
    if not path.is_file():
        raise CytosaeError(f"{path}: no such file of weights.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error) and "Unsupported" in str(error):
            raise CytosaeError(
                f"{path}: refused, since it holds more than weights ({_first_line(error)}). Nothing in it was run. Get "
                "the file from the authors' own record."
            ) from error
        raise CytosaeError(f"{path}: not a file of weights, or damaged ({_first_line(error)}).") from error
    except (
        SafetensorError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
    ) as error:
        raise CytosaeError(f"{path}: not a file of weights, or damaged ({_first_line(error)}).") from error
    for key in ("teacher", "model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CytosaeError(f"{path}: holds no dictionary of tensors, or one nested in an unknown way.")
    return content


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if "Unsupported" in line] or str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0].strip()[:160]}"


def normalised_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's own names: prefixes and heads dropped, chunks of blocks (``blocks.0.7.``) flattened."""
    prefixed = any(key.startswith("backbone.") for key in tensors)
    named: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = key.removeprefix("module.")
        if prefixed and not name.startswith("backbone."):
            continue  # a head, beside the backbone
        name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name.removeprefix("backbone."))
        if not name.startswith(_HEADS):
            named[name] = value.float()
    return named


def build(tensors: dict[str, Tensor], path: Path, image_size: int) -> Dinov2Model:
    """A DINOv2 model of transformers with the given weights.

    Parameters
    ----------
    tensors
        As `read_weights` gives them, in any of the three forms.
    path
        For messages.
    image_size
        Position embeddings of another size are interpolated to it (bicubic, without antialiasing, as DINOv2 does).

    Raises
    ------
    CytosaeError
        Keys are missing or left over; names them.
    """
    from transformers import Dinov2Config, Dinov2Model

    named = normalised_names(tensors)
    blocks = {int(match[1]) for key in named if (match := re.match(r"blocks\.(\d+)\.", key))}
    needed = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
    if absent := [key for key in needed if key not in named]:
        raise CytosaeError(
            f"{path}: not DinoBloom weights, {', '.join(absent)} missing (first keys: {', '.join(list(tensors)[:3])}). "
            "Expected the .pth of Zenodo record 10908163, the .bin of MarrLab/DinoBloom, or timm's safetensors."
        )
    width, patch = named["cls_token"].shape[-1], named["patch_embed.proj.weight"].shape[-1]
    named["pos_embed"] = interpolated(named["pos_embed"], image_size // patch, path)
    hidden, swiglu = _mlp(named, width)
    config = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=len(blocks),
        num_attention_heads=max(1, width // _HEAD_DIM),
        mlp_ratio=4 if swiglu else hidden // width,
        use_swiglu_ffn=swiglu,
        patch_size=patch,
        image_size=image_size,
        layer_norm_eps=1e-6,
    )
    model = Dinov2Model(config)
    state = _converted(named, swiglu)
    state.setdefault("embeddings.mask_token", torch.zeros(1, width))  # used in pre-training only; timm has none
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise CytosaeError(f"{path}: {str(error).splitlines()[-1].strip()}") from error
    if missing or unexpected:
        parts = [
            f"{what}: {', '.join(keys[:4])}" for what, keys in (("missing", missing), ("unknown", unexpected)) if keys
        ]
        raise CytosaeError(f"{path}: does not hold a whole DINOv2 model ({'; '.join(parts)}).")
    return model


def _mlp(named: dict[str, Tensor], width: int) -> tuple[int, bool]:
    """Hidden width of the feed-forward layer, and whether it is a packed SwiGLU."""
    out = named.get("blocks.0.mlp.w3.weight", named.get("blocks.0.mlp.fc2.weight"))
    into = named.get("blocks.0.mlp.w12.weight", named.get("blocks.0.mlp.fc1.weight"))
    if out is None or into is None:
        return 4 * width, False  # the missing keys are named when the weights are loaded
    return out.shape[1], into.shape[0] == 2 * out.shape[1]


def _converted(named: dict[str, Tensor], swiglu: bool) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for key, value in named.items():
        name = key
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if ".attn.qkv." in name:
            for part, chunk in zip("qkv", value.chunk(3), strict=True):
                state[name.replace(".attn.qkv.", f".attention.{part}_proj.")] = chunk
        elif packed := re.search(r"\.mlp\.(w12|fc1)\.", name) if swiglu else None:
            # Both namings pack the gate first: silu(first half) * second half.
            for part, chunk in zip(("gate", "up"), value.chunk(2), strict=True):
                state[name.replace(packed[0], f".mlp.{part}_proj.")] = chunk
        elif swiglu:
            state[name.replace(".mlp.fc2.", ".mlp.down_proj.")] = value
        else:
            state[name] = value
    return state


def interpolated(positions: Tensor, grid: int, path: Path) -> Tensor:
    """Position embeddings ``(1, 1 + n * n, d)`` for a grid of `grid` x `grid` patches."""
    count = positions.shape[1] - 1
    side = round(count**0.5)
    if side * side != count:
        raise CytosaeError(f"{path}: {positions.shape[1]} position embeddings are not CLS and a square grid.")
    if side == grid:
        return positions
    square = positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    square = torch.nn.functional.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], square.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
