"""From images to the residual stream after one block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cytosae.backbones.precision import DTYPES
from cytosae.backbones.tower import Tower
from cytosae.errors import CytosaeError

INPUT_SIZE = 224
"""Edge of the square to which images are squashed, in pixels (DinoBloom)."""


@dataclass(frozen=True)
class BackboneInfo:
    """What a backbone is; kept with everything that is made from its tokens."""

    name: str
    """As it was asked for."""
    source: str
    """Folder, file or hub repository of the weights."""
    revision: str | None
    """Commit of the hub repository; none for local weights."""
    fingerprint: str
    """SHA-256 over architecture and weights; the same for every form in which they are published."""
    model_type: str
    d_model: int
    depth: int
    """Blocks of the whole model."""
    patch_size: int
    image_size: int
    grid: tuple[int, int]
    """Rows and columns of patches."""
    n_tokens: int
    """CLS (or the mean of the patches, where there is none) and patches; register tokens are dropped."""
    layer: int
    """Index of the block whose output is taken, counted from 0."""
    dtype: str
    """Precision of the matrix products; the residual stream itself is float32."""
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Backbone:
    """A vision transformer cut after one block.

    Parameters
    ----------
    tower
        The model, taken apart; of its blocks those up to the chosen one are kept.
    info
        Description.
    device
        Where it runs.
    whole
        Keep what comes after the chosen block too, the final layer norm included, for `output`.
    """

    def __init__(self, tower: Tower, info: BackboneInfo, device: str, *, whole: bool = False) -> None:
        self.info, self.device = info, torch.device(device)
        self._precision = DTYPES[info.dtype]
        blocks = tower.blocks[: info.layer + 1]  # later blocks cost neither time nor memory
        rest = nn.ModuleList([*tower.blocks[info.layer + 1 :], tower.norm]) if whole else None
        self._embeddings = tower.embeddings.to(self.device).eval().requires_grad_(False)
        self._blocks = blocks.to(self.device).eval().requires_grad_(False)
        self._rest = None if rest is None else rest.to(self.device).eval().requires_grad_(False)
        if self._precision != torch.float32:
            for modules in (self._blocks, *([] if self._rest is None else [self._rest])):
                for module in modules.modules():
                    if isinstance(module, nn.Linear):
                        module.to(self._precision)  # as autocast does on every call: same bits, half the memory
        self._has_cls, self._n_registers = tower.has_cls, tower.n_registers
        self._mean = torch.tensor(info.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(info.std, device=self.device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def tokens(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        """The residual stream after the chosen block, before any final layer norm.

        Parameters
        ----------
        images
            RGB, uint8, ``(n_cells, 224, 224, 3)``; squashed already (`cytosae.cells.load_squashed`).

        Returns
        -------
        float32 ``(n_cells, 1 + rows * columns, d_model)`` on the backbone's device: CLS, then the patches row by row.
        Register tokens are left out, so that token ``1 + i`` is always patch ``i``. A model without CLS (SigLIP) has the
        mean of the patches in its place.

        Raises
        ------
        CytosaeError
            Images of another shape or type.
        """
        pixels = self._checked(images)
        if not len(pixels):
            return torch.zeros(0, self.info.n_tokens, self.info.d_model, device=self.device)
        x = pixels.to(self.device).permute(0, 3, 1, 2).float().div_(255)
        x = (x - self._mean) / self._std
        with self._autocast():
            hidden = self._embeddings(x)
            for block in self._blocks:
                hidden = block(hidden)
        hidden = self._with_first(hidden.float())
        if self._n_registers:
            hidden = torch.cat([hidden[:, :1], hidden[:, 1 + self._n_registers :]], dim=1)
        return hidden

    def _with_first(self, hidden: Tensor) -> Tensor:
        """Put the mean of the patches before them where the model has no CLS."""
        if self._has_cls:
            return hidden
        patches = hidden[:, self._n_registers :]
        return torch.cat([patches.mean(dim=1, keepdim=True), hidden], dim=1)

    def _autocast(self) -> torch.autocast:
        # Computes the products in the lower precision; layer norms, sums and the residual stream stay float32.
        return torch.autocast(self.device.type, self._precision, enabled=self._precision != torch.float32)

    @property
    def can_finish(self) -> bool:
        """Whether `output` can be had: later blocks were kept, and they need no register tokens."""
        return self._rest is not None and not self._n_registers

    @torch.inference_mode()
    def output(self, tokens: Tensor) -> Tensor:
        """What the whole backbone makes of tokens of the chosen block, after its final layer norm.

        Parameters
        ----------
        tokens
            ``(n_cells, n_tokens, d_model)``, as `tokens` gives them, or changed since. Where the model has no CLS, token 0
            is not looked at.

        Returns
        -------
        float32 ``(n_cells, n_tokens, d_model)`` on the backbone's device.

        Raises
        ------
        CytosaeError
            The backbone was loaded without its later blocks, or has register tokens, which are not kept.
        """
        if self._rest is None or self._n_registers:
            why = "register tokens, which are not kept" if self._n_registers else "been loaded without its later blocks"
            raise CytosaeError(f"backbone {self.info.name}: has {why}, so its output cannot be computed from tokens.")
        hidden = tokens.to(self.device, torch.float32)
        if not self._has_cls:
            hidden = hidden[:, 1:]
        with self._autocast():
            for block in self._rest:
                hidden = block(hidden)
        return self._with_first(hidden.float())

    def _checked(self, images: NDArray[np.uint8] | Tensor) -> Tensor:
        size = self.info.image_size
        kind = str(getattr(images, "dtype", type(images).__name__)).removeprefix("torch.")
        shape = tuple(getattr(images, "shape", ()))
        if not isinstance(images, np.ndarray | Tensor) or kind != "uint8" or shape[1:] != (size, size, 3):
            raise CytosaeError(
                f"images are {kind} of shape {shape}; expected uint8 of shape (n, {size}, {size}, 3), an array or tensor: "
                "RGB, squashed, channels last (cytosae.cells.load_squashed)."
            )
        if isinstance(images, np.ndarray):
            # torch takes neither negative strides nor, without a warning, memory that must not be written to.
            usable = images.flags.writeable and images.flags.c_contiguous
            images = torch.from_numpy(images if usable else images.copy())
        return images


def resolve_layer(layer: int | str, depth: int) -> int:
    """Index from 0 of a block that is counted from 1, or from the end with a negative number.

    Parameters
    ----------
    layer
        1 is the first block, -1 the last, -2 (the paper's) the second last; a string holds such a number.
    depth
        Blocks of the model.

    Raises
    ------
    CytosaeError
        There is no such block.

    Examples
    --------
    >>> resolve_layer(-2, 12), resolve_layer(1, 12)
    (10, 0)
    """
    try:
        number = int(layer)
    except ValueError:
        number = 0
    if number == 0 or not -depth <= number <= depth:
        raise CytosaeError(
            f"--layer {layer}: the backbone has {depth} blocks; choose 1 to {depth}, or -{depth} to -1 from the end."
        )
    return number - 1 if number > 0 else depth + number
