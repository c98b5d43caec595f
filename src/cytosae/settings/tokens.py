"""Settings from image to tokens: backbone, pixels, store, and who does the work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cytosae.errors import CytosaeError
from cytosae.settings.declaration import check, setting


@dataclass(frozen=True)
class BackboneConfig:
    """Which vision transformer makes the tokens, and after which block."""

    backbone: str = setting(
        "tiny",
        "dinobloom-s|b|l|g, tiny or tiny-stains (built in), a folder or file of weights, a model of the Hugging Face hub "
        "(owner/name), or timm:NAME; see cytosae backbones list",
    )
    layer: int = setting(
        -2,
        "block whose output is taken: -2 is the second last (the paper's), 1 the first; counted from 1 or from the end",
    )
    dtype: str = setting(
        "auto",
        "precision of the backbone's products; auto takes bfloat16 where processor or GPU have it",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, ...")
    revision: str | None = setting(None, "revision of a hub model")
    weights: Path | None = setting(None, "local weights for dinobloom-*: the .pth, .bin or .safetensors file")

    def __post_init__(self) -> None:
        check(self)


_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_WINDOW = re.compile(rf"({_NUMBER})-({_NUMBER})", re.IGNORECASE)


def intensity_window(text: str) -> tuple[float, float] | None:
    """The values of an ``--intensity`` that become black and white; None for ``full`` and ``percentile``.

    Raises
    ------
    CytosaeError
        It is none of these.
    """
    if text in {"full", "percentile"}:
        return None
    match = _WINDOW.fullmatch(text)
    if match is None or not float(match[1]) < float(match[2]) < float("inf"):
        raise CytosaeError(
            f"--intensity {text}: unknown; give full, percentile, or LOW-HIGH with LOW below HIGH, such as 0-4095."
        )
    return float(match[1]), float(match[2])


@dataclass(frozen=True)
class ImageConfig:
    """How image files become pixels."""

    intensity: str | None = setting(
        None,
        "how images with more than 8 bits a channel become 8-bit: 'full' uses the whole range of the type (0 to 1 "
        "for floating point), 'percentile' the 0.1th to the 99.9th percentile of each image, LOW-HIGH these values "
        "(0-4095) as black and white. Without it such images are rejected",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.intensity is not None:
            intensity_window(self.intensity)


FRAMES = ("asis", "um", "cell")
"""What is shown of an image."""


@dataclass(frozen=True)
class FrameConfig:
    """What is shown of each image; one for a whole study."""

    frame: str = setting(
        "asis",
        "what is shown of an image: all of it, squashed (asis); the square of --frame-um micrometres in its middle "
        "(um); the nucleated cell in its middle with a margin (cell). Beyond its border an image is reflected; nothing "
        "is stretched",
        choices=FRAMES,
    )
    frame_um: float = setting(25.0, "edge of the square of --frame um, in micrometres", minimum=4, maximum=200)
    frame_margin: float = setting(
        0.25, "margin on each side of the cell of --frame cell, in edges of the cell", minimum=0, maximum=4
    )
    mpp: float = setting(
        0.0,
        "micrometres per pixel of all images, for --frame um; by default those of the column mpp, else what "
        "--ruler estimates",
        minimum=0,
        maximum=10,
        automatic=0.0,
    )

    ruler: str = setting(
        "red",
        "how the scale of a data set is estimated for --frame um if none is stated: red cells of 7.2 micrometres "
        "(red), or its median nucleated cell, taken to have 14 (nucleated)",
        choices=("red", "nucleated"),
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def rule(self) -> str | None:
        """What frames have in common that were made so, such as ``um 25``; None where images are shown whole."""
        ruler = "" if self.ruler == "red" else f" {self.ruler}"
        kinds = {"asis": None, "um": f"um {self.frame_um:g}{ruler}", "cell": f"cell {self.frame_margin:g}"}
        return kinds[self.frame]

    @classmethod
    def from_rule(cls, rule: str | None) -> FrameConfig:
        """The settings that have this rule.

        Raises
        ------
        CytosaeError
            There is no such rule.

        Examples
        --------
        >>> FrameConfig.from_rule("cell 0.5").frame_margin
        0.5
        """
        if rule is None:
            return cls()
        kind, _, rest = rule.partition(" ")
        number, _, ruler = rest.partition(" ")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if kind not in FRAMES[1:] or value < 0:
            raise CytosaeError(f"{rule!r}: no way to frame an image; expected such as 'um 25' or 'cell 0.25'.")
        return cls(kind, frame_um=value, ruler=ruler or "red") if kind == "um" else cls(kind, frame_margin=value)


@dataclass(frozen=True)
class StoreConfig:
    """How tokens are kept on disk."""

    store_dtype: str = setting("float16", "precision of stored tokens", choices=("float16", "bfloat16"))
    cells_per_shard: int = setting(256, "cells in one file of tokens", minimum=1)
    batch_size: int = setting(32, "images that pass the backbone together", minimum=1)

    def __post_init__(self) -> None:
        check(self)


HARMONISE = ("none", "centre", "standardise", "whiten", "coral", "combat")
"""Methods of `cytosae.harmonise` for tokens, and none."""


@dataclass(frozen=True)
class HarmoniseConfig:
    """How tokens of several laboratories are made comparable."""

    harmonise: str = setting(
        "none",
        "map the tokens of each laboratory to those of the mean laboratory, without labels: their mean (centre), "
        "variances too (standardise), covariances too (whiten, coral), or mean and variances with shrinkage (combat)",
        choices=HARMONISE,
    )
    laboratory: str = setting(
        "dataset",
        "column of the cells that says the laboratory; with patient every patient is harmonised alone",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class EngineConfig:
    """Who embeds and encodes; what comes out does not depend on it.

    Raises
    ------
    CytosaeError
        A value out of its range, or an address without Ray.
    """

    engine: str = setting(
        "local",
        "local: this process, or several of this machine; ray: actors of a Ray cluster (needs cytosae[ray])",
        choices=("local", "ray"),
    )
    replicas: int = setting(
        0,
        "copies of the model that work side by side, each in a process of its own; 0 is one, and with ray one a GPU "
        "(or core) of the cluster",
        minimum=0,
    )
    address: str | None = setting(
        None, "address of a running Ray cluster, such as host:6379 or auto; by default one is started on this machine"
    )

    def __post_init__(self) -> None:
        check(self)
        if self.address is not None and self.engine != "ray":
            raise CytosaeError(f"--address {self.address}: needs --engine ray.")

    @property
    def in_process(self) -> bool:
        """Whether this process does the work itself."""
        return self.engine == "local" and self.replicas <= 1


IN_PROCESS = EngineConfig()
"""This process alone."""
