"""Settings of the training; the defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from cytosae.errors import CytosaeError
from cytosae.settings.declaration import SEED, check, setting

OBJECTIVES = ("release", "squared", "topk", "batchtopk", "jumprelu", "gated", "archetypal")
"""Each is a module of `cytosae.sae.objectives`, which says which settings it uses."""
RETURNS_ABOVE = 0.7
"""Cosine of decoder directions from which a latent counts as found again by another training."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a trained autoencoder depends on, beside its tokens.

    The help text of every field says its meaning, its unit and where in the paper (CytoSAE) it comes from.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    expansion: int = setting(64, "latents per dimension of a token (sec. 2: 16, 32, 64, 128)", minimum=1)
    objective: str = setting(
        "release",
        "the loss. ReLU and L1 norm: 'release' divides the squared error by the token's norm and averages over "
        "dimensions, 'squared' sums it over dimensions (Eq. 1). Squared error with another activation: 'topk' (Gao "
        "et al. 2024), 'batchtopk' (Bussmann et al. 2024; Matryoshka with --matryoshka-levels), 'jumprelu', "
        "'gated' (Rajamanoharan et al. 2024), 'archetypal' (Fel et al. 2025)",
        choices=OBJECTIVES,
    )
    k: int = setting(
        32,
        "latents active on a token: at most with topk and archetypal, on average with batchtopk (Gao et al. 2024)",
        minimum=1,
    )
    bandwidth: float = setting(
        0.05,
        "jumprelu: width around a threshold in which activations teach it, and where thresholds start, in units of an "
        "activation (Rajamanoharan et al. 2024: 0.001 for tokens of norm 1)",
        minimum=1e-9,
    )
    archetypes: int = setting(
        1024,
        "archetypal: tokens of which every decoder direction is a mixture, drawn at the start (Fel et al. 2025)",
        minimum=1,
        stored="points",
    )
    relaxation: float = setting(
        0.0,
        "archetypal: how far a direction may leave the mixtures, in mean norms of the archetypes (Fel et al. 2025)",
        minimum=0,
    )
    matryoshka_levels: int = setting(
        1,
        "Matryoshka levels: with 3 the first half of the latents and the first quarter have to reconstruct the "
        "token by themselves too, so that coarse concepts stay whole (Matryoshka, Bussmann et al. 2025, where it is "
        "--objective batchtopk); 1 is the paper's",
        minimum=1,
        stored="nested",
    )
    l1: float = setting(
        8e-5,
        "lambda, weight of the L1 norm of the latents (sec. 2); with jumprelu of their number, with gated of the "
        "gates' L1 norm; not used if k sets the number",
        minimum=0,
    )
    learning_rate: float = setting(
        4e-4,
        "learning rate of Adam, after warm-up (sec. 2); 0: 1e-3 for batches of 16 x 257 tokens, rising with the root of "
        "the tokens, at most 2e-3",
        minimum=0,
        automatic=0,
    )
    warmup_steps: int = setting(500, "steps in which the learning rate rises linearly (sec. 2)", minimum=0)
    decay: float = setting(
        0.0, "share of the steps, at the end, in which the learning rate falls linearly towards 0", minimum=0, maximum=1
    )
    images: int = setting(
        1_000_000,
        "length of the training: images in total, over many passes (release), rounded up to whole batches; 0: "
        "twice the number of cells, at least 16,000",
        minimum=0,
        automatic=0,
    )
    batch_images: int = setting(64, "whole images in a batch (release)", minimum=1)
    centring: str = setting(
        "none",
        "'position' subtracts from every token the mean deviation of training tokens at its position, so that no "
        "latent has to encode a position; stored with the autoencoder",
        choices=("none", "position"),
    )
    b_dec_init: str = setting(
        "geometric-median",
        "start of the decoder bias (sec. 2)",
        choices=("geometric-median", "mean", "zeros"),
    )
    directions_init: str = setting(
        "random",
        "start of the latents' directions: 'random', or 'tokens', those of random training tokens, with the encoder "
        "tied to them",
        choices=("random", "tokens"),
    )
    start_l0: int = setting(
        0,
        "release and squared: latents that fire on a token at the start, by the encoder's bias, so that the first "
        "steps are as fast as the last; 0: half of all, by a bias of zero",
        minimum=0,
    )
    init_images: int = setting(64, "images whose tokens give the start of biases and directions", minimum=1)
    frozen: str = setting(
        "none",
        "matrix that keeps its random start, as a baseline: the directions of the 'decoder', or the rows of the "
        "'encoder'; biases and thresholds are still trained",
        choices=("none", "decoder", "encoder"),
    )
    dead_latent_loss: str = setting(
        "ghost",
        "auxiliary loss of dead latents: 'ghost' gradients (sec. 2; Anthropic 2024), 'auxk', those nearest to firing "
        "on a token reconstruct its residual (Gao et al. 2024), or 'none'",
        choices=("ghost", "auxk", "none"),
        stored="revival",
    )
    encoder: str = setting(
        "auto",
        "precision of the encoder's product, which selects the active latents, and, while more than 3 % of ReLU "
        "latents are active, of the other products; weights and sums are always float32. auto uses bfloat16, "
        "several times faster, if the processor has it",
        choices=("auto", "float32", "bfloat16"),
    )
    dead_every: int = setting(
        1,
        "dead latents are updated in every step, or only in one of so many, which then counts for all of them; for "
        "--dead-latent-loss auxk or none",
        minimum=1,
    )
    dead_after_tokens: int = setting(
        64 * 64 * 257,
        "tokens without firing after which a latent is dead (release: 64 batches of 64 images of 257 tokens)",
        minimum=1,
    )
    holdout: float = setting(0.05, "share of cells held out from training, if the table has no 'split'", minimum=0)
    evaluate_every: int = setting(500, "steps between two evaluations", minimum=1)
    evaluate_images: int = setting(512, "cells in an evaluation, at most", minimum=1)
    log_every: int = setting(10, "steps between two lines of the log", minimum=1)
    seed: int = setting(0, "fixes initial weights, held-out cells and the order of images", minimum=0, maximum=SEED)
    seeds: int = setting(
        1,
        "autoencoders trained together on the same tokens, each from initial weights of its own; with more than "
        "one, the latents that most of them find form one dictionary",
        minimum=1,
    )
    seeds_cosine: float = setting(
        RETURNS_ABOVE,
        "cosine of decoder directions from which a latent counts as found again by another of the seeds",
        minimum=0,
        maximum=1,
    )
    weights_draw: int = setting(
        0, "seed of the initial weights alone; cells and their order stay those of --seed", minimum=0
    )

    def __post_init__(self) -> None:
        check(self)
        if self.frozen != "none" and self.objective == "archetypal":
            raise CytosaeError(f"--frozen {self.frozen}: archetypal mixes its directions of tokens; take topk instead.")
        if self.start_l0 and self.objective not in ("release", "squared"):
            raise CytosaeError(
                f"--start-l0 {self.start_l0}: is for the objectives release and squared; {self.objective} has its own "
                "way to be sparse. Leave it out."
            )
        if self.holdout >= 1:
            raise CytosaeError(f"--holdout {self.holdout}: must be below 1, or no cell is left to train on.")

    @property
    def steps(self) -> int:
        """Optimiser steps: enough batches to see `images` images."""
        return -(-self.images // self.batch_images)

    @property
    def weights_seed(self) -> int:
        """Fixes the initial weights: the seed itself, or for a further draw a number made of both."""
        if not self.weights_draw:
            return self.seed
        name = f"{self.seed} {self.weights_draw}".encode()
        return int.from_bytes(sha256(name).digest()[:4], "little")  # as many bits as torch's generator takes

    def scaled_to(self, n_cells: int, n_tokens: int) -> TrainConfig:
        """The same, with learning rate and number of images by the rule where they are 0.

        Parameters
        ----------
        n_cells
            Cells of the study, held-out ones too.
        n_tokens
            Of an image.

        Examples
        --------
        >>> PRESETS["recommended"].scaled_to(50_000, 257).images
        100000
        """
        rate = float(f"{min(2e-3, 1e-3 * (self.batch_images * n_tokens / (16 * 257)) ** 0.5):.2g}")
        return replace(self, learning_rate=self.learning_rate or rate, images=self.images or max(16_000, 2 * n_cells))


_RECOMMENDED = TrainConfig(
    objective="batchtopk",
    dead_latent_loss="auxk",
    expansion=8,
    batch_images=16,
    learning_rate=0,
    images=0,
    warmup_steps=50,
    evaluate_every=200,
)
PRESETS = {
    "paper": TrainConfig(),
    "recommended": _RECOMMENDED,
    "quick": replace(_RECOMMENDED, expansion=4, images=4_000, learning_rate=1.4e-3),
}
"""Settings of a training by the name that ``--preset`` gives them; they differ as said in docs/explanation/choices.md."""
