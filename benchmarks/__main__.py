"""``python -m benchmarks [NAME ...]``: run the measurements, print a table, write ``benchmarks/results.json``."""

from __future__ import annotations

import argparse
import json
import platform
from importlib import import_module
from pathlib import Path

import torch

NAMES = ("reader", "backbone", "train_step", "training")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="measurements; all if none is named")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    given = parser.parse_args()
    results = {
        "machine": {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        **{name: import_module(f"benchmarks.{name}").measure() for name in given.names or NAMES},
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if given.json:
        print(json.dumps(results))
        return
    for name, figures in results.items():
        for figure, value in figures.items():
            print(
                f"{name:<10} {figure:<28} {value:,.4g}"
                if isinstance(value, float)
                else f"{name:<10} {figure:<28} {value}"
            )


if __name__ == "__main__":
    main()
