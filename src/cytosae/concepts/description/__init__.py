"""What a concept shows, in a sentence of facts: where it lies, what is there, in which cells. Leaves ``descriptions/``.

What is public stands in ``__init__.pyi``; it is imported on first use, so that nobody waits for what is not used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
