"""Does a preset hold on other cells, widths, sparsities and seeds? One table.

``python -m benchmarks.presets --cells TABLE --attributes TABLE -o FOLDER`` trains on real cells (pbc), on drawn patients,
and on both, and measures each autoencoder by the same things: what it explains and what died; planted concepts on drawn
patients that it has not seen; experts' attributes of real cells; nucleus and cytoplasm of drawn cells; the place in the
picture; and the diagnoses of the drawn patients, told from their barcodes. Every training is a line of
``FOLDER/presets.jsonl``; what is there is not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from cytosae.backbones import load
from cytosae.cells import TISSUES, patch_tissues, read_attributes, read_cells
from cytosae.concepts import cell_activations
from cytosae.concepts.position import position_share
from cytosae.concepts.quality import align, halves, recovery
from cytosae.report.style import SERIES
from cytosae.sae import SAE, read_metrics, train
from cytosae.settings import PRESETS, TrainConfig
from cytosae.study import list_to, rendered
from cytosae.synthetic import CONCEPTS, patch_labels, read_concept_masks
from cytosae.tokens import TokenStore, embed, store_layout

DRAWN, JUDGED = "synthetic:patients=60,cells=40,seed=0", "synthetic:patients=25,cells=20,seed=1"
SETS = ("pbc", "drawn", "both")
PAPER = {
    "batch_images": 16, "evaluate_every": 200, "warmup_steps": 50, "l1": 3.2e-4, "learning_rate": 2e-3, "k": 32,
}  # fmt: skip
"""The paper's preset for a hundredth of its images."""
_LONG = {"images": 48_000}
"""As many as the mass death took (docs/how-to/training.md)."""
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"dead_latent_loss": "none"},
    {"decay": 0.3},
    {"dead_latent_loss": "none", "decay": 0.3},
    {"dead_latent_loss": "none", "objective": "jumprelu", "bandwidth": 0.5, "l1": 0.3, "learning_rate": 1e-3},
    {"dead_latent_loss": "none", "objective": "gated", "l1": 4.0, "learning_rate": 1e-3},
)
"""What keeps latents alive: the preset, without its dead-latent loss, with a falling rate, and objectives with ways of
their own. Lambda and bandwidth give about 32 active latents; they were tried on 8,000 images of the same cells."""
_POSITIONED, _TISSUED = 200, 300  # cells


