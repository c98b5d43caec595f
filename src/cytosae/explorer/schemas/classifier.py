"""What the API answers of the classifier of the patients and of what it is without some concepts."""

from __future__ import annotations

from pydantic import BaseModel, Field

from cytosae.explorer.schemas.values import Known


class Interval(BaseModel):
    """A figure with its 95 % interval over people."""

    value: Known
    low: Known
    high: Known


class ClassifierFigures(BaseModel):
    """How well patients are predicted who are not in the training."""

    weighted_f1: Interval
    classes: dict[str, Known] = Field(description="F1 of each class.")
    coverage: Interval = Field(description="Share of the patients whose conformal set holds the true class.")
    set_size: Known = Field(description="Classes in a set, on average.")


class PatientPrediction(BaseModel):
    """Class and conformal set of a patient."""

    predicted: str
    probability: Known
    set: list[str] = Field(description="Conformal set.")


class EditedPatient(BaseModel):
    """A patient before and after."""

    patient: str
    truth: str
    before: PatientPrediction
    after: PatientPrediction


class WeightedConcept(BaseModel):
    """A concept by how far it moves the classifier."""

    latent: int
    moves: Known


class SparsityPoint(BaseModel):
    """What models of few concepts predict."""

    size: int
    concepts: Known
    weighted_f1: Known
    low: Known
    high: Known


class ClassifierInfo(BaseModel):
    """The classifier, and what it is with some concepts struck out."""

    target: str
    folds: str
    allowed: str = Field(description="Latents that it might use, of `--concepts`.")
    missing: list[int] = Field(description="Struck out in `cytosae classify`.")
    nominal: Known = Field(description="Coverage that the conformal sets aim at.")
    without: list[int] = Field(description="Struck out now.")
    concepts: list[WeightedConcept]
    before: ClassifierFigures
    after: ClassifierFigures
    gain: Interval = Field(description="Weighted F1 after less before, in the same draws of people.")
    patients: list[EditedPatient]
    sparsity: list[SparsityPoint] = Field(description="Empty without `cytosae classify --short`.")
