"""``cytosae import``, ``export`` and ``push``: autoencoders from and for other programs, and to the hub."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands
from cytosae.errors import CytosaeError

if TYPE_CHECKING:
    from cytosae.sae import SAE

_LICENCE = re.compile(r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*")
_SIGNATURE = "\n<!-- card written by cytosae, "

exchange_app = Commands(urls=False)

Sae = Annotated[str, typer.Argument(help="Folder of an autoencoder, or hub repository (owner/name).")]


@exchange_app.command("import")
def import_command(
    source: Annotated[Path, typer.Argument(help="File or folder that another program saved.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the autoencoder.")] = Path("sae"),
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            help="auto, release (CytoSAE, PatchSAE, vit_prisma), saelens, dictionary_learning, overcomplete, saev, "
            "saev-centred, saev-uncentred.",
        ),
    ] = "auto",
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", help="Backbone of its tokens, to be recorded; loaded once."),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(help="Block of its tokens, from 1 or from the end; by default that of the file, or else -2."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Local weights for dinobloom-*.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model.")] = None,
    as_json: Json = False,
) -> None:
    """Read an autoencoder of CytoSAE, PatchSAE, SAELens, dictionary_learning, overcomplete or saev.

    Nothing in the file is run. Settings that change the result are applied, or refused by name; settings that are not
    understood are listed under "ignored". With --backbone, the other commands know which tokens belong to it.
    """
    from cytosae.artefacts import CONFIG, WEIGHTS, claim
    from cytosae.sae.foreign import import_sae

    if (output / WEIGHTS).exists() and (output / CONFIG).exists():
        raise CytosaeError(f"{output}: holds an autoencoder already. Name another folder with --output, or remove it.")
    sae = import_sae(source, kind)
    if backbone is not None:
        _record_backbone(sae, backbone, layer, weights, revision)
    elif layer is not None or weights is not None or revision is not None:
        raise CytosaeError("--layer, --weights and --revision say more of a backbone: name it with --backbone.")
    claim(output, "import", (WEIGHTS, CONFIG))
    sae.save_pretrained(output)
    imported = sae.metadata["imported"]
    recorded = sae.metadata.get("backbone")
    norms = sae.W_dec.detach().norm(dim=1)
    figures = {
        "sae": str(output),
        "format": imported["format"],
        "d_model": sae.d_model,
        "n_latents": sae.n_latents,
        "unit_directions": bool(((norms - 1).abs() < 1e-3).all()),
        "backbone": None if recorded is None else f"{recorded['name']}, block {recorded['layer'] + 1}",
        "activation": sae.activation.name,
        "changes": imported["changes"] if as_json else "; ".join(imported["changes"]) or "none",
        "ignored": imported["ignored"] if as_json else "; ".join(imported["ignored"]) or "none",
    }
    answer(figures, as_json)


def _record_backbone(sae: SAE, name: str, layer: int | None, weights: Path | None, revision: str | None) -> None:
    """Load the backbone and put its description into the metadata, as training does."""
    from cytosae.settings import BackboneConfig
    from cytosae.study import load_backbone
    from cytosae.tokens import store_layout

    if layer is None:
        layer = _read_layer(sae.metadata["imported"]["configuration"])
    settings = BackboneConfig(name, -2 if layer is None else layer, revision=revision, weights=weights)
    layout = store_layout(load_backbone(settings).info)
    if layout.d_model != sae.d_model:
        raise CytosaeError(
            f"--backbone {name}: its tokens are {layout.d_model} wide, the autoencoder takes {sae.d_model}."
        )
    sae.metadata |= {"backbone": layout.backbone, "n_tokens": layout.n_tokens}


def _read_layer(configuration: Any) -> int | None:
    """The block that the release's configuration names: its `block_layer` counts from 0, or from the end."""
    block = configuration.get("block_layer") if isinstance(configuration, dict) else None
    if not isinstance(block, int):
        return None
    return block if block < 0 else block + 1


