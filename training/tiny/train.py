"""Train the built-in backbone: ``python -m training.tiny.train --data ../shared/data/cells --out DIR``."""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import torch

from training.tiny.data import pixels, split, view
from training.tiny.model import PreTraining, agreement_loss
from training.tiny.targets import features

STEPS, BATCH, WARMUP = 320, 128, 40
SYNTHETIC = 2500  # beside the 7,372 real images
LEARNING_RATE, WEIGHT_DECAY = 1.5e-3, 0.05


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < WARMUP:
        return LEARNING_RATE * (step + 1) / WARMUP
    return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (steps - WARMUP)))


def train(data: Path, out: Path, *, steps: int = STEPS, seed: int = 0) -> None:
    """Pre-train from a seed and write ``config.json`` and ``model.safetensors`` (float16) into `out`."""
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    chosen, _ = split(data)
    images = pixels(data, chosen["path"].tolist(), out / "pixels.npy", SYNTHETIC, seed)
    model = PreTraining()
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    start = time.monotonic()
    with (out / "log.jsonl").open("w", buffering=1) as log:
        for step in range(steps):
            if len(order) < BATCH:
                order = torch.randperm(len(images), generator=generator)
            rows, order = order[:BATCH], order[BATCH:]
            batch = images[rows.sort().values]
            # Late in training whole images are seen more and more, as they are later.
            low = 0.3 if step < 0.85 * steps else 0.5
            keep = int(256 * (low + 0.2 * float(torch.rand(1, generator=generator))))
            embedded, loss = [], torch.zeros(())
            for number in range(2):
                x = view(batch, generator)
                shuffled = torch.rand(BATCH, 256, generator=generator).argsort(1)
                kept, hidden_patches = shuffled[:, :keep], shuffled[:, keep:]
                with torch.autocast("cpu", torch.bfloat16):
                    inner, last = model.encode(x, kept)
                    embedded.append(model.embed(inner))
                    if number == 0:
                        predicted = model.predicted(last, kept)
                        index = hidden_patches[:, :, None].expand(-1, -1, predicted.shape[2])
                        masked = (predicted.gather(1, index) - features(x).gather(1, index)).square().mean()
            agreement = agreement_loss(*embedded)
            loss = agreement + 4 * masked
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps)
            optimiser.step()
            figures = {"step": step + 1, "agreement": agreement.item(), "masked": masked.item(), "keep": keep}
            log.write(json.dumps({**figures, "seconds": round(time.monotonic() - start, 1)}) + "\n")
            if (step + 1) % 50 == 0 or step + 1 == steps:
                save(model, out / "backbone")


def save(model: PreTraining, folder: Path) -> None:
    """Write the backbone alone, in float16."""
    backbone = copy.deepcopy(model.backbone).half()  # or the training would go on with rounded weights
    backbone.save_pretrained(folder)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cells"), help="folder of the real cells")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train(given.data, given.out, steps=given.steps, seed=given.seed)


if __name__ == "__main__":
    main()
