"""What does a refinement change? Drawn cells, an expert who knows what was planted, once through `cytosae refine`.

``python -m benchmarks.refining STUDY -o FOLDER`` copies a finished study of drawn cells (``cytosae run synthetic:...``). The
expert calls the best latent of each planted structure meaningful where its AUROC is at least 0.9, calls the 20 latents that
stand for no structure (least largest AUROC) artefacts, and clicks on ten patches of each structure. Prints the table that
`cytosae refine` writes: as it was, trained as long without all this, refined; a third of the clicked patients judge.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from cytosae.analysis import refine_study, teach
from cytosae.concepts import read_datasets
from cytosae.concepts.quality import auroc
from cytosae.sae import SAE
from cytosae.settings import RefineConfig, TeachConfig
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.teaching import marks_table
from cytosae.tokens import TokenStore, centred

CLICKS, CELLS, ARTEFACTS, GOOD = 10, 300, 20, 0.9


def expert(study: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Verdicts of latents and marks of the planted structures."""
    store, sae = TokenStore(study / "tokens"), SAE.from_pretrained(study / "sae").requires_grad_(False)
    rng = np.random.default_rng(7)
    looked_at = np.sort(rng.permutation(store.n_cells)[:CELLS])
    masks = [read_concept_masks(study / "cohort" / path) for path in store.cells["concepts"]]
    truth = np.stack([patch_labels(mask).reshape(len(CONCEPTS), -1).T for mask in masks])
    tokens = next(iter(centred(store, sae.position_offset).stream([looked_at])))[:, 1:].float().flatten(0, 1)
    h = np.concatenate([sae.encode(part).numpy() for part in tokens.split(8192)])
    area = auroc(h, truth[looked_at].reshape(len(tokens), -1))
    best = {int(area[:, one].argmax()) for one in range(len(CONCEPTS)) if area[:, one].max() >= GOOD}
    order = np.argsort(np.nanmax(area, axis=1), kind="stable")
    worst = [int(one) for one in order if h[:, one].any() and int(one) not in best][:ARTEFACTS]
    (dataset,) = read_datasets(study / "concepts")
    verdicts = [(dataset, one, "expert", "meaningful") for one in sorted(best)]
    verdicts += [(dataset, one, "expert", "artefact") for one in worst]
    clicks = []
    for structure, name in enumerate(CONCEPTS):
        shows = rng.permutation(np.flatnonzero(truth[:, :, structure].any(axis=1)))[:CLICKS]
        for cell in shows:
            patch = int(rng.choice(np.flatnonzero(truth[cell, :, structure])))
            clicks.append((name, str(store.cells["cell_id"].iloc[cell]), patch, "this"))
    return pd.DataFrame(verdicts, columns=["dataset", "latent", "rater", "verdict"]), marks_table(clicks)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    study = given.output / "study"
    if not study.is_dir():
        shutil.copytree(given.study, study, ignore=shutil.ignore_patterns("annotations.sqlite*", "taught", "refined"))
        verdicts, marks = expert(study)
        said = given.output / "verdicts.csv"
        verdicts.to_csv(said, index=False)
        for command in (["import", study, said], ["apply", study]):
            subprocess.run([sys.executable, "-m", "cytosae", "annotations", *map(str, command)], check=True)
        teach(study, marks, TeachConfig(), update=False)
    result = refine_study(study, config=RefineConfig(), apply=True)
    table = pd.read_csv(study / "refined" / "comparison.csv")
    areas = table[table["measure"].str.startswith("AUROC")]
    print(table[~table["measure"].str.startswith("AUROC")].to_string(index=False))
    wide = areas.pivot(index="measure", columns="dictionary", values="value")
    print(wide.round(3).to_string(), wide.mean().round(4).to_string(), sep="\n")
    for name in wide.columns.drop("before"):
        gain = wide[name] - wide["before"]
        half = student.ppf(0.975, len(gain) - 1) * gain.std() / len(gain) ** 0.5
        print(f"{name}: {gain.mean():+.4f} ({gain.mean() - half:+.4f} to {gain.mean() + half:+.4f}) over structures")
    print(json.dumps({"meaningful": result["meaningful"], "patients": result["patients"]}, indent=1))


if __name__ == "__main__":
    main()