@exchange_app.command("export")
def export_command(
    sae: Sae,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    kind: Annotated[str, typer.Option("--format", help="saelens: for SAE.load_from_disk of SAELens 6.")] = "saelens",
    as_json: Json = False,
) -> None:
    """Write an autoencoder for SAELens: cfg.json and sae_weights.safetensors, with unchanged arrays.

    TopK and gated autoencoders have their own architectures there; those of BatchTopK and JumpReLU are both jumprelu.
    """
    from cytosae.sae import SAE
    from cytosae.sae.foreign import write_saelens

    if kind != "saelens":
        raise CytosaeError(f"--format {kind}: unknown; saelens is the only one.")
    answer(write_saelens(SAE.from_pretrained(sae), output), as_json)


@exchange_app.command("push")
def push_command(
    sae: Annotated[Path, typer.Argument(help="Folder of an autoencoder.")],
    name: Annotated[str, typer.Argument(help="Repository of the Hugging Face hub, owner/name.")],
    licence: Annotated[str, typer.Option("--licence", "--license", help="Licence of the weights, such as cc-by-4.0.")],
    study: Annotated[
        Path | None,
        typer.Option("--study", help="Study of the autoencoder: data sets, concepts, quality and names for the card."),
    ] = None,
    own_card: Annotated[
        Path | None, typer.Option("--card", help="Your own model card, uploaded instead of the generated one.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the card to README.md beside the weights; upload nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Publish an autoencoder on the Hugging Face hub, with a model card that is filled from its study.

    Uploads model.safetensors, config.json and README.md, no images and no tables. Look at the card first, with --dry-run.
    """
    from cytosae.sae import SAE
    from cytosae.sae.hub import CARD, PUBLISHED

    _check_repository(name)
    if not _LICENCE.fullmatch(licence):
        raise CytosaeError(
            f"--licence {licence!r}: not the identifier of a licence. Give one of letters, digits, '.' and '-', such "
            "as cc-by-4.0, or 'other'."
        )
    if not sae.is_dir():
        raise CytosaeError(f"{sae}: no such folder.")
    model = SAE.from_pretrained(sae)
    text = _read(own_card) if own_card is not None else _card(model, sae, name, licence, study)
    figures: dict[str, Any] = {"repository": name, "private": private, "files": list(PUBLISHED)}
    if dry_run:
        figures |= {"uploaded": False, "card": str(own_card or sae / CARD)}
        if own_card is None:
            _write_card(sae / CARD, text)
    else:
        figures |= {"uploaded": True, "commit": model.push_to_hub(name, text, private=private)}
    answer(figures if as_json else {**figures, "files": ", ".join(PUBLISHED)}, as_json)


def _check_repository(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        if name.count("/") == 1 and name.isprintable():  # the hub's expression lets a newline at the end pass
            return
        reason = ""
    except HFValidationError as error:
        reason = f" The hub says: {' '.join(str(error).encode(errors='backslashreplace').decode().split())}"
    raise CytosaeError(f"{name!r}: not the name of a hub repository (owner/name).{reason}")


def _card(model: SAE, folder: Path, name: str, licence: str, study: Path | None) -> str:
    from cytosae.sae.card import card, collect_evidence

    if study is None:
        return card(model, name, licence)
    from cytosae.concepts import read_names

    evidence = collect_evidence(study, folder)
    return card(model, name, licence, replace(evidence, names=read_names(study / "concepts")))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CytosaeError(f"{path}: not a readable text file ({error}).") from error


def _write_card(path: Path, text: str) -> None:
    """Write a card with its digest at the end, by which one that was written here and not edited since is known again."""
    from cytosae.artefacts import refuse_foreign, whole_file

    refuse_foreign(path, "push --dry-run", lambda existing: _is_unedited(existing.read_text(encoding="utf-8"), text))
    with whole_file(path) as temporary:
        temporary.write_text(text + _signature(text), encoding="utf-8")


def _is_unedited(existing: str, text: str) -> bool:
    card, mark, _ = existing.rpartition(_SIGNATURE)
    return existing == text or (bool(mark) and existing == card + _signature(card))


def _signature(card: str) -> str:
    return f"{_SIGNATURE}{hashlib.sha256(card.encode()).hexdigest()[:16]} -->\n"
