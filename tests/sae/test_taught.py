"""Taught latents beside an autoencoder's own: what they are on tokens, and that the others do not notice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.active_latents import active
from cytosae.sae.objectives import Activation
from cytosae.sae.objectives.batchtopk import BatchTopK
from cytosae.sae.objectives.gated import Gated
from cytosae.sae.objectives.topk import TopK
from cytosae.sae.taught import THRESHOLD, Taught, check_frame, token_frame, with_taught

FRAME = token_frame(
    {"name": "tiny", "fingerprint": "f", "depth": 4, "layer": 2, "n_tokens": 5, "grid": [2, 2], "image_size": 28}, None
)


def drawn(activation: Activation | None = None) -> SAE:
    sae = SAE(8, 24, activation=activation)
    generator = torch.Generator().manual_seed(0)
    sae.initialise(generator)
    with torch.no_grad():
        sae.b_dec.copy_(torch.randn(8, generator=generator))
        sae.b_enc.copy_(0.1 * torch.randn(24, generator=generator))
    return sae.requires_grad_(False)


def two() -> Taught:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 8)).astype(np.float32)
    taught = Taught.empty(FRAME, 8).with_concept("rod", rows[0], -0.3, rows[0], {"marks": {}})
    return taught.with_concept("hole", rows[1], 0.1, rows[1], {})


TOKENS = torch.randn(60, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "activation", [None, TopK(4), BatchTopK(4), Gated()], ids=["relu", "topk", "batchtopk", "gated"]
)
@pytest.mark.parametrize("threshold", [0.0, THRESHOLD, 0.7])
def test_taught_latents_are_a_relu_of_the_token_and_the_others_stay(
    activation: Activation | None, threshold: float
) -> None:
    own, taught = drawn(activation), two()
    sae = with_taught(own, taught, threshold)
    expected = TOKENS.numpy() @ taught.weights.T + taught.bias
    for h in (sae.encode(TOKENS).numpy(), _dense(sae)):
        np.testing.assert_allclose(h[:, :24], own.encode(TOKENS).numpy(), atol=1e-6)
        np.testing.assert_array_equal(h[:, 24:] > threshold, expected > THRESHOLD)
        np.testing.assert_allclose(h[:, 24:], np.maximum(expected + threshold - THRESHOLD, 0), atol=1e-5)
    chosen = torch.tensor([1, 23, 24, 25])
    np.testing.assert_allclose(sae.encode_some(TOKENS, chosen), sae.encode(TOKENS)[:, chosen], atol=1e-6)
    assert sae(TOKENS)[0].equal(own(TOKENS)[0])
    assert sae.weights_digest() == own.weights_digest()


def _dense(sae: SAE) -> np.ndarray:
    h = active(sae, TOKENS)
    dense = np.zeros((len(TOKENS), sae.n_latents), np.float32)
    dense[h.tokens, h.latents()] = h.values
    return dense


def test_some_active_latents_are_those_of_all() -> None:
    sae = with_taught(drawn(TopK(4)), two())
    all_of_them = active(sae, TOKENS)
    for wanted in ([3, 24], [25], [2]):
        some = active(sae, TOKENS, latents=np.array(wanted))
        is_wanted = np.isin(all_of_them.latents(), wanted)
        np.testing.assert_array_equal(some.latents(), all_of_them.latents()[is_wanted])
        np.testing.assert_array_equal(some.tokens, all_of_them.tokens[is_wanted])
        np.testing.assert_allclose(some.values, all_of_them.values[is_wanted], atol=1e-5)


def test_a_removed_concept_is_silent_and_the_numbers_of_others_stay() -> None:
    taught = two().without("rod")
    h = with_taught(drawn(), taught, 0.0).encode(TOKENS).numpy()
    assert not h[:, 24].any()
    np.testing.assert_array_equal(h[:, 25], with_taught(drawn(), two(), 0.0).encode(TOKENS).numpy()[:, 25])
    assert taught.names == ("", "hole")
    again = taught.with_concept("rod", np.ones(8), 0.0, np.ones(8), {})
    assert again.names == ("", "hole", "rod")
    with pytest.raises(CytosaeError, match="there are hole"):
        taught.without("rod")


def test_a_file_gives_back_what_was_taught(tmp_path: Path) -> None:
    taught = two()
    taught.save(tmp_path / "taught.safetensors")
    back = Taught.load(tmp_path / "taught.safetensors")
    assert (back.names, back.frame, back.details) == (taught.names, taught.frame, taught.details)
    np.testing.assert_array_equal(back.weights, taught.weights)
    assert back.digest == taught.digest
    assert back.digest != taught.without("rod").digest
    merged = Taught.empty(FRAME, 8).with_concept("hole", np.ones(8), 0.0, np.ones(8), {}).merged(back)
    assert merged.names == ("hole", "rod")
    np.testing.assert_array_equal(merged.weights, back.weights[::-1])


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("fingerprint", "g", "backbone tiny"),
        ("layer", 1, "layer 2 of 4"),
        ("grid", [4, 4], r"grid \[4, 4\]"),
        ("image_size", 56, "image size 56"),
        ("offset", "0" * 64, "centred by position"),
    ],
)
def test_other_tokens_are_refused_by_name(key: str, value: object, named: str) -> None:
    check_frame(FRAME, {**FRAME, "name": "the same weights from elsewhere"})
    with pytest.raises(CytosaeError, match=f"taught on .*{named}"):
        check_frame({**FRAME, key: value}, FRAME)
