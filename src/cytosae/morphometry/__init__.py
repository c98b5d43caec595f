"""What a cell measures: size, shape, stain and texture of nucleus and cytoplasm. Leaves ``morphometry/``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
