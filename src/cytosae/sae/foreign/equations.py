"""What every format comes down to: arrays and an activation in the equations of `cytosae.sae.SAE`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cytosae.errors import CytosaeError
from cytosae.sae.foreign.settings import short
from cytosae.sae.model import SAE
from cytosae.sae.objectives import Activation, Gated, ReLU, TopK

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_LEAST = torch.finfo(torch.float32).tiny
"""Stands for a threshold of 0, of which there is no logarithm."""


@dataclass(frozen=True)
class ForeignSAE:
    """An autoencoder from elsewhere, in our equations.

    .. math::
        h = a(W_{enc} (x - b_{dec}) + b_{enc}), \\qquad \\hat x = W_{dec} h + b_{dec}
    """

    path: Path
    """Where it is from, for messages."""
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
    ignored: tuple[str, ...] = ()
    """Settings that are not understood and taken to have no part in the equations, as "name: value"."""
    activation: Activation = field(default_factory=ReLU)
    """a."""
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    """Those of the activation, each ``(n_latents,)``."""

    def __post_init__(self) -> None:
        """Look at shapes and numbers.

        Raises
        ------
        CytosaeError
            Shapes that do not belong together, no latents or no dimensions, other values than floating-point ones, NaN.
        """
        for name, array in self.arrays().items():
            check_kind(self.path, name, array)
        if self.W_dec.ndim != 2:
            raise CytosaeError(f"{self.path}: W_dec has the shape {tuple(self.W_dec.shape)}; expected a matrix.")
        n_latents, d_model = self.W_dec.shape
        if not n_latents or not d_model:
            raise CytosaeError(
                f"{self.path}: W_dec has the shape {(n_latents, d_model)}, so there are no values in it. Was it saved "
                "before it was trained? Get the file again from where it was trained."
            )
        expected = {"W_enc": (d_model, n_latents), "b_enc": (n_latents,), "b_dec": (d_model,)}
        expected |= dict.fromkeys(self.parameters, (n_latents,))
        for name, array in self.arrays().items():
            if tuple(array.shape) != expected.get(name, (n_latents, d_model)):
                raise CytosaeError(
                    f"{self.path}: {name} has the shape {tuple(array.shape)}; with {n_latents} latents of {d_model} "
                    f"dimensions, as in W_dec, it would be {expected[name]}."
                )
            if not torch.isfinite(array).all():
                raise CytosaeError(f"{self.path}: {name} holds NaN or infinite values.")
        if isinstance(self.activation, TopK) and self.activation.k > n_latents:
            raise CytosaeError(
                f"{self.path}: a TopK that keeps {self.activation.k} of {n_latents} latents. Correct its k."
            )

    def arrays(self) -> dict[str, Tensor]:
        """All of them, by name."""
        own = {"W_enc": self.W_enc, "b_enc": self.b_enc, "W_dec": self.W_dec, "b_dec": self.b_dec}
        return {**own, **self.parameters}

    def with_settings(self, configuration: Mapping[str, Any], ignored: tuple[str, ...] = ()) -> ForeignSAE:
        """With its settings as they were found, and those of them that are not understood."""
        return replace(self, configuration=configuration, ignored=ignored)

    def check_sizes(
        self, path: Path, settings: Mapping[str, Any], d_model: Iterable[str], n_latents: Iterable[str]
    ) -> None:
        """Refuse settings that say other sizes than the weights have.

        Parameters
        ----------
        path
            Where the settings are from, for messages.
        d_model, n_latents
            Names of the settings that say these.
        """
        latents, width = self.W_dec.shape
        for names, size, measured in ((d_model, width, "dimensions"), (n_latents, latents, "latents")):
            for name in names:
                if (stated := settings.get(name)) is not None and (isinstance(stated, bool) or stated != size):
                    raise CytosaeError(
                        f"{path}: the setting {name} is {short(stated)}, but the weights have {size} {measured}. "
                        "Settings and weights are not of the same autoencoder: get both again from where it was "
                        "trained."
                    )

    def with_activation(self, activation: Activation) -> ForeignSAE:
        """With one that has no parameters."""
        return replace(self, activation=activation)

    def changed(self, change: str, **arrays: Any) -> ForeignSAE:
        """The same with other arrays, and what was done said."""
        return replace(self, changes=(*self.changes, change), **arrays)

    def shifted(self) -> ForeignSAE:
        """The same function where the encoder was given x and not x - b_dec.

        ``W_enc x + b = W_enc (x - b_dec) + (b + W_enc b_dec)``; the new bias is computed in float64.
        """
        if not self.b_dec.any():
            return self
        shift = self.b_dec.double() @ self.W_enc.double()
        change = "b_enc: W_enc b_dec added, since the encoder was given x and not x - b_dec"
        shifted = self.changed(change, b_enc=(self.b_enc.double() + shift).float())
        if not isinstance(self.activation, Gated):
            return shifted
        bias = self.parameters["b_mag"].double() + self.parameters["r_mag"].double().exp() * shift
        change = "b_mag: exp(r_mag) W_enc b_dec added, for the same reason"
        return shifted.changed(change, parameters={**self.parameters, "b_mag": bias.float()})

    def scaled_by_directions(self) -> ForeignSAE:
        """The same function where pre-activations were multiplied by the norms of the directions, and h divided by them.

        The norms go into the encoder and out of the directions; computed in float64.
        """
        norms = self.W_dec.double().norm(dim=1).clamp_min(1e-8)  # as SAELens does
        change = "W_enc, b_enc: multiplied by the norms of the directions, and W_dec divided by them"
        return self.changed(
            change + " (rescale_acts_by_decoder_norm)",
            W_enc=(self.W_enc.double() * norms).float(),
            b_enc=(self.b_enc.double() * norms).float(),
            W_dec=(self.W_dec.double() / norms[:, None]).float(),
        )

    def with_thresholds(self, threshold: Tensor, activation: Activation) -> ForeignSAE:
        """With the latents that are not above their threshold set to 0; a ReLU where no threshold is above 0."""
        replace(self, parameters={"threshold": threshold})  # to look at its shape and numbers
        if not (threshold > 0).any():
            return self
        change = "log_threshold: logarithm of the thresholds, rounded to float32"
        if (threshold <= 0).any():
            change += f"; {_LEAST:.1e} for those that are not above 0, which are a ReLU"
        logarithm = threshold.double().clamp_min(_LEAST).log().float()
        return self.changed(change, activation=activation, parameters={"log_threshold": logarithm})

    def to_sae(self, origin: Mapping[str, Any]) -> SAE:
        """The autoencoder.

        Parameters
        ----------
        origin
            Where it is from; kept in the metadata beside `configuration`, `changes` and `ignored`.
        """
        arrays = self.arrays()
        rounded = [name for name, array in arrays.items() if array.dtype == torch.float64]
        changes = [*self.changes, *(f"{name}: rounded from float64 to float32" for name in rounded)]
        about = {"configuration": self.configuration, "changes": changes, "ignored": list(self.ignored)}
        n_latents, d_model = self.W_dec.shape
        sae = SAE(d_model, n_latents, {"imported": {**origin, **about}}, self.activation)
        with torch.no_grad():
            for name, tensor in sae.tensors().items():
                tensor.copy_(arrays[name])
        return sae


def take(path: Path, state: Any, names: Iterable[str], expected: str) -> list[Tensor]:
    """The tensors of these names, where there are these and no others.

    What is left over would be a part of the computation that is not known here, so it is an error.

    Raises
    ------
    CytosaeError
        Naming what is missing or left over.
    """
    names = list(names)
    if not isinstance(state, Mapping):
        raise CytosaeError(f"{path}: holds a {type(state).__name__}; expected the dictionary of tensors of {expected}.")
    missing = [name for name in names if not isinstance(state.get(name), Tensor)]
    strange = [str(name) for name in state if name not in names]
    if missing or strange:
        problems = [
            f"{label} {', '.join(some[:6])}" for label, some in (("lacks", missing), ("also holds", strange)) if some
        ]
        raise CytosaeError(f"{path}: not {expected}: {' and '.join(problems)}. Expected exactly {', '.join(names)}.")
    for name in names:
        check_kind(path, name, state[name])
    return [state[name].detach() for name in names]


def check_kind(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse a tensor that is no plain array of floating-point values.

    Raises
    ------
    CytosaeError
        Naming the tensor and its kind.
    """
    if (kind := _odd_kind(tensor)) is not None:
        raise CytosaeError(
            f"{path}: {name} is {kind}; expected a plain array of floating-point values, as a training leaves it. In "
            "the program that wrote the file, save the autoencoder again with dense weights in float32."
        )


def _odd_kind(tensor: Tensor) -> str | None:
    """What a tensor is, where it is not such an array."""
    if tensor.is_meta:
        return "on the device 'meta', so it has a shape and no values"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "a nested tensor" if tensor.is_nested else f"a sparse tensor ({tensor.layout})"
    if tensor.is_quantized or tensor.dtype not in _DTYPES:
        return f"{'quantised' if tensor.is_quantized else 'of the type'} {str(tensor.dtype).removeprefix('torch.')}"
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.ndim > 1 and tensor.numel() > stored:
        return f"of the shape {tuple(tensor.shape)} with {stored:,} values that are repeated"
    return None


def refuse(path: Path, name: str, why: str) -> CytosaeError:
    """The error for an architecture that computes something else."""
    return CytosaeError(
        f"{path}: {name} {why}. It is none of those in docs/how-to/weights.md, so these weights do not "
        "give its latents."
    )
