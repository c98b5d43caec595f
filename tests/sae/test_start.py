"""Where a training starts from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cytosae.errors import CytosaeError
from cytosae.sae import SAE, TrainConfig, geometric_median
from cytosae.sae.start import initial_bias, initialise, start_from_tokens
from cytosae.sae.state import new_state


def test_first_reconstruction_has_about_the_norm_of_the_tokens() -> None:
    sae = SAE(64, 4096)
    sae.initialise(torch.Generator().manual_seed(0))
    x = torch.randn(200, 64)
    with torch.no_grad():
        output, h = sae(x)
    assert 0.5 < float(output.norm(dim=1).mean() / x.norm(dim=1).mean()) < 2
    assert 0.45 < float((h > 0).float().mean()) < 0.55


def test_a_sparse_start_lets_each_latent_fire_on_its_share_of_tokens() -> None:
    config = TrainConfig(expansion=16, start_l0=20)
    state = new_state(config, 16, torch.device("cpu"))
    x = planted_tokens()
    initialise(state, x, config)
    with torch.no_grad():
        fires = (state.sae.encode(x) > 0).float()
    assert float(fires.sum(1).mean()) == pytest.approx(20, rel=0.05)
    assert float(fires.mean(0).std()) < 0.02  # of every latent, not of some
    with pytest.raises(CytosaeError, match=r"--start-l0 20: .*batchtopk has its own way"):
        TrainConfig(objective="batchtopk", start_l0=20)


def test_directions_that_start_from_tokens_see_the_tokens_at_once() -> None:
    x = planted_tokens()
    sae = SAE(16, 64)
    with torch.no_grad():
        sae.b_dec.copy_(x.mean(0))
    start_from_tokens(sae, x, 0)
    centred = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    torch.testing.assert_close((sae.W_dec.detach() @ centred.T).amax(1), torch.ones(64))
    encoder = sae.W_enc.detach().T
    torch.testing.assert_close(encoder / encoder.norm(dim=1, keepdim=True), sae.W_dec.detach())
    with torch.no_grad():
        output, _ = sae(x)
    assert (output - x).square().sum() < 0.8 * (x - x.mean(0)).square().sum()
    other, again = SAE(16, 64), SAE(16, 64)
    for model, seed in ((other, 1), (again, 0)):
        with torch.no_grad():
            model.b_dec.copy_(x.mean(0))
        start_from_tokens(model, x, seed)
    assert torch.equal(again.W_dec, sae.W_dec)
    assert not torch.equal(other.W_dec, sae.W_dec)


def test_tokens_that_are_all_equal_leave_the_directions_as_they_were() -> None:
    sae = SAE(4, 8)
    sae.initialise(torch.Generator().manual_seed(0))
    before = sae.W_dec.detach().clone()
    start_from_tokens(sae, torch.zeros(5, 4), 0)
    assert torch.equal(sae.W_dec, before)


def planted_tokens() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(16, 8, generator=generator))[0].T
    amounts = torch.rand(500, 8, generator=generator) * (torch.rand(500, 8, generator=generator) < 0.3)
    return 5 + 3 * amounts @ axes + 0.01 * torch.randn(500, 16, generator=generator)


def test_geometric_median_against_known_points() -> None:
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    assert torch.allclose(geometric_median(triangle), triangle.mean(0), atol=1e-5)
    line = torch.tensor([[0.0], [1.0], [2.0], [50.0], [2.5]])
    assert geometric_median(line).item() == pytest.approx(2.0, abs=1e-3)  # the median; the mean is 11
    x = torch.randn(500, 7) ** 3
    median = geometric_median(x).double()

    def distance(p: Tensor) -> float:
        return float((x.double() - p).norm(dim=1).sum())

    for direction in torch.randn(20, 7, dtype=torch.float64):
        assert distance(median) <= distance(median + 0.01 * direction)
    assert torch.allclose(initial_bias(x, "mean"), x.mean(0), atol=1e-5)
    assert not initial_bias(x, "zeros").any()
