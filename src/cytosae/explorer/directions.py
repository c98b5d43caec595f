"""The decoder's directions, mapped from the file of the weights: which concepts lie near each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cytosae.errors import CytosaeError

_BLOCK = 4096  # directions that are multiplied together


class Directions:
    """The rows of W_dec, ``(n_latents, d_model)``, read from the disk where they are needed.

    Parameters
    ----------
    path
        Weights of an autoencoder, safetensors.
    taught
        Directions of taught latents, which come after, ``(n_taught, d_model)``; none if None.
    """

    def __init__(self, path: Path, taught: NDArray[np.float32] | None = None) -> None:
        self.path, self._taught = path, taught
        self._lock = threading.Lock()

    @cached_property
    def _weights(self) -> Any:
        try:
            weights = safe_open(self.path, framework="np").get_slice("W_dec")
        except (OSError, SafetensorError) as error:
            raise CytosaeError(f"{self.path}: not the weights of an autoencoder ({error}).") from error
        if weights.get_dtype() != "F32":
            raise CytosaeError(
                f"{self.path}: not the weights of an autoencoder (W_dec is {weights.get_dtype()}, not F32)."
            )
        return weights

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        n_latents = self._weights.get_shape()[0]
        yield from (self._weights[i : min(i + _BLOCK, n_latents)] for i in range(0, n_latents, _BLOCK))
        if self._taught is not None:
            yield self._taught

    def _direction(self, latent: int) -> NDArray[np.float32]:
        own = self._weights.get_shape()[0]
        if latent >= own and self._taught is not None:
            return self._taught[latent - own]
        (direction,) = self._weights[latent : latent + 1]
        return np.asarray(direction)

    def length(self, latent: int) -> float:
        """Length of the direction of one latent."""
        with self._lock:
            return float(np.linalg.norm(self._direction(latent)))

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """Length of each direction."""
        return np.concatenate([np.sqrt(np.einsum("ij,ij->i", block, block)) for block in self._blocks()])

    def similar(
        self, latent: int, among: NDArray[np.bool_], count: int = 10
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The latents whose directions are nearest to that of one, without it.

        Parameters
        ----------
        latent
            The one.
        among
            Which may be found, ``(n_latents,)``.
        count
            So many at most.

        Returns
        -------
        Latents and their cosines, largest first.
        """
        with self._lock:  # one pass over the weights at a time
            direction = self._direction(latent)
            products = [block @ direction for block in self._blocks()]
            lengths = np.maximum(self.norms * self.norms[latent], np.finfo(np.float32).tiny)
        cosine = np.concatenate(products) / lengths
        usable = among.copy()
        usable[latent] = False
        candidates = np.flatnonzero(usable)
        nearest = candidates[np.argsort(-cosine[candidates], kind="stable")[:count]]
        return nearest, cosine[nearest]
