"""What every format comes down to: four arrays in the equations of `cytosae.sae.SAE`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cytosae.errors import CytosaeError
from cytosae.sae.model import SAE


@dataclass(frozen=True)
class Found:
    """An autoencoder from elsewhere, in our equations.

    .. math::
        h = \\mathrm{ReLU}(W_{enc} (x - b_{dec}) + b_{enc}), \\qquad \\hat x = W_{dec} h + b_{dec}
    """

    W_enc: Tensor
    """``(d_model, n_latents)``"""
    b_enc: Tensor
    """``(n_latents,)``"""
    W_dec: Tensor
    """``(n_latents, d_model)``"""
    b_dec: Tensor
    """``(d_model,)``"""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """Its settings as they were found, as plain JSON."""
    changes: tuple[str, ...] = ()
    """What had to be computed so that it is in these equations; empty where every array is as it was."""

    def shifted(self) -> Found:
        """The same function where the encoder was given x and not x - b_dec.

        ``W_enc x + b = W_enc (x - b_dec) + (b + W_enc b_dec)``; the new bias is computed in float64.
        """
        if not self.b_dec.any():
            return self
        bias = self.b_enc.double() + self.b_dec.double() @ self.W_enc.double()
        said = "b_enc: W_enc b_dec added, since the encoder was given x and not x - b_dec"
        return replace(self, b_enc=bias.float(), changes=(*self.changes, said))

    def to_sae(self, path: Path, origin: Mapping[str, Any]) -> SAE:
        """The autoencoder, after a look at shapes and numbers.

        Parameters
        ----------
        origin
            Where it is from; kept in the metadata beside `configuration` and `changes`.

        Raises
        ------
        CytosaeError
            Shapes that do not belong together, integers, NaN.
        """
        arrays = {"W_enc": self.W_enc, "b_enc": self.b_enc, "W_dec": self.W_dec, "b_dec": self.b_dec}
        if self.W_dec.ndim != 2:
            raise CytosaeError(f"{path}: W_dec has the shape {tuple(self.W_dec.shape)}; expected a matrix.")
        n_latents, d_model = self.W_dec.shape
        expected = {"W_enc": (d_model, n_latents), "b_enc": (n_latents,), "b_dec": (d_model,)}
        for name, shape in expected.items():
            if tuple(arrays[name].shape) != shape:
                raise CytosaeError(
                    f"{path}: {name} has the shape {tuple(arrays[name].shape)}; with {n_latents} latents of {d_model} "
                    f"dimensions, as in W_dec, it would be {shape}."
                )
        for name, array in arrays.items():
            if not array.is_floating_point() or not torch.isfinite(array).all():
                raise CytosaeError(f"{path}: {name} holds NaN, infinite or no floating-point values.")
        rounded = [name for name, array in arrays.items() if array.dtype == torch.float64]
        changes = [*self.changes, *(f"{name}: rounded from float64 to float32" for name in rounded)]
        imported = {**origin, "configuration": self.configuration, "changes": changes}
        sae = SAE(d_model, n_latents, {"imported": imported})
        with torch.no_grad():
            for name, array in arrays.items():
                getattr(sae, name).copy_(array)
        return sae


def take(path: Path, state: Any, names: Iterable[str], what: str) -> list[Tensor]:
    """The tensors of these names, where there are these and no others.

    What is left over would be a part of the computation that is not known here, so it is an error.

    Raises
    ------
    CytosaeError
        Naming what is missing or left over.
    """
    names = list(names)
    if not isinstance(state, Mapping):
        raise CytosaeError(f"{path}: holds a {type(state).__name__}; expected the dictionary of tensors of {what}.")
    missing = [name for name in names if not isinstance(state.get(name), Tensor)]
    strange = [str(name) for name in state if name not in names]
    if missing or strange:
        found = [
            f"{label} {', '.join(some[:6])}" for label, some in (("lacks", missing), ("also holds", strange)) if some
        ]
        raise CytosaeError(f"{path}: not {what}: {' and '.join(found)}. It takes {', '.join(names)}, and no more.")
    return [state[name].detach() for name in names]


def refuse(path: Path, name: str, why: str) -> CytosaeError:
    """The error for an architecture that computes something else."""
    return CytosaeError(
        f"{path}: {name} {why}. That is not h = ReLU(W_enc (x - b_dec) + b_enc), the only encoder that is imported, so "
        "its latents cannot be had from these weights."
    )
