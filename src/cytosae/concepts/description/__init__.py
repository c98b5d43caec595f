"""What a concept shows, in a sentence of facts: where it lies, what is there, in which cells. Leaves ``descriptions/``."""

from cytosae.concepts.description.describing import describe_concepts
from cytosae.concepts.description.reading import (
    DESCRIPTIONS,
    FACTS,
    SENTENCES,
    read_descriptions,
    read_facts,
)

__all__ = ["DESCRIPTIONS", "FACTS", "SENTENCES", "describe_concepts", "read_descriptions", "read_facts"]
