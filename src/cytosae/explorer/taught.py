"""Concepts that raters teach by pointing, learned from their marks while they look."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytosae.analysis import further_tokens
from cytosae.cells import read_cells
from cytosae.concepts import TAUGHT_FOLDER
from cytosae.errors import Unanswerable
from cytosae.explorer.annotations.marking import WHOLE_CELL, PlacedMark
from cytosae.explorer.caching import bounded, once
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.images import encoded
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.schemas import teaching as s
from cytosae.explorer.schemas.patients import ScoredCell
from cytosae.sae.taught import THRESHOLD
from cytosae.settings import TeachConfig
from cytosae.teaching import (
    VIEWS,
    Background,
    Candidates,
    Figure,
    Learned,
    Learner,
    Views,
    how_sure,
    marks_table,
    usable_marks,
    worth_marking,
)
from cytosae.tokens import TokenSource, TokenStore

if TYPE_CHECKING:
    from cytosae.explorer.activations import Activations

LIVE_CELLS = 64
"""Random cells where tokens are made from the images, at most: each passes the backbone."""
NEXT = 24
"""Cells worth marking that are listed."""
_Key = tuple[tuple[str, str, int, str, str], ...]
_KEPT_BYTES = 16 * 2**20
_BLOCK = 32  # cells whose tokens are widened together


@dataclass(frozen=True)
class _Ground:
    """Random cells of the study, and where each of all cells stands."""

    learner: Learner
    groups: NDArray[np.int64]
    """Number of the data set of each cell among the tokens, ``(n_cells,)``."""
    rows: NDArray[np.int64]
    """Its row in that, ``(n_cells,)``."""

    @classmethod
    def on(cls, learner: Learner) -> _Ground:
        names = learner.background.cells["dataset"].astype(str)
        groups = np.unique(names, return_inverse=True)[1]
        return cls(learner, groups.astype(np.int64), np.asarray(names.groupby(names, sort=False).cumcount(), np.int64))

    def place(self, row: int) -> dict[str, Any]:
        """Data set, row in it and name of a cell, by its row among the tokens."""
        cell = self.learner.background.cells.iloc[row]
        return {"dataset": str(cell["dataset"]), "row": int(self.rows[row]), "cell_id": str(cell["cell_id"])}

    def scored(self, row: int, value: float) -> ScoredCell:
        """The same with what the table says, and a score."""
        label = self.learner.background.cells.iloc[row].get("label")
        return ScoredCell(**self.place(row), label=label if isinstance(label, str) else None, score=value)

    def candidates(
        self, learned: Learned, rows: NDArray[np.int64], tokens: NDArray[np.floating]
    ) -> tuple[Candidates, NDArray[np.int64]]:
        """Some cells by their tokens, ``(n_chosen, n_tokens, d_model)``, and the strongest patch of each."""
        z = [
            tokens[i : i + _BLOCK, 1:].astype(np.float32) @ learned.weights + np.float32(learned.bias)
            for i in range(0, len(tokens), _BLOCK)
        ]
        scores = np.concatenate(z) if z else np.zeros((0, tokens.shape[1] - 1), np.float32)
        patches = scores.argmax(axis=1)
        vectors = tokens[np.arange(len(rows)), 1 + patches] - self.learner.prior.mean
        units = self.learner.background.units[rows]
        return Candidates(scores.max(axis=1), vectors, units, self.groups[rows]), patches


class TaughtConcepts:
    """What is learned from marks, kept until they change; computed by one thread at a time.

    What many threads ask for is guarded by three kinds of locks, always taken in this order: that of a result
    (`bounded`), the one of this class, those of `Activations`. None of them is held when an earlier one is taken.
    """

    def __init__(self, reader: StudyReader, activations: Callable[[], Activations]) -> None:
        self._reader, self._activations = reader, activations
        self._lock = threading.Lock()
        self._ground = once(self._make_ground)
        self._learned = bounded(_KEPT_BYTES, lambda learned: 4096 + learned.weights.nbytes)(self._learn)
        self._next = bounded(_KEPT_BYTES, lambda listed: 256 * (1 + len(listed.cells)))(self._choose)
        self.config = TeachConfig()

    def learned(self, marks: Sequence[PlacedMark]) -> Learned:
        """What the marks of one concept teach.

        Raises
        ------
        CytosaeError
            No mark says *this*, or the tokens cannot be read.
        """
        if not any(mark.mark == "this" for mark in marks):
            raise Unanswerable("Nothing is marked as this concept yet. Mark a patch that shows it.")
        return self._learned(marks[0].concept, _key(marks))

    def described(self, marks: Sequence[PlacedMark]) -> s.LearnedConcept:
        """The same, for people."""
        learned = self.learned(marks)
        enough, hint = how_sure(learned.auroc, learned.threshold)
        ground = self._ground()
        return s.LearnedConcept(
            concept=learned.concept,
            **learned.marks.counts(),
            left_out=list(learned.marks.problems),
            auroc=_figure(learned.auroc),
            average_precision=_figure(learned.average_precision),
            held_out_by=learned.held_out_by,
            recall=learned.threshold.recall,
            random=learned.threshold.random,
            threshold_warning=learned.threshold.warning,
            random_cells=len(ground.learner.background.rows),
            nearest=[s.NearLatent(latent=latent, correlation=value) for latent, value in learned.nearest],
            strongest=[ground.scored(row, value) for row, value in learned.strongest],
            enough=enough,
            hint=hint,
        )

    def map(self, marks: Sequence[PlacedMark], data: DataSet, row: int) -> s.TaughtMap:
        """A taught concept on a cell."""
        learned = self.learned(marks)
        (values,) = learned.map(self._activations().tokens(data, row)[None])
        top = float(values.max())
        shown = int((values > THRESHOLD).sum())
        return s.TaughtMap(concept=learned.concept, top=top, shown=shown, map=encoded(values, top))

    def next_cells(self, marks: Sequence[PlacedMark]) -> s.NextCells:
        """The cells that are worth marking next, of the random ones that the concept is compared with."""
        self.learned(marks)
        return self._next(marks[0].concept, _key(marks))

    def _make_ground(self) -> _Ground:
        sae = self._activations().sae
        cells = self.config.random_cells if self._reader.has_tokens else min(LIVE_CELLS, self.config.random_cells)
        source = self._source()
        path = self._reader.folder / TAUGHT_FOLDER / VIEWS
        views = Views.load(path, source.fingerprint) if self.config.views else None
        background = Background.draw(source, sae, cells=cells, seed=self.config.teach_seed, views=views)
        background.source.close()  # a store of millions of cells has more files than a process may open
        return _Ground.on(Learner.on(background, self.config.teach_seed))

    def _source(self) -> TokenSource:
        folder = self._reader.folder
        if self._reader.has_tokens:
            return TokenStore(folder / "tokens")
        backbone = self._activations().backbone
        return further_tokens(folder, read_cells(folder / "cells.parquet"), backbone, workers=0)

    def _learn(self, concept: str, key: _Key) -> Learned:
        learner = self._ground().learner
        rows = [(concept, cell, None if patch == WHOLE_CELL else patch, mark) for _, cell, patch, mark, _ in key]
        table = marks_table(rows).assign(rater=[rater for *_, rater in key])
        background = learner.background
        with self._lock:
            try:
                (usable,) = usable_marks(table, background.cells, background.n_patches)
                return learner.learn(usable, self.config)
            finally:
                background.source.close()

    def _choose(self, concept: str, key: _Key) -> s.NextCells:
        learned, ground = self._learned(concept, key), self._ground()
        background = ground.learner.background
        marked = np.unique(learned.marks.cells)
        free = np.flatnonzero(~np.isin(background.rows, marked))
        with self._lock:
            try:
                own, _ = ground.candidates(learned, marked, background.read(marked))
            finally:
                background.source.close()
            candidates, patches = ground.candidates(learned, background.rows[free], background.tokens[free])
            chosen = worth_marking(candidates, own, NEXT)
        return s.NextCells(
            cells=[
                s.NextCell(
                    **ground.place(int(background.rows[free[one.index]])),
                    patch=int(patches[one.index]),
                    uncertainty=one.uncertainty,
                    new_patient=one.new_unit,
                    new_dataset=one.new_group,
                )
                for one in chosen
            ]
        )


def _key(marks: Sequence[PlacedMark]) -> _Key:
    return tuple(sorted((one.dataset, one.cell, one.patch, one.mark, one.rater) for one in marks))


def _figure(figure: Figure) -> s.HeldOutFigure:
    return s.HeldOutFigure(
        value=figure.value,
        low=figure.low,
        high=figure.high,
        chance=figure.chance,
        marks=figure.marks,
        units=figure.units,
    )
