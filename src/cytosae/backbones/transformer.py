"""Vision transformers in the format of the transformers library, from a folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cytosae.errors import CytosaeError

TYPES = ("dinov2", "dinov2_with_registers", "vit")
"""Kinds of models that are supported, as ``config.json`` names them."""

_UNUSED = ("pooler.", "embeddings.mask_token")  # parts of a model that have no part in its tokens


def is_timm(folder: Path) -> bool:
    """Whether a folder holds a model of timm, whose ``config.json`` names an architecture and no model type."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "architecture" in config and "model_type" not in config


def read_model(folder: Path, name: str) -> Any:
    """A model of transformers from a folder with ``config.json`` and weights; nothing in it is run.

    Parameters
    ----------
    folder
        As transformers saves it.
    name
        For messages.

    Raises
    ------
    CytosaeError
        A model of another kind, missing weights, damaged files.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    if not (folder / "config.json").is_file():
        raise CytosaeError(f"{name}: holds no config.json; give a folder that transformers has saved.")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if config.model_type in TYPES:
            model, loaded = AutoModel.from_pretrained(
                folder,
                config=config,
                trust_remote_code=False,
                weights_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # transformers lets errors of many libraries through
        raise CytosaeError(
            f"{name}: cannot be loaded ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}). Expected "
            f"config.json and model.safetensors of a {', '.join(TYPES[:-1])} or {TYPES[-1]} model."
        ) from error
    if config.model_type not in TYPES:
        raise CytosaeError(
            f"{name}: is a {config.model_type!r} model; supported are {', '.join(TYPES)}. Choose a ViT or DINOv2."
        )
    # transformers would go on with random numbers for what is missing.
    missing = [key for key in sorted(loaded["missing_keys"]) if not key.startswith(_UNUSED)]
    wrong = [str(key) for key in loaded.get("mismatched_keys", ())]
    if missing or wrong:
        raise CytosaeError(f"{name}: weights are missing or do not fit: {', '.join((missing + wrong)[:4])}.")
    return model


def patch_size(model: Any, image_size: int, name: str) -> int:
    """Edge of the square patches in pixels.

    Raises
    ------
    CytosaeError
        Patches that are not square or do not fill the image, or images without three colours.
    """
    size, channels = model.config.patch_size, model.config.num_channels
    sizes = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(set(sizes)) != 1 or image_size % sizes[0]:
        raise CytosaeError(
            f"{name}: patches of {' x '.join(map(str, sizes))} px do not fill an image of {image_size} px with squares."
        )
    if channels != 3:
        raise CytosaeError(f"{name}: takes images of {channels} channels; expected three, for RGB.")
    return int(sizes[0])


def embeddings(model: Any) -> nn.Module:
    """The part that turns pixels of any size into tokens: CLS, registers if any, patches."""
    return _Interpolating(model.embeddings) if model.config.model_type == "vit" else model.embeddings


def blocks(model: Any) -> nn.ModuleList:
    """The blocks, first to last."""
    # transformers has moved the blocks of its ViT from one release to the next.
    return model.layers if hasattr(model, "layers") else model.encoder.layer


def fingerprint(model: Any) -> str:
    """SHA-256 over what determines the tokens: kind, heads, epsilon, activation, and every weight by name.

    Weights count as float32 values, so that file format, folder, machine and a lossless change of precision do not.
    """
    keys = ("model_type", "num_attention_heads", "layer_norm_eps")
    about = {key: getattr(model.config, key, None) for key in keys}
    if (activation := getattr(model.config, "hidden_act", "gelu")) != "gelu":
        about["hidden_act"] = activation
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith(_UNUSED):
            found.update(name.encode())
            found.update(value.contiguous().float().numpy().tobytes())
    return found.hexdigest()


class _Interpolating(nn.Module):
    """A ViT's embeddings, for images of another size than those it was trained on."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.embeddings(pixels, interpolate_pos_encoding=True)
