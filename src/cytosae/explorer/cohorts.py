"""The patients of a study: their barcodes, what is unusual in one, and two groups side by side."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.analysis.comparison import compare_patients, sides
from cytosae.analysis.one_patient import (
    LEAST,
    Against,
    Patient,
    Prediction,
    compare_with_group,
    find_patient,
    other_patients,
    predict,
    reference_groups,
)
from cytosae.artefacts import sha256_file
from cytosae.cohort import CLASSIFICATION, Representation, as_records, patient_column, read_barcodes
from cytosae.concepts import schema
from cytosae.errors import CytosaeError, NotFound
from cytosae.explorer.activations import Activations
from cytosae.explorer.caching import once
from cytosae.explorer.dataset import DataSet, category
from cytosae.explorer.images import encoded
from cytosae.explorer.reader import HEALTHY, StudyReader
from cytosae.explorer.schemas import patients as s
from cytosae.settings import CompareConfig, PatientConfig

_BARCODE, _SCATTER, _EACH = 200, 20_000, 5
_DEFAULT, _COMPARED = PatientConfig(), CompareConfig()
_FIELDS = {"id", "n_cells", *schema.names(schema.BARCODES, "obs", "key")}
"""What a patient's row has in any case, in fields of their own."""


class Cohort:
    """The patients of a study; their barcodes are read when they are first asked for.

    Parameters
    ----------
    reader
        Reads the study.
    activations
        Makes the maps.
    """

    def __init__(self, reader: StudyReader, activations: Activations) -> None:
        self._reader, self._activations = reader, activations
        self._lock = threading.RLock()
        self._barcodes = once(lambda: read_barcodes(reader.barcodes, pooled=True))

    @property
    def barcodes(self) -> ad.AnnData:
        """Barcodes of all patients.

        Raises
        ------
        CytosaeError
            The study has none, or they are of another autoencoder.
        """
        if self._reader.why_no_patients is not None:
            raise NotFound(self._reader.why_no_patients)
        return self._barcodes()

    @cached_property
    def _sha256(self) -> str:
        return sha256_file(self._reader.barcodes)

    def row(self, row: int) -> s.PatientRow:
        """What the barcodes tell of a patient."""
        data = self.barcodes
        known: dict[str, Any] = {str(name): _plain(value) for name, value in data.obs.iloc[row].items()}
        fields = {name: value for name, value in known.items() if name not in _FIELDS}
        fields |= {"id": str(data.obs_names[row]), "dataset": known["dataset"], "n_cells": known["n_cells"]}
        diagnosis = fields.get("diagnosis")
        return s.PatientRow(**{**fields, "diagnosis": None if diagnosis is None else str(diagnosis)})

    def patients(self) -> s.PatientList:
        """All patients."""
        data = self.barcodes
        columns = [str(name) for name in data.obs.columns if name not in _FIELDS]
        return s.PatientList(patients=[self.row(row) for row in range(data.n_obs)], columns=columns)

    def open_patient(self, name: str) -> tuple[Patient, DataSet, NDArray[np.int64]]:
        """A patient with all cells, their data set and their rows in it."""
        data = self.barcodes
        row = find_patient(data, name, "this study")
        source, rows = self._patient_cells(data, row)
        counts, means = source.activations(rows)
        labels = pd.DataFrame({"label": source.values("label", rows)}, index=rows)
        return Patient(data, row, labels, counts, means, self._reader.tau), source, rows

    def _patient_cells(self, data: ad.AnnData, row: int) -> tuple[DataSet, NDArray[np.int64]]:
        """Data set and rows of a patient's cells."""
        dataset, who = (str(data.obs[column].iloc[row]) for column in ("dataset", "patient"))
        source = self._reader.dataset(dataset)
        column = source.column("patient")
        code = -1 if column is None else category(column, who)
        if column is None or code < 0:
            raise CytosaeError(f"{who}: no cell of this patient in data set {dataset!r}. Run the study again.")
        return source, np.flatnonzero(column.codes == code)

    def patient(
        self,
        name: str,
        against: str = HEALTHY,
        concepts: int = 8,
        features: str = _DEFAULT.features,
        transform: str = _DEFAULT.transform,
    ) -> s.PatientDetail:
        """What is unusual in a patient against a group, and what the classifier says.

        Parameters
        ----------
        name
            The patient.
        against
            A diagnosis. Where the healthy are meant and there are too few, the own diagnosis, then the largest group.
        concepts
            Unusual concepts listed, at most.
        features, transform
            What of the barcodes is compared; see `PatientConfig`.

        Raises
        ------
        CytosaeError
            No such patient or group.
        """
        with self._lock:
            patient, source, rows = self.open_patient(name)
            config = PatientConfig(concepts=concepts, features=features, transform=transform)
            caveats: list[str] = []
            known = other_patients(patient.data, patient.row) if "diagnosis" in patient.data.obs else {}
            groups = {group: members for group, members in known.items() if len(members) >= LEAST}
            if against not in known and against != HEALTHY:
                raise NotFound(f"{against}: no patient with this diagnosis; there are {', '.join(known)}.")
            comparison = None
            for group, members in reference_groups(known, [against], caveats).items():
                comparison = compare_with_group(patient, group, members, config)
            if comparison is None and (instead := _instead(groups, patient.known("diagnosis"), against)) is not None:
                small: list[str] = []
                members = reference_groups(known, [instead], small)[instead]
                comparison = compare_with_group(patient, instead, members, config)
                caveats += [f"compared with {instead} instead", *small]
            prediction = predict(patient, self._reader.barcodes.parent / CLASSIFICATION, self._sha256, config, caveats)
            return s.PatientDetail(
                patient=self.row(patient.row),
                groups=[s.PatientGroup(name=group, patients=len(members)) for group, members in groups.items()],
                against=None if comparison is None else self._against(comparison, source, rows),
                barcode=_barcode_with_group(patient.barcode, comparison),
                prediction=None if prediction is None else self._prediction(patient, prediction, source, rows),
                caveats=caveats,
            )

    def _against(self, comparison: Against, source: DataSet, rows: NDArray[np.int64]) -> s.AgainstGroup:
        cells = [
            s.ScoredCell(**cell_fields(source, ref), score=comparison.scores[position])
            for position, ref in zip(comparison.shown, source.refs(rows[comparison.shown]), strict=True)
        ]
        return s.AgainstGroup(
            name=comparison.name,
            patients=len(comparison.rows),
            rule=comparison.rule,
            unit=comparison.representation.unit,
            unusual=comparison.count,
            unusual_by_counts=comparison.by_counts,
            concepts=[s.UnusualConcept(**record) for record in comparison.records()],
            cells=cells,
        )

    def _prediction(
        self, patient: Patient, prediction: Prediction, source: DataSet, rows: NDArray[np.int64]
    ) -> s.Predicted:
        order = np.argsort(-prediction.probability, kind="stable")
        return s.Predicted(
            predicted=prediction.predicted,
            truth=patient.known(prediction.target),
            unseen=prediction.unseen,
            classes=[
                s.ClassProbability(name=prediction.model.classes[c], probability=prediction.probability[c])
                for c in order
            ],
            concepts=[
                s.AddingConcept(latent=int(latent), adds=prediction.adds[latent]) for latent in prediction.concepts
            ],
            cells=[
                s.AddingCell(**cell_fields(source, ref), adds=prediction.cells[position])
                for position, ref in zip(prediction.shown, source.refs(rows[prediction.shown]), strict=True)
            ],
        )

    def compare(
        self,
        first: str,
        second: str,
        adjust: str | None = None,
        features: str = _COMPARED.features,
        transform: str = _COMPARED.transform,
        order: str = _COMPARED.order,
    ) -> s.ComparisonInfo:
        """Two groups of patients; ``rest`` as the second is everybody else.

        Parameters
        ----------
        first, second, adjust
            See `cytosae.analysis.compare_groups`.
        features, transform, order
            What of the barcodes is compared, and what the concepts are listed by; see `CompareConfig`.

        Raises
        ------
        CytosaeError
            No such group or column, or groups that cannot be compared.
        """
        config = CompareConfig(features=features, transform=transform, order=order)
        with self._lock:
            comparison = compare_patients(self.barcodes, first, second, config, adjust=adjust)
        table = comparison.table
        seen = np.flatnonzero((table["first"].to_numpy() > 0) | (table["second"].to_numpy() > 0))
        difference = np.abs(table["difference"].to_numpy()[seen])
        latents = seen[np.argsort(-difference, kind="stable")[:_SCATTER]]
        tops = [[s.Difference(**row) for row in as_records(table.loc[chosen])] for chosen in comparison.favour]
        return s.ComparisonInfo(
            first=s.PatientGroup(name=first, patients=int((comparison.side > 0).sum())),
            second=s.PatientGroup(name=second, patients=int((comparison.side < 0).sum())),
            unit=Representation(features, transform).unit,
            tested=int(table["tested"].sum()),
            scatter=s.Scatter(
                latent=latents.tolist(),
                first=table["first"].to_numpy()[latents].tolist(),
                second=table["second"].to_numpy()[latents].tolist(),
            ),
            top_first=tops[0],
            top_second=tops[1],
            caveats=comparison.caveats,
            warnings=[s.WarningText(kind=warning.kind, text=warning.text) for warning in comparison.warnings],
        )

    def compared_images(self, first: str, second: str, latent: int) -> s.ComparisonImages:
        """The cells of both groups with most of a latent: of the five patients of each with the largest mean activation
        the cell with the largest m_i[s].
        """
        data = self.barcodes
        self._reader.first.check_latent(latent)
        side = sides(patient_column(data, "diagnosis"), first, second, "diagnosis")
        means = np.asarray(data.layers["mean_activation"][:, latent], np.float64)
        halves = [self._strongest(data, np.flatnonzero(side == sign), means, latent) for sign in (1, -1)]
        maps = self._activations.cell_maps(
            latent, [(source, about["row"]) for half in halves for source, about in half]
        )
        top = max((float(map_.max()) for map_ in maps if map_ is not None), default=0.0)
        left = iter(maps)
        cells = [
            [
                s.PatientCell(**about, map=None if (map_ := next(left)) is None else encoded(map_, top))
                for _, about in half
            ]
            for half in halves
        ]
        return s.ComparisonImages(first=cells[0], second=cells[1], top=top)

    def _strongest(
        self, data: ad.AnnData, patients: NDArray[np.int64], means: NDArray[np.float64], latent: int
    ) -> list[tuple[DataSet, dict[str, Any]]]:
        """The patients with the largest means, and of each the cell with most of a latent."""
        order = patients[np.argsort(-means[patients], kind="stable")][:_EACH]
        cells = []
        for row in order[means[order] > 0]:
            source, rows = self._patient_cells(data, int(row))
            values = source.activations(rows)[1][:, [latent]].toarray()[:, 0]
            best = int(values.argmax())
            (ref,) = source.refs(rows[[best]])
            cells.append(
                (
                    source,
                    {**cell_fields(source, ref), "patient": str(data.obs_names[row]), "value": float(values[best])},
                )
            )
        return sorted(cells, key=lambda cell: -cell[1]["value"])


