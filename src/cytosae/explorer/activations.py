"""Where concepts lie in a cell: the autoencoder on the cell's tokens, on the CPU, some cells at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.analysis import saved_backbone, study_store
from cytosae.backbones import INPUT_SIZE, Backbone
from cytosae.concepts import concept_maps, read_dictionary
from cytosae.errors import CytosaeError, Unanswerable
from cytosae.explorer.caching import bounded, once
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.images import CellImages, encoded
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.schemas.cells import LatentMap, Patches, RegionConcept
from cytosae.explorer.schemas.values import short
from cytosae.sae import SAE
from cytosae.tokens import Harmonisation, TokenStore, read_harmonisation
from cytosae.tokens.live import embed_batch

Tokens = NDArray[np.float32]
"""``(n_tokens, d_model)``, token 0 is CLS; arrays, since torch wakes all its threads for the smallest sum."""
STRONGEST = 12
"""Latents listed for a patch."""
_SMALL = 1 << 28  # products
_TOKENS_BYTES, _ANSWERS_BYTES = 48 * 2**20, 16 * 2**20  # that are kept


@contextmanager
def _threads(products: int) -> Iterator[None]:
    """As many threads as the products are worth: to wake the others takes longer than what is done here for a map."""
    threads = torch.get_num_threads()
    if products < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Activations:
    """Maps and patches of a study's cells, and of others that are laid before it.

    Tokens come from the disk where they are kept, otherwise the image passes the backbone of the study. Autoencoder and
    backbone are loaded when they are first needed; what is computed is computed by one thread at a time, so that
    memory stays what one of them needs.
    """

    def __init__(self, reader: StudyReader, cell_images: CellImages) -> None:
        self._reader, self._images = reader, cell_images
        self._lock = threading.RLock()
        self._tokens = bounded(_TOKENS_BYTES, lambda tokens: tokens.nbytes)(self._read_tokens)
        self.patches = bounded(_ANSWERS_BYTES)(self._make_patches)
        """JSON by data set and row, see `_make_patches`."""
        self._sae = once(self._read_sae)
        self._backbone = once(lambda: saved_backbone(reader.folder, "cpu"))

    @property
    def sae(self) -> SAE:
        """The autoencoder, without its decoder: half of its memory, for what `Directions` reads from the disk."""
        return self._sae()

    def _read_sae(self) -> SAE:
        return read_dictionary(self._reader.folder, decoder=False).requires_grad_(False)

    @property
    def size(self) -> int:
        """Edge in pixels of the images that `embed` takes."""
        return INPUT_SIZE

    @property
    def backbone(self) -> Backbone:
        """The backbone of the study."""
        return self._backbone()

    @cached_property
    def _store(self) -> TokenStore:
        return TokenStore(self._reader.folder / "tokens")

    @cached_property
    def _store_rows(self) -> dict[str, NDArray[np.int64]]:
        """Rows of the store by data set."""
        names = self._store.cells["dataset"].astype(str).to_numpy()
        return {name: np.flatnonzero(names == name) for name in self._reader.datasets}

    def embed(self, image: NDArray[np.uint8], name: str) -> Tokens:
        """Tokens of an image of 224 pixels, rounded as those of a study are and centred where they are.

        Where they are harmonised, it is read as a cell of the laboratory that it resembles most.
        """
        with self._lock:
            pixels = torch.from_numpy(image[None].copy())
            tokens = embed_batch(self.backbone, pixels, [name], study_store(self._reader.folder).store_dtype)
            if (own := self._harmonisation) is not None:  # an upload says no laboratory
                tokens = own.apply(tokens, np.array([own.resembled(tokens)]))
            return self._centred(tokens[0])

    @cached_property
    def _harmonisation(self) -> Harmonisation | None:
        return read_harmonisation(self._reader.folder / "tokens")

    def tokens(self, data: DataSet, row: int) -> Tokens:
        """Tokens of a cell, as the autoencoder encodes them.

        Raises
        ------
        CytosaeError
            There are no tokens, and the image or the backbone is gone too.
        """
        return self._tokens(data, row)

    def _read_tokens(self, data: DataSet, row: int) -> Tokens:
        data.check_row(row)
        with self._lock:
            if not self._reader.has_tokens:
                return self.embed(self._images.pixels(data, row, INPUT_SIZE), *data.names([row]))
            rows = self._store_rows[data.name]
            (name,) = data.names([row])
            if row >= len(rows) or str(self._store.cells["cell_id"].iloc[rows[row]]) != name:
                raise CytosaeError(f"{name}: its tokens are no longer in the store. Run the study again.")
            try:
                return self._centred(self._store.read(rows[row : row + 1])[0])
            finally:
                self._store.close()  # a store of millions of cells has more files than a process may open

    def _centred(self, tokens: torch.Tensor) -> Tokens:
        centred: Tokens = self.sae.centred(tokens).numpy()
        return centred

    def maps(self, tokens: Sequence[Tokens], latent: int) -> NDArray[np.float32]:
        """Activation of a latent on the patches of some cells, ``(n_cells, rows, columns)``."""
        with self._lock, _threads(len(tokens) * tokens[0].size):
            x = torch.from_numpy(np.stack(tokens))
            return concept_maps(self.sae, x, np.array([latent]), self._reader.grid)[:, 0].numpy()

    def map(self, tokens: Tokens, latent: int) -> LatentMap:
        """A latent on a cell."""
        (values,) = self.maps([tokens], latent)
        top = float(values.max())
        return LatentMap(latent=latent, top=top, map=encoded(values, top))

    def cell_maps(self, latent: int, cells: Sequence[tuple[DataSet, int]]) -> list[NDArray[np.float32] | None]:
        """Map of a latent on each cell, given by data set and row; None if its tokens cannot be read."""
        maps: list[NDArray[np.float32] | None] = [None] * len(cells)
        positions, tokens = [], []
        for position, (data, row) in enumerate(cells):
            try:
                tokens.append(self.tokens(data, row))
            except CytosaeError:
                continue
            positions.append(position)
        if tokens:
            for position, map_ in zip(positions, self.maps(tokens, latent), strict=True):
                maps[position] = map_
        return maps

    @torch.no_grad()
    def encode(self, tokens: Tokens) -> torch.Tensor:
        """Activation of all latents on every token, ``(n_tokens, n_latents)``."""
        with self._lock, _threads(tokens.size * self.sae.n_latents):
            return self.sae.encode(torch.from_numpy(tokens))

    def _make_patches(self, data: DataSet, row: int) -> bytes:
        """The strongest latents of every patch of a cell, as JSON."""
        return self.strongest(self.tokens(data, row), data.common_latents).model_dump_json().encode()

    def region(self, data: DataSet, row: int, patches: Sequence[int]) -> list[RegionConcept]:
        """Latents above tau in at least half of some patches of a cell, without the common ones, by their lead there.

        Raises
        ------
        CytosaeError
            No such cell or patch.
        """
        rows, columns = self._reader.grid
        if wrong := [patch for patch in patches if patch >= rows * columns]:
            raise Unanswerable(f"patch {wrong[0]}: the cell has patches 0 to {rows * columns - 1}.")
        h = self.encode(self.tokens(data, row)[1:]).numpy()
        chosen = np.zeros(len(h), bool)
        chosen[list(patches)] = True
        share = (h[chosen] > self._reader.tau).mean(axis=0)
        inside, outside = (h[side].mean(axis=0) if side.any() else np.zeros(h.shape[1]) for side in (chosen, ~chosen))
        active = np.flatnonzero((share >= 0.5) & ~data.common_latents)
        order = active[np.argsort(-(inside - outside)[active], kind="stable")][:STRONGEST]
        return [
            RegionConcept(latent=int(s), share=float(share[s]), inside=float(inside[s]), outside=float(outside[s]))
            for s in order
        ]

    def step(self, data: DataSet, row: int, latent: int, factor: float) -> NDArray[np.float32]:
        """How far each patch's reconstruction moves where a latent is `factor` times as active, over its token's length.

        Returns
        -------
        ``(rows, columns)``: the norm of (factor - 1) h_s d_s over that of x.
        """
        tokens = self.tokens(data, row)
        (activation,) = self.maps([tokens], latent)
        length = np.linalg.norm(tokens[1:], axis=1).reshape(activation.shape)
        moved = abs(factor - 1) * self._reader.directions.length(latent) * activation
        return np.asarray(moved / np.maximum(length, 1e-12), np.float32)

    def strongest(self, tokens: Tokens, common_latents: NDArray[np.bool_]) -> Patches:
        """The strongest latents of every patch, without the common ones."""
        with self._lock, _threads(tokens.size * self.sae.n_latents):
            h = self.encode(tokens[1:])
            h[:, torch.from_numpy(common_latents)] = 0
            values, latents = (x.numpy() for x in torch.topk(h, min(STRONGEST, h.shape[1]), dim=1))
        patches = [
            [(int(s), short(v) or 0.0) for s, v in zip(strongest_latents, activations, strict=True) if v > 0]
            for strongest_latents, activations in zip(latents, values, strict=True)
        ]
        return Patches(grid=self._reader.grid, top=float(values.max(initial=0)), patches=patches)
