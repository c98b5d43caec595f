"""Harmonised tokens: fitted without labels, kept beside the store, and read through by all that read tokens."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cytosae.errors import CytosaeError
from cytosae.harmonise import LEAST, METHODS
from cytosae.settings import HarmoniseConfig
from cytosae.study import update_harmonisation
from cytosae.tokens import (
    HARMONISATION,
    LiveTokens,
    TokenStore,
    fit_harmonisation,
    read_harmonisation,
    write_harmonisation,
)
from support.planted import MakeStore, live

D, N_TOKENS = 6, 7
LABORATORIES = ["a"] * 40 + ["b"] * 30 + ["c"] * 3


def shifted_tokens() -> torch.Tensor:
    """Laboratory b is twice as wide as a and lies elsewhere; CLS lies elsewhere in both; c is small."""
    drawn = torch.Generator().manual_seed(0)
    tokens = torch.randn(len(LABORATORIES), N_TOKENS, D, generator=drawn)
    tokens[:, 0] += 5
    of_b = torch.tensor([name == "b" for name in LABORATORIES])
    tokens[of_b] = 2 * tokens[of_b] + torch.arange(D)
    return tokens


@pytest.fixture
def store(make_store: MakeStore) -> TokenStore:
    return make_store(shifted_tokens(), laboratory=LABORATORIES)


def reopened(store: TokenStore, method: str, column: str = "laboratory") -> TokenStore:
    update_harmonisation(store.folder, HarmoniseConfig(method, column))
    return TokenStore(store.folder)


@pytest.mark.parametrize("method", METHODS)
def test_means_of_laboratories_are_alike_for_cls_and_for_patches(store: TokenStore, method: str) -> None:
    tokens = reopened(store, method).read(np.arange(70)).float()
    for part in (tokens[:, :1], tokens[:, 1:]):
        first, second = part[:40].mean((0, 1)), part[40:].mean((0, 1))
        assert (first - second).abs().max() < (0.5 if method == "combat" else 0.02)
    assert tokens[:, 0].mean() - tokens[:, 1:].mean() > 2  # CLS keeps what it has beyond the patches


@pytest.mark.parametrize("method", ["standardise", "coral"])
def test_spreads_are_alike_too(store: TokenStore, method: str) -> None:
    tokens = reopened(store, method).read(np.arange(70)).float()[:, 1:]
    ratio = tokens[40:].std((0, 1)) / tokens[:40].std((0, 1))
    assert ratio.min() > 0.97
    assert ratio.max() < 1.03
    plain = TokenStore(store.folder, harmonised=False).read(np.arange(70)).float()[:, 1:]
    assert (plain[40:].std((0, 1)) / plain[:40].std((0, 1))).min() > 1.6


def test_streams_copies_and_live_tokens_are_harmonised_alike(store: TokenStore, tmp_path: Path) -> None:
    harmonised = reopened(store, "standardise")
    rows = np.array([3, 50, 72])
    expected = harmonised.read(rows)
    assert torch.equal(next(harmonised.stream([rows])), expected)
    assert torch.equal(pickle.loads(pickle.dumps(harmonised)).read(rows), expected)
    made = live(shifted_tokens(), tmp_path / "live", laboratory=LABORATORIES)
    as_live = LiveTokens(made.cells, lambda: made.backbone, made.layout, 0, harmonised.harmonisation)
    assert torch.equal(next(as_live.stream([rows])), expected)
    assert as_live.layout.harmonisation == harmonised.layout.harmonisation
    again = pickle.loads(pickle.dumps(TokenStore(store.folder, harmonised=False)))
    assert again.harmonisation is None


def test_a_small_laboratory_stays_as_it_is_and_is_named(store: TokenStore, capsys: pytest.CaptureFixture[str]) -> None:
    harmonised = reopened(store, "standardise")
    assert "laboratory c: 3 rows, fewer than 20; they stay as they are" in capsys.readouterr().err
    plain = TokenStore(store.folder, harmonised=False)
    torch.testing.assert_close(harmonised.read(np.arange(70, 73)), plain.read(np.arange(70, 73)), rtol=1e-2, atol=1e-2)


def test_what_depends_on_tokens_knows_whether_they_are_harmonised(store: TokenStore) -> None:
    plain = store.fingerprint
    centred = reopened(store, "centre")
    assert centred.fingerprint != plain
    assert centred.layout.identity() == store.layout.identity()  # the shards are the same
    relabelled = TokenStore(store.folder)
    relabelled.cells = relabelled.cells.assign(laboratory=["a"] * len(LABORATORIES))
    assert relabelled.fingerprint != centred.fingerprint
    update_harmonisation(store.folder, HarmoniseConfig())
    assert not (store.folder / HARMONISATION).exists()
    assert TokenStore(store.folder).fingerprint == plain


def test_it_is_fitted_once(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    reopened(store, "centre")
    monkeypatch.setattr("cytosae.study.stages.fit_harmonisation", lambda *_, **__: pytest.fail("fitted again"))
    reopened(store, "centre")


def test_a_new_laboratory_is_harmonised_by_its_own_cells(store: TokenStore, make_store: MakeStore) -> None:
    fitted = fit_harmonisation(store, "standardise", "laboratory")
    tokens = 3 * shifted_tokens()[:40] + 9
    new = make_store(tokens, "new", laboratory=["d"] * 30 + ["e"] * 10)
    known = fitted.with_laboratories(new)
    assert known.names == ("a", "b", "c", "d", "e")
    assert known.described() == fitted.described()  # the mean laboratory stays, so the autoencoder takes them
    mapped = known.apply(new.read(np.arange(30)), known.codes(new.cells)[:30]).float()
    torch.testing.assert_close(
        mapped[:, 1:].mean((0, 1)).double(), torch.from_numpy(fitted.reference[1].mean), rtol=0, atol=0.02
    )


def test_of_a_few_cells_the_laboratory_they_resemble_is_taken(
    store: TokenStore, make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = fit_harmonisation(store, "standardise", "laboratory")
    like_b = make_store(shifted_tokens()[40 : 40 + LEAST - 1], "few", laboratory=["z"] * (LEAST - 1))
    known = fitted.with_laboratories(like_b)
    assert "read as cells of b, which they resemble most" in capsys.readouterr().err
    codes = known.codes(like_b.cells)
    tokens = like_b.read(np.arange(5))
    assert torch.equal(known.apply(tokens, codes[:5]), fitted.apply(tokens, np.ones(5, np.int64)))


def test_what_cannot_be_harmonised_is_said(store: TokenStore, make_store: MakeStore) -> None:
    with pytest.raises(CytosaeError, match="--laboratory site: no such column"):
        fit_harmonisation(store, "centre", "site")
    with pytest.raises(CytosaeError, match="two laboratories are needed, and all rows are of 'images'"):
        fit_harmonisation(store, "centre", "dataset")
    few = make_store(shifted_tokens()[:40], "few", laboratory=["a"] * 37 + ["c"] * 3)
    with pytest.raises(CytosaeError, match="1 of 2 laboratories have 20 cells or more"):
        fit_harmonisation(few, "centre", "laboratory")


def test_the_file_is_whole_or_named(store: TokenStore) -> None:
    fitted = fit_harmonisation(store, "coral", "laboratory")
    write_harmonisation(store.folder, fitted)
    read = read_harmonisation(store.folder)
    assert read is not None
    assert read.digest == fitted.digest
    (store.folder / HARMONISATION).write_bytes(b"damaged")
    with pytest.raises(CytosaeError, match="not the harmonisation of tokens, or damaged"):
        TokenStore(store.folder)
