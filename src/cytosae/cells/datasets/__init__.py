"""Published data sets: what they are, how they are had, and readers of their layouts as published."""

from __future__ import annotations

import difflib

from cytosae.cells.datasets.acevedo import ACEVEDO
from cytosae.cells.datasets.bccd import BCCD
from cytosae.cells.datasets.bloodmnist import BLOODMNIST
from cytosae.cells.datasets.bmc import BMC
from cytosae.cells.datasets.description import CellClass, DataSet, Reading
from cytosae.cells.datasets.fetching import Fetched, fetch
from cytosae.cells.datasets.hehr import HEHR
from cytosae.cells.datasets.matek19 import MATEK19
from cytosae.cells.datasets.mll23 import MLL23
from cytosae.cells.datasets.preparation import TABLE, Prepared, prepare
from cytosae.cells.datasets.segmentation_wbc import SEGMENTATION_WBC
from cytosae.cells.datasets.tree import Tree
from cytosae.cells.datasets.wbcatt import WBCATT
from cytosae.downloads import RemoteFile
from cytosae.errors import CytosaeError

DATASETS = {one.name: one for one in (MLL23, ACEVEDO, MATEK19, BMC, HEHR, BLOODMNIST, WBCATT, SEGMENTATION_WBC, BCCD)}
"""All by name; the first five are those of the paper."""


def find(name: str) -> DataSet:
    """The data set of that name.

    Raises
    ------
    CytosaeError
        There is none; the message names those there are.
    """
    if name.lower() in DATASETS:
        return DATASETS[name.lower()]
    near = difflib.get_close_matches(name.lower(), DATASETS, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise CytosaeError(f"{name}: no such data set.{meant} There are: {', '.join(DATASETS)}.")


__all__ = [
    "DATASETS",
    "TABLE",
    "CellClass",
    "DataSet",
    "Fetched",
    "Prepared",
    "Reading",
    "RemoteFile",
    "Tree",
    "fetch",
    "find",
    "prepare",
]
