"""The figures of a study's page: a new one is a function that draws it and an entry of `STUDY_FIGURES`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from cytosae.artefacts import Manifest, same_weights
from cytosae.concepts import read_concepts, read_datasets, untaught
from cytosae.concepts.evaluation import read_figures
from cytosae.report.curves import training_curves
from cytosae.report.inline import encode_png
from cytosae.report.overview import threshold_counts
from cytosae.report.quality_figures import quality_summary
from cytosae.report.style import save
from cytosae.sae import measured_on, read_metrics


@dataclass(frozen=True)
class StudyFigure:
    """A figure of a study: ``report/figures/NAME.png`` and ``.svg``."""

    name: str
    draw: Callable[[Path], Figure]
    """From the folder of a study."""
    has_data: Callable[[Path], bool] = lambda study: True
    """Whether a study has what the figure shows."""
    heading: str = ""
    """Of its section of the page; without one the figure is a file alone."""
    text: str = ""
    """Below the heading."""
    alt: str = ""


def is_measured(study: Path) -> bool:
    """Whether the quality measures have been taken of these concepts."""
    measured, concepts = Manifest.load(study / "quality"), Manifest.load(study / "concepts")
    if measured is None or concepts is None:
        return False
    known = all(measured.inputs.get(name) == value for name, value in untaught(concepts.inputs).items())
    return known and same_weights(measured.inputs["sae"], concepts.inputs["sae"])


def is_trained(study: Path) -> bool:
    """Whether the autoencoder was trained on these cells, not given."""
    sae = Manifest.load(study / "sae")
    return sae is not None and "given" not in sae.parameters


def _thresholds(study: Path) -> Figure:
    means = {}
    for name in read_datasets(study / "concepts"):
        data = read_concepts(study / "concepts", name, matrices=False)
        means[name] = data.var["mean_activation"].to_numpy()
    threshold = float(data.uns["cytosae"]["parameters"]["concept_threshold"])
    return threshold_counts(means, concept_threshold=threshold)


def _quality(study: Path) -> Figure:
    return quality_summary(read_figures(study), title=study.absolute().name)


def _training(study: Path) -> Figure:
    sae = Manifest.load(study / "sae")
    assert sae is not None
    return training_curves(read_metrics(study / "sae"), measured_on(sae.summary, sae.inputs))


STUDY_FIGURES = (
    StudyFigure("thresholds", _thresholds),
    StudyFigure(
        "quality",
        _quality,
        is_measured,
        "Are the concepts to be believed?",
        "Each measure of the latents beside simpler directions among the same tokens and beside a null, with 95 % "
        "intervals. Best latents are chosen on one half of the cells and judged on the other.",
        "Quality measures",
    ),
    StudyFigure("training", _training, is_trained, "Training", alt="Training curves"),
)
"""In the order of the page."""


def figures_of_study(study: Path) -> list[StudyFigure]:
    """The figures for which a study has data."""
    return [figure for figure in STUDY_FIGURES if figure.has_data(study)]


def draw_study_figures(study: Path, folder: Path) -> Iterator[tuple[StudyFigure, str]]:
    """Draw them into a folder; each that the page shows, with its PNG in base64."""
    for figure in figures_of_study(study):
        save(figure.draw(study), folder / figure.name)
        if figure.heading:
            yield figure, encode_png(folder / f"{figure.name}.png")
