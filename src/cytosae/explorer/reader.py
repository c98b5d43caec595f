"""Reads a study to look at: lazily, and changes nothing."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray

from cytosae.artefacts import CONFIG, MANIFEST, WEIGHTS, Manifest, read_json, reading_hdf5
from cytosae.cohort import BARCODES, CLASSIFICATION, COHORT, why_other_concepts
from cytosae.concepts import (
    check_encoded_with,
    concept_files,
    has_descriptions,
    is_common,
    read_datasets,
    read_facts,
    read_inputs,
    read_proposals,
    read_taught,
    schema,
    untaught,
)
from cytosae.concepts.storage import PER_LATENT, TUNING
from cytosae.console import say
from cytosae.errors import CytosaeError, NotFound
from cytosae.explorer.dataset import COMMON_SHARE, DataSet
from cytosae.explorer.directions import Directions
from cytosae.learned import why_not_learned
from cytosae.settings import PatientConfig

HEALTHY = PatientConfig().healthy
"""The diagnosis that patients are compared with, where nothing else is said."""


class StudyReader:
    """A study, opened.

    Parameters
    ----------
    folder
        Written by `cytosae run`.

    Raises
    ------
    CytosaeError
        Not such a folder: names what is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        for name in ("cells.parquet", f"sae/{WEIGHTS}", f"sae/{CONFIG}", f"concepts/{MANIFEST}"):
            if not (self.folder / name).is_file():
                raise CytosaeError(
                    f"{folder / name}: missing. Give the folder of a finished study, made by `cytosae run`."
                )
        self._manifest = self.folder / "concepts" / MANIFEST
        self._seen, self._made = self._manifest.stat().st_mtime_ns, self._recipe()
        self.datasets: dict[str, DataSet] = {}
        for name in read_datasets(self.folder / "concepts"):
            self.datasets[name] = DataSet(name, *concept_files(self.folder / "concepts", name), self._unchanged)
        taught = read_taught(self.folder)
        self.directions = Directions(self.folder / "sae" / WEIGHTS, None if taught is None else taught.directions)

    def _unchanged(self) -> None:
        try:
            changed = self._manifest.stat().st_mtime_ns
            same = changed == self._seen or self._recipe() == self._made
        except (OSError, CytosaeError):
            same = False
        if not same:
            raise CytosaeError("the concepts have been made anew since the explorer was started. Start it again.")
        self._seen = changed

    @cached_property
    def weights_fit(self) -> bool:
        """Whether the study's autoencoder is that of its concepts."""
        try:
            check_encoded_with(self.folder)
        except CytosaeError as error:
            say(f"explorer: {error} Maps and similar latents are not shown.")
            return False
        return True

    def _recipe(self) -> tuple[Any, Any, Any] | None:
        """What the concepts are made from: stays when raters' names are written into them."""
        manifest = Manifest.load(self.folder / "concepts")
        return None if manifest is None else (dict(manifest.inputs), dict(manifest.parameters), manifest.cytosae)

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.name

    @property
    def first(self) -> DataSet:
        """The first data set: what all have in common is read there."""
        return next(iter(self.datasets.values()))

    def dataset(self, name: str) -> DataSet:
        """A data set by its name, as it stands in a path.

        Raises
        ------
        CytosaeError
            There is none of that name.
        """
        if name not in self.datasets:
            raise NotFound(f"{name}: no such data set; there are {', '.join(self.datasets)}.")
        return self.datasets[name]

    @property
    def why_not_learned(self) -> str | None:
        """What shows that the autoencoder has not learned, see `cytosae.learned`."""
        sae = Manifest.load(self.folder / "sae")
        return None if sae is None else why_not_learned(sae.summary)

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.first.about["backbone"]["grid"]
        return int(rows), int(columns)

    @property
    def tau(self) -> float:
        """Above which a patch is active."""
        return float(self.first.about["parameters"]["threshold"])

    @cached_property
    def common_everywhere(self) -> NDArray[np.bool_]:
        """Latents that nearly every cell of the study has, ``(n_latents,)``."""
        cells = np.array([data.n_cells for data in self.datasets.values()])
        frequencies = np.stack([data.var["activation_frequency"].to_numpy() for data in self.datasets.values()])
        return is_common(cells @ frequencies / cells.sum(), COMMON_SHARE)

    @cached_property
    def taught(self) -> dict[int, str]:
        """Names of taught latents, by number."""
        if schema.TAUGHT not in self.first.var:
            return {}
        return {latent: str(name) for latent, name in enumerate(self.first.var[schema.TAUGHT]) if pd.notna(name)}

    @cached_property
    def quality(self) -> pd.DataFrame | None:
        """Quality measures of each concept, by latent; None where they were not measured, or of other concepts."""
        path, manifest = self.folder / "quality" / PER_LATENT, Manifest.load(self.folder / "quality")
        inputs = untaught(read_inputs(self.folder / "concepts"))
        if manifest is None or not path.is_file() or not inputs.items() <= dict(manifest.inputs).items():
            return None
        try:
            table = pd.read_parquet(path).set_index("latent")
        except (OSError, ValueError, KeyError) as error:
            raise CytosaeError(f"{path.name}: not readable ({error}). Run `cytosae evaluate` again.") from error
        return table[[name for name in table.columns if "/" not in name]]

    @cached_property
    def _curves(self) -> pd.DataFrame | None:
        """Tuning curves of the concepts, by latent; None where they were not measured, or are of other concepts."""
        path = self.folder / "quality" / TUNING
        if self.quality is None or not path.is_file():
            return None
        return pd.read_parquet(path).sort_values("latent", kind="stable", ignore_index=True)

    def curves(self, latent: int) -> pd.DataFrame | None:
        """Tuning curves of a concept; None where there are none."""
        return None if self._curves is None else _rows_of(self._curves, latent)

    @cached_property
    def _facts(self) -> dict[str, pd.DataFrame]:
        """Facts of the concepts by data set, sorted by latent; empty where there are none of these concepts."""
        if not has_descriptions(self.folder):
            return {}
        facts = read_facts(self.folder).sort_values("latent", kind="stable")
        return {str(name): rows.reset_index(drop=True) for name, rows in facts.groupby("dataset", sort=False)}

    def facts(self, dataset: str, latent: int) -> pd.DataFrame | None:
        """Facts of a concept; None where it was not described."""
        if dataset not in self._facts:
            return None
        return _rows_of(self._facts[dataset], latent)

    @cached_property
    def _proposed(self) -> dict[tuple[str, int], dict[str, Any]]:
        table = read_proposals(self.folder) if has_descriptions(self.folder) else None
        rows = [] if table is None else table.to_dict("records")
        return {(row["dataset"], row["latent"]): {str(name): value for name, value in row.items()} for row in rows}

    def proposed(self, dataset: str, latent: int) -> dict[str, Any] | None:
        """What a model proposed to call a concept, by column; None where none was asked."""
        return self._proposed.get((dataset, latent))

    def described_places(self, dataset: str) -> dict[int, str]:
        """Where concepts lie that have a place, by latent."""
        if dataset not in self._facts:
            return {}
        table = self._facts[dataset]
        rows = table[(table["kind"] == "place") & table["passes"]]
        return dict(zip(rows["latent"].tolist(), rows["subject"].astype(str), strict=True))

    @property
    def barcodes(self) -> Path:
        """Barcodes of the patients; the file need not exist."""
        return self.folder / COHORT / BARCODES

    @cached_property
    def why_no_patients(self) -> str | None:
        """Why patients cannot be shown; None where there are barcodes of these concepts."""
        if not self.barcodes.is_file():
            return "this study has no patients: its table of cells has no column 'patient'."
        if not (why := why_other_concepts(self.barcodes, self.folder / "concepts")):
            return None
        say(f"explorer: {self.barcodes} is not of these concepts: {why}. Patients are not shown.")
        return f"the barcodes are not of these concepts: {why}. Run the study again."

    @property
    def has_patients(self) -> bool:
        """Whether there are barcodes of these concepts."""
        return self.why_no_patients is None

    @property
    def classified(self) -> bool:
        """Whether the patients were classified."""
        return self.has_patients and (self.barcodes.parent / CLASSIFICATION / MANIFEST).is_file()

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Columns that group the patients, with their values."""
        if not self.has_patients:
            return {}
        with (
            reading_hdf5(self.barcodes, "Run the study again.", name=self.barcodes.name),
            h5py.File(self.barcodes) as file,
        ):
            obs = read_elem(file["obs"])
        values_by_column = {}
        for column in schema.grouping(schema.BARCODES, obs.columns):
            values = obs[column]
            if isinstance(values.dtype, pd.CategoricalDtype) and values.nunique() <= max(2, len(obs) // 2):
                values_by_column[str(column)] = sorted(map(str, values.dropna().unique()))
        order = sorted(values_by_column, key=lambda name: (name != "diagnosis", name.startswith("image_")))
        return {name: values_by_column[name] for name in order if values_by_column[name]}

    @cached_property
    def backbone(self) -> dict[str, Any] | None:
        """The backbone that can be loaded again; None where it is not recorded."""
        path = self.folder / "backbone.json"
        return read_json(path) if path.is_file() else None

    @property
    def has_tokens(self) -> bool:
        """Whether tokens are kept on disk."""
        return (self.folder / "tokens" / MANIFEST).is_file()

    def close(self) -> None:
        """Close the files."""
        for data in self.datasets.values():
            data.close()


def _rows_of(table: pd.DataFrame, latent: int) -> pd.DataFrame | None:
    """Rows of a latent in a table that is sorted by latent; None where there are none."""
    start, stop = np.searchsorted(table["latent"].to_numpy(), [latent, latent + 1])
    return table.iloc[start:stop] if stop > start else None
