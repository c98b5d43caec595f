"""Concepts that experts taught, as further latents of an autoencoder that stays as it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from cytosae import __version__
from cytosae.artefacts import digest, parse_json, whole_file
from cytosae.errors import CytosaeError, in_short
from cytosae.sae.model import SAE
from cytosae.sae.objectives.base import ALL, Activation, Latents

TAUGHT = "taught.safetensors"
"""File of taught concepts in the folder of the same stage, which a study may have beside its autoencoder."""
THRESHOLD = 0.2
"""Activation above which a patch shows a taught concept: the paper's tau. A study with another tau moves the bias along."""
NAME_LENGTH = 200
"""Characters of a name, at most."""
_FORMAT = "cytosae-taught"
_FRAME = ("fingerprint", "layer", "n_tokens", "grid", "image_size")
_ARRAYS = ("weights", "bias", "directions")


@dataclass(frozen=True)
class Taught:
    """Taught concepts: a linear function of a token each, and what was taught.

    ``h = max(0, w x + b)`` on tokens as the autoencoder takes them; a patch shows the concept where ``h > 0.2``.
    """

    names: tuple[str, ...]
    """Empty for one that was removed: it stays as a silent latent, so that the others keep their numbers."""
    weights: NDArray[np.float32]
    """w, ``(n_taught, d_model)``."""
    bias: NDArray[np.float32]
    """b, ``(n_taught,)``."""
    directions: NDArray[np.float32]
    """Direction of unit norm in which tokens change with the concept, as the decoder has one for each latent;
    ``(n_taught, d_model)``."""
    frame: Mapping[str, Any]
    """Backbone, layer and tokens that they were taught on; see `token_frame`."""
    details: tuple[Mapping[str, Any], ...]
    """Marks, settings and figures of each."""

    @classmethod
    def empty(cls, frame: Mapping[str, Any], d_model: int) -> Taught:
        """No concept yet."""
        rows = np.zeros((0, d_model), np.float32)
        return cls((), rows, np.zeros(0, np.float32), rows, dict(frame), ())

    def __len__(self) -> int:
        return len(self.names)

    @property
    def d_model(self) -> int:
        """Width of a token."""
        return int(self.weights.shape[1])

    def with_concept(
        self,
        name: str,
        weights: NDArray[np.floating],
        bias: float,
        direction: NDArray[np.floating],
        details: Mapping[str, Any],
    ) -> Taught:
        """The same with one more concept, or with another in the place of the one of that name.

        Raises
        ------
        CytosaeError
            A name that `check_name` refuses.
        """
        check_name(name)
        names = list(self.names)
        if name not in names:
            names.append(name)
        index = names.index(name)
        row = {"weights": weights, "bias": bias, "directions": direction}
        arrays: dict[str, Any] = {}
        for key in _ARRAYS:
            before = getattr(self, key)
            values = np.zeros((len(names), *before.shape[1:]), np.float32)
            values[: len(before)] = before
            values[index] = row[key]
            arrays[key] = values
        all_details = [*self.details, *([{}] if len(names) > len(self.details) else [])]
        all_details[index] = dict(details)
        return replace(self, names=tuple(names), details=tuple(all_details), **arrays)

    def without(self, name: str) -> Taught:
        """The same without a concept, whose number stays as that of a silent latent.

        Raises
        ------
        CytosaeError
            There is none of that name.
        """
        if not name or name not in self.names:
            known = ", ".join(filter(None, self.names)) or "none"
            raise CytosaeError(f"taught concept {name!r}: there is none of that name; there are {known}.")
        index = self.names.index(name)
        zero = np.zeros(self.d_model, np.float32)
        cleared = self.with_concept(name, zero, 0.0, zero, {})
        names = tuple("" if number == index else own for number, own in enumerate(self.names))
        return replace(cleared, names=names)

    def merged(self, other: Taught) -> Taught:
        """The same with the concepts of another file; one of the same name gets the other's place.

        Raises
        ------
        CytosaeError
            They were taught on other tokens.
        """
        check_frame(other.frame, self.frame)
        merged = self
        for number, name in enumerate(other.names):
            if name:
                row = other.weights[number], float(other.bias[number]), other.directions[number]
                merged = merged.with_concept(name, *row, other.details[number])
        return merged

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that activations depend on, and of the names."""
        content = hashlib.sha256(digest([list(self.names), dict(self.frame)]).encode())
        for key in ("weights", "bias"):
            content.update(np.ascontiguousarray(getattr(self, key)).tobytes())
        return content.hexdigest()

    def save(self, path: Path) -> None:
        """Write the file, which holds no cell's and no patient's name: it can be shared."""
        concepts = [{"name": name, **detail} for name, detail in zip(self.names, self.details, strict=True)]
        about = {"format": _FORMAT, "cytosae": __version__, "frame": dict(self.frame), "concepts": concepts}
        arrays = {key: np.ascontiguousarray(getattr(self, key), np.float32) for key in _ARRAYS}
        with whole_file(path) as temporary:
            save_file(arrays, temporary, metadata={"cytosae": json.dumps(about, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> Taught:
        """Read a file of taught concepts.

        Raises
        ------
        CytosaeError
            It is missing, of another format, or damaged.
        """
        if not path.is_file():
            raise CytosaeError(f"{path}: no such file. Taught concepts are in STUDY/taught/{TAUGHT}.")
        try:
            with safe_open(path, "np") as file:
                about = parse_json((file.metadata() or {}).get("cytosae", "null"))
                if not isinstance(about, dict) or about.get("format") != _FORMAT:
                    raise CytosaeError(
                        f"{path}: a safetensors file, but none of taught concepts. They are in STUDY/taught/{TAUGHT}."
                    )
                arrays = {key: file.get_tensor(key) for key in _ARRAYS}
            names = tuple(str(concept["name"]) for concept in about["concepts"])
            details = tuple({k: v for k, v in concept.items() if k != "name"} for concept in about["concepts"])
            frame = dict(about["frame"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CytosaeError(f"{path}: not a file of taught concepts, or damaged ({in_short(error)}).") from error
        shape = arrays["weights"].shape
        fits = len(shape) == 2 and shape == arrays["directions"].shape and shape[0] == len(names)
        if not fits or arrays["bias"].shape != (len(names),) or not {*_FRAME, "offset"} <= frame.keys():
            raise CytosaeError(f"{path}: its arrays and names do not belong together. Copy the file again.")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise CytosaeError(
                f"{path}: holds NaN or infinite numbers. Copy the file again, or teach the concepts anew."
            )
        return cls(names, arrays["weights"], arrays["bias"], arrays["directions"], frame, details)


def check_name(name: str) -> None:
    """Refuse a name that no list can show.

    Raises
    ------
    CytosaeError
        It is empty, has over 200 characters or one that cannot be printed.
    """
    if not name.strip() or len(name) > NAME_LENGTH or not name.isprintable():
        shown = name if len(name) <= 40 else f"{name[:40]}…"
        expected = f"Give 1 to {NAME_LENGTH} that can be printed."
        raise CytosaeError(f"concept {shown!r}: no name for one ({len(name)} characters). {expected}")


def token_frame(backbone: Mapping[str, Any], position_offset: Tensor | None) -> dict[str, Any]:
    """What tokens have to have in common for a taught concept to mean the same on them.

    Parameters
    ----------
    backbone
        Description of the backbone, from the layout of the tokens.
    position_offset
        Of the autoencoder (`cytosae.sae.SAE.position_offset`).
    """
    frame = {key: backbone.get(key) for key in ("name", "depth", *_FRAME)}
    offset = "" if position_offset is None else hashlib.sha256(position_offset.cpu().numpy().tobytes()).hexdigest()
    return dict(json.loads(json.dumps({**frame, "offset": offset})))


def check_frame(given: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse concepts that were taught on other tokens than these.

    Raises
    ------
    CytosaeError
        Names what differs: backbone, layer, size of image or grid, or how tokens are centred.
    """

    def name(frame: Mapping[str, Any], key: str) -> str:
        if key == "fingerprint":
            return f"backbone {frame.get('name')} ({str(frame.get(key))[:12]})"
        if key == "layer":
            return f"layer {int(frame.get(key) or 0) + 1} of {frame.get('depth')}"
        if key == "offset":
            return (
                f"tokens centred by position ({frame[key][:12]})" if frame.get(key) else "tokens that are not centred"
            )
        return f"{key.replace('_', ' ')} {frame.get(key)}"

    for key in (*_FRAME, "offset"):
        if given.get(key) != expected.get(key):
            raise CytosaeError(
                f"the concepts were taught on {name(given, key)}, this study has {name(expected, key)}. Teach them on "
                "tokens of this study."
            )


