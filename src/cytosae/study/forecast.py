"""How long a run will take on this machine, measured on a little of its work and said before it begins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch

from cytosae.backbones import BUILT_IN, INPUT_SIZE, Backbone
from cytosae.console import duration
from cytosae.morphometry import measure_rows
from cytosae.sae.cost import SETTLED_L0, Span, span, step_span
from cytosae.sae.objectives import OBJECTIVES
from cytosae.settings import TrainConfig
from cytosae.tokens import Layout

IMAGES = 4
"""Images on which a unit of work is measured at first."""
LONG = 2_000
"""Images to embed and to train on, together, above which it is worth the seconds that measuring takes."""
MORE = 1.25
"""Factor of the upper bound for what is not measured: reading images and tokens, evaluations, checkpoints."""
_WHOLE_BATCH = (
    2.0  # seconds that a whole batch may take to be measured; it has a share that does not grow with the images
)


def embed_seconds(backbone: Backbone, device: torch.device) -> float:
    """Seconds that the backbone takes for an image, without reading it."""
    return _embed_span(backbone, device, IMAGES).high


def _embed_span(backbone: Backbone, device: torch.device, images: int) -> Span:
    """Seconds for each of some images that pass the backbone together."""
    shape = (images, INPUT_SIZE, INPUT_SIZE, 3)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    return span(partial(backbone.tokens, pixels), device) * (1 / images)


def embed_span(backbone: Backbone, device: torch.device, batch: int) -> Span:
    """Seconds that the backbone takes for an image in batches of `batch`, without reading it."""
    few = _embed_span(backbone, device, IMAGES)
    return few if batch * few.high > _WHOLE_BATCH else _embed_span(backbone, device, batch)


def training_span(config: TrainConfig, n_tokens: int, d_model: int, device: torch.device, done: int = 0) -> Span:
    """Seconds of the rest of a training on images of `n_tokens` tokens, without reading them.

    Steps are measured on random tokens of a whole batch; where that would take long, on those of a few images: steps are
    linear in the tokens (docs/explanation/benchmarks.md) but for a share that many tokens make small. With an L1 norm
    the steps of the warm-up are dense.

    Parameters
    ----------
    done
        Steps that are done already.
    """
    dense = max(0, min(config.steps, config.warmup_steps) - done)
    settled = max(0, config.steps - done) - dense
    if OBJECTIVES[config.objective].set_by == "k":
        dense, settled, l0 = 0, dense + settled, float(config.k)
    else:
        l0 = SETTLED_L0
    kinds = [(dense, None), (settled, l0)]
    taken = [_step_span(config, n_tokens, d_model, device, level) * steps for steps, level in kinds if steps]
    return sum(taken, Span(0, 0)) * config.seeds


def _step_span(config: TrainConfig, n_tokens: int, d_model: int, device: torch.device, l0: float | None) -> Span:
    few, batch = min(IMAGES, config.batch_images), config.batch_images
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(few * n_tokens, d_model, generator=generator).to(device)
    taken = step_span(config, x, l0) * (batch / few)
    if few == batch or taken.high > _WHOLE_BATCH:
        return taken
    x = torch.randn(batch * n_tokens, d_model, generator=generator).to(device)
    return step_span(config, x, l0)


def measuring_span(cells: pd.DataFrame, processes: int) -> Span:
    """Seconds to find and measure all cells of a listing, from a few that lie apart."""
    few = cells.iloc[:: -(-len(cells) // IMAGES)]
    taken = span(partial(measure_rows, few, lambda _: None), torch.device("cpu"))
    return Span(taken.high, taken.high) * (len(cells) / len(few) / processes)


def between(taken: Span) -> str:
    """A time as a range; one time where both ends read alike.

    Examples
    --------
    >>> between(Span(400, 650)), between(Span(40, 41))
    ('7 to 11 min', '40 to 41 s')
    """
    low, high = duration(taken.low), duration(taken.high)
    if low == high:
        return low
    number, unit = low.split(" ", 1)
    return f"{number if high.endswith(f' {unit}') else low} to {high}"


def forecast(
    to_embed: int,
    backbone: Callable[[], Backbone],
    layout: Layout,
    device: torch.device,
    config: TrainConfig | None,
    done: int = 0,
    measuring: Callable[[], Span] | None = None,
) -> str | None:
    """What a run is about to do and how long that takes; None where it is too little to be worth measuring.

    Parameters
    ----------
    to_embed
        Cells that have no tokens yet.
    backbone
        Loads the backbone, which is asked for only where cells have none.
    layout
        Of the tokens.
    device
        Where backbone and training run.
    config
        Of the training, scaled to the study (`TrainConfig.scaled_to`); None where none is due.
    done
        Steps of the training that are done already.
    measuring
        How long it takes to measure the cells (`measuring_span`); None where they are not measured.
    """
    if to_embed + (config.images - done * config.batch_images if config else 0) < LONG:
        return None
    parts, total = list[str](), Span(0, 0)
    if to_embed:
        taken = _widened(embed_span(backbone(), device, layout.batch_size) * to_embed)
        parts.append(f"tokens of {to_embed:,} images {between(taken)}")
        total += taken
    if config:
        taken = _widened(training_span(config, layout.n_tokens, layout.d_model, device, done))
        left = max(0, config.steps - done) * config.batch_images
        seeds = f", {config.seeds} times" if config.seeds > 1 else ""
        parts.append(f"training on {left:,} {'further ' if done else ''}images{seeds} {between(taken)}")
        total += taken
    if measuring:
        taken = _widened(measuring())
        parts.append(f"measuring the cells {between(taken)}")
        total += taken
    shorter = "; --images sets the length of the training" if config and total.high > 600 else ""
    return (
        f"{between(total)} on this machine ({', '.join(parts)}), longer if it does other work too, and some more for the "
        f"report{shorter}"
    )


def _widened(taken: Span) -> Span:
    return Span(taken.low, taken.high * MORE)


def described(cells: pd.DataFrame, backbone: str) -> str:
    """What a run has understood of the cells, and with which backbone it looks at them."""
    counts = [f"{len(cells):,} cell{'' if len(cells) == 1 else 's'}"]
    for column, one, several in (
        ("label", "label", "labels"),
        ("patient", "patient", "patients"),
        ("diagnosis", "diagnosis", "diagnoses"),
    ):
        if column == "diagnosis" and not (column in cells and cells["patient"].notna().any()):
            continue
        number = cells[column].nunique()
        counts.append(f"{number:,} {one if number == 1 else several}" if number else f"no {several}")
    toy = ", a small one to try things with: results that matter need DinoBloom (`cytosae backbones list`)"
    return f"{', '.join(counts)}; backbone {backbone}{toy if backbone in BUILT_IN else ''}"
