"""Which facts a phrase of free words names: so that what a model proposes is tested like the sentences made of facts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cytosae.concepts.description import words

_PLURALS = {"nuclei": "nucleus", "nucleoli": "nucleolus", "chromatins": "chromatin"}
_NOT = {"no", "not", "without", "non"}

Named = tuple[str, str, bool]
"""Kind and subject of a fact, and whether much of the subject is named, not little."""


def facts_named(phrase: str, types: Sequence[str]) -> list[Named]:
    """The facts whose words a phrase contains, the longest words first; each word of the phrase counts once.

    Parameters
    ----------
    phrase
        In any words. Plurals count as singulars; what follows "no" or "without" is not named.
    types
        Cell types of the data set.

    Examples
    --------
    >>> facts_named("Eosinophilic granules in the cytoplasm, no vacuoles", ["eosinophil"])
    [('look', 'cytoplasm: dark spots', True), ('place', 'cytoplasm', True)]
    """
    left: list[str] = _tokens(phrase)
    named: list[Named] = []
    for tokens, fact in sorted(_vocabulary(types), key=lambda entry: -len(entry[0])):
        at = next((i for i in range(len(left)) if left[i : i + len(tokens)] == tokens), None)
        if at is None:
            continue
        if not {*left[max(0, at - 1) : at]} & _NOT and fact not in named:
            named.append(fact)
        left[at : at + len(tokens)] = [""] * len(tokens)
    return named


def _vocabulary(types: Sequence[str]) -> list[tuple[list[str], Named]]:
    """Words as tokens, and the fact that they name. Of equal words places come first, then looks."""
    entries: list[tuple[str, Named]] = [
        (one, ("place", place, True))
        for place, text in words.PLACE_WORDS.items()
        for one in ([text] if " of " in text else text.split(" or "))
    ]
    entries += [
        (one, ("look", f"{tissue}: {look}", sign > 0))
        for (tissue, look, sign), text in words.LOOK_WORDS.items()
        for one in text.split(" or ")
    ]
    entries += [(text, ("look", "cytoplasm: dark spots", True)) for text in words.GRANULES]
    entries += [(text, ("measurement", name, sign > 0)) for (name, sign), text in words.MEASUREMENT_WORDS.items()]
    entries += [(name.replace("_", " "), ("cell type", name, True)) for name in types]
    first: dict[tuple[str, ...], Named] = {}
    for text, fact in entries:
        first.setdefault(tuple(_tokens(text)), fact)
    return [([*tokens], fact) for tokens, fact in first.items()]


def _tokens(text: str) -> list[str]:
    """Lower case, without punctuation, in the singular."""
    return [_singular(token) for token in re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", text.lower())]


def _singular(token: str) -> str:
    if token in _PLURALS:
        return _PLURALS[token]
    return token[:-1] if len(token) > 3 and token.endswith("s") and not token.endswith(("ss", "us", "is")) else token
