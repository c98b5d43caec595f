"""A training in memory: everything that its next step depends on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cytosae.sae.model import SAE
from cytosae.sae.objectives import OBJECTIVES, Dictionary
from cytosae.sae.pretrained import OFFSET, stored_name
from cytosae.settings import TrainConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class TrainState:
    """Everything that the next step depends on.

    The data position is the step itself: the order of images is a pure function of the seed
    (`cytosae.tokens.shuffled_batches`).
    """

    sae: SAE
    optimiser: torch.optim.Adam
    since_fired: Tensor
    """Tokens since each latent last fired, int64 ``(n_latents,)``."""
    rested: Tensor | None = None
    """Steps in which each dead latent took no part since it last did, int32 ``(n_latents,)``; where they ever rest."""
    step: int = 0
    """Steps done."""
    l0: float = float("inf")
    """Active latents a token in the last step; says which way of computing the next one is faster."""
    dictionary: Dictionary | None = None
    """What the decoder directions are made of; None where they are learned as they are."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Everything that is learned, with its name in the checkpoint."""
        for prefix, module in (("sae", self.sae), ("archetypes", self.dictionary)):
            if module is not None:
                yield from ((f"{prefix}.{stored_name(name)}", own) for name, own in module.named_parameters())

    def tensors(self) -> dict[str, Tensor]:
        """What is as large as the autoencoder, under its names in the checkpoint: the tensors themselves, no copies."""
        named = {"since_fired": self.since_fired}
        if self.sae.position_offset is not None:
            named[f"sae.{OFFSET}"] = self.sae.position_offset
        if self.rested is not None:
            named["rested"] = self.rested
        if self.dictionary is not None:
            named["archetypes.points"] = self.dictionary.archetypes
        for name, parameter in self.named_parameters():
            moments = self.optimiser.state[parameter]
            if not moments:  # as Adam makes them in its first step
                moments["step"] = torch.tensor(float(self.step), device=parameter.device)
                moments.update({moment: torch.zeros_like(parameter) for moment in MOMENTS})
            named[name] = parameter.detach()
            named.update({f"adam.{moment}.{name.removeprefix('sae.')}": moments[moment] for moment in MOMENTS})
        return named

    def move_to(self, step: int, l0: float) -> None:
        """Say that the tensors are those after so many steps."""
        self.step, self.l0 = step, l0
        for moments in self.optimiser.state.values():
            moments["step"].fill_(step)


def new_state(
    config: TrainConfig, d_model: int, device: torch.device, shards: int = 1, n_tokens: int | None = None
) -> TrainState:
    """Freshly drawn weights, optimiser and bookkeeping, with the latents of one of so many equal shards.

    With `n_tokens`, those of an image, there is room for what centring takes from them, if they are to be centred.
    """
    objective, n_latents = OBJECTIVES[config.objective], config.expansion * d_model // shards
    offset = torch.zeros(n_tokens, d_model) if n_tokens and config.centring == "position" else None
    sae = SAE(d_model, n_latents, activation=objective.activation(config), position_offset=offset)
    generator = torch.Generator().manual_seed(config.weights_seed)
    sae.initialise(generator)
    archetypes = (
        objective.dictionary(config, n_latents, d_model, generator).to(device) if objective.dictionary else None
    )
    sae.to(device)
    learned = [*sae.parameters(), *(archetypes.parameters() if archetypes else ())]
    optimiser = torch.optim.Adam(learned, lr=config.learning_rate, fused=device.type in {"cpu", "cuda"})
    since_fired = torch.zeros(n_latents, dtype=torch.int64, device=device)
    if archetypes:
        archetypes.give_directions(sae.W_dec)
    rested = torch.zeros(n_latents, dtype=torch.int32, device=device) if config.dead_every > 1 else None
    return TrainState(sae, optimiser, since_fired, rested, dictionary=archetypes)


def dead_latents(state: TrainState, config: TrainConfig) -> Tensor:
    """Indices of the latents that fired on none of the last `dead_after_tokens` tokens."""
    return (state.since_fired >= config.dead_after_tokens).nonzero().squeeze(1)


def learning_rate(done: int, config: TrainConfig) -> float:
    """Learning rate of the step after `done` steps: linear warm-up, then constant, linear to 0 over the share `decay`."""
    risen, left = (done + 1) / max(1, config.warmup_steps), (config.steps - done) / config.steps
    return config.learning_rate * min(1.0, risen, left / config.decay if config.decay else 1.0)
