"""What is in the AnnData files of concepts and of barcodes: every entry, once, for writers, readers and documentation.

A column of ``obs`` that is not listed is the user's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cytosae.segmentation.registry import FLAGS, MEASUREMENTS, SEGMENTED

Role = Literal["key", "own", "attribute"]
"""What a column of ``obs`` is: ``key`` names the row, ``own`` describes it alone, ``attribute`` can group rows."""

KINDS = {
    "reference": "reference images, largest value first",
    "spread": "reference images with at most one of a patient (`--per-patient`); needs patients",
    "random": "random draw among all cells that activate the latent (`--draw-seed`)",
    "middle": "of 100 drawn cells those around the median",
    "low": "of 100 drawn cells those around the lowest tenth",
}
"""Kinds of reference images that are kept."""
GROUPED = ("label", "diagnosis")
"""Columns by whose values the activation of every latent is kept."""
POSITION = "position_share"
STAIN_SHARE, CELL_SHARE, STAIN_WORD = "stain_share", "cell_share", "stain_response"
"""Column of ``var``; earlier versions did not write it."""
WHY_NOT, CONCENTRATION = "not_concept", "concentration"
SHOWN, REPRODUCIBILITY = "shown_cells", "reproducibility"
"""Columns of ``var``; earlier versions did not write them."""
ANNOTATION, VERDICT, NAMES = "annotation", "verdict", "annotation_names"
"""Columns of ``var``, once raters have named latents."""
DESCRIPTION = "description"
"""Column of ``var``, after `cytosae describe`."""
TAUGHT = "taught"
ARTEFACT = "artefact"
"""Column of ``var``, where concepts were taught."""


@dataclass(frozen=True)
class Entry:
    """An element of an AnnData, or a column of its tables."""

    slot: str
    """``X``, ``layers``, ``obs``, ``var``, ``obsm``, ``varm`` or ``uns``."""
    name: str
    """Empty for ``X``."""
    dtype: str
    """As numpy and pandas name it; ``category`` is text."""
    meaning: str
    unit: str = ""
    role: Role = "own"
    """Of a column of ``obs``."""
    users: bool = False
    """The column comes from the user's table, if it has one of that name."""

    @property
    def element(self) -> str:
        """How code reads it: ``var["label_entropy"]``."""
        return f'{self.slot}["{self.name}"]' if self.name else self.slot


_STATISTICS = (
    Entry("var", "activation_frequency", "float64", "share of cells with m_i[s] > 0", "0 to 1"),
    Entry("var", "mean_activation", "float64", "mean of m_i[s] over those cells", "activation"),
    Entry(
        "var", "label_entropy", "float64", "entropy of the reference images' labels, weighted by their values", "nats"
    ),
    Entry(
        "var",
        "n_references",
        "int32",
        "reference images with a value above 0; few make the entropy vague",
        "images",
    ),
    Entry("var", "is_concept", "bool", "a discovered concept (`--concept-rule`): `not_concept` is missing"),
)
STATISTICS = tuple(entry.name for entry in _STATISTICS)
"""Columns of ``var`` that an encoding makes."""

