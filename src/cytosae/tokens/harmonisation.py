"""Tokens of several laboratories made comparable: maps that are fitted once, kept beside the store, and read through ever
after.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cytosae import __version__
from cytosae.artefacts import FileRecord, claim, digest, own_files, parse_json, remove_outdated, whole_file
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.harmonise import LEAST, METHODS, Maps, Moments, MomentSums, fit_maps, laboratories, mean_moments, nearest

HARMONISATION = "harmonisation.safetensors"
MOST_CELLS = 2048
"""Cells of a laboratory that its moments are taken from, at most."""
NEW_CELLS = 256
"""The same of a laboratory that is new: these cells pass the backbone twice."""
_BATCH = 32
_PARTS = ("cls", "patches")


class Source(Protocol):
    """Tokens as the backbone gives them."""

    @property
    def cells(self) -> pd.DataFrame:
        """Their cells, in the order of the rows."""

    def stream(self, batches: Iterable[NDArray[np.int64]]) -> Generator[torch.Tensor, None, None]:
        """Tokens of each batch, in order."""


@dataclass(frozen=True)
class Harmonisation:
    """Maps of the tokens of some laboratories to the mean laboratory of the training: CLS by its own, patches by theirs."""

    method: str
    """One of `cytosae.harmonise.METHODS`."""
    column: str
    """Of the cells, that says the laboratory."""
    names: tuple[str, ...]
    """The laboratories that are known."""
    maps: tuple[Maps, Maps]
    """Of CLS and of the patches."""
    reference: tuple[Moments, Moments]
    """The mean laboratory."""
    inputs: str = ""
    """Digest of the tokens and laboratories that it was fitted on, `fitted_on`."""

    def described(self) -> dict[str, Any]:
        """What an autoencoder has to be given again: method, column and the digest of the mean laboratory."""
        arrays = [part.tobytes() for moments in self.reference for part in (moments.mean, moments.spread)]
        return {
            "method": self.method,
            "laboratory": self.column,
            "reference": hashlib.sha256(b"".join(arrays)).hexdigest(),
        }

    @cached_property
    def digest(self) -> str:
        """Digest of all maps."""
        arrays = [part.tobytes() for maps in self.maps for part in (maps.mean, maps.scale, maps.target)]
        return digest([self.described(), list(self.names), hashlib.sha256(b"".join(arrays)).hexdigest()])

    def codes(self, cells: pd.DataFrame) -> NDArray[np.int64]:
        """Number of the laboratory of each cell, negative where unknown; ``(n_cells,)``.

        Raises
        ------
        CytosaeError
            The table lacks the column.
        """
        own = laboratories(cells, self.column, several=False)
        number = {name: code for code, name in enumerate(self.names)}
        return np.array([*(number.get(name, -1) for name in own.names), -1], np.int64)[own.codes]

    @cached_property
    def _affine(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Of CLS and patches: factors or matrices, and what is added, float32, a row a laboratory."""
        parts = []
        for maps in self.maps:
            moved = np.einsum("ld,lde->le" if maps.scale.ndim == 3 else "ld,ld->ld", maps.mean, maps.scale)
            parts.append((torch.from_numpy(maps.scale).float(), torch.from_numpy(maps.target - moved).float()))
        return parts

    def apply(self, tokens: torch.Tensor, codes: NDArray[np.int64]) -> torch.Tensor:
        """Harmonise tokens ``(n_cells, n_tokens, d_model)`` of laboratories `codes` ``(n_cells,)``, in their own precision.

        Cells of an unknown laboratory (negative) stay as they are.
        """
        mapped = tokens.float()
        for code in np.unique(codes[codes >= 0]).tolist():
            rows = torch.from_numpy(np.flatnonzero(codes == code))
            own = mapped[rows]
            for (scale, added), part in zip(self._affine, (slice(0, 1), slice(1, None)), strict=True):
                factor = scale[code]
                own[:, part] = (own[:, part] * factor if factor.ndim == 1 else own[:, part] @ factor) + added[code]
            mapped[rows] = own
        return mapped.to(tokens.dtype)

    def resembled(self, tokens: torch.Tensor) -> int:
        """The known laboratory whose tokens those of some cells ``(n_cells, n_tokens, d_model)`` resemble most."""
        patches = tokens[:, 1:] if tokens.shape[1] > 1 else tokens
        mean = patches.double().mean(dim=(0, 1)).numpy()[None]
        part = 1 if tokens.shape[1] > 1 else 0
        return int(nearest(mean, self.maps[part], self.reference[part])[0])

    def with_laboratories(self, source: Source, seed: int = 0) -> Harmonisation:
        """The same with the laboratories of further cells, whose labels are not needed; what it was trained with stays.

        A laboratory of at least `cytosae.harmonise.LEAST` cells gets maps of its own, from `NEW_CELLS` of them at most;
        one of fewer those of the known laboratory that it resembles most. Either is said.
        """
        cells = source.cells
        own = laboratories(cells, self.column, several=False)
        names, mapped = list(self.names), list(self.maps)
        for code, name in enumerate(own.names):
            if name in self.names:
                continue
            rows = np.random.default_rng([seed, 12]).permutation(np.flatnonzero(own.codes == code))[:NEW_CELLS]
            batches = [np.sort(rows)[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
            if len(rows) < LEAST:
                like = self.resembled(torch.cat([tokens.float() for tokens in source.stream(batches)]))
                added = [Maps(maps.mean[[like]], maps.scale[[like]], maps.target) for maps in self.maps]
                say(
                    f"harmonisation: {self.column} {name} is new and has {len(rows)} cells, fewer than {LEAST}: they "
                    f"are read as cells of {self.names[like]}, which they resemble most"
                )
            else:
                sums = _sums(source, batches, np.zeros(len(cells), np.int64), 1, METHODS[self.method].full)
                added = [
                    fit_maps(self.method, [part.moments(0)], reference)
                    for part, reference in zip(sums, self.reference, strict=True)
                ]
                say(
                    f"harmonisation: {self.column} {name} is new: harmonised by {len(rows)} of its own cells, without "
                    "labels"
                )
            names.append(name)
            mapped = [_joined(maps, one) for maps, one in zip(mapped, added, strict=True)]
        return replace(self, names=tuple(names), maps=(mapped[0], mapped[1]))


def _joined(maps: Maps, added: Maps) -> Maps:
    return Maps(np.concatenate([maps.mean, added.mean]), np.concatenate([maps.scale, added.scale]), maps.target)


def fitted_on(source: Any, column: str) -> str:
    """Digest of what a harmonisation of a store depends on: its tokens as they are, and the laboratories of its cells."""
    own = laboratories(source.cells, column)
    return digest([source.fingerprint, own.codes.tolist(), list(own.names)])


def fit_harmonisation(source: Source, method: str, column: str, seed: int = 0, *, inputs: str = "") -> Harmonisation:
    """Fit the maps of the laboratories of a store, in one pass over `MOST_CELLS` cells of each at most.

    Memory does not grow with the cells. Labels are not looked at.

    Parameters
    ----------
    source
        Tokens as the backbone gave them.
    method
        One of `cytosae.harmonise.METHODS`.
    column
        Of the cells, that says the laboratory; with ``patient`` every patient is one, so that a single patient can be
        harmonised alone.
    seed
        Fixes which cells are read.
    inputs
        See `fitted_on`.

    Raises
    ------
    CytosaeError
        No such column, one laboratory alone, or none with `cytosae.harmonise.LEAST` cells.

    Notes
    -----
    No example: needs a store of tokens; the README embeds cells and reads them.
    """
    own = laboratories(source.cells, column)
    rng = np.random.default_rng([seed, 12])
    rows = [rng.permutation(np.flatnonzero(own.codes == code))[:MOST_CELLS] for code in range(len(own.names))]
    chosen = np.sort(np.concatenate(rows))
    batches = [chosen[i : i + _BATCH] for i in range(0, len(chosen), _BATCH)]
    for sentence in own.few(LEAST):
        say(f"harmonisation: {sentence}")
    enough = np.flatnonzero(own.sizes >= LEAST)
    if len(enough) < 2:
        raise CytosaeError(
            f"--laboratory {column}: {len(enough)} of {len(own.names)} laboratories have {LEAST} cells or more, and "
            "two are needed. Name another column with --laboratory, or leave --harmonise out."
        )
    maps, references = [], []
    for part in _sums(source, batches, own.codes, len(own.names), METHODS[method].full):
        moments = [part.moments(code) for code in range(len(own.names))]
        reference = mean_moments([moments[code] for code in enough])
        known = [one if size >= LEAST else replace(one, n=0) for one, size in zip(moments, own.sizes, strict=True)]
        maps.append(fit_maps(method, known, reference))
        references.append(reference)
    return Harmonisation(method, column, own.names, (maps[0], maps[1]), (references[0], references[1]), inputs)


def _sums(
    source: Source, batches: list[NDArray[np.int64]], codes: NDArray[np.int64], n: int, full: bool
) -> tuple[MomentSums, MomentSums]:
    """Sums of CLS and patch tokens by laboratory."""
    sums: tuple[MomentSums, MomentSums] | None = None
    for batch, tokens in zip(batches, source.stream(batches), strict=True):
        if sums is None:
            sums = MomentSums(n, tokens.shape[2], full=full), MomentSums(n, tokens.shape[2], full=full)
        values = tokens.double().numpy()
        sums[0].add(values[:, 0], codes[batch])
        sums[1].add(values[:, 1:].reshape(-1, values.shape[2]), np.repeat(codes[batch], values.shape[1] - 1))
    assert sums is not None
    return sums


def write_harmonisation(folder: Path, harmonisation: Harmonisation | None) -> None:
    """Keep the maps beside the shards of a store, or remove those that are there (None).

    No example: needs a store of tokens; the README embeds cells and reads them.
    """
    own = own_files(folder, "tokens")
    if harmonisation is None:
        if HARMONISATION in own:
            remove_outdated(folder, "tokens", {*own} - {HARMONISATION})
        return
    claim(folder, "tokens", [HARMONISATION])
    arrays: dict[str, NDArray[np.float64]] = {}
    for part, maps, reference in zip(_PARTS, harmonisation.maps, harmonisation.reference, strict=True):
        arrays |= {f"{part}.mean": maps.mean, f"{part}.scale": maps.scale}
        arrays |= {f"{part}.reference_mean": reference.mean, f"{part}.reference_spread": reference.spread}
    about = {
        "cytosae": __version__,
        "method": harmonisation.method,
        "source": METHODS[harmonisation.method].source,
        "laboratory": harmonisation.column,
        "names": list(harmonisation.names),
        "inputs": harmonisation.inputs,
        "cells": [moments.n for moments in harmonisation.reference],
    }
    with whole_file(folder / HARMONISATION, shared=True) as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary, {"cytosae": json.dumps(about)})
    record = FileRecord.from_file(folder / HARMONISATION)
    remove_outdated(folder, "tokens", {*own, HARMONISATION}, {HARMONISATION: record})


def read_harmonisation(folder: Path) -> Harmonisation | None:
    """The maps beside a store; None where its tokens are read as they are.

    Raises
    ------
    CytosaeError
        The file is damaged.

    Notes
    -----
    No example: needs a store of tokens; the README embeds cells and reads them.
    """
    path = folder / HARMONISATION
    if not path.is_file():
        return None
    try:
        with safe_open(path, "numpy") as file:
            about = parse_json((file.metadata() or {})["cytosae"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        maps, references = [], []
        for part, n in zip(_PARTS, about["cells"], strict=True):
            target = arrays[f"{part}.reference_mean"]
            maps.append(Maps(arrays[f"{part}.mean"], arrays[f"{part}.scale"], target))
            references.append(Moments(n, target, arrays[f"{part}.reference_spread"]))
        return Harmonisation(
            about["method"],
            about["laboratory"],
            tuple(about["names"]),
            (maps[0], maps[1]),
            (references[0], references[1]),
            about["inputs"],
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CytosaeError(
            f"{path}: not the harmonisation of tokens, or damaged ({error}). Remove it and run the same command again."
        ) from error
