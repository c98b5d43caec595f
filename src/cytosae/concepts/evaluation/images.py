"""Measures for which images or the backbone are needed: masks, changed images, the backbone's output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from cytosae.backbones import choose_precision
from cytosae.cells import PERTURBATIONS, TISSUES, UnreadableImage, load_squashed, readings, tissues_of_cells
from cytosae.concepts import quality as q
from cytosae.concepts.activations import cell_activations
from cytosae.concepts.evaluation.frozen import FROZEN
from cytosae.concepts.evaluation.registry import Evaluation, Measure, measuring
from cytosae.concepts.evaluation.sampling import BASELINES, BATCH, LATENT_METHOD, TOKEN_DIMENSIONS
from cytosae.concepts.evaluation.table import aligned
from cytosae.concepts.quality import Estimate, Finish
from cytosae.concepts.quality.downstream import AMPLIFIED
from cytosae.sae import SAE
from cytosae.sae.active_latents import active
from cytosae.storage import resolve_path
from cytosae.tokens.live import embed_batch

_LEAST = 20  # cells with a mask, or of a label


@measuring(
    Measure(
        "localisation",
        "AUROC of the best latent for patches that are mostly nucleus, cytoplasm, background",
        "higher",
        (TOKEN_DIMENSIONS, *BASELINES),
        "shuffled masks",
    )
)
def localisation(run: Evaluation) -> None:
    """Does one latent find nucleus, cytoplasm and background? Patches against masks."""
    table, source, sample, config = run.table, run.source, run.sample, run.config
    masks = source.cells["mask"].notna().to_numpy()
    rows = np.random.default_rng(config.seed).permutation(np.flatnonzero(masks))[: config.token_cells]
    rows = np.sort(rows)
    if len(rows) < _LEAST:
        table.skip("localisation", f"{len(rows)} cells have a mask")
        return
    down, across = source.layout.backbone["grid"]
    try:
        cover = np.stack([*tissues_of_cells(source.cells.iloc[rows], (down, across))])
    except UnreadableImage as error:
        table.skip("localisation", f"a mask of the study cannot be read ({error})")
        return
    truth = np.moveaxis(cover, 1, -1).reshape(-1, len(TISSUES)) > 0.5
    tokens = torch.cat(list(source.stream([rows[i : i + BATCH] for i in range(0, len(rows), BATCH)])))
    patches = tokens[:, 1:].float().flatten(0, 1)
    latents = _activations(run.sae, patches, sample.concepts)
    frozen = {name: _activations(one.sae, patches, one.latents) for name, one in sample.frozen.items()}
    per_cell = down * across
    codes = q.group_codes(len(rows), pd.factorize(source.cells["patient"].iloc[rows])[0])
    choosing = np.repeat(q.halves(len(rows), codes, config.seed), per_cell)
    units = np.repeat(codes, per_cell)
    turned = np.roll(truth.reshape(len(rows), per_cell, -1), 1, axis=0).reshape(truth.shape)
    centred = patches.numpy() - sample.middle
    directions = sample.directions()
    for method in (LATENT_METHOD, *directions, *frozen, "shuffled masks"):
        scores = centred @ directions[method] if method in directions else frozen.get(method, latents)
        against = turned if method == "shuffled masks" else truth
        best = q.align(scores, against, choosing, units, config.draws, config.seed)
        for column, tissue in enumerate(TISSUES):
            estimate = Estimate.from_draws(best.area[column], best.draws[:, column])
            table.add(f"localisation of {tissue} (AUROC)", method, estimate, len(rows))
        table.add("localisation, mean of three (AUROC)", method, best.mean(), len(rows))
        if method == LATENT_METHOD:
            run.details["tissues"] = aligned(TISSUES, best, sample.concepts)
    mass = np.asarray(latents.T @ np.moveaxis(cover, 1, -1).reshape(-1, len(TISSUES)))
    total = np.asarray(latents.sum(axis=0)).ravel()
    for column, tissue in enumerate(TISSUES):
        fraction = np.divide(mass[:, column], total, out=np.full(len(total), np.nan), where=total > 0)
        run.per_concept[f"{tissue}_share"] = fraction


def _activations(sae: SAE, patches: torch.Tensor, latents: NDArray[np.int64]) -> sp.csc_matrix:
    """Activations of some latents on patches, ``(n_patches, n_chosen)``."""
    h = active(sae, patches, choose_precision("auto", "cpu"), latents)
    return sp.csc_matrix((h.values, h.tokens, h.starts), shape=(len(patches), sae.n_latents))[:, latents]


@measuring(
    Measure(
        "robustness",
        "is a concept as active when the cell is stained otherwise, blurred, compressed",
        "higher",
        tuple(FROZEN.values()),
        null="shuffled cells",
    )
)
def robustness(run: Evaluation) -> None:
    """Is a concept as active when the same cell is stained otherwise, out of focus, or compressed?"""
    sample, backbone = run.sample, run.backbone
    if backbone is None:
        run.table.skip("robustness", "the backbone is not at hand")
        return
    rows = sample.draw_rows(run.config.changed_cells)
    try:
        cells, size = sample.cells.iloc[rows], backbone.info.image_size
        pixels = [
            load_squashed(resolve_path(path), size, how)
            for path, how in zip(cells["path"], readings(cells), strict=True)
        ]
    except UnreadableImage as error:
        run.table.skip("robustness", f"an image of the study cannot be read ({error})")
        return

    model, names = backbone, sample.cells["cell_id"].iloc[rows].tolist()

    encoders = {LATENT_METHOD: (run.sae, sample.concepts)}
    encoders |= {name: (one.sae, one.latents) for name, one in sample.frozen.items()}

    harmonisation = run.source.harmonisation
    codes = None if harmonisation is None else harmonisation.codes(cells)

    def mean_activations(images: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
        chunks: dict[str, list[NDArray[np.float32]]] = {method: [] for method in encoders}
        for start in range(0, len(images), BATCH):
            some = torch.from_numpy(np.stack(images[start : start + BATCH]))
            tokens = embed_batch(model, some, names[start : start + BATCH], run.source.layout.dtype)
            if harmonisation is not None and codes is not None:
                tokens = harmonisation.apply(tokens, codes[start : start + BATCH])
            for method, (sae, latents) in encoders.items():
                chunks[method].append(cell_activations(sae, run.sae.centred(tokens))[1][:, latents].toarray())
        return {method: np.concatenate(arrays) for method, arrays in chunks.items()}

    before = mean_activations(pixels)
    for name, change in PERTURBATIONS.items():
        after = mean_activations([change(image) for image in pixels])
        for method in encoders:
            correlation = q.column_correlation(before[method], after[method])
            run.mean(f"robustness to {name} (r)", method, correlation)
            if method == LATENT_METHOD:
                run.per_concept[f"robustness_{name}"] = correlation
        shuffled = q.column_correlation(before[LATENT_METHOD], np.roll(after[LATENT_METHOD], 1, axis=0))
        run.mean(f"robustness to {name} (r)", "shuffled cells", shuffled)


@measuring(
    Measure(
        "output probe",
        "accuracy of a linear probe on the backbone's output when tokens are replaced by their reconstruction",
        "higher",
        ("original tokens", "reconstructed tokens", *(f"{name}, reconstructed" for name in FROZEN.values())),
        "mean token alone",
    ),
    Measure(
        "concept removed",
        "what that does to the output probe: probability and recall of the label it stands for",
        baselines=("best concept",),
        null="random concept",
    ),
    Measure(
        "concept amplified",
        "the same where the concept is amplified",
        baselines=("best concept",),
        null="random concept",
    ),
)
def downstream(run: Evaluation) -> None:
    """The backbone's output when tokens are replaced by their reconstruction, and when a concept is removed or amplified."""
    sample, config, finish = run.sample, run.config, run.finish
    if finish is None or sample.outputs is None:
        run.table.skip(
            "downstream measures",
            "the later blocks of the backbone are not at hand, or do not take these tokens",
        )
        return
    counts = np.bincount(sample.labels[sample.labels >= 0])
    usable = np.isin(sample.labels, np.flatnonzero(counts >= _LEAST))
    train = np.flatnonzero(usable & sample.choosing)
    test = np.flatnonzero(usable & ~sample.choosing)
    labels = sample.labels
    if len(np.unique(labels[train])) < 2:
        run.table.skip("downstream measures", f"fewer than two labels with {_LEAST} cells")
        return
    probe = q.OutputProbe.fit(sample.outputs[train], labels[train])
    test = test[np.isin(labels[test], probe.model.classes_)]
    test = np.sort(np.random.default_rng(config.seed).permutation(test)[: config.token_cells])
    stream = run.source.stream(
        [sample.cells["row"].to_numpy()[test[i : i + BATCH]] for i in range(0, len(test), BATCH)]
    )
    tokens = torch.cat([t.float() for t in stream])
    rebuilt = {"reconstructed tokens": run.sae}
    rebuilt |= {f"{name}, reconstructed": one.sae for name, one in sample.frozen.items()}
    mean = torch.from_numpy(sample.mean_tokens.mean(axis=0)).expand(1, tokens.shape[1], -1)
    plain = q.pooled_output(finish, tokens)
    outputs = {
        "original tokens": plain,
        **{
            method: q.pooled_output(finish, torch.cat([q.reconstructed(sae, batch) for batch in tokens.split(BATCH)]))
            for method, sae in rebuilt.items()
        },
        "mean token alone": np.repeat(q.pooled_output(finish, mean), len(test), axis=0),
    }
    for method, output in outputs.items():
        figure = probe.balanced_accuracy(output, labels[test], config.draws, config.seed)
        run.table.add("output probe (balanced accuracy)", method, figure, len(test))
    run.details["concept_changes"] = _changes(run, finish, probe, tokens, plain, test)


