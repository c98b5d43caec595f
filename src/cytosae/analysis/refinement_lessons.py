"""What teaches a concept in a refinement, and what judges it: marks of different patients or cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.analysis.refinement_judging import AFTER, Evidence, best_latent, read_evidence
from cytosae.console import say
from cytosae.sae import SAE
from cytosae.sae.editing import Direction
from cytosae.sae.refining import Marked
from cytosae.sae.taught import THRESHOLD
from cytosae.settings import RefineConfig
from cytosae.teaching import Background, ConceptMarks, Learned, Learner
from cytosae.tokens import TokenSource


@dataclass(frozen=True)
class Lesson:
    """A concept with what teaches it and what judges it."""

    learned: Learned
    teaching: Evidence
    judging: Evidence

    @property
    def concept(self) -> str:
        """Its name."""
        return self.learned.concept

    @property
    def direction(self) -> Direction:
        """The linear concept, from marks that teach alone."""
        weights, direction = (
            torch.from_numpy(np.asarray(one, np.float32)) for one in (self.learned.weights, self.learned.direction)
        )
        return Direction(weights, float(self.learned.bias), THRESHOLD, direction)

    @property
    def marked(self) -> Marked:
        """Tokens of the marks: of a cell that was marked as a whole, the patch that shows the concept most; of what does not
        show it 2,000 at most.
        """
        weights, others = self.direction.weights, self.teaching.others
        this = torch.stack([token[int((token @ weights).argmax())] for token in self.teaching.this])
        return Marked(this, torch.cat(others)[:2000] if others else this[:0])

    def areas(self, saes: Mapping[str, SAE], slot: int) -> dict[str, Any]:
        """AUROC on judging cells of the latent that was chosen on teaching cells, and of the linear concept itself.

        Parameters
        ----------
        slot
            The latent that the refined dictionary gave it.
        """
        areas: dict[str, Any] = {"latents": {}}
        for name, sae in saes.items():
            latent = slot if name == AFTER else best_latent(sae, self.teaching)
            areas["latents"][name] = latent
            areas[name] = self.judging.auroc(sae.W_enc[:, latent])
        areas["taught, beside the dictionary"] = self.judging.auroc(self.direction.weights)
        return areas


def judging_cells(units: NDArray[np.int64], marks: Sequence[ConceptMarks], config: RefineConfig) -> NDArray[np.bool_]:
    """Cells of the marked patients (or the marked cells) that judge and teach nothing, ``(n_cells,)``.

    Parameters
    ----------
    units
        Patient or cell of each cell, ``(n_cells,)``.
    """
    marked = np.unique(np.concatenate([units[one.cells[one.positive]] for one in marks])) if marks else np.empty(0)
    count = round(config.judge * len(marked))
    rng = np.random.default_rng([config.refine_seed, 21])
    return np.isin(units, rng.permutation(marked)[: min(count, max(0, len(marked) - 1))])


def make_lessons(
    source: TokenSource,
    tokens: TokenSource,
    sae: SAE,
    marks: Sequence[ConceptMarks],
    units: NDArray[np.int64],
    judges: NDArray[np.bool_],
    config: RefineConfig,
) -> list[Lesson]:
    """What each concept is learned from, and judged by; concepts whose marks all judge are left out and named.

    Parameters
    ----------
    source, tokens
        Tokens as the backbone gives them, and as the autoencoder takes them.
    units, judges
        Of `judging_cells`.
    """
    if not marks:
        return []
    learner = Learner.on(Background.draw(source, sae, seed=config.refine_seed))
    lessons = []
    for one in marks:
        teaches = ~judges[one.cells]
        if not one.positive[teaches].any():
            say(
                f"refine: {one.concept}: all marks 'this' are held out for the test; it is not taught. Mark more, or "
                "--judge 0"
            )
            continue
        own = ConceptMarks(one.concept, one.cells[teaches], one.patches[teaches], one.positive[teaches], one.problems)
        evidence = [read_evidence(tokens, one, cells, units, config.refine_seed) for cells in (~judges, judges)]
        lessons.append(Lesson(learner.learn(own), *evidence))
    return lessons
