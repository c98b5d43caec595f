"""What a study of any size needs: bytes, FLOPs, network and money, from 40 thousand to 100 million cells.

``python -m benchmarks.scaling`` prints the tables of docs/explanation/scaling.md.
Units of work are measured (docs/explanation/benchmarks.md says on
what) or follow from the sizes of the model; what a GPU would do is computed from its published peak and an assumed
utilisation, and has not been measured. Put other prices into `PRICES` and run it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

CELLS = (40_000, 400_000, 4_000_000, 40_000_000, 100_000_000)

# Sizes of the paper's model: DinoBloom-B (ViT-B/14 on 224 pixels), second last block, expansion 64.
TOKENS, D_MODEL, BLOCKS, LATENTS = 257, 768, 11, 49_152
TRAINING_IMAGES, BATCH_IMAGES = 1_000_000, 64
TRAINING_TOKENS = TRAINING_IMAGES * TOKENS

# Bytes.
IMAGE = 10_781  # mean of 8,961 real cells as JPEG of 222 pixels
TABLE_ROW, TABLE_ROW_IN_MEMORY = 103, 806  # of cells.parquet, measured on 179,220 rows
TOKEN_CELL = TOKENS * D_MODEL * 2  # 16 bits a value
ACTIVATIONS = 1_850  # latents that are active anywhere in a cell (docs/explanation/benchmarks.md, Statistics)
CONCEPT_CELL = ACTIVATIONS * 2 * (4 + 4)  # counts and means, each a value and the number of its latent
WEIGHTS = 4 * (2 * LATENTS * D_MODEL + LATENTS + D_MODEL)
CHECKPOINT = 3 * WEIGHTS  # with both moments of Adam
MAPS = LATENTS * 10 * 256 * 2
CELLS_OF_PATIENT = 430  # 81,214 cells of 189 patients
BARCODE = LATENTS * 4 * 4  # a patient's row of X and three layers
MANIFEST_OF_SHARD = 330
EXPLORER = (
    1.7 * 2**30 / 171_373
)  # peak memory of the explorer over its cells (docs/explanation/benchmarks.md, The explorer)

# Seconds of a cell on two cores (docs/explanation/benchmarks.md, At the paper's size; the listing: 8,961 real cells, once).
LOOK, EMBED, ENCODE, STATISTICS = 1 / 655, 43 * 60 / 41_621, 21 * 60 / 41_621, 25 / 171_373
CLASSIFY = 152 / 189**2  # of a pair of patients: permutations share the products of all pairs
STEP = 3.9  # of 64 images, once training has settled

# FLOPs: two for a multiplication with its addition.
EMBED_FLOPS = (
    BLOCKS * TOKENS * (24 * D_MODEL**2 + 4 * TOKENS * D_MODEL)
)  # of an image: four d x d and two d x 4d, attention
ENCODE_FLOPS = TOKENS * 2 * D_MODEL * LATENTS  # of an image: the encoder's product
TRAIN_FLOPS = 6 * 2 * D_MODEL * LATENTS  # of a token: encoder and decoder, forward and twice backward, nothing sparse

GPU_PEAK, UTILISATION = 312e12, 0.4  # A100, dense bfloat16, as published; the share that is reached is an assumption
LINK = 1.25e9  # bytes a second: 10 Gbit/s
PRICES = {  # in US dollars; assumptions, none of them a quotation
    "an hour of an A100": 3.00,
    "an hour of two cores": 0.10,
    "a TB in an object store for a month": 23.00,
    "a million reading requests": 0.40,
    "a million writing requests": 5.00,
    "a TB out of the provider's network": 90.00,
}

Row = tuple[str, Callable[[int], str]]


def size(amount: float) -> str:
    """Bytes, in powers of 1,000."""
    return _scaled(amount, ("B", "kB", "MB", "GB", "TB", "PB"))


def flops(amount: float) -> str:
    """FLOPs, in powers of 1,000."""
    return _scaled(amount / 1e9, ("GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"))


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    for unit, length in (("years", 365.25 * 86_400), ("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{_short(seconds / length)} {unit}"
    return f"{_short(seconds)} s"


def money(dollars: float) -> str:
    """US dollars."""
    return f"${dollars:,.2f}" if dollars < 10 else f"${dollars:,.0f}"


def _scaled(amount: float, units: Sequence[str]) -> str:
    power = 0
    while amount >= 999.5 and power < len(units) - 1:
        amount, power = amount / 1_000, power + 1
    return f"{_short(amount)} {units[power]}"


def _short(amount: float) -> str:
    return (
        f"{amount:,.0f}" if amount >= 9.95 else f"{amount:.1f}".removesuffix(".0") if amount >= 1 else f"{amount:.2g}"
    )


def _gpu(work: float) -> float:
    """Seconds of an A100 for so many FLOPs."""
    return work / (GPU_PEAK * UTILISATION)


def table(first: str, rows: Sequence[Row]) -> str:
    """A Markdown table with a column for each number of cells."""
    lines = [
        [first, *(f"{n:,}" for n in CELLS)],
        ["---"] * (1 + len(CELLS)),
        *([name, *(of(n) for n in CELLS)] for name, of in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def requests(cells: int) -> tuple[float, float]:
    """Reading and writing requests, in millions.

    Every image is read twice, to list and to embed it; training reads cell by cell, encoding 32 cells at a time. A shard,
    its entry in the manifest and its piece of the encoding are written for every 256 cells.
    """
    return (2 * cells + TRAINING_IMAGES + cells / 32) / 1e6, 3 * cells / 256 / 1e6


def gpu_hours(cells: int, *, kept: bool) -> float:
    """Hours of an A100 for tokens, one training and one encoding; tokens that are not kept are made for both."""
    embedded = cells if kept else cells + TRAINING_IMAGES
    return _gpu(embedded * EMBED_FLOPS + cells * ENCODE_FLOPS + TRAINING_TOKENS * TRAIN_FLOPS) / 3_600


def tables() -> dict[str, str]:
    """Every table by its title."""
    gpu, core = PRICES["an hour of an A100"], PRICES["an hour of two cores"]
    month, reading, writing = (
        PRICES[name]
        for name in ("a TB in an object store for a month", "a million reading requests", "a million writing requests")
    )

    def cores(cells: int) -> float:
        return cells * (LOOK + EMBED + ENCODE + STATISTICS) + TRAINING_IMAGES / BATCH_IMAGES * STEP

    def asked(cells: int) -> float:
        read, wrote = requests(cells)
        return read * reading + wrote * writing

    units = [
        ["unit", "of", "bytes", "two cores, measured", "FLOPs", "A100, computed"],
        ["---"] * 6,
        ["listing", "an image", size(IMAGE), duration(LOOK), "-", "-"],
        ["embedding", "an image", size(TOKEN_CELL), duration(EMBED), flops(EMBED_FLOPS), duration(_gpu(EMBED_FLOPS))],
        [
            "training",
            "a step of 64 images",
            size(TOKEN_CELL * BATCH_IMAGES),
            duration(STEP),
            flops(TRAIN_FLOPS * TOKENS * BATCH_IMAGES),
            duration(_gpu(TRAIN_FLOPS * TOKENS * BATCH_IMAGES)),
        ],
        [
            "encoding",
            "an image",
            size(CONCEPT_CELL),
            duration(ENCODE),
            flops(ENCODE_FLOPS),
            duration(_gpu(ENCODE_FLOPS)),
        ],
        ["statistics, all references", "an image", "-", duration(STATISTICS), "-", "-"],
        ["barcode", "a patient", size(BARCODE), "-", "-", "-"],
    ]
    return {
        "units": "\n".join("| " + " | ".join(line) + " |" for line in units),
        "bytes": table(
            "cells",
            [
                ("images", lambda n: size(n * IMAGE)),
                ("`cells.parquet`", lambda n: size(n * TABLE_ROW)),
                ("the table in memory", lambda n: size(n * TABLE_ROW_IN_MEMORY)),
                ("tokens", lambda n: size(n * TOKEN_CELL)),
                ("shards of 256 cells", lambda n: f"{-(-n // 256):,}"),
                (
                    "manifest of the store",
                    lambda n: size(n / 256 * MANIFEST_OF_SHARD),
                ),
                ("autoencoder and checkpoint", lambda n: size(WEIGHTS + CHECKPOINT)),
                ("concepts (`h5ad`)", lambda n: size(n * CONCEPT_CELL)),
                ("maps of the references, a data set", lambda n: size(MAPS)),
                ("patients of 430 cells", lambda n: f"{n // CELLS_OF_PATIENT:,}"),
                ("barcodes", lambda n: size(n / CELLS_OF_PATIENT * BARCODE)),
                ("memory of the explorer, in proportion", lambda n: size(n * EXPLORER)),
                ("products of all patients (`classify`)", lambda n: size((n / CELLS_OF_PATIENT) ** 2 * 8)),
            ],
        ),
        "flops": table(
            "cells",
            [
                ("embedding", lambda n: flops(n * EMBED_FLOPS)),
                ("training, a million images", lambda n: flops(TRAINING_TOKENS * TRAIN_FLOPS)),
                ("encoding", lambda n: flops(n * ENCODE_FLOPS)),
            ],
        ),
        "cores": table(
            "two cores, measured units",
            [
                ("listing", lambda n: duration(n * LOOK)),
                ("embedding", lambda n: duration(n * EMBED)),
                ("training, a million images", lambda n: duration(TRAINING_IMAGES / BATCH_IMAGES * STEP)),
                ("encoding", lambda n: duration(n * ENCODE)),
                ("statistics", lambda n: duration(n * STATISTICS)),
                (
                    "`classify`, as the square of the patients",
                    lambda n: duration((n / CELLS_OF_PATIENT) ** 2 * CLASSIFY),
                ),
                ("all but `classify`", lambda n: duration(cores(n))),
            ],
        ),
        "gpu": table(
            "one A100, computed, not measured",
            [
                ("embedding", lambda n: duration(_gpu(n * EMBED_FLOPS))),
                ("training, a million images", lambda n: duration(_gpu(TRAINING_TOKENS * TRAIN_FLOPS))),
                ("encoding", lambda n: duration(_gpu(n * ENCODE_FLOPS))),
            ],
        ),
        "network": table(
            "10 Gbit/s, all of it used, computed",
            [
                ("images in", lambda n: duration(n * IMAGE / LINK)),
                ("tokens out", lambda n: duration(n * TOKEN_CELL / LINK)),
                ("tokens in, a training", lambda n: duration(TRAINING_IMAGES * TOKEN_CELL / LINK)),
                ("tokens in, an encoding", lambda n: duration(n * TOKEN_CELL / LINK)),
                ("concepts out", lambda n: duration(n * CONCEPT_CELL / LINK)),
                (
                    "bytes, all of it",
                    lambda n: size(n * (IMAGE + 2 * TOKEN_CELL + CONCEPT_CELL) + TRAINING_IMAGES * TOKEN_CELL),
                ),
            ],
        ),
        "prices": "\n".join(
            [
                "| assumption | US dollars |",
                "| --- | --- |",
                *(f"| {name} | {price:.2f} |" for name, price in PRICES.items()),
            ]
        ),
        "money": table(
            "cells",
            [
                ("two cores, everything once", lambda n: money(cores(n) / 3_600 * core)),
                ("A100, tokens kept (computed)", lambda n: money(gpu_hours(n, kept=True) * gpu)),
                (
                    "A100, tokens made live for training and for encoding (computed)",
                    lambda n: money(gpu_hours(n, kept=False) * gpu),
                ),
                ("tokens in an object store, a month", lambda n: money(n * TOKEN_CELL / 1e12 * month)),
                ("images and concepts there, a month", lambda n: money(n * (IMAGE + CONCEPT_CELL) / 1e12 * month)),
                ("requests, everything once", lambda n: money(asked(n))),
                (
                    "tokens out of the provider's network, once",
                    lambda n: money(n * TOKEN_CELL / 1e12 * PRICES["a TB out of the provider's network"]),
                ),
            ],
        ),
    }


def main() -> None:
    """Print the tables."""
    for title, text in tables().items():
        print(f"<!-- {title} -->\n{text}\n")


if __name__ == "__main__":
    main()
