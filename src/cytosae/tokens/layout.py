"""What all shards of a token store have in common."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from cytosae.artefacts import VERSIONS

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
IMPORTED_TYPE = "imported"
"""In place of a backbone's kind, where the tokens were made elsewhere."""

_NAMES = ("name", "source", "revision")


@dataclass(frozen=True)
class Layout:
    """What all shards of a store have in common; together with the images it determines every byte."""

    backbone: dict[str, Any]
    """Description of the backbone (`cytosae.backbones.BackboneInfo`), its fingerprint and the block's index included."""
    n_tokens: int
    d_model: int
    dtype: str
    cells_per_shard: int
    batch_size: int
    """Images that pass the backbone together: rounding may depend on it."""
    version: int = field(default_factory=lambda: VERSIONS["tokens"])
    """Of the mathematics between image and token, see `cytosae.artefacts.VERSIONS`."""
    frame: str | None = None
    """What is shown of each image (`cytosae.settings.FrameConfig.rule`); all of it if None. One for a study."""
    harmonisation: dict[str, Any] | None = None
    """How tokens are harmonised when they are read (`cytosae.tokens.Harmonisation.described`); no part of the shards."""

    def identity(self) -> dict[str, Any]:
        """What determines the tokens, flat: not the name or path from which the backbone was loaded."""
        backbone = {k: v for k, v in self.backbone.items() if k not in _NAMES}
        flat = {**{k: v for k, v in asdict(self).items() if k not in ("backbone", "harmonisation")}, **backbone}
        if self.version == 1:
            del flat["version"]  # older stores have none, and keep their digests
        if self.frame is None:
            del flat["frame"]  # the same
        return flat

    @property
    def command(self) -> str:
        """The command that makes such a store."""
        return "tokens import" if self.backbone["model_type"] == IMPORTED_TYPE else "embed"

    @property
    def cell_bytes(self) -> int:
        """Bytes of one cell on disk."""
        return self.n_tokens * self.d_model * DTYPES[self.dtype].itemsize
