"""Settings of all stages of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from cytosae.settings import (
    BackboneConfig,
    BarcodeConfig,
    EncodeConfig,
    EngineConfig,
    FrameConfig,
    HarmoniseConfig,
    ImageConfig,
    StoreConfig,
    TrainConfig,
)


@dataclass(frozen=True)
class RunConfig:
    """Settings of all stages of a run."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    barcodes: BarcodeConfig = field(default_factory=BarcodeConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    images: ImageConfig = field(default_factory=ImageConfig)
    harmonise: HarmoniseConfig = field(default_factory=HarmoniseConfig)
    framing: FrameConfig = field(default_factory=FrameConfig)

    def remembered(self) -> dict[str, Any]:
        """The settings that belong to the study, by name."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self) if spec.name != "engine"}
