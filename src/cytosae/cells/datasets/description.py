"""Description of a published data set: its classes, licence, citation, where it is, and what reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from cytosae.cells.columns import COLUMNS
from cytosae.cells.datasets.tree import Tree
from cytosae.downloads import RemoteFile
from cytosae.errors import CytosaeError


@dataclass(frozen=True)
class CellClass:
    """A class as published."""

    code: str
    """As in the published folders or files."""
    label: str
    """Plain name, one vocabulary over all data sets."""
    images: int | None = None
    """Images of the class as published; None where no source was found."""


@dataclass(frozen=True)
class Reading:
    """What a reader found: a row per image, the files that it read besides images, and remarks for the user."""

    cells: pd.DataFrame
    used: frozenset[Path] = frozenset()
    notes: tuple[str, ...] = ()


Reader = Callable[[Tree, Path], Reading]
"""Lists the cells of a tree; images that it has to make go below the folder that it is given."""


@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes
    ----------
    name, title, tissue
        Short name for the command line, full title, what was smeared.
    classes
        In the published order; what a class stands for is `classes_are`.
    groupings
        Coarser or finer labels for the same codes, by number of classes; a code without one has no label there.
    default_grouping
        Which of them is meant where none is asked for.
    images, size, image_format
        Number of images, edge lengths in pixels, file format, as published.
    licence, citation, doi, data_doi, source
        As published; None where it could not be verified.
    download
        Approximate size of what has to be fetched.
    files, record
        Files with stable addresses, or the address of a Zenodo record, which lists its files with checksums.
    fetched
        Pattern of the files to be fetched where nothing else is asked for.
    by_hand
        Where to click and what to put where.
    layout
        The published layout, in one line.
    oddities
        What surprises in it.
    attributes
        Columns that experts filled in for each cell.
    patients
        How many there are, where the images say whose they are.
    """

    name: str
    title: str
    tissue: str
    classes: tuple[CellClass, ...]
    images: int | None
    size: str
    image_format: str
    licence: str | None
    citation: str
    doi: str | None
    data_doi: str | None
    source: str
    download: str | None
    layout: str
    by_hand: str
    reader: Reader = field(repr=False)
    files: tuple[RemoteFile, ...] = ()
    record: str | None = None
    fetched: str = "*"
    oddities: tuple[str, ...] = ()
    classes_are: Literal["label", "diagnosis"] = "label"
    groupings: Mapping[int, Mapping[str, str | None]] = field(default_factory=dict)
    default_grouping: int | None = None
    attributes: tuple[str, ...] = ()
    patients: int | None = None

    def labels(self, grouping: int | None = None) -> dict[str, str | None]:
        """Label of every code.

        Raises
        ------
        CytosaeError
            The data set has no grouping into that many classes.
        """
        number = self.default_grouping if grouping is None else grouping
        if number is None or (not self.groupings and number == len(self.classes)):
            return {one.code: one.label for one in self.classes}
        if number not in self.groupings:
            known = ", ".join(map(str, self.groupings)) or str(len(self.classes))
            raise CytosaeError(f"--classes {number}: {self.name} can be labelled with {known} classes.")
        return dict(self.groupings[number])

    def read(self, tree: Tree, made: Path, grouping: int | None = None) -> Reading:
        """List the cells of a tree.

        Parameters
        ----------
        tree
            Files in the published layout.
        made
            Folder for images that are not files in the published layout.
        grouping
            Number of classes, where there is a choice.

        Returns
        -------
        Cells with all of `cytosae.cells.COLUMNS`, ``code`` and whatever else is known of them; ``path`` and ``mask``
        are absolute, ``cell_id`` is the data set's name and the published path.
        """
        names = self.labels(grouping)
        reading = self.reader(tree, made)
        cells = reading.cells.copy()
        cells["dataset"] = self.name
        cells[self.classes_are] = [names.get(code) for code in cells["code"]]
        cells["cell_id"] = [f"{self.name}/{cell}" for cell in cells["cell_id"]]
        for column in COLUMNS:
            if column not in cells:
                cells[column] = None
        others = [column for column in cells if column not in COLUMNS]
        again = cells["cell_id"].duplicated()
        used = reading.used | {Path(path) for path in cells.loc[again, "path"]}
        notes = (
            (*reading.notes, f"{int(again.sum())} images are there more than once") if again.any() else reading.notes
        )
        cells = cells[~again].sort_values("cell_id", ignore_index=True)
        return Reading(cells[[*COLUMNS, *others]], used, notes)
