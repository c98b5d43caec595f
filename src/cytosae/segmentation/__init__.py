"""The nucleated cell in the middle of an image: its nucleus, its outline, the red cells around it and their scale."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
