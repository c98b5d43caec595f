"""Settings of training and encoding; the defaults are the paper's. Imports nothing heavy: the command line shows them."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cytosae.errors import CytosaeError

SEED = 2**63 - 1
"""Largest seed of a training."""
SHORT_SEED = 2**32 - 1
"""Largest seed that scikit-learn takes."""
CONCEPT_THRESHOLD = -3.0
"""A latent is a discovered concept where log10 of its mean activation is above it (sec. 2)."""


def _setting(
    default: Any,
    text: str,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: int | None = None,
) -> Any:
    limits = {"minimum": minimum, "maximum": maximum}
    return field(default=default, metadata={"help": text, "choices": choices, **limits})


def _check(settings: Any) -> None:
    """Raise a CytosaeError for the first value out of its range."""
    for spec in fields(settings):
        value, option = getattr(settings, spec.name), "--" + spec.name.replace("_", "-")
        choices, minimum, maximum = (spec.metadata[key] for key in ("choices", "minimum", "maximum"))
        if choices and value not in choices:
            raise CytosaeError(f"{option} {value}: unknown; choose one of {', '.join(choices)}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise CytosaeError(f"{option} {value}: must be a finite number.")
        if minimum is not None and not value >= minimum:
            raise CytosaeError(f"{option} {value}: must be at least {minimum}.")
        if maximum is not None and value > maximum:
            raise CytosaeError(f"{option} {value}: must be at most {maximum}.")


@dataclass(frozen=True)
class BackboneConfig:
    """Which vision transformer makes the tokens, and after which block."""

    backbone: str = _setting(
        "tiny",
        "dinobloom-s|b|l|g, tiny (built in), a folder or file of weights, a model of the Hugging Face hub (owner/name), or "
        "timm:NAME; see cytosae backbones list",
    )
    layer: int = _setting(
        -2,
        "block whose output is taken: -2 is the second last (the paper's), 1 the first; counted from 1 or from the end",
    )
    dtype: str = _setting(
        "auto",
        "precision of the backbone's products; auto takes bfloat16 where processor or GPU have it",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    device: str = _setting("auto", "auto, cpu, cuda, cuda:1, ...")
    revision: str | None = _setting(None, "revision of a hub model")
    weights: Path | None = _setting(None, "local weights for dinobloom-*: the .pth, .bin or .safetensors file")

    def __post_init__(self) -> None:
        _check(self)


_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_WINDOW = re.compile(rf"({_NUMBER})-({_NUMBER})", re.IGNORECASE)


def intensity_window(text: str) -> tuple[float, float] | None:
    """The values of an ``--intensity`` that become black and white; None for ``full`` and ``percentile``.

    Raises
    ------
    CytosaeError
        It is none of these.
    """
    if text in {"full", "percentile"}:
        return None
    match = _WINDOW.fullmatch(text)
    if match is None or not float(match[1]) < float(match[2]) < float("inf"):
        raise CytosaeError(
            f"--intensity {text}: unknown; give full, percentile, or LOW-HIGH with LOW below HIGH, such as 0-4095."
        )
    return float(match[1]), float(match[2])


@dataclass(frozen=True)
class ImageConfig:
    """How image files become pixels."""

    intensity: str | None = _setting(
        None,
        "images with more than 8 bits a channel become 8-bit: 'full' takes the whole range of the type (0 to 1 for floating "
        "point), 'percentile' the 0.1th to the 99.9th percentile of each image, LOW-HIGH these values (0-4095) as black and "
        "white. If left out such images are rejected",
    )

    def __post_init__(self) -> None:
        _check(self)
        if self.intensity is not None:
            intensity_window(self.intensity)


@dataclass(frozen=True)
class StoreConfig:
    """How tokens are kept on disk."""

    store_dtype: str = _setting("float16", "precision of stored tokens", choices=("float16", "bfloat16"))
    cells_per_shard: int = _setting(256, "cells in one file of tokens", minimum=1)
    batch_size: int = _setting(32, "images that pass the backbone together", minimum=1)

    def __post_init__(self) -> None:
        _check(self)


_USED_BY = {
    "k": ("topk", "batchtopk", "archetypal"),
    "bandwidth": ("jumprelu",),
    "points": ("archetypal",),
    "relaxation": ("archetypal",),
}
"""Objectives that use a setting, for those that not all use."""


@dataclass(frozen=True)
class EngineConfig:
    """Who embeds and encodes; what comes out does not depend on it.

    Raises
    ------
    CytosaeError
        A value out of its range, or an address without Ray.
    """

    engine: str = _setting(
        "local",
        "local: this process, or several of this machine; ray: actors of a Ray cluster (needs cytosae[ray])",
        choices=("local", "ray"),
    )
    replicas: int = _setting(
        0,
        "copies of the model that work side by side, each in a process of its own; 0 is one, and with ray one a GPU (or "
        "core) of the cluster",
        minimum=0,
    )
    address: str | None = _setting(
        None, "of a running Ray cluster, such as host:6379 or auto; if left out one is started on this machine"
    )

    def __post_init__(self) -> None:
        _check(self)
        if self.address is not None and self.engine != "ray":
            raise CytosaeError(f"--address {self.address}: is that of a Ray cluster, add --engine ray.")

    @property
    def here(self) -> bool:
        """Whether this process does the work itself."""
        return self.engine == "local" and self.replicas <= 1


HERE = EngineConfig()
"""This process alone."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a trained autoencoder depends on, beside its tokens.

    The help text of every field says its meaning, its unit and where in the paper (CytoSAE) it comes from.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    expansion: int = _setting(64, "latents per dimension of a token (sec. 2: 16, 32, 64, 128)", minimum=1)
    objective: str = _setting(
        "release",
        "what is minimised. ReLU and L1 norm: 'release' divides the squared error by the token's norm and averages over "
        "dimensions, 'squared' sums it over dimensions (Eq. 1). Squared error with another activation: 'topk' (Gao et al. "
        "2024), 'batchtopk' (Bussmann et al. 2024; Matryoshka with --nested), 'jumprelu', 'gated' (Rajamanoharan et al. "
        "2024), 'archetypal' (Fel et al. 2025)",
        choices=("release", "squared", "topk", "batchtopk", "jumprelu", "gated", "archetypal"),
    )
    k: int = _setting(
        32,
        "latents active on a token: at most with topk and archetypal, on average with batchtopk (Gao et al. 2024)",
        minimum=1,
    )
    bandwidth: float = _setting(
        0.05,
        "jumprelu: width around a threshold in which activations teach it, and where thresholds start, in units of an "
        "activation (Rajamanoharan et al. 2024: 0.001 for tokens of norm 1)",
        minimum=1e-9,
    )
    points: int = _setting(
        1024,
        "archetypal: tokens of which every direction is a mixture, drawn at the start (Fel et al. 2025)",
        minimum=1,
    )
    relaxation: float = _setting(
        0.0,
        "archetypal: how far a direction may leave the mixtures, in mean norms of the points (Fel et al. 2025)",
        minimum=0,
    )
    nested: int = _setting(
        1,
        "nested dictionaries: with 3 the first half of the latents and the first quarter have to reconstruct the "
        "token by themselves too, so that coarse concepts stay whole (Matryoshka, Bussmann et al. 2025, where it is "
        "--objective batchtopk); 1 is the paper's",
        minimum=1,
    )
    l1: float = _setting(
        8e-5,
        "lambda, weight of the L1 norm of the latents (sec. 2); with jumprelu of their number, with gated of the gates' L1 "
        "norm; not used where k sets the number",
        minimum=0,
    )
    learning_rate: float = _setting(4e-4, "of Adam, after warm-up (sec. 2)", minimum=0)
    warmup_steps: int = _setting(500, "steps in which the learning rate rises linearly (sec. 2)", minimum=0)
    images: int = _setting(1_000_000, "images seen in all, over many passes (release)", minimum=1)
    batch_images: int = _setting(64, "whole images in a batch (release)", minimum=1)
    b_dec_init: str = _setting(
        "geometric-median",
        "start of the decoder bias (sec. 2)",
        choices=("geometric-median", "mean", "zeros"),
    )
    directions_init: str = _setting(
        "random",
        "start of the latents' directions: 'random', or 'tokens', those of random training tokens, with the encoder tied to "
        "them",
        choices=("random", "tokens"),
    )
    init_images: int = _setting(64, "images whose tokens give the start of bias and directions", minimum=1)
    revival: str = _setting(
        "ghost",
        "what brings dead latents back: 'ghost' gradients (sec. 2; Anthropic 2024), 'auxk', those nearest to firing on a "
        "token reconstruct its residual (Gao et al. 2024), or 'none'",
        choices=("ghost", "auxk", "none"),
    )
    encoder: str = _setting(
        "auto",
        "precision of the encoder's product, which tells the active latents; all that follows is float32 in any case. auto "
        "takes bfloat16, several times faster, where the processor has it",
        choices=("auto", "float32", "bfloat16"),
    )
    dead_every: int = _setting(
        1,
        "dead latents take part in every step, or only in one of so many, which then counts for all of them; for "
        "--revival auxk or none",
        minimum=1,
    )
    dead_after: int = _setting(64, "batches without firing after which a latent is dead (release)", minimum=1)
    holdout: float = _setting(
        0.05, "share of cells kept out of training for its figures, where the table has no 'split'", minimum=0
    )
    evaluate_every: int = _setting(500, "steps between two evaluations", minimum=1)
    evaluate_images: int = _setting(512, "cells in an evaluation, at most", minimum=1)
    log_every: int = _setting(10, "steps between two lines of the log", minimum=1)
    seed: int = _setting(0, "fixes initial weights, held-out cells and the order of images", minimum=0, maximum=SEED)

    def __post_init__(self) -> None:
        _check(self)
        if self.holdout >= 1:
            raise CytosaeError(f"--holdout {self.holdout}: must be below 1, or no cell is left to train on.")

    def recorded(self) -> dict[str, Any]:
        """The settings that the objective uses, by name: what a training is told by, and compared by when it goes on."""
        return {
            name: value
            for name, value in asdict(self).items()
            if self.objective in _USED_BY.get(name, (self.objective,))
        }

    @property
    def steps(self) -> int:
        """Optimiser steps: enough batches to see `images` images."""
        return -(-self.images // self.batch_images)


PRESETS = {"paper": TrainConfig(), "recommended": TrainConfig(objective="batchtopk", revival="auxk")}
"""Settings of a training by the name that ``--preset`` gives them; where they differ stands in docs/choices.md."""


@dataclass(frozen=True)
class EncodeConfig:
    """Settings of the encoding.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    threshold: float = _setting(
        0.2, "tau: a patch is active where its activation is above it (Eq. 2; release)", minimum=0
    )
    references: int = _setting(10, "reference images per latent (sec. 2)", minimum=1)
    per_patient: int = _setting(
        1, "images of one patient among the reference images that are kept beside the strongest, at most", minimum=1
    )
    concept_threshold: float = _setting(
        CONCEPT_THRESHOLD, "a latent is a discovered concept where log10 of its mean activation is above it (sec. 2)"
    )
    draw_seed: int = _setting(0, "fixes the draw of random reference images", minimum=0, maximum=SEED)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of the quality measures.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    cells: int = _setting(4000, "cells on which the measures rest, drawn from all data sets, at most", minimum=50)
    token_cells: int = _setting(
        512, "cells whose single tokens are looked at, for reconstruction and masks, at most", minimum=10
    )
    changed_cells: int = _setting(
        128, "cells that pass the backbone again with another stain, blurred and compressed, at most", minimum=10
    )
    draws: int = _setting(200, "bootstrap draws for an interval", minimum=20)
    seed: int = _setting(0, "fixes the cells, the halves and all draws", minimum=0, maximum=SHORT_SEED)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class BarcodeConfig:
    """Settings of the barcodes."""

    by_cell_type: bool = _setting(False, "a barcode of each cell type (column 'label') of each patient")
    duplicates: bool = _setting(
        True, "look for cells that occur under two patients, as the same file or turned, resized, compressed anew"
    )


@dataclass(frozen=True)
class ClassifyConfig:
    """Settings of the classification of patients.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    splits: int = _setting(5, "folds, by patient, with the classes in like shares", minimum=2)
    repeats: int = _setting(5, "times that folds are drawn anew", minimum=1)
    inner: int = _setting(3, "folds of the training patients, in which the threshold is chosen", minimum=2)
    step: float = _setting(
        0.5, "distance of the thresholds, log10 of mean activation, from -6 to 0 (Fig. 4A)", minimum=0.05
    )
    permutations: int = _setting(200, "classifications of permuted labels, for the null", minimum=0)
    bootstrap: int = _setting(1000, "bootstrap draws of the patients, for intervals", minimum=20)
    seed: int = _setting(0, "fixes folds, permutations and draws", minimum=0, maximum=SHORT_SEED)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """From -6 to 0."""
        return tuple(round(-6 + self.step * i, 6) for i in range(int(6 / self.step + 1e-9) + 1))


@dataclass(frozen=True)
class CompareConfig:
    """Settings of the comparison of two groups of patients.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    top: int = _setting(50, "latents most in favour of each side (sec. 3.3)", minimum=1)
    prevalence: float = _setting(
        0.1, "a latent is tested where it occurs in at least this share of the patients of both groups", minimum=0
    )
    bootstrap: int = _setting(1000, "bootstrap draws of the patients, for intervals", minimum=20)
    permutations: int = _setting(10_000, "permutations of the groups, for p values", minimum=0)
    shown: int = _setting(8, "latents of each side whose cells are drawn, where a study is given", minimum=1)
    seed: int = _setting(0, "fixes draws and permutations", minimum=0, maximum=SEED)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class PatientConfig:
    """Settings of the page of a patient.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    healthy: str = _setting("healthy", "the group (diagnosis) of the healthy, with which every patient is compared")
    concepts: int = _setting(8, "unusual concepts shown, at most", minimum=1)
    cells: int = _setting(10, "cells shown, at most", minimum=1)
    fdr: float = _setting(0.1, "false-discovery rate up to which a concept is unusual", minimum=0)

    def __post_init__(self) -> None:
        _check(self)
