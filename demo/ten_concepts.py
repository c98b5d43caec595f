"""The ten most interesting concepts of real cells, with their pictures and what the program says of them.

``python -m demo.ten_concepts --cells FOLDER -o STUDY`` takes 150 cells of each type of pbc, those with expert
attributes first, makes a study of them with the built-in backbone, describes its concepts and tests the sentences. Then it
writes a strip of pictures of each of the ten concepts that the explorer lists first to ``docs/images/concepts/``, and prints
their sentences for docs/explanation/descriptions.md. Whether they are right is for a reader to say.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cytosae.cells import load_squashed, read_cells
from cytosae.explorer.dataset import DataSet
from cytosae.explorer.reader import StudyReader
from cytosae.explorer.typical import beside_the_cell
from cytosae.report.overlays import overlay

IMAGES = Path(__file__).parents[1] / "docs" / "images" / "concepts"
EACH, SEEN = 150, 8000
"""Cells of each type, and images that the training sees."""
_EDGE, _SHOWN = 112, 6
"""Pixels of a picture, a multiple of the rows of patches; and pictures in a strip."""


def some_cells(folder: Path, each: int) -> pd.DataFrame:
    """Cells of pbc, `each` of a type, with expert attributes where there are enough such."""
    cells = pd.read_csv(folder / "cells.csv").query("dataset == 'pbc'")
    noted = pd.read_csv(folder / "pbc_attributes.csv")["path"]
    drawn = cells.sample(frac=1, random_state=0)
    drawn = drawn.iloc[np.argsort(~drawn["path"].isin(noted), kind="stable")].groupby("label").head(each).sort_index()
    return drawn.assign(path=[f"{(folder / path).absolute()}" for path in drawn["path"]]).drop(columns=["mask"])


def make_study(folder: Path, study: Path, each: int) -> None:
    """The study: cells, autoencoder, measurements, descriptions and their tests."""
    study.mkdir(parents=True, exist_ok=True)
    table = study.with_name(f"{study.name}-cells.csv")
    some_cells(folder, each).to_csv(table, index=False)
    attributes = ["--attributes", f"{folder / 'pbc_attributes.csv'}"]
    for command in (
        ["run", f"{table}", "--study", f"{study}", "--no-describe", "--images", f"{SEEN}"],
        ["measure", f"{study}"],
        ["describe", f"{study}", *attributes],
        ["evaluate", f"{study}", *attributes, "--draws", "1000", "--changed-cells", "32", "--token-cells", "64"],
    ):
        subprocess.run([sys.executable, "-m", "cytosae", *command], check=True)


def listed_first(reader: StudyReader, data: DataSet, count: int) -> NDArray[np.int64]:
    """The concepts with which the explorer's list begins: by interest, one of near-duplicates, none from behind the fold."""
    leaders = data.alike == np.arange(data.n_latents)
    listed = np.flatnonzero(data.concepts & leaders & ~beside_the_cell(reader, data))
    return listed[np.argsort(-data.interest[listed], kind="stable")[:count]]


def strip(data: DataSet, cells: pd.DataFrame, latent: int) -> Image.Image:
    """Reference images of a concept, below each the same with the concept's map."""
    maps = data.reference_maps(latent)
    assert maps is not None
    rows = data.references("reference", latent)[0][:_SHOWN]
    top = float(maps.max()) or 1.0
    columns = []
    for name, map_ in zip(data.names(rows), maps, strict=False):
        pixels = load_squashed(Path(str(cells.at[name, "path"])), 2 * _EDGE)
        over = overlay(pixels, map_.astype(np.float32), top=top, smooth=True)
        columns.append(np.concatenate([pixels, over]))
    large = Image.fromarray(np.concatenate(columns, axis=1))
    return large.resize((large.width // 2, large.height // 2), Image.Resampling.LANCZOS)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cells", type=Path, required=True, help="folder with cells.csv, pbc_attributes.csv and images"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the study")
    parser.add_argument("--each", type=int, default=EACH, help="cells of each type")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the strips")
    given = parser.parse_args()
    make_study(given.cells, given.output, given.each)
    reader = StudyReader(given.output)
    data = reader.first
    cells = read_cells(given.output / "cells.parquet").set_index("cell_id")
    given.images.mkdir(parents=True, exist_ok=True)
    for number, latent in enumerate(listed_first(reader, data, given.count), 1):
        strip(data, cells, latent).save(given.images / f"{number}.jpg", quality=85, optimize=True)
        rows = data.references("reference", latent)[0]
        types = pd.Series(data.values("label", rows)).value_counts()
        shown = ", ".join(f"{count} {name}" for name, count in types.items())
        frequency = data.var["activation_frequency"].iloc[latent]
        print(f"{number}. concept {latent}, in {frequency:.1%} of the cells; reference images: {shown}")
        print(f"   {data.descriptions.get(int(latent))}")


if __name__ == "__main__":
    main()
