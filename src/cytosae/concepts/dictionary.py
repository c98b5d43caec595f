"""The dictionary of a study: its autoencoder, and the concepts that experts taught, as further latents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cytosae.artefacts import sae_weights_digest, same_weights
from cytosae.concepts.storage import read_inputs, read_parameters
from cytosae.errors import CytosaeError

if TYPE_CHECKING:
    from cytosae.sae import SAE
    from cytosae.sae.taught import Taught

TAUGHT_FOLDER = "taught"
"""Where a study keeps them."""


def read_taught(study: Path) -> Taught | None:
    """The taught concepts of a study; None where nothing was taught.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    if not (study / TAUGHT_FOLDER).is_dir():
        return None
    from cytosae.sae.taught import TAUGHT, Taught  # imports torch

    path = study / TAUGHT_FOLDER / TAUGHT
    return Taught.load(path) if path.is_file() else None


def taught_inputs(taught: Taught | None) -> dict[str, str]:
    """The digest of taught concepts, as an input of what is made with them; empty where there are none.

    Examples
    --------
    >>> taught_inputs(None)
    {}
    """
    return {"taught": taught.digest} if taught is not None and len(taught) else {}


def untaught(inputs: Mapping[str, str]) -> dict[str, str]:
    """The inputs of an encoding without what was taught: what is known of the autoencoder's own latents rests on these.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    return {name: value for name, value in inputs.items() if name != "taught"}


def same_dictionary(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Whether the inputs of two encodings name the same autoencoder and the same taught concepts.

    Examples
    --------
    >>> same_dictionary({"sae": "a"}, {"sae": "b"})
    False
    """
    return same_weights(first.get("sae"), second.get("sae")) and first.get("taught") == second.get("taught")


def other_dictionary(given: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """What differs between the inputs of two encodings, for a message.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    if given.get("sae") != expected.get("sae") or given.get("taught") == expected.get("taught"):
        given_sae, expected_sae = (str(inputs.get("sae") or "unknown")[:12] for inputs in (given, expected))
        return f"another autoencoder ({given_sae} instead of {expected_sae})"
    return "other taught concepts"


def check_encoded_with(study: Path) -> None:
    """Refuse concepts of another dictionary than that of their study, or of one that nobody knows.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    sae, concepts = study / "sae", study / "concepts"
    weights, recorded = sae_weights_digest(sae), read_inputs(concepts)
    if not same_weights(weights, recorded["sae"]):
        raise CytosaeError(
            f"{concepts}: made with another autoencoder ({recorded['sae'][:12] or 'unknown'}) than the one in {sae} "
            f"({weights[:12]}). Encode the cells again: `cytosae run` on the study, or `cytosae encode`."
        )
    if taught_inputs(read_taught(study)).get("taught") != recorded.get("taught"):
        raise CytosaeError(
            f"{concepts}: made with other taught concepts than those in {study / TAUGHT_FOLDER}. Encode the cells again: "
            f"`cytosae teach {study}`, or `cytosae run` on the study."
        )


def read_dictionary(study: Path, *, decoder: bool = True) -> SAE:
    """The autoencoder of a study, with its taught concepts as further latents, as its concepts were encoded.

    Parameters
    ----------
    decoder
        See `cytosae.sae.SAE.from_pretrained`.

    Raises
    ------
    CytosaeError
        The concepts were made with another dictionary.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    check_encoded_with(study)
    from cytosae.sae import SAE
    from cytosae.sae.taught import with_taught

    sae, taught = SAE.from_pretrained(study / "sae", decoder=decoder), read_taught(study)
    return with_taught(sae, taught, float(read_parameters(study / "concepts")["threshold"]))
