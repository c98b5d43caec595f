"""Ways in which a file is damaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_BEGINNING = 512
"""Bytes in which most formats say what the rest is."""


def damages(rng: np.random.Generator) -> dict[str, Callable[[bytes], bytes]]:
    """Ways in which a disk, a copy or an editor spoils a file."""

    def flipped(data: bytes, within: int | None = None) -> bytes:
        spoiled = bytearray(data)
        for place in rng.integers(0, max(1, min(len(data), within or len(data))), int(rng.integers(1, 5))):
            if spoiled:
                spoiled[place] ^= 1 << int(rng.integers(8))
        return bytes(spoiled)

    def swapped(data: bytes) -> bytes:
        size = max(1, len(data) // 8)
        blocks = [data[i : i + size] for i in range(0, len(data), size)]
        return b"".join(blocks[i] for i in rng.permutation(len(blocks)))

    return {
        "bits flipped": flipped,
        "bits flipped in its beginning": lambda data: flipped(data, _BEGINNING),
        "truncated": lambda data: data[: int(rng.integers(0, max(1, len(data))))],
        "blocks swapped": swapped,
        "empty": lambda data: b"",
        "random bytes": lambda data: rng.bytes(max(1, len(data))),
    }
