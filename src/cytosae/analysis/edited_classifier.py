"""The classifier of a study, edited: concepts are struck out, and figures and predictions follow at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.analysis.classification_files import MODELS, RESULT
from cytosae.artefacts import Manifest, outdated, read_json, sha256_file
from cytosae.cohort import (
    Choice,
    ClassificationTask,
    Classifier,
    Folds,
    Refitted,
    Representation,
    classification_task,
    only,
    read_barcodes,
    read_classifiers,
    refitted,
    restricted,
    set_figures,
)
from cytosae.cohort.scores import class_scores
from cytosae.concepts.quality.resampling import Estimate
from cytosae.errors import CytosaeError, NotFound, Unanswerable
from cytosae.settings import ClassifyConfig
from cytosae.settings.declaration import from_stored

DRAWS = 1000
"""Bootstrap draws of the patients, for intervals."""


@dataclass(frozen=True)
class EditableClassifier:
    """A classification with what it takes to fit it anew."""

    result: Mapping[str, Any]
    """``classification.json``."""
    task: ClassificationTask
    """The patients, with barcodes of the latents that the classification might use."""
    folds: Folds
    """Its first division."""
    choices: tuple[Choice, ...]
    """Representation and penalty of each fold."""
    classifier: Classifier
    """Of all patients."""
    config: ClassifyConfig

    @cached_property
    def unchanged(self) -> Refitted:
        """With nothing struck out."""
        return refitted(self.task, self.folds, self.choices, self.config)

    @classmethod
    def open(cls, barcodes: Path, folder: Path) -> EditableClassifier:
        """Read a classification.

        Parameters
        ----------
        barcodes
            The file that it is of.
        folder
            Of the classification.

        Raises
        ------
        CytosaeError
            There is none of these barcodes, or it is of an earlier version.
        """
        manifest = Manifest.load(folder)
        again = f"Run `cytosae classify {barcodes}`"
        if manifest is None or manifest.stage != "classification":
            raise NotFound(f"{folder}: no classification there. {again}.")
        if why := outdated("classification", manifest.version):
            raise CytosaeError(f"{folder}: {why}. {again} again.")
        if manifest.inputs.get("barcodes") != sha256_file(barcodes):
            raise CytosaeError(f"{folder}: a classification of other barcodes than those in {barcodes}. {again} again.")
        result = read_json(folder / RESULT)
        known = set(ClassifyConfig.__dataclass_fields__)
        stored = {
            name: value for name, value in from_stored(ClassifyConfig, manifest.parameters).items() if name in known
        }
        config = replace(ClassifyConfig(**stored), bootstrap=DRAWS)
        whole = classification_task(read_barcodes(barcodes, result["cell_type"]), result["target"])
        allowed = result["concepts"]
        data = restricted(whole.data, barcodes, allowed["allowed"], allowed.get("without", []))
        task = replace(whole, data=data)
        rows = [int(result["model"]["rows"][name]) for name in task.data.obs_names]
        folds = Folds(np.array([rows], np.int64), tuple(map(str, sorted(set(rows) - {-1}))), result["folds"])
        n_folds = len(set(rows) - {-1})
        chosen = result["model"]["choices"][1 : 1 + n_folds]
        choices = tuple(Choice(Representation(c["features"], c["transform"]), c["strength"]) for c in chosen)
        classifier = read_classifiers(folder / MODELS, result)[0]
        return cls(result, task, folds, choices, classifier, config)

    def strongest(self, most: int) -> list[tuple[int, float]]:
        """The concepts by how far they move the classifier of all patients, the farthest first.

        Of each concept the largest over the classes of: what a standard deviation of its values among the patients adds to
        the logit of the class, over the mean of all classes.
        """
        values = self.classifier.representation.values(self.task.data)
        moves = values.std(axis=0)
        directions = np.stack([np.abs(self.classifier.direction(name)) for name in self.classifier.classes])
        importance = (directions * moves).sum(axis=1).max(axis=0)
        order = np.argsort(-importance, kind="stable")[:most]
        return [(int(s), float(importance[s])) for s in order if importance[s] > 0]

    def without(self, latents: Sequence[int]) -> dict[str, Any]:
        """Figures and predictions with some concepts struck out, beside those with all.

        Returns
        -------
        ``before``, ``after``: weighted F1 with its interval over people, by class, coverage and size of the conformal sets;
        ``gain``: after less before, in the same draws; ``patients``: prediction and set of each before and after.

        Raises
        ------
        CytosaeError
            No such latent, or none is left.
        """
        n_latents = self.task.data.n_vars
        if outside := [latent for latent in latents if not 0 <= latent < n_latents]:
            raise NotFound(f"latent {outside[0]}: the study has latents 0 to {n_latents - 1}.")
        after = self.unchanged
        if latents:
            keep = np.ones(n_latents, bool)
            keep[list(latents)] = False
            data = only(self.task.data, keep)
            if not np.ptp(np.asarray(data.X), axis=0).any():
                raise Unanswerable("no concept is left that distinguishes the patients; strike out fewer.")
            after = refitted(replace(self.task, data=data), self.folds, self.choices, self.config)
        f1 = [self._f1(one) for one in (self.unchanged, after)]
        gain = f1[1].gain_over(f1[0])
        return {
            "before": self._figures(self.unchanged, f1[0]),
            "after": self._figures(after, f1[1]),
            "gain": {"value": gain.value, "low": gain.low, "high": gain.high},
            "patients": self._patients(after),
        }

    def _f1(self, one: Refitted) -> Estimate:
        return one.predictions.f1(DRAWS, self.config.seed)

    def _figures(self, one: Refitted, f1: Estimate) -> dict[str, Any]:
        scores = class_scores(one.predictions.confusions())
        target = self.task.target[one.rows]
        sets = set_figures(one.sets, target, self.task.units[one.rows], self.task.classes, DRAWS, self.config.seed)
        of_classes = scores["f1"].mean(axis=0)
        return {
            "weighted_f1": {"value": f1.value, "low": f1.low, "high": f1.high},
            "classes": dict(zip(self.task.classes, map(float, of_classes), strict=True)),
            "coverage": {"value": sets["coverage"], "low": sets["low"], "high": sets["high"]},
            "set_size": sets["size"],
        }

    def _patients(self, after: Refitted) -> list[dict[str, Any]]:
        rows = []
        for index, row in enumerate(after.rows.tolist()):
            predictions = [self._prediction(one, index, row) for one in (self.unchanged, after)]
            rows.append(
                {
                    "patient": str(self.task.data.obs_names[row]),
                    "truth": self.task.classes[self.task.target[row]],
                    "before": predictions[0],
                    "after": predictions[1],
                }
            )
        return rows

    def _prediction(self, one: Refitted, index: int, row: int) -> dict[str, Any]:
        probability: NDArray[np.float64] = one.predictions.probability[0, row]
        best = int(probability.argmax())
        chosen = [name for name, inside in zip(self.task.classes, one.sets[index], strict=True) if inside]
        return {"predicted": self.task.classes[best], "probability": float(probability[best]), "set": chosen}
