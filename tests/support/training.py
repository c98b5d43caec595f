"""Tokens of planted directions, a short training on them, and signals that stop it."""

from __future__ import annotations

import torch
from torch import Tensor

from cytosae.interrupts import StopFlag
from cytosae.sae import TrainConfig

NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")


def dictionary_tokens(cells: int = 80, tokens: int = 9, width: int = 12) -> Tensor:
    """Sparse combinations of planted directions."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(20, width, generator=generator), dim=1)
    active = torch.rand(cells * tokens, 20, generator=generator) < 0.1
    strength = 1 + torch.rand(cells * tokens, 20, generator=generator)
    return ((active * strength) @ directions + 3).reshape(cells, tokens, width)


SHORT_TRAINING = TrainConfig(
    expansion=4, images=1600, batch_images=16, warmup_steps=20, learning_rate=3e-3, l1=1e-3, evaluate_every=40
)


class StopAt(StopFlag):
    """As a signal does, asks to stop, after so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def __bool__(self) -> bool:
        self.looks -= 1
        if self.looks < 0:
            self.signum = 15
        return self.signum is not None


class GivenFlag:
    """In place of `deferred_signals`: gives the flag of a test."""

    def __init__(self, flag: StopFlag) -> None:
        self.flag = flag

    def __enter__(self) -> StopFlag:
        return self.flag

    def __exit__(self, *_: object) -> None:
        return None
