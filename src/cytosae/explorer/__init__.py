"""Looking at a study in the browser: its concepts, cells and patients. Leaves ``annotations.sqlite``.

The server is imported on first use: annotations can be read without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytosae.explorer.app import create_app
    from cytosae.explorer.exporting import export
    from cytosae.explorer.serving import serve

_MODULES = {"create_app": "app", "export": "exporting", "serve": "serving"}

__all__ = ["create_app", "export", "serve"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"cytosae.explorer.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'cytosae.explorer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
