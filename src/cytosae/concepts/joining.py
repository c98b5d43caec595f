"""One latent in several data sets: statistics side by side, from one laboratory to the next, from blood to marrow."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cytosae.concepts.dictionary import other_dictionary, same_dictionary
from cytosae.concepts.schema import STATISTICS
from cytosae.concepts.storage import read_concepts, read_datasets, read_inputs
from cytosae.errors import CytosaeError


def is_joined_statistics(path: Path) -> bool:
    """Whether the columns of a table, .csv or .parquet, are those of `joined_statistics`.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, nrows=0, index_col=0)
    columns = [str(name).rpartition("/") for name in table.columns]
    statistics = {name for dataset, _, name in columns if dataset != "all"}
    return table.index.name == "latent" and statistics == {*STATISTICS} and ("all", "/", "datasets") in columns


def joined_statistics(*folders: Path) -> pd.DataFrame:
    """Statistics of every latent in every data set of one or more folders of concepts.

    Parameters
    ----------
    folders
        Written by `encode`, all with the same autoencoder.

    Returns
    -------
    A row per latent; columns by data set and statistic, such as ``("pbc", "mean_activation")``, and
    ``("all", "datasets")``: in how many of them the latent is a discovered concept.

    Raises
    ------
    CytosaeError
        Folders of different autoencoders, whose latents have nothing to do with one another; a data set in two folders.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    first = read_inputs(folders[0])
    tables: dict[str, pd.DataFrame] = {}
    for number, folder in enumerate(folders):
        if number and not same_dictionary(inputs := read_inputs(folder), first):
            raise CytosaeError(
                f"{folder}: encoded with {other_dictionary(inputs, first)} than {folders[0]}. Latents can only be compared "
                "where they are the same: encode both with one autoencoder and the same taught concepts."
            )
        for name in read_datasets(folder):
            if name in tables:
                raise CytosaeError(f"{folder}: data set {name!r} is in another of the folders too. Rename one of them.")
            data = read_concepts(folder, name, matrices=False)
            tables[name] = data.var[list(STATISTICS)]
    table = pd.concat(tables, axis=1)
    table["all", "datasets"] = sum(table[name, "is_concept"].astype(int) for name in tables)
    return table
