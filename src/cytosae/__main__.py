"""``python -m cytosae``."""

from cytosae.cli import main

main()