CONCEPTS = (
    Entry("X", "", "int32", "a_i[s]: tokens of the cell with activation above tau, CSR", "tokens"),
    Entry(
        "layers", "mean_activation", "float32", "m_i[s]: mean activation over all tokens of the cell, CSR", "activation"
    ),
    Entry("obs", "cell_id", "object", "name of the cell, the index", role="key", users=True),
    Entry("obs", "dataset", "category", "data set", role="key", users=True),
    Entry("obs", "patient", "category", "patient", role="key", users=True),
    Entry("obs", "path", "category", "file or URL of the image", users=True),
    Entry("obs", "mask", "category", "file or URL of the mask", users=True),
    Entry("obs", "concepts", "category", "file of the true structures, of synthetic cells", users=True),
    Entry("obs", "label", "category", "cell type", users=True),
    Entry("obs", "diagnosis", "category", "diagnosis of the patient", role="attribute", users=True),
    Entry("obs", "split", "category", "part of a published division", role="attribute", users=True),
    Entry("obs", "width", "int64", "width of the upright image", "pixels"),
    Entry("obs", "height", "int64", "height of the upright image", "pixels"),
    Entry("obs", "file_sha256", "category", "SHA-256 of the image's file"),
    Entry("obs", "file_intensity", "category", "scaling of an image with more than 8 bits a channel"),
    Entry("obs", "file_frame", "category", "what is shown of the image: rule, left, top, right, bottom", "pixels"),
    Entry("obs", "file_note", "category", "what else was done to the pixels"),
    *(Entry("obs", m.name, "float32", f"{m.meaning} (`cytosae measure`)", m.unit) for m in MEASUREMENTS),
    Entry("obs", SEGMENTED, "category", "how the cell was found: `mask`, which came with the data, or `colour`"),
    Entry("obs", FLAGS, "category", "what can be doubted of its outline, several joined by a bar; empty where nothing"),
    *_STATISTICS,
    Entry(
        "var",
        POSITION,
        "float32",
        "share of its variance that is the patch's place in the picture (eta squared, of at most 256 drawn cells)",
        "0 to 1",
    ),
    Entry("var", TAUGHT, "category", "name of the taught concept; missing for latents of the autoencoder"),
    Entry(
        "var",
        WHY_NOT,
        "category",
        "why it is no concept: `weak`, log10 of the mean activation is not above `--concept-threshold`; where more is "
        "asked than that, `few cells` show it, or it is `scattered` over cells nearly as by chance",
    ),
    Entry("var", SHOWN, "int64", "cells with an active patch, a_i[s] > 0", "cells"),
    Entry(
        "var",
        REPRODUCIBILITY,
        "float64",
        "share of the other trainings in which it is found again; of autoencoders pooled from several seeds",
        "0 to 1",
    ),
    Entry(
        "var",
        CONCENTRATION,
        "float64",
        "variance of a_i[s] over cells, against that of the same patches shuffled over all cells; 1 is chance",
    ),
    Entry("var", DESCRIPTION, "category", "what it shows, a sentence made of facts, after `cytosae describe`"),
    Entry(
        "var",
        STAIN_SHARE,
        "float32",
        "variance of a_i[s] over pictures of one cell in other stains and light, as a share of that and the variance over "
        "cells, after `cytosae stain-response`",
        "0 to 1",
    ),
    Entry(
        "var",
        CELL_SHARE,
        "float32",
        "share of the variance of a_i[s] over pictures and cells that is the cell's",
        "0 to 1",
    ),
    Entry("var", STAIN_WORD, "category", "`morphology` (stain share below 0.2), `mixed`, or `stain` (above 0.5)"),
    Entry(
        "var", ARTEFACT, "bool", "in the block of artefacts that a refinement kept; of refined autoencoders with one"
    ),
    Entry("var", ANNOTATION, "category", "name that most raters gave, after `cytosae annotations apply`"),
    Entry("var", VERDICT, "category", "verdict of more than half of the raters"),
    Entry("var", NAMES, "category", "all names with their raters"),
    *(
        entry
        for kind, meaning in KINDS.items()
        for entry in (
            Entry("varm", f"{kind}_cells", "int64", f"{meaning}: rows of the cells; -1 where there are fewer"),
            Entry("varm", f"{kind}_values", "float32", f"{meaning}: m_i[s] of these cells", "activation"),
        )
    ),
    *(
        entry
        for column in GROUPED
        for entry in (
            Entry("varm", f"{column}_mean", "float32", f"mean of m_i[s] over the cells of each {column}", "activation"),
            Entry(
                "varm", f"{column}_frequency", "float32", f"share of each {column}'s cells with m_i[s] > 0", "0 to 1"
            ),
        )
    ),
    Entry("uns", "groups", "dict", "names of the labels and diagnoses, and the number of their cells"),
    Entry(
        "uns",
        "cytosae",
        "dict",
        "settings, digests of the inputs (`sae`: that of the weights' file), backbone, version",
    ),
)
"""``concepts/<dataset>.h5ad``: ``obs`` are cells, ``var`` latents."""

