"""Vision transformers of the timm library, by their name there."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cytosae.backbones.hub import hub_file
from cytosae.backbones.tower import Normalisation, Tower, fingerprint, fitting_patch
from cytosae.backbones.weights import read_weights
from cytosae.errors import CytosaeError, in_short

PREFIX = "timm:"

_FILE = "model.safetensors"
_HEADS = ("head.", "head_dist.", "fc_norm.", "attn_pool.")  # have no part in the tokens


def installed() -> bool:
    """Whether timm can be imported."""
    try:
        import timm  # noqa: F401
    except Exception:  # it imports torchvision, which fails in many ways where it does not fit torch
        return False
    return True


def read_timm(name: str, image_size: int, revision: str | None) -> tuple[Tower, str, str]:
    """A vision transformer of timm, its hub repository and the commit.

    timm builds the model and fits position embeddings to the image; the weights are fetched and read here, so that
    nothing in them is run and none stays random.

    Parameters
    ----------
    name
        As timm names it, such as ``vit_base_patch16_224.augreg_in21k``.
    image_size
        Edge of the images in pixels.
    revision
        Branch, tag or commit of its hub repository.

    Raises
    ------
    CytosaeError
        timm is not there, does not know the name, or the model is no plain vision transformer; weights that are
        missing or do not fit.
    """
    try:
        import timm
    except Exception as error:
        raise CytosaeError(
            f"{PREFIX}{name}: needs timm, which cannot be imported ({type(error).__name__}: {error}). Install it with "
            "the torchvision that fits your torch: pip install timm."
        ) from error
    try:
        stated = timm.models.get_pretrained_cfg(name)
    except Exception as error:
        raise CytosaeError(f"{PREFIX}{name}: timm does not know it ({error}).") from error
    if stated is None or not stated.hf_hub_id:
        raise CytosaeError(f"{PREFIX}{name}: timm knows no such model with weights on the Hugging Face hub.")
    file, commit = hub_file(stated.hf_hub_id, _FILE, revision, "")
    weights = {key: value for key, value in read_weights(file).items() if not key.startswith(_HEADS)}
    try:
        # Without a classifier to look out for, timm is strict about every other weight.
        overlay = {"state_dict": weights, "classifier": None}
        model = timm.create_model(
            name, pretrained=True, num_classes=0, global_pool="", img_size=image_size, pretrained_cfg_overlay=overlay
        )
    except Exception as error:
        raise CytosaeError(
            f"{PREFIX}{name}: timm cannot build it for images of {image_size} px from {stated.hf_hub_id} "
            f"({in_short(error)})."
        ) from error
    tower = take_apart(model, image_size, PREFIX + name, (tuple(stated.mean), tuple(stated.std)))
    return tower, stated.hf_hub_id, commit


def take_apart(model: Any, image_size: int, name: str, normalisation: Normalisation) -> Tower:
    """The parts of a vision transformer of timm.

    Raises
    ------
    CytosaeError
        It is built in another way: no CLS, patches and registers that pass blocks one after the other.
    """
    needed = ("patch_embed", "_pos_embed", "patch_drop", "norm_pre", "blocks", "norm", "num_prefix_tokens")
    lacking = [submodule for submodule in needed if not hasattr(model, submodule)]
    if lacking or getattr(model, "rope", None) is not None:
        raise CytosaeError(
            f"{name}: is no plain vision transformer ({', '.join(lacking) or 'its positions are rotations'}). Choose a "
            "vit_* or deit_* model; DINOv3 is available as facebook/dinov3-*."
        )
    has_cls = bool(model.has_class_token)
    first, blocks, norm, conv = model.blocks[0], nn.ModuleList(model.blocks), model.norm, model.patch_embed.proj
    about = {
        "model_type": "timm",
        "num_attention_heads": first.attn.num_heads,
        "layer_norm_eps": first.norm1.eps,
        "activation": type(first.mlp.act).__name__,
    }
    digest = fingerprint(about, model.state_dict(), lambda key: not key.startswith(_HEADS))
    return Tower(
        embeddings=_Embeddings(model),
        blocks=blocks,
        norm=norm,
        has_cls=has_cls,
        n_registers=int(model.num_prefix_tokens) - has_cls,
        patch_size=fitting_patch(tuple(conv.kernel_size), conv.in_channels, image_size, name),
        d_model=int(model.embed_dim),
        model_type="timm",
        fingerprint=digest,
        normalisation=normalisation,
    )


class _Embeddings(nn.Module):
    """All that timm's vision transformer does before its first block."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        model.blocks = nn.Sequential()  # or the later blocks would be kept
        model.norm = nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        model = self.model
        embedded: Tensor = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(pixels))))
        return embedded