def _changes(
    run: Evaluation,
    finish: Finish,
    probe: q.OutputProbe,
    tokens: torch.Tensor,
    plain: NDArray[np.float32],
    test: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """What removing or amplifying a label's best concept does to its probability; beside it another concept, as active."""
    sample, before = run.sample, probe.probabilities(plain)
    means = sample.means[test].toarray()
    position = {int(latent): column for column, latent in enumerate(sample.concepts)}
    rows: list[dict[str, Any]] = []
    for entry in run.details.get("labels", []):
        code = sample.label_names.index(entry["value"])
        label_cells = np.flatnonzero(sample.labels[test] == code)
        if code not in probe.model.classes_ or len(label_cells) < 5:
            continue
        column = int(np.flatnonzero(probe.model.classes_ == code)[0])
        own = position[entry["latent"]]
        strength = means[label_cells].mean(axis=0)
        distance = np.abs(np.log(np.maximum(strength, 1e-9)) - np.log(max(strength[own], 1e-9)))
        distance[own] = np.inf
        other = int(distance.argmin())
        row: dict[str, Any] = {
            "label": entry["value"],
            "latent": entry["latent"],
            "control": int(sample.concepts[other]),
        }
        for which, latent in (("", own), ("control_", other)):
            for change, factor in (("removed", 0.0), ("amplified", AMPLIFIED)):
                edited = q.changed(run.sae, tokens[label_cells], int(sample.concepts[latent]), factor)
                after = probe.probabilities(q.pooled_output(finish, edited))
                row[f"{which}{change}"] = float((after - before[label_cells])[:, column].mean())
                hits = (after.argmax(axis=1) == column).mean() - (before[label_cells].argmax(axis=1) == column).mean()
                row[f"{which}{change}_accuracy"] = float(hits)
        rows.append(row)
    for change in ("removed", "amplified") if rows else ():
        for unit, suffix in (("probability", ""), ("accuracy", "_accuracy")):
            for method, which in (("best concept", ""), ("random concept", "control_")):
                values = [row[f"{which}{change}{suffix}"] for row in rows]
                run.mean(f"concept {change} (change of {unit})", method, values)
    return rows
