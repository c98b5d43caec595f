"""Find a backbone by name and load it."""

from __future__ import annotations

import difflib
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cytosae.backbones.backbone import INPUT_SIZE, MEAN, STD, Backbone, BackboneInfo, resolve_layer
from cytosae.backbones.dinobloom import HUB_FILES, HUB_REPOSITORY, WIDTHS, ZENODO_RECORD, build, read_weights
from cytosae.backbones.precision import choose_device, choose_precision
from cytosae.errors import CytosaeError

NAMES = (*HUB_FILES, "tiny")
"""Backbones with a name of their own."""

TINY = Path(str(files("cytosae.backbones") / "tiny"))
"""Folder of the built-in backbone."""

_TYPES = ("dinov2", "dinov2_with_registers", "vit")
_WEIGHTS = {".pth", ".pt", ".bin", ".safetensors"}
_UNUSED = ("pooler.", "embeddings.mask_token")  # parts of a model that have no part in its tokens


def load(
    name: str,
    *,
    layer: int = -2,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    weights: Path | None = None,
) -> Backbone:
    """Load a vision transformer, cut after one block.

    Parameters
    ----------
    name
        ``dinobloom-s|b|l|g``; ``tiny``, the built-in one; a folder of a DINOv2 (also with registers) or ViT model of
        transformers; a file of DinoBloom weights (.pth, .bin, .safetensors); or a hub repository ``owner/name``. What
        exists on disk comes before the hub.
    layer
        Block whose output is taken: from 1, or from the end if negative. -2 is the paper's.
    dtype
        Precision of the matrix products, see `cytosae.backbones.choose_precision`.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:NUMBER``.
    revision
        Of a hub repository.
    weights
        Local weights for a ``dinobloom-*`` name, in any of their published forms.

    Raises
    ------
    CytosaeError
        Unknown name, no such layer, damaged or foreign weights, no network, a device that is not there.
    """
    where = choose_device(device)
    precision = choose_precision(dtype, where)
    model, source = _find(name, revision, weights)
    config = model.config
    if config.patch_size and INPUT_SIZE % config.patch_size:
        raise CytosaeError(f"{source}: patches of {config.patch_size} px do not fill an image of {INPUT_SIZE} px.")
    blocks = _blocks(model)
    index = resolve_layer(layer, len(blocks))
    side = INPUT_SIZE // config.patch_size
    info = BackboneInfo(
        name=name,
        source=source,
        revision=revision,
        fingerprint=fingerprint(model),
        model_type=config.model_type,
        d_model=config.hidden_size,
        depth=len(blocks),
        patch_size=config.patch_size,
        image_size=INPUT_SIZE,
        grid=(side, side),
        n_tokens=1 + side * side,
        layer=index,
        dtype=precision,
        mean=MEAN,
        std=STD,
    )
    kept = nn.ModuleList(blocks[: index + 1])  # later blocks cost neither time nor memory
    return Backbone(_embeddings(model), kept, getattr(config, "num_register_tokens", 0), info, where)


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over what determines the tokens: heads, layer-norm epsilon, and every weight by name."""
    config: Any = model.config
    about = {key: getattr(config, key, None) for key in ("model_type", "num_attention_heads", "layer_norm_eps")}
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


def _embeddings(model: Any) -> nn.Module:
    return _Interpolating(model.embeddings) if model.config.model_type == "vit" else model.embeddings


def _blocks(model: Any) -> nn.ModuleList:
    # transformers has moved the blocks of its ViT from one release to the next.
    return model.layers if hasattr(model, "layers") else model.encoder.layer


def _find(name: str, revision: str | None, weights: Path | None) -> tuple[Any, str]:
    """The model that a name stands for, and where it came from."""
    if weights is not None:
        if name not in HUB_FILES:
            raise CytosaeError(
                f"--weights belongs to {', '.join(HUB_FILES)}; for a file of weights give it as --backbone."
            )
        return _dinobloom(name, Path(weights)), str(weights)
    if name in HUB_FILES:
        path = _download(name, revision)
        return _dinobloom(name, path), f"{HUB_REPOSITORY}/{HUB_FILES[name]}"
    if name == "tiny":
        if not (TINY / "config.json").is_file():
            raise CytosaeError("tiny: this installation has no built-in backbone. Give a folder of a model instead.")
        return _transformers(str(TINY), None), "cytosae"
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise CytosaeError(f"{path}: holds no config.json; give a folder that transformers has saved.")
        return _transformers(name, None), name
    if path.is_file() or path.suffix in _WEIGHTS:
        return build(read_weights(path), path, INPUT_SIZE), name
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _transformers(name, revision), name
    close = difflib.get_close_matches(name, NAMES, n=1)
    raise CytosaeError(
        f"{name}: unknown backbone{f', did you mean {close[0]}' if close else ''}? Known are {', '.join(NAMES)}, a folder "
        "or file of weights, or a repository of the Hugging Face hub (owner/name)."
    )


def _dinobloom(name: str, path: Path) -> Any:
    model = build(read_weights(path), path, INPUT_SIZE)
    if model.config.hidden_size != WIDTHS[name]:
        raise CytosaeError(
            f"{path}: holds a model of width {model.config.hidden_size}, but {name} has {WIDTHS[name]}. Give the file "
            "that belongs to this size, or give the file itself as --backbone."
        )
    return model


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(HUB_REPOSITORY, HUB_FILES[name], revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CytosaeError(
            f"{name}: {HUB_FILES[name]} of {HUB_REPOSITORY} is not in the local cache and the Hugging Face hub did not "
            f"give it ({type(error).__name__}). Check the network and HF_HUB_OFFLINE, or download the weights by hand "
            f"(Zenodo record {ZENODO_RECORD}) and pass them with --weights FILE."
        ) from error


def _transformers(name: str, revision: str | None) -> Any:
    """A model of transformers from a folder or the hub; nothing in it is run."""
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
        if config.model_type not in _TYPES:
            raise CytosaeError(
                f"{name}: is a {config.model_type!r} model; supported are {', '.join(_TYPES)}. Choose a ViT or DINOv2."
            )
        model, loaded = AutoModel.from_pretrained(
            name,
            config=config,
            revision=revision,
            trust_remote_code=False,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except CytosaeError:
        raise
    except Exception as error:  # transformers lets errors of many libraries through
        place = (
            f"{name}: cannot be loaded" if Path(name).is_dir() else f"{name}: not in the local cache and not to be had"
        )
        raise CytosaeError(
            f"{place} ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}). Check the name, the files, "
            "the network and HF_HUB_OFFLINE."
        ) from error
    missing = [key for key in sorted(loaded["missing_keys"]) if not key.startswith(_UNUSED)]
    wrong = [str(key) for key in loaded.get("mismatched_keys", ())]
    if missing or wrong:
        raise CytosaeError(f"{name}: weights are missing or do not fit: {', '.join((missing + wrong)[:4])}.")
    return model
