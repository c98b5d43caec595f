"""What the settings of other programs say about the equations.

Every reader knows the settings that are part of its equations, and honours or refuses each value. Those that are known to
matter in training alone are kept and no more. What is left is not understood: it is listed, or refused where its name says
that it can change what is computed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from cytosae.errors import CytosaeError

_MATHEMATICS = re.compile(
    r"activation(_?f(n|unc|unction))?(_|$)|act_?fn|non_?linear|(^|_)norm|whiten|(re|^|_)scal(e|ing)|"
    r"(^|_)(k|top_?k|batch_?top_?k|jump_?relu|gated?|threshold|bias|cent(er|re)|noise|skip|residual|transcoder|crosscoder|"
    r"error_term|dropout|clamp|transform|sparsemax|temperature|quanti[sz]e|mean|std|var|pca|leaky|slope|signed|abs|log1p|"
    r"rms|pre_?process|post_?process|low_?rank|subtract|shift|groups?)(_|$)|layer_?norm|(^|_)n_groups|relu",
    re.IGNORECASE,
)
_PARTS = re.compile(r"bias|relu|(^|_)apply", re.IGNORECASE)
"""Settings by which a part of the equations is left away when they are false."""
_LONGEST = 80
"""Characters of a value that messages show."""


def is_off(value: Any) -> bool:
    """Whether a setting says that something is not done."""
    return value is None or value is False or value in ("", "none", "None") or value == {} or value == []


def flag(path: Path, settings: Mapping[str, Any], name: str, default: bool) -> bool:
    """A setting that is true or false.

    Raises
    ------
    CytosaeError
        It is something else, such as the word "false".
    """
    value = settings.get(name, default)
    if value is None or (isinstance(value, bool | int | float) and value in (0, 1)):
        return bool(value)
    raise CytosaeError(f"{path}: the setting {name} is {short(value)!r}; expected true or false. Correct it.")


def not_understood(path: Path, settings: Mapping[str, Any], known: Collection[str]) -> tuple[str, ...]:
    """The settings that are not known, each as "name: value".

    Parameters
    ----------
    path
        For messages.
    settings
        As plain JSON.
    known
        Names of those that are honoured, or known to have no part in the equations.

    Raises
    ------
    CytosaeError
        One that is not known, that is set, and that can change the mathematics by its name.
    """
    unknown = {name: value for name, value in settings.items() if name not in known}
    for name, value in _leaves(unknown):
        if name.rpartition(".")[2] not in known and _changes_equations(name.rpartition(".")[2], value):
            raise CytosaeError(
                f"{path}: the setting {name}, {short(value)}, is unknown, and its name suggests that it changes what "
                "the autoencoder computes. If it does not affect the latents, remove it from the configuration; "
                "otherwise the autoencoder cannot be imported."
            )
    return tuple(f"{name}: {short(value)}" for name, value in unknown.items())


def _changes_equations(name: str, value: Any) -> bool:
    if value is False:
        return _PARTS.search(name) is not None
    return _MATHEMATICS.search(name) is not None and not is_off(value)


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def short(value: Any) -> str:
    """A value of a setting, as a message tells it."""
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
