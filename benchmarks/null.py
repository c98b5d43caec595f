"""Is the null at chance for every representation? Cohorts whose barcodes say nothing of the classes.

``python -m benchmarks.null -o FOLDER`` draws barcodes of 60 patients in three classes that do not differ, predicts them as
`cytosae classify` does, permutations included, and says for each representation how far the mean weighted F1 is from the
mean of the null, and how often p is at most 0.05. A cohort is a line of ``FOLDER/null.jsonl``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.coverage import CLASSES, drawn
from cytosae.cohort import FEATURES, Products, candidates, chosen_predictions, classification_task, stratified_folds
from cytosae.concepts.quality.resampling import Estimate
from cytosae.settings import CHOOSE, ClassifyConfig

PERMUTATIONS = 39
REPRESENTATIONS = [(CHOOSE, "log1p"), *((name, way) for name in FEATURES for way in ("none", "log1p", "sqrt"))]


def measured(seed: int, features: str, transform: str) -> dict[str, float]:
    """Weighted F1 of a cohort without any difference, the mean of its null, and p."""
    task = classification_task(drawn((10,) * CLASSES, (1.0,) * CLASSES, 1000 + seed), "diagnosis")
    config = ClassifyConfig(features=features, transform=transform, splits=3, repeats=1, inner=2, seed=seed)
    folds = stratified_folds(task.target, task.patients, config.splits, 1, seed)
    products = Products.from_barcodes(task.data, candidates(config))
    found = chosen_predictions(task, folds, products, config, permutations=PERMUTATIONS)
    value = found.predictions.f1(20, 0).value
    p = (1 + (found.null >= value - 1e-12).sum()) / (1 + PERMUTATIONS)
    return {"f1": value, "null": float(found.null.mean()), "p": float(p)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cohorts", type=int, default=40)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / "null.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    made = {(line["seed"], line["features"], line["transform"]) for line in done}
    with path.open("a") as file, threadpool_limits(1):
        for seed in range(given.cohorts):
            for features, transform in REPRESENTATIONS:
                if (seed, features, transform) not in made:
                    key = {"seed": seed, "features": features, "transform": transform}
                    done.append(key | measured(seed, features, transform))
                    print(json.dumps(done[-1]), file=file, flush=True)
    table = pd.DataFrame(done)
    for features, transform in REPRESENTATIONS:
        rows = table[(table["features"] == features) & (table["transform"] == transform)]
        f1, ahead = (Estimate.mean(values, 1000) for values in (rows["f1"], rows["f1"] - rows["null"]))
        rejected = Estimate.mean((rows["p"] <= 0.05).to_numpy(float), 1000)
        print(
            f"{features}, {transform}: F1 {f1.value:.3f}, ahead of the null by {ahead.value:+.3f} ({ahead.low:+.3f} to "
            f"{ahead.high:+.3f}), p <= 0.05 in {rejected.value:.1%} ({rejected.low:.1%} to {rejected.high:.1%}) of "
            f"{len(rows)} cohorts"
        )


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