def cell_fields(source: DataSet, ref: dict[str, Any]) -> dict[str, Any]:
    """What the answers say of a cell."""
    return {"dataset": source.name, **{key: ref[key] for key in ("row", "cell_id", "label")}}


def _instead(groups: dict[str, NDArray[np.int64]], own: str | None, against: str) -> str | None:
    """The group that a patient is compared with where there are too few of the healthy."""
    if against != HEALTHY or not groups:
        return None
    return own if own in groups else max(groups, key=lambda name: len(groups[name]))


def _plain(value: Any) -> str | float | int | None:
    """A value of the table as JSON has it."""
    if pd.isna(value):
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    return value.item() if isinstance(value, np.number) else value if isinstance(value, int | float) else str(value)


def _barcode_with_group(counts: NDArray[np.float32], against: Against | None) -> s.BarcodeBeside:
    """The latents with the largest values of patient or group, largest first, and after them the rest of the chosen; the
    patient's counts alone where there is no group.
    """
    if against is None:
        patient, other, chosen = counts, np.zeros_like(counts), np.zeros(0, np.int64)
    else:
        patient, other, chosen = against.values, against.of_group.mean(axis=0), against.chosen
    largest = np.maximum(patient, other)
    latents = np.argsort(-largest, kind="stable")[:_BARCODE]
    latents = latents[largest[latents] > 0]
    latents = np.concatenate([latents, np.setdiff1d(chosen, latents)])
    return s.BarcodeBeside(latents=latents.tolist(), patient=patient[latents].tolist(), group=other[latents].tolist())