class WithTaught(Activation):
    """The activation of an autoencoder, and ReLU for the taught latents after its own: they take no part in a TopK.

    Parameters
    ----------
    own
        Of the autoencoder's latents.
    n_taught
        Taught latents, the last ones.
    """

    name = "taught"

    def __init__(self, own: Activation, n_taught: int, n_own: int) -> None:
        super().__init__()
        self.own, self.n_taught, self.n_own = own, n_taught, n_own

    @property
    def n_apart(self) -> int:
        """See `Activation.n_apart`."""
        return self.n_taught

    @property
    def max_active_per_token(self) -> int | None:
        """Of the autoencoder's own latents."""
        return self.own.max_active_per_token

    def described(self) -> dict[str, Any]:
        """Name and settings of the autoencoder's own."""
        return self.own.described()

    def sized(self, n_latents: int) -> WithTaught:
        """The same activation with parameters at their start for so many latents."""
        n_own = n_latents - self.n_taught
        return WithTaught(self.own.sized(n_own), self.n_taught, n_own)

    def lowest(self) -> Tensor | None:
        """See `Activation.lowest`; 0 for taught latents."""
        lowest = self.own.lowest()
        return None if lowest is None else torch.cat([lowest, lowest.new_zeros(self.n_taught)])

    def forward(self, pre: Tensor, bias: Tensor, latents: Any = ALL) -> Tensor:
        """See `Activation.forward`."""
        h = torch.relu(pre)
        if isinstance(latents, slice):
            h[..., : self.n_own] = self.own(pre[..., : self.n_own], bias[: self.n_own])
            return h
        is_own = latents < self.n_own
        if is_own.any():
            h[..., is_own] = self.own(pre[..., is_own], bias[is_own], latents[is_own])
        return h

    def in_training(self, pre: Tensor, bias: Tensor, limit: Tensor | None) -> Latents:
        """Taught latents are not trained with the autoencoder."""
        raise NotImplementedError


