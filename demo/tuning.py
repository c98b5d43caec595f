"""Tuning curves of the demonstration's first concepts, for the documentation: ``python -m demo.tuning``.

Needs the study of ``python -m demo``; measures the curves (`cytosae evaluate --tuning 12`) where they are not there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cytosae.concepts.storage import TUNING
from cytosae.explorer.reader import StudyReader
from cytosae.report.style import BLUE, MUTED, NULL, RULE, axes_at, drawing, text_at
from cytosae.synthetic import KNOBS
from demo.study import STUDY
from demo.ten_concepts import listed_first

FIGURE = Path(__file__).parents[1] / "docs" / "images" / "tuning.png"
_COLUMN, _ROW, _LEFT, _TOP = 0.55, 0.62, 3.3, 1.35
"""Inches."""


def tuning_figure(curves: pd.DataFrame, sentences: dict[int, str]) -> Figure:
    """A row for each concept, a column for each knob.

    Parameters
    ----------
    curves
        ``latent``, ``knob``, ``change``, ``low``, ``high``, ``responds`` (`cytosae.concepts.evaluation.tuning`).
    sentences
        Latents in the order of the rows -> their descriptions.
    """
    with drawing(_LEFT + _COLUMN * len(KNOBS) + 0.1, _TOP + _ROW * len(sentences) + 0.1, layout=None) as figure:
        for column, knob in enumerate(KNOBS):
            left = _LEFT + _COLUMN * column + 0.12
            text_at(figure, left, _TOP - 0.08, knob, rotation=55, va="bottom", fontsize=8)
        for row, (latent, sentence) in enumerate(sentences.items()):
            mine, top = curves[curves["latent"] == latent], _TOP + _ROW * row
            lines = textwrap.wrap(f"{latent}: {sentence}", 60)
            text = "\n".join([*lines[:3], *(["..."] if len(lines) > 3 else [])])
            text_at(figure, 0.08, top + 0.03, text, fontsize=6.5)
            most = max(0.5, float(np.abs(mine[["low", "high"]].to_numpy()).max()))
            for column, knob in enumerate(KNOBS):
                curve = mine[mine["knob"] == knob]
                axes = axes_at(figure, _LEFT + _COLUMN * column, top, _COLUMN - 0.06, _ROW - 0.08)
                colour = BLUE if curve["responds"].any() else NULL
                steps = np.arange(len(curve))
                axes.axhline(0, color=RULE, lw=0.8)
                axes.fill_between(steps, curve["low"], curve["high"], color=colour, alpha=0.25, lw=0)
                axes.plot(steps, curve["change"], color=colour, lw=1.4)
                axes.set(xticks=[], yticks=[], ylim=(-most, most))
                axes.grid(visible=False)
                for side in axes.spines.values():
                    side.set(visible=True, color=RULE)
            note = f"±{most:.1f}"
            text_at(figure, _LEFT - 0.06, top + _ROW - 0.2, note, fontsize=6.5, color=MUTED, ha="right")
    return figure


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, default=FIGURE)
    given = parser.parse_args()
    path = given.study / "quality" / TUNING
    if not path.is_file():
        subprocess.run([sys.executable, "-m", "cytosae", "evaluate", f"{given.study}", "--tuning", "12"], check=True)
    curves, reader = pd.read_parquet(path), StudyReader(given.study)
    latents = listed_first(reader, reader.first, given.count)
    known = reader.first.descriptions
    figure = tuning_figure(curves, {int(latent): known.get(int(latent), "") for latent in latents})
    figure.savefig(given.output, dpi=110)
    print(curves.groupby("latent")["responds"].any().mean(), "of the concepts respond to a knob")


if __name__ == "__main__":
    main()
