"""The decoder's directions, mapped from the file of the weights: which concepts lie near each other."""

from __future__ import annotations

import struct
import threading
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytosae.artefacts import parse_json
from cytosae.errors import CytosaeError

_BLOCK = 4096  # directions that are multiplied together


class Directions:
    """The rows of W_dec, ``(n_latents, d_model)``, read from the disk where they are needed.

    Parameters
    ----------
    path
        Weights of an autoencoder, safetensors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """W_dec, mapped."""
        try:
            with self.path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > self.path.stat().st_size:
                    raise ValueError("its header is longer than the file")
                described = parse_json(file.read(length))["W_dec"]
            if described["dtype"] != "F32":
                raise ValueError(f"W_dec is {described['dtype']}, not F32")
            offset, shape = 8 + length + described["data_offsets"][0], tuple(described["shape"])
            return np.memmap(self.path, np.float32, "r", offset, shape)
        except (OSError, LookupError, TypeError, ValueError, struct.error) as error:
            raise CytosaeError(f"{self.path}: not the weights of an autoencoder ({error}).") from error

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """Length of each direction."""
        parts = (self.weights[i : i + _BLOCK] for i in range(0, len(self.weights), _BLOCK))
        return np.concatenate([np.sqrt(np.einsum("ij,ij->i", part, part)) for part in parts])

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
            direction = np.array(self.weights[latent])
            products = [self.weights[i : i + _BLOCK] @ direction for i in range(0, len(self.weights), _BLOCK)]
            lengths = np.maximum(self.norms * self.norms[latent], np.finfo(np.float32).tiny)
        cosine = np.concatenate(products) / lengths
        usable = among.copy()
        usable[latent] = False
        places = np.flatnonzero(usable)
        nearest = places[np.argsort(-cosine[places], kind="stable")[:count]]
        return nearest, cosine[nearest]
