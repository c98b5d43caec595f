"""Device and precision of the backbone's matrix products."""

from __future__ import annotations

import torch

from cytosae.errors import CytosaeError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_NATIVE_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # of x86 and ARM, as torch names them


def choose_device(name: str, *, mps: bool = False) -> str:
    """The device for ``auto``: CUDA where there is one, then MPS if allowed, then the CPU.

    Parameters
    ----------
    name
        ``auto``, ``cpu``, ``cuda``, ``cuda:NUMBER`` or ``mps``.
    mps
        Whether Apple's GPUs will do. They have no float64, which all stages but the backbone compute in.

    Raises
    ------
    CytosaeError
        An unknown device, or one that is not there.

    Examples
    --------
    >>> choose_device("cpu")
    'cpu'
    """
    with_mps = mps and torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if with_mps else "cpu"
    kind, colon, number = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (colon and not (kind == "cuda" and number.isdecimal())):
        raise CytosaeError(f"--device {name}: unknown; write auto, cpu, cuda or cuda:NUMBER{', or mps' * mps}.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise CytosaeError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here. Use --device cpu."
        )
    if kind == "mps" and not with_mps:
        why = "torch sees no such GPU here" if mps else "it has no float64, which this stage needs"
        raise CytosaeError(f"--device mps: {why}. Use --device {'cpu' if mps else 'auto'}.")
    return name


def choose_precision(dtype: str, device: str) -> str:
    """The precision for ``auto``: bfloat16 where the processor or CUDA computes in it, float32 elsewhere.

    Parameters
    ----------
    dtype
        ``auto``, ``float32``, ``bfloat16`` or ``float16``.
    device
        As `choose_device` gives it.

    Raises
    ------
    CytosaeError
        An unknown precision.

    Examples
    --------
    >>> choose_precision("float32", "cpu")
    'float32'
    """
    if dtype == "auto":
        if device.startswith("cuda"):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        elif device == "cpu":
            flags = torch.cpu.get_capabilities()
            native = any(flags.get(flag) for flag in _NATIVE_BFLOAT16)
        else:
            native = False  # which of Apple's GPUs have it natively is not to be asked
        return "bfloat16" if native else "float32"
    if dtype not in DTYPES:
        raise CytosaeError(f"--dtype {dtype}: unknown; choose one of auto, {', '.join(DTYPES)}.")
    return dtype
