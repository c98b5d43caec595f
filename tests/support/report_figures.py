"""What the tests of the figures draw, and what they read off a figure."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from cytosae.report import Row


def latent_statistics(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    mean = 10 ** rng.uniform(-6, 0, n)
    frequency = rng.uniform(0.001, 1, n)
    mean[:9] = frequency[:9] = 0
    entropy = np.where(rng.random(n) < 0.1, np.nan, rng.uniform(0, 2, n))
    return pd.DataFrame(
        {
            "mean_activation": mean,
            "activation_frequency": frequency,
            "label_entropy": entropy,
            "is_concept": np.log10(np.maximum(mean, 1e-30)) > -3,
        }
    )


def corners(picture: np.ndarray) -> list[list[int]]:
    """Colour of each patch of a 2 x 2 grid, every patch of one colour."""
    assert (picture == picture[::2, ::2].repeat(2, 0).repeat(2, 1)).all()
    return picture[::2, ::2].reshape(4, 3).tolist()


def reference_row(name: str, count: int, strength: float = 1.0) -> Row:
    rng = np.random.default_rng(len(name))
    return Row(
        name,
        [rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(count)],
        [strength * rng.random((16, 16)) for _ in range(count)],
        ["immature_granulocyte", None, "a_very_long_label_that_does_not_fit_into_two_lines"][:count]
        + ["blast"] * (count - 3),
        [0.5 / (rank + 1) for rank in range(count)],
    )


def picture_axes(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def assert_legible(figure: Figure) -> None:
    """No text over another text or over a picture, none cut by the border of the figure."""
    drawn: list[Text] = []  # ticks beyond the limits have texts too, which are not drawn
    original = Text.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda text, renderer: drawn.append(text) or original(text, renderer))
        figure.canvas.draw()
    # Of an annotation the words alone, without the line to what they name.
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in dict.fromkeys(drawn) if text.get_text()]
    assert boxes
    for text, box in boxes:
        assert min(box.x0, box.y0, figure.bbox.x1 - box.x1, figure.bbox.y1 - box.y1) >= 0, text
    boxes += [("picture", axes.get_window_extent()) for axes in picture_axes(figure)]
    for (one, a), (other, b) in combinations(boxes, 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) <= 1 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 1, (one, other)


PATCH_LATENTS = pd.DataFrame(
    {
        "latent": [5, 40000, 7, 8, 9],
        "activation": [0.5, 3.0, 2.5, 0.1, 1.5],
        "common": [False, True, False, False, False],
    }
)


def measures(*lines: tuple[str, str, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=["measure", "method", "value", "low", "high"])


NAN = float("nan")
QUALITY = measures(
    ("probe (AUROC)", "shuffled labels", 0.5, 0.48, 0.52),
    ("probe (AUROC)", "tokens", 0.9, 0.88, 0.93),
    ("explained variance", "latents", 0.87123, NAN, NAN),
    ("probe (AUROC)", "random directions", 0.6, NAN, NAN),
    ("probe (AUROC)", "latents", 0.8, 0.7, 0.85),
    ("concepts", "latents", 2936.0, 2822.0, 3050.0),
    ("alignment", "tokens", 0.4, NAN, NAN),
    ("alignment", "latents", 0.7, NAN, NAN),
    ("ceiling", "whole image", 0.98, 0.97, 0.99),
    ("broken", "latents", NAN, NAN, NAN),
)
