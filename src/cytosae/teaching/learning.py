"""From marks to a taught concept: its direction, its threshold, how good it is, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.errors import CytosaeError
from cytosae.sae.taught import THRESHOLD, Taught
from cytosae.settings import TeachConfig, to_stored
from cytosae.teaching.background import Background
from cytosae.teaching.fitting import NEGATIVES, Linear, Prior, fit_bags, silent_on_cls
from cytosae.teaching.judging import Figure, HeldOut, Marked, Threshold, calibrate, held_out, mean_over_units
from cytosae.teaching.marks import WHOLE_CELL, ConceptMarks

NEAREST, STRONGEST = 10, 24
"""Latents and cells that are listed."""


@dataclass(frozen=True)
class Learned:
    """A concept that was learned from marks; ``h = max(0, w x + b)``, shown by a patch where ``h > 0.2``."""

    concept: str
    weights: NDArray[np.float32]
    """w, ``(d_model,)``, on tokens as the autoencoder takes them."""
    bias: float
    direction: NDArray[np.float32]
    """How tokens change with the concept, of unit norm, ``(d_model,)``."""
    marks: ConceptMarks
    auroc: Figure
    """Of held-out marked patches against random ones; of whole cells if no patch is marked."""
    average_precision: Figure
    threshold: Threshold
    held_out_by: str
    """``patient`` or ``cell``: what was left out whole; empty where there was only one."""
    nearest: tuple[tuple[int, float], ...]
    """Latents whose pre-activations correlate most, with the correlation."""
    strongest: tuple[tuple[int, float], ...]
    """Rows of the random cells with the largest mean activation, with it."""

    def map(self, tokens: NDArray[np.floating]) -> NDArray[np.float32]:
        """Activation on the patches of cells, ``(n_cells, n_tokens, d_model)`` to ``(n_cells, n_patches)``."""
        z = np.asarray(tokens[:, 1:], np.float32) @ self.weights + np.float32(self.bias)
        return np.maximum(z, 0)

    def details(self, config: TeachConfig) -> dict[str, Any]:
        """What a file of taught concepts says of it."""
        return {
            "marks": self.marks.counts(),
            "left_out": list(self.marks.problems),
            "auroc": self.auroc.as_dict(),
            "average_precision": self.average_precision.as_dict(),
            "held_out_by": self.held_out_by,
            "threshold": {
                "found": self.threshold.recall,
                "random": self.threshold.random,
                "shown": self.threshold.shown,
                "useless": self.threshold.useless,
            },
            "nearest": [{"latent": latent, "correlation": value} for latent, value in self.nearest],
            "settings": to_stored(config),
        }

    def add_to(self, taught: Taught, config: TeachConfig) -> Taught:
        """The taught concepts with this one, in the place of an earlier one of its name."""
        return taught.with_concept(self.concept, self.weights, self.bias, self.direction, self.details(config))


@dataclass(frozen=True)
class Learner:
    """Learns concepts on one background; what all of them need is computed once."""

    background: Background
    prior: Prior
    random: NDArray[np.float32]
    """Random patches, ``(n_random, d_model)``."""
    random_units: NDArray[np.int64]

    @classmethod
    def on(cls, background: Background, seed: int = 0) -> Learner:
        """For the tokens of a study."""
        n_cells, n_tokens, d_model = background.tokens.shape
        rng = np.random.default_rng([seed, 13])
        flat = np.sort(rng.permutation(n_cells * (n_tokens - 1))[:NEGATIVES])
        cells, patches = np.divmod(flat, n_tokens - 1)
        random = background.tokens[cells, 1 + patches].astype(np.float32)
        many = background.tokens[:, 1 + rng.permutation(n_tokens - 1)[: max(1, 20_000 // n_cells)]]
        prior = Prior(many.reshape(-1, d_model).astype(np.float32), background.encoder, background.nuisances)
        return cls(background, prior, random, background.units[background.rows[cells]])

    @cached_property
    def _random_features(self) -> NDArray[np.float32]:
        return self.prior.features(self.random)

    def learn(self, marks: ConceptMarks, config: TeachConfig | None = None) -> Learned:
        """Learn a concept.

        Raises
        ------
        CytosaeError
            No mark says *this*.
        """
        config = config or TeachConfig()
        if not marks.positive.any():
            says = f"its {len(marks)} marks all say 'not'" if len(marks) else "no mark of it holds, all were taken back"
            why = "; ".join(marks.problems) or says
            raise CytosaeError(
                f"concept {marks.concept!r}: nothing is marked 'this' ({why}). Mark a patch that shows it."
            )
        evidence = _Evidence.read(marks, self.background)
        linear = self._fit(evidence, np.zeros(evidence.n_positive, bool), np.zeros(len(self.random), bool))
        judged, by = self._judge(evidence, config)
        patches = evidence.this_rows.size > 0
        scores = judged.scores[: evidence.n_this] if patches else judged.scores
        known = np.isfinite(scores)
        seen = evidence.own_scores(linear)
        random = linear(self.random)
        threshold = calibrate(scores[known] if known.any() else seen, random, config.precision)
        typical = float(np.median(scores[known])) if known.any() else float(np.median(seen))
        width = max(typical - threshold.score, 0.1 * float(random.std()), 1e-6)
        cls = self.background.tokens[:, 0].astype(np.float32)
        linear = silent_on_cls(linear, cls, self.prior, threshold.score - THRESHOLD * width)
        weights = (linear.weights / width).astype(np.float32)
        bias = (linear.bias - threshold.score) / width + THRESHOLD
        units = evidence.units[: evidence.n_this] if patches else evidence.units
        placed, precise = (values[: len(scores)][known] for values in (judged.placed, judged.precise))
        learned = Learned(
            marks.concept,
            weights,
            float(bias),
            self.prior.direction(linear.weights).astype(np.float32),
            marks,
            mean_over_units(placed, units[known], 0.5),
            mean_over_units(precise, units[known], 1 / 11),
            threshold,
            by,
            _largest(self.prior.nearest(linear.weights), NEAREST),
            (),
        )
        return replace(learned, strongest=self._strongest(learned))

    def _fit(self, evidence: _Evidence, left: NDArray[np.bool_], random_left: NDArray[np.bool_]) -> Linear:
        this = evidence.this[~left[: evidence.n_this]]
        bags = [bag for bag, out in zip(evidence.bags, left[evidence.n_this :], strict=True) if not out]
        gone = set(evidence.units[left].tolist())
        wrong = evidence.wrong[[unit not in gone for unit in evidence.wrong_units.tolist()]]
        return fit_bags(this, wrong, bags, self._random_features[~random_left], self.prior)

    def _judge(self, evidence: _Evidence, config: TeachConfig) -> tuple[HeldOut, str]:
        units, random_units, by = evidence.units, self.random_units, "patient"
        if len(np.unique(units)) < 2:  # one patient alone: leave out cells
            by, units = "cell", np.concatenate([evidence.this_rows, evidence.bag_rows])
            random_units = -1 - np.arange(len(self.random))
        elif not self.background.cells["patient"].notna().any():
            by = "cell"

        def score(
            test: NDArray[np.bool_], random_test: NDArray[np.bool_]
        ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            linear = self._fit(evidence, test, random_test)
            bags = [bag for bag, out in zip(evidence.bags, test[evidence.n_this :], strict=True) if out]
            strongest = np.array([linear(bag).max() for bag in bags])
            patches = linear(evidence.this[test[: evidence.n_this]])
            return np.concatenate([patches, strongest]), linear(self.random[random_test])

        judged = held_out(Marked(units, random_units), score, config.teach_seed)
        return judged, by if np.isfinite(judged.scores).any() else ""

    def _strongest(self, learned: Learned) -> tuple[tuple[int, float], ...]:
        means = np.concatenate(
            [learned.map(block.astype(np.float32)).mean(axis=1) for block in np.array_split(self.background.tokens, 16)]
        )
        return tuple((int(self.background.rows[i]), value) for i, value in _largest(means, STRONGEST) if value > 0)


@dataclass(frozen=True)
class _Evidence:
    """Tokens of the marks; positive marks are patches first, then whole cells."""

    this: NDArray[np.float32]
    this_rows: NDArray[np.int64]
    bags: list[NDArray[np.float32]]
    bag_rows: NDArray[np.int64]
    wrong: NDArray[np.float32]
    wrong_units: NDArray[np.int64]
    units: NDArray[np.int64]
    """Of all positive marks."""

    @classmethod
    def read(cls, marks: ConceptMarks, background: Background) -> _Evidence:
        rows, inverse = np.unique(marks.cells, return_inverse=True)
        tokens = background.read(rows)[:, 1:]
        whole = marks.patches == WHOLE_CELL
        this, bags, wrong, wrong_cells = (
            np.flatnonzero(chosen)
            for chosen in (
                marks.positive & ~whole,
                marks.positive & whole,
                ~marks.positive & ~whole,
                ~marks.positive & whole,
            )
        )
        blocks = [tokens[inverse[wrong], marks.patches[wrong]], *(tokens[inverse[i]] for i in wrong_cells)]
        lengths = [1] * len(wrong) + [tokens.shape[1]] * len(wrong_cells)
        wrong_rows = np.repeat(marks.cells[np.concatenate([wrong, wrong_cells])], lengths)
        units = background.units
        return cls(
            tokens[inverse[this], marks.patches[this]],
            marks.cells[this],
            [tokens[inverse[i]] for i in bags],
            marks.cells[bags],
            np.concatenate(blocks),
            units[wrong_rows],
            units[marks.cells[np.concatenate([this, bags])]],
        )

    @property
    def n_this(self) -> int:
        return len(self.this)

    @property
    def n_positive(self) -> int:
        return len(self.this) + len(self.bags)

    def own_scores(self, linear: Linear) -> NDArray[np.float64]:
        """Scores of the marked patches, or of the strongest patch of each marked cell."""
        return linear(self.this) if self.n_this else np.array([linear(bag).max() for bag in self.bags])


def _largest(values: NDArray[np.floating], count: int) -> tuple[tuple[int, float], ...]:
    order = np.argsort(-values, kind="stable")[:count]
    return tuple((int(i), float(values[i])) for i in order)
