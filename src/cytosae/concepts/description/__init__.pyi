from .describing import describe_concepts
from .reading import DESCRIPTIONS, FACTS, SENTENCES, description_inputs, read_descriptions, read_facts
from .updating import has_words, update_descriptions

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
