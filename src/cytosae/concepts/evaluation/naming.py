"""How good are the sentences that describe concepts? Two tests on cells from which they were not made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.artefacts import Manifest
from cytosae.concepts import quality as q
from cytosae.concepts.description.describing import gather_evidence
from cytosae.concepts.description.expecting import expected_by
from cytosae.concepts.description.facts import facts_of
from cytosae.concepts.evaluation.registry import Evaluation, Measure, measuring
from cytosae.concepts.evaluation.sampling import LATENT_METHOD
from cytosae.concepts.quality.resampling import group_codes, halves
from cytosae.concepts.storage import read_activations, read_concepts, read_datasets, read_maps
from cytosae.morphometry import MEASURED, read_measurements, read_places
from cytosae.settings import DescribeConfig

_SHUFFLED = "shuffled sentences"
_SHOWN = 0.1
"""Share of the cells that show a concept most: the sentence has to find them."""


@measuring(
    Measure(
        "detection",
        "from the sentence of a concept alone: are unseen cells ranked first that show it most (the strongest tenth)",
        "higher",
        null=_SHUFFLED,
        source="after Paulo et al. 2024",
    ),
    Measure(
        "intruder",
        "of five unseen cells, four with a concept and one without: is the one found to which the sentence gives least",
        "higher",
        null=_SHUFFLED,
        source="after Chang et al. 2009",
    ),
)
def naming(run: Evaluation) -> None:
    """Describe the concepts anew from one half of the cells, and test the sentences on the other."""
    study = run.folder.parent
    if Manifest.load(study / MEASURED) is None:
        run.table.skip("detection and intruder", "the cells are not measured (`cytosae measure`)")
        return
    measured = read_measurements(study / MEASURED)
    table: dict[str, NDArray[np.float64]] = {}
    for dataset in read_datasets(run.folder):
        if not len(read_maps(run.folder, dataset)[0]):
            continue
        scores = _of_dataset(run, study, dataset, measured)
        table = scores if not table else {name: np.append(table[name], scores[name]) for name in table}
    for measure, unit in (("detection", " (AUROC)"), ("intruder", " (share found; 0.2 by chance)")):
        for method, suffix in ((LATENT_METHOD, ""), (_SHUFFLED, " shuffled")):
            run.mean(f"{measure}{unit}", method, table[f"{measure}{suffix}"])
        by_latent = pd.Series(table[measure], table["latent"].astype(int)).groupby(level=0).mean()
        run.per_concept[measure] = run.per_concept["latent"].map(by_latent)
    run.details["sentences"] = {"described": int(np.isfinite(table["detection"]).sum()), "of": len(table["latent"])}


def _of_dataset(run: Evaluation, study: Path, dataset: str, measured: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Both tests for every concept of a data set, NaN where nothing is known of it."""
    data = read_concepts(run.folder, dataset, matrices=False)
    rng = np.random.default_rng(run.config.seed)
    patients = pd.factorize(data.obs["patient"])[0] if "patient" in data.obs else np.full(data.n_obs, -1)
    describing = halves(data.n_obs, group_codes(data.n_obs, patients), run.config.seed)
    first, second = (
        np.sort(rng.permutation(np.flatnonzero(side))[: run.config.cells]) for side in (describing, ~describing)
    )
    noted = None
    if run.attributes is not None:
        noted = run.attributes.set_axis(pd.Index(run.sample.cells["cell_id"]))
    facts = facts_of(gather_evidence(study, dataset, measured, noted, DescribeConfig(), first), DescribeConfig())
    latents = np.unique(facts["latent"].to_numpy(np.int64))
    facts = facts[facts["kind"] != "diagnosis"]  # it is a fact of patients: nothing that one sees in a cell
    return sentence_scores(study, dataset, facts, latents, second, measured, noted, run.config.seed, rng)


def sentence_scores(
    study: Path,
    dataset: str,
    facts: pd.DataFrame,
    latents: NDArray[np.int64],
    rows: NDArray[np.int64],
    measured: pd.DataFrame,
    noted: pd.DataFrame | None,
    seed: int,
    rng: np.random.Generator,
) -> dict[str, NDArray[np.float64]]:
    """Detection and intruder of sentences on some cells, and of sentences that belong to other concepts.

    Parameters
    ----------
    study, dataset
        Whose concepts.
    facts
        ``latent``, ``kind``, ``subject``, ``high``, ``passes``: those that pass are what the sentence names.
    latents
        The concepts, rising, ``(n_concepts,)``.
    rows
        Cells of the data set; a concept's reference images among them are left out for it.
    measured, noted
        Measurements and expert attributes of the cells, by ``cell_id``.
    seed, rng
        Of the intruder's draws, and of which sentence belongs to which other concept.

    Returns
    -------
    ``latent``, ``detection``, ``intruder``, and both with `` shuffled``, ``(n_concepts,)``; NaN where nothing is named.

    Notes
    -----
    No example: needs a study whose cells are measured.
    """
    data = read_concepts(study / "concepts", dataset, matrices=False)
    names = data.obs_names[rows]
    known: Mapping[str, pd.Series] = {} if noted is None else {str(c): noted[c].reindex(names) for c in noted}
    if "label" in data.obs:
        known = {"cell type": data.obs["label"].astype(object).iloc[rows], **known}
    expected = expected_by(facts, latents, measured.reindex(names), known, *read_places(study / MEASURED, names))
    means = read_activations(study / "concepts", dataset, rows, latents)[1].toarray()
    means[_references(data.varm["reference_cells"][latents], rows, means.shape)] = np.nan
    least = np.nanquantile(means, 1 - _SHOWN, axis=0)
    shown, silent = (means > least) & (means > 0), means <= np.nanmedian(means, axis=0)
    described = np.isin(latents, facts["latent"][facts["passes"]])
    other = np.arange(len(latents))
    other[described] = np.roll(rng.permutation(other[described]), 1)
    results: dict[str, NDArray[np.float64]] = {"latent": latents.astype(np.float64)}
    for suffix, scores in (("", expected), (" shuffled", expected[:, other])):
        results[f"detection{suffix}"] = np.where(described, q.detection(scores, shown), np.nan)
        results[f"intruder{suffix}"] = np.where(described, q.intruder(scores, shown, silent, seed), np.nan)
    return results


def _references(references: NDArray[np.int64], rows: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which of the cells are reference images of which concept: its places and looks were read off them."""
    seen = np.zeros(shape, bool)
    for number, mine in enumerate(references):
        seen[np.isin(rows, mine), number] = True
    return seen
