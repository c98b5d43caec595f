from .describing import describe_concepts
from .proposals import PROPOSED, read_proposals, write_proposals
from .reading import DESCRIPTIONS, FACTS, SENTENCES, description_inputs, read_descriptions, read_facts
from .updating import has_words, update_descriptions

__all__ = [
    "DESCRIPTIONS",
    "FACTS",
    "PROPOSED",
    "SENTENCES",
    "describe_concepts",
    "description_inputs",
    "has_words",
    "read_descriptions",
    "read_facts",
    "read_proposals",
    "update_descriptions",
    "write_proposals",
]
