"""Train the built-in backbone: ``python -m training.tiny.train --data ../shared/data/cells --out DIR``.

Two processes of one thread each share every step: they wait for each other once a step, not in every matrix product, which
matters where other programs use the same cores, and the result does not depend on how many cores there are.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, multiprocessing

from cytosae.synthetic import random_cells
from training.tiny.data import Geometry, Pixels, pixels, random_view, split
from training.tiny.model import PreTraining, agreement_loss, patches_of, scaled, start_from, start_from_patches
from training.tiny.strong import cells_of_many_laboratories, strong_view
from training.tiny.targets import Targets, compute

PROCESSES = 2


@dataclass(frozen=True)
class Recipe:
    """All that the result depends on beside the images."""

    steps: int = 2000
    batch: int = 64
    """Cells of a step, two views of each."""
    synthetic: int = 2500
    """Drawn cells, beside the 7,372 real ones."""
    blocks: int = 6
    warmup: int = 60
    decay: float = 0.35
    """Share of the steps at the end in which the learning rate falls to zero, linearly; constant before."""
    adam: float = 1.5e-3
    """Learning rate of embeddings, heads, biases and norms, with AdamW."""
    muon: float = 5e-3
    """Learning rate of the matrices of the blocks, with Muon, scaled to AdamW's size of a step."""
    weight_decay: float = 0.05
    views: str = "plain"
    """``plain``, as one laboratory might show a cell, or ``strong``, as many might; then the drawn cells are of many too."""
    start: str = ""
    """A backbone of this shape that is trained further, its heads from the beginning; none for random weights."""
    pace: float = 1.0
    """Factor of the learning rates; less than 1 where a backbone is trained further."""
    smallest_crop: float = 0.4
    """Share of the area; of plain views."""
    agreement: float = 0.5
    masked: float = 1.0
    itself: float = 0.5
    words: float = 1.0
    kinds: float = 1.0
    """Weights of the losses."""
    temperature: float = 0.15
    wanted: int = 48
    """Hidden patches that are predicted in a view."""
    seed: int = 0

    def rate(self, step: int) -> float:
        """Share of the learning rates: warm-up, stable, decay."""
        falling = round(self.steps * self.decay)
        return self.pace * min((step + 1) / self.warmup, 1.0, (self.steps - step) / falling)

    def kept(self, step: int) -> int:
        """Number of patches that the encoder sees in a step; whole pictures are seen late, as they are afterwards."""
        rng = np.random.default_rng((self.seed, step))
        if step > 0.85 * self.steps and rng.random() < 0.2:
            return 256 - self.wanted
        return int(rng.choice([63, 95, 127], p=[0.6, 0.3, 0.1]))

    def view(self, image: Pixels, rng: np.random.Generator) -> tuple[Pixels, Geometry]:
        """A random view of a cell."""
        return strong_view(image, rng) if self.views == "strong" else random_view(image, rng, self.smallest_crop)

    def images(self, data: Path, out: Path) -> Pixels:
        """All images that are trained on, decoded once in `out`."""
        chosen, _ = split(data)

        def drawn() -> Pixels:
            if self.views == "strong":
                return cells_of_many_laboratories(self.synthetic, self.seed)
            return random_cells(self.synthetic, self.seed)[0]

        return pixels(data, chosen["path"].tolist(), out / "pixels.npy", drawn, self.synthetic)


