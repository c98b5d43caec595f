"""The paper's experiments as a recipe: what each step needs, how long it takes here, and what comes out beside the paper."""

from cytosae.reproduction.recipe import Recipe
from cytosae.reproduction.running import planned, reproduce

__all__ = ["Recipe", "planned", "reproduce"]
