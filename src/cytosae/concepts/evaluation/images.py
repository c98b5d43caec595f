"""Measures for which images or the backbone are needed: masks, changed images, the backbone's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.backbones import Backbone, choose_precision
from cytosae.cells import PERTURBATIONS, TISSUES, UnreadableImage, intensities, load_squashed, patch_tissues
from cytosae.concepts import quality as q
from cytosae.concepts.activations import cell_activations
from cytosae.concepts.evaluation.sampling import BATCH, LATENTS, Sample
from cytosae.concepts.evaluation.table import Table, aligned
from cytosae.concepts.quality import Estimate, Finish
from cytosae.sae import SAE
from cytosae.sae.active_latents import active
from cytosae.settings import EvaluateConfig
from cytosae.storage import place
from cytosae.tokens import TokenSource
from cytosae.tokens.live import embed_batch

_AMPLIFIED = 3.0  # times the activation
_LEAST = 20  # cells with a mask, or of a label


def localisation(
    table: Table,
    about: pd.DataFrame,
    result: dict[str, Any],
    sae: SAE,
    source: TokenSource,
    sample: Sample,
    config: EvaluateConfig,
) -> None:
    """Does one latent find nucleus, cytoplasm and background? Patches against masks."""
    masks = source.cells["mask"].notna().to_numpy()
    rows = np.random.default_rng(config.seed).permutation(np.flatnonzero(masks))[: config.token_cells]
    rows = np.sort(rows)
    if len(rows) < _LEAST:
        table.skip("localisation", f"{len(rows)} cells have a mask")
        return
    down, across = source.layout.backbone["grid"]
    try:
        cover = np.stack([patch_tissues(place(path), (down, across)) for path in source.cells["mask"].iloc[rows]])
    except UnreadableImage as error:
        table.skip("localisation", f"a mask of the study cannot be read ({error})")
        return
    truth = np.moveaxis(cover, 1, -1).reshape(-1, len(TISSUES)) > 0.5
    tokens = torch.cat(list(source.stream([rows[i : i + BATCH] for i in range(0, len(rows), BATCH)])))
    patches = tokens[:, 1:].float().flatten(0, 1)
    h = active(sae, patches, choose_precision("auto", "cpu"), sample.concepts)
    latents = sp.csc_matrix((h.values, h.tokens, h.starts), shape=(len(patches), sae.n_latents))[:, sample.concepts]
    per_cell = down * across
    whose = pd.factorize(source.cells["patient"].iloc[rows])[0]
    codes = q.group_codes(len(rows), whose)
    choosing = np.repeat(q.halves(len(rows), codes, config.seed), per_cell)
    units = np.repeat(codes, per_cell)
    turned = np.roll(truth.reshape(len(rows), per_cell, -1), 1, axis=0).reshape(truth.shape)
    centred = patches.numpy() - sample.middle
    directions = sample.directions()
    for contender in (LATENTS, *directions, "shuffled masks"):
        scores = centred @ directions[contender] if contender in directions else latents
        against = turned if contender == "shuffled masks" else truth
        found = q.align(scores, against, choosing, units, config.draws, config.seed)
        for column, tissue in enumerate(TISSUES):
            estimate = Estimate.of(found.area[column], found.draws[:, column])
            table.add(f"localisation of {tissue} (AUROC)", contender, estimate, len(rows))
        table.add("localisation, mean of three (AUROC)", contender, found.mean(), len(rows))
        if contender == LATENTS:
            result["tissues"] = aligned(TISSUES, found, sample.concepts)
    mass = np.asarray(latents.T @ np.moveaxis(cover, 1, -1).reshape(-1, len(TISSUES)))
    total = np.asarray(latents.sum(axis=0)).ravel()
    for column, tissue in enumerate(TISSUES):
        about[f"{tissue}_share"] = np.divide(mass[:, column], total, out=np.full(len(total), np.nan), where=total > 0)


def robustness(
    table: Table,
    about: pd.DataFrame,
    sae: SAE,
    source: TokenSource,
    sample: Sample,
    backbone: Backbone | None,
    config: EvaluateConfig,
) -> None:
    """Is a concept as active when the same cell is stained otherwise, out of focus, or compressed?"""
    if backbone is None:
        table.skip("robustness", "the backbone is not at hand")
        return
    rows = sample.some(config.changed_cells)
    try:
        cells, size = sample.cells.iloc[rows], backbone.info.image_size
        pixels = [
            load_squashed(place(path), size, how) for path, how in zip(cells["path"], intensities(cells), strict=True)
        ]
    except UnreadableImage as error:
        table.skip("robustness", f"an image of the study cannot be read ({error})")
        return

    model, names = backbone, sample.cells["cell_id"].iloc[rows].tolist()

    def mean_of(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(images), BATCH):
            some = torch.from_numpy(np.stack(images[start : start + BATCH]))
            tokens = embed_batch(model, some, names[start : start + BATCH], source.layout.dtype)
            parts.append(cell_activations(sae, tokens)[1][:, sample.concepts].toarray())
        return np.concatenate(parts)

    before = mean_of(pixels)
    for name, change in PERTURBATIONS.items():
        after = mean_of([change(image) for image in pixels])
        found = q.column_correlation(before, after)
        measure = f"robustness to {name} (r)"
        about[f"robustness_{name}"] = found
        n = int(np.isfinite(found).sum())
        table.add(measure, LATENTS, Estimate.mean(found, config.draws), n)
        other = q.column_correlation(before, np.roll(after, 1, axis=0))
        table.add(measure, "shuffled cells", Estimate.mean(other, config.draws), n)


def downstream(
    table: Table,
    result: dict[str, Any],
    sae: SAE,
    source: TokenSource,
    sample: Sample,
    finish: Finish | None,
    config: EvaluateConfig,
) -> None:
    """The backbone's output when tokens are replaced by their reconstruction, and when a concept is removed or amplified."""
    if finish is None or sample.outputs is None:
        table.skip("downstream measures", "the later blocks of the backbone are not at hand, or need register tokens")
        return
    counts = np.bincount(sample.labels[sample.labels >= 0])
    usable = np.isin(sample.labels, np.flatnonzero(counts >= _LEAST))
    train = np.flatnonzero(usable & sample.choosing)
    test = np.flatnonzero(usable & ~sample.choosing)
    labels = sample.labels
    if len(np.unique(labels[train])) < 2:
        table.skip("downstream measures", f"fewer than two labels with {_LEAST} cells")
        return
    probe = q.OutputProbe.fit(sample.outputs[train], labels[train])
    test = test[np.isin(labels[test], probe.model.classes_)]
    test = np.sort(np.random.default_rng(config.seed).permutation(test)[: config.token_cells])
    stream = source.stream([sample.cells["row"].to_numpy()[test[i : i + BATCH]] for i in range(0, len(test), BATCH)])
    tokens = torch.cat([t.float() for t in stream])
    replaced = torch.cat([q.reconstructed(sae, part) for part in tokens.split(BATCH)])
    mean = torch.from_numpy(sample.mean_tokens.mean(axis=0)).expand(1, tokens.shape[1], -1)
    plain = q.pooled_output(finish, tokens)
    outputs = {
        "original tokens": plain,
        "reconstructed tokens": q.pooled_output(finish, replaced),
        "mean token alone": np.repeat(q.pooled_output(finish, mean), len(test), axis=0),
    }
    for contender, output in outputs.items():
        figure = probe.balanced_accuracy(output, labels[test], config.draws, config.seed)
        table.add("output probe (balanced accuracy)", contender, figure, len(test))
    result["concept_changes"] = _changes(table, sae, sample, finish, probe, tokens, plain, test, result, config)


