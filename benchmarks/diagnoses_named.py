"""How many concepts name a diagnosis, and how many would by chance?

``python -m benchmarks.diagnoses_named STUDY`` takes a study whose patients have diagnoses. The null has the diagnoses
shuffled between the patients of a laboratory, 40 times: a concept that names one then is a false one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cytosae.concepts import read_activations, read_concepts, read_datasets
from cytosae.concepts.description.diagnoses import diagnosed
from cytosae.settings import DescribeConfig

_CONFIG = DescribeConfig()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--shuffles", type=int, default=40)
    given = parser.parse_args()
    concepts = given.study / "concepts"
    for name in read_datasets(concepts):
        data = read_concepts(concepts, name, matrices=False)
        latents = np.flatnonzero(data.var["is_concept"])
        rows = np.sort(np.random.default_rng(_CONFIG.seed).permutation(data.n_obs)[: _CONFIG.cells])
        active = (read_activations(concepts, name, rows, latents)[0] > 0).astype(np.float64)
        obs = data.obs.iloc[rows]
        named = passing(obs, active)
        print(f"{name}: {len(latents)} concepts; {len(named)} name a diagnosis: {named.value_counts().to_dict()}")
        rng = np.random.default_rng(0)
        found = [len(passing(shuffled(obs, rng), active)) for _ in range(given.shuffles)]
        print(f"diagnoses shuffled: {np.count_nonzero(found)} of {len(found)} name any, {sum(found)} concepts in all")


def passing(obs: pd.DataFrame, active: sp.csr_matrix) -> pd.Series:
    """The diagnoses of the concepts that name one."""
    said = diagnosed(obs, active, _CONFIG.laboratory, _CONFIG.seed)
    passes = (said.best.value > _CONFIG.least_auroc) & (said.best.q < _CONFIG.false_discoveries)
    return pd.Series([said.names[best] for best in said.best.best[passes]], dtype=object)


def shuffled(obs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Cells of patients whose diagnoses have changed places within their laboratory."""
    people = obs.astype({"patient": str, "diagnosis": str}).drop_duplicates("patient").set_index("patient")
    strata = people[_CONFIG.laboratory].astype(str) if _CONFIG.laboratory in people else pd.Series("", people.index)
    changed = people["diagnosis"].groupby(strata).transform(lambda values: rng.permutation(values.to_numpy()))
    return obs.assign(diagnosis=obs["patient"].astype(str).map(changed).to_numpy())


if __name__ == "__main__":
    main()