class TaughtSAE(SAE):
    """An autoencoder with taught latents after its own; what it reconstructs, and its digest, are those of its own alone.

    Parameters
    ----------
    own
        The autoencoder, which stays as it is.
    taught
        The concepts.
    threshold
        tau of the encoding: the bias is moved so that a patch is above it exactly where it shows the concept.
    """

    def __init__(self, own: SAE, taught: Taught, threshold: float = THRESHOLD) -> None:
        nn.Module.__init__(self)
        if taught.d_model != own.d_model:
            raise CytosaeError(f"taught concepts take tokens {taught.d_model} wide, the autoencoder {own.d_model}.")
        self.d_model, self.n_latents = own.d_model, own.n_latents + len(taught)
        self.metadata, self.file, self.taught = own.metadata, own.file, taught
        device = own.b_dec.device
        weights = torch.from_numpy(taught.weights).to(device)
        bias = torch.from_numpy(taught.bias).to(device) + weights @ own.b_dec.detach()
        named = torch.tensor([bool(name) for name in taught.names], device=device)
        bias = torch.where(named, bias + (threshold - THRESHOLD), torch.full_like(bias, -1.0))
        self.W_enc = nn.Parameter(torch.cat([own.W_enc.detach().T, weights]).T, requires_grad=False)
        self.b_enc = nn.Parameter(torch.cat([own.b_enc.detach(), bias]), requires_grad=False)
        self.W_dec = nn.Parameter(own.W_dec.detach(), requires_grad=False)
        self.b_dec = nn.Parameter(own.b_dec.detach(), requires_grad=False)
        self.activation = WithTaught(own.activation, len(taught), own.n_latents)
        self.register_buffer("position_offset", own.position_offset)
        self._own = [own]  # in a list: its parameters are not to count twice

    @property
    def untaught(self) -> SAE:
        """The autoencoder alone."""
        return self._own[0]

    def decode(self, h: Tensor) -> Tensor:
        """Reconstructed tokens: taught latents add nothing."""
        return self.untaught.decode(h[..., : self.untaught.n_latents])

    def weights_digest(self) -> str:
        """That of the autoencoder alone; the taught concepts have one of their own."""
        return self.untaught.weights_digest()


def with_taught(own: SAE, taught: Taught | None, threshold: float = THRESHOLD) -> SAE:
    """An autoencoder with taught latents; as it is where there are none."""
    return own if taught is None or not len(taught) else TaughtSAE(own, taught, threshold)