def _changes(
    table: Table,
    sae: SAE,
    sample: Sample,
    finish: Finish,
    probe: q.OutputProbe,
    tokens: torch.Tensor,
    plain: NDArray[np.float32],
    test: NDArray[np.int64],
    result: Mapping[str, Any],
    config: EvaluateConfig,
) -> list[dict[str, Any]]:
    """What removing or amplifying a label's best concept does to its probability; beside it another concept, as active."""
    before = probe.probabilities(plain)
    means = sample.means[test].toarray()
    position = {int(latent): column for column, latent in enumerate(sample.concepts)}
    rows: list[dict[str, Any]] = []
    for entry in result.get("labels", []):
        code = sample.label_names.index(entry["value"])
        mine = np.flatnonzero(sample.labels[test] == code)
        if code not in probe.model.classes_ or len(mine) < 5:
            continue
        column = int(np.flatnonzero(probe.model.classes_ == code)[0])
        own = position[entry["latent"]]
        strength = means[mine].mean(axis=0)
        distance = np.abs(np.log(np.maximum(strength, 1e-9)) - np.log(max(strength[own], 1e-9)))
        distance[own] = np.inf
        other = int(distance.argmin())
        row: dict[str, Any] = {
            "label": entry["value"],
            "latent": entry["latent"],
            "control": int(sample.concepts[other]),
        }
        for which, latent in (("", own), ("control_", other)):
            for what, factor in (("removed", 0.0), ("amplified", _AMPLIFIED)):
                edited = q.changed(sae, tokens[mine], int(sample.concepts[latent]), factor)
                after = probe.probabilities(q.pooled_output(finish, edited))
                row[f"{which}{what}"] = float((after - before[mine])[:, column].mean())
                hits = (after.argmax(axis=1) == column).mean() - (before[mine].argmax(axis=1) == column).mean()
                row[f"{which}{what}_accuracy"] = float(hits)
        rows.append(row)
    for what in ("removed", "amplified") if rows else ():
        for unit, suffix in (("probability", ""), ("accuracy", "_accuracy")):
            for contender, which in (("best concept", ""), ("random concept", "control_")):
                figure = Estimate.mean([r[f"{which}{what}{suffix}"] for r in rows], config.draws)
                table.add(f"concept {what} (change of {unit})", contender, figure, len(rows))
    return rows
