"""Figures of one pixel, for tests of what happens to their files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image, PngImagePlugin


def _png(self: FigureCanvasAgg, path: Any, *, metadata: dict[str, str | None] | None = None, **_: Any) -> None:
    info = PngImagePlugin.PngInfo()
    for name, value in (metadata or {}).items():
        if value is not None:
            info.add_text(name, value)
    Image.new("RGB", (1, 1), "white").save(path, "png", pnginfo=info)


def _svg(self: FigureCanvasSVG, path: Any, *, metadata: dict[str, Any] | None = None, **_: Any) -> None:
    text = f"<svg><dc:title>{(metadata or {}).get('Creator')}</dc:title></svg>"
    if hasattr(path, "write"):
        path.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")


@contextmanager
def blank_figures() -> Iterator[None]:
    """In the block, figures are made and saved but not drawn: that takes longer than the rest of a small study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasAgg, "print_png", _png)
        patch.setattr(FigureCanvasSVG, "print_svg", _svg)
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda self, figure: None)
        yield
