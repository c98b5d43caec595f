"""What is done to the program so that it loses something or is wrong without a word; ``python -m benchmarks.endurance``."""
