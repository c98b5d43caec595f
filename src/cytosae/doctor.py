"""What is this machine, and what would a run need?"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from cytosae import __version__
from cytosae.errors import CytosaeError
from cytosae.settings import BackboneConfig

_PACKAGES = ("torch", "transformers", "safetensors", "numpy", "anndata", "pillow", "tensorboard", "wandb")
_ENOUGH_MEMORY = 7.0
"""GB below which a run at the default settings may not fit."""


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
    figures["advice"] = advise(figures, backbone)
    return figures


def advise(figures: Mapping[str, Any], backbone: BackboneConfig) -> list[str]:
    """What to do about the figures of `examine`, most urgent first; empty if nothing is to be mended."""
    advice = []
    if "backbone_error" in figures:
        advice.append(f"The backbone cannot be loaded: {figures['backbone_error']}")
        if figures["hub_offline"] and backbone.weights is None:
            advice.append(
                "HF_HUB_OFFLINE is set, so nothing is downloaded: unset it, or give a local file with --weights."
            )
    if figures.get("store_fits") is False:
        advice.append(
            f"The tokens need {figures['store_gb']:,} GB, and {figures['free_disk_gb']:,} GB are free: choose another disk "
            "with --study, or add --no-store to `cytosae run`, which then makes tokens whenever they are read."
        )
    if figures["memory_gb"] < _ENOUGH_MEMORY:
        advice.append(
            f"This machine has {figures['memory_gb']} GB of memory: close other programs, and choose a small --expansion."
        )
    if not figures["cuda_devices"] and backbone.backbone != BackboneConfig().backbone:
        advice.append(
            f"No GPU: {backbone.backbone} runs on {figures['cores']} cores. `cytosae run` says how long that takes; try a "
            "few hundred cells first, or install a torch with CUDA if this machine has a GPU."
        )
    if find_spec("fastapi") is None:
        advice.append("The explorer is not installed: pip install 'cytosae[explorer]'.")
    return advice


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
