"""The model card of an autoencoder: a README of the Hugging Face hub, filled from what is on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytosae.artefacts import WEIGHTS, Manifest, read_json, same_weights, sha256_file
from cytosae.errors import CytosaeError
from cytosae.sae.hub import published
from cytosae.sae.metrics import PREFIXES, measured_on
from cytosae.sae.model import SAE

_HUB_LICENCES = ("apache-2.0", "mit", "openrail", "bsd-3-clause", "cc0-1.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "other")
"""Identifiers that the hub knows, beside those of Creative Commons that begin with cc-by."""


_DESCRIPTION = """\
A sparse autoencoder of {n_latents:,} latents on the tokens ({d_model} dimensions) of a vision transformer that looks at
single blood cells. Its latents are candidates for morphological concepts.

    {equation}
    xhat = W_dec h + b_dec"""
_USE = """\
## Intended use

Research only, not for diagnosis. It describes images of the kind it was trained on. A concept is a pattern that the backbone
distinguishes; it means nothing before experts have annotated it."""
_LOADING = """\
## How to load it

```python
from cytosae.sae import SAE

sae = SAE.from_pretrained("{name}")
h = sae.encode(sae.centred(tokens))  # of an image, (n_tokens, d_model) to (n_tokens, n_latents)
```

On images: `cytosae encode cells.parquet --sae {name}`."""


@dataclass(frozen=True)
class Evidence:
    """What a study says of its autoencoder."""

    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Cells, concepts and active latents of each data set."""
    threshold: float | None = None
    """log10 of the mean activation above which a latent counts as a concept."""
    quality: tuple[Mapping[str, Any], ...] = ()
    """Rows of ``quality.json``."""
    names: Mapping[int, str] = field(default_factory=dict)
    """What raters call the latents."""


def collect_evidence(study: Path, sae: Path) -> Evidence:
    """What a study measured of the autoencoder in the folder `sae`; without the names that raters gave.

    Raises
    ------
    CytosaeError
        No concepts there, or those of another autoencoder.
    """
    manifest = Manifest.load(study / "concepts")
    if manifest is None:
        raise CytosaeError(f"{study}: holds no concepts, so it is no study, or not finished. Run `cytosae run` first.")
    if manifest.inputs.get("sae") != sha256_file(sae / WEIGHTS):
        raise CytosaeError(f"{study}: its concepts are of another autoencoder than {sae}. Name the study of this one.")
    path = study / "quality" / "quality.json"
    measured = read_json(path) if path.is_file() else {}
    same = same_weights(measured.get("inputs", {}).get("sae"), manifest.inputs["sae"])
    return Evidence(
        manifest.summary["datasets"],
        manifest.parameters.get("concept_threshold"),
        tuple(measured.get("figures", ())) if same else (),
    )


