"""What the paper reports (CytoSAE, Dasdelen et al., MICCAI 2025), and the variants of its section 3.4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cytosae.settings import TrainConfig

TRAINING_SET = "mll23"
DATASETS = ("mll23", "acevedo", "matek19", "bmc", "hehr")
"""Section 2: trained on the first, evaluated on all."""
PATIENTS = "hehr"
FIRST, SECOND = "CBFB_MYH11", "PML_RARA"
"""The two diseases of figure 5."""
EXAMPLE, PATCH = "eosinophil", 57
"""Figure 3: a cell with eosinophilic granules, and the patch of it that is taken apart, counted along the rows."""
DEPTH = 12
"""Blocks of the paper's backbone, by which its layers are counted."""
CHOSEN = "chosen"


@dataclass(frozen=True)
class Variant:
    """One thing that is changed in the chosen setting."""

    change: Callable[[TrainConfig], TrainConfig] = lambda config: config
    layer: int | None = None
    """Of the paper's twelve blocks, counted from 1; None for the chosen one."""


VARIANTS: Mapping[str, Variant] = {
    CHOSEN: Variant(),
    "expansion-quarter": Variant(lambda c: replace(c, expansion=max(1, c.expansion // 4))),
    "expansion-half": Variant(lambda c: replace(c, expansion=max(1, c.expansion // 2))),
    "expansion-double": Variant(lambda c: replace(c, expansion=c.expansion * 2)),
    "lambda-times-10": Variant(lambda c: replace(c, l1=c.l1 * 10)),
    "lambda-by-10": Variant(lambda c: replace(c, l1=c.l1 / 10)),
    "rate-times-10": Variant(lambda c: replace(c, learning_rate=c.learning_rate * 10)),
    "rate-by-10": Variant(lambda c: replace(c, learning_rate=c.learning_rate / 10)),
    "no-ghost": Variant(lambda c: replace(c, dead_latent_loss="none")),
    "bias-mean": Variant(lambda c: replace(c, b_dec_init="mean")),
    "layer-2": Variant(layer=2),
    "layer-7": Variant(layer=7),
    "layer-12": Variant(layer=12),
}
"""The chosen setting (expansion 64) and what section 3.4 changes in it, one at a time."""


@dataclass(frozen=True)
class Reported:
    """A figure of the paper."""

    where: str
    quantity: str
    key: str
    """Under which the recipe finds its own figure."""
    value: float | None
    spread: float | None = None
    note: str = ""


REPORTED = (
    Reported("section 2", "cells of MLL23", "cells mll23", 41_906),
    Reported("section 2", "cells of Acevedo", "cells acevedo", 17_092),
    Reported("section 2", "cells of Matek19", "cells matek19", 18_365),
    Reported("section 2", "cells of BMC", "cells bmc", 171_373),
    Reported("section 2", "patients of AML Hehr", "patients hehr", 189),
    Reported("section 3.1", "concepts at threshold -3, expansion 16", "concepts expansion-quarter", 1748, 56),
    Reported("section 3.1", "concepts at threshold -3, expansion 32", "concepts expansion-half", 2170, 61),
    Reported("section 3.1", "concepts at threshold -3, expansion 64", f"concepts {CHOSEN}", 2936, 114),
    Reported("section 3.1", "concepts at threshold -3, expansion 128", "concepts expansion-double", 3518, 145),
    Reported("section 3.4", "concepts, lambda ten times as large", "concepts lambda-times-10", 128, 83),
    Reported(
        "section 3.4",
        "L0, lambda a tenth, over the chosen",
        "l0 lambda-by-10 over chosen",
        100,
        note="two orders of magnitude",
    ),
    Reported(
        "section 3.4",
        "concepts, learning rate ten times as large",
        "concepts rate-times-10",
        None,
        note="unstable training",
    ),
    Reported("section 3.4", "concepts, learning rate a tenth", "concepts rate-by-10", 2755, 108),
    Reported("section 3.4", "concepts, layer 2", "concepts layer-2", 85, 4),
    Reported("section 3.4", "concepts, layer 7", "concepts layer-7", 1253, 34),
    Reported("section 3.4", "concepts, layer 12", "concepts layer-12", 15_161, 3477),
    Reported("section 3.4", "concepts, no ghost gradients", "concepts no-ghost", 2907, 133),
    Reported("section 3.4", "dead share, no ghost gradients", "dead no-ghost", 0.92, 0.03),
    Reported("section 3.4", "dead share, ghost gradients", f"dead {CHOSEN}", 0.57, 0.03),
    Reported("section 3.3", "weighted F1 of patients at threshold -3", "weighted F1", 0.832, 0.044),
    Reported(
        "section 3.3", f"specific for {FIRST}, of 50", f"specific {FIRST}", 32, note="5 of the first 10; by experts"
    ),
    Reported(
        "section 3.3", f"specific for {SECOND}, of 50", f"specific {SECOND}", 10, note="4 of the first 10; by experts"
    ),
)
