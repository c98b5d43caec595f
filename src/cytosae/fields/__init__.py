"""Fields of a smear: the nucleated cells in them, cut out at one physical scale, and where each of them lies."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
