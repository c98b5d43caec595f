"""Training steps of other libraries on the same weights and tokens; each is left out where it is not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from cytosae.sae import SAE

Step = Callable[[Tensor], object]


def sae_lens(sae: SAE, device: str = "cpu") -> Step:
    """The trainer's own step; float32."""
    from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = StandardTrainingSAEConfig(d_in=sae.d_model, d_sae=sae.n_latents, l1_coefficient=1e-4, device=device)
    model = StandardTrainingSAE(config)
    model.load_state_dict({name: value.contiguous() for name, value in sae.state_dict().items()})
    trainer = SAETrainer(SAETrainerConfig(10**9, 4096, lr=1e-9, lr_end=1e-9), model, iter(()))
    return lambda x: trainer._train_step(model, x)


def dictionary_learning(sae: SAE) -> Step:
    """The standard trainer's update; float32."""
    from dictionary_learning.trainers.standard import StandardTrainer

    trainer = StandardTrainer(10**6, sae.d_model, sae.n_latents, 0, "none", lr=1e-9, device="cpu")
    with torch.no_grad():
        trainer.ae.encoder.weight.copy_(sae.W_enc.T)
        trainer.ae.encoder.bias.copy_(sae.b_enc)
        trainer.ae.decoder.weight.copy_(sae.W_dec.T)
        trainer.ae.bias.copy_(sae.b_dec)
    return lambda x: trainer.update(1, x)


def overcomplete(sae: SAE) -> Step:
    """Forward, its loss and torch's Adam, as in its training loop; float32."""
    if "overcomplete" not in sys.modules and (spec := find_spec("overcomplete")) is not None:
        # Its package imports torchvision and opencv, which its autoencoders do not use: only its folder is named.
        sys.modules["overcomplete"] = package = ModuleType("overcomplete")
        package.__path__ = list(spec.submodule_search_locations or ())
    from overcomplete.sae import SAE as Overcomplete

    model = Overcomplete(sae.d_model, nb_concepts=sae.n_latents, device="cpu")
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-9)

    def step(x: Tensor) -> None:
        optimiser.zero_grad()
        _, codes, output = model(x)
        ((x - output).square().mean() + 1e-4 * codes.abs().mean()).backward()
        optimiser.step()

    return step


def llamascopium(sae: SAE) -> Step:
    """Loss with L1, gradients, Adam and the directions' norms, as in its trainer; float32.

    Without its Triton kernels, which need a GPU.
    """
    from llamascopium.models.sae import SAEConfig, SparseAutoEncoder

    config = SAEConfig(
        d_model=sae.d_model, expansion_factor=sae.n_latents / sae.d_model, hook_point_in="x", hook_point_out="x",
        norm_activation="inference", sparsity_include_decoder_norm=False, dtype=torch.float32,
    )  # fmt: skip
    model = SparseAutoEncoder(config)
    with torch.no_grad():
        model.W_E.copy_(sae.W_enc)
        model.b_E.copy_(sae.b_enc - sae.b_dec @ sae.W_enc)  # it does not centre
        model.W_D.copy_(sae.W_dec)
        model.b_D.copy_(sae.b_dec)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-9)

    def step(x: Tensor) -> None:
        loss = model.compute_loss({"x": x}, sparsity_loss_type="power", l1_coefficient=1e-4, return_aux_data=False)
        loss.mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        model.set_decoder_to_fixed_norm(1.0, force_exact=True)

    return step


PEERS = {
    "sae-lens": sae_lens,
    "dictionary-learning": dictionary_learning,
    "overcomplete": overcomplete,
    "llamascopium": llamascopium,
}


def available(sae: SAE) -> tuple[dict[str, Step], dict[str, str]]:
    """Steps of the libraries that import here, and why the others do not."""
    steps, absent = {}, {}
    for name, make in PEERS.items():
        try:
            steps[f"{name} {version(name)}"] = make(sae)
        except (PackageNotFoundError, ImportError, RuntimeError) as error:
            absent[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return steps, absent
