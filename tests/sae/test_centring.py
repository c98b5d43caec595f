"""Tokens centred by position: kept with the autoencoder, and taken away wherever it encodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from cytosae.cells import held_out
from cytosae.concepts import cell_activations, encode, read_concepts
from cytosae.concepts.evaluation import _finish
from cytosae.concepts.position import position_share
from cytosae.errors import CytosaeError
from cytosae.sae import SAE, train
from cytosae.sae.checkpoint import CHECKPOINT, load_checkpoint
from cytosae.sae.foreign import write_saelens
from cytosae.sae.joint import Member, train_together
from cytosae.sae.state import new_state
from cytosae.tokens import CentredTokens, TokenStore, centred, position_offset
from support.planted import MakeStore, live
from support.training import SHORT_TRAINING, dictionary_tokens

PLAIN = replace(SHORT_TRAINING, images=16 * 200)
CENTRED = replace(PLAIN, centring="position")
N_TOKENS, D = 9, 12


def placed_tokens() -> Tensor:
    """Sparse combinations of directions, and at every place in the picture something of its own."""
    places = torch.randn(N_TOKENS, D, generator=torch.Generator().manual_seed(1))
    return dictionary_tokens() + 2 * places


def offset_by_hand(tokens: Tensor, rows: np.ndarray) -> Tensor:
    mean = tokens[rows].double().mean(0)
    return (mean - mean[1:].mean(0)).float()


@pytest.fixture
def store(make_store: MakeStore) -> TokenStore:
    return make_store(placed_tokens())


def training_rows(store: TokenStore) -> np.ndarray:
    return np.flatnonzero(~held_out(store.cells, CENTRED.holdout, CENTRED.seed))


def shares(sae: SAE, tokens: Tensor) -> np.ndarray:
    """Position share of the latents that fire."""
    with torch.no_grad():
        h = sae.encode(sae.centred(tokens)[:, 1:].flatten(0, 1)).unflatten(0, (len(tokens), -1))
    measured, _ = position_share(sp.csc_matrix(cell.numpy()) for cell in h)
    return measured[np.isfinite(measured)]


def test_the_offset_is_that_of_training_cells_alone(store: TokenStore, tmp_path: Path) -> None:
    tokens, rows = store.read(np.arange(80)).float(), training_rows(store)
    assert len(rows) < 80
    expected = offset_by_hand(tokens, rows)
    torch.testing.assert_close(position_offset(store, rows), expected, rtol=1e-5, atol=1e-5)
    train(store, tmp_path / "sae", CENTRED)
    sae = SAE.from_pretrained(tmp_path / "sae")
    assert sae.position_offset is not None
    torch.testing.assert_close(sae.position_offset, expected, rtol=1e-5, atol=1e-5)
    # Of the training cells every position, CLS too, has the same mean.
    means = sae.centred(tokens[rows]).mean(0)
    torch.testing.assert_close(means, means[1:].mean(0).expand_as(means), rtol=1e-4, atol=1e-4)


def test_it_is_the_training_on_tokens_that_were_centred_by_hand(
    store: TokenStore, make_store: MakeStore, tmp_path: Path
) -> None:
    figures = train(store, tmp_path / "centred", CENTRED)
    plain_tokens = store.read(np.arange(80)).float() - offset_by_hand(
        store.read(np.arange(80)).float(), training_rows(store)
    )
    by_hand = train(make_store(plain_tokens, "by-hand"), tmp_path / "by-hand", PLAIN)
    ours, theirs = (SAE.from_pretrained(tmp_path / name) for name in ("centred", "by-hand"))
    # The store by hand rounds what it holds to float16.
    torch.testing.assert_close(ours.W_dec, theirs.W_dec, rtol=0, atol=0.05)
    assert figures["explained_variance"] == pytest.approx(by_hand["explained_variance"], abs=0.01)


def test_latents_no_longer_stand_for_places(store: TokenStore, tmp_path: Path) -> None:
    tokens = store.read(np.arange(80)).float()
    found = {}
    for name, config in (("plain", PLAIN), ("centred", CENTRED)):
        train(store, tmp_path / name, config)
        found[name] = np.mean(shares(SAE.from_pretrained(tmp_path / name), tokens) > 0.2)
    assert found["plain"] > 0.2
    assert found["centred"] < found["plain"] / 3, found


def test_an_interrupted_training_has_the_same_offset(store: TokenStore, tmp_path: Path) -> None:
    train(store, tmp_path / "whole", CENTRED)
    train(store, tmp_path / "parts", replace(CENTRED, images=16 * 70))
    train(store, tmp_path / "parts", CENTRED)
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (
        tmp_path / "parts" / "model.safetensors"
    ).read_bytes()
    state = new_state(CENTRED, D, torch.device("cpu"), n_tokens=N_TOKENS)
    load_checkpoint(tmp_path / "parts" / CHECKPOINT, state)
    assert torch.equal(state.sae.position_offset, SAE.from_pretrained(tmp_path / "whole").position_offset)  # type: ignore[arg-type]


def test_trained_beside_others_it_is_what_it_is_alone(store: TokenStore, tmp_path: Path) -> None:
    train(store, tmp_path / "alone", CENTRED)
    members = [Member("plain", tmp_path / "plain", PLAIN), Member("centred", tmp_path / "centred", CENTRED)]
    train_together(store, members)
    alone, beside = (SAE.from_pretrained(tmp_path / name) for name in ("alone", "centred"))
    assert SAE.from_pretrained(tmp_path / "plain").position_offset is None
    assert torch.equal(alone.position_offset, beside.position_offset)  # type: ignore[arg-type]
    torch.testing.assert_close(alone.W_enc, beside.W_enc, rtol=1e-3, atol=1e-3)


def test_it_is_saved_whole_and_told_by_its_digest(store: TokenStore, tmp_path: Path) -> None:
    train(store, tmp_path / "sae", replace(CENTRED, images=160))
    sae, half = SAE.from_pretrained(tmp_path / "sae"), SAE.from_pretrained(tmp_path / "sae", decoder=False)
    assert sae.weights_digest() == half.weights_digest()
    assert torch.equal(sae.position_offset, half.position_offset)  # type: ignore[arg-type]
    before = sae.weights_digest()
    sae.position_offset += 1  # type: ignore[operator]
    assert sae.weights_digest() != before
    sae.save_pretrained(tmp_path / "changed")
    again = SAE.from_pretrained(tmp_path / "changed")
    assert torch.equal(again.position_offset, sae.position_offset)  # type: ignore[arg-type]


def test_concepts_are_those_of_the_centred_tokens(store: TokenStore, tmp_path: Path) -> None:
    train(store, tmp_path / "sae", CENTRED)
    sae = SAE.from_pretrained(tmp_path / "sae")
    encode(store, sae, tmp_path / "concepts")
    data = read_concepts(tmp_path / "concepts", store.cells["dataset"].iloc[0])
    tokens = store.read(np.arange(80))
    counts, means = cell_activations(sae, sae.centred(tokens))
    assert (data.X.toarray() == counts.toarray()).all()
    assert data.layers["mean_activation"].toarray() == pytest.approx(means.toarray(), rel=1e-5, abs=1e-7)
    assert (cell_activations(sae, tokens)[0].toarray() != counts.toarray()).any()


def test_made_on_the_fly_they_are_the_same(store: TokenStore, tmp_path: Path) -> None:
    tokens = store.read(np.arange(80)).float()
    source = live(tokens, tmp_path / "images")
    offset = position_offset(source, np.arange(80))
    stream = centred(source, offset).stream([np.array([3, 7])])
    torch.testing.assert_close(next(stream), source_rows(store, [3, 7]) - offset)
    assert isinstance(centred(store, offset), CentredTokens)
    assert centred(store, None) is store


def source_rows(store: TokenStore, rows: list[int]) -> Tensor:
    return store.read(np.array(rows)).float()


def test_the_later_blocks_of_the_backbone_see_plain_tokens() -> None:
    class Whole:
        can_finish = True

        @staticmethod
        def output(tokens: Tensor) -> Tensor:
            return tokens * 2

    sae = SAE(D, 24, position_offset=torch.randn(N_TOKENS, D))
    tokens = torch.randn(3, N_TOKENS, D)
    finish = _finish(Whole(), sae)  # type: ignore[arg-type]
    assert finish is not None
    torch.testing.assert_close(finish(sae.centred(tokens)), Whole.output(tokens))


def test_tokens_of_another_frame_are_refused(store: TokenStore, make_store: MakeStore, tmp_path: Path) -> None:
    train(store, tmp_path / "sae", replace(CENTRED, images=160))
    other = make_store(dictionary_tokens(tokens=7), "other")
    with pytest.raises(CytosaeError, match="7 an image, the autoencoder takes 9"):
        encode(other, SAE.from_pretrained(tmp_path / "sae"), tmp_path / "concepts")


def test_it_is_not_exported_to_what_cannot_hold_it(store: TokenStore, tmp_path: Path) -> None:
    train(store, tmp_path / "sae", replace(CENTRED, images=160))
    with pytest.raises(CytosaeError, match="centred by position"):
        write_saelens(SAE.from_pretrained(tmp_path / "sae"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_decoder_may_be_replaced_without_the_offset() -> None:
    """The offset is no parameter: an optimiser does not see it."""
    sae = SAE(D, 24, position_offset=torch.zeros(N_TOKENS, D))
    assert all(
        not isinstance(value, nn.Parameter) for name, value in sae.tensors().items() if name == "position_offset"
    )
    assert "position_offset" not in dict(sae.named_parameters())
