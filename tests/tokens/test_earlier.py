"""A store whose list of cells changes makes only the tokens of what changed, and is the same as one made anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cytosae.artefacts import LEDGER
from cytosae.backbones import load
from cytosae.settings import StoreConfig
from cytosae.tokens import TokenStore, embed, store_layout
from cytosae.tokens.earlier import EARLIER
from support.planted import PlantedBackbone, numbered_cells, tiny_info

CELLS, BATCH = 40, 4
CHANGES = {
    "one new": lambda cells, new: pd.concat([cells.iloc[:3], new.iloc[:1], cells.iloc[3:]]),
    "one gone": lambda cells, new: cells.drop(index=5),
    "one moved": lambda cells, new: pd.concat([cells.iloc[:2], new.iloc[1:2], cells.iloc[3:]]),
    "another order": lambda cells, new: cells.iloc[::-1],
}
MADE = {"one new": 4 + 1, "one gone": 3, "one moved": 4, "another order": 0}
"""Images that pass the backbone; the last shard has 8 cells, then 9 or 7, which ends in a batch of 1 or 3."""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return numbered_cells(tmp_path_factory.mktemp("images"), CELLS + 2)


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_changed_is_made_anew(change: str, cells: pd.DataFrame, tmp_path: Path) -> None:
    tokens = torch.randn(CELLS + 2, 7, 8, generator=torch.Generator().manual_seed(0)).half().float()
    layout = store_layout(tiny_info(), StoreConfig(cells_per_shard=16, batch_size=BATCH))
    folder = tmp_path / "t"
    embed(cells.head(CELLS), PlantedBackbone(tokens, tiny_info()), folder, layout, workers=0)  # type: ignore[arg-type]
    changed = CHANGES[change](cells.head(CELLS), cells.tail(2)).reset_index(drop=True)
    backbone = PlantedBackbone(tokens, tiny_info())
    embed(changed, backbone, folder, layout, workers=0)  # type: ignore[arg-type]
    assert len(backbone.seen) == MADE[change]
    numbers = changed["cell_id"].str[:5].astype(int).to_numpy()
    assert torch.equal(TokenStore(folder).read(np.arange(len(changed))).float(), tokens[numbers])
    TokenStore(folder).verify()
    assert not list(folder.glob(f"{EARLIER}*"))
    assert not any(name.startswith(EARLIER) for name in json.loads((folder / LEDGER).read_text())["files"])


def test_a_store_with_tokens_taken_over_is_bit_for_bit_one_made_anew(cells: pd.DataFrame, tmp_path: Path) -> None:
    """Through a real transformer, whose rounding depends on the size of a batch."""
    backbone = load("tiny", device="cpu")
    layout = store_layout(backbone.info, StoreConfig(cells_per_shard=16, batch_size=8))
    embed(cells.head(CELLS), backbone, tmp_path / "t", layout, workers=0)
    changed = pd.concat([cells.tail(2), cells.iloc[4:CELLS]]).reset_index(drop=True)
    for folder in ("t", "anew"):
        embed(changed, backbone, tmp_path / folder, layout, workers=0)
    for shard in TokenStore(tmp_path / "anew").shards:
        assert (tmp_path / "t" / shard.file).read_bytes() == (tmp_path / "anew" / shard.file).read_bytes()


def test_what_a_killed_run_set_aside_is_removed(cells: pd.DataFrame, tmp_path: Path) -> None:
    tokens = torch.randn(CELLS + 2, 7, 8, generator=torch.Generator().manual_seed(1)).half().float()
    layout = store_layout(tiny_info(), StoreConfig(cells_per_shard=16, batch_size=BATCH))
    folder = tmp_path / "t"
    embed(cells.head(CELLS), PlantedBackbone(tokens, tiny_info()), folder, layout, workers=0)  # type: ignore[arg-type]
    changed = cells.drop(index=[0]).reset_index(drop=True)

    class _Killed(PlantedBackbone):
        def tokens(self, images: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(changed, _Killed(tokens, tiny_info()), folder, layout, workers=0)  # type: ignore[arg-type]
    assert list(folder.glob(f"{EARLIER}*"))
    embed(changed, PlantedBackbone(tokens, tiny_info()), folder, layout, workers=0)  # type: ignore[arg-type]
    assert not list(folder.glob(f"{EARLIER}*"))
    assert torch.equal(TokenStore(folder).read(np.arange(len(changed))).float(), tokens[1:])