BARCODES = (
    Entry("X", "", "float32", "barcode a_p[s]: mean over the patient's images of a_i[s] (Eq. 3)", "tokens"),
    Entry("layers", "standard_error", "float32", "of `X`, from the spread over the patient's images", "tokens"),
    Entry("layers", "share", "float32", "share of the patient's images with a_i[s] > 0", "0 to 1"),
    Entry("layers", "share_error", "float32", "standard error of `share`, binomial, not 0 at 0 and 1", "0 to 1"),
    Entry("layers", "top", "float32", "mean of the 5 largest a_i[s]; of all, where the patient has fewer", "tokens"),
    Entry("layers", "top_error", "float32", "standard error of `top`, from the jackknife", "tokens"),
    Entry("layers", "strongest", "float32", "largest a_i[s]", "tokens"),
    Entry("layers", "strongest_error", "float32", "standard error of `strongest`, from the jackknife", "tokens"),
    Entry("layers", "dispersion", "float32", "standard deviation of a_i[s] over the patient's images", "tokens"),
    Entry("layers", "dispersion_error", "float32", "standard error of `dispersion`, from the moments", "tokens"),
    Entry(
        "layers", "third_moment", "float32", "of barcodes by cell type: third central moment of a_i[s], to pool types"
    ),
    Entry("layers", "fourth_moment", "float32", "of barcodes by cell type: fourth central moment of a_i[s]"),
    Entry("layers", "mean_activation", "float32", "mean over the patient's images of m_i[s]", "activation"),
    Entry("layers", "active_cells", "int32", "images of the patient with m_i[s] > 0", "images"),
    Entry("obs", "dataset", "category", "data set", role="key", users=True),
    Entry("obs", "patient", "category", "patient", role="key", users=True),
    Entry("obs", "cell_type", "category", "label of the cells, of barcodes by cell type", role="key"),
    Entry("obs", "n_cells", "int64", "images of the patient", "images"),
    Entry("obs", "diagnosis", "category", "diagnosis; missing where there are two", role="attribute", users=True),
    Entry("obs", "conflicting_diagnoses", "category", "the diagnoses of a patient with several, joined by a bar"),
    Entry(
        "obs", "image_width", "category", "widths of the patient's images, joined by a bar", "pixels", role="attribute"
    ),
    Entry(
        "obs",
        "image_height",
        "category",
        "heights of the patient's images, joined by a bar",
        "pixels",
        role="attribute",
    ),
    Entry("obs", "image_format", "category", "endings of the images' files, joined by a bar", role="attribute"),
    Entry("var", "activation_frequency", "float64", "share of the cells of all patients with m_i[s] > 0", "0 to 1"),
    Entry("var", "mean_activation", "float64", "mean of m_i[s] over those cells", "activation"),
    Entry("var", "is_concept", "bool", _STATISTICS[-1].meaning),
    Entry("var", TAUGHT, "category", "name of the taught concept; missing for latents of the autoencoder"),
    Entry("var", ARTEFACT, "bool", "left out as an artefact: 0 in `X` and all layers; with `--artefacts leave-out`"),
    Entry("obsm", "cell_types", "float64", "fractions of the patient's labelled cells, by cell type", "0 to 1"),
    Entry(
        "obsm",
        "largest_counts",
        "uint16",
        "of barcodes by cell type: the 6 largest a_i[s], rows x latents x 6, to pool types",
        "tokens",
    ),
    Entry("uns", "cell_types", "object", "the cell types"),
    Entry("varm", "disease_barcodes", "float64", "a_d[s]: mean of the barcodes of the disease's patients", "tokens"),
    Entry("uns", "diseases", "object", "the diagnoses"),
    Entry("uns", "cytosae", "dict", "settings, inputs, version, and `shared_cells`, those found under two patients"),
)
"""``cohort/barcodes.h5ad``: ``obs`` are patients, or a patient's cells of one type, ``var`` latents."""

IMAGE_COLUMNS = tuple(entry.name for entry in BARCODES if entry.name.startswith("image_"))
"""What the images of a patient are like as files, several values joined by a bar."""


def names(entries: Iterable[Entry], slot: str, *roles: Role) -> list[str]:
    """Names of the entries of a slot, such as ``obs``; with roles only of those columns."""
    return [entry.name for entry in entries if entry.slot == slot and (not roles or entry.role in roles)]


def grouping(entries: Iterable[Entry], columns: Iterable[str], keys: Iterable[str] = ()) -> list[str]:
    """Columns of ``obs`` that can group rows: the user's own, attributes, and those of the keys that are named."""
    excluded = {*names(entries, "obs", "key", "own")} - {*keys}
    return [column for column in columns if column not in excluded]


def meanings(entries: Iterable[Entry], *slots: str) -> dict[str, str]:
    """Meaning of each entry of some slots, by name (``X`` for itself); goes into ``uns["cytosae"]``."""
    return {entry.name or entry.slot: entry.meaning for entry in entries if entry.slot in slots}


def check(entries: Iterable[Entry], slot: str, elements: Mapping[str, Any]) -> None:
    """Refuse to write what the schema does not have, or has as another type.

    Parameters
    ----------
    entries
        `CONCEPTS` or `BARCODES`.
    slot
        Part of the AnnData that gets them, such as ``obs``.
    elements
        Arrays or columns by name. In ``obs`` other columns are the user's.

    Raises
    ------
    ValueError
        Names the element, its type and that of the schema.
    """
    known = {entry.name: entry for entry in entries if entry.slot == slot}
    for name, values in elements.items():
        if name is None:  # `X`, which anndata lists among the layers from 0.13 on
            continue
        entry = known.get(str(name))
        dtype = str(getattr(values, "dtype", type(values).__name__))
        if entry is None and slot == "obs":
            continue
        empty = hasattr(values, "isna") and values.isna().all()
        if entry is None or not (dtype == entry.dtype or entry.users or empty):
            raise ValueError(f'{slot}["{name}"] is {dtype}; the schema has {entry and entry.dtype}')
