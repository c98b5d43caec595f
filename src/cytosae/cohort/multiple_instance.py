"""Multiple-instance learning on the cells of patients: gated attention (Hehr et al., 2023), and a small transformer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

WIDTH = 64
_EPOCHS, _BATCH, _CELLS, _RATE, _DECAY = 100, 8, 128, 1e-3, 1e-2


class AttentionPooling(nn.Module):
    """Gated attention over the cells of a patient (Ilse et al., 2018, Eq. 8 and 9), then a linear layer."""

    def __init__(self, d_model: int, n_classes: int, width: int = WIDTH) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(d_model, width), nn.ReLU(), nn.Dropout(0.25))
        self.tanh, self.gate, self.score = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)
        self.classify = nn.Linear(width, n_classes)

    def forward(self, cells: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Logits ``(n_patients, n_classes)`` of cells ``(n_patients, n_cells, d_model)``; `present` marks real ones."""
        h = self.embed(cells)
        score = self.score(torch.tanh(self.tanh(h)) * torch.sigmoid(self.gate(h)))[..., 0]
        attention = score.masked_fill(~present, -torch.inf).softmax(dim=1)
        return torch.as_tensor(self.classify((attention[..., None] * h).sum(dim=1)))


class TransformerPooling(nn.Module):
    """One layer of self-attention over the cells of a patient and a class token, then a linear layer.

    After TransMIL (Shao et al., 2021), without its position encoding, as cells have no order.
    """

    def __init__(self, d_model: int, n_classes: int, width: int = WIDTH) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(d_model, width), nn.ReLU(), nn.Dropout(0.25))
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=2 * width, dropout=0.1, batch_first=True, norm_first=True
        )
        self.norm, self.classify = nn.LayerNorm(width), nn.Linear(width, n_classes)

    def forward(self, cells: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """See `AttentionPooling.forward`."""
        first = self.token.expand(len(cells), -1, -1)
        hidden = torch.cat([first, self.embed(cells)], dim=1)
        absent = torch.cat([torch.zeros_like(present[:, :1]), ~present], dim=1)
        pooled = self.layer(hidden, src_key_padding_mask=absent)[:, 0]
        return torch.as_tensor(self.classify(self.norm(pooled)))


MODELS = {"attention": AttentionPooling, "transformer": TransformerPooling}
"""Models over the cells of a patient, by name."""


@dataclass(frozen=True)
class Bags:
    """Cells of patients."""

    cells: NDArray[np.float32]
    """CLS tokens, or concept counts, of all cells, ``(n_cells, d_model)``."""
    rows: Sequence[NDArray[np.int64]]
    """Cells of each patient, ``(n_patients,)``."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Products this small take longer when threads have to meet for each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def predict_bags(
    bags: Bags,
    target: NDArray[np.integer],
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    n_classes: int,
    seed: int = 0,
    kind: str = "attention",
) -> NDArray[np.float64]:
    """Train on some patients, predict others; ``(n_test, n_classes)`` probabilities.

    `kind` is one of `MODELS`. Cells are standardised over those of the training patients. In training at most 128 are drawn
    for each step, in prediction all are seen. Classes count alike, however many patients they have.

    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    rows = np.flatnonzero(train)
    seen = np.concatenate([bags.rows[int(row)] for row in rows])
    centre, spread = bags.cells[seen].mean(axis=0), bags.cells[seen].std(axis=0) + 1e-6
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(), _one_thread():
        torch.manual_seed(seed)
        model = MODELS[kind](bags.cells.shape[1], n_classes)
        optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY)
        counts = np.bincount(target[rows], minlength=n_classes)
        weight = torch.tensor(len(rows) / (n_classes * np.maximum(counts, 1)), dtype=torch.float32)

        def batch(patients: NDArray[np.int64], most: int | None) -> tuple[torch.Tensor, torch.Tensor]:
            chosen = [
                rng.choice(bags.rows[p], most, replace=False) if most and len(bags.rows[p]) > most else bags.rows[p]
                for p in patients
            ]
            longest = max(map(len, chosen))
            cells = np.zeros((len(chosen), longest, bags.cells.shape[1]), np.float32)
            present = np.zeros((len(chosen), longest), bool)
            for index, members in enumerate(chosen):
                cells[index, : len(members)] = (bags.cells[members] - centre) / spread
                present[index, : len(members)] = True
            return torch.from_numpy(cells), torch.from_numpy(present)

        model.train()
        for _ in range(_EPOCHS):
            order = rng.permutation(rows)
            for patients in np.array_split(order, -(-len(order) // _BATCH)):
                logits = model(*batch(patients, _CELLS))
                loss = nn.functional.cross_entropy(logits, torch.from_numpy(target[patients].astype(np.int64)), weight)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        model.eval()
        with torch.no_grad():
            probabilities = [model(*batch(np.array([p]), None)).softmax(dim=1)[0].numpy() for p in np.flatnonzero(test)]
    return np.stack(probabilities).astype(np.float64)
