"""Vision transformers in the format of the transformers library, from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cytosae.artefacts import parse_json
from cytosae.backbones.tower import IMAGENET, Normalisation, Tower, fingerprint, fitting_patch
from cytosae.errors import CytosaeError, in_short

TYPES = (
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "vit",
    "clip",
    "clip_vision_model",
    "siglip",
    "siglip_vision_model",
    "siglip2",
    "siglip2_vision_model",
)
"""Kinds of models that are supported, as ``config.json`` names them."""

_WITH_TEXT = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel", "siglip2": "Siglip2VisionModel"}
"""Kinds that have a text tower beside the vision tower, and the class of the latter, which alone is loaded."""

_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_NORMALISATION = {"clip_vision_model": _CLIP, "siglip_vision_model": _HALF, "siglip2_vision_model": _HALF}
"""Of families that were not trained with ImageNet's; where the checkpoint says nothing."""

# Where the kinds, and releases of the library, keep the same thing.
_BLOCKS = ("encoder.layer", "encoder.layers", "layers", "model.layer", "layer")
_NORMS = ("layernorm", "post_layernorm", "norm")

_UNUSED = ("pooler.", "head.", "embeddings.mask_token")  # parts of a model that have no part in its tokens


def is_timm(folder: Path) -> bool:
    """Whether a folder holds a model of timm, whose ``config.json`` names an architecture and no model type."""
    config = _json(folder / "config.json")
    return "architecture" in config and "model_type" not in config


def read_model(folder: Path, name: str) -> Any:
    """A model of transformers from a folder with ``config.json`` and weights; nothing in it is run.

    Of a model of images and texts (CLIP, SigLIP) it is the vision tower alone.

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
    import transformers
    from transformers.utils import logging

    if not (folder / "config.json").is_file():
        raise CytosaeError(f"{name}: holds no config.json; give a folder that transformers has saved.")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        kind = config.model_type
        if kind in TYPES:
            loader = getattr(transformers, _WITH_TEXT.get(kind, "AutoModel"))
            model, loaded = loader.from_pretrained(
                folder,
                config=config.vision_config if kind in _WITH_TEXT else config,
                trust_remote_code=False,
                weights_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # transformers lets errors of many libraries through
        raise CytosaeError(
            f"{name}: cannot be loaded ({in_short(error)}). Expected "
            f"config.json and model.safetensors of a {', '.join(TYPES[:-1])} or {TYPES[-1]} model."
        ) from error
    if kind not in TYPES:
        raise CytosaeError(f"{name}: is a {kind!r} model; supported are {', '.join(TYPES)}. Choose a ViT or DINOv2.")
    # transformers would go on with random numbers for what is missing.
    missing = [key for key in sorted(loaded["missing_keys"]) if _used(key)]
    wrong = [str(key) for key in loaded.get("mismatched_keys", ())]
    if missing or wrong:
        raise CytosaeError(f"{name}: weights are missing or do not fit: {', '.join((missing + wrong)[:4])}.")
    return getattr(model, "vision_model", model)  # some releases wrap the tower once more


def take_apart(model: Any, image_size: int, name: str, normalisation: Normalisation | None = None) -> Tower:
    """The parts of a model of transformers.

    Parameters
    ----------
    model
        As `read_model` gives it.
    image_size
        Edge of the images in pixels; position embeddings of another size are interpolated.
    name
        For messages.
    normalisation
        Mean and standard deviation that the checkpoint names; its family's if None.

    Raises
    ------
    CytosaeError
        Patches that are not square or do not fill the image, or images without three colours.
    """
    config, kind = model.config, model.config.model_type
    patch = fitting_patch(config.patch_size, config.num_channels, image_size, name)
    blocks = _first(model, _BLOCKS)
    if kind == "dinov3_vit":
        with torch.no_grad():
            angles = model.rope_embeddings(torch.zeros(1, 3, image_size, image_size))
        blocks = nn.ModuleList(_Rotating(block, *angles) for block in blocks)
    elif kind in {"clip_vision_model", "siglip_vision_model", "siglip2_vision_model"}:
        blocks = nn.ModuleList(_Unmasked(block) for block in blocks)
    return Tower(
        embeddings=_embeddings(model, patch),
        blocks=blocks,
        norm=_first(model, _NORMS),
        has_cls=not kind.startswith("siglip"),
        n_registers=getattr(config, "num_register_tokens", 0),
        patch_size=patch,
        d_model=config.hidden_size,
        model_type=kind,
        fingerprint=fingerprint(_about(config), model.state_dict(), _used),
        normalisation=normalisation or family_normalisation(model),
    )


def family_normalisation(model: Any) -> Normalisation:
    """Mean and standard deviation of the kind of a model, where its checkpoint says nothing."""
    return _NORMALISATION.get(model.config.model_type, IMAGENET)


def _json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is none to be read."""
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _used(name: str) -> bool:
    return not name.removeprefix("vision_model.").startswith(_UNUSED)


def _first(model: nn.Module, places: tuple[str, ...]) -> Any:
    """What a model has in the first of some places that it has."""
    for place in places:
        try:
            return model.get_submodule(place)
        except AttributeError:
            continue
    raise CytosaeError(
        f"{type(model).__name__}: this release of transformers keeps its parts elsewhere than known here."
    )


def _about(config: Any) -> dict[str, Any]:
    keys = ("model_type", "num_attention_heads", "layer_norm_eps")
    about = {key: getattr(config, key, None) for key in keys}
    if (activation := getattr(config, "hidden_act", "gelu")) != "gelu":
        about["hidden_act"] = activation
    if hasattr(config, "rope_theta"):
        about["rope_theta"] = config.rope_theta
    return about


def _embeddings(model: Any, patch: int) -> nn.Module:
    kind, embeddings = model.config.model_type, model.embeddings
    if kind == "siglip2_vision_model":
        return _Patchwise(embeddings, patch)
    if kind in {"vit", "siglip_vision_model"}:
        return _Interpolating(embeddings)
    if kind == "clip_vision_model":
        return nn.Sequential(_Interpolating(embeddings), model.pre_layrnorm)
    return embeddings


class _Interpolating(nn.Module):
    """Embeddings, for images of another size than those they were trained on."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, pixels: Tensor) -> Tensor:
        return self.embeddings(pixels, interpolate_pos_encoding=True)


class _Patchwise(nn.Module):
    """SigLIP 2's embeddings of flexible size, which take an image cut into patches, colours last."""

    def __init__(self, embeddings: nn.Module, patch: int) -> None:
        super().__init__()
        self.embeddings, self.patch = embeddings, patch

    def forward(self, pixels: Tensor) -> Tensor:
        rows = pixels.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))  # n, colour, row, y, column, x
        shape = torch.tensor([[rows.shape[2], rows.shape[4]]]).expand(len(pixels), 2)
        return self.embeddings(rows.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2), shape)


class _Unmasked(nn.Module):
    """A block that must be told that no token is masked."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor) -> Tensor:
        return self.block(tokens, None)


class _Rotating(nn.Module):
    """A block that is told, in every call, by which angles queries and keys of each patch are turned (RoPE)."""

    def __init__(self, block: nn.Module, cos: Tensor, sin: Tensor) -> None:
        super().__init__()
        self.block = block
        self.cos, self.sin = nn.Buffer(cos), nn.Buffer(sin)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.block(tokens, position_embeddings=(self.cos, self.sin))
