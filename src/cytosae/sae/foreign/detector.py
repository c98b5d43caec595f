"""Which format a source has, and the autoencoder in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cytosae.artefacts import CONFIG, WEIGHTS, sha256_file
from cytosae.errors import CytosaeError
from cytosae.sae.foreign import dictionary_learning, overcomplete, release, saelens, saev
from cytosae.sae.foreign.equations import ForeignSAE
from cytosae.sae.foreign.inert import read_checkpoint
from cytosae.sae.model import SAE

FORMATS = ("release", "saelens", "dictionary_learning", "overcomplete", "saev", "saev-centred", "saev-uncentred")
"""What `import_sae` reads."""
_CENTRED = {"saev": None, "saev-centred": True, "saev-uncentred": False}


def import_sae(source: str | Path, kind: str = "auto") -> SAE:
    """Read an autoencoder that another program saved.

    Nothing in the file is run. Arrays are taken as they are wherever the equations are ours; what had to be folded in is
    named in the metadata.

    Parameters
    ----------
    source
        A file, or a folder of SAELens or dictionary_learning.
    kind
        One of `FORMATS`, or "auto" to look.

    Returns
    -------
    The autoencoder; ``metadata["imported"]`` has the format, the name and SHA-256 of the file, its settings
    (`configuration`), and what was computed anew (`changes`).

    Raises
    ------
    CytosaeError
        No such format; damaged; an architecture with other equations; a file that wants something run.
    """
    path = Path(source)
    if kind not in ("auto", *FORMATS):
        raise CytosaeError(f"--format {kind}: unknown; choose one of auto, {', '.join(FORMATS)}.")
    if not path.exists():
        raise CytosaeError(f"{path}: no such file or folder.")
    if path.is_dir() and (path / dictionary_learning.FILE).is_file() and kind in ("auto", "dictionary_learning"):
        path = path / dictionary_learning.FILE
    if path.is_dir():
        if kind == "auto":
            kind = _detect_folder(path)
        if kind != "saelens":
            raise CytosaeError(f"{path}: a folder; for --format {kind} give the file itself.")
        imported, file = saelens.read(path), path / saelens.WEIGHTS
    else:
        kind, imported = _read_file(path, kind)
        file = path
    return imported.to_sae({"format": kind, "file": file.name, "sha256": sha256_file(file)})


def _detect_folder(path: Path) -> str:
    if saelens.matches(path):
        return "saelens"
    if (path / CONFIG).is_file() and (path / WEIGHTS).is_file():
        raise CytosaeError(f"{path}: has {CONFIG} and {WEIGHTS}: if this program wrote it, it need not be imported.")
    raise CytosaeError(
        f"{path}: neither a folder of SAELens ({saelens.CONFIG}, {saelens.WEIGHTS}) nor of dictionary_learning "
        f"({dictionary_learning.FILE})."
    )


def _read_file(path: Path, kind: str) -> tuple[str, ForeignSAE]:
    if kind == "saelens":
        raise CytosaeError(f"{path}: a file; SAELens saves a folder, give that.")
    if kind == "auto" and saev.matches(path):
        kind = "saev"
    if kind in _CENTRED:
        return kind, saev.read(path, centred=_CENTRED[kind])
    if path.suffix == ".safetensors":
        raise CytosaeError(
            f"{path}: weights without the settings that say what they compute. Give the folder that has them beside it."
        )
    content = read_checkpoint(path)
    if kind == "auto":
        kind = _detect_file(path, content)
    reader = {"release": release, "dictionary_learning": dictionary_learning, "overcomplete": overcomplete}[kind]
    return kind, reader.read(path, content)


def _detect_file(path: Path, content: Any) -> str:
    if overcomplete.is_module(content):
        return "overcomplete"
    if overcomplete.is_state(content):
        raise CytosaeError(
            f"{path}: the state_dict of an autoencoder of overcomplete, in which SAE and TopKSAE look the same. If it "
            "is an SAE with ReLU, add --format overcomplete; or save the module, which names its class: "
            "torch.save(sae.eval(), file)."
        )
    if release.matches(content):
        return "release"
    if dictionary_learning.matches(content):
        return "dictionary_learning"
    keys = ", ".join(str(key) for key in list(content)[:6]) if isinstance(content, dict) else type(content).__name__
    raise CytosaeError(f"{path}: none of the formats {', '.join(FORMATS)}; it holds {keys}.")