def card(sae: SAE, name: str, licence: str, evidence: Evidence | None = None) -> str:
    """The model card, in Markdown.

    It names what was not measured.

    Parameters
    ----------
    name
        Repository, ``owner/name``.
    licence
        Identifier as the hub has them, such as cc-by-4.0; any other text is given as the name of the licence.
    evidence
        Of a study of this autoencoder.
    """
    evidence, metadata = evidence or Evidence(), published(sae.metadata)
    sections = [
        _header(metadata, licence),
        f"# {name.split('/')[-1]}",
        _DESCRIPTION.format(n_latents=sae.n_latents, d_model=sae.d_model, equation=sae.activation.equation),
        _USE,
        _LOADING.format(name=name),
        _backbone(metadata),
        _figures(metadata),
        _datasets(evidence),
        _quality(evidence),
        _names(evidence),
        _making(metadata),
        f"## Licence\n\n{licence}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _header(metadata: Mapping[str, Any], licence: str) -> str:
    """Front matter as the hub reads it; values are JSON, which is YAML."""
    known = licence.lower() in _HUB_LICENCES or licence.lower().startswith("cc-by-")
    lines = ["library_name: cytosae", f"license: {licence.lower() if known else 'other'}"]
    if not known:
        lines.append(f"license_name: {json.dumps(licence)}")
    lines += ["tags:", "- sparse-autoencoder", "- interpretability", "- haematology", "- cytomorphology"]
    backbone = metadata.get("backbone") or {}
    if backbone.get("revision"):  # only what is on the hub has one
        lines.append(f"base_model: {json.dumps(backbone['source'])}")
    return "---\n" + "\n".join(lines) + "\n---"


def _backbone(metadata: Mapping[str, Any]) -> str:
    about = metadata.get("backbone")
    if not about:
        return "## Backbone\n\nNot recorded."
    rows = {
        "name": about.get("name"),
        "block": f"{about['layer'] + 1} of {about['depth']}, counted from 1; residual stream after it",
        "image": f"{about['image_size']} px, patches of {about['patch_size']} px, {about['n_tokens']} tokens with CLS",
        "revision": about.get("revision"),
        "SHA-256 of architecture and weights": f"`{about['fingerprint']}`",
    }
    return "## Backbone\n\n" + _table(("", ""), [(k, v) for k, v in rows.items() if v is not None])


def _figures(metadata: Mapping[str, Any]) -> str:
    held: Mapping[str, Any] = next((metadata[key] for key in PREFIXES.values() if metadata.get(key)), {})
    names = {
        "explained_variance": "explained variance",
        "l0": "L0 (active latents of a token)",
        "dead": "dead latents (share)",
        "mse": "mean squared error",
        "tokens": "tokens",
    }
    rows = [(label, _number(held[key])) for key, label in names.items() if held.get(key) is not None]
    table = (
        _table((f"on {measured_on(held, metadata.get('inputs') or {})}", ""), rows)
        if rows
        else "Explained variance, L0 and dead share were not measured."
    )
    return f"## Figures\n\n{table}"


def _datasets(evidence: Evidence) -> str:
    if not evidence.datasets:
        return "## Data\n\nNo study was given: data sets and concepts are not listed."
    rows = [(name, _number(d["cells"]), _number(d["concepts"])) for name, d in evidence.datasets.items()]
    asked = any(
        d.get("no_concepts", {}).get(why) for d in evidence.datasets.values() for why in ("few cells", "scattered")
    )
    more = ", in enough cells, and concentrated in them" if asked else ""
    above = "" if evidence.threshold is None else f" (log10 of the mean activation above {evidence.threshold:g}{more})"
    return f"## Data\n\nDiscovered concepts{above}:\n\n" + _table(("data set", "cells", "concepts"), rows)


def _quality(evidence: Evidence) -> str:
    rows = []
    for row in evidence.quality:
        if row.get("value") is not None:
            low, high = (row.get(end) for end in ("low", "high"))
            interval = "" if low is None or high is None else f"{_number(low)} to {_number(high)}"
            rows.append((row["measure"], row.get("method", row.get("contender")), _number(row["value"]), interval))
    if not rows:
        return ""
    heading = "## Quality\n\nMeasured by `cytosae evaluate`, beside baselines and nulls:\n\n"
    return heading + _table(("measure", "of", "value", "95 % interval"), rows)


def _names(evidence: Evidence) -> str:
    if not evidence.names:
        return ""
    return "## What raters named\n\n" + _table(("latent", "name"), sorted(evidence.names.items()))


def _making(metadata: Mapping[str, Any]) -> str:
    if imported := metadata.get("imported"):
        origin = f"Imported from `{imported['file']}` (format {imported['format']}, SHA-256 `{imported['sha256']}`)."
        changes = "".join(f"\n- {change}" for change in imported["changes"]) or " Every array is as it was there."
        if ignored := imported.get("ignored"):
            changes += (
                "\n\nSettings that were not understood and have no part in it: " + _cell("; ".join(ignored)) + "."
            )
        return f"## How it was made\n\n{origin}{changes}\n\n" + _settings(imported["configuration"])
    if training := metadata.get("training"):
        return "## How it was made\n\n" + _settings(training)
    return ""


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [(key, value) for key, value in settings.items() if not isinstance(value, Mapping)]
    return _table(("setting", "value"), rows) if rows else ""


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _number(value: Any) -> str:
    return f"{value:,}" if type(value) is int else f"{value:.4g}"
