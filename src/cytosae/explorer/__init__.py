"""Looking at a study in the browser: its concepts, cells and patients. Leaves ``annotations.sqlite``."""

from cytosae.explorer.app import create_app
from cytosae.explorer.exporting import export
from cytosae.explorer.serving import serve

__all__ = ["create_app", "export", "serve"]
