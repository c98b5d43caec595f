"""Device and precision of the backbone's matrix products."""

from __future__ import annotations

import torch

from cytosae.errors import CytosaeError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> str:
    """The device for ``auto`` (CUDA where there is one); a clear error for a device that is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind == "cuda" and not (number or "0").isdigit():
        raise CytosaeError(f"--device {name}: unknown; write cpu, cuda or cuda:NUMBER.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise CytosaeError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here. Use --device cpu."
        )
    if kind not in {"cpu", "cuda"}:
        raise CytosaeError(f"--device {name}: unknown; write cpu, cuda or cuda:NUMBER.")
    return name


def choose_precision(dtype: str, device: str) -> str:
    """The precision for ``auto``: bfloat16 where the processor or GPU computes in it, float32 elsewhere.

    Parameters
    ----------
    dtype
        ``auto``, ``float32``, ``bfloat16`` or ``float16``.
    device
        ``cpu``, ``cuda`` or ``cuda:NUMBER``.

    Raises
    ------
    CytosaeError
        An unknown precision.
    """
    if dtype == "auto":
        if device.startswith("cuda"):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            flags = torch.cpu.get_capabilities()
            native = any(flags.get(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16"))
        return "bfloat16" if native else "float32"
    if dtype not in DTYPES:
        raise CytosaeError(f"--dtype {dtype}: unknown; choose one of auto, {', '.join(DTYPES)}.")
    return dtype
