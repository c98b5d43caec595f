"""A dictionary is changed as experts ask, and trained further with what they said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from cytosae.errors import CytosaeError
from cytosae.sae import SAE, evaluate, recorded
from cytosae.sae.editing import Direction, edit, halves
from cytosae.sae.refining import Marked, refine, training_settings
from cytosae.settings import RefineConfig, TrainConfig
from cytosae.tokens import TokenStore

TRUE = 12
CONFIG = TrainConfig(
    objective="batchtopk", k=3, expansion=2, batch_images=8, learning_rate=2e-3, dead_latent_loss="none", images=800
)


@pytest.fixture(scope="module")
def planted() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens of 60 cells as sparse sums of 12 directions; the directions and the coefficients."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(TRUE, 16, generator=generator), dim=1)
    active = torch.rand(60, 9, TRUE, generator=generator) < 0.15
    coefficients = active * (1 + torch.rand(60, 9, TRUE, generator=generator))
    noise = 0.02 * torch.randn(60, 9, 16, generator=generator)
    return coefficients @ directions + noise, directions, coefficients


@pytest.fixture(scope="module")
def sae(planted: tuple[torch.Tensor, ...]) -> SAE:
    """A dictionary that knows the first ten directions, in latents 0 to 9, and noise."""
    _, directions, _ = planted
    generator = torch.Generator().manual_seed(1)
    made = SAE(16, 32, {"training": recorded(CONFIG)}, activation=_activation())
    with torch.no_grad():
        rows = torch.nn.functional.normalize(torch.randn(32, 16, generator=generator), dim=1)
        rows[:10] = directions[:10]
        made.W_dec.copy_(rows)
        made.W_enc.copy_(rows.T)
        made.b_enc[:10] = -0.3
        made.b_enc[10:] = -1.5
        made.activation.log_threshold.fill_(np.log(0.2))
    return made.requires_grad_(False)


def _activation() -> torch.nn.Module:
    from cytosae.sae.objectives import OBJECTIVES

    return OBJECTIVES["batchtopk"].activation(CONFIG)


def test_changes_are_those_that_were_asked_for(planted: tuple[torch.Tensor, ...], sae: SAE) -> None:
    tokens, directions, _ = planted
    x = tokens.flatten(0, 1)
    spare = list(range(31, 19, -1))
    taught = Direction(directions[11] * 2, -1.0, 0.5, directions[11])
    before = sae.W_dec.clone()
    found = edit(sae, x, spare=spare, free=[20], merge=[(2, 3)], taught={"rod": taught}, seed=0)
    assert torch.equal(sae.W_dec, before)
    assert found.taught == {"rod": 20}
    assert found.anew == (3, 20)
    new = found.sae
    np.testing.assert_allclose(new.W_dec.norm(dim=1), 1, atol=1e-5)
    shows = x @ taught.weights + taught.bias > taught.threshold
    assert torch.equal(new.encode(x)[:, 20] > 0, shows)
    assert float(cosine_similarity(new.W_dec[2], before[2] + before[3], dim=0)) > 0.7
    untouched = np.setdiff1d(np.arange(32), [2, 3, 20])
    assert torch.equal(new.W_dec[untouched], before[untouched])
    residual = x - sae.decode(sae.encode(x))
    likeness = torch.nn.functional.normalize(residual, dim=1) @ new.W_dec[3]
    assert float(likeness.max()) == pytest.approx(1, abs=1e-4)
    with pytest.raises(CytosaeError, match="named twice"):
        edit(sae, x, spare=spare, free=[2], merge=[(2, 3)])
    with pytest.raises(CytosaeError, match="are free"):
        edit(sae, x, spare=[], taught={"rod": taught})


def test_a_latent_of_two_things_is_split_into_them(planted: tuple[torch.Tensor, ...], sae: SAE) -> None:
    tokens, directions, coefficients = planted
    x, truth = tokens.flatten(0, 1), coefficients.flatten(0, 1)
    with torch.no_grad():
        both = edit(sae, x, spare=[31]).sae
        both.W_enc[:, 0] = directions[0] + directions[1]
        both.W_dec[0] = torch.nn.functional.normalize(directions[0] + directions[1], dim=0)
    one_of_them = ((truth[:, 0] > 0) ^ (truth[:, 1] > 0)) & (truth[:, 2:] == 0).all(dim=1)
    active = (both.encode(x)[:, 0] > 0) & one_of_them
    found = halves(x[active])
    kind = truth[active][:, 1] > 0
    agree = float(((found.assigned > 0) == kind).double().mean())
    assert max(agree, 1 - agree) > 0.95
    assert 0 < found.explained < 1
    new = edit(both, x, spare=[31], split={0: found})
    assert new.split == {0: 31}
    h = new.sae.encode(x[active])[:, [0, 31]]
    said = (h[:, 1] > h[:, 0]) == (found.assigned > 0)
    assert float(said.double().mean()) > 0.95
    with pytest.raises(CytosaeError, match="nothing to split"):
        halves(x[:1])


def test_further_training_keeps_what_is_meaningful_and_learns_what_is_marked(
    planted: tuple[torch.Tensor, ...], sae: SAE, make_store: Callable[..., TokenStore]
) -> None:
    tokens, directions, coefficients = planted
    store = make_store(tokens, "planted")
    x, truth = store.read(np.arange(60)).float().flatten(0, 1), coefficients.flatten(0, 1)
    rows = np.arange(40)
    shows = truth[:, 11] > 0
    train = torch.arange(60).repeat_interleave(9) < 40
    wrong_way = torch.nn.functional.normalize(directions[11] + 2 * directions[10], dim=0)
    start = edit(sae, x, spare=[31], free=[20], taught={"rod": Direction(wrong_way, 0.0, 0.8, wrong_way)}).sae
    few = RefineConfig(refine_images=2400, rate_share=1.0, keep=20.0, teach_weight=20.0)
    this = (shows & train).nonzero().squeeze(1)[:10]
    marked = {20: Marked(x[this], x[(~shows & train).nonzero().squeeze(1)[:10]])}
    kept = list(range(5))
    found = refine(store, start, rows, few, meaningful=kept, marked=marked)
    again = refine(store, start, rows, few, meaningful=kept, marked=marked)
    assert torch.equal(found.W_dec, again.W_dec)
    plain = refine(store, start, rows, RefineConfig(refine_images=2400, rate_share=1.0, keep=0, teach_weight=0))
    moved = [1 - cosine_similarity(one.W_dec[kept], start.W_dec[kept]).mean() for one in (found, plain)]
    assert moved[0] < moved[1] / 3
    held = ~train

    def area(one: SAE) -> float:
        pre = one.pre_activations(x[held])[:, 20]
        return float((pre[shows[held]][:, None] > pre[~shows[held]]).double().mean())

    assert area(found) > max(area(start), area(plain))
    assert area(found) > 0.93
    better = [evaluate(one, [x[held]], "batchtopk")["explained_variance"] for one in (start, plain, found)]
    assert better[1] > better[0]
    assert better[2] > better[1] - 0.1


def test_an_autoencoder_that_does_not_say_how_it_was_trained_is_refused(sae: SAE) -> None:
    assert training_settings(sae).k == 3
    with pytest.raises(CytosaeError, match="does not say how"):
        training_settings(SAE(4, 8))
    with pytest.raises(CytosaeError, match="archetypes"):
        training_settings(SAE(4, 8, {"training": {**recorded(CONFIG), "objective": "archetypal"}}))
