"""A local image-text model of transformers says a phrase about an image. Nothing is fetched, and none of its code is run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.artefacts import digest, sha256_file
from cytosae.backbones.precision import choose_device
from cytosae.errors import CytosaeError, in_short

LONGEST = 160
"""Characters of a phrase, at most."""
_TOKENS = 40
_AROUND = " \"'`*."
_UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Captioner:
    """An image-text model with its processor."""

    model: Any
    processor: Any
    name: str
    sha256: str
    """Of the SHA-256 of all its files."""
    device: str

    @classmethod
    def open(cls, folder: Path, device: str = "auto") -> Captioner:
        """Read a model that transformers has saved: weights in safetensors, a processor, no code of its own.

        Parameters
        ----------
        folder
            On this machine; names of the Hugging Face hub are not looked up.
        device
            Where it runs.

        Raises
        ------
        CytosaeError
            No such folder, no safetensors, a model of another kind or with code of its own.
        """
        if not (folder / "config.json").is_file():
            raise CytosaeError(
                f"--describe-with {folder}: no folder with config.json. Give the folder of an image-text model on this "
                "machine; nothing is downloaded."
            )
        if (folder / "adapter_config.json").exists():
            raise CytosaeError(f"--describe-with {folder}: is an adapter. Merge it into its model, and save that.")
        if not any(folder.glob("*.safetensors")):
            other = sorted(path.name for pattern in _UNSAFE for path in folder.glob(pattern))
            found = f"only {', '.join(other[:3])}, which can run code" if other else "no weights"
            raise CytosaeError(f"--describe-with {folder}: {found}. Save the model as safetensors.")
        import transformers
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        given = {"local_files_only": True, "trust_remote_code": False}
        try:
            processor = transformers.AutoProcessor.from_pretrained(folder, **given)
            model, loaded = transformers.AutoModelForImageTextToText.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **given
            )
        except Exception as error:  # transformers lets errors of many libraries through
            raise CytosaeError(
                f"--describe-with {folder}: cannot be loaded ({in_short(error)}). Expected an image-text model that "
                "transformers knows, with its processor."
            ) from error
        if missing := sorted(loaded["missing_keys"]):  # transformers would go on with random numbers
            raise CytosaeError(f"--describe-with {folder}: weights are missing: {', '.join(map(str, missing[:4]))}.")
        chosen = choose_device(device)
        files = {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()}
        return cls(model.to(chosen).eval(), processor, folder.resolve().name, digest(files), chosen)

    @torch.no_grad()
    def phrase(self, image: NDArray[np.uint8], question: str) -> str:
        """What the model answers of an image ``(height, width, 3)``, its most likely words; the first line, printable."""
        from PIL import Image

        content = [{"type": "image"}, {"type": "text", "text": question}]
        if getattr(self.processor, "chat_template", None):
            text = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        else:
            text = f"{getattr(self.processor, 'image_token', '') or ''}{question}"
        inputs = self.processor(images=[Image.fromarray(image)], text=[text], return_tensors="pt").to(self.device)
        told = self.model.generate(**inputs, do_sample=False, max_new_tokens=_TOKENS)
        start = 0 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        return tidy(self.processor.batch_decode(told[:, start:], skip_special_tokens=True)[0])


def tidy(text: str) -> str:
    """The first line that says something, in printable characters, without quotes and full stop.

    Examples
    --------
    >>> tidy('  "Coarse granules." ')
    'Coarse granules'
    """
    lines = [re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in line)) for line in text.splitlines()]
    said = next((line.strip(_AROUND) for line in lines if line.strip(_AROUND)), "")
    if len(said) <= LONGEST:
        return said
    cut = said[: LONGEST + 1].rpartition(" ")[0]  # no half words
    return cut or said[:LONGEST]
