"""What a concept shows, in a sentence of facts: where it lies, what is there, in which cells. Leaves ``descriptions/``."""

from cytosae.concepts.description.describing import describe_concepts, description_inputs
from cytosae.concepts.description.reading import (
    DESCRIPTIONS,
    FACTS,
    SENTENCES,
    read_descriptions,
    read_facts,
)
from cytosae.concepts.description.updating import has_words, update_descriptions

__all__ = [
    "DESCRIPTIONS",
    "FACTS",
    "SENTENCES",
    "describe_concepts",
    "description_inputs",
    "has_words",
    "read_descriptions",
    "read_facts",
    "update_descriptions",
]
