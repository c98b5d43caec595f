"""What every vision transformer is taken apart into, whatever library it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cytosae.errors import CytosaeError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation, for pixels from 0 to 1."""

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Tower:
    """A vision transformer, taken apart."""

    embeddings: nn.Module
    """Normalised pixels ``(n, 3, size, size)`` to the tokens that enter the first block: CLS, registers, patches."""
    blocks: nn.ModuleList
    """First to last; each takes tokens and gives tokens."""
    norm: nn.Module
    """The final layer norm."""
    has_cls: bool
    """Whether token 0 is CLS; otherwise there are patches alone."""
    n_registers: int
    """Tokens between CLS and the patches."""
    patch_size: int
    d_model: int
    model_type: str
    fingerprint: str
    """See `fingerprint`."""
    normalisation: Normalisation
    """Mean and standard deviation of its training images, for pixels from 0 to 1."""


def fingerprint(about: Mapping[str, Any], weights: Mapping[str, Tensor], used: Callable[[str], bool]) -> str:
    """SHA-256 over what determines the tokens: some settings, and every weight by name.

    Weights count as float32 values, so that file format, folder, machine and a lossless change of precision do not.

    Parameters
    ----------
    about
        Settings that no weight tells: kind, heads, epsilon.
    weights
        By name.
    used
        Whether the weight of a name has a part in the tokens.
    """
    checksum = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(weights.items()):
        if used(name):
            checksum.update(name.encode())
            checksum.update(value.contiguous().float().numpy().tobytes())
    return checksum.hexdigest()


def fitting_patch(size: Any, channels: int, image_size: int, name: str) -> int:
    """Edge of the square patches in pixels.

    Raises
    ------
    CytosaeError
        Patches that are not square or do not fill the image, or images without three colours.
    """
    sizes = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(set(sizes)) != 1 or image_size % sizes[0]:
        raise CytosaeError(
            f"{name}: patches of {' x '.join(map(str, sizes))} px do not fill an image of {image_size} px with squares."
        )
    if channels != 3:
        raise CytosaeError(f"{name}: takes images of {channels} channels; expected three, for RGB.")
    return int(sizes[0])
