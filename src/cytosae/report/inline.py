"""Pictures and figures inside a page: one file that loads nothing from anywhere."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from cytosae.report.style import style


def jpeg(image: NDArray[np.uint8], quality: int = 82) -> str:
    """An image ``(height, width, 3)`` as base64."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality)
    return base64.b64encode(out.getvalue()).decode()


def png(figure: Figure) -> str:
    """A figure as base64."""
    out = io.BytesIO()
    with style():
        figure.savefig(out, format="png", metadata={"Software": None}, facecolor="white")
    return base64.b64encode(out.getvalue()).decode()


def encode_png(path: Path) -> str:
    """A figure that was saved as PNG, as base64.

    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    return base64.b64encode(path.read_bytes()).decode()


def template(name: str) -> jinja2.Template:
    """A page's template; values are escaped, a missing one is an error.

    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cytosae.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)
