"""A short further training in which what experts said counts beside the reconstruction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity

from cytosae.backbones import choose_precision
from cytosae.console import progress
from cytosae.errors import CytosaeError
from cytosae.sae import backends, loss, sparse
from cytosae.sae.loss import BatchFigures, Loss
from cytosae.sae.model import SAE
from cytosae.sae.state import new_state
from cytosae.sae.training import own_random_numbers
from cytosae.settings import RefineConfig, TrainConfig, from_stored
from cytosae.tokens import TokenSource, shuffled_batches

_LONG_AGO = 10_000
"""Steps that the activation's running means are said to have seen: they move on and do not begin anew."""
_NEGATIVES = 512  # tokens of the batch beside the marks
_WARMUP = 50  # steps


@dataclass(frozen=True)
class Marked:
    """Tokens of the marks of a taught concept, as the autoencoder takes them."""

    this: Tensor
    """``(n_this, d_model)``."""
    wrong: Tensor
    """``(n_not, d_model)``; none where nothing was marked *not*."""


def training_settings(sae: SAE) -> TrainConfig:
    """With which settings an autoencoder was trained.

    Raises
    ------
    CytosaeError
        It does not say, or its directions are made of something else (archetypes).
    """
    stored = sae.metadata.get("training")
    if not stored:
        raise CytosaeError("the autoencoder does not say how it was trained, so it cannot be trained further.")
    config = TrainConfig(**from_stored(TrainConfig, stored))
    if config.objective == "archetypal":
        raise CytosaeError("the autoencoder's directions are made of archetypes; it cannot be refined.")
    return config


def refine(
    source: TokenSource,
    start: SAE,
    rows: NDArray,
    config: RefineConfig,
    *,
    meaningful: Sequence[int] = (),
    marked: Mapping[int, Marked] | None = None,
) -> SAE:
    """Train an autoencoder further on the CPU.

    What is minimised is the loss of the training before, of which the reconstruction term is R, plus

    ``keep R mean over meaningful latents of (2 - cos(d, d0) - cos(w, w0)) + teach_weight R mean over taught of BCE``

    with direction d and encoder w of a latent, those at the start d0 and w0, and BCE the cross entropy of marks against
    random tokens of the batch, each side together weighing half, of the pre-activation's margin above zero in units of its
    deviation at the start. R is a constant for the gradient.

    Parameters
    ----------
    source
        Tokens as the backbone gives them.
    start
        Where it starts; stays as it is.
    rows
        Cells to train on.
    config
        Settings.
    meaningful
        Latents that stay near their directions.
    marked
        Marks by the latent that shall answer to them.

    Raises
    ------
    CytosaeError
        The settings of the training before are not known, or it diverges.
    """
    before = training_settings(start)
    own = replace(
        before,
        images=config.refine_images,
        learning_rate=before.learning_rate * config.rate_share,
        warmup_steps=_WARMUP,
        decay=0.5,
        seed=config.refine_seed,
    )
    device = torch.device("cpu")
    with own_random_numbers(config.refine_seed):
        state = new_state(own, start.d_model, device, n_tokens=source.layout.n_tokens)
        state.sae.load_state_dict(start.state_dict())
        asked = _Asked(state.sae, list(meaningful), dict(marked or {}), config)
        batches = shuffled_batches(rows, own.batch_images, config.refine_seed)
        coming = iter(source.stream(batches))
        with progress("refine", own.steps, "steps") as bar:
            for done in range(1, own.steps + 1):
                x = state.sae.centred(next(coming)).flatten(0, 1)
                base = _base(state.sae, state.l0, own)
                figures = backends.plain(state, x, own, partial(asked.backward, base))
                state.sae.activation.after_step(figures.limit, _LONG_AGO + done)
                state.since_fired.add_(len(x)).masked_fill_(figures.fired, 0)
                state.l0, state.step = figures.l0, done
                bar.to(done)
    refined = SAE(start.d_model, start.n_latents, dict(start.metadata), start.activation, start.position_offset)
    refined.load_state_dict(state.sae.state_dict())
    return refined.requires_grad_(False)


Backward = Callable[[SAE, Tensor, Loss], BatchFigures]


def _base(sae: SAE, l0: float, config: TrainConfig) -> Backward:
    """The gradients of the training before, by the faster way."""
    if sae.activation.slope is not None and l0 <= sparse.DENSE_ABOVE * sae.n_latents:
        return partial(sparse.backward, dtype=choose_precision(config.encoder, "cpu"))
    return partial(loss.backward, dtype="float32")


class _Asked:
    """What is added to the loss."""

    def __init__(self, sae: SAE, latents: list[int], marked: Mapping[int, Marked], config: RefineConfig) -> None:
        self.kept, self.marked, self.config = latents, marked, config
        self.directions, self.encoders = sae.W_dec.detach()[latents].clone(), sae.W_enc.detach().T[latents].clone()
        self._generator = torch.Generator().manual_seed(config.refine_seed)
        self._scale: dict[int, float] = {}

    def backward(self, base: Backward, sae: SAE, x: Tensor, terms: Loss) -> BatchFigures:
        """The gradients of the training before, and those of what was asked."""
        figures = base(sae, x, terms)
        added = self._kept(sae) + self._taught(sae, x)
        if added.requires_grad:
            (figures.reconstruction * added).backward()
        return figures

    def _kept(self, sae: SAE) -> Tensor:
        if not self.kept or not self.config.keep:
            return torch.zeros(())
        directions = cosine_similarity(sae.W_dec[self.kept], self.directions)
        encoders = cosine_similarity(sae.W_enc.T[self.kept], self.encoders)
        return self.config.keep * (2 - directions - encoders).mean()

    def _taught(self, sae: SAE, x: Tensor) -> Tensor:
        if not self.marked or not self.config.teach_weight:
            return torch.zeros(())
        random = x[torch.randint(len(x), (_NEGATIVES,), generator=self._generator)]
        lowest = sae.activation.lowest()
        terms = []
        for latent, marks in self.marked.items():
            others = torch.cat([marks.wrong, random])
            tokens = torch.cat([marks.this, others])
            pre = (tokens - sae.b_dec.detach()) @ sae.W_enc[:, latent] + sae.b_enc[latent]
            margin = pre - (0.0 if lowest is None else lowest[latent].detach())
            scale = self._scale.setdefault(latent, max(float(margin.detach().std()), 1e-6))
            truth = torch.cat([torch.ones(len(marks.this)), torch.zeros(len(others))])
            weight = torch.where(truth > 0, 0.5 / len(marks.this), 0.5 / len(others))
            term = binary_cross_entropy_with_logits(margin / scale, truth, weight=weight, reduction="sum")
            terms.append(term)
        return self.config.teach_weight * torch.stack(terms).mean()
