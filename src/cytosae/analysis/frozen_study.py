"""What of a study predicts new patients: opened, and refused where its files do not belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import NDArray

from cytosae.analysis.classification_files import MODELS, RESULT
from cytosae.artefacts import CONFIG, WEIGHTS, Manifest, outdated, read_json, sha256_file
from cytosae.cohort import (
    BARCODES,
    CLASSIFICATION,
    COHORT,
    Calibration,
    Classifier,
    Representation,
    read_barcodes,
    read_classifiers,
)
from cytosae.concepts import TAUGHT_FOLDER, read_dictionary, read_parameters
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.taught import TAUGHT as TAUGHT_FILE


@dataclass(frozen=True)
class FrozenStudy:
    """Autoencoder, barcodes and classifiers of a study: all that new patients need beside the backbone."""

    folder: Path
    sae: SAE
    threshold: float
    """tau, above which a patch is active."""
    known: frozenset[str]
    """Names of all patients of the study, classified or not."""
    training: ad.AnnData
    """Barcodes of the patients of the classification."""
    classifier: Classifier
    """The model of all of them."""
    fold_models: tuple[Classifier, ...]
    """Those that had not seen the patients of a fold, of every division."""
    calibration: Calibration
    """What these said of the patients that they had not seen."""
    target: str
    """Column that is predicted."""
    cell_type: str | None
    """Cell type whose cells are counted; all cells if None."""
    digests: dict[str, str]
    """SHA-256 of each file that a prediction depends on."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that the classifier knows."""
        return self.classifier.classes

    def fold_probabilities(self, values: Mapping[Representation, NDArray[np.float32]]) -> NDArray[np.float64]:
        """Probabilities of new patients by the model of each fold, ``(n_models, n_patients, n_classes)``.

        Parameters
        ----------
        values
            Of the patients in each representation, ``(n_patients, n_blocks, n_latents)``.
        """
        return np.stack([model.probabilities(values[model.representation]) for model in self.fold_models])


def open_frozen_study(study: Path) -> FrozenStudy:
    """Open what predicts new patients; neither images nor tokens nor the concepts of the cells are needed.

    Raises
    ------
    CytosaeError
        There is no classification, a file was changed since it was written, or the parts are not of one another:
        classification, barcodes, concepts, autoencoder.
    """
    barcodes, folder = study / COHORT / BARCODES, study / COHORT / CLASSIFICATION
    if not (study / "backbone.json").is_file():
        raise CytosaeError(f"{study / 'backbone.json'}: missing. Is {study} a study, made by `cytosae run`?")
    manifest = Manifest.load(folder)
    if manifest is None:
        others = sorted(path.name for path in (study / COHORT).glob("outcome-*") if path.is_dir())
        not_these = f" `cytosae predict` takes classes alone, not {' or '.join(others)}." if others else ""
        raise CytosaeError(f"{folder}: no classification there. Run `cytosae classify {barcodes}` first.{not_these}")
    if manifest.stage != "classification":
        raise CytosaeError(
            f"{folder}: holds no classification but {manifest.stage}. Run `cytosae classify {barcodes}`."
        )
    if why := outdated("classification", manifest.version):
        raise CytosaeError(f"{folder}: {why}. Run `cytosae classify {barcodes}` again.")
    digests = _verified(study, f"{COHORT}/{CLASSIFICATION}", manifest, (MODELS, RESULT), f"cytosae classify {barcodes}")
    autoencoder = Manifest.load(study / "sae")
    if autoencoder is None:
        raise CytosaeError(f"{study / 'sae'}: no finished autoencoder there. Copy the whole folder of the study.")
    digests |= _verified(study, "sae", autoencoder, (WEIGHTS, CONFIG), f"cytosae run CELLS --study {study}")
    if (taught := Manifest.load(study / TAUGHT_FOLDER)) is not None:
        digests |= _verified(study, TAUGHT_FOLDER, taught, (TAUGHT_FILE,), f"cytosae teach {study}")
    sae = read_dictionary(study, decoder=False)
    if not _same_bytes(barcodes, manifest.inputs.get("barcodes")):
        raise CytosaeError(
            f"{folder}: a classification of other barcodes than those in {barcodes}. Run `cytosae classify {barcodes}` "
            "again."
        )
    result = read_json(folder / RESULT)
    data = read_barcodes(barcodes, result["cell_type"], concepts=study / "concepts")
    classes = list(result["classes"])
    classifier, *fold_models = read_classifiers(folder / MODELS, result)
    return FrozenStudy(
        study,
        sae,
        float(read_parameters(study / "concepts")["threshold"]),
        frozenset(data.obs["patient"].astype(str)),
        data[list(result["model"]["rows"])].copy(),
        classifier,
        tuple(fold_models),
        _calibration(result["conformal"]["calibration"], classes),
        str(result["target"]),
        result["cell_type"],
        {**digests, f"{COHORT}/{BARCODES}": manifest.inputs["barcodes"]},
    )


def _verified(study: Path, part: str, manifest: Manifest, names: Sequence[str], command: str) -> dict[str, str]:
    """The digests of some files of a stage, by path in the study; an error for one that is not as the stage left it."""
    for name in names:
        path, record = study / part / name, manifest.outputs.get(name)
        if record is None or not _same_bytes(path, record.sha256):
            raise CytosaeError(
                f"{path}: is missing or was changed since it was written; its digest is not the one in the manifest. Copy "
                f"the study again, or run `{command}` again."
            )
    return {f"{part}/{name}": manifest.outputs[name].sha256 for name in names}


def _same_bytes(path: Path, sha256: str | None) -> bool:
    """Whether a file is there and has this digest."""
    return path.is_file() and sha256_file(path) == sha256


def _calibration(rows: list[dict[str, Any]], classes: list[str]) -> Calibration:
    return Calibration(
        np.array([row["score"] for row in rows], np.float64),
        np.array([row["models"] for row in rows], np.int64),
        np.array([classes.index(row["class"]) for row in rows], np.int64),
        np.array([row["left_out_p"] for row in rows], np.float64),
    )
