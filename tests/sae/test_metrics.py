"""Explained variance."""

from __future__ import annotations

import math

import pytest
import torch

from cytosae.sae import SAE, ExplainedVariance, TrainConfig, evaluate, geometric_median
from cytosae.sae.state import new_state
from cytosae.sae.step import step


class TestExplainedVariance:
    def test_mean_predictor_scores_zero_and_identity_one(self) -> None:
        x = torch.randn(1000, 8) * torch.arange(1, 9) + 30
        mean, same = ExplainedVariance(8), ExplainedVariance(8)
        for part in x.split(70):
            mean.update(part, x.mean(0).expand_as(part))
            same.update(part, part)
        assert mean.value() == pytest.approx(0, abs=1e-6)
        assert same.value() == 1

    def test_of_a_model_that_always_answers_the_mean(self) -> None:
        x = torch.randn(4, 50, 6) + 5
        sae = SAE(6, 12)
        with torch.no_grad():
            sae.b_dec.copy_(x.flatten(0, 1).mean(0))
        assert evaluate(sae, [x], "release")["explained_variance"] == pytest.approx(0, abs=1e-5)

    def test_pooled_over_tokens_not_averaged_over_batches(self) -> None:
        x = torch.cat([torch.randn(100, 3) * 10, torch.randn(100, 3) * 0.1 + 50])
        output = x + 0.05 * torch.randn(200, 3)
        pooled = ExplainedVariance(3)
        for a, b in zip(x.split(100), output.split(100), strict=True):
            pooled.update(a, b)
        expected = 1 - ((x - output) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
        assert pooled.value() == pytest.approx(float(expected), abs=1e-6)

    @pytest.mark.parametrize("shift", [1.0, 1e3])
    def test_constant_added_to_all_tokens_changes_only_the_bias(self, shift: float) -> None:
        """Trained on shifted tokens, the autoencoder of Eq. 1 is the same but for b_dec."""
        tokens = torch.randn(300, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        config = TrainConfig(expansion=4, objective="squared", l1=1e-3, warmup_steps=0, learning_rate=1e-2)
        trained = []
        for x in (tokens, tokens + shift):
            state = new_state(config, 6, torch.device("cpu"))
            state.sae.double()
            with torch.no_grad():
                state.sae.b_dec.copy_(geometric_median(x))
            state.optimiser = torch.optim.Adam(state.sae.parameters(), lr=1e-2)
            for _ in range(30):
                step(state, x, config)
            variance = ExplainedVariance(6)
            with torch.no_grad():
                variance.update(x, state.sae(x)[0])
            trained.append((state.sae, variance.value()))
        (a, ev_a), (b, ev_b) = trained
        assert ev_a == pytest.approx(ev_b, abs=1e-6)
        for name in ("W_enc", "b_enc", "W_dec"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(a.b_dec + shift, b.b_dec, rtol=1e-6, atol=1e-6)

    def test_no_spread_is_not_a_number(self) -> None:
        variance = ExplainedVariance(2)
        variance.update(torch.ones(5, 2), torch.ones(5, 2))
        assert math.isnan(variance.value())
