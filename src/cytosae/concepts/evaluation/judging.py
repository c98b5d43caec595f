"""Another backbone's view of the cells: a latent should not be judged by the embeddings that it was made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.backbones import Backbone
from cytosae.cells import load_squashed, readings
from cytosae.console import progress
from cytosae.errors import CytosaeError
from cytosae.storage import resolve_path
from cytosae.tokens import Layout

_BATCH = 32


def check_judge(judge: Backbone | None, layout: Layout) -> None:
    """Refuse the backbone that is explained as its own judge."""
    if judge is not None and judge.info.fingerprint == layout.backbone.get("fingerprint"):
        raise CytosaeError(
            f"--judge-backbone {judge.info.name}: is the backbone that this study explains. Name another, or leave it out."
        )


def embedded(judge: Backbone, cells: pd.DataFrame) -> NDArray[np.float32]:
    """The CLS token of each cell's image, ``(n_cells, d_model)``: of the whole backbone, else after its chosen block.

    Raises
    ------
    UnreadableImage
        An image is gone or damaged.
    """
    files, chunks = list(zip(cells["path"], readings(cells), strict=True)), []
    with progress("judge", len(files), "cells") as bar:
        for start in range(0, len(files), _BATCH):
            some = files[start : start + _BATCH]
            images = np.stack([load_squashed(resolve_path(path), judge.info.image_size, how) for path, how in some])
            tokens = judge.tokens(torch.from_numpy(images))
            chunks.append((judge.output(tokens) if judge.can_finish else tokens)[:, 0].float().cpu().numpy())
            bar.to(start + len(some))
    return np.concatenate(chunks)