@dataclass(frozen=True)
class Run:
    """One training."""

    preset: str
    cells: str
    expansion: int = 8
    k: int = 32
    seed: int = 0
    changed: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Tells it from the others."""
        return " ".join(f"{key}={value}" for key, value in {**asdict(self), **self.changed}.items() if key != "changed")

    def config(self, images: int) -> TrainConfig:
        """Its settings."""
        settings: dict[str, Any] = {"images": images, "expansion": self.expansion, "k": self.k, "seed": self.seed}
        settings |= PAPER if self.preset == "paper" else {}
        return replace(PRESETS[self.preset], **{**settings, **self.changed})


def make(folder: Path, cells: Path) -> None:
    """Draw cells, and embed them and the real ones."""
    model = load("tiny")
    drawn, _ = list_to(rendered(Path(DRAWN), folder / "drawn"), folder / "drawn.parquet")
    judged, _ = list_to(rendered(Path(JUDGED), folder / "judging"), folder / "judging.parquet")
    real, _ = list_to(cells, folder / "real.parquet")
    tables = {"pbc": real, "drawn": drawn, "both": pd.concat([real, drawn], ignore_index=True), "judged": judged}
    for name, table in tables.items():
        embed(table, model, folder / "tokens" / name, store_layout(model.info))  # what is there is not made again


class Ground:
    """Tokens and truth of what `make` made."""

    def __init__(self, folder: Path, attributes: Path) -> None:
        self.folder = folder
        self.stores = {name: TokenStore(folder / "tokens" / name) for name in (*SETS, "judged")}
        given = read_attributes(attributes, self.stores["pbc"].cells)
        self.attributed = np.flatnonzero(given.notna().any(axis=1).to_numpy())
        truth = pd.get_dummies(given.iloc[self.attributed]).to_numpy(bool)
        self.truth = truth[:, np.minimum(truth.sum(0), (~truth).sum(0)) >= 40]
        judged = read_cells(folder / "judging.parquet")
        masks = np.stack([read_concept_masks(folder / "judging" / path) for path in judged["concepts"]])
        self.planted = np.moveaxis(patch_labels(masks), 1, -1).reshape(-1, len(CONCEPTS))
        grid = self.stores["judged"].layout.backbone["grid"]
        cover = np.stack([patch_tissues(Path(path), tuple(grid)) for path in judged["mask"][:_TISSUED]])
        self.tissues = np.moveaxis(cover, 1, -1).reshape(-1, len(TISSUES)) > 0.5

    def figures(self, sae: SAE) -> dict[str, float]:
        """Figures of an autoencoder."""
        h = self._patches(sae)
        fired = (h > 0).any(axis=0)
        n_patches = len(self.planted) // self.stores["judged"].n_cells
        images = np.repeat(np.arange(self.stores["judged"].n_cells), n_patches)
        planted = recovery(h[:, fired], self.planted, images)
        few = self.tissues.shape[0]
        tissue = align(h[:few, fired], self.tissues, images[:few] % 2 == 0, images[:few], draws=0)
        cells = (sp.csc_matrix(h[i * n_patches : (i + 1) * n_patches]) for i in range(_POSITIONED))
        position, _ = position_share(cells)
        _, means = self._cells(sae, "pbc", self.attributed)
        attributes = align(means.toarray(), self.truth, halves(len(self.attributed)), draws=0)
        return {
            "planted": planted.fraction(),
            "planted_auroc": float(np.nanmean(planted.area)),
            "attributes": float(np.nanmean(attributes.area)),
            "localisation": float(np.nanmean(tissue.area)),
            "position": float(np.mean(position[np.isfinite(position)] > 0.2)),
            **self._patients(sae),
        }

    @torch.no_grad()
    def _patches(self, sae: SAE) -> NDArray[np.float32]:
        store = self.stores["judged"]
        batches = np.array_split(np.arange(store.n_cells), store.n_cells // 32)
        encoded = [sae.encode(sae.centred(x)[:, 1:].flatten(0, 1)).numpy() for x in store.stream(batches)]
        return np.concatenate(encoded)

    def _cells(self, sae: SAE, name: str, rows: NDArray[np.int64]) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        stream = self.stores[name].stream(np.array_split(rows, len(rows) // 32))
        pairs = [cell_activations(sae, sae.centred(tokens), 0.2) for tokens in stream]
        counts, means = (sp.vstack(matrices, format="csr") for matrices in zip(*pairs, strict=True))
        return counts, means

    def _patients(self, sae: SAE) -> dict[str, float]:
        """Diagnoses of the drawn patients by logistic regression on log(1 + barcode), its strength chosen inside."""
        cells = self.stores["drawn"].cells
        counts, _ = self._cells(sae, "drawn", np.arange(len(cells)))
        codes, names = pd.factorize(cells["patient"])
        member = sp.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))))
        x = np.log1p((member @ counts).toarray() / np.bincount(codes)[:, None])
        y = pd.factorize(cells.groupby("patient", sort=False)["diagnosis"].first().loc[names], sort=True)[0]
        scores = []
        for repeat in range(3):
            probability = np.zeros((len(y), y.max() + 1))
            for fit, test in StratifiedKFold(5, shuffle=True, random_state=repeat).split(x, y):
                strengths = 10.0 ** np.arange(-3, 3)
                model = LogisticRegressionCV(Cs=strengths, cv=3, scoring="neg_log_loss", max_iter=500)
                probability[test] = model.fit(x[fit], y[fit]).predict_proba(x[test])
            f1 = f1_score(y, probability.argmax(axis=1), average="weighted")
            scores.append((f1, roc_auc_score(y, probability, multi_class="ovr")))
        f1, area = np.mean(scores, axis=0)
        return {"patients_f1": float(f1), "patients_auroc": float(area)}


@cache
def ground(folder: Path, attributes: Path) -> Ground:
    """One for each process."""
    torch.set_num_threads(1)
    return Ground(folder, attributes)


def one(where: tuple[Path, Path], run: Run, images: int) -> dict[str, Any]:
    """Train, and the figures."""
    truth = ground(*where)
    folder = where[0] / "trainings" / run.name.replace(" ", "_")
    config = run.config(images)
    began = time.monotonic()
    figures = train(truth.stores[run.cells], folder, config, device="cpu")
    seconds = time.monotonic() - began
    dead = [(line["images"], line["dead"]) for line in read_metrics(folder) if "dead" in line]
    found = truth.figures(SAE.from_pretrained(folder))
    shutil.rmtree(folder)
    return {
        "run": run.name, **asdict(run), "images": config.images, "seconds": seconds, "dead": figures["dead"],
        "most_dead": max(share for _, share in dead), "dead_share": dead,
        "explained_variance": figures["explained_variance"], "l0": figures["l0"], **found,
    }  # fmt: skip


def runs() -> Iterator[Run]:
    """The grid: every set of cells with widths and sparsities, and what is changed in the preset; three seeds."""
    for seed in range(3):
        for cells in SETS:
            yield Run("recommended", cells, seed=seed)
        for changed in ({"matryoshka_levels": 4}, {"centring": "position"}):
            yield Run("recommended", "both", seed=seed, changed=changed)
        for changed in WAYS:
            yield Run("recommended", "pbc", seed=seed, changed=_LONG | changed)
        for cells in SETS:
            for expansion, k in ((4, 32), (32, 32), (8, 16), (8, 64)):
                yield Run("recommended", cells, expansion, k, seed)
            yield Run("quick", cells, 4, seed=seed, changed={"images": 4_000})
            yield Run("paper", cells, seed=seed)


def draw_dead(done: list[dict[str, Any]], path: Path) -> None:
    """The dead share over every training, a panel for each set of cells or change."""
    panels: dict[str, list[dict[str, Any]]] = {}
    for line in sorted(done, key=lambda one: (SETS.index(one["cells"]), one["expansion"], one["k"])):
        panels.setdefault(_words(line), []).append(line)
    columns = 5 if len(panels) > 6 else 3
    figure = Figure(figsize=(2.6 * columns, 2 * -(-len(panels) // columns)), layout="constrained")
    axes = figure.subplots(-(-len(panels) // columns), columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, (name, lines) in zip(axes, panels.items(), strict=False):
        for line in sorted(lines, key=lambda one: int(one["seed"])):
            images, share = np.array(line["dead_share"]).T
            axis.plot(images / 1000, 100 * share, color=SERIES[line["seed"]], label=f"seed {line['seed']}", lw=1.4)
        axis.axhline(5, color="0.6", lw=0.8, ls="--")
        axis.set_title(name.replace("_", " "), fontsize=8)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    axes[0].legend(fontsize=7, frameon=False)
    figure.supxlabel("thousands of images trained on", fontsize=9)
    figure.supylabel("dead latents in %", fontsize=9)
    figure.savefig(path, dpi=150)


def _words(run: dict[str, Any]) -> str:
    """What tells a panel from the others, in at most two lines."""
    preset = [] if run["preset"] == "recommended" else [run["preset"]]
    sizes = [f"expansion {run['expansion']}", f"k {run['k']}"] if run["preset"] != "paper" else []
    unsaid = {"images", "learning_rate", "bandwidth", "l1"}
    changes = [f"{key} {value}" for key, value in run["changed"].items() if key not in unsaid]
    first = ", ".join([run["cells"], *preset, *([] if changes else sizes)])
    return "\n".join([first, ", ".join(changes)] if changes else [first])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=Path, required=True, help="table of real cells with pbc among them")
    parser.add_argument("--attributes", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--images", type=int, default=16_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="runs whose name contains this")
    parser.add_argument("--figure", type=Path, help="picture of the dead share over the trainings")
    given = parser.parse_args()
    make(given.output, given.cells)
    path = given.output / "presets.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    made = {(line["run"], line["images"]) for line in done}
    where = (given.output, given.attributes)
    with ProcessPoolExecutor(given.processes) as pool, path.open("a") as file:
        wanted = [run for run in runs() if given.only in run.name]
        wanted = [run for run in wanted if (run.name, run.config(given.images).images) not in made]
        jobs = [pool.submit(one, where, run, given.images) for run in wanted]
        for job in as_completed(jobs):
            done.append(job.result())
            print(json.dumps(done[-1]), file=file, flush=True)
    table = pd.DataFrame(done)
    if given.figure:
        draw_dead([line for line in done if given.only in line["run"] and "dead_share" in line], given.figure)
    print(table.drop(columns=["run", "changed", "images", "dead_share"]).round(3).to_string())


if __name__ == "__main__":
    main()
