"""A concept learned from a few marks on planted tokens: what it finds, and what it says of itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from cytosae.sae import SAE
from cytosae.settings import TeachConfig
from cytosae.teaching import Background, ConceptMarks, Learned, Learner, marks_table, usable_marks
from cytosae.teaching.judging import calibrate, mean_over_units, placements, precisions
from cytosae.tokens import TokenStore

N_CELLS, N_PATCHES, WIDTH = 160, 16, 24
PATIENTS = 20


@pytest.fixture
def study(make_store: Callable[..., TokenStore]) -> tuple[TokenStore, SAE, np.ndarray]:
    """Tokens of which some patches have a planted direction, the autoencoder, and which patches they are."""
    rng = np.random.default_rng(0)
    spread = np.linspace(3, 0.3, WIDTH)
    tokens = rng.normal(size=(N_CELLS, 1 + N_PATCHES, WIDTH)) * spread
    tokens[:, 0, 3] += 40  # CLS lies far from all patches
    planted = (rng.random((N_CELLS, N_PATCHES)) < 0.1) & (rng.random((N_CELLS, 1)) < 0.5)
    tokens[:, 1:][planted] += 3.0 * spread * np.eye(WIDTH)[5]
    patients = [f"p{number % PATIENTS}" for number in range(N_CELLS)]
    store = make_store(torch.tensor(tokens, dtype=torch.float32), patient=patients)
    sae = SAE(WIDTH, 48).requires_grad_(False)
    sae.initialise(torch.Generator().manual_seed(0))
    sae.W_enc[:, 7] = torch.eye(WIDTH)[5]  # a latent that sees it
    return store, sae, planted


def clicked(store: TokenStore, planted: np.ndarray, count: int, whole: bool = False) -> ConceptMarks:
    """Marks on as many cells that show it."""
    rng = np.random.default_rng(1)
    cells = rng.permutation(np.flatnonzero(planted.any(1)))[:count]
    places = [None if whole else int(rng.choice(np.flatnonzero(planted[cell]))) for cell in cells]
    names = store.cells["cell_id"].iloc[cells]
    rows = [("x", name, place, "this") for name, place in zip(names, places, strict=True)]
    (marks,) = usable_marks(marks_table(rows), store.cells, N_PATCHES)
    return marks


def area(learned: Learned, store: TokenStore, planted: np.ndarray) -> float:
    h = store.read(np.arange(N_CELLS)).float().numpy() @ learned.weights
    return float(placements(h[:, 1:][planted], h[:, 1:][~planted]).mean())


@pytest.mark.parametrize("whole", [False, True], ids=["patches", "whole cells"])
def test_a_planted_direction_is_found_from_twelve_marks(study: tuple[TokenStore, SAE, np.ndarray], whole: bool) -> None:
    store, sae, planted = study
    learner = Learner.on(Background.draw(store, sae))
    learned = learner.learn(clicked(store, planted, 12, whole), TeachConfig(precision=0.9))
    assert area(learned, store, planted) > 0.95
    assert learned.nearest[0][0] == 7
    assert learned.held_out_by == "patient"
    assert learned.auroc.low < area(learned, store, planted) <= learned.auroc.high
    tokens = store.read(np.arange(N_CELLS)).float().numpy()
    assert not (tokens[:, 0] @ learned.weights + learned.bias > 0.2).any()  # CLS
    shown = learned.map(tokens) > 0.2
    assert planted[shown].mean() > 0.5
    assert shown[planted].mean() > (0.2 if whole else 0.5)
    assert planted[learned.strongest[0][0]].any()
    again = Learner.on(Background.draw(store, sae)).learn(
        clicked(store, planted, 12, whole), TeachConfig(precision=0.9)
    )
    np.testing.assert_array_equal(again.weights, learned.weights)


def test_without_the_dictionary_it_takes_more_marks(study: tuple[TokenStore, SAE, np.ndarray]) -> None:
    store, _, planted = study
    blind = SAE(WIDTH, 48).requires_grad_(False)
    blind.initialise(torch.Generator().manual_seed(0))
    seeing = SAE(WIDTH, 1).requires_grad_(False)
    seeing.W_enc[:, 0] = torch.eye(WIDTH)[5]
    found = [
        area(Learner.on(Background.draw(store, one)).learn(clicked(store, planted, 3)), store, planted)
        for one in (blind, seeing)
    ]
    assert found[1] > found[0]


def test_marks_that_say_not_move_it_away(study: tuple[TokenStore, SAE, np.ndarray]) -> None:
    store, sae, planted = study
    marks = clicked(store, planted, 8)
    learner = Learner.on(Background.draw(store, sae))
    tokens = store.read(np.arange(N_CELLS)).float().numpy()
    before = learner.learn(marks)
    h = before.map(tokens)
    cells, patches = np.nonzero(~planted & (h > np.quantile(h[~planted], 0.98)))
    wrong = ConceptMarks(
        "x",
        np.concatenate([marks.cells, cells]),
        np.concatenate([marks.patches, patches]),
        np.concatenate([marks.positive, np.zeros(len(cells), bool)]),
        (),
    )
    after = learner.learn(wrong)
    everywhere = [tokens[:, 1:] @ one.weights for one in (before, after)]
    ranks = [placements(z[cells, patches], z.ravel()).mean() for z in everywhere]
    assert ranks[1] < ranks[0]


def test_one_patient_alone_is_judged_by_its_cells_and_one_cell_not_at_all(
    study: tuple[TokenStore, SAE, np.ndarray],
) -> None:
    store, sae, planted = study
    of_one = (store.cells["patient"] == store.cells["patient"][np.flatnonzero(planted.any(1))[0]]).to_numpy()
    learner = Learner.on(Background.draw(store, sae))
    marks = clicked(store, planted & of_one[:, None], 4)
    assert len(marks) >= 2
    assert learner.learn(marks).held_out_by == "cell"
    single = ConceptMarks("x", marks.cells[:1], marks.patches[:1], marks.positive[:1], ())
    alone = learner.learn(single)
    assert alone.held_out_by == ""
    assert np.isnan(alone.auroc.value)


def test_a_learn_takes_less_than_a_second_of_the_processor(study: tuple[TokenStore, SAE, np.ndarray]) -> None:
    store, sae, planted = study
    learner = Learner.on(Background.draw(store, sae))
    marks = clicked(store, planted, 10)
    learner.learn(marks)
    start = time.process_time()
    learner.learn(marks, TeachConfig(teach_seed=1))
    assert time.process_time() - start < 1


def test_the_interval_of_few_units_is_wide_and_narrows() -> None:
    widths = []
    for count in (2, 5, 20, 100):
        figure = mean_over_units(np.full(count, 0.98), np.arange(count), 0.5)
        assert figure.value == pytest.approx(0.98)
        widths.append(figure.high - figure.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0.5
    repeated = mean_over_units(np.full(100, 0.98), np.zeros(100, int), 0.5)  # one patient, a hundred marks
    assert repeated.high - repeated.low > 0.5


def test_placements_and_precisions_are_what_a_loop_says() -> None:
    marks, random = np.array([0.2, 0.9, 0.5]), np.array([0.1, 0.5, 0.5, 0.8])
    expected = [np.mean([float(m > r) + 0.5 * float(m == r) for r in random]) for m in marks]
    np.testing.assert_allclose(placements(marks, random), expected)
    for mark, precision in zip(marks, precisions(marks, random), strict=True):
        found, wrong = np.mean(marks >= mark), np.mean(random >= mark)
        assert precision == pytest.approx(found / (found + 10 * wrong))


def test_a_threshold_has_about_the_precision_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    shows = rng.random(4000) < 0.1
    random = rng.normal(0, 1, 4000) + 4 * shows
    marks = 4 + norm.ppf((np.arange(40) + 0.5) / 40)
    for wanted in (0.5, 0.8, 0.95):
        threshold = calibrate(marks, random, wanted)
        above = random > threshold.score
        assert abs(shows[above].mean() - wanted) < 0.2
        assert threshold.shown == pytest.approx(0.1, abs=0.03)
    assert pd.Series([calibrate(marks, random, p).score for p in (0.5, 0.8, 0.95)]).is_monotonic_increasing
