"""Where the repository and the data of the tests are."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("CYTOSAE_DATA", ROOT.parent / "shared"))
"""The folder that holds ``data/`` and ``golden/``."""


def importing_from(*folders: Path) -> str:
    """PYTHONPATH of a process that imports from these folders too."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])
