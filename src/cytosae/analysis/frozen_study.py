"""What of a study predicts new patients: opened, and refused where its files do not belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import NDArray

from cytosae.analysis.classification_files import MODELS, OUTCOME, RESULT
from cytosae.artefacts import CONFIG, WEIGHTS, Manifest, outdated, read_json, sha256_file
from cytosae.cohort import (
    BARCODES,
    CLASSIFICATION,
    COHORT,
    OUTCOMES,
    LinearModel,
    outcome_folder,
    read_barcodes,
    read_classifiers,
    read_regressions,
)
from cytosae.concepts import TAUGHT_FOLDER, read_dictionary, read_parameters
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.taught import TAUGHT as TAUGHT_FILE


@dataclass(frozen=True)
class FrozenStudy:
    """Autoencoder, barcodes and models of a study: all that new patients need beside the backbone."""

    folder: Path
    sae: SAE
    threshold: float
    """tau, above which a patch is active."""
    known: frozenset[str]
    """Names of all patients of the study, predicted or not."""
    training: ad.AnnData
    """Barcodes of the patients that the models were trained on."""
    model: LinearModel
    """The model of all of them; a `Classifier` where classes are predicted."""
    fold_models: tuple[LinearModel, ...]
    """Those that had not seen the patients of a fold, of every division."""
    result: Mapping[str, Any]
    """What ``classification.json`` or ``outcome.json`` holds."""
    digests: dict[str, str]
    """SHA-256 of each file that a prediction depends on."""

    @property
    def target(self) -> str:
        """Column that is predicted."""
        return str(self.result["target"])

    @property
    def cell_type(self) -> str | None:
        """Cell type whose cells are counted; all cells if None."""
        kind: str | None = self.result["cell_type"]
        return kind

    def fold_predictors(self, data: ad.AnnData) -> NDArray[np.float64]:
        """Linear predictors of new patients by the model of each fold, ``(n_models, n_patients, n_outputs)``."""
        kinds = {model.representation for model in self.fold_models}
        values = {kind: kind.values(data) for kind in kinds}
        return np.stack([model.linear_predictor(values[model.representation]) for model in self.fold_models])


def open_frozen_study(study: Path, target: str | None = None) -> FrozenStudy:
    """Open what predicts new patients; neither images nor tokens nor the concepts of the cells are needed.

    Parameters
    ----------
    target
        Column of `cytosae.analysis.predict_outcome`, a number or a time, or that of the classification; the
        classification if None.

    Raises
    ------
    CytosaeError
        Nothing predicts this column, a file was changed since it was written, or the parts are not of one another:
        models, barcodes, concepts, autoencoder.
    """
    barcodes = study / COHORT / BARCODES
    if not (study / "backbone.json").is_file():
        raise CytosaeError(f"{study / 'backbone.json'}: missing. Is {study} a study, made by `cytosae run`?")
    folder, manifest = _predicting(study, target)
    command = f"cytosae classify {barcodes}" + ("" if target is None else f" --target {target}")
    if why := outdated(manifest.stage, manifest.version):
        raise CytosaeError(f"{folder}: {why}. Run `{command}` again.")
    of_classes = manifest.stage == "classification"
    name = RESULT if of_classes else OUTCOME
    digests = _verified(study, f"{COHORT}/{folder.name}", manifest, (MODELS, name), command)
    result = read_json(folder / name)
    if target is not None and result["target"] != target:
        raise CytosaeError(f"{folder}: predicts {result['target']!r}, not {target!r}. Run `{command}` first.")
    autoencoder = Manifest.load(study / "sae")
    if autoencoder is None:
        raise CytosaeError(f"{study / 'sae'}: no finished autoencoder there. Copy the whole folder of the study.")
    digests |= _verified(study, "sae", autoencoder, (WEIGHTS, CONFIG), f"cytosae run CELLS --study {study}")
    if (taught := Manifest.load(study / TAUGHT_FOLDER)) is not None:
        digests |= _verified(study, TAUGHT_FOLDER, taught, (TAUGHT_FILE,), f"cytosae teach {study}")
    sae = read_dictionary(study, decoder=False)
    if not _same_bytes(barcodes, manifest.inputs.get("barcodes")):
        raise CytosaeError(
            f"{folder}: a classification of other barcodes than those in {barcodes}. Run `{command}` again."
        )
    data = read_barcodes(barcodes, result["cell_type"], concepts=study / "concepts")
    model, *fold_models = (read_classifiers if of_classes else read_regressions)(folder / MODELS, result)
    return FrozenStudy(
        study,
        sae,
        float(read_parameters(study / "concepts")["threshold"]),
        frozenset(data.obs["patient"].astype(str)),
        data[list(result["model"]["rows"])].copy(),
        model,
        tuple(fold_models),
        result,
        {**digests, f"{COHORT}/{BARCODES}": manifest.inputs["barcodes"]},
    )


def _predicting(study: Path, target: str | None) -> tuple[Path, Manifest]:
    """The folder of the models that predict a column, and its manifest."""
    barcodes, folder = study / COHORT / BARCODES, study / COHORT / CLASSIFICATION
    if target is not None and (outcome := study / COHORT / outcome_folder(target)).is_dir():
        folder = outcome
    manifest = Manifest.load(folder)
    if manifest is None:
        others = [Manifest.load(path) for path in sorted((study / COHORT).glob(OUTCOMES))]
        named = [one.parameters["target"] for one in others if one is not None and one.stage == "outcome"]
        of_others = f" Or predict another column: --target {' or '.join(named)}." if named else ""
        wanted = "" if target is None else f" --target {target}"
        raise CytosaeError(
            f"{folder}: no classification there. Run `cytosae classify {barcodes}{wanted}` first.{of_others}"
        )
    if manifest.stage not in ("classification", "outcome"):
        raise CytosaeError(
            f"{folder}: holds no classification but {manifest.stage}. Run `cytosae classify {barcodes}`."
        )
    return folder, manifest


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
