"""What is this machine, and what would a run need?"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from cytosae import __version__
from cytosae.errors import CytosaeError
from cytosae.settings import BackboneConfig

_PACKAGES = ("torch", "transformers", "safetensors", "numpy", "anndata", "pillow", "tensorboard", "wandb")


def examine(
    backbone: BackboneConfig, cells: Path | None, folder: Path, columns: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Versions, devices, the precision chosen, free disk, and the size of the store that a run would need.

    Parameters
    ----------
    backbone
        The backbone that a run would use.
    cells
        A source of cells (see `cytosae.cells.read_source`); without it no size is estimated.
    folder
        Where the study would go; it need not exist.
    columns
        Names in a table of known columns, see `cytosae.cells.read_source`.

    Raises
    ------
    CytosaeError
        The source of cells cannot be read.
    """
    import torch

    from cytosae.backbones import choose_device, choose_precision
    from cytosae.cells import read_source
    from cytosae.study import load_backbone
    from cytosae.tokens import store_layout

    device = choose_device(backbone.device)
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    figures: dict[str, Any] = {
        "cytosae": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "cuda_devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "device": device,
        "dtype": choose_precision(backbone.dtype, device),
        "hub_offline": os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"},
        "free_disk_gb": round(shutil.disk_usage(existing).free / 1e9, 1),
    }
    if cells is not None:
        count = len(read_source(cells, columns))
        figures["cells"] = count
        try:
            layout = store_layout(load_backbone(backbone).info)
        except CytosaeError as error:
            figures["backbone_error"] = str(error)
        else:
            needed = count * layout.cell_bytes
            figures["store_gb"] = round(needed / 1e9, 2)
            figures["store_fits"] = needed < shutil.disk_usage(existing).free
    return figures


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
