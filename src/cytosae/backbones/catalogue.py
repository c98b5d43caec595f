"""Backbones that are known by name: what they are, under which licence, whether they are here, and how to get them."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cytosae.artefacts import refuse_foreign, sha256_file, whole_file
from cytosae.backbones.backbone import INPUT_SIZE
from cytosae.backbones.dinobloom import HUB_FILES, HUB_REPOSITORY, SHAPES, ZENODO_FILES, ZENODO_RECORD
from cytosae.backbones.hub import hub_file, is_cached
from cytosae.backbones.loading import BUILT_IN, load
from cytosae.backbones.timm_models import PREFIX, installed
from cytosae.backbones.zenodo import fetch_zenodo, zenodo_path
from cytosae.errors import CytosaeError

SOURCES = ("hub", "zenodo")


@dataclass(frozen=True)
class Entry:
    """A published backbone."""

    name: str
    """For ``--backbone``; of all but DinoBloom and the built-in ones also the hub's repository."""
    d_model: int
    depth: int
    """Blocks."""
    patch_size: int
    """Edge of a patch in pixels."""
    licence: str
    source: str
    gated: bool = False
    """Whether an agreement has to be accepted on the hub first."""

    @property
    def n_tokens(self) -> int:
        """Tokens of an image that are kept: CLS, or the mean of the patches, and patches."""
        return 1 + (INPUT_SIZE // self.patch_size) ** 2

    @property
    def cached(self) -> bool:
        """Whether its weights are on this machine."""
        if self.name in HUB_FILES:
            return zenodo_path(self.name).is_file() or is_cached(HUB_REPOSITORY, HUB_FILES[self.name])
        return "/" not in self.name or is_cached(self.name, None)


def _hub(licence: str, *rows: tuple[str, int, int, int], gated: bool = False) -> list[Entry]:
    return [Entry(*row, licence=licence, source="hub", gated=gated) for row in rows]


KNOWN = (
    *(Entry(name, 192, 6, 14, "as cytosae", "built in") for name in BUILT_IN),
    *(Entry(name, *shape, 14, "Apache-2.0", "hub, zenodo") for name, shape in SHAPES.items()),
    *_hub(
        "Apache-2.0",
        ("facebook/dinov2-small", 384, 12, 14),
        ("facebook/dinov2-base", 768, 12, 14),
        ("facebook/dinov2-large", 1024, 24, 14),
        ("facebook/dinov2-giant", 1536, 40, 14),
        ("facebook/dinov2-with-registers-small", 384, 12, 14),
        ("facebook/dinov2-with-registers-base", 768, 12, 14),
        ("facebook/dinov2-with-registers-large", 1024, 24, 14),
        ("facebook/dinov2-with-registers-giant", 1536, 40, 14),
    ),
    *_hub(
        "DINOv3 License",
        ("facebook/dinov3-vits16-pretrain-lvd1689m", 384, 12, 16),
        ("facebook/dinov3-vits16plus-pretrain-lvd1689m", 384, 12, 16),
        ("facebook/dinov3-vitb16-pretrain-lvd1689m", 768, 12, 16),
        ("facebook/dinov3-vitl16-pretrain-lvd1689m", 1024, 24, 16),
        ("facebook/dinov3-vith16plus-pretrain-lvd1689m", 1280, 32, 16),
        gated=True,
    ),
    *_hub(
        "MIT",
        ("openai/clip-vit-base-patch32", 768, 12, 32),
        ("openai/clip-vit-base-patch16", 768, 12, 16),
        ("openai/clip-vit-large-patch14", 1024, 24, 14),
    ),
    *_hub(
        "Apache-2.0",
        ("google/siglip-base-patch16-224", 768, 12, 16),
        ("google/siglip-so400m-patch14-384", 1152, 27, 14),
        ("google/siglip2-base-patch16-224", 768, 12, 16),
        ("google/siglip2-so400m-patch14-224", 1152, 27, 14),
        ("google/siglip2-base-patch16-naflex", 768, 12, 16),
    ),
    *_hub("Owkin, non-commercial", ("owkin/phikon-v2", 1024, 24, 16)),
    *_hub(
        "Apache-2.0",
        ("Snarcy/RedDino-small", 384, 12, 14),
        ("Snarcy/RedDino-base", 768, 12, 14),
        ("Snarcy/RedDino-large", 1024, 24, 14),
    ),
    *_hub(
        "CC BY-NC-ND 4.0",
        ("MahmoodLab/UNI2-h", 1536, 24, 14),
        ("paige-ai/Virchow2", 1280, 32, 14),
        ("bioptimus/H-optimus-1", 1536, 40, 14),
        gated=True,
    ),
)
"""Licences as the authors state them; read them before use."""


def listed() -> list[dict[str, Any]]:
    """A row for each known backbone, and one for timm's where timm can be imported.

    Returns
    -------
    Dictionaries with ``name, d_model, depth, patch_size, licence, source, gated, n_tokens, cached``; None where it
    depends on the model.

    Examples
    --------
    >>> listed()[0]["name"]
    'tiny'
    """
    rows = [{**asdict(entry), "n_tokens": entry.n_tokens, "cached": entry.cached} for entry in KNOWN]
    if installed():
        unknown = dict.fromkeys(rows[0])
        rows.append({**unknown, "name": f"{PREFIX}NAME", "licence": "of the model", "source": "timm", "gated": False})
    return rows


def fetch(name: str, *, source: str = "hub", output: Path | None = None) -> dict[str, Any]:
    """Download the weights of a backbone, and load them once to see that they are whole.

    Parameters
    ----------
    name
        As `cytosae.backbones.load` takes it.
    source
        ``hub`` or, for ``dinobloom-*``, ``zenodo``.
    output
        File to write the weights of a ``dinobloom-*`` to; without it they are kept where `load` finds them by name.

    Returns
    -------
    ``name``, ``source``, ``fingerprint``, width and blocks; for a single file also ``file`` and its ``sha256``.

    Raises
    ------
    CytosaeError
        Nothing may be downloaded (``HF_HUB_OFFLINE``), no network, an option that does not fit the name, damaged weights.

    Notes
    -----
    No example: needs the network.
    """
    from huggingface_hub import constants

    if source not in SOURCES:
        raise CytosaeError(f"--source {source}: unknown; choose one of {', '.join(SOURCES)}.")
    if name not in HUB_FILES and (source != "hub" or output is not None):
        option = "--output" if source == "hub" else "--source zenodo"
        raise CytosaeError(f"{option} belongs to {', '.join(HUB_FILES)}; {name} is kept in the cache of the hub.")
    if name not in HUB_FILES and not name.startswith(PREFIX) and (name.count("/") != 1 or Path(name).exists()):
        raise CytosaeError(
            f"{name}: nothing to fetch; give {', '.join(HUB_FILES)}, a repository of the Hugging Face hub (owner/name) or "
            f"{PREFIX}NAME. `cytosae backbones list` shows those that are known."
        )
    if constants.HF_HUB_OFFLINE:
        raise CytosaeError(f"{name}: HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it and run again.")
    file, commit = _fetch_file(name, source, output) if name in HUB_FILES else (None, None)
    backbone = load(name, layer=-1, dtype="float32", device="cpu", weights=file)
    info = backbone.info
    described = {
        "name": name,
        "source": source if file else info.source,
        "revision": info.revision or commit,
        "d_model": info.d_model,
        "depth": info.depth,
        "n_tokens": info.n_tokens,
        "fingerprint": info.fingerprint,
    }
    return described if file is None else {**described, "file": str(file), "sha256": sha256_file(file)}


def _fetch_file(name: str, source: str, output: Path | None) -> tuple[Path, str | None]:
    """The file of a DinoBloom and its commit on the hub; copied or written to `output` where that is given."""
    if source == "zenodo":
        return fetch_zenodo(name, output or zenodo_path(name)), None
    otherwise = f", or try --source zenodo ({ZENODO_FILES[name]} of record {ZENODO_RECORD})"
    file, commit = hub_file(HUB_REPOSITORY, HUB_FILES[name], None, otherwise)
    if output is None:
        return file, commit
    refuse_foreign(output, "backbones fetch", lambda path: sha256_file(path) == sha256_file(file))
    with whole_file(output) as temporary:
        shutil.copyfile(file, temporary)
    return output, commit
