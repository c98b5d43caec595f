"""Do these tokens fit this autoencoder? Backbone, layer, width, what is shown of an image, harmonisation."""

from __future__ import annotations

from typing import Any

from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.taught import TaughtSAE, check_frame, token_frame
from cytosae.tokens import Layout


def check_fit(layout: Layout, sae: SAE) -> None:
    """Refuse tokens of another backbone, layer or width than the autoencoder was trained on.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    if layout.d_model != sae.d_model:
        raise CytosaeError(
            f"The tokens are {layout.d_model} wide (backbone {layout.backbone['name']}), the autoencoder takes "
            f"{sae.d_model}. Embed the cells with the backbone that it was trained on."
        )
    if sae.position_offset is not None and len(sae.position_offset) != layout.n_tokens:
        raise CytosaeError(
            f"The tokens are {layout.n_tokens} an image, the autoencoder takes {len(sae.position_offset)}, which it "
            "centres by position. Embed the cells as those that it was trained on."
        )
    if isinstance(sae, TaughtSAE):
        check_frame(sae.taught.frame, token_frame(layout.backbone, sae.position_offset))
    _check_frame(layout.frame, sae.metadata.get("frame"))
    _check_harmonisation(layout.harmonisation, sae.metadata.get("harmonisation"))
    trained = sae.metadata.get("backbone")
    if not trained:
        say("concepts: the autoencoder does not say on which backbone it was trained; its width fits")
        return
    for key, setting in (("fingerprint", "backbone"), ("layer", "layer")):
        if trained.get(key) != layout.backbone.get(key):
            given, expected = (_name(about, setting) for about in (layout.backbone, trained))
            raise CytosaeError(
                f"The tokens come from {setting} {given}, the autoencoder was trained on {setting} {expected}. Embed "
                f"the cells with that {setting}."
            )


def _check_frame(given: str | None, trained: str | None) -> None:
    """Refuse tokens of images that were framed otherwise than those that the autoencoder was trained on."""
    if given != trained:
        now, then = ("shown whole" if rule is None else f"framed by {rule!r}" for rule in (given, trained))
        text = f"The images of the tokens are {now}, those of the autoencoder's training were {then}."
        raise CytosaeError(f"{text} List the cells again with the same --frame, and embed them.")


def _check_harmonisation(given: dict[str, Any] | None, trained: dict[str, Any] | None) -> None:
    """Refuse tokens that are harmonised otherwise than those that the autoencoder was trained on."""
    if given == trained:
        return

    def in_words(about: dict[str, Any] | None) -> str:
        return "as they are" if about is None else f"harmonised by {about['method']}, {about['laboratory']}"

    if given is not None and trained is not None and in_words(given) == in_words(trained):
        raise CytosaeError(
            f"The tokens are {in_words(given)}, but not to the mean laboratory of the autoencoder's training. Read them "
            "through the harmonisation of its study."
        )
    raise CytosaeError(
        f"The tokens are {in_words(given)}, the autoencoder was trained on tokens {in_words(trained)}. Give it tokens "
        "made with the same --harmonise and --laboratory."
    )


def _name(about: dict[str, Any], setting: str) -> str:
    if setting == "layer":
        return f"{about.get('layer', -2) + 1} of {about.get('depth')}"
    return f"{about.get('name')} ({str(about.get('fingerprint'))[:12]})"
