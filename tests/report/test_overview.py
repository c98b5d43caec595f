"""The figure of all latents: what is drawn against the numbers behind it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cytosae.report import overview
from support.report_figures import assert_legible, latent_statistics


def test_overview_draws_every_active_latent_where_it_belongs() -> None:
    var = latent_statistics()
    figure = overview(var, title="blood", concept_threshold=-3)
    main, top, right, bar = figure.axes
    grey, coloured = main.collections[:2]
    drawn = np.concatenate([grey.get_offsets(), coloured.get_offsets()])
    active = var[var["mean_activation"] > 0]
    expected = np.log10(active[["activation_frequency", "mean_activation"]].to_numpy())
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(expected, axis=0))
    known = active["label_entropy"].notna()
    np.testing.assert_allclose(coloured.get_array(), active["label_entropy"][known])
    assert bar.get_visible()
    assert (bar.get_ylabel(), bar.get_ylim()[0]) == ("label entropy (nats)", 0)
    assert len(grey.get_offsets()) == (~known).sum()
    assert sum(bar.get_height() for bar in top.patches) == len(active)
    assert sum(bar.get_width() for bar in right.patches) == len(active)
    assert main.lines[0].get_ydata()[0] == -3
    assert figure.get_suptitle() == f"blood: {var['is_concept'].sum()} concepts of 200 latents, 9 never active"
    assert "frequency" in main.get_xlabel()
    assert "mean activation" in main.get_ylabel()
    assert_legible(figure)


def test_published_overview_counts_the_published_concepts(golden: dict[str, np.ndarray]) -> None:
    var = pd.DataFrame({k: golden[k] for k in ("mean_activation", "activation_frequency", "label_entropy")})
    assert "3,801 concepts of 49,152 latents" in overview(var, title="MLL23").get_suptitle()


def test_overview_crosses_what_is_no_concept_for_another_reason_than_its_mean() -> None:
    var = latent_statistics()
    strong = np.flatnonzero(var["is_concept"])
    var.loc[strong[:7], "is_concept"] = False
    figure = overview(var, title="blood")
    crosses = figure.axes[0].collections[2].get_offsets()
    expected = np.log10(var.loc[strong[:7], ["activation_frequency", "mean_activation"]].to_numpy())
    np.testing.assert_allclose(crosses, expected)
    assert figure.get_suptitle().startswith(f"blood: {len(strong) - 7} concepts")
    assert_legible(figure)


def test_overview_without_labels_or_active_latents() -> None:
    var = latent_statistics().assign(label_entropy=np.nan)
    figure = overview(var, title="x")
    figure.canvas.draw()
    assert not figure.axes[3].get_visible()
    overview(var.assign(mean_activation=0.0, activation_frequency=0.0), title="x").canvas.draw()
