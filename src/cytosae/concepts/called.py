"""Which latent somebody means: by its number, or by the name that it was given or taught under."""

from __future__ import annotations

from collections.abc import Mapping

from cytosae.errors import NotFound


def latent_called(text: str, names: Mapping[int, str], n_latents: int) -> int:
    """The latent that a text means.

    Parameters
    ----------
    text
        Its number, or a name, whatever the case.
    names
        Of `cytosae.concepts.read_names`.
    n_latents
        Latents of the study.

    Raises
    ------
    CytosaeError
        No latent, or several, is called that.

    Examples
    --------
    >>> latent_called("auer rod", {7: "Auer rod"}, 20), latent_called("12", {}, 20)
    (7, 12)
    """
    if text.strip().isdecimal():
        if (latent := int(text)) < n_latents:
            return latent
        raise NotFound(f"latent {latent}: the study has latents 0 to {n_latents - 1}.")
    latents = [latent for latent, name in names.items() if name.casefold() == text.strip().casefold()]
    if len(latents) == 1:
        return latents[0]
    if latents:
        raise NotFound(f"{text}: latents {', '.join(map(str, latents))} have this name. Give the number of one.")
    known = ", ".join(sorted(set(names.values()))[:20]) or "none has a name yet"
    raise NotFound(f"{text}: no latent has this number or name. Names of this study: {known}.")