def batch_of(
    images: Pixels, targets: Targets, rows: np.ndarray, rng: np.random.Generator, recipe: Recipe
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two views of some cells, first all first ones: patches, what they show, their kinds, and the words of the whole."""
    views, shown = [], []
    for _ in range(2):
        for row in rows:
            view, geometry = recipe.view(images[row], rng)
            views.append(view)
            shown.append(targets.patches(row, geometry))
    words = torch.from_numpy(targets.words[rows]).repeat(2, 1)
    described = torch.from_numpy(np.stack(shown))
    kinds = targets.kinds(described, np.concatenate([rows, rows]))
    return patches_of(torch.from_numpy(np.stack(views))), described, kinds, words


def gathered(own: Tensor, rank: int) -> Tensor:
    """``(2, n, d)`` of every process, side by side; gradients pass through this process's only."""
    parts = [torch.empty_like(own) for _ in range(PROCESSES)]
    distributed.all_gather(parts, own.detach().contiguous())
    parts[rank] = own
    return torch.cat(parts, dim=1)


def losses(
    model: PreTraining,
    patches: Tensor,
    shown: Tensor,
    kinds: Tensor,
    words: Tensor,
    order: Tensor,
    keep: int,
    rank: int,
    recipe: Recipe,
) -> dict[str, Tensor]:
    """All losses of one process's share of a step."""
    kept, wanted = order[:, :keep], order[:, keep : keep + recipe.wanted]

    def at(x: Tensor, places: Tensor) -> Tensor:
        return x.gather(1, places[:, :, None].expand(-1, -1, x.shape[2]))

    with torch.autocast("cpu", torch.bfloat16):
        inner, last = model.encode(patches, kept)
        embedded = model.embed(inner).view(2, len(patches) // 2, -1)
        normed = model.norm(inner)
        itself = model.itself(normed[:, 1:]).float()
        from_patches, from_cls = model.words(normed[:, 1:].mean(1)).float(), model.cls_words(normed[:, 0]).float()
        masked = model.decoder(last, kept, wanted).float()
    return {
        "agreement": agreement_loss(embedded, gathered(embedded, rank), rank * embedded.shape[1], recipe.temperature),
        "masked": (masked - at(shown, wanted)).square().mean(),
        "itself": (itself - at(shown, kept)).square().mean(),
        "kinds": model.kinds_loss(inner, at(kinds, kept)),
        "words": ((from_patches - words).square().mean() + (from_cls - words).square().mean()) / 2,
    }


def optimisers_of(model: PreTraining, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the matrices of the blocks, which learn in fewer steps by it; AdamW for the rest."""
    inner = [w for w in model.backbone.encoder.parameters() if w.ndim == 2]
    chosen = {id(w) for w in inner}
    outer = [w for w in model.parameters() if id(w) not in chosen]
    groups = [
        {"params": [w for w in outer if w.ndim > 1]},
        {"params": [w for w in outer if w.ndim < 2], "weight_decay": 0},
    ]
    return [
        torch.optim.Muon(
            inner, lr=recipe.muon, weight_decay=recipe.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(groups, lr=recipe.adam, betas=(0.9, 0.95), weight_decay=recipe.weight_decay),
    ]


def run(rank: int, recipe: Recipe, data: Path, out: Path, port: int) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    torch.manual_seed(recipe.seed)
    images = recipe.images(data, out)
    targets = Targets.load(out / "targets.npz")
    model = PreTraining(recipe.blocks)
    if recipe.start:
        start_from(model.backbone, recipe.start)
    else:
        start_from_patches(model.backbone, images, recipe.seed)
    weights = list(model.parameters())
    optimisers = optimisers_of(model, recipe)
    first = 0
    if (out / "checkpoint.pt").is_file():
        state = torch.load(out / "checkpoint.pt", weights_only=True)
        if state["recipe"] != vars(recipe):
            raise SystemExit(f"{out / 'checkpoint.pt'}: belongs to another recipe; give another --out or delete it.")
        model.load_state_dict(state["model"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        first = state["step"]
    share, start = recipe.batch // PROCESSES, time.monotonic()
    in_epoch = len(images) // recipe.batch
    for step in range(first, recipe.steps):
        order = np.random.default_rng((recipe.seed, 1, step // in_epoch)).permutation(len(images))
        rows = order[step % in_epoch * recipe.batch :][: recipe.batch][rank * share :][:share]
        rng = np.random.default_rng((recipe.seed, 2, step, rank))
        patches, shown, kinds, words = batch_of(images, targets, np.sort(rows), rng, recipe)
        places = torch.from_numpy(rng.random((len(patches), 256), np.float32)).argsort(1)
        keep = recipe.kept(step)
        found = losses(model, patches, shown, kinds, words, places, keep, rank, recipe)
        model.zero_grad(set_to_none=True)
        sum(getattr(recipe, name) * loss for name, loss in found.items()).backward()
        gradients = [w.grad for w in weights if w.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        distributed.all_reduce(flat)
        flat /= PROCESSES
        flat *= (1.0 / flat.norm().clamp_min(1.0)).clamp_max(1.0)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = optimiser.defaults["lr"] * recipe.rate(step)
            optimiser.step()
        if rank == 0:
            line = {"step": step + 1, "keep": keep} | {name: round(loss.item(), 4) for name, loss in found.items()}
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line | {"seconds": round(time.monotonic() - start, 1)}) + "\n")
            if (step + 1) % 100 == 0 or step + 1 == recipe.steps:
                state = {
                    "model": model.state_dict(),
                    "optimisers": [o.state_dict() for o in optimisers],
                    "step": step + 1,
                }
                torch.save(state | {"recipe": vars(recipe)}, out / "checkpoint.partial")
                (out / "checkpoint.partial").rename(out / "checkpoint.pt")
                save(model, images[:64], out / "backbone")
    distributed.destroy_process_group()


def save(model: PreTraining, images: Pixels, folder: Path) -> None:
    """Write the backbone alone, in float16; `images` tell the scale of its tokens."""
    scaled(model, images).half().save_pretrained(folder)


def train(data: Path, out: Path, recipe: Recipe) -> None:
    """Pre-train and write ``backbone/config.json`` and ``backbone/model.safetensors`` into `out`; resumes what is there."""
    out.mkdir(parents=True, exist_ok=True)
    images = recipe.images(data, out)
    if not (out / "targets.npz").is_file():
        compute(images, recipe.seed).save(out / "targets.npz")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(run, (recipe, data, out, port), nprocs=PROCESSES)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("CYTOSAE_DATA", "../shared")) / "data" / "cells"
    parser.add_argument(
        "--data", type=Path, default=default, help="folder of the real cells; in CYTOSAE_DATA if left out"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write, or to go on in")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    views = {"choices": ("plain", "strong"), "help": "as one laboratory might show a cell, or as many might"}
    parser.add_argument("--views", default=Recipe.views, **views)
    parser.add_argument("--start", default=Recipe.start, help="a backbone to train further, such as tiny")
    parser.add_argument("--pace", type=float, default=Recipe.pace, help="factor of the learning rates")
    given = parser.parse_args()
    recipe = Recipe(given.steps, seed=given.seed, views=given.views, start=given.start, pace=given.pace)
    train(given.data, given.out, recipe)


if __name__ == "__main__":
    main()
