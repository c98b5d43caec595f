"""Maps between laboratories: each method against the plain formula, and on planted differences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cytosae.harmonise import METHODS, MomentSums, fit_maps, group_moments, mean_moments, nearest
from cytosae.harmonise.maps import FLOOR

CODES = np.repeat([0, 1, 2], [300, 200, 250])


def planted(d: int = 5, seed: int = 0) -> NDArray[np.float64]:
    """Rows of three laboratories that differ in mean, spread and correlation."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(len(CODES), d))
    for code in range(3):
        mixing = np.eye(d) * (1 + code) + 0.3 * rng.normal(size=(d, d))
        rows[code == CODES] = rows[code == CODES] @ mixing + 4 * rng.normal(size=d)
    return rows


def mapped(rows: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    moments = group_moments(rows, CODES, 3, full=METHODS[method].full)
    return fit_maps(method, moments, mean_moments(moments)).apply(rows, CODES)


def test_moments_in_parts_are_those_of_the_whole() -> None:
    rows = planted() + 1e6  # far from 0: squares of raw values would lose the digits
    sums = MomentSums(3, 5, full=True)
    for start in range(0, len(rows), 64):
        sums.add(rows[start : start + 64], CODES[start : start + 64])
    for code in range(3):
        own = sums.moments(code)
        np.testing.assert_allclose(own.mean, rows[code == CODES].mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(own.spread, np.cov(rows[code == CODES].T, bias=True), rtol=1e-6)
        np.testing.assert_allclose(own.variance, rows[code == CODES].var(axis=0), rtol=1e-6)
    assert MomentSums(2, 5).moments(1).n == 0


@pytest.mark.parametrize("method", METHODS)
def test_laboratories_become_alike_in_what_the_method_says(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytosae.harmonise.maps.FLOOR", 1e-6)
    after = mapped(planted(), method)
    parts = [after[code == CODES] for code in range(3)]
    means = np.stack([part.mean(axis=0) for part in parts])
    assert np.ptp(means, axis=0).max() < (0.5 if method == "combat" else 1e-9)
    spreads = np.stack([part.var(axis=0) for part in parts])
    if method in ("standardise", "whiten", "coral"):
        assert (spreads.max(axis=0) / spreads.min(axis=0)).max() < 1.1
    covariances = np.stack([np.cov(part.T) for part in parts])
    if METHODS[method].full:
        assert np.ptp(covariances, axis=0).max() < 0.1 * covariances.max()


def test_coral_gives_the_correlations_of_the_reference_and_whiten_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytosae.harmonise.maps.FLOOR", 1e-6)
    rows = planted()
    reference = mean_moments(group_moments(rows, CODES, 3, full=True)).spread
    np.testing.assert_allclose(np.cov(mapped(rows, "coral")[CODES == 0].T, bias=True), reference, atol=0.1)
    white = np.corrcoef(mapped(rows, "whiten")[CODES == 0].T)
    assert np.abs(white - np.eye(5)).max() < 0.02


def test_combat_is_the_published_iteration() -> None:
    rows = planted(d=40)
    moments = group_moments(rows, CODES, 3)
    reference = mean_moments(moments)
    maps = fit_maps("combat", moments, reference)
    floor = FLOOR * reference.variance.mean() + 1e-12
    sigma = np.sqrt(reference.variance + floor)
    z = (rows[CODES == 1] - reference.mean) / sigma
    n, gamma_hat, delta_hat = len(z), z.mean(axis=0), z.var(axis=0) + floor / sigma**2
    gamma_bar, tau2 = gamma_hat.mean(), gamma_hat.var()
    m, s2 = delta_hat.mean(), delta_hat.var()
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    gamma, delta = gamma_hat, delta_hat
    for _ in range(500):  # Johnson, Li and Rabinovic 2007, sec. 3.1, one latent at a time in R
        gamma = (n * tau2 * gamma_hat + delta * gamma_bar) / (n * tau2 + delta)
        delta = (b + 0.5 * (((z - gamma) ** 2).sum(axis=0) + n * floor / sigma**2)) / (n / 2 + a - 1)
    np.testing.assert_allclose(maps.mean[1], reference.mean + sigma * gamma, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps.scale[1], 1 / np.sqrt(delta), rtol=1e-4)


def test_combat_shrinks_what_few_rows_say() -> None:
    rng = np.random.default_rng(1)
    rows = np.concatenate([rng.normal(size=(200, 60)), rng.normal(size=(6, 60))])
    codes = np.repeat([0, 1], [200, 6])
    moments = group_moments(rows, codes, 2)
    reference = mean_moments(moments[:1])
    shrunk, plain = (fit_maps(method, moments, reference, least=2) for method in ("combat", "centre"))
    assert np.abs(shrunk.mean[1]).mean() < 0.8 * np.abs(plain.mean[1]).mean()


def test_a_dimension_that_never_varies_is_not_blown_up() -> None:
    rows = planted()
    rows[:, 2] = 0
    rows[CODES == 1, 3] *= 1e-9
    for method in METHODS:
        assert np.isfinite(mapped(rows, method)).all()
        assert np.abs(mapped(rows, method)).max() < 1e3


def test_small_and_unknown_laboratories_stay_as_they_are() -> None:
    rows = planted()
    moments = group_moments(rows, CODES, 3)
    maps = fit_maps("standardise", moments, mean_moments(moments), least=250)
    np.testing.assert_allclose(maps.apply(rows, CODES)[CODES == 1], rows[CODES == 1])
    np.testing.assert_array_equal(maps.apply(rows, np.full(len(rows), -1)), rows)


def test_the_laboratory_that_rows_resemble() -> None:
    rows = planted()
    moments = group_moments(rows, CODES, 3)
    reference = mean_moments(moments)
    maps = fit_maps("centre", moments, reference)
    means = np.stack([rows[code == CODES][:40].mean(axis=0) for code in (2, 0, 1)])
    assert nearest(means, maps, reference).tolist() == [2, 0, 1]
