"""Random cells of a study seen turned, mirrored and in other stains, so that taught concepts depend less on these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.analysis.viewing import saved_backbone
from cytosae.backbones import INPUT_SIZE, Backbone
from cytosae.cells import RESPONSES, UnreadableImage, load_squashed, readings
from cytosae.console import progress, say
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import TeachConfig
from cytosae.storage import resolve_path
from cytosae.teaching import Views, mean_square_change
from cytosae.tokens import Harmonisation, TokenSource, read_harmonisation
from cytosae.tokens.live import embed_batch

_TURNS: tuple[tuple[Callable[[NDArray], NDArray], Callable[[NDArray], NDArray]], ...] = (
    (lambda image: image[:, ::-1], lambda grid: grid[:, :, ::-1]),
    (lambda image: image[::-1], lambda grid: grid[:, ::-1]),
    (lambda image: np.rot90(image), lambda grid: np.rot90(grid, -1, (1, 2))),
)
"""What is done to a picture ``(height, width, 3)``, and what brings patches ``(n_cells, rows, columns, d_model)`` back."""
_TOGETHER = 8


def make_views(study: Path, source: TokenSource, sae: SAE, config: TeachConfig, device: str = "auto") -> Views | None:
    """Look at random cells in other ways; None, and said, where images or backbone are not at hand.

    Parameters
    ----------
    study
        Its folder.
    source
        Its tokens.
    sae
        Its autoencoder, for which tokens may be centred.
    config
        How many cells, and the seed.
    """
    rows = np.sort(np.random.default_rng([config.teach_seed, 15]).permutation(source.n_cells)[: config.views])
    try:
        return views_of(source, rows, sae, saved_backbone(study, device), read_harmonisation(study / "tokens"))
    except (UnreadableImage, CytosaeError, OSError) as error:
        say(f"teach: cells are not looked at turned and restained, so concepts depend more on these: {error}")
        return None


def views_of(
    source: TokenSource,
    rows: NDArray[np.int64],
    sae: SAE,
    backbone: Backbone,
    harmonisation: Harmonisation | None = None,
) -> Views:
    """How the tokens of some cells change.

    Parameters
    ----------
    source
        Tokens as the backbone gives them; its cells have the images.
    rows
        The cells, ``(n_cells,)``.
    sae
        The autoencoder, for which tokens may be centred.
    backbone, harmonisation
        Through which the tokens went.

    Raises
    ------
    UnreadableImage
        An image is gone or damaged.
    """
    cells, layout = source.cells.iloc[rows], source.layout
    pixels = [
        load_squashed(resolve_path(path), INPUT_SIZE, how)
        for path, how in zip(cells["path"], readings(cells), strict=True)
    ]
    grid, names = tuple(layout.backbone["grid"]), cells["cell_id"].astype(str).tolist()

    def patches(change: Callable[[NDArray], NDArray]) -> NDArray[np.float32]:
        """Of all cells after a change, as the autoencoder takes them, ``(n_cells, rows, columns, d_model)``."""
        parts = []
        for start in range(0, len(pixels), _TOGETHER):
            changed = [np.ascontiguousarray(change(image)) for image in pixels[start : start + _TOGETHER]]
            own = names[start : start + _TOGETHER]
            tokens = embed_batch(backbone, torch.from_numpy(np.stack(changed)), own, layout.dtype)
            if harmonisation is not None:
                tokens = harmonisation.apply(tokens, harmonisation.codes(cells.iloc[start : start + _TOGETHER]))
            parts.append(sae.centred(tokens)[:, 1:].float().numpy())
            bar.advance(len(changed))
        made = np.concatenate(parts)
        return made.reshape(len(made), *grid, made.shape[-1])

    turns = _TURNS if grid[0] == grid[1] else _TURNS[:2]
    stains = RESPONSES["stain"].values()
    with progress("views", (1 + len(turns) + len(stains)) * len(pixels), "pictures") as bar:
        before = patches(lambda image: image)
        turned = mean_square_change(before, [back(patches(turn)) for turn, back in turns])
        restained = mean_square_change(before, [patches(stain) for stain in stains])
    return Views(turned, restained, len(rows), source.fingerprint)
